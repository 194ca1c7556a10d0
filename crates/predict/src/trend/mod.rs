//! Does a metric drift, how fast, and how sure is that?
//!
//! A metric is taken as a random walk with drift, seen through white noise. Where the drift began is not known, so
//! suffixes of the window compete as *"it has drifted since then"*, each with a Bayes factor against *"it does not drift"*;
//! the answer is a mixture. What makes it honest is the noise: the part of the scatter that grows with distance in
//! time (the walk) counts against the drift far more than the part that doesn't. So a step, a burst or a wander
//! is no trend, while a leak that climbs evenly is one after a dozen samples.
//!
//! All suffixes are read off sums that grow with one walk back from the newest sample ([`sums`]), and most metrics are
//! ruled out before any logarithm is taken; what that may change is bounded, and held against the direct computation by a test.

mod sums;
mod teeth;
#[cfg(test)]
mod tests;

use forefend_domain::MetricWindow;

use crate::column;
use sums::{Sums, Walked};
pub(crate) use teeth::Teeth;

/// A drift that began `seconds` ago, with what speaks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Units per second.
    pub drift: f64,
    /// Standard error of the drift.
    pub standard_error: f64,
    /// How long it has been seen, in seconds.
    pub seconds: f64,
    /// Posterior probability of this trend; over all trends of a mixture at most 1, the rest is "no drift".
    pub weight: f64,
    /// The level at the newest sample, noise taken away.
    pub level: f64,
    /// Variance per second of the walk around the trend, in units².
    pub variance: f64,
}

/// Everything that is believed of a metric's course.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendMixture {
    /// The drifts that compete, most likely first.
    pub trends: Vec<Trend>,
    /// The level if it does not drift.
    pub level: f64,
    /// Variance per second of the walk if it does not drift.
    pub variance: f64,
}

/// Suffix lengths that compete, in samples.
const SUFFIXES: [usize; 8] = [8, 11, 16, 22, 32, 45, 64, 90];

/// Prior probability that a metric drifts at all, shared by the suffixes: about one metric in twenty is on its way
/// somewhere when one looks.
const PRIOR_DRIFT: f64 = 0.05;

/// Relative error of any drift that is extrapolated, besides its standard error: no process is exactly even.
const MODEL_ERROR: f64 = 0.1;

/// A trend believed less than this is dropped; what it was believed goes to "no drift". Eight of them together stay
/// far below any threshold that matters, and most metrics then cost one evaluation instead of a hundred.
const LEAST_WEIGHT: f64 = 0.005;

/// Measuring noise is never less: its square is still a number that can be divided by.
const LEAST_FLOOR: f64 = 1e-150;

/// Below this probability within its reach a metric need not be looked at any more closely: it is a billion times less than what makes
/// a driver.
pub(crate) const NEGLIGIBLE: f64 = 1e-12;

/// For each of [`SUFFIXES`] the t² below which the weight of its trend stays under [`LEAST_WEIGHT`], whatever the others
/// weigh: where the Bayes factor is `LEAST_WEIGHT · (1 − PRIOR_DRIFT) / (PRIOR_DRIFT / 8)`, a little less to be safe.
const LEAST_T2: [f64; SUFFIXES.len()] = [3.149, 3.617, 4.100, 4.478, 4.902, 5.278, 5.663, 6.033];

/// The newest samples of a metric with the sums over all suffixes that compete.
#[derive(Debug, Clone)]
pub(crate) struct Course<'a> {
    samples: &'a [(f64, f64)],
    floor: f64,
    suffixes: [Option<Sums>; SUFFIXES.len()],
    longest: Walked,
}

/// As many samples as anything is estimated from.
pub(crate) const LONGEST: usize = SUFFIXES[SUFFIXES.len() - 1];

impl<'a> Course<'a> {
    /// `(seconds, value)` samples, oldest first, gaps left out; `scale` as in [`estimate`]. `None` with fewer than 8.
    pub(crate) fn new(samples: &'a [(f64, f64)], scale: f64) -> Option<Self> {
        let n = samples.len();
        if n < SUFFIXES[0] {
            return None;
        }
        let floor = (scale.abs() * 1e-4).max(LEAST_FLOOR);
        let samples = &samples[n.saturating_sub(LONGEST)..];
        let mut suffixes = [None; SUFFIXES.len()];
        let longest = sums::walk(samples, |length, sums| {
            if let Some(at) = SUFFIXES.iter().position(|suffix| *suffix == length) {
                suffixes[at] = Some(sums);
            }
        });
        Some(Self { samples, floor, suffixes, longest })
    }

    /// The same of a metric that has no gaps, upwards towards its limit, without its samples: enough to tell whether it is negligible. `None` where it has gaps, or fewer
    /// than 8 samples.
    pub(crate) fn of_even(metric: &MetricWindow, scale: f64, values: &mut Vec<f64>) -> Option<Self> {
        let step_s = column::of(metric, LONGEST, values).filter(|_| values.len() >= SUFFIXES[0])?;
        let floor = (scale.abs() * 1e-4).max(LEAST_FLOOR);
        let mut suffixes = [None; SUFFIXES.len()];
        let longest = sums::walk_even(values, step_s, &SUFFIXES, &mut suffixes);
        Some(Self { samples: &[], floor, suffixes, longest })
    }

    /// With the samples that it was made of.
    pub(crate) fn with(self, samples: &'a [(f64, f64)]) -> Self {
        Self { samples, ..self }
    }

