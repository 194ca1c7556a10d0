//! How unlike its own past a metric is.

use crate::column::{ends, median_within};

/// Scales the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;

/// Newest values that are judged; the rest of the window is the past they are judged against.
const NEWEST: usize = 3;

/// The least past that says what is usual.
const LEAST_PAST: usize = 12;

/// Values of the past that are looked at: more of them would hardly move a median, and cost more than all else.
const MOST_PAST: usize = crate::column::MOST;

/// The robust z-score of the median of the newest three values against median and MAD of the values before them
/// (Iglewicz & Hoaglin 1993), or of up to 64 of those, evenly spread. `None` when fewer than 15 values were measured,
/// or when they are too large to be told apart.
///
/// A single outlier moves neither side, so it is no anomaly; three in a row are. The deviation is never taken to be
/// less than 2% of the level, so that a metric that never moved isn't alarmed by its first tremble.
#[must_use]
pub fn robust_z(values: &[f64]) -> Option<f64> {
    let count = values.len();
    let newest = [values.get(count.checked_sub(3)?)?, values.get(count - 2)?, values.get(count - 1)?];
    let mut past = [0.0; MOST_PAST];
    let values = &values[..count - NEWEST];
    let every = values.len().div_ceil(MOST_PAST).max(1);
    let spread = values.iter().rev().step_by(every);
    let spread = past.iter_mut().zip(spread).map(|(place, value)| *place = *value).count();
    against(newest.map(|v| *v), values.len(), &mut past[..spread])
}

/// The same of values newest first.
pub(crate) fn robust_z_newest_first(values: &[f64]) -> Option<f64> {
    let (newest, past) = values.split_first_chunk::<NEWEST>()?;
    let every = past.len().div_ceil(MOST_PAST).max(1);
    let mut spread = [0.0; MOST_PAST];
    let spread = &mut spread[..past.len().div_ceil(every)];
    match every {
        1 => spread.copy_from_slice(past),
        // The most common, without a step that has to be looked up.
        2 => {
            let (pairs, last) = past.as_chunks::<2>();
            spread.iter_mut().zip(pairs).for_each(|(place, [newer, _])| *place = *newer);
            if let ([.., place], [last]) = (&mut *spread, last) {
                *place = *last;
            }
        }
        _ => spread.iter_mut().zip(past.iter().step_by(every)).for_each(|(place, value)| *place = *value),
    }
    against(*newest, past.len(), spread)
}

/// Of the newest values against those before them, of which there are so many, and some are at hand. Those are spent.
fn against(mut newest: [f64; NEWEST], past: usize, spread: &mut [f64]) -> Option<f64> {
    if past < LEAST_PAST {
        return None;
    }
    let (lowest, highest) = ends(spread);
    let centre = median_within(spread, (lowest, highest));
    spread.iter_mut().for_each(|v| *v = (*v - centre).abs());
    let farthest = (centre - lowest).max(highest - centre);
    let deviation = MAD_TO_SIGMA * median_within(spread, (0.0, farthest));
    let floor = 0.02 * centre.abs() + f64::MIN_POSITIVE;
    newest.sort_unstable_by(f64::total_cmp);
    let z = (newest[NEWEST / 2] - centre) / deviation.max(floor);
    // Values near the end of what a float holds differ by infinity; that is no opinion either.
    (!z.is_nan()).then(|| z.clamp(-99.0, 99.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spike_is_usual_three_are_not() {
        let mut values: Vec<f64> = (0..40).map(|i| 100.0 + f64::from(i % 5)).collect();
        values[39] = 900.0;
        assert!(robust_z(&values).unwrap().abs() < 3.0);
        values[38] = 900.0;
        assert!(robust_z(&values).unwrap() > 6.0);
    }

    #[test]
    fn too_little_past_is_no_opinion() {
        assert_eq!(robust_z(&[1.0; 14]), None);
        assert_eq!(robust_z(&[0.0; 40]), Some(0.0));
    }
}
