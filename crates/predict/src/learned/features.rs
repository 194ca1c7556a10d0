//! Features that carry over between services: what a metric does, measured against its own past, its limit and the horizon, and
//! gathered by family. No name takes part, so a model learned on one service reads another.

use std::time::Duration;

use forefend_domain::{Family, MetricKind, MetricName, MetricWindow, Prediction, Windows};

use super::told::{Past, Told};
use crate::DayZero;

/// What is measured of one metric; the extremes over the metrics of a family become features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// The newest level as a share of the limit; not known of what depletes, since nobody says how much there was.
    Fill,
    /// How much of what is left to the limit the slope of the newest steps covers within the horizon.
    Pace(Past),
    /// The slope over its standard error.
    Climb(Past),
    /// Robust z of the newest values.
    Unlikeness,
    /// Logarithm of the newest mean over the mean before.
    Change,
    /// How far the newest level is above all that was there until six steps ago: a sawtooth comes back to where it was, a leak does not.
    Record,
    /// The largest fall from a height that was reached before, as a sawtooth has it.
    Fall,
    /// How much more the slope of the newest steps covers within the horizon than that of many.
    Acceleration,
    /// Logarithm of the newest scatter over the scatter before.
    Roughness,
}

/// Each measure, whether its largest or also its smallest value over a family counts, and its name.
const MEASURES: [(Measure, bool, &str); 15] = [
    (Measure::Fill, false, "fill"),
    (Measure::Pace(Past::Steps8), false, "pace8"),
    (Measure::Pace(Past::Steps16), false, "pace16"),
    (Measure::Pace(Past::Steps32), false, "pace32"),
    (Measure::Pace(Past::Whole), false, "pace"),
    (Measure::Climb(Past::Steps8), true, "climb8"),
    (Measure::Climb(Past::Steps16), false, "climb16"),
    (Measure::Climb(Past::Steps32), true, "climb32"),
    (Measure::Climb(Past::Whole), false, "climb"),
    (Measure::Unlikeness, true, "unlikeness"),
    (Measure::Change, true, "change"),
    (Measure::Record, true, "record"),
    (Measure::Fall, false, "fall"),
    (Measure::Acceleration, false, "acceleration"),
    (Measure::Roughness, false, "roughness"),
];

pub(super) const FAMILIES: [(Family, &str); 7] = [
    (Family::Saturation, "saturation"),
    (Family::Latency, "latency"),
    (Family::Traffic, "traffic"),
    (Family::Errors, "errors"),
    (Family::Logs, "logs"),
    (Family::Restarts, "restarts"),
    (Family::Custom, "custom"),
];

/// Values that are far out say no more than these.
pub(super) const FAR: f64 = 30.0;

/// About as many features as there are.
const ROW: usize = (FAMILIES.len() + 1) * 2 * MEASURES.len();

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
    names.extend(MEASURES.map(|(.., measure)| format!("nearest.{measure}")));
    names.push("first_passage".to_owned());
    names
}

/// Whether risk can only rise with a feature, however everything else stands: fuller and faster is never safer. In the order of
/// [`feature_names`].
#[must_use]
pub fn never_falls() -> Vec<bool> {
    let rises = |measure: Measure| matches!(measure, Measure::Fill | Measure::Pace(_));
    let mut all = Vec::new();
    for _ in FAMILIES {
        for (measure, both, _) in MEASURES {
            all.extend(std::iter::repeat_n(rises(measure), 1 + usize::from(both)));
        }
    }
    all.extend(MEASURES.map(|(measure, ..)| rises(measure)));
    all.push(true);
    all
}

/// A row of features of one cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// In the order of [`feature_names`]; NaN: not known.
    pub values: Vec<f32>,
    /// The metric that each value was measured of.
    pub from: Vec<Option<MetricName>>,
}

/// The same while the windows are at hand.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    pub(super) values: Vec<f32>,
    pub(super) from: Vec<Option<&'a MetricName>>,
}

