use std::{path::Path, time::Duration};

use forefend_domain::Timestamp;
use forefend_learn::practice::{Card, Trial, gate};
use forefend_predict::learned::Model;
use serde::{Deserialize, Serialize};

use super::{judging::Job, view::TrialView};

/// Why a model is asked beside the champion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It would like to serve.
    Shadow,
    /// It served before, and takes over again when the champion turns bad.
    Guard,
}

/// Which model is asked beside the champion, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trier {
    pub(super) role: Role,
    /// `None`: the model of the first day.
    pub(super) id: Option<String>,
}

/// A model that is asked beside the champion.
pub(super) struct Running {
    pub(super) trier: Trier,
    pub(super) model: Model,
    pub(super) trial: Trial,
    papers: gate::Papers,
    /// As it was last judged; `None` until then.
    view: Option<TrialView>,
    /// How much had been settled when it was last given to be judged.
    asked: Option<u64>,
}

/// The name in files and for people.
pub(super) fn name(id: &Option<String>) -> String {
    id.clone().unwrap_or_else(|| "first-day".to_owned())
}

/// A trial of one against another goes on where it was after a restart, unless it is older than this.
const OLD: Duration = Duration::from_secs(30 * 86_400);

impl Running {
    pub(super) fn begin(
        trier: Trier,
        champion: &Option<String>,
        model: Model,
        horizon_s: f64,
        now: Timestamp,
    ) -> Self {
        let horizon = Duration::try_from_secs_f64(horizon_s).unwrap_or(Duration::from_secs(60));
        let trial = Trial::new(name(champion), name(&trier.id), now, horizon, horizon / 16);
        Self { trier, model, trial, papers: gate::Papers::default(), view: None, asked: None }
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

    /// Goes on with what was written down before a restart, if it is of the same two.
    pub(super) fn taken_up(mut self, folder: &Path) -> Self {
        let path = folder.join(file(self.trier.role));
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

    /// As it was last judged, or with nothing seen.
    pub(super) fn view(&self, settings: &impl Fn(Duration, Duration) -> gate::Settings) -> TrialView {
        self.view.clone().unwrap_or_else(|| TrialView {
            id: self.trier.id.clone(),
            role: self.trier.role,
            against: self.trial.champion.clone(),
            since: self.trial.since,
            looks: 0,
            verdict: gate::gate(&[], &self.papers, &settings(self.trial.horizon(), self.trial.every())),
            speaks_against: None,
        })
    }

    /// What is to be judged, if something was settled since it was last given away.
    pub(super) fn news(&self, settings: &impl Fn(Duration, Duration) -> gate::Settings) -> Option<Job> {
        if self.asked == Some(self.trial.ever_settled()) {
            return None;
        }
        Some(Job {
            trier: self.trier.clone(),
            trial: self.trial.clone(),
            papers: self.papers.clone(),
            settings: settings(self.trial.horizon(), self.trial.every()),
            keep_in: None,
        })
    }

    /// It was given to be judged as it stands.
    pub(super) fn was_asked(&mut self) {
        self.asked = Some(self.trial.ever_settled());
    }

    /// Takes a verdict, if it is of this trial and no earlier one of the same two.
    pub(super) fn take(&mut self, trier: &Trier, view: &TrialView) -> bool {
        let is_mine =
            *trier == self.trier && view.against == self.trial.champion && view.since == self.trial.since;
        if is_mine {
            self.view = Some(view.clone());
        }
        is_mine
    }
}

fn file(role: Role) -> &'static str {
    match role {
        Role::Shadow => "trial-shadow.json",
        Role::Guard => "trial-guard.json",
    }
}

/// Writes a trial down; what is lost by a kill in between is evidence, and losing evidence errs on the safe side.
pub(super) fn keep(trial: &Trial, role: Role, folder: &Path) {
    let path = folder.join(file(role));
    let beside = path.with_extension("new");
    let written = serde_json::to_vec(trial)
        .map_err(std::io::Error::other)
        .and_then(|bytes| std::fs::write(&beside, bytes))
        .and_then(|()| std::fs::rename(&beside, &path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "a trial can't be written down");
    }
}
