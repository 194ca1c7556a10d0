//! What a metric's values say of it: level, lines, scatter, and how far it rose and fell.
//!
//! Windows without gaps are read in passes over values side by side, others value by value; a test holds the one against the other.

use forefend_domain::MetricWindow;

use super::features::FAR;
use crate::{
    anomaly::robust_z_newest_first,
    column::{self, Part, Reach, over_pairs},
};

/// The fewest values from which anything is measured.
const LEAST: usize = 8;

/// The newest values that make a level.
const LEVEL: usize = 3;

/// Values that are too new to be a height that was reached before.
const RECENT: usize = 6;

/// How many of the newest steps a line is laid through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    Steps8,
    Steps16,
    Steps32,
    Whole,
}

impl Past {
    pub(super) const ALL: [Self; 4] = [Self::Steps8, Self::Steps16, Self::Steps32, Self::Whole];

    fn steps(self) -> usize {
        match self {
            Self::Steps8 => 8,
            Self::Steps16 => 16,
            Self::Steps32 => 32,
            Self::Whole => usize::MAX,
        }
    }
}

/// What one walk back from the newest value tells of a metric; upwards is towards its limit.
pub(super) struct Told {
    /// The mean of the newest three values.
    pub(super) level: f64,
    /// Of the newest eight values, and of those before.
    pub(super) mean_newest: f64,
    pub(super) mean_past: f64,
    /// The mean absolute step from value to value, among the newest and among those before.
    pub(super) scatter_newest: f64,
    pub(super) scatter_past: f64,
    /// The highest value but for the newest six.
    pub(super) highest_earlier: f64,
    /// The largest fall from a value to a later one.
    pub(super) largest_fall: f64,
    /// From the lowest to the highest value, or the mean if that is more.
    pub(super) spread: f64,
    /// In the order of [`Past::ALL`].
    pub(super) lines: [Line; 4],
    /// Robust z of the newest values; `None` where there are too few.
    pub(super) unlikeness: Option<f64>,
}

impl Told {
    /// `None` where there are too few values. `values` is a place to work in.
    pub(super) fn of(metric: &MetricWindow, values: &mut Vec<f64>) -> Option<Self> {
        match column::of(metric, usize::MAX, values) {
            Some(_) if values.len() >= LEAST => Some(Self::even(values)),
            _ => Self::one_by_one(metric, values),
        }
    }

    /// Of values without a gap, newest first: everything is a sum over stretches of them.
    fn even(values: &[f64]) -> Self {
        let (count, newest) = (values.len(), values[0]);
        let mut part = Part::default();
        let mut from = 0;
        let mut part_newest = Part::default();
        let mut lines = [Line::NONE; 4];
        for (line, past) in lines.iter_mut().zip(Past::ALL) {
            let to = past.steps().min(count);
            part = part.plus(Part::of(values, from, to));
            from = to;
            *line = Sums::even(to, &part).line(newest);
            if past == Past::Steps8 {
                part_newest = part;
            }
        }
        let mean = |y: f64, n: usize| if n > 0 { newest + y / n as f64 } else { f64::NAN };
        let scatter = |from: usize, to: usize| {
            let pairs = to.saturating_sub(from);
            let sum = |pairs| over_pairs(values, 1, (from, from + pairs), |old, new| (new - old).abs());
            if pairs > 0 { sum(pairs) / pairs as f64 } else { f64::NAN }
        };
        let recent = Reach::of(&values[..RECENT]);
        let earlier = Reach::of(&values[RECENT..]);
        let (lowest, highest) = (recent.lowest.min(earlier.lowest), recent.highest.max(earlier.highest));
        Self {
            level: values[..LEVEL].iter().sum::<f64>() / LEVEL as f64,
            mean_newest: mean(part_newest.y, LEAST),
            mean_past: mean(part.y - part_newest.y, count - LEAST),
            scatter_newest: scatter(1, LEAST),
            // The step from the past to the newest belongs to neither.
            scatter_past: scatter(LEAST + 1, count),
            highest_earlier: earlier.highest,
            largest_fall: recent.before(earlier).fall,
            spread: (highest - lowest).max(mean(part.y, count).abs()),
            lines,
            unlikeness: robust_z_newest_first(values),
        }
    }

    /// The same value by value.
    fn one_by_one(metric: &MetricWindow, values: &mut Vec<f64>) -> Option<Self> {
        values.clear();
        let mut told = Self {
            level: 0.0,
            mean_newest: f64::NAN,
            mean_past: f64::NAN,
            scatter_newest: f64::NAN,
            scatter_past: f64::NAN,
            highest_earlier: f64::NAN,
            largest_fall: 0.0,
            spread: 0.0,
            lines: [Line::NONE; 4],
            unlikeness: None,
        };
        let mut sums = Sums::default();
        let mut pasts = [None; 4];
        let (mut lowest, mut highest, mut newest) = (f64::INFINITY, f64::NEG_INFINITY, f64::NAN);
        // Of values and of absolute steps: those so far, and those when the newest were through.
        let (mut sum, mut sum_newest, mut steps, mut steps_newest) = (0.0, 0.0, 0.0, 0.0);
        for (back, sample) in metric.samples.iter().rev().enumerate() {
            for (past, sums_then) in Past::ALL.into_iter().zip(&mut pasts) {
                if back == past.steps() {
                    *sums_then = Some(sums);
                }
            }
            let Some(value) = sample.value.filter(|v| v.is_finite()) else { continue };
            let value = metric.kind.sign() * value;
            let known = values.len();
            if known == 0 {
                newest = value;
            }
            sums.add(-(back as f64), value - newest);
            if known == LEAST {
                (sum_newest, steps_newest) = (sum, steps);
                // The step from the past to the newest belongs to neither.
                steps = 0.0;
            } else if let Some(later) = values.last() {
                steps += (later - value).abs();
            }
            sum += value;
            lowest = lowest.min(value);
            highest = highest.max(value);
            told.largest_fall = told.largest_fall.max(value - lowest);
            if known >= RECENT {
                // `max` passes over NaN.
                told.highest_earlier = told.highest_earlier.max(value);
            }
            values.push(value);
        }
        let count = values.len();
        if count < LEAST {
            return None;
        }
        if count == LEAST {
            (sum_newest, steps_newest) = (sum, steps);
        }
        told.mean_newest = sum_newest / LEAST as f64;
        told.scatter_newest = steps_newest / (LEAST - 1) as f64;
        let past = count - LEAST;
        if past > 0 {
            told.mean_past = (sum - sum_newest) / past as f64;
        }
        if past > 1 {
            told.scatter_past = steps / (past - 1) as f64;
        }
        told.level = values[..LEVEL].iter().sum::<f64>() / LEVEL as f64;
        told.spread = (highest - lowest).max((sum / count as f64).abs());
        told.lines = pasts.map(|past| past.unwrap_or(sums).line(newest));
        told.unlikeness = robust_z_newest_first(values);
        Some(told)
    }
}