impl<'a> Seen<'a> {
    fn push(&mut self, value: Option<(f64, &'a MetricName)>) {
        self.values.push(value.map_or(f32::NAN, |(value, _)| value as f32));
        self.from.push(value.map(|(_, metric)| metric));
    }
}

/// The features of one cell. `None` when nothing at all was measured.
#[must_use]
pub fn features(windows: &Windows, horizon: Duration) -> Option<Row> {
    let (first_day, _) = DayZero::default().foreseen(windows, horizon, &[None])?.pop()?;
    Some(features_beside(windows, horizon, &first_day))
}

/// The same, with what the model of the first day says of any cell that looks like this, without anomalies.
#[must_use]
pub fn features_and_first_day(windows: &Windows, horizon: Duration) -> Option<(Row, Prediction)> {
    let (said, curve) = DayZero::default().foreseen(windows, horizon, &[None])?.pop()?;
    let first_day = Prediction { curve: curve.points(), ..said };
    Some((features_beside(windows, horizon, &first_day), first_day))
}

/// The measures of one metric, in the order of [`MEASURES`].
type Measured = [f64; MEASURES.len()];

/// The same where the prediction of the first day is there already: it is a feature too, so that what it knows need not be learned
/// again.
pub(super) fn features_beside(windows: &Windows, horizon: Duration, first_day: &Prediction) -> Row {
    let Seen { values, from } = seen_beside(windows, horizon, first_day);
    Row { values, from: from.into_iter().map(Option::<&MetricName>::cloned).collect() }
}

/// The same without copies of names, which cost as much as the rest of it.
pub(super) fn seen_beside<'a>(
    windows: &'a Windows,
    horizon: Duration,
    first_day: &'a Prediction,
) -> Seen<'a> {
    let step_s = windows.step.as_secs_f64().max(1e-3);
    let horizon_steps = horizon.as_secs_f64() / step_s;
    let mut row = Seen { values: Vec::with_capacity(ROW), from: Vec::with_capacity(ROW) };
    let mut values = Vec::new();
    let mut families: [Extremes<'_>; FAMILIES.len()] = [const { Extremes::NONE }; FAMILIES.len()];
    let mut nearest: Option<(f64, &MetricName, Measured)> = None;
    for metric in windows.metrics.values() {
        let measured = measure(metric, horizon_steps, &mut values);
        if let Some(at) = FAMILIES.iter().position(|(family, _)| *family == metric.family) {
            families[at].add(&metric.name, &measured);
        }
        let near = nearness(&measured);
        if !near.is_nan() && nearest.as_ref().is_none_or(|(nearest, ..)| near >= *nearest) {
            nearest = Some((near, &metric.name, measured));
        }
    }
    for extremes in families {
        for ((_, both, _), (low, high)) in MEASURES.iter().zip(extremes.0) {
            row.push(high);
            if *both {
                row.push(low);
            }
        }
    }
    for i in 0..MEASURES.len() {
        row.push(nearest.as_ref().map(|(_, name, m)| (m[i], *name)).filter(|(v, _)| !v.is_nan()));
    }
    let p = first_day.probability.get().clamp(1e-9, 1.0 - 1e-9);
    row.values.push((p / (1.0 - p)).ln() as f32);
    row.from.push(first_day.drivers.first().map(|driver| &driver.metric));
    row
}

/// How soon a metric reaches its limit: the fastest of its paces, the shortest of which is trusted less. NaN without a limit.
fn nearness(measured: &Measured) -> f64 {
    const HASTY: f64 = 0.7;
    let pace = |past: Past| {
        let at = MEASURES.iter().position(|(measure, ..)| *measure == Measure::Pace(past));
        at.map_or(f64::NAN, |at| measured[at])
    };
    // `max` passes over NaN.
    (HASTY * pace(Past::Steps8)).max(pace(Past::Steps16)).max(pace(Past::Steps32))
}

/// A value, and of which metric it was measured.
type Found<'a> = Option<(f64, &'a MetricName)>;

/// The lowest and the highest of each measure over a family; of equal ones the first and the last.
struct Extremes<'a>([(Found<'a>, Found<'a>); MEASURES.len()]);

impl<'a> Extremes<'a> {
    const NONE: Self = Self([(None, None); MEASURES.len()]);

    fn add(&mut self, name: &'a MetricName, measured: &Measured) {
        for ((low, high), value) in self.0.iter_mut().zip(measured).filter(|(_, value)| !value.is_nan()) {
            if low.is_none_or(|(lowest, _)| *value < lowest) {
                *low = Some((*value, name));
            }
            if high.is_none_or(|(highest, _)| *value >= highest) {
                *high = Some((*value, name));
            }
        }
    }
}

