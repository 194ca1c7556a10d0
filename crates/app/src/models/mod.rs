//! Learned models in a running engine: who serves, who is tried in the shadow, when a new one is trained.
//!
//! [`Serving`] is the predictor that the loop asks; it answers as the champion does, and at fixed instants notes what others would have
//! said. [`Models`] watches what becomes of it, lets a model serve or takes it back, and begins trainings, which run as processes of
//! their own. Everything that changes who serves is in the ledger before it counts.

mod judging;
mod outcomes;
mod serving;
mod trainer;
mod trials;
mod view;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use forefend_config::{LearningConfig, Promotion};
use forefend_control::Snapshot;
use forefend_domain::{OperatingCurve, Timestamp};
use forefend_learn::practice::{Card, Drift, Registry, RegistryError, Spread, State, gate};
use forefend_predict::learned::Model;
use forefend_store::LedgerReader;
use judging::{Job, Judgement, Judging};
use outcomes::append_incident;
pub(crate) use outcomes::{PAST_FAILURES, read_all as read_outcomes, write_past};
use serving::Fate;
pub(crate) use serving::Serving;
use trainer::Trainer;
pub use trials::Role;
use trials::{Running, Trier};
pub use view::{ModelView, ModelsView, TrialView};

/// What an operator may ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelCommand {
    /// Let a model serve.
    Promote {
        /// Which.
        id: String,
        /// Although the gate has not let it pass.
        force: bool,
    },
    /// Let the one serve again that served before.
    Rollback,
    /// Train one now.
    Train,
    /// A failure that nothing of ours has noticed, for training.
    Incident(forefend_telemetry::history::Incident),
}

/// How often the gate is asked of a trial: each look at a cell is far longer apart.
const JUDGED_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody else has changed the registry.
const LOOKED_EVERY: Duration = Duration::from_secs(2);
/// How often a trial is written down.
const KEPT_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether telemetry is still what the champion learned from.
const DRIFT_EVERY: Duration = Duration::from_secs(60);

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The configuration file: a training is given it.
    pub(crate) config: PathBuf,
    /// The state directory.
    pub(crate) state_dir: PathBuf,
}

impl Places {
    pub(crate) fn models(&self) -> PathBuf {
        self.state_dir.join("models")
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.state_dir.join("history")
    }
}

/// What changes who serves, before it is done: the ledger is told first.
pub(crate) enum Wish {
    /// Let this model serve.
    Promote { id: String, why: String },
    /// Go back to the one before.
    Rollback { why: String },
    /// Something to remember, that changes nothing.
    Remember(String),
}

impl Wish {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Promote { id, why } => format!("model {id} serves from now on: {why}"),
            Self::Rollback { why } => format!("the model before serves again: {why}"),
            Self::Remember(what) => what.clone(),
        }
    }
}

/// The models of an engine.
pub(crate) struct Models {
    places: Places,
    registry: Registry,
    config: LearningConfig,
    serving: Serving,
    state: State,
    trainer: Trainer,
    judging: Judging,
    looked_at: Option<Timestamp>,
    judged_at: Option<Timestamp>,
    kept_at: Option<Timestamp>,
    drift_at: Option<Timestamp>,
    /// What is wrong with models on disk, in words.
    trouble: Option<String>,
    operating: (OperatingCurve, Duration),
    /// What the champion learned from, as far as drift needs it.
    spread: Spread,
    drift: Vec<Drift>,
    /// Whether a training was begun for it.
    drift_told: bool,
    /// Whether a change of who serves failed: it would fail again, and be written to the ledger each time.
    stuck: bool,
    /// What is known of the models on disk, read once each.
    cards: BTreeMap<String, Result<Card, String>>,
    /// Whether somebody else serves since this was last asked.
    is_new: bool,
}

