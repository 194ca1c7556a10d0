//! The values of a metric that has no gaps, newest first, side by side: what sums are made of in a few passes.
//!
//! Most windows are like that. Where there is a gap, or time is uneven, everything is worked out value by value instead; that both say
//! the same is held by tests where they are used.
//!
//! Loops go over chunks of a fixed length without branches, so that the compiler can do several values at once.

use forefend_domain::{MetricKind, MetricWindow, Sample};

/// Puts the values of a metric into `values`, newest first, less than zero where it is by falling that a limit is reached
/// ([`MetricKind::sign`]); the distance between them in seconds. `None` where one of its newest
/// `most` samples is missing or not finite, or they do not follow each other evenly.
pub(crate) fn of(metric: &MetricWindow, most: usize, values: &mut Vec<f64>) -> Option<f64> {
    let samples = &metric.samples[metric.samples.len().saturating_sub(most)..];
    let [first, second, ..] = samples else { return None };
    let step_ms = second.at.unix_ms().checked_sub(first.at.unix_ms()).filter(|step| *step > 0)?;
    // What stands there is written over.
    values.resize(samples.len(), 0.0);
    let mut wanted = Even { at: first.at.unix_ms(), step_ms, missed: 0 };
    let (oldest, newest) = samples.as_chunks::<LANES>();
    let (last, first) = values.as_rchunks_mut::<LANES>();
    for (samples, places) in oldest.iter().zip(first.iter_mut().rev()) {
        for n in 0..LANES {
            places[LANES - 1 - n] = wanted.value(&samples[n]);
        }
    }
    for (sample, place) in newest.iter().zip(last.iter_mut().rev()) {
        *place = wanted.value(sample);
    }
    // Zero of what is finite, and not a number of all else.
    let finite = over(values, |value| value * 0.0) == 0.0;
    if metric.kind == MetricKind::Depletable {
        values.iter_mut().for_each(|value| *value = -*value);
    }
    (finite && wanted.missed == 0).then_some(step_ms as f64 / 1_000.0)
}

/// When the next sample is to be, and whether any was at another time.
struct Even {
    at: u64,
    step_ms: u64,
    missed: u64,
}

impl Even {
    fn value(&mut self, sample: &Sample) -> f64 {
        self.missed |= sample.at.unix_ms() ^ self.at;
        self.at = self.at.wrapping_add(self.step_ms);
        sample.value.unwrap_or(f64::NAN)
    }
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
        let (chunks, rest) = values[from..to].as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                let y = chunk[lane] - newest;
                ys[lane] += y;
                xys[lane] += xs[lane] * y;
                yys[lane] += y * y;
                xs[lane] += LANES as f64;
            }
        }
        for (lane, value) in rest.iter().enumerate() {
            let y = value - newest;
            ys[lane] += y;
            xys[lane] += xs[lane] * y;
            yys[lane] += y * y;
        }
        Self::sum([&ys, &xys, &yys])
    }

    /// Apart from the loop: together with it, the compiler puts `y` and `xy` of one value side by side instead of several values, and
    /// needs twice as long.
    #[inline(never)]
    fn sum([ys, xys, yys]: [&[f64; LANES]; 3]) -> Self {
        Self { y: sum(*ys), xy: sum(*xys), yy: sum(*yys) }
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
    let (older, older_rest) = values[from..to].as_chunks::<LANES>();
    let (newer, newer_rest) = values[from - lag..to - lag].as_chunks::<LANES>();
    for (older, newer) in older.iter().zip(newer) {
        for lane in 0..LANES {
            sums[lane] += of(older[lane], newer[lane]);
        }
    }
    for (lane, (older, newer)) in older_rest.iter().zip(newer_rest).enumerate() {
        sums[lane] += of(*older, *newer);
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
        if values.len() < 4 * LANES {
            return values.iter().fold(Self::NONE, |reach, value| reach.before(Self::one(*value)));
        }
        // As many stretches as lanes go on side by side, for each step waits for the one before.
        let length = values.len() / LANES;
        let (stretches, tail) = values.split_at(length * LANES);
        let (newer, older) = stretches.split_at(2 * length);
        let (newer, older) = (newer.split_at(length), older.split_at(length));
        let (mut lowest, mut highest) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        let mut fall = [0.0; LANES];
        for (((one, two), three), four) in newer.0.iter().zip(newer.1).zip(older.0).zip(older.1) {
            let values = [*one, *two, *three, *four];
            for lane in 0..LANES {
                lowest[lane] = lower(values[lane], lowest[lane]);
                highest[lane] = higher(values[lane], highest[lane]);
                fall[lane] = higher(values[lane] - lowest[lane], fall[lane]);
            }
        }
        Self::of_stretches([&lowest, &highest, &fall], tail)
    }

    /// Apart from the loop, as [`Part::sum`].
    #[inline(never)]
    fn of_stretches([lowest, highest, fall]: [&[f64; LANES]; 3], tail: &[f64]) -> Self {
        let mut reach = Self::NONE;
        for lane in 0..LANES {
            let stretch = Self { lowest: lowest[lane], highest: highest[lane], fall: fall[lane] };
            reach = reach.before(stretch);
        }
        for value in tail {
            reach = reach.before(Self::one(*value));
        }
        reach
    }

    fn one(value: f64) -> Self {
        Self { lowest: value, highest: value, fall: 0.0 }
    }

    /// With older values before it.
    pub(crate) fn before(self, older: Self) -> Self {
        let across = older.highest - self.lowest;
        Self {
            lowest: lower(older.lowest, self.lowest),
            highest: higher(older.highest, self.highest),
            fall: higher(across, higher(older.fall, self.fall)),
        }
    }
}

