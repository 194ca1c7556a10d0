//! What a model has to beat: rules that anybody can write into a monitoring system, each with the threshold that suits it best.

use forefend_domain::{MetricWindow, Policy, Windows};
use forefend_learn::evaluate::rules::{Among, fullest, soonest};

use crate::alarm::{Watch, Watcher};

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A number that has nothing to do with anything.
    Random,
    /// The same for every cell at every time.
    BaseRate,
    /// How far the fullest metric that has a limit is on its way there: of all, or of resources alone.
    StaticThreshold,
    /// How soon a straight line through the newest values of a metric reaches its limit, as Prometheus' `predict_linear` would be used:
    /// on scales of 5, 15 and 30 s of the past, of all metrics or of resources alone.
    PredictLinear,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] =
        [Self::Random, Self::BaseRate, Self::StaticThreshold, Self::PredictLinear];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::BaseRate => "base-rate",
            Self::StaticThreshold => "static-threshold",
            Self::PredictLinear => "predict-linear",
        }
    }
}

/// Pasts through which lines are laid, in steps.
const PASTS: [usize; 3] = [10, 30, 60];
/// A line that gets there later says nothing, in steps.
const BEYOND: f64 = 240.0;

impl Watcher for Peer {
    fn watch(&self, windows: &Windows, _policy: &Policy) -> Option<Watch> {
        let said: Vec<Said<'_>> = match self {
            Self::Random => vec![Some((noise(windows), None))],
            Self::BaseRate => vec![Some((0.0, None))],
            Self::StaticThreshold => Among::ALL.map(|among| named(fullest(windows, among))).into(),
            Self::PredictLinear => Among::ALL
                .into_iter()
                .flat_map(|among| PASTS.map(|past| named(soonest(windows, among, past).map(near))))
                .collect(),
        };
        let driver = said.iter().flatten().find_map(|(_, metric)| *metric);
        Some(Watch {
            exceeds: vec![false; said.len()],
            risks: said.iter().map(|said| said.map_or(0.0, |(risk, _)| risk)).collect(),
            driver: driver.map(|metric| metric.name.to_string()).unwrap_or_default(),
        })
    }
}

/// From 0 to 1, other for every instant and value.
fn noise(windows: &Windows) -> f64 {
    let mut state = windows.at.unix_ms();
    for sample in windows.metrics.values().filter_map(MetricWindow::latest) {
        state = (state ^ sample.1.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    (state >> 11) as f64 / (1u64 << 53) as f64
}

/// What a rule says, and of which metric.
type Said<'w> = Option<(f64, Option<&'w MetricWindow>)>;

fn named(found: Option<(f64, &MetricWindow)>) -> Said<'_> {
    found.map(|(risk, metric)| (risk, Some(metric)))
}

/// 1 at the limit, 0 for a line that never gets there or only after [`BEYOND`].
fn near((steps, metric): (f64, &MetricWindow)) -> (f64, &MetricWindow) {
    (1.0 - (steps / BEYOND).min(1.0), metric)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use forefend_domain::{CellId, Family, MetricKind, MetricName, Sample, Timestamp};

    use super::*;
    use crate::alarm::policy;

    fn windows(values: &[f64], limit: Option<f64>) -> Windows {
        let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
        let name = MetricName::new("m");
        let samples = values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: Some(*v) }).collect();
        let metric = MetricWindow {
            name: name.clone(),
            family: Family::Saturation,
            kind: MetricKind::Exhaustible,
            unit: String::new(),
            limit,
            samples,
        };
        Windows {
            cell: CellId::new("a").unwrap(),
            at: at(values.len()),
            step: Duration::from_millis(500),
            metrics: BTreeMap::from([(name, metric)]),
        }
    }

    fn risks(peer: Peer, values: &[f64], limit: Option<f64>) -> Vec<f64> {
        peer.watch(&windows(values, limit), &policy(5.0)).unwrap().risks
    }

    #[test]
    fn a_threshold_sees_the_newest_value_as_a_share_of_the_limit() {
        assert_eq!(risks(Peer::StaticThreshold, &[9.0, 1.0, 3.0], Some(4.0)), [0.75; 2]);
        assert_eq!(risks(Peer::StaticThreshold, &[9.0, 1.0, 3.0], None), [0.0; 2]);
    }

    #[test]
    fn latency_is_no_resource() {
        let mut windows = windows(&[1.0, 2.0, 3.0], Some(4.0));
        windows.metrics.values_mut().for_each(|metric| metric.family = Family::Latency);
        let risks = Peer::StaticThreshold.watch(&windows, &policy(5.0)).unwrap().risks;
        assert_eq!(risks, [0.75, 0.0]);
    }

    #[test]
    fn a_line_says_how_soon_the_limit_is_reached() {
        let rising: Vec<f64> = (0..20).map(f64::from).collect();
        // From 19, at 1 a step, 24 more steps: a tenth of what counts at all.
        for risk in risks(Peer::PredictLinear, &rising, Some(43.0)) {
            assert!((risk - 0.9).abs() < 1e-9, "{risk}");
        }
        let falling: Vec<f64> = (0..20).rev().map(f64::from).collect();
        assert_eq!(risks(Peer::PredictLinear, &falling, Some(43.0)), [0.0; 6]);
    }

    #[test]
    fn chance_is_within_bounds_and_differs_from_cell_to_cell() {
        let (one, other) = (risks(Peer::Random, &[1.0], None)[0], risks(Peer::Random, &[2.0], None)[0]);
        assert!(one != other && (0.0..1.0).contains(&one) && (0.0..1.0).contains(&other));
        assert_eq!(risks(Peer::BaseRate, &[1.0], None), [0.0]);
    }
}
