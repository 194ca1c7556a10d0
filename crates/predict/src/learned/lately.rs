//! The window of a cell as a short sequence: what stood out of each family, look by look. For models that remember an order, which features of the newest
//! instant can't tell.

use forefend_domain::{MetricName, MetricWindow, Windows};

use super::features::FAMILIES;

/// Looks that a window is cut into.
pub const LOOKS: usize = 20;

/// What is measured of a family at a look.
const MEASURES: [&str; 3] = ["high", "low", "fill"];
const HIGH: usize = 0;
const LOW: usize = 1;
const FILL: usize = 2;

/// Numbers of a look.
const WIDTH: usize = FAMILIES.len() * MEASURES.len();

/// The fewest values from which it is known what is usual of a metric.
const LEAST: usize = 8;
/// The scale is never taken for less than this share of the level: a metric that hardly moves is not alarmed by a tremble.
const LEAST_SCALE: f64 = 0.02;
/// A share of a limit that is far out says no more than this.
const FAR: f64 = 30.0;

/// The names of what [`Lately`] has of a look, in its order.
///
/// `high` and `low`: how far the highest and the lowest value of a look lie from the mean of the window, in its standard deviations, compressed to
/// ±ln(1 + |z|); the extremes over the metrics of a family. `fill`: the newest value of a look as a share of its metric's limit, the fullest of the family.
#[must_use]
pub fn lately_names() -> Vec<String> {
    FAMILIES
        .iter()
        .flat_map(|(_, family)| MEASURES.map(|measure| format!("lately.{family}.{measure}")))
        .collect()
}

/// Steps in a look, for windows of so many steps.
#[must_use]
pub fn steps_in_a_look(steps: usize) -> usize {
    steps.div_ceil(LOOKS).max(1)
}

/// A window as a sequence of looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lately {
    /// The numbers of each look, oldest first, in the order of [`lately_names`]; NaN: not known. A look at which nothing was known is
    /// left out: then nothing is taken in and nothing forgotten.
    pub rows: Vec<f32>,
    /// Of each family the metric that stood out most.
    from: [Option<MetricName>; FAMILIES.len()],
}

impl Lately {
    /// Cuts windows into looks of so many steps (0 counts as 1), counted back from the newest; what is older than [`LOOKS`] of them is not looked at.
    #[must_use]
    pub fn of(windows: &Windows, steps: usize) -> Self {
        let mut looks = [[f32::NAN; WIDTH]; LOOKS];
        let mut values = Vec::new();
        let mut most: [Option<(f32, &MetricName)>; FAMILIES.len()] = [None; FAMILIES.len()];
        for metric in windows.metrics.values() {
            let Some(family) = FAMILIES.iter().position(|(family, _)| *family == metric.family) else {
                continue;
            };
            if let Some(stands_out) = take_in(metric, steps.max(1), family, &mut looks, &mut values)
                && most[family].is_none_or(|(before, _)| stands_out >= before)
            {
                most[family] = Some((stands_out, &metric.name));
            }
        }
        let known = looks.iter().rev().filter(|look| look.iter().any(|value| !value.is_nan()));
        Self {
            rows: known.flatten().copied().collect(),
            from: most.map(|most| most.map(|(_, name)| name.clone())),
        }
    }

    /// The rows of looks, oldest first.
    pub fn looks(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.rows.chunks_exact(WIDTH)
    }

    /// Numbers of a look.
    #[must_use]
    pub fn width() -> usize {
        WIDTH
    }

    /// Each family of which anything is known, with the metric that stood out most, and what would have been seen without it.
    pub(super) fn without_each(&self) -> impl Iterator<Item = (&MetricName, Vec<f32>)> {
        self.from.iter().enumerate().filter_map(|(family, metric)| {
            let mut rows = self.rows.clone();
            for look in rows.chunks_exact_mut(WIDTH) {
                look[family * MEASURES.len()..(family + 1) * MEASURES.len()].fill(f32::NAN);
            }
            Some((metric.as_ref()?, rows))
        })
    }
}

/// Puts what one metric shows into the looks, newest first; how far it stands out at most, compressed. `None` where too little is known of it.
/// `values` is a place to work in.
fn take_in(
    metric: &MetricWindow,
    steps: usize,
    family: usize,
    looks: &mut [[f32; WIDTH]; LOOKS],
    values: &mut Vec<f64>,
) -> Option<f32> {
    values.clear();
    let newest_first = metric.samples.iter().rev().take(steps.saturating_mul(LOOKS));
    let sign = metric.kind.sign();
    let known = newest_first.map(|sample| sample.value.filter(|v| v.is_finite()));
    values.extend(known.map(|value| value.map_or(f64::NAN, |value| sign * value)));
    let (mean, scale) = usual(values.iter().copied().filter(|value| !value.is_nan()))?;
    let limit = metric.fills_up_to();
    let at = family * MEASURES.len();
    let mut most = 0.0f32;
    for (look, values) in looks.iter_mut().zip(values.chunks(steps)) {
        let Some(newest) = values.iter().copied().find(|value| !value.is_nan()) else { continue };
        // `max` and `min` pass over NaN.
        let lowest = values.iter().copied().fold(newest, f64::min);
        let highest = values.iter().copied().fold(newest, f64::max);
        // Compressed only now: it changes no order.
        let compressed = |value: f64| {
            let z = (value - mean) / scale;
            (z.abs().ln_1p().copysign(z)) as f32
        };
        let (low, high) = (compressed(lowest), compressed(highest));
        most = most.max(low.abs()).max(high.abs());
        look[at + HIGH] = look[at + HIGH].max(high);
        look[at + LOW] = look[at + LOW].min(low);
        if let Some(limit) = limit {
            look[at + FILL] = look[at + FILL].max((newest / limit).clamp(-FAR, FAR) as f32);
        }
    }
    Some(most)
}

