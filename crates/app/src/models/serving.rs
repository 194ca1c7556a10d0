use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use forefend_control::Snapshot;
use forefend_domain::{CellId, ObjectiveState, Prediction, ServiceId, Timestamp, Weight, Windows};
use forefend_learn::practice::{Drift, Said, Spread, gate};
use forefend_predict::{
    DayZero, Known, Predictor,
    forecast::with_forecasts,
    learned::{Model, features},
};

use super::{
    judging::{Job, Judgement},
    trials::{Running, Trier},
    view::TrialView,
};
use crate::outlooks::Forecasts;

/// The predictor of the loop: says what the champion says. Clones share one.
#[derive(Clone)]
pub(crate) struct Serving(Rc<RefCell<Inner>>);

struct Inner {
    /// Without forecasts the prior is all there is, whoever is champion.
    forecast: bool,
    id: Option<String>,
    champion: Model,
    trials: Vec<Running>,
    /// Cells that are well and have their traffic: of these alone something can be seen.
    askable: BTreeMap<CellId, ServiceId>,
    /// Forecasts from days of the past, by cell.
    forecasts: Forecasts,
    /// What the champion was lately shown, as features: what drift is told from.
    shown: VecDeque<Vec<f32>>,
    shown_at: BTreeMap<CellId, Timestamp>,
}

/// Rows from which drift is told, at most. The oldest go first.
const SHOWN: usize = 1_000;
/// Rows from which drift is told, at least: the first ones are of one hour, which is like no other.
const ENOUGH: usize = 500;

impl Predictor for Serving {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        self.predict_knowing(windows, horizon, &Known::default())
    }

    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        if !inner.forecast {
            return DayZero { forecast: false, ..DayZero::default() }
                .predict_knowing(windows, horizon, known);
        }
        let said = inner.champion.predict_knowing(windows, horizon, known)?;
        inner.show(windows);
        if let Some(service) = inner.askable.get(&windows.cell) {
            for running in inner.trials.iter_mut().filter(|r| r.trial.is_due(&windows.cell, windows.at)) {
                let reach = running.trial.horizon();
                // Both are asked for the same horizon: that of the one that is tried.
                let alarm = |said: &Prediction| (said.probability.get(), said.exceeds);
                let of_champion = if reach == horizon {
                    Some(alarm(&said))
                } else {
                    inner.champion.predict_knowing(windows, reach, known).as_ref().map(alarm)
                };
                let of_other = running.model.predict_knowing(windows, reach, known).as_ref().map(alarm);
                if let (Some((champion, champion_exceeds)), Some((other, other_exceeds))) =
                    (of_champion, of_other)
                {
                    let said = Said { champion, other, champion_exceeds, other_exceeds };
                    running.trial.note(&windows.cell, service, windows.at, said);
                }
            }
        }
        // Who is tried is held against what the champion says without them.
        Some(match inner.forecasts.get(&windows.cell) {
            Some(forecasts) => with_forecasts(said, forecasts, windows),
            None => said,
        })
    }
}

impl Inner {
    /// Keeps a row of what a learned champion is shown, of each cell four times a horizon.
    fn show(&mut self, windows: &Windows) {
        let Some(reach) = self.champion.reach() else { return };
        let is_due = self.shown_at.get(&windows.cell).is_none_or(|last| windows.at.since(*last) >= reach / 4);
        if !is_due || !self.askable.contains_key(&windows.cell) {
            return;
        }
        self.shown_at.insert(windows.cell.clone(), windows.at);
        if let Some(row) = features(windows, reach) {
            if self.shown.len() >= SHOWN {
                self.shown.pop_front();
            }
            self.shown.push_back(row.values);
        }
    }
}

