use std::collections::BTreeMap;

use forefend_domain::{Family, MetricKind, MetricName, MetricWindow, Windows};
use serde::{Deserialize, Serialize};

/// So many failures at the same level make a limit. One may be a coincidence.
const FAILURES: usize = 2;
/// Levels this far apart (the highest over the lowest) are the same level.
const SAME_LEVEL: f64 = 1.1;
/// A level is out of the ordinary from this multiple of the usual one on. A metric that always has the same value has it at every
/// failure too, and that means nothing.
const OUT_OF_THE_ORDINARY: f64 = 1.2;
/// Where cells stay this far above every level of the failures, and well, those levels meant nothing.
const REFUTED: f64 = 1.05;
/// Failures that are remembered for a metric.
const REMEMBERED: usize = 8;
/// The weight of the newest look at what is usual never falls below one in so many.
const USUAL_OVER: f64 = 10_000.0;

/// Limits that nobody declared, learned from failures: where cells of one service failed again and again while the same metric
/// stood at the same extraordinary level, that level is taken for its limit. Pure, and small enough to be kept with the
/// memory of decisions.
///
/// Only saturation and custom metrics without a limit are looked at: latency and errors are high at a failure because of
/// it, not before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LearnedLimits {
    metrics: BTreeMap<MetricName, Seen>,
}

/// What is known of one metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// The mean level while cells were well.
    usual: f64,
    /// How often one was well, as far as it matters for the mean.
    looks: f64,
    /// Levels at failures, newest last.
    failed_at: Vec<f64>,
    /// The highest level that a cell stayed at, and well, since there are failures.
    survived: f64,
}

/// A limit that was not known before.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLimit {
    /// Of which metric.
    pub metric: MetricName,
    /// In the metric's unit.
    pub limit: f64,
    /// The levels at which cells failed.
    pub failed_at: Vec<f64>,
}

impl LearnedLimits {
    /// A cell is well at these levels.
    pub fn well(&mut self, windows: &Windows) {
        for metric in windows.metrics.values().filter(|m| is_candidate(m)) {
            let Some(level) = level(metric) else { continue };
            let seen = match self.metrics.get_mut(&metric.name) {
                Some(seen) => seen,
                None => self.metrics.entry(metric.name.clone()).or_default(),
            };
            seen.looks = (seen.looks + 1.0).min(USUAL_OVER);
            seen.usual += (level - seen.usual) / seen.looks;
            if seen.failed_at.is_empty() {
                seen.survived = 0.0;
                continue;
            }
            // What a cell has survived for the older half of its window is no limit. The newer half may be its last.
            seen.survived = seen.survived.max(survived(metric).unwrap_or(0.0));
            if seen.survived > seen.highest_failure() * REFUTED {
                seen.failed_at.clear();
                seen.survived = 0.0;
            }
        }
    }

    /// A cell failed at these levels. Gives the limits that this makes known.
    pub fn failed(&mut self, windows: &Windows) -> Vec<NewLimit> {
        let mut new = Vec::new();
        for metric in windows.metrics.values().filter(|m| is_candidate(m)) {
            let Some(level) = level(metric) else { continue };
            // Of what was never seen well, nobody knows what is usual.
            let Some(seen) = self.metrics.get_mut(&metric.name) else { continue };
            let before = seen.limit();
            if level > 0.0 && level >= seen.usual * OUT_OF_THE_ORDINARY {
                seen.failed_at.push(level);
                let too_many = seen.failed_at.len().saturating_sub(REMEMBERED);
                seen.failed_at.drain(..too_many);
            }
            if let (None, Some(limit)) = (before, seen.limit()) {
                new.push(NewLimit { metric: metric.name.clone(), limit, failed_at: seen.failed_at.clone() });
            }
        }
        new
    }

    /// The limit of a metric, if one was learned.
    #[must_use]
    pub fn limit(&self, metric: &MetricName) -> Option<f64> {
        self.metrics.get(metric)?.limit()
    }

    /// Gives the metrics that have no limit the learned ones: reaching them is a failure.
    pub fn apply(&self, windows: &mut Windows) {
        for metric in windows.metrics.values_mut().filter(|m| is_candidate(m)) {
            if let Some(limit) = self.limit(&metric.name) {
                metric.limit = Some(limit);
                metric.kind = MetricKind::Exhaustible;
            }
        }
    }
}

impl Seen {
    fn highest_failure(&self) -> f64 {
        self.failed_at.iter().copied().fold(0.0, f64::max)
    }

    /// The lowest of the newest levels that agree, for warning too soon costs less than too late; but no lower than
    /// what cells survive.
    fn limit(&self) -> Option<f64> {
        let newest = self.failed_at.get(self.failed_at.len().checked_sub(FAILURES)?..)?;
        let lowest = newest.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = newest.iter().copied().fold(0.0, f64::max);
        (highest <= lowest * SAME_LEVEL && lowest >= self.usual * OUT_OF_THE_ORDINARY)
            .then(|| lowest.max(self.survived))
    }
}

fn is_candidate(metric: &MetricWindow) -> bool {
    metric.kind == MetricKind::Unbounded
        && metric.limit.is_none()
        && matches!(metric.family, Family::Saturation | Family::Custom)
}

/// Where the metric stands: its newest value.
fn level(metric: &MetricWindow) -> Option<f64> {
    metric.latest().map(|(_, value)| value).filter(|value| value.is_finite())
}

