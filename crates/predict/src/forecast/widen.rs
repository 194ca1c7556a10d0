//! Intervals that hold what they promise: how much wider they have to be, by days of the past that a fit had not seen.

use super::{Forecast, Settings, fit::quantile_of};

/// What is asked of an interval while it is judged.
const COVERAGE: f64 = 0.8;
/// Shares of the history after which a fit that saw no more is judged by what came next.
const ORIGINS: [f64; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];
/// How much of what came next, as a share of the history.
const NEXT: f64 = 0.1;
/// Values that a fit must have seen to be judged.
const LEAST: usize = 48;
/// The past is short, and one bad day is one bad day: no interval is made narrower than this, nor wider.
const BOUNDS: (f64, f64) = (0.8, 4.0);

/// By what the distance of every quantile from the median is to be multiplied: conformal prediction with the error over the predicted width as the
/// score, by rolling origins (Lei et al. 2018, <https://doi.org/10.1080/01621459.2017.1307116>, for the score). 1 where too little was seen.
pub(super) fn widening(known: &[(f64, f64)], settings: &Settings) -> f64 {
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return 1.0 };
    let span = last.0 - first.0;
    let mut scores = Vec::new();
    for origin in ORIGINS {
        let until = first.0 + origin * span;
        let seen = known.partition_point(|(t, _)| *t <= until);
        let next = known.partition_point(|(t, _)| *t <= until + NEXT * span);
        if seen < LEAST || next == seen {
            continue;
        }
        let Ok(forecast) = Forecast::narrow(&known[..seen], settings) else { continue };
        // As many of each origin, however dense the values are.
        let every = (next - seen).div_ceil(200);
        scores.extend(known[seen..next].iter().step_by(every).filter_map(|point| score(&forecast, *point)));
    }
    scores.sort_by(f64::total_cmp);
    if scores.len() < LEAST { 1.0 } else { quantile_of(&scores, COVERAGE).clamp(BOUNDS.0, BOUNDS.1) }
}

/// How far a value is from the median, in half widths of the interval on its side.
fn score(forecast: &Forecast, (at_s, value): (f64, f64)) -> Option<f64> {
    let (low, high) = forecast.interval(at_s, COVERAGE);
    let middle = forecast.at(at_s);
    let half = if value > middle { high - middle } else { middle - low };
    let off = (value - middle).abs();
    let score = if off <= 1e-9 * forecast.unit { 0.0 } else { off / half.max(1e-9 * forecast.unit) };
    score.is_finite().then_some(score)
}