/// Sums of points that count from the newest, so that little cancels.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Sums {
    /// Of so many points a step apart.
    fn even(count: usize, part: &Part) -> Self {
        let n = count as f64;
        let (x, xx) = (-n * (n - 1.0) / 2.0, (n - 1.0) * n * (2.0 * n - 1.0) / 6.0);
        Self { n, x, y: part.y, xx, xy: -part.xy, yy: part.yy }
    }

    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    /// The line by least squares, of values around `level`.
    fn line(&self, level: f64) -> Line {
        if self.n < 3.0 {
            return Line::NONE;
        }
        let n = self.n;
        let sxx = self.xx - self.x * self.x / n;
        let sxy = self.xy - self.x * self.y / n;
        let syy = self.yy - self.y * self.y / n;
        let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
        let rest = (syy - slope * sxy).max(0.0);
        let variance = rest / (n - 2.0).max(1.0) / sxx.max(1e-12);
        // What is finer than a millionth of the level is rounding.
        let floor = ((level + self.y / n).abs() * 1e-6 / n).max(1e-15);
        Line { slope, standard_error: variance.sqrt().max(floor) }
    }
}

/// A straight line through points.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) slope: f64,
    standard_error: f64,
}

impl Line {
    /// Of too few points.
    const NONE: Self = Self { slope: f64::NAN, standard_error: 1.0 };

    /// NaN where there were too few points.
    pub(super) fn t(&self) -> f64 {
        (self.slope / self.standard_error).clamp(-FAR, FAR)
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::{Family, MetricKind, MetricName, Sample, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn window(values: &[f64]) -> MetricWindow {
        let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
        let samples = values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: Some(*v) }).collect();
        MetricWindow {
            name: MetricName::new("m"),
            family: Family::Custom,
            kind: MetricKind::Unbounded,
            unit: String::new(),
            limit: None,
            samples,
        }
    }

    /// A level with noise, a slope, teeth, and now and then nothing but the level.
    fn values() -> impl Strategy<Value = Vec<f64>> {
        let shape = (-1e3..1e3f64, 0.0..10.0f64, -1.0..1.0f64, prop::option::of(5usize..40));
        (shape, prop::collection::vec(-1.0..1.0f64, 1..140)).prop_map(
            |((level, scale, slope, teeth), noise)| {
                let of = |(n, noise): (usize, f64)| {
                    level + scale * noise + slope * n as f64 + teeth.map_or(0.0, |teeth| (n % teeth) as f64)
                };
                noise.into_iter().enumerate().map(of).collect()
            },
        )
    }

    proptest! {
        #[test]
        fn in_passes_or_value_by_value_the_same_is_said(values in values(), falls in any::<bool>()) {
            let mut window = window(&values);
            window.kind = if falls { MetricKind::Depletable } else { MetricKind::Unbounded };
            let mut place = Vec::new();
            prop_assert!(values.len() < 2 || column::of(&window, usize::MAX, &mut place).is_some());
            let short = Told::of(&window, &mut place);
            let plain = Told::one_by_one(&window, &mut place);
            prop_assert_eq!(short.is_some(), plain.is_some());
            let (Some(short), Some(plain)) = (short, plain) else { return Ok(()) };
            let size = values.iter().fold(0.0f64, |size, v| size.max(v.abs()));
            let alike = |a: f64, b: f64, size: f64| {
                (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * size.max(a.abs())
            };
            for (name, a, b) in [
                ("level", short.level, plain.level),
                ("mean_newest", short.mean_newest, plain.mean_newest),
                ("mean_past", short.mean_past, plain.mean_past),
                ("scatter_newest", short.scatter_newest, plain.scatter_newest),
                ("scatter_past", short.scatter_past, plain.scatter_past),
                ("highest_earlier", short.highest_earlier, plain.highest_earlier),
                ("largest_fall", short.largest_fall, plain.largest_fall),
                ("spread", short.spread, plain.spread),
            ] {
                prop_assert!(alike(a, b, size), "{name}: {a} and {b}");
            }
            prop_assert_eq!(short.unlikeness, plain.unlikeness);
            for (a, b) in short.lines.iter().zip(&plain.lines) {
                prop_assert!(alike(a.slope, b.slope, size), "{} and {}", a.slope, b.slope);
                prop_assert!(alike(a.t(), b.t(), 1.0), "t {} and {}", a.t(), b.t());
            }
        }
    }
}
