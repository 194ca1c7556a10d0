//! The values of a metric that has no gaps, newest first, side by side: what sums are made of in a few passes.
//!
//! Most windows are like that. Where there is a gap, or time is uneven, everything is worked out value by value instead; that both say
//! the same is held by tests where they are used.

use forefend_domain::MetricWindow;

/// Puts the values of a metric into `values`, newest first; the distance between them in seconds. `None` where one of its newest
/// `most` samples is missing or not finite, or they do not follow each other evenly.
pub(crate) fn of(metric: &MetricWindow, most: usize, values: &mut Vec<f64>) -> Option<f64> {
    let samples = &metric.samples[metric.samples.len().saturating_sub(most)..];
    let [first, second, ..] = samples else { return None };
    let step_ms = second.at.unix_ms().checked_sub(first.at.unix_ms()).filter(|step| *step > 0)?;
    values.clear();
    values.extend(samples.iter().rev().map(|sample| sample.value.unwrap_or(f64::NAN)));
    // Without a branch for each: this is the whole of the telemetry.
    let finite = values.iter().fold(true, |all, value| all & value.is_finite());
    let uneven = samples
        .windows(2)
        .fold(0, |any, pair| any | (pair[1].at.unix_ms().wrapping_sub(pair[0].at.unix_ms()) ^ step_ms));
    (finite && uneven == 0).then_some(step_ms as f64 / 1_000.0)
}

/// Values that are added up side by side, so that none has to wait for the one before.
const LANES: usize = 4;

/// Sums over values `from..to`, of `y`, the value less the newest, and `x`, how many steps it lies back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    pub(crate) y: f64,
    pub(crate) xy: f64,
    pub(crate) yy: f64,
}

impl Part {
    pub(crate) fn of(values: &[f64], from: usize, to: usize) -> Self {
        let newest = values[0];
        let (mut ys, mut xys, mut yys) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let mut xs: [f64; LANES] = std::array::from_fn(|lane| (from + lane) as f64);
        let chunks = values[from..to].chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            let sums = ys.iter_mut().zip(&mut xys).zip(&mut yys).zip(&mut xs);
            for ((((y_sum, xy_sum), yy_sum), x), value) in sums.zip(chunk) {
                let y = value - newest;
                *y_sum += y;
                *xy_sum += *x * y;
                *yy_sum += y * y;
                *x += LANES as f64;
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            let y = value - newest;
            ys[lane] += y;
            xys[lane] += xs[lane] * y;
            yys[lane] += y * y;
        }
        Self { y: sum(ys), xy: sum(xys), yy: sum(yys) }
    }

    pub(crate) fn plus(self, more: Self) -> Self {
        Self { y: self.y + more.y, xy: self.xy + more.xy, yy: self.yy + more.yy }
    }
}

fn sum(lanes: [f64; LANES]) -> f64 {
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

/// The sum of `of(value, the value lag steps later)` over values `from..to`; `from` is at least `lag`.
pub(crate) fn over_pairs(
    values: &[f64],
    lag: usize,
    (from, to): (usize, usize),
    of: impl Fn(f64, f64) -> f64,
) -> f64 {
    let mut sums = [0.0; LANES];
    let (older, newer) = (&values[from..to], &values[from - lag..to - lag]);
    let (older, newer) = (older.chunks_exact(LANES), newer.chunks_exact(LANES));
    for (lane, (older, newer)) in older.remainder().iter().zip(newer.remainder()).enumerate() {
        sums[lane] += of(*older, *newer);
    }
    for (older, newer) in older.zip(newer) {
        for (sum, (older, newer)) in sums.iter_mut().zip(older.iter().zip(newer)) {
            *sum += of(*older, *newer);
        }
    }
    sum(sums)
}

/// The lowest and the highest of some values, and the largest fall from one to a later one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reach {
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    pub(crate) fall: f64,
}

impl Reach {
    const NONE: Self = Self { lowest: f64::INFINITY, highest: f64::NEG_INFINITY, fall: 0.0 };

    /// Of values newest first.
    pub(crate) fn of(values: &[f64]) -> Self {
        // As many stretches as lanes go on side by side, for each step waits for the one before.
        let length = values.len() / LANES;
        let (head, tail) = values.split_at(length * LANES);
        let mut lanes = [Self::NONE; LANES];
        for at in 0..length {
            for (lane, reach) in lanes.iter_mut().enumerate() {
                reach.add(head[lane * length + at]);
            }
        }
        let mut rest = Self::NONE;
        tail.iter().for_each(|value| rest.add(*value));
        lanes.into_iter().fold(Self::NONE, Self::before).before(rest)
    }

    fn add(&mut self, value: f64) {
        // Not `min` and `max`: no value is NaN, and those ask.
        self.lowest = if value < self.lowest { value } else { self.lowest };
        self.highest = if value > self.highest { value } else { self.highest };
        let fall = value - self.lowest;
        self.fall = if fall > self.fall { fall } else { self.fall };
    }

