//! Does a metric drift, how fast, and how sure is that?
//!
//! A metric is taken as a random walk with drift, seen through white noise. Where the drift began is not known, so
//! suffixes of the window compete as *"it has drifted since then"*, each with a Bayes factor against *"it does not drift"*;
//! the answer is a mixture. What makes it honest is the noise: the part of the scatter that grows with distance in
//! time (the walk) counts against the drift far more than the part that doesn't. So a step, a burst or a wander
//! is no trend, while a leak that climbs evenly is one after a dozen samples.

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

/// Estimates the course of a metric from `(seconds, value)` samples, oldest first, gaps left out.
///
/// `scale` is a length that matters (the limit): deviations below a ten-thousandth of it are taken as measuring noise. `None` with fewer than 8 samples.
#[must_use]
pub fn estimate(samples: &[(f64, f64)], scale: f64) -> Option<TrendMixture> {
    let n = samples.len();
    if n < SUFFIXES[0] {
        return None;
    }
    let floor = (scale.abs() * 1e-4).max(f64::MIN_POSITIVE);
    let longest = &samples[n.saturating_sub(SUFFIXES[SUFFIXES.len() - 1])..];
    let still = Noise::around(longest, 0.0, floor, Moves::Upward);
    let candidates: Vec<(f64, Trend)> = SUFFIXES
        .iter()
        .filter(|length| **length <= n)
        .filter_map(|length| candidate(&samples[n - length..], floor))
        .collect();
    let prior_each = PRIOR_DRIFT / SUFFIXES.len() as f64;
    let total = (1.0 - PRIOR_DRIFT) + candidates.iter().map(|(bf, _)| prior_each * bf).sum::<f64>();
    let mut trends: Vec<Trend> = candidates
        .into_iter()
        .map(|(bf, trend)| Trend { weight: prior_each * bf / total, ..trend })
        .filter(|trend| trend.weight >= LEAST_WEIGHT)
        .collect();
    trends.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    Some(TrendMixture { trends, level: still.level(longest, 0.0), variance: still.walk })
}

/// The Bayes factor of "drifts since the first of these samples" against "does not drift", and the drift.
fn candidate(samples: &[(f64, f64)], floor: f64) -> Option<(f64, Trend)> {
    let n = samples.len() as f64;
    let (t0, t1) = (samples.first()?.0, samples.last()?.0);
    let seconds = t1 - t0;
    if seconds <= 0.0 {
        return None;
    }
    let mean_t = samples.iter().map(|s| s.0).sum::<f64>() / n;
    let mean_y = samples.iter().map(|s| s.1).sum::<f64>() / n;
    let sxx: f64 = samples.iter().map(|s| (s.0 - mean_t).powi(2)).sum();
    let sxy: f64 = samples.iter().map(|s| (s.0 - mean_t) * (s.1 - mean_y)).sum();
    let drift = sxy / sxx;
    let noise = Noise::around(samples, drift, floor, Moves::All);
    // Variance of the least-squares slope under a random walk is 6/5 · σ²/T, under white noise r²/Sxx.
    let variance_of_drift = 1.2 * noise.walk / seconds + noise.white / sxx;
    let t = drift / variance_of_drift.sqrt();
    // Student's t with few degrees of freedom, for the noise is estimated from the same few samples; the factor in
    // front is the Occam factor of a drift whose prior scale is as wide as what the window could show.
    let dof = n - 2.0;
    let ln_bf = 0.5 * (dof + 1.0) * (t * t / dof).ln_1p() - 0.5 * (1.0 + t * t).ln() - 0.5 * n.ln();
    let standard_error = (variance_of_drift + (MODEL_ERROR * drift).powi(2)).sqrt();
    let trend = Trend {
        drift,
        standard_error,
        seconds,
        weight: 0.0,
        level: noise.level(samples, drift),
        variance: noise.walk,
    };
    Some((ln_bf.clamp(-50.0, 50.0).exp(), trend))
}

