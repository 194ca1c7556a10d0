use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{Driver, Family, MetricWindow, Windows};
use serde::{Deserialize, Serialize};

use crate::{Curve, day_zero::quantity, held::fullest};

/// Families of which metrics may have limits, in the order in which [`shares_held`] tells them.
pub const HELD_FAMILIES: [Family; 5] =
    [Family::Saturation, Family::Latency, Family::Errors, Family::Logs, Family::Custom];

/// How full the fullest metric of each of [`HELD_FAMILIES`] has been for a while ([`crate::held`]); NaN where none has a limit and values.
#[must_use]
pub fn shares_held(windows: &Windows) -> [f32; HELD_FAMILIES.len()] {
    HELD_FAMILIES.map(|family| fullest(windows, family).map_or(f32::NAN, |(share, _)| share as f32))
}

/// What a [`Beyond`] is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeyondParts {
    /// By family, the largest share of its limit that a cell which stayed well held for a while; above 0.
    pub most: BTreeMap<Family, f64>,
    /// Where intervals of time end, in seconds: ascending, above 0.
    pub edges_s: Vec<f64>,
    /// P(fail by each edge) of a cell that holds more: rising, from 0 to below 1.
    pub failed: Vec<f64>,
}

/// What cells that stayed well never held, and how soon those failed that held more: a cause of its own beside what was learned of features.
///
/// Shares of errors and tails of latency tremble too much to be going anywhere, so a forecast says nothing of them, and of a kind of failure that was never
/// seen nothing was learned. But how much a cell that is well keeps up is known from cells that stayed well, without any failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BeyondParts", into = "BeyondParts")]
pub struct Beyond {
    parts: BeyondParts,
}

impl From<Beyond> for BeyondParts {
    fn from(beyond: Beyond) -> Self {
        beyond.parts
    }
}

impl TryFrom<BeyondParts> for Beyond {
    type Error = String;

    fn try_from(parts: BeyondParts) -> Result<Self, String> {
        Self::new(parts)
    }
}

/// The metric that is farthest beyond.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exceeded<'w> {
    metric: &'w MetricWindow,
    share: f64,
    most: f64,
}

impl Beyond {
    /// Of these parts.
    ///
    /// # Errors
    /// Says which number is out of range.
    pub fn new(parts: BeyondParts) -> Result<Self, String> {
        let BeyondParts { most, edges_s, failed } = &parts;
        if let Some((family, most)) = most.iter().find(|(_, most)| !(most.is_finite() && **most > 0.0)) {
            return Err(format!(
                "what {family:?} held at most is {most}, not above 0; train the model again"
            ));
        }
        let ascends = edges_s.first().is_some_and(|first| *first > 0.0)
            && edges_s.windows(2).all(|pair| pair[0] < pair[1])
            && edges_s.iter().all(|edge| edge.is_finite());
        let rises =
            failed.windows(2).all(|pair| pair[0] <= pair[1]) && failed.iter().all(|p| (0.0..1.0).contains(p));
        if !ascends || !rises || edges_s.len() != failed.len() {
            return Err(format!(
                "edges {edges_s:?} with probabilities {failed:?} are no rising curve; train the model again"
            ));
        }
        Ok(Self { parts })
    }

    /// What it is made of.
    #[must_use]
    pub fn parts(&self) -> &BeyondParts {
        &self.parts
    }

    /// Whether a cell with these [`shares_held`] holds more than any that stayed well.
    #[must_use]
    pub fn is_exceeded(&self, shares: &[f32; HELD_FAMILIES.len()]) -> bool {
        let beyond = |(family, share): (&Family, &f32)| {
            self.parts.most.get(family).is_some_and(|most| *share > *most as f32)
        };
        HELD_FAMILIES.iter().zip(shares).any(beyond)
    }

    /// P(fail ≤ t) of a cell that holds more: between the edges its hazard goes straight on, after the last it stays.
    #[must_use]
    pub fn within(&self, t_s: f64) -> f64 {
        let BeyondParts { edges_s, failed, .. } = &self.parts;
        let hazard = |p: f64| -(-p).ln_1p();
        let i = edges_s.partition_point(|edge| *edge < t_s);
        let point = |i: usize| Some((*edges_s.get(i)?, hazard(*failed.get(i)?)));
        let before = i.checked_sub(1).and_then(point).unwrap_or((0.0, 0.0));
        let Some(after) = point(i) else { return -(-before.1).exp_m1() };
        let share = ((t_s - before.0) / (after.0 - before.0)).clamp(0.0, 1.0);
        -(-(before.1 + share * (after.1 - before.1))).exp_m1()
    }

