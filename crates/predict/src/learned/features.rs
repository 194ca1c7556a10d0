//! Features that carry over between services: what a metric does, measured against its own past, its limit and the horizon, and
//! gathered by family. No name takes part, so a model learned on one service reads another.

use std::time::Duration;

use forefend_domain::{Family, MetricName, MetricWindow, Prediction, Windows};

use crate::{DayZero, Predictor, anomaly::robust_z};

/// What is measured of one metric; the extremes over the metrics of a family become features.
#[derive(Debug, Clone, Copy)]
enum Measure {
    /// The newest level as a share of the limit.
    Fill,
    /// The share of what is left to the limit that the slope of the newest quarter covers within the horizon.
    Pace,
    /// The same with the slope of the whole window.
    LongPace,
    /// Robust z of the newest values.
    Unlikeness,
    /// Logarithm of the newest mean over the mean before.
    Change,
    /// Slope of the newest quarter over its standard error.
    Climb,
    /// The same over the whole window.
    LongClimb,
    /// Logarithm of the newest scatter over the scatter before.
    Roughness,
}

/// Each measure, whether its largest or also its smallest value over a family counts, and its name.
const MEASURES: [(Measure, bool, &str); 8] = [
    (Measure::Fill, false, "fill"),
    (Measure::Pace, false, "pace"),
    (Measure::LongPace, false, "long_pace"),
    (Measure::Unlikeness, true, "unlikeness"),
    (Measure::Change, true, "change"),
    (Measure::Climb, true, "climb"),
    (Measure::LongClimb, true, "long_climb"),
    (Measure::Roughness, false, "roughness"),
];

const FAMILIES: [(Family, &str); 7] = [
    (Family::Saturation, "saturation"),
    (Family::Latency, "latency"),
    (Family::Traffic, "traffic"),
    (Family::Errors, "errors"),
    (Family::Logs, "logs"),
    (Family::Restarts, "restarts"),
    (Family::Custom, "custom"),
];

/// Values that are far out say no more than these.
const FAR: f64 = 30.0;

/// The fewest values from which anything is measured.
const LEAST: usize = 8;

/// The names of what [`features`] gives, in its order.
#[must_use]
pub fn feature_names() -> Vec<String> {
    let mut names = Vec::new();
    for (_, family) in FAMILIES {
        for (_, both, measure) in MEASURES {
            names.push(format!("{family}.{measure}.max"));
            if both {
                names.push(format!("{family}.{measure}.min"));
            }
        }
    }
    names.push("first_passage".to_owned());
    names
}

/// A row of features of one cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// In the order of [`feature_names`]; NaN: not known.
    pub values: Vec<f32>,
    /// The metric that each value was measured of.
    pub from: Vec<Option<MetricName>>,
}

impl Row {
    fn push(&mut self, value: Option<(f64, &MetricName)>) {
        self.values.push(value.map_or(f32::NAN, |(value, _)| value as f32));
        self.from.push(value.map(|(_, metric)| metric.clone()));
    }
}

/// The features of one cell. `None` when nothing at all was measured.
#[must_use]
pub fn features(windows: &Windows, horizon: Duration) -> Option<Row> {
    Some(features_beside(windows, horizon, &DayZero::default().predict(windows, horizon)?))
}

/// The same where the prediction of the first day is there already: it is a feature too, so that what it knows need not be learned
/// again.
pub(super) fn features_beside(windows: &Windows, horizon: Duration, first_day: &Prediction) -> Row {
    let step_s = windows.step.as_secs_f64().max(1e-3);
    let horizon_steps = horizon.as_secs_f64() / step_s;
    let mut row = Row::default();
    let measured: Vec<(&MetricWindow, [f64; MEASURES.len()])> =
        windows.metrics.values().map(|metric| (metric, measure(metric, horizon_steps))).collect();
    for (family, _) in FAMILIES {
        for (i, (_, both, _)) in MEASURES.iter().enumerate() {
            let of_family = || measured.iter().filter(|(metric, _)| metric.family == family);
            let known = || of_family().map(|(metric, m)| (m[i], &metric.name)).filter(|(v, _)| !v.is_nan());
            row.push(known().max_by(|a, b| a.0.total_cmp(&b.0)));
            if *both {
                row.push(known().min_by(|a, b| a.0.total_cmp(&b.0)));
            }
        }
    }
    let p = first_day.probability.get().clamp(1e-9, 1.0 - 1e-9);
    row.values.push((p / (1.0 - p)).ln() as f32);
    row.from.push(first_day.drivers.first().map(|driver| driver.metric.clone()));
    row
}

/// All measures of one metric, in the order of [`MEASURES`].
fn measure(metric: &MetricWindow, horizon_steps: f64) -> [f64; MEASURES.len()] {
    let samples: Vec<(f64, f64)> = metric
        .samples
        .iter()
        .enumerate()
        .filter_map(|(i, s)| s.value.filter(|v| v.is_finite()).map(|v| (i as f64, v)))
        .collect();
    if samples.len() < LEAST {
        return [f64::NAN; MEASURES.len()];
    }
    let values: Vec<f64> = samples.iter().map(|s| s.1).collect();
    // A quarter of the window, at least eight values.
    let recent = (samples.len() / 4).max(LEAST).min(samples.len());
    let (past, newest) = values.split_at(values.len() - recent);
    let level = newest[newest.len() - 3..].iter().sum::<f64>() / 3.0;
    let near = Line::through(&samples[samples.len() - recent..]);
    let far = Line::through(&samples);
    let limit = metric.limit.filter(|limit| limit.is_finite() && *limit != 0.0);
    let pace = |line: &Line| {
        limit.map_or(f64::NAN, |limit| {
            let left = (limit - level).max(limit.abs() * 1e-3);
            (line.slope * horizon_steps / left).clamp(-FAR, FAR)
        })
    };
    MEASURES.map(|(measure, ..)| match measure {
        Measure::Fill => limit.map_or(f64::NAN, |limit| (level / limit).clamp(-FAR, FAR)),
        Measure::Pace => pace(&near),
        Measure::LongPace => pace(&far),
        Measure::Unlikeness => robust_z(&values).map_or(f64::NAN, |z| z.clamp(-FAR, FAR)),
        Measure::Change => ratio(mean(newest), mean(past)),
        Measure::Climb => near.t(),
        Measure::LongClimb => far.t(),
        Measure::Roughness => ratio(scatter(newest), scatter(past)),
    })
}