fn measure(metric: &MetricWindow, horizon_steps: f64, values: &mut Vec<f64>) -> Measured {
    let Some(told) = Told::of(metric, values) else { return [f64::NAN; MEASURES.len()] };
    let level = told.level;
    let line = |past: Past| told.lines[past as usize];
    let full = metric.fills_up_to();
    let depletes = |_: &f64| metric.kind == MetricKind::Depletable;
    let limit = full.or(metric.limit.filter(|l| l.is_finite()).filter(depletes).map(|floor| -floor));
    let unit = full.map_or(told.spread, f64::abs);
    let share = |amount: f64| if unit > 0.0 { (amount / unit).clamp(-FAR, FAR) } else { 0.0 };
    let of = |measure: Measure| match measure {
        Measure::Fill => full.map_or(f64::NAN, |limit| (level / limit).clamp(-FAR, FAR)),
        Measure::Pace(past) => limit.map_or(f64::NAN, |limit| {
            let left = (limit - level).max(unit * 1e-3).max(f64::MIN_POSITIVE);
            (line(past).slope * horizon_steps / left).clamp(-FAR, FAR)
        }),
        Measure::Climb(past) => line(past).t(),
        Measure::Unlikeness => told.unlikeness.map_or(f64::NAN, |z| z.clamp(-FAR, FAR)),
        Measure::Change => ratio(told.mean_newest, told.mean_past),
        Measure::Record => share(level - told.highest_earlier),
        Measure::Fall => share(told.largest_fall),
        Measure::Acceleration => {
            let gained = (line(Past::Steps8).slope - line(Past::Steps32).slope) * horizon_steps;
            share(gained)
        }
        Measure::Roughness => ratio(told.scatter_newest, told.scatter_past),
    };
    // One by one, so that of each it is known which it is when this is compiled: it is asked for every metric of every cell.
    macro_rules! each {
        ($($n:literal)*) => { [$(of(const { MEASURES[$n].0 })),*] };
    }
    each!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// The logarithm of how much larger `now` is than `before`; NaN where there is nothing to compare, 0 where both are nothing.
fn ratio(now: f64, before: f64) -> f64 {
    if now.is_nan() || before.is_nan() {
        return f64::NAN;
    }
    let scale = (now.abs().max(before.abs()) * 1e-2).max(1e-12);
    ((now.abs() + scale) / (before.abs() + scale)).ln()
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
        assert!((of(&row, "saturation.pace.max") - 1.5).abs() < 0.1);
        assert!(of(&row, "saturation.climb.max") > 20.0);
        assert!(of(&row, "latency.fill.max").is_nan());
        assert_eq!(row.len(), feature_names().len());
    }

    #[test]
    fn what_runs_out_goes_to_its_limit_as_fast_as_what_fills_up() {
        let fills = windows(&[("used", Family::Saturation, Some(100.0), climbing(80.0))]);
        let left = climbing(80.0).into_iter().map(|used| used.map(|used| 100.0 - used)).collect();
        let mut runs_out = windows(&[("left", Family::Saturation, Some(0.0), left)]);
        runs_out.metrics.values_mut().for_each(|metric| metric.kind = MetricKind::Depletable);
        let (fills, runs_out) = (row(&fills), row(&runs_out));
        for measure in ["pace8", "pace16", "pace32", "pace", "climb16", "unlikeness.max"] {
            let name = format!("saturation.{}.max", measure.trim_end_matches(".max"));
            let (a, b) = (of(&fills, &name), of(&runs_out, &name));
            // What is usual of it is at another level.
            let alike =
                if measure.starts_with("unlikeness") { a > 1.0 && b > 1.0 } else { (a - b).abs() < 0.02 * a };
            assert!(alike, "{name}: {a} and {b}");
        }
        assert_eq!(of(&runs_out, "nearest.pace16"), of(&runs_out, "saturation.pace16.max"));
        assert!(of(&runs_out, "saturation.fill.max").is_nan(), "nobody says how much there was");
    }

    #[test]
    fn what_is_nearest_its_limit_tells_all_of_itself() {
        let teeth = (0..120).map(|n| Some(f64::from(n % 40) * 2.0)).collect();
        let row = row(&windows(&[
            ("a", Family::Saturation, Some(100.0), climbing(80.0)),
            ("b", Family::Latency, Some(100.0), climbing(30.0)),
            ("c", Family::Custom, Some(1_000.0), teeth),
        ]));
        assert!((of(&row, "nearest.fill") - 0.8).abs() < 0.01);
        assert_eq!(of(&row, "nearest.pace16"), of(&row, "saturation.pace16.max"));
        assert!(of(&row, "nearest.fall").abs() < 1e-6 && of(&row, "nearest.record") > 0.0);
        // From 78 to 0, of 1000.
        assert!((of(&row, "custom.fall.max") - 0.078).abs() < 1e-3);
        assert!(of(&row, "custom.record.max") <= 0.0);
    }

    #[test]
    fn fuller_and_faster_is_never_safer_and_nothing_else_is_said() {
        let said: Vec<String> = feature_names()
            .into_iter()
            .zip(never_falls())
            .filter_map(|(name, rises)| rises.then_some(name))
            .collect();
        // Seven families and the nearest, each with a fill and four paces, and the first passage.
        assert_eq!(said.len(), 8 * 5 + 1, "{said:?}");
        assert!(said.iter().all(|name| !name.contains("fall") && !name.contains("climb")));
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