    /// Whether the probability that the limit is reached within `reach_s` is below [`NEGLIGIBLE`]: no trend weighs anything, and
    /// from the highest of its samples half of its walk is too weak by far (`P ≤ exp(−z²/2)`, the reflection principle with the
    /// Chernoff bound).
    pub(crate) fn is_negligible(&self, limit: f64, reach_s: f64) -> bool {
        let distance = limit - self.longest.highest;
        // False where anything is not a number.
        let far = distance > 0.0
            && distance * distance > -2.0 * NEGLIGIBLE.ln() * 0.5 * self.still().walk * reach_s;
        far && !self.may_drift()
    }

    /// Whether any trend may weigh enough to be kept.
    fn may_drift(&self) -> bool {
        self.suffixes.iter().zip(LEAST_T2).any(|(sums, least)| {
            let Some(Fit { drift, variance_of_drift, .. }) = sums.as_ref().and_then(|s| s.fit(self.floor))
            else {
                return false;
            };
            // Not the other way round: what is not a number may be anything.
            drift * drift >= least * variance_of_drift || drift.is_nan() || variance_of_drift.is_nan()
        })
    }

    fn still(&self) -> Noise {
        self.longest.upward(self.floor)
    }

    /// Whether it climbs and falls back, again and again.
    pub(crate) fn teeth(&self) -> Option<Teeth> {
        Teeth::of(self.samples)
    }

    /// Everything that is believed of it.
    pub(crate) fn mixture(&self) -> TrendMixture {
        let still = self.still();
        let level = still.level(self.samples, 0.0);
        let variance = still.walk;
        if !self.may_drift() {
            return TrendMixture { trends: Vec::new(), level, variance };
        }
        let candidates: Vec<(f64, Trend, usize)> =
            self.suffixes.iter().flatten().filter_map(|sums| self.candidate(sums)).collect();
        let prior_each = PRIOR_DRIFT / SUFFIXES.len() as f64;
        let total = (1.0 - PRIOR_DRIFT) + candidates.iter().map(|(bf, ..)| prior_each * bf).sum::<f64>();
        let mut trends: Vec<Trend> = candidates
            .into_iter()
            .map(|(bf, trend, length)| (Trend { weight: prior_each * bf / total, ..trend }, length))
            .filter(|(trend, _)| trend.weight >= LEAST_WEIGHT)
            .map(|(trend, length)| {
                let samples = &self.samples[self.samples.len() - length..];
                let noise = Noise { walk: trend.variance, white: trend.level };
                Trend { level: noise.level(samples, trend.drift), ..trend }
            })
            .collect();
        trends.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        TrendMixture { trends, level, variance }
    }

    /// The Bayes factor of "drifts since the first of these samples" against "does not drift", the drift, and of how many samples. In
    /// the place of its level stands the white noise, until it is known that the trend is kept.
    fn candidate(&self, sums: &Sums) -> Option<(f64, Trend, usize)> {
        let Fit { drift, variance_of_drift, noise, seconds } = sums.fit(self.floor)?;
        let n = sums.count as f64;
        let t = drift / variance_of_drift.sqrt();
        // Student's t with few degrees of freedom, for the noise is estimated from the same few samples; the factor in
        // front is the Occam factor of a drift whose prior scale is as wide as what the window could show.
        let dof = n - 2.0;
        let ln_bf = 0.5 * (dof + 1.0) * (t * t / dof).ln_1p() - 0.5 * (1.0 + t * t).ln() - 0.5 * n.ln();
        let standard_error = (variance_of_drift + (MODEL_ERROR * drift).powi(2)).sqrt();
        let trend =
            Trend { drift, standard_error, seconds, weight: 0.0, level: noise.white, variance: noise.walk };
        Some((ln_bf.clamp(-50.0, 50.0).exp(), trend, sums.count))
    }
}

/// Estimates the course of a metric from `(seconds, value)` samples, oldest first, gaps left out.
///
/// `scale` is a length that matters (the limit): deviations below a ten-thousandth of it are taken as measuring noise. `None` with fewer than 8 samples.
#[must_use]
pub fn estimate(samples: &[(f64, f64)], scale: f64) -> Option<TrendMixture> {
    Course::new(samples, scale).map(|course| course.mixture())
}

/// A line through samples, by least squares.
struct Fit {
    drift: f64,
    variance_of_drift: f64,
    noise: Noise,
    seconds: f64,
}

/// The scatter of samples around a line, split into a walk and white noise.
#[derive(Debug, Clone, Copy)]
struct Noise {
    /// Units² per second.
    walk: f64,
    /// Units².
    white: f64,
}

impl Noise {
    /// The level at the newest sample: an exponential average whose gain is the steady state of the Kalman filter of
    /// a local level (Harvey 1989, §4.1), run along the line.
    fn level(&self, samples: &[(f64, f64)], drift: f64) -> f64 {
        let steps = (samples.len() - 1) as f64;
        let step = (samples[samples.len() - 1].0 - samples[0].0) / steps.max(1.0);
        let ratio = self.walk * step / self.white;
        // Never smoother than the window allows.
        let gain =
            (((ratio * ratio + 4.0 * ratio).sqrt() - ratio) / 2.0).max(2.0 / (samples.len() as f64 + 1.0));
        let end = samples[samples.len() - 1].0;
        let detrended = |s: &(f64, f64)| s.1 + drift * (end - s.0);
        let start = samples.iter().map(detrended).sum::<f64>() / samples.len() as f64;
        samples.iter().map(detrended).fold(start, |level, y| level + gain.min(1.0) * (y - level))
    }
}
