use serde::{Deserialize, Serialize};

use super::fit::quantile_of;

/// How what is off stays off: an exponential average of the newest residuals, which fades with time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Fading {
    /// The average at the end of the history, in units of the forecast.
    off: f64,
    /// For each second.
    rate: f64,
}

impl Fading {
    /// What is left after so many seconds.
    pub(super) fn left(&self, ahead_s: f64) -> f64 {
        self.off * (-self.rate * ahead_s).exp()
    }
}

/// Quantiles of errors that are kept.
const LEVELS: [f64; 13] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.975, 0.99];

/// Errors of the past, by how far ahead was looked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Errors {
    /// Seconds ahead, ascending.
    ahead_s: Vec<f64>,
    /// Of each, the quantiles of [`LEVELS`], in units of the forecast.
    quantiles: Vec<Vec<f64>>,
    /// Correlation of residuals so far apart.
    alike: Vec<f64>,
}

impl Errors {
    /// The quantile of errors so far ahead; between those kept by straight line, in the logarithm of the time.
    pub(super) fn quantile(&self, ahead_s: f64, p: f64) -> f64 {
        let (before, after, share) = self.place(ahead_s);
        let at = |i: usize| self.quantiles.get(i).map_or(0.0, |of| interpolate(of, p));
        at(before) + share * (at(after) - at(before))
    }

    /// The correlation of residuals so far apart, 0 to 1.
    pub(super) fn alike(&self, apart_s: f64) -> f64 {
        let (before, after, share) = self.place(apart_s);
        let at = |i: usize| self.alike.get(i).copied().unwrap_or(0.0);
        (at(before) + share * (at(after) - at(before))).clamp(0.0, 0.999)
    }

    fn place(&self, ahead_s: f64) -> (usize, usize, f64) {
        let last = self.ahead_s.len().saturating_sub(1);
        let after = self.ahead_s.partition_point(|t| *t < ahead_s).min(last);
        let before = after.saturating_sub(1);
        let (low, high) = (self.ahead_s[before], self.ahead_s[after]);
        let share =
            if after > before { ((ahead_s / low).ln() / (high / low).ln()).clamp(0.0, 1.0) } else { 0.0 };
        (before, after, share)
    }
}

fn interpolate(quantiles: &[f64], p: f64) -> f64 {
    let after = LEVELS.partition_point(|level| *level < p).min(LEVELS.len() - 1);
    let before = after.saturating_sub(1);
    let width = LEVELS[after] - LEVELS[before];
    let share = if width > 0.0 { ((p - LEVELS[before]) / width).clamp(0.0, 1.0) } else { 0.0 };
    quantiles[before] + share * (quantiles[after] - quantiles[before])
}

/// How fast the average follows: the weight of the newest residual.
const GAINS: [f64; 5] = [0.03, 0.1, 0.3, 0.6, 1.0];
/// How long it takes to fade by half, as shares of the history.
const HALVES: [f64; 8] = [0.0, 0.002, 0.006, 0.02, 0.06, 0.2, 0.6, 2.0];
/// Points whose errors are looked at, for each distance, at most.
const LOOKS: usize = 1_000;

/// How what is off is averaged, and how it fades.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    gain: f64,
    /// For each second; infinite: at once.
    rate: f64,
}

impl Habits {
    /// What is off at the end of these residuals, oldest first.
    pub(super) fn of(self, residuals: &[(f64, f64)]) -> Fading {
        match averages(residuals, self.gain).last() {
            Some(off) if self.rate.is_finite() => Fading { off: *off, rate: self.rate },
            _ => Fading { off: 0.0, rate: f64::MAX },
        }
    }
}

/// What residuals teach: how what is off fades, and what errors remain, by how far ahead is looked.
///
/// `residuals`: instants in seconds, ascending, and values; at least two.
pub(super) fn learn(residuals: &[(f64, f64)]) -> (Habits, Errors) {
    let n = residuals.len();
    let span = residuals[n - 1].0 - residuals[0].0;
    let lags = lags(n);
    let mut best = (f64::INFINITY, 1.0, 0.0);
    for gain in GAINS {
        let averages = averages(residuals, gain);
        for half in HALVES {
            let rate = if half > 0.0 { std::f64::consts::LN_2 / (half * span) } else { f64::INFINITY };
            let cost: f64 = lags
                .iter()
                .map(|lag| {
                    errors(residuals, &averages, rate, *lag).map(|(_, e)| e.abs()).sum::<f64>()
                        / looks(n, *lag)
                })
                .sum();
            // What gains nothing worth speaking of is not taken.
            if cost < best.0 * (1.0 - 1e-3) {
                best = (cost, gain, rate);
            }
        }
    }
    let (_, gain, rate) = best;
    let averages = averages(residuals, gain);
    let mut table = Errors { ahead_s: Vec::new(), quantiles: Vec::new(), alike: Vec::new() };
    let variance = residuals.iter().map(|r| r.1 * r.1).sum::<f64>() / n as f64;
    for lag in lags {
        let looked: Vec<(f64, f64)> = errors(residuals, &averages, rate, lag).collect();
        let mean_ahead = looked.iter().map(|(ahead, _)| ahead).sum::<f64>() / looked.len() as f64;
        let mut sorted: Vec<f64> = looked.into_iter().map(|(_, error)| error).collect();
        sorted.sort_by(f64::total_cmp);
        let pairs = residuals.iter().zip(&residuals[lag..]);
        let product = pairs.map(|(a, b)| a.1 * b.1).sum::<f64>() / (n - lag) as f64;
        table.ahead_s.push(mean_ahead);
        table.quantiles.push(LEVELS.map(|p| quantile_of(&sorted, p)).to_vec());
        table.alike.push(if variance > 0.0 { (product / variance).clamp(0.0, 1.0) } else { 0.0 });
    }
    (Habits { gain, rate }, table)
}

/// Distances in points: 1, 2, 4 … up to a third of the history.
fn lags(n: usize) -> Vec<usize> {
    std::iter::successors(Some(1usize), |lag| Some(lag * 2))
        .take_while(|lag| *lag == 1 || lag * 3 <= n)
        .collect()
}

fn averages(residuals: &[(f64, f64)], gain: f64) -> Vec<f64> {
    let mut average = 0.0;
    let mut out = Vec::with_capacity(residuals.len());
    for (_, residual) in residuals {
        average += gain * (residual - average);
        out.push(average);
    }
    out
}

fn stride(n: usize, lag: usize) -> usize {
    ((n - lag) / LOOKS).max(1)
}

fn looks(n: usize, lag: usize) -> f64 {
    (n - lag).div_ceil(stride(n, lag)) as f64
}

/// Seconds ahead and errors of looking `lag` points ahead.
fn errors<'a>(
    residuals: &'a [(f64, f64)],
    averages: &'a [f64],
    rate: f64,
    lag: usize,
) -> impl Iterator<Item = (f64, f64)> + 'a {
    let n = residuals.len();
    (0..n - lag).step_by(stride(n, lag)).map(move |i| {
        let ahead = residuals[i + lag].0 - residuals[i].0;
        let fading = Fading { off: if rate.is_finite() { averages[i] } else { 0.0 }, rate };
        let left = if rate.is_finite() { fading.left(ahead) } else { 0.0 };
        (ahead, residuals[i + lag].1 - left)
    })
}
