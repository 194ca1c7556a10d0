//! How unlike its own past a metric is.

/// Scales the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;

/// Newest values that are judged; the rest of the window is the past they are judged against.
const NEWEST: usize = 3;

/// The least past that says what is usual.
const LEAST_PAST: usize = 12;

/// The robust z-score of the median of the newest three values against median and MAD of the values before them
/// (Iglewicz & Hoaglin 1993). `None` when fewer than 15 values were measured,
/// or when they are too large to be told apart.
///
/// A single outlier moves neither side, so it is no anomaly; three in a row are. The deviation is never taken to be
/// less than 2% of the level, so that a metric that never moved isn't alarmed by its first tremble.
#[must_use]
pub fn robust_z(values: &[f64]) -> Option<f64> {
    let split = values.len().checked_sub(NEWEST).filter(|past| *past >= LEAST_PAST)?;
    let (past, newest) = values.split_at(split);
    let centre = median(past.to_vec());
    let deviation = MAD_TO_SIGMA * median(past.iter().map(|v| (v - centre).abs()).collect());
    let floor = 0.02 * centre.abs() + f64::MIN_POSITIVE;
    let z = (median(newest.to_vec()) - centre) / deviation.max(floor);
    // Values near the end of what a float holds differ by infinity; that is no opinion either.
    (!z.is_nan()).then(|| z.clamp(-99.0, 99.0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let mid = values.len() / 2;
    if values.len() % 2 == 1 { values[mid] } else { f64::midpoint(values[mid - 1], values[mid]) }
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
