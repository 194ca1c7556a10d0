use std::{path::Path, time::Duration};

use forefend_domain::Timestamp;
use forefend_learn::practice::{Card, Judged, Trial, gate};
use forefend_predict::learned::Model;
use serde::{Deserialize, Serialize};

use super::view::TrialView;

/// Why a model is asked beside the champion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It would like to serve.
    Shadow,
    /// It served before, and takes over again when the champion turns bad.
    Guard,
}

/// A model that is asked beside the champion.
pub(super) struct Running {
    pub(super) role: Role,
    /// `None`: the model of the first day.
    pub(super) id: Option<String>,
    pub(super) model: Model,
    pub(super) trial: Trial,
    papers: gate::Papers,
    judged: usize,
}

/// The name in files and for people.
pub(super) fn name(id: &Option<String>) -> String {
    id.clone().unwrap_or_else(|| "first-day".to_owned())
}

/// A trial of one against another goes on where it was after a restart, unless it is older than this.
const OLD: Duration = Duration::from_secs(30 * 86_400);

/// The same, with who serves and who would like to in each other's place.
fn swapped(rows: &[Judged]) -> Vec<Judged> {
    let swap = |row: &Judged| Judged { champion: row.challenger, challenger: row.champion, ..row.clone() };
    rows.iter().map(swap).collect()
}

/// Guards look at what was said lately: a champion may be good for a year and then turn bad.
const LATELY: usize = 20_000;

impl Running {
    pub(super) fn begin(
        role: Role,
        id: Option<String>,
        champion: &Option<String>,
        model: Model,
        horizon_s: f64,
        now: Timestamp,
    ) -> Self {
        let horizon = Duration::try_from_secs_f64(horizon_s).unwrap_or(Duration::from_secs(60));
        let trial = Trial::new(name(champion), name(&id), now, horizon, horizon / 16);
        Self { role, id, model, trial, papers: gate::Papers::default(), judged: 0 }
    }

    pub(super) fn with_papers(mut self, other: Option<&Card>, champion: Option<&Card>) -> Self {
        let until = |card: Option<&Card>| card.and_then(|card| card.data.span).map(|(_, last)| last);
        self.papers = gate::Papers {
            champion_until: until(champion),
            challenger_until: until(other),
            unknown_features: self.model.unknown_features(),
        };
        self
    }

    fn file(&self) -> String {
        let role = match self.role {
            Role::Shadow => "shadow",
            Role::Guard => "guard",
        };
        format!("trial-{role}.json")
    }

    /// Goes on with what was written down before a restart, if it is of the same two.
    pub(super) fn taken_up(mut self, folder: &Path) -> Self {
        let path = folder.join(self.file());
        if !super::exists(&path) {
            return self;
        }
        let read = std::fs::read(&path).map_err(|e| e.to_string());
        match read.and_then(|bytes| serde_json::from_slice::<Trial>(&bytes).map_err(|e| e.to_string())) {
            Ok(trial) => {
                let same = trial.champion == self.trial.champion && trial.other == self.trial.other;
                let same = same && trial.horizon() == self.trial.horizon();
                if same && self.trial.since.since(trial.since) < OLD {
                    self.trial = trial;
                }
            }
            Err(why) => {
                tracing::warn!(path = %path.display(), why, "a trial can't be taken up again and begins anew")
            }
        }
        self
    }

    /// Writes it down; what is lost by a kill in between is evidence, and losing evidence errs on the safe side.
    pub(super) fn keep(&self, folder: &Path) {
        let path = folder.join(self.file());
        let beside = path.with_extension("new");
        let written = serde_json::to_vec(&self.trial)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(&beside, bytes))
            .and_then(|()| std::fs::rename(&beside, &path));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "a trial can't be written down");
        }
    }

    pub(super) fn view(&self, settings: &impl Fn(Duration, Duration) -> gate::Settings) -> TrialView {
        let settings = settings(self.trial.horizon(), self.trial.every());
        let judged = self.trial.judged();
        let lately = &judged[judged.len().saturating_sub(LATELY)..];
        TrialView {
            id: self.id.clone(),
            role: self.role,
            against: self.trial.champion.clone(),
            since: self.trial.since,
            looks: judged.len(),
            verdict: gate::gate(&judged, &self.papers, &settings),
            speaks_against: match self.role {
                Role::Guard => gate::has_turned_bad(lately, &settings),
                Role::Shadow => gate::has_turned_bad(&swapped(lately), &settings),
            },
        }
    }

    /// The view, if something was settled since it was last asked for.
    pub(super) fn news(
        &mut self,
        settings: &impl Fn(Duration, Duration) -> gate::Settings,
    ) -> Option<TrialView> {
        let settled = self.trial.settled();
        if settled == self.judged {
            return None;
        }
        self.judged = settled;
        Some(self.view(settings))
    }
}