/// Which moves count as scatter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moves {
    /// Both ways.
    All,
    /// Only upwards, counted twice: of the same size for a walk without preference, and nothing for a memory that was
    /// freed or a cache that was dropped, which bring no limit nearer.
    Upward,
}

/// The scatter of samples around a line, split into a walk and white noise.
struct Noise {
    /// Units² per second.
    walk: f64,
    /// Units².
    white: f64,
}

impl Noise {
    /// By the variances of differences over one and over four steps: a walk's grows with the distance, white noise's
    /// doesn't.
    fn around(samples: &[(f64, f64)], drift: f64, floor: f64, moves: Moves) -> Self {
        let squares = |lag: usize| {
            let pairs = samples.iter().zip(&samples[lag..]);
            let (sum, time) = pairs.fold((0.0, 0.0), |(sum, time), (a, b)| {
                let dt = b.0 - a.0;
                let moved = match moves {
                    Moves::All => (b.1 - a.1 - drift * dt).powi(2),
                    Moves::Upward => 2.0 * (b.1 - a.1 - drift * dt).max(0.0).powi(2),
                };
                (sum + moved, time + dt)
            });
            let count = (samples.len() - lag) as f64;
            (sum / count, time / count)
        };
        let (near, near_s) = squares(1);
        let (far, far_s) = squares(4);
        let walk = ((far - near) / (far_s - near_s).max(f64::MIN_POSITIVE)).max(0.0);
        let white = ((near - walk * near_s) / 2.0).max(0.0);
        Self { walk, white: white + floor * floor }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn drifting(mixture: &TrendMixture) -> f64 {
        mixture.trends.iter().filter(|t| t.drift > 0.0).map(|t| t.weight).sum()
    }

    fn at(values: impl IntoIterator<Item = f64>) -> Vec<(f64, f64)> {
        values.into_iter().enumerate().map(|(i, v)| (i as f64 * 0.25, v)).collect()
    }

    fn noise(i: usize) -> f64 {
        // A fixed, unpatterned sequence in [-1, 1].
        ((i * 7919 + 104_729) % 1009) as f64 / 504.5 - 1.0
    }

    #[test]
    fn an_even_climb_is_a_trend_soon() {
        let samples =
            at((0..60).map(|i| 20.0 + 0.1 * noise(i) + if i < 48 { 0.0 } else { (i - 48) as f64 * 1.5 }));
        let mixture = estimate(&samples, 96.0).unwrap();
        assert!(drifting(&mixture) > 0.95, "{mixture:?}");
        let best = mixture.trends[0];
        assert!((best.drift - 6.0).abs() < 1.0, "{best:?}");
    }

    #[test]
    fn a_step_is_no_trend() {
        let samples = at((0..60).map(|i| 20.0 + 0.1 * noise(i) + if i < 50 { 0.0 } else { 30.0 }));
        assert!(drifting(&estimate(&samples, 96.0).unwrap()) < 0.2);
    }

    #[test]
    fn noise_and_spikes_are_no_trend() {
        let mut values: Vec<f64> = (0..60).map(|i| 20.0 + 5.0 * noise(i)).collect();
        assert!(drifting(&estimate(&at(values.clone()), 96.0).unwrap()) < 0.1);
        values[58] = 300.0;
        let mixture = estimate(&at(values), 96.0).unwrap();
        assert!(drifting(&mixture) < 0.1);
        assert!(mixture.level < 60.0, "one spike is not the level: {}", mixture.level);
    }

    #[test]
    fn freed_memory_is_no_reason_to_fear_the_limit() {
        let samples = at((0..60).map(|i| if i < 40 { 80.0 } else { 20.0 } + 0.1 * noise(i)));
        let mixture = estimate(&samples, 96.0).unwrap();
        assert!(mixture.variance < 0.1, "{mixture:?}");
    }

    #[test]
    fn too_few_samples_are_no_opinion() {
        assert_eq!(estimate(&at((0..7).map(f64::from)), 96.0), None);
    }
}