    /// The metric that is farthest beyond what cells that stayed well held; `None`: none is.
    pub(super) fn exceeded<'w>(&self, windows: &'w Windows) -> Option<Exceeded<'w>> {
        let of = |(family, most): (&Family, &f64)| {
            let (share, metric) = fullest(windows, *family)?;
            // As in training, where shares are kept as single floats.
            (share as f32 > *most as f32).then_some(Exceeded { metric, share, most: *most })
        };
        self.parts.most.iter().filter_map(of).max_by(|a, b| (a.share / a.most).total_cmp(&(b.share / b.most)))
    }

    /// Its curve for a horizon.
    pub(super) fn curve(&self, horizon: Duration) -> Curve {
        Curve::new(horizon).with_probabilities(|t| self.within(t))
    }
}

impl Exceeded<'_> {
    /// The metric as a driver with this share of the hazard.
    pub(super) fn driver(&self, contribution: f64) -> Driver {
        let Self { metric, share, most } = self;
        let limit = metric.limit.unwrap_or(f64::NAN);
        let held = quantity(share * limit, &metric.unit);
        let detail = format!(
            "held {held} of {}; cells that stayed well held {:.0}% at most",
            quantity(limit, &metric.unit),
            most * 100.0
        );
        Driver { metric: metric.name.clone(), family: metric.family, contribution, detail }
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::{CellId, MetricKind, MetricName, Sample, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn parts() -> BeyondParts {
        BeyondParts {
            most: BTreeMap::from([(Family::Errors, 0.5), (Family::Latency, 0.8)]),
            edges_s: vec![5.0, 15.0, 30.0],
            failed: vec![0.3, 0.6, 0.9],
        }
    }

    fn beyond() -> Beyond {
        Beyond::new(parts()).unwrap()
    }

    /// Metrics with this share of a limit of 200, all along.
    fn windows(metrics: &[(&str, Family, f64)]) -> Windows {
        let at = |n: u64| Timestamp::from_unix_ms(1_000_000 + 500 * n);
        let metrics = metrics.iter().map(|(name, family, share)| {
            let samples = (0..20).map(|n| Sample { at: at(n), value: Some(200.0 * share) }).collect();
            let (name, kind) = (MetricName::new(name), MetricKind::Exhaustible);
            let (unit, limit, family) = ("ms".to_owned(), Some(200.0), *family);
            (name.clone(), MetricWindow { name, family, kind, unit, limit, samples })
        });
        let metrics = metrics.collect();
        Windows { cell: CellId::new("a").unwrap(), at: at(19), step: Duration::from_millis(500), metrics }
    }

    #[test]
    fn the_metric_that_is_farthest_beyond_speaks_and_says_so() {
        let of = |errors: f64, latency: f64| {
            let windows = windows(&[("e", Family::Errors, errors), ("l", Family::Latency, latency)]);
            let shares = shares_held(&windows);
            let exceeded = beyond().exceeded(&windows).map(|exceeded| exceeded.driver(1.0));
            assert_eq!(exceeded.is_some(), beyond().is_exceeded(&shares), "{shares:?}");
            exceeded
        };
        assert_eq!(of(0.5, 0.8), None, "as much is not more");
        let driver = of(0.9, 0.9).unwrap();
        assert_eq!((driver.metric.as_str(), driver.family), ("e", Family::Errors));
        assert_eq!(driver.detail, "held 180.0 ms of 200.0 ms; cells that stayed well held 50% at most");
        assert_eq!(of(0.1, 0.9).unwrap().metric.as_str(), "l");
    }

    #[test]
    fn a_family_that_has_no_mark_or_no_values_is_not_beyond() {
        assert!(beyond().exceeded(&windows(&[("m", Family::Saturation, 3.0)])).is_none());
        assert!(!beyond().is_exceeded(&[f32::NAN; HELD_FAMILIES.len()]));
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let with = |change: &dyn Fn(&mut BeyondParts)| {
            let mut parts = parts();
            change(&mut parts);
            Beyond::new(parts).unwrap_err()
        };
        assert!(with(&|p| _ = p.most.insert(Family::Logs, f64::NAN)).contains("Logs"));
        assert!(with(&|p| p.failed[1] = 0.2).contains("no rising curve"));
        assert!(with(&|p| p.failed[2] = 1.0).contains("no rising curve"));
        assert!(with(&|p| p.edges_s[0] = 0.0).contains("no rising curve"));
        assert!(with(&|p| _ = p.failed.pop()).contains("no rising curve"));
        assert!(serde_json::from_str::<Beyond>(r#"{"most":{},"edges_s":[],"failed":[]}"#).is_err());
        let text = serde_json::to_string(&beyond()).unwrap();
        assert_eq!(serde_json::from_str::<Beyond>(&text).unwrap(), beyond());
    }

    proptest! {
        #[test]
        fn its_curve_rises_through_its_points(t in 0.0f64..100.0, more in 0.0f64..50.0) {
            let beyond = beyond();
            prop_assert!(beyond.within(t) <= beyond.within(t + more));
            for (edge, failed) in [(5.0, 0.3), (15.0, 0.6), (30.0, 0.9), (99.0, 0.9)] {
                prop_assert!((beyond.within(edge) - failed).abs() < 1e-12);
            }
            prop_assert!(beyond.within(0.0) == 0.0);
        }
    }
}