/// The logarithm of how much larger `now` is than `before`; NaN where there is nothing to compare, 0 where both are nothing.
fn ratio(now: f64, before: f64) -> f64 {
    if now.is_nan() || before.is_nan() {
        return f64::NAN;
    }
    let scale = (now.abs().max(before.abs()) * 1e-2).max(1e-12);
    ((now.abs() + scale) / (before.abs() + scale)).ln()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean absolute step from value to value.
fn scatter(values: &[f64]) -> f64 {
    let steps = values.len().saturating_sub(1);
    if steps == 0 {
        return f64::NAN;
    }
    values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f64>() / steps as f64
}

/// A straight line by least squares.
struct Line {
    slope: f64,
    standard_error: f64,
}

impl Line {
    fn through(points: &[(f64, f64)]) -> Self {
        let n = points.len() as f64;
        let (mx, my) =
            (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
        let sxx: f64 = points.iter().map(|p| (p.0 - mx).powi(2)).sum();
        let sxy: f64 = points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
        let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
        let rest: f64 = points.iter().map(|p| (p.1 - my - slope * (p.0 - mx)).powi(2)).sum();
        let variance = rest / (n - 2.0).max(1.0) / sxx.max(1e-12);
        // What is finer than a millionth of the level is rounding.
        let floor = (my.abs() * 1e-6 / n).max(1e-15);
        Self { slope, standard_error: variance.sqrt().max(floor) }
    }

    fn t(&self) -> f64 {
        (self.slope / self.standard_error).clamp(-FAR, FAR)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use forefend_domain::{CellId, MetricKind, MetricName, Sample, Timestamp};
    use proptest::prelude::*;

    use super::*;

    /// Name, family, limit and values of a metric.
    type Told<'a> = (&'a str, Family, Option<f64>, Vec<Option<f64>>);

    fn windows(metrics: &[Told<'_>]) -> Windows {
        let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
        let metrics: BTreeMap<MetricName, MetricWindow> = metrics
            .iter()
            .map(|(name, family, limit, values)| {
                let name = MetricName::new(name);
                let samples =
                    values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: *v }).collect();
                let kind = MetricKind::Exhaustible;
                let unit = String::new();
                let metric =
                    MetricWindow { name: name.clone(), family: *family, kind, unit, limit: *limit, samples };
                (name, metric)
            })
            .collect();
        Windows { cell: CellId::new("a").unwrap(), at: at(120), step: Duration::from_millis(500), metrics }
    }

    fn row(windows: &Windows) -> Vec<f32> {
        features(windows, Duration::from_secs(30)).unwrap().values
    }

    fn of(row: &[f32], name: &str) -> f32 {
        row[feature_names().iter().position(|n| n == name).unwrap()]
    }

    fn climbing(to: f64) -> Vec<Option<f64>> {
        (0..120).map(|n| Some(20.0 + (to - 20.0) * f64::from(n) / 119.0)).collect()
    }

    #[test]
    fn a_climb_to_a_limit_shows_in_fill_and_pace_of_its_family_alone() {
        let row = row(&windows(&[("m", Family::Saturation, Some(100.0), climbing(80.0))]));
        assert!((of(&row, "saturation.fill.max") - 0.8).abs() < 0.01);
        // Half a unit a step, sixty steps, twenty left.
        assert!((of(&row, "saturation.long_pace.max") - 1.5).abs() < 0.1);
        assert!(of(&row, "saturation.long_climb.max") > 20.0);
        assert!(of(&row, "latency.fill.max").is_nan());
        assert_eq!(row.len(), feature_names().len());
    }

    #[test]
    fn nothing_measured_is_no_row() {
        assert!(
            features(&windows(&[("m", Family::Saturation, None, vec![None; 120])]), Duration::from_secs(30))
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn names_and_units_do_not_matter(
            values in prop::collection::vec(prop::option::weighted(0.9, 1.0f64..100.0), 40..120),
            scale in 0.01f64..1e6,
        ) {
            prop_assume!(values.iter().flatten().count() > 20);
            let scaled: Vec<Option<f64>> = values.iter().map(|v| v.map(|v| v * scale)).collect();
            let one = row(&windows(&[("a", Family::Latency, Some(120.0), values)]));
            let other = row(&windows(&[("zzz", Family::Latency, Some(120.0 * scale), scaled)]));
            for ((name, a), b) in feature_names().iter().zip(&one).zip(&other) {
                let alike = (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-2 * a.abs().max(1.0);
                prop_assert!(alike, "{name}: {a} and {b}");
            }
        }

        #[test]
        fn what_is_known_is_finite(values in prop::collection::vec(prop::option::of(-1e12f64..1e12), 8..130), limit in prop::option::of(-1e12f64..1e12)) {
            if let Some(row) = features(&windows(&[("a", Family::Custom, limit, values)]), Duration::from_secs(30)) {
                prop_assert!(row.values.iter().all(|v| !v.is_infinite()));
            }
        }
    }
}
