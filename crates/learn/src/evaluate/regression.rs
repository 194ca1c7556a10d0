//! How far predicted times (or any other quantity) are from what came.
//!
//! Predicted and actual values are in one unit, which the figures are in, too. All of it is `None` without values, with one that is a NaN or
//! infinite, or when there are not as many of each.

use super::interval::{Estimate, wilson};

/// The root of the mean squared error.
#[must_use]
pub fn rmse(predicted: &[f64], actual: &[f64]) -> Option<f64> {
    mean(predicted, actual, |p, a| (p - a).powi(2)).map(f64::sqrt)
}

/// The mean absolute error.
#[must_use]
pub fn mae(predicted: &[f64], actual: &[f64]) -> Option<f64> {
    mean(predicted, actual, |p, a| (p - a).abs())
}

/// The score of the prognostics challenge of 2008 (Saxena et al. 2008, <https://doi.org/10.1109/PHM.2008.4711414>): the sum of
/// `exp(-d / 13) - 1` where the predicted life is `-d` too short and of `exp(d / 10) - 1` where it is `d` too long, so 0 is best and
/// being late costs more. Made for lives in cycles of some hundreds; in another unit it weighs differently. Large errors make it
/// infinite.
#[must_use]
pub fn phm08(predicted: &[f64], actual: &[f64]) -> Option<f64> {
    let loss = |p: f64, a: f64| {
        let late = p - a;
        (if late < 0.0 { -late / 13.0 } else { late / 10.0 }).exp_m1()
    };
    mean(predicted, actual, loss).map(|mean| mean * actual.len() as f64)
}

/// The mean loss of predicted quantiles `p` (strictly between 0 and 1), which the true ones make least (Koenker and Bassett 1978,
/// <https://doi.org/10.2307/1913643>).
#[must_use]
pub fn pinball(predicted: &[f64], actual: &[f64], p: f64) -> Option<f64> {
    if !(0.0 < p && p < 1.0) {
        return None;
    }
    mean(predicted, actual, |predicted, actual| {
        let above = actual - predicted;
        (p * above).max((p - 1.0) * above)
    })
}

/// The share of values inside their predicted intervals `(low, high)`, ends included, with Wilson's interval. Ends may be infinite.
#[must_use]
pub fn coverage(intervals: &[(f64, f64)], actual: &[f64], confidence: f64) -> Option<Estimate> {
    let is_known = |(low, high): &(f64, f64)| !low.is_nan() && !high.is_nan();
    if intervals.len() != actual.len()
        || !intervals.iter().all(is_known)
        || !actual.iter().all(|a| a.is_finite())
    {
        return None;
    }
    let inside = intervals.iter().zip(actual).filter(|((low, high), a)| low <= *a && *a <= high).count();
    wilson(inside, actual.len(), confidence)
}

/// The mean width of predicted intervals `(low, high)`. Coverage without it says little: the widest interval covers all.
#[must_use]
pub fn mean_width(intervals: &[(f64, f64)]) -> Option<f64> {
    let (low, high): (Vec<f64>, Vec<f64>) = intervals.iter().copied().unzip();
    mean(&high, &low, |high, low| high - low)
}

fn mean(predicted: &[f64], actual: &[f64], loss: impl Fn(f64, f64) -> f64) -> Option<f64> {
    let are_values = predicted.iter().chain(actual).all(|value| value.is_finite());
    if actual.is_empty() || predicted.len() != actual.len() || !are_values {
        return None;
    }
    Some(predicted.iter().zip(actual).map(|(p, a)| loss(*p, *a)).sum::<f64>() / actual.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_values_no_error() {
        for figure in [rmse, mae, phm08] {
            assert_eq!(figure(&[], &[]), None);
            assert_eq!(figure(&[1.0], &[]), None);
            assert_eq!(figure(&[f64::NAN], &[1.0]), None);
            assert_eq!(figure(&[1.0], &[f64::INFINITY]), None);
        }
        assert_eq!(pinball(&[1.0], &[1.0], 1.0), None);
        assert_eq!(pinball(&[1.0], &[1.0], f64::NAN), None);
        assert_eq!(coverage(&[], &[], 0.95), None);
        assert_eq!(coverage(&[(0.0, f64::NAN)], &[1.0], 0.95), None);
        assert_eq!(mean_width(&[]), None);
        assert_eq!(mean_width(&[(0.0, f64::INFINITY)]), None);
    }

    #[test]
    fn errors_are_what_one_works_out_by_hand() {
        let (predicted, actual) = ([3.0, 5.0, 10.0], [0.0, 9.0, 10.0]);
        assert!((rmse(&predicted, &actual).unwrap() - (25.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((mae(&predicted, &actual).unwrap() - 7.0 / 3.0).abs() < 1e-12);
        let expected = (0.3_f64).exp() - 1.0 + (4.0_f64 / 13.0).exp() - 1.0;
        assert!((phm08(&predicted, &actual).unwrap() - expected).abs() < 1e-12);
        assert!((pinball(&predicted, &actual, 0.9).unwrap() - (0.3 + 3.6) / 3.0).abs() < 1e-12);
        assert_eq!(phm08(&[1e6], &[0.0]), Some(f64::INFINITY));
    }

    #[test]
    fn intervals_cover_and_have_a_width() {
        let intervals = [(0.0, 1.0), (2.0, 5.0), (f64::NEG_INFINITY, 9.0), (4.0, 3.0)];
        assert_eq!(coverage(&intervals, &[1.0, 1.0, -8.0, 3.5], 0.95).unwrap().value, 0.5);
        assert_eq!(mean_width(&intervals[..2]), Some(2.0));
    }

    proptest! {
        /// The quantile of the values themselves is the best constant.
        #[test]
        fn the_true_quantile_has_the_least_loss(
            mut values in prop::collection::vec(-50.0..50.0_f64, 1..60),
            p in 0.05..0.95_f64,
            other in -60.0..60.0_f64,
        ) {
            values.sort_by(f64::total_cmp);
            let at = ((p * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1;
            let loss = |said: f64| pinball(&vec![said; values.len()], &values, p).unwrap();
            prop_assert!(loss(values[at]) <= loss(other) + 1e-9);
        }
    }
}
