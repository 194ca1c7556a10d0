//! Sums over the newest samples of a metric, that all suffixes share.

use super::{Fit, Noise};
use crate::column::{highest, over_pairs};

/// Distances, in samples, over which differences tell a walk from white noise.
const LAGS: [usize; 2] = [1, 4];

/// What is summed over the differences between samples a lag apart.
#[derive(Debug, Clone, Copy, Default)]
struct Differences {
    count: f64,
    time: f64,
    time_squared: f64,
    moved_squared: f64,
    moved_by_time: f64,
    /// Only upwards, counted twice: of the same size for a walk without preference, and nothing for a memory that was
    /// freed or a cache that was dropped, which bring no limit nearer.
    upward_squared: f64,
}

impl Differences {
    fn add(&mut self, older: (f64, f64), newer: (f64, f64)) {
        let (dt, dy) = (newer.0 - older.0, newer.1 - older.1);
        let up = dy.max(0.0);
        self.count += 1.0;
        self.time += dt;
        self.time_squared += dt * dt;
        self.moved_squared += dy * dy;
        self.moved_by_time += dt * dy;
        self.upward_squared += 2.0 * up * up;
    }

    /// Mean square around a line of this slope. What cancels to below zero is zero.
    fn around(&self, drift: f64) -> f64 {
        let sum = self.moved_squared - drift * (2.0 * self.moved_by_time - drift * self.time_squared);
        // Where all of it cancels, a sum has no digits left.
        let sum = if sum <= 1e-14 * self.moved_squared { 0.0 } else { sum };
        sum / self.count
    }
}

/// Sums over a suffix. Times and values count from the newest sample, so that little cancels.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) count: usize,
    t: f64,
    y: f64,
    tt: f64,
    ty: f64,
    differences: [Differences; 2],
}

/// All samples that were walked over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walked {
    sums: Sums,
    /// The highest value.
    pub(super) highest: f64,
}

/// Walks back from the newest sample, and shows the sums over each suffix with its length.
pub(super) fn walk(samples: &[(f64, f64)], mut show: impl FnMut(usize, Sums)) -> Walked {
    let n = samples.len();
    let newest = samples.last().copied().unwrap_or_default();
    let mut walked = Walked { sums: Sums::default(), highest: f64::NEG_INFINITY };
    for at in (0..n).rev() {
        let sample = samples[at];
        let (t, y) = (sample.0 - newest.0, sample.1 - newest.1);
        let sums = &mut walked.sums;
        sums.count += 1;
        sums.t += t;
        sums.y += y;
        sums.tt += t * t;
        sums.ty += t * y;
        for (differences, lag) in sums.differences.iter_mut().zip(LAGS) {
            if let Some(newer) = samples.get(at + lag) {
                differences.add(sample, *newer);
            }
        }
        walked.highest = if sample.1 > walked.highest { sample.1 } else { walked.highest };
        show(n - at, walked.sums);
    }
    walked
}

/// The same of values newest first, a step apart: the sums over each suffix of these lengths, as far as there are so many. What is
/// summed of times alone follows from their number, and steps upwards are summed over all of them only.
pub(super) fn walk_even(
    values: &[f64],
    step_s: f64,
    lengths: &[usize],
    suffixes: &mut [Option<Sums>],
) -> Walked {
    let mut walk = EvenWalk { values, step_s, to: 0, y: 0.0, xy: 0.0, moved_squared: [0.0; 2] };
    for (length, suffix) in lengths.iter().zip(suffixes).filter(|(length, _)| **length <= values.len()) {
        *suffix = Some(walk.on(*length));
    }
    let mut sums = walk.on(values.len());
    for (differences, lag) in sums.differences.iter_mut().zip(LAGS) {
        let up = |old: f64, new: f64| {
            let up = if new > old { new - old } else { 0.0 };
            up * up
        };
        let pairs = (lag.min(values.len()), values.len());
        differences.upward_squared = 2.0 * over_pairs(values, lag, pairs, up);
    }
    Walked { sums, highest: highest(values) }
}

/// A walk back over values a step apart.
struct EvenWalk<'a> {
    /// Newest first.
    values: &'a [f64],
    step_s: f64,
    /// How many it has passed.
    to: usize,
    y: f64,
    xy: f64,
    /// Of the differences over each of [`LAGS`].
    moved_squared: [f64; 2],
}