/// Mean and standard deviation; `None` of too few.
fn usual(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (mut count, mut first, mut sum, mut squares) = (0usize, 0.0, 0.0, 0.0);
    for value in values {
        if count == 0 {
            first = value;
        }
        // Counted from one of them, so that little cancels.
        let off = value - first;
        count += 1;
        sum += off;
        squares += off * off;
    }
    if count < LEAST {
        return None;
    }
    let mean = sum / count as f64;
    let variance = (squares / count as f64 - mean * mean).max(0.0);
    let level = first + mean;
    let scale = variance.sqrt().max(LEAST_SCALE * level.abs()).max(f64::MIN_POSITIVE);
    (level.is_finite() && scale.is_finite()).then_some((level, scale))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use forefend_domain::{CellId, Family, MetricKind, Sample, Timestamp};
    use proptest::prelude::*;

    use super::*;

    type Told<'a> = (&'a str, Family, Option<f64>, Vec<Option<f64>>);

    fn windows(metrics: &[Told<'_>]) -> Windows {
        let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
        let metric = |(name, family, limit, values): &Told<'_>| {
            let name = MetricName::new(name);
            let samples = values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: *v }).collect();
            let (kind, unit) = (MetricKind::Exhaustible, String::new());
            (name.clone(), MetricWindow { name, family: *family, kind, unit, limit: *limit, samples })
        };
        let metrics: BTreeMap<MetricName, MetricWindow> = metrics.iter().map(metric).collect();
        Windows { cell: CellId::new("a").unwrap(), at: at(60), step: Duration::from_millis(500), metrics }
    }

    fn of(look: &[f32], name: &str) -> f32 {
        look[lately_names().iter().position(|n| n == name).unwrap()]
    }

    #[test]
    fn a_mark_stands_in_its_look_and_in_its_family() {
        let mut values: Vec<Option<f64>> = (0..60).map(|n| Some(10.0 + f64::from(n % 2))).collect();
        values[31] = Some(50.0);
        values[59] = Some(90.0);
        let lately = Lately::of(&windows(&[("m", Family::Errors, Some(100.0), values)]), 3);
        let looks: Vec<&[f32]> = lately.looks().collect();
        assert_eq!((looks.len(), looks[0].len()), (LOOKS, lately_names().len()));
        // Steps 30 to 32 are the eleventh look.
        let high = |n: usize| of(looks[n], "lately.errors.high");
        assert!(high(10) > 1.0 && high(19) > high(10) && high(9) < 0.1, "{} {}", high(10), high(19));
        assert!(of(looks[10], "lately.latency.high").is_nan());
        assert!((of(looks[19], "lately.errors.fill") - 0.9).abs() < 1e-6);
        assert!((of(looks[10], "lately.errors.fill") - 0.1).abs() < 1e-6, "its newest is of step 32");
        let without: Vec<_> = lately.without_each().collect();
        assert_eq!((without.len(), without[0].0.as_str()), (1, "m"));
        assert!(without[0].1.iter().all(|v| v.is_nan()));
    }

    #[test]
    fn looks_at_which_nothing_was_known_are_left_out_and_a_short_window_has_fewer() {
        let mut values: Vec<Option<f64>> = (0..60).map(|n| Some(f64::from(n))).collect();
        values[50..].fill(None);
        let told = |values: Vec<Option<f64>>| {
            Lately::of(&windows(&[("m", Family::Custom, None, values)]), 3).looks().len()
        };
        assert_eq!(told(values.clone()), 17, "of the newest two steps of the fourth look nothing is known");
        assert_eq!(told(values[30..50].to_vec()), 7);
        assert_eq!(told(vec![Some(1.0); 7]), 0, "from so few nobody knows what is usual");
        assert_eq!(told(vec![None; 60]), 0);
        let many = Lately::of(&windows(&[("m", Family::Custom, None, vec![Some(1.0); 500])]), 3);
        assert_eq!(many.looks().len(), LOOKS);
        assert_eq!(Lately::of(&windows(&[("m", Family::Custom, None, values)]), 0).looks().len(), 10);
    }

    #[test]
    fn a_look_covers_a_twentieth_of_a_window() {
        assert_eq!([0, 1, 20, 21, 60, 120].map(steps_in_a_look), [1, 1, 1, 2, 3, 6]);
    }

    proptest! {
        #[test]
        fn names_and_units_do_not_matter_and_what_is_known_is_finite(
            values in prop::collection::vec(prop::option::weighted(0.8, -1e9f64..1e9), 8..130),
            scale in 0.01f64..1e6,
            steps in 0usize..8,
        ) {
            let scaled: Vec<Option<f64>> = values.iter().map(|v| v.map(|v| v * scale)).collect();
            let one = Lately::of(&windows(&[("a", Family::Logs, Some(5.0), values)]), steps);
            let other = Lately::of(&windows(&[("zzz", Family::Logs, Some(5.0 * scale), scaled)]), steps);
            prop_assert_eq!(one.rows.len(), other.rows.len());
            for (a, b) in one.rows.iter().zip(&other.rows) {
                prop_assert!(!a.is_infinite());
                let alike = (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-3 * a.abs().max(1.0);
                prop_assert!(alike, "{a} and {b}");
            }
        }
    }
}
