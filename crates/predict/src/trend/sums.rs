//! Sums over the newest samples of a metric, that all suffixes share.

use super::{Fit, Noise};
use crate::column::{Part, over_pairs};

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

    /// Those between values `from..to`, newest first, a step apart, and the one `lag` steps later.
    fn add_even(&mut self, values: &[f64], lag: usize, (from, to): (usize, usize), step_s: f64) {
        if from >= to {
            return;
        }
        let (count, dt) = ((to - from) as f64, lag as f64 * step_s);
        self.count += count;
        self.time += count * dt;
        self.time_squared += count * (dt * dt);
        self.moved_squared += over_pairs(values, lag, (from, to), |old, new| (new - old) * (new - old));
        self.moved_by_time += dt * over_pairs(values, lag, (from, to), |old, new| new - old);
        self.upward_squared += 2.0
            * over_pairs(values, lag, (from, to), |old, new| {
                let up = if new > old { new - old } else { 0.0 };
                up * up
            });
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
/// summed of times alone follows from their number.
pub(super) fn walk_even(
    values: &[f64],
    step_s: f64,
    lengths: &[usize],
    suffixes: &mut [Option<Sums>],
) -> Walked {
    let mut part = Part::default();
    let mut differences = [Differences::default(); 2];
    let (mut from, mut walked) = (0, Walked { sums: Sums::default(), highest: f64::NEG_INFINITY });
    let whole = values.len();
    let suffixes = suffixes.iter_mut().map(Some).chain(std::iter::once(None));
    for (length, suffix) in lengths.iter().copied().chain([whole]).zip(suffixes) {
        if length > whole {
            continue;
        }
        part = part.plus(Part::of(values, from, length));
        for (differences, lag) in differences.iter_mut().zip(LAGS) {
            differences.add_even(values, lag, (from.max(lag), length), step_s);
        }
        let n = length as f64;
        let sums = Sums {
            count: length,
            t: -step_s * (n * (n - 1.0) / 2.0),
            y: part.y,
            tt: step_s * step_s * ((n - 1.0) * n * (2.0 * n - 1.0) / 6.0),
            ty: -step_s * part.xy,
            differences,
        };
        walked.sums = sums;
        if let Some(suffix) = suffix {
            *suffix = Some(sums);
        }
        from = length;
    }
    for value in values {
        walked.highest = if *value > walked.highest { *value } else { walked.highest };
    }
    walked
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