/// Not `min` and `max`: no value is NaN, and those ask.
fn lower(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

fn higher(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The highest of some values.
pub(crate) fn highest(values: &[f64]) -> f64 {
    let mut lanes = [f64::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = higher(chunk[lane], lanes[lane]);
        }
    }
    rest.iter().chain(&lanes).fold(f64::NEG_INFINITY, |so_far, value| higher(*value, so_far))
}

/// The lowest and the highest of some values.
pub(crate) fn ends(values: &[f64]) -> (f64, f64) {
    let (mut lowest, mut highest) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lowest[lane] = lower(chunk[lane], lowest[lane]);
            highest[lane] = higher(chunk[lane], highest[lane]);
        }
    }
    let lowest = rest.iter().chain(&lowest).fold(f64::INFINITY, |so_far, value| lower(*value, so_far));
    let highest = rest.iter().chain(&highest).fold(f64::NEG_INFINITY, |so_far, value| higher(*value, so_far));
    (lowest, highest)
}

/// The median of finite values, at least one: the mean of the middle two where they are even. Their order is lost.
///
/// Each of up to [`MOST`] values has a key of seven bits, by where it lies between the lowest and the highest. The key in the middle is
/// found by halves, with a count of all keys for each; only the few values that have it are then put in order.
#[cfg(test)]
pub(crate) fn median(values: &mut [f64]) -> f64 {
    let (lowest, highest) = ends(values);
    median_within(values, (lowest, highest))
}

/// The same of values of which none is below `lowest` or above `highest`.
pub(crate) fn median_within(values: &mut [f64], (lowest, highest): (f64, f64)) -> f64 {
    let count = values.len();
    let (low, high) = ((count - 1) / 2, count / 2);
    let scale = f64::from(LAST_KEY) / (highest - lowest);
    // They may be too far apart to have keys, or too near.
    if count > MOST || scale == 0.0 || !scale.is_finite() {
        return selected(values, low, high);
    }
    // What is no value has the last key, which nothing is below.
    let mut keys = [LAST_KEY; MOST];
    for (key, value) in keys.iter_mut().zip(&*values) {
        *key = key_of((value - lowest) * scale);
    }
    let mut middle = 0;
    for half in [64, 32, 16, 8, 4, 2, 1] {
        let further = middle + half;
        middle = if below(&keys, further) <= low { further } else { middle };
    }
    let mut near = [0.0; FEW];
    let mut found = 0;
    for (keys, values) in keys.as_chunks::<EIGHT>().0.iter().zip(values.chunks(EIGHT)) {
        // Most have none.
        if keys.iter().fold(false, |any, key| any | (*key == middle)) {
            for (_, value) in keys.iter().zip(values).filter(|(key, _)| **key == middle) {
                if let Some(place) = near.get_mut(found) {
                    *place = *value;
                }
                found += 1;
            }
        }
    }
    let Some(near) = near.get_mut(..found) else { return selected(values, low, high) };
    sort(near);
    let before = below(&keys, middle);
    let lower_middle = near[low - before];
    let beyond = || {
        let of = |(key, value): (&i8, &f64)| if *key > middle { *value } else { f64::INFINITY };
        keys.iter().zip(&*values).map(of).fold(f64::INFINITY, |next, value| lower(value, next))
    };
    f64::midpoint(lower_middle, near.get(high - before).copied().unwrap_or_else(beyond))
}

/// As many values as are looked at in this way.
pub(crate) const MOST: usize = 64;
/// The key of the highest value.
const LAST_KEY: i8 = 127;
/// More than these are not sorted one by one.
const FEW: usize = 16;
/// Keys that are looked through at once.
const EIGHT: usize = 8;

/// A number from 0 to [`LAST_KEY`], rounded: its bits stand last in a sum with 2⁵², whose fraction has none of its own.
fn key_of(place: f64) -> i8 {
    (place + 4_503_599_627_370_496.0).to_bits() as i8
}

/// How many keys are below one.
fn below(keys: &[i8; MOST], key: i8) -> usize {
    // So few fit into a byte, and sixteen bytes are counted at once.
    usize::from(keys.iter().map(|other| u8::from(*other < key)).sum::<u8>())
}

/// The mean of the two values that have so many below them.
fn selected(values: &mut [f64], low: usize, high: usize) -> f64 {
    let (smaller, middle, _) = values.select_nth_unstable_by(high, f64::total_cmp);
    let middle = *middle;
    if low == high {
        return middle;
    }
    f64::midpoint(smaller.iter().copied().fold(f64::NEG_INFINITY, f64::max), middle)
}

fn over(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += of(chunk[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        sums[lane] += of(*value);
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