impl Serving {
    pub(super) fn new(forecast: bool) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            forecast,
            id: None,
            champion: Model::FirstDay,
            trials: Vec::new(),
            askable: BTreeMap::new(),
            forecasts: Forecasts::new(),
            shown: VecDeque::new(),
            shown_at: BTreeMap::new(),
        })))
    }

    /// From now on this one answers.
    pub(super) fn crown(&self, id: Option<String>, model: Model) {
        let mut inner = self.0.borrow_mut();
        if inner.id != id {
            tracing::info!(from = ?inner.id, to = ?id, "another model serves");
        }
        (inner.id, inner.champion) = (id, model);
        inner.shown.clear();
        inner.shown_at.clear();
    }

    /// From now on these are told too.
    pub(crate) fn foretell(&self, forecasts: Forecasts) {
        self.0.borrow_mut().forecasts = forecasts;
    }

    /// Features whose spread is another than what the champion learned from.
    pub(super) fn drift(&self, learned_from: &Spread) -> Vec<Drift> {
        let mut inner = self.0.borrow_mut();
        if inner.shown.len() < ENOUGH {
            return Vec::new();
        }
        learned_from.drift(inner.shown.make_contiguous())
    }

    /// Ends every trial that is not among these, or that was against another champion.
    pub(super) fn keep_trials(&self, wanted: &[Trier], champion: &Option<String>) {
        let mut inner = self.0.borrow_mut();
        let against = super::trials::name(champion);
        inner.trials.retain(|r| r.trial.champion == against && wanted.contains(&r.trier));
    }

    pub(super) fn has_trial(&self, trier: &Trier) -> bool {
        self.0.borrow().trials.iter().any(|r| r.trier == *trier)
    }

    pub(super) fn try_beside(&self, running: Running) {
        self.0.borrow_mut().trials.push(running);
    }

    /// Takes what became of cells.
    pub(super) fn see(&self, now: Timestamp, fates: &[Fate]) {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        inner.askable.clear();
        for running in &mut inner.trials {
            running.trial.fleet(fates.len());
        }
        for Fate { cell, service, failed, emptied, is_well } in fates {
            for running in &mut inner.trials {
                if let Some(since) = failed {
                    running.trial.failed(cell, *since, "");
                }
                if let Some(since) = emptied {
                    running.trial.emptied(cell, *since);
                }
            }
            if *is_well && emptied.is_none() {
                inner.askable.insert(cell.clone(), service.clone());
            }
        }
        for running in &mut inner.trials {
            running.trial.pass(now);
        }
        // Cells that are gone are forgotten.
        if inner.shown_at.len() > 2 * fates.len() {
            inner.shown_at.clear();
        }
    }

    pub(super) fn views(&self, settings: &impl Fn(Duration, Duration) -> gate::Settings) -> Vec<TrialView> {
        self.0.borrow().trials.iter().map(|running| running.view(settings)).collect()
    }

    /// Gives those away, by `ask`, in which something was settled since they last were.
    pub(super) fn ask(
        &self,
        settings: &impl Fn(Duration, Duration) -> gate::Settings,
        mut ask: impl FnMut(Job) -> bool,
    ) {
        for running in &mut self.0.borrow_mut().trials {
            if running.news(settings).is_some_and(&mut ask) {
                running.was_asked();
            }
        }
    }

    /// Takes a verdict. Whether it is of a trial that is still going on.
    pub(super) fn take(&self, judgement: &Judgement) -> bool {
        let trials = &mut self.0.borrow_mut().trials;
        trials.iter_mut().any(|running| running.take(&judgement.trier, &judgement.view))
    }
}

/// What became of a cell, as far as the loop has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) cell: CellId,
    pub(super) service: ServiceId,
    /// Since when it has failed.
    pub(super) failed: Option<Timestamp>,
    /// Since when its traffic moves away, if all of it is.
    pub(super) emptied: Option<Timestamp>,
    /// Whether it keeps its objective.
    pub(super) is_well: bool,
}

/// Of every cell.
pub(super) fn fates(snapshot: &Snapshot) -> Vec<Fate> {
    let away: BTreeMap<&CellId, (Timestamp, Weight)> =
        snapshot.shifts.iter().map(|shift| (&shift.from, (shift.since, shift.moved))).collect();
    let mut fates = Vec::new();
    for (service, view) in &snapshot.world.services {
        for (cell, view) in &view.cells {
            let emptied = away.get(cell).filter(|(_, moved)| *moved >= Weight::FULL);
            fates.push(Fate {
                cell: cell.clone(),
                service: service.clone(),
                failed: match view.objective {
                    ObjectiveState::Failed { since } => Some(since),
                    _ => None,
                },
                emptied: emptied.map(|(since, _)| *since),
                is_well: matches!(view.objective, ObjectiveState::Met { .. }),
            });
        }
    }
    fates
}