impl EvenWalk<'_> {
    /// The sums over the newest so many, of which there are as many, and which are no fewer than before.
    fn on(&mut self, length: usize) -> Sums {
        let (values, newest) = (self.values, self.values[0]);
        // The first differences begin with the first lag.
        while self.to < length.min(LAGS[1]) {
            self.add(self.to, newest);
        }
        let from = self.to;
        let walked = &values[from.saturating_sub(LAGS[1])..length];
        for (at, &[four_later, .., next, value]) in
            (from..length).zip(walked.array_windows::<{ LAGS[1] + 1 }>())
        {
            let (y, near, far) = (value - newest, next - value, four_later - value);
            self.y += y;
            self.xy += at as f64 * y;
            self.moved_squared[0] += near * near;
            self.moved_squared[1] += far * far;
        }
        self.to = length;
        self.sums()
    }

    /// One value that is too new to have another so much later.
    fn add(&mut self, at: usize, newest: f64) {
        let y = self.values[at] - newest;
        self.y += y;
        self.xy += at as f64 * y;
        if let Some(later) = at.checked_sub(LAGS[0]) {
            let near = self.values[later] - self.values[at];
            self.moved_squared[0] += near * near;
        }
        self.to = at + 1;
    }

    fn sums(&self) -> Sums {
        let (values, newest, to, step_s) = (self.values, self.values[0], self.to, self.step_s);
        let n = to as f64;
        let of_lag = |(lag, moved_squared): (usize, f64)| {
            let count = to.saturating_sub(lag) as f64;
            let dt = lag as f64 * step_s;
            // What all but the ends add, the next difference takes away.
            let from_newest = |range: std::ops::Range<usize>| -> f64 {
                values[range].iter().map(|value| value - newest).sum()
            };
            let moved = from_newest(0..lag.min(to)) - from_newest(to - lag.min(to)..to);
            Differences {
                count,
                time: count * dt,
                time_squared: count * (dt * dt),
                moved_squared,
                moved_by_time: dt * moved,
                upward_squared: 0.0,
            }
        };
        let [near, far] = self.moved_squared;
        Sums {
            count: to,
            t: -step_s * (n * (n - 1.0) / 2.0),
            y: self.y,
            tt: step_s * step_s * ((n - 1.0) * n * (2.0 * n - 1.0) / 6.0),
            ty: -step_s * self.xy,
            differences: [of_lag((LAGS[0], near)), of_lag((LAGS[1], far))],
        }
    }
}

impl Sums {
    /// The line through the samples, and what is around it. `None` where no time passes.
    pub(super) fn fit(&self, floor: f64) -> Option<Fit> {
        let n = self.count as f64;
        let sxx = self.tt - self.t * self.t / n;
        let sxy = self.ty - self.t * self.y / n;
        let seconds = self.differences[0].time;
        if seconds <= 0.0 {
            return None;
        }
        let drift = sxy / sxx;
        let noise = self.noise(|differences| differences.around(drift), floor);
        // Variance of the least-squares slope under a random walk is 6/5 · σ²/T, under white noise r²/Sxx.
        let variance_of_drift = 1.2 * noise.walk / seconds + noise.white / sxx;
        Some(Fit { drift, variance_of_drift, noise, seconds })
    }

    /// By the variances of differences over one and over four steps: a walk's grows with the distance, white noise's
    /// doesn't.
    fn noise(&self, mean_square: impl Fn(&Differences) -> f64, floor: f64) -> Noise {
        let [near, far] = &self.differences;
        let (near_s, far_s) = (near.time / near.count, far.time / far.count);
        let (near, far) = (mean_square(near), mean_square(far));
        let walk = ((far - near) / (far_s - near_s).max(f64::MIN_POSITIVE)).max(0.0);
        let white = ((near - walk * near_s) / 2.0).max(0.0);
        Noise { walk, white: white + floor * floor }
    }
}

impl Walked {
    /// The scatter if it does not drift: of moves towards the limit alone.
    pub(super) fn upward(&self, floor: f64) -> Noise {
        self.sums.noise(|differences| differences.upward_squared / differences.count, floor)
    }
}