/// The level that the older half of the window was never below.
fn survived(metric: &MetricWindow) -> Option<f64> {
    let older = &metric.samples[..metric.samples.len() / 2];
    older.iter().filter_map(|s| s.value).filter(|v| v.is_finite()).reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forefend_domain::{CellId, Sample, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn windows_of(family: Family, values: &[f64]) -> Windows {
        let name = MetricName::new("slots_used");
        let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 1_000 * n as u64);
        let samples = values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: Some(*v) }).collect();
        let metric = MetricWindow {
            name: name.clone(),
            family,
            kind: MetricKind::Unbounded,
            unit: String::new(),
            limit: None,
            samples,
        };
        Windows {
            cell: CellId::new("a").unwrap(),
            at: at(values.len()),
            step: Duration::from_secs(1),
            metrics: BTreeMap::from([(name, metric)]),
        }
    }

    fn windows(values: &[f64]) -> Windows {
        windows_of(Family::Saturation, values)
    }

    fn learned(failures: &[f64]) -> LearnedLimits {
        let mut limits = LearnedLimits::default();
        (0..50).for_each(|n| limits.well(&windows(&[40.0 + f64::from(n % 10)])));
        for level in failures {
            limits.failed(&windows(&[level - 20.0, *level]));
        }
        limits
    }

    fn limit(limits: &LearnedLimits) -> Option<f64> {
        limits.limit(&MetricName::new("slots_used"))
    }

    #[test]
    fn two_failures_at_the_same_level_make_a_limit_and_it_is_applied() {
        assert_eq!(limit(&learned(&[100.0])), None);
        assert_eq!(limit(&learned(&[100.0, 160.0])), None, "they do not agree");
        let limits = learned(&[100.0, 160.0, 155.0]);
        assert_eq!(limit(&limits), Some(155.0));
        let mut seen = windows(&[1.0]);
        limits.apply(&mut seen);
        let metric = &seen.metrics[&MetricName::new("slots_used")];
        assert_eq!((metric.limit, metric.kind), (Some(155.0), MetricKind::Exhaustible));
    }

    #[test]
    fn a_new_limit_is_told_once() {
        let mut limits = learned(&[100.0]);
        let new = limits.failed(&windows(&[99.0]));
        assert_eq!((new.len(), new[0].limit, new[0].failed_at.as_slice()), (1, 99.0, &[100.0, 99.0][..]));
        assert!(limits.failed(&windows(&[101.0])).is_empty());
    }

    #[test]
    fn a_metric_that_is_always_there_has_no_limit() {
        assert_eq!(limit(&learned(&[45.0, 45.0, 45.0])), None);
    }

    #[test]
    fn symptoms_and_declared_limits_are_left_alone() {
        for family in [Family::Latency, Family::Errors, Family::Traffic, Family::Logs, Family::Restarts] {
            let mut limits = LearnedLimits::default();
            limits.well(&windows_of(family, &[1.0]));
            (0..3).for_each(|_| drop(limits.failed(&windows_of(family, &[100.0]))));
            assert_eq!(limit(&limits), None, "{family:?}");
        }
        let mut declared = windows(&[1.0]);
        declared.metrics.values_mut().for_each(|m| m.limit = Some(7.0));
        learned(&[100.0, 100.0]).apply(&mut declared);
        assert_eq!(declared.metrics[&MetricName::new("slots_used")].limit, Some(7.0));
    }

    #[test]
    fn what_cells_survive_is_no_limit() {
        let mut limits = learned(&[100.0, 102.0]);
        // On its way there, as every cell that fails is.
        limits.well(&windows(&[80.0, 90.0, 99.0, 104.0]));
        assert_eq!(limit(&limits), Some(100.0));
        // A moment above is not staying above.
        limits.well(&windows(&[90.0, 120.0, 90.0, 90.0]));
        assert_eq!(limit(&limits), Some(100.0));
        limits.well(&windows(&[101.0, 101.5, 101.0, 101.0]));
        assert_eq!(limit(&limits), Some(101.0), "a little higher than thought");
        limits.well(&windows(&[120.0, 121.0, 120.0, 122.0]));
        assert_eq!(limit(&limits), None);
    }

    proptest! {
        #[test]
        fn a_limit_is_above_the_usual_and_at_a_level_of_a_failure(
            well in prop::collection::vec(0.0..1e6_f64, 1..30),
            failed in prop::collection::vec(-1e3..1e7_f64, 0..12),
        ) {
            let mut limits = LearnedLimits::default();
            well.iter().for_each(|v| limits.well(&windows(&[*v])));
            failed.iter().for_each(|v| drop(limits.failed(&windows(&[*v]))));
            if let Some(limit) = limit(&limits) {
                let mean = well.iter().sum::<f64>() / well.len() as f64;
                prop_assert!(limit >= mean * 1.19, "{limit} with {mean} usual");
                prop_assert!(failed.contains(&limit));
            }
        }

        #[test]
        fn what_was_learned_survives_being_written_down(failed in prop::collection::vec(100.0..120.0_f64, 0..5)) {
            let limits = learned(&failed);
            let text = serde_json::to_string(&limits).unwrap();
            prop_assert_eq!(serde_json::from_str::<LearnedLimits>(&text).unwrap(), limits);
        }
    }
}