    /// With older values before it.
    pub(crate) fn before(self, older: Self) -> Self {
        Self {
            lowest: self.lowest.min(older.lowest),
            highest: self.highest.max(older.highest),
            fall: self.fall.max(older.fall).max(older.highest - self.lowest),
        }
    }
}

/// The median of up to [`MOST`] finite values, at least one: the mean of the middle two where they are even.
///
/// Most of the values are passed over at one look: the median lies near the mean, and what lies near it is sorted.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    let count = values.len();
    let (low, high) = ((count - 1) / 2, count / 2);
    let mut near = [0.0; MOST + 1];
    let (below, found) = if count <= MOST { near_the_mean(values, &mut near) } else { (0, 0) };
    if below <= low && high < below + found && found <= FEW {
        let near = &mut near[..found];
        sort(near);
        return f64::midpoint(near[low - below], near[high - below]);
    }
    let (smaller, middle, _) = values.select_nth_unstable_by(high, f64::total_cmp);
    let middle = *middle;
    if low == high {
        return middle;
    }
    f64::midpoint(smaller.iter().copied().fold(f64::NEG_INFINITY, f64::max), middle)
}

/// As many values as are looked at in this way.
pub(crate) const MOST: usize = 64;
/// More than these are not sorted one by one.
const FEW: usize = 28;
/// How far around the mean is near, in mean deviations: about a quarter of the values of any common distribution.
const NEAR: f64 = 0.45;

/// Copies what is near the mean; how many values lie below that, and how many are near.
fn near_the_mean(values: &[f64], near: &mut [f64; MOST + 1]) -> (usize, usize) {
    let count = values.len() as f64;
    let mean = over(values, |v| v) / count;
    let around = NEAR * over(values, |v| (v - mean).abs()) / count + mean.abs() * 1e-12;
    let (from, to) = (mean - around, mean + around);
    let (mut below, mut found) = (0, 0);
    for value in values {
        near[found] = *value;
        found += usize::from(*value >= from && *value <= to);
        below += usize::from(*value < from);
    }
    (below, found)
}

fn over(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    for (lane, value) in chunks.remainder().iter().enumerate() {
        sums[lane] += of(*value);
    }
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += of(*value);
        }
    }
    sum(sums)
}

/// By insertion: there are few.
fn sort(values: &mut [f64]) {
    for at in 1..values.len() {
        let value = values[at];
        let mut place = at;
        while place > 0 && values[place - 1] > value {
            values[place] = values[place - 1];
            place -= 1;
        }
        values[place] = value;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made of few numbers, or of many, or far apart.
    fn values() -> impl Strategy<Value = Vec<f64>> {
        let number = prop_oneof![
            (-3i32..3).prop_map(f64::from),
            -1.0..1.0f64,
            (-300..300i32).prop_map(|exponent| 10f64.powi(exponent)),
        ];
        let noise = prop::collection::vec(90.0..110.0f64, 1..130);
        prop_oneof![prop::collection::vec(number, 1..130), noise]
    }

    proptest! {
        #[test]
        fn the_median_is_in_the_middle(mut values in values()) {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let middle = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
            prop_assert_eq!(median(&mut values), middle);
        }

        #[test]
        fn reach_is_that_of_each_pair(values in values()) {
            let mut reach = Reach { lowest: values[0], highest: values[0], fall: 0.0 };
            for (newer, value) in values.iter().enumerate() {
                reach.lowest = reach.lowest.min(*value);
                reach.highest = reach.highest.max(*value);
                for later in &values[..newer] {
                    reach.fall = reach.fall.max(value - later);
                }
            }
            prop_assert_eq!(Reach::of(&values), reach);
        }

        #[test]
        fn sums_are_those_of_each_value(
            values in prop::collection::vec(-10.0..10.0f64, 1..130),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(values.len());
            let part = Part::of(&values, 0, cut).plus(Part::of(&values, cut, values.len()));
            let by = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
                values.iter().enumerate().map(|(x, v)| of(x as f64, v - values[0])).sum()
            };
            prop_assert!((part.y - by(&|_, y| y)).abs() < 1e-9);
            prop_assert!((part.xy - by(&|x, y| x * y)).abs() < 1e-7);
            prop_assert!((part.yy - by(&|_, y| y * y)).abs() < 1e-9);
            for lag in [1, 4].into_iter().filter(|lag| *lag < values.len()) {
                let pairs: f64 = (lag..values.len()).map(|at| (values[at - lag] - values[at]).powi(2)).sum();
                let found = over_pairs(&values, lag, (lag, values.len()), |old, new| (new - old).powi(2));
                prop_assert!((pairs - found).abs() < 1e-9 * pairs.max(1.0));
            }
        }
    }
}