impl Models {
    /// Takes up where the registry says. A champion that can't be read is not served: the model of the first day is, and that is said.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub(crate) fn open(
        places: Places,
        config: LearningConfig,
        forecast: bool,
        now: Timestamp,
    ) -> Result<Self, RegistryError> {
        let registry = Registry::open(&places.models())?;
        let mut models = Self {
            serving: Serving::new(forecast),
            trainer: Trainer::new(now),
            judging: Judging::begin(),
            state: State::default(),
            looked_at: None,
            judged_at: None,
            kept_at: None,
            drift_at: None,
            trouble: None,
            operating: (OperatingCurve::default(), Duration::ZERO),
            spread: Spread::default(),
            drift: Vec::new(),
            drift_told: false,
            stuck: false,
            cards: BTreeMap::new(),
            is_new: false,
            places,
            registry,
            config,
        };
        models.look(now);
        models.ask(now);
        Ok(models)
    }

    /// What the loop asks.
    pub(crate) fn serving(&self) -> Serving {
        self.serving.clone()
    }

    pub(crate) fn configure(&mut self, config: LearningConfig) {
        self.config = config;
    }

    /// Sees what the loop saw. What it wants done is told, and done by [`Models::grant`] once the ledger knows.
    pub(crate) fn step(&mut self, snapshot: &Snapshot, ledger: &LedgerReader) -> Vec<Wish> {
        let now = snapshot.world.now;
        let fates = serving::fates(snapshot);
        let mut wishes = self.see(now, &fates);
        if self.config.train {
            self.trainer.failures(now, &fates, self.config.after_failure);
            self.trainer.night(now, self.config.hour);
        }
        wishes.extend(self.trainer.step(now, &self.places, ledger).into_iter().map(Wish::Remember));
        wishes
    }

    /// Takes what became of cells to what was said of them.
    fn see(&mut self, now: Timestamp, fates: &[Fate]) -> Vec<Wish> {
        let mut wishes = Vec::new();
        self.serving.see(now, fates);
        if is_due(self.looked_at, now, LOOKED_EVERY) {
            self.looked_at = Some(now);
            self.look(now);
        }
        if is_due(self.drift_at, now, DRIFT_EVERY) {
            self.drift_at = Some(now);
            wishes.extend(self.look_for_drift(now));
        }
        let judged = self.judging.done();
        wishes.extend(self.act_on(judged, now));
        if is_due(self.judged_at, now, JUDGED_EVERY) && self.judging.is_idle() {
            self.judged_at = Some(now);
            self.ask(now);
        }
        wishes
    }

    /// Gives trials to be judged, and now and then to be written down.
    fn ask(&mut self, now: Timestamp) {
        let is_kept = is_due(self.kept_at, now, KEPT_EVERY);
        let folder = is_kept.then(|| self.places.models());
        self.kept_at = if is_kept { Some(now) } else { self.kept_at };
        let settings = self.gate_settings_of();
        self.serving.ask(&settings, |job| self.judging.ask(Job { keep_in: folder.clone(), ..job }));
    }

    /// A champion that is shown something else than it learned from may be wrong before failures tell: a training begins, once.
    fn look_for_drift(&mut self, now: Timestamp) -> Option<Wish> {
        self.drift = self.serving.drift(&self.spread);
        let worst = self.drift.first()?;
        if self.drift_told {
            return None;
        }
        self.drift_told = true;
        if self.config.train {
            self.trainer.soon(now);
        }
        let Drift { feature, psi } = worst;
        let count = self.drift.len();
        Some(Wish::Remember(format!(
            "telemetry is no longer what the champion learned from: {count} features have drifted, most of all {feature} (stability index {psi:.2})"
        )))
    }

    /// Does what was wished for.
    ///
    /// # Errors
    /// Why it could not be done, in words. The engine itself wishes for nothing more until somebody has changed who serves.
    pub(crate) fn grant(&mut self, wish: &Wish, now: Timestamp) -> Result<(), String> {
        let done = match wish {
            Wish::Promote { id, .. } => self.registry.promote(id).map(|_| ()),
            Wish::Rollback { why } => self.registry.rollback(why).map(|_| ()),
            Wish::Remember(_) => return Ok(()),
        };
        self.look(now);
        done.map_err(|error| {
            tracing::error!(%error, "who serves could not be changed");
            self.stuck = true;
            self.trouble = Some(format!("who serves could not be changed: {error}"));
            error.to_string()
        })
    }

    /// Takes an operator's command: what must be in the ledger first is given back.
    ///
    /// # Errors
    /// Why it is not taken, in words.
    pub(crate) fn command(&mut self, command: &ModelCommand, now: Timestamp) -> Result<Wish, String> {
        match command {
            ModelCommand::Promote { id, force } => {
                let stored = self.registry.load(id).map_err(|e| e.to_string())?;
                let unknown = stored.model.unknown_features();
                if let Some(feature) = unknown.first() {
                    return Err(format!(
                        "model {id} can't serve: this version can't compute {feature}; train it again"
                    ));
                }
                if self.state.champion.as_deref() == Some(id) {
                    return Err(format!("model {id} serves already"));
                }
                match (self.may_serve(id, &stored.card, now), force) {
                    (Ok(why), _) => Ok(Wish::Promote { id: id.clone(), why }),
                    (Err(why), true) => {
                        Ok(Wish::Promote { id: id.clone(), why: format!("against the gate: {why}") })
                    }
                    (Err(why), false) => Err(format!(
                        "the gate does not let model {id} pass: {why}; `--force` promotes it all the same"
                    )),
                }
            }
            ModelCommand::Rollback if self.state.before.is_empty() => {
                Err(RegistryError::NothingBefore.to_string())
            }
            ModelCommand::Rollback => Ok(Wish::Rollback { why: "an operator wanted it".into() }),
            ModelCommand::Train => {
                self.trainer.now(now);
                Ok(Wish::Remember("a training was asked for".into()))
            }
            ModelCommand::Incident(incident) => {
                append_incident(&self.places.state_dir, incident)
                    .map_err(|e| format!("it could not be written down: {e}"))?;
                if self.config.train {
                    self.trainer.soon(now + self.config.after_failure);
                }
                Ok(Wish::Remember(format!(
                    "a failure of {} at {} was told, for training",
                    incident.cell,
                    incident.began.unix_ms()
                )))
            }
        }
    }

    /// How the model that serves did at each threshold on what it had not learned from, and how far ahead it looks. Empty while nothing learned
    /// serves.
    pub(crate) fn operating(&self) -> (OperatingCurve, Duration) {
        self.operating.clone()
    }

    /// The same, once for each change of who serves.
    pub(crate) fn news(&mut self) -> Option<(OperatingCurve, Duration)> {
        std::mem::take(&mut self.is_new).then(|| self.operating.clone())
    }

    /// What the API shows.
    pub(crate) fn view(&self) -> ModelsView {
        let mut cards: Vec<Card> = self.cards.values().filter_map(|card| card.clone().ok()).collect();
        cards.sort_by_key(|card| card.made);
        let damaged = self.cards.values().filter_map(|card| card.clone().err());
        let trials = self.serving.views(&self.gate_settings_of());
        let trouble = self.trouble.iter().cloned().chain(damaged).collect();
        let view = ModelsView::of(&self.state, cards, trials, self.trainer.words(), trouble);
        ModelsView { drift: self.drift.clone(), ..view }
    }

    fn gate_settings_of(&self) -> impl Fn(Duration, Duration) -> gate::Settings + use<> {
        let least = self.config.least_failures as usize;
        let alarms = f64::from(self.config.false_alarms_per_1000_cell_weeks) / 1_000.0;
        move |horizon, every| gate::Settings {
            least_events: least,
            false_alarms_per_cell_week: alarms,
            ..gate::Settings::new(horizon, every)
        }
    }

    /// Whether an operator may let a model serve without forcing it, and why, or why not.
    ///
    /// It has been in the shadow for its time, and did well there. Where too few failures came in that time to tell, what the gate said on
    /// the history counts, unless the shadow shows that it is worse. Who served before may serve again.
    fn may_serve(&self, id: &str, card: &Card, now: Timestamp) -> Result<String, String> {
        if self.state.before.iter().flatten().any(|before| before == id) {
            return Ok("it served before".to_owned());
        }
        let trials = self.serving.views(&self.gate_settings_of());
        let Some(trial) = trials.iter().find(|t| t.role == Role::Shadow && t.id.as_deref() == Some(id))
        else {
            let why =
                if card.gate.passed { "it is not in the shadow".to_owned() } else { card.gate.why_not() };
            return Err(why);
        };
        let tried = now.since(trial.since);
        if tried < self.config.shadow {
            let (tried_s, wanted_s) = (tried.as_secs(), self.config.shadow.as_secs());
            return Err(format!("it has been tried in the shadow for {tried_s} s of {wanted_s} s"));
        }
        let live = &trial.verdict;
        if let Some(gain) = trial.speaks_against {
            return Err(format!("in the shadow it is worse: its Brier score is higher by {:.5}", gain.value));
        }
        match (live.fails("evidence"), live.passed, card.gate.passed) {
            (false, true, _) => Ok("it has passed the gate in the shadow".to_owned()),
            (false, false, _) => Err(live.why_not()),
            (true, _, true) => {
                Ok("it has passed the gate on what was recorded, and the shadow does not speak against it"
                    .to_owned())
            }
            (true, _, false) => Err(card.gate.why_not()),
        }
    }

    /// Reads who serves, and takes over what is new.
    fn look(&mut self, now: Timestamp) {
        let state = match self.registry.state() {
            Ok(state) => state,
            Err(error) => {
                self.trouble = Some(error.to_string());
                return;
            }
        };
        self.read_cards();
        if state == self.state && self.looked_at.is_some() {
            return;
        }
        (self.trouble, self.stuck) = (None, false);
        let registry = self.registry.clone();
        let load = |id: &Option<String>| match id {
            None => Ok(Model::FirstDay),
            Some(id) => registry.load(id).and_then(|stored| fit(id, stored.model)),
        };
        // A shadow that comes or goes changes nothing of who serves, nor of what drift was told.
        if state.champion != self.state.champion {
            self.is_new = true;
            self.crown(state.champion.clone(), load(&state.champion));
        }
        let mut wanted = Vec::new();
        if let Some(shadow) = &state.shadow {
            wanted.push(Trier { role: Role::Shadow, id: Some(shadow.clone()) });
        }
        if let (Some(_), Some(before)) = (&state.champion, state.before.last()) {
            wanted.push(Trier { role: Role::Guard, id: before.clone() });
        }
        let champion = state.champion.clone();
        self.serving.keep_trials(&wanted, &champion);
        for trier in wanted {
            if self.serving.has_trial(&trier) {
                continue;
            }
            let loaded = load(&trier.id).map_err(|e| e.to_string());
            // How far ahead they look, and what the champion had seen, is in the cards.
            let (of_other, of_champion) = (self.card(trier.id.as_ref()), self.card(champion.as_ref()));
            let horizon_s = of_other.or(of_champion).map_or(60.0, |card| card.horizon_s);
            match loaded {
                Ok(model) => {
                    let running = Running::begin(trier, &champion, model, horizon_s, now)
                        .with_papers(of_other, of_champion)
                        .taken_up(&self.places.models());
                    self.serving.try_beside(running);
                }
                Err(why) => self.trouble = Some(why),
            }
        }
        self.state = state;
    }

    /// Reads the cards of models that are new, and forgets those that are gone.
    fn read_cards(&mut self) {
        let ids = match self.registry.ids() {
            Ok(ids) => ids,
            Err(error) => {
                self.trouble = Some(error.to_string());
                return;
            }
        };
        self.cards.retain(|id, _| ids.contains(id));
        for id in ids {
            // A damaged one may have been mended.
            if !matches!(self.cards.get(&id), Some(Ok(_))) {
                let card = self.registry.load(&id).map(|stored| stored.card).map_err(|e| e.to_string());
                self.cards.insert(id, card);
            }
        }
    }

    fn card(&self, id: Option<&String>) -> Option<&Card> {
        self.cards.get(id?)?.as_ref().ok()
    }

    /// Lets one serve, or where it can't, the model of the first day.
    fn crown(&mut self, id: Option<String>, model: Result<Model, RegistryError>) {
        (self.spread, self.drift, self.drift_told) = (Spread::default(), Vec::new(), false);
        self.operating = (OperatingCurve::default(), Duration::ZERO);
        match model {
            Ok(model) => {
                if let Some(card) = self.card(id.as_ref()) {
                    let operating = (card.operating.clone(), card.reach());
                    (self.operating, self.spread) = (operating, card.spread.clone());
                }
                self.serving.crown(id, model);
            }
            Err(error) => {
                tracing::error!(%error, "the champion can't serve; the model of the first day does");
                self.trouble = Some(format!("the model of the first day serves, because {error}"));
                self.serving.crown(None, Model::FirstDay);
            }
        }
    }

    /// What follows from verdicts.
    fn act_on(&self, judged: Vec<Judgement>, now: Timestamp) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for judgement in judged {
            if !self.serving.take(&judgement) || self.stuck {
                continue;
            }
            let view = judgement.view;
            match view.role {
                Role::Guard => {
                    if let Some(gain) = view.speaks_against {
                        wishes.push(Wish::Rollback {
                            why: format!(
                                "the one that served had turned bad: against the one before its Brier score is higher by {:.5} ({:.5} to {:.5})",
                                gain.value, gain.low, gain.high
                            ),
                        });
                    }
                }
                Role::Shadow => {
                    let long_enough = now.since(view.since) >= self.config.shadow;
                    let may = self.config.promotion == Promotion::Auto;
                    if let (true, true, true, Some(id)) = (view.verdict.passed, long_enough, may, view.id) {
                        let gain = view.verdict.gain.map_or(0.0, |gain| gain.value);
                        let why = format!(
                            "in the shadow it was better on {} looks and {} failures: the Brier score falls by {gain:.5}",
                            view.verdict.looks, view.verdict.events
                        );
                        wishes.push(Wish::Promote { id, why });
                    }
                }
            }
        }
        wishes
    }
}

fn fit(id: &str, model: Model) -> Result<Model, RegistryError> {
    match model.unknown_features().first() {
        None => Ok(model),
        Some(feature) => {
            let why = format!("this version can't compute {feature}; train it again");
            Err(RegistryError::Unfit { id: id.to_owned(), why })
        }
    }
}

fn is_due(last: Option<Timestamp>, now: Timestamp, every: Duration) -> bool {
    last.is_none_or(|last| now.since(last) >= every)
}

/// Whether a file is there.
fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(false)
}

#[cfg(test)]
mod tests;
