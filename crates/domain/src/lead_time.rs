use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// A part of the time that a shift takes from decision to done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Until the processes of a new cell run.
    Create,
    /// The warm-up plan.
    WarmUp,
    /// From first to full weight, evidence gathered on the way.
    Earn,
    /// Until nothing is in flight at the old cell.
    Drain,
    /// Until new weights were read back from the data plane.
    Propagate,
}

impl Stage {
    /// All of them, in the order they happen.
    pub const ALL: [Self; 5] = [Self::Create, Self::WarmUp, Self::Earn, Self::Drain, Self::Propagate];
}

/// How long each stage took the last times, newest last, and so how long before a failure a shift must begin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadTimeProfile {
    measured: BTreeMap<Stage, Vec<Duration>>,
}

/// How many measurements of a stage are kept: enough for a p95, few enough to follow a change.
const KEPT: usize = 64;

impl LeadTimeProfile {
    /// Adds a measurement, forgetting the oldest beyond 64.
    pub fn record(&mut self, stage: Stage, took: Duration) {
        let measured = self.measured.entry(stage).or_default();
        if measured.len() == KEPT {
            measured.remove(0);
        }
        measured.push(took);
    }

    /// The 95th percentile of one stage (nearest rank), or `prior` while nothing was measured.
    #[must_use]
    pub fn p95(&self, stage: Stage, prior: Duration) -> Duration {
        let Some(measured) = self.measured.get(&stage).filter(|m| !m.is_empty()) else { return prior };
        let mut sorted = measured.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * 95).div_ceil(100);
        sorted[rank - 1]
    }

    /// How many measurements of a stage there are.
    #[must_use]
    pub fn count(&self, stage: Stage) -> usize {
        self.measured.get(&stage).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p95_is_the_prior_until_measured_and_forgets_the_distant_past() {
        let mut profile = LeadTimeProfile::default();
        let prior = Duration::from_secs(9);
        assert_eq!(profile.p95(Stage::Create, prior), prior);
        profile.record(Stage::Create, Duration::from_secs(100));
        assert_eq!(profile.p95(Stage::Create, prior), Duration::from_secs(100));
        for ms in 1..=64 {
            profile.record(Stage::Create, Duration::from_millis(ms));
        }
        assert_eq!(profile.count(Stage::Create), 64);
        assert_eq!(profile.p95(Stage::Create, prior), Duration::from_millis(61));
    }
}
