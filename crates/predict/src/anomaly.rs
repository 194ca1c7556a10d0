//! How unlike its own past a metric is.

use crate::column::median;

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
    against(newest.map(|v| *v), values[..count - NEWEST].iter().rev())
}

/// The same of values newest first.
pub(crate) fn robust_z_newest_first(values: &[f64]) -> Option<f64> {
    let (newest, past) = values.split_first_chunk::<NEWEST>()?;
    against(*newest, past.iter())
}

/// Of the newest values against those before them, newest first.
fn against<'v>(mut newest: [f64; NEWEST], values: impl ExactSizeIterator<Item = &'v f64>) -> Option<f64> {
    let past = values.len();
    if past < LEAST_PAST {
        return None;
    }
    let mut spread = [0.0; MOST_PAST];
    let every = past.div_ceil(MOST_PAST);
    let count = past.div_ceil(every);
    for (place, value) in spread.iter_mut().zip(values.step_by(every)) {
        *place = *value;
    }
    let spread = &mut spread[..count];
    let centre = median(spread);
    spread.iter_mut().for_each(|v| *v = (*v - centre).abs());
    let deviation = MAD_TO_SIGMA * median(spread);
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
