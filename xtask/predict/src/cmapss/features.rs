//! What trees are told of an engine after so many cycles: levels and slopes of its two axes.

use super::{data::NEW, wear::Point};

/// Cycles of the windows that are averaged.
const WINDOWS: [usize; 4] = [5, 10, 20, 40];

/// Cycles of the windows whose slope counts.
const SLOPES: [usize; 3] = [15, 30, 60];

/// How many features there are.
pub(super) const COUNT: usize = 2 * (WINDOWS.len() + SLOPES.len() + 1) + 1;

/// A row of features of an engine of which these points were seen, oldest first.
pub(super) fn features(points: &[Point]) -> Vec<f32> {
    let mut row = Vec::with_capacity(COUNT);
    for axis in 0..2 {
        let values: Vec<f64> = points.iter().map(|point| point[axis]).collect();
        row.extend(WINDOWS.map(|window| last_mean(&values, window) as f32));
        row.extend(SLOPES.map(|window| slope(newest(&values, window)) as f32));
        row.push(last_mean(&values[..values.len().min(NEW)], NEW) as f32);
    }
    row.push(points.len() as f32);
    row
}

pub(super) fn newest(values: &[f64], window: usize) -> &[f64] {
    &values[values.len().saturating_sub(window)..]
}

/// The mean of the newest values; 0 of none.
pub(super) fn last_mean(values: &[f64], window: usize) -> f64 {
    let last = newest(values, window);
    last.iter().sum::<f64>() / last.len().max(1) as f64
}

/// The slope of the straight line through the values, by least squares; 0 where there is none.
pub(super) fn slope(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (mx, my) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let sxy: f64 = values.iter().enumerate().map(|(i, v)| (i as f64 - mx) * (v - my)).sum();
    let sxx: f64 = (0..values.len()).map(|i| (i as f64 - mx).powi(2)).sum();
    if sxx > 0.0 { sxy / sxx } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_has_its_slope_and_its_levels() {
        let points: Vec<Point> = (0..100).map(|i| [2.0 * f64::from(i), 7.0]).collect();
        let row = features(&points);
        assert_eq!(row.len(), COUNT);
        // The newest value is 198, so the mean of five is 194.
        assert_eq!(row[0], 194.0);
        assert!(row[4..7].iter().all(|slope| (slope - 2.0).abs() < 1e-5), "{row:?}");
        assert_eq!(row[7], 19.0);
        assert_eq!(row[8..12], [7.0; 4]);
        assert_eq!(row[COUNT - 1], 100.0);
    }

    #[test]
    fn an_engine_just_begun_has_features_too() {
        assert!(features(&[[1.0, 2.0]]).iter().all(|feature| feature.is_finite()));
        assert_eq!(slope(&[3.0]), 0.0);
        assert_eq!(last_mean(&[], 5), 0.0);
    }
}
