use serde::{Deserialize, Serialize};
use statrs::{
    distribution::{ChiSquared, ContinuousCDF},
    function::erf::erf_inv,
};

/// A figure with its interval, all in the figure's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// What was found.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// The share `hits / of` with Wilson's score interval, which stays inside 0 to 1 and is sound for small numbers (Wilson 1927,
/// <https://doi.org/10.1080/01621459.1927.10502953>; recommended by Brown, Cai and DasGupta 2001,
/// <https://doi.org/10.1214/ss/1009213286>).
///
/// `confidence` is strictly between 0 and 1, such as 0.95. `None` for a share of nothing, or of more than all.
#[must_use]
pub fn wilson(hits: usize, of: usize, confidence: f64) -> Option<Estimate> {
    if of == 0 || hits > of || !is_confidence(confidence) {
        return None;
    }
    let z = std::f64::consts::SQRT_2 * erf_inv(confidence);
    let n = of as f64;
    let value = hits as f64 / n;
    let scale = 1.0 + z * z / n;
    let centre = (value + z * z / (2.0 * n)) / scale;
    let half = z / scale * (value * (1.0 - value) / n + z * z / (4.0 * n * n)).sqrt();
    // At the ends, rounding aside, the interval ends there too.
    let low = if hits == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if hits == of { 1.0 } else { (centre + half).min(1.0) };
    Some(Estimate { value, low, high })
}

/// The rate `count / exposure`, per unit of the exposure, with the exact interval of a Poisson mean (Garwood 1936,
/// <https://doi.org/10.1093/biomet/28.3-4.437>).
///
/// `confidence` is strictly between 0 and 1. `None` unless the exposure is finite and above 0.
#[must_use]
pub fn poisson(count: u64, exposure: f64, confidence: f64) -> Option<Estimate> {
    if !(exposure.is_finite() && exposure > 0.0 && is_confidence(confidence)) {
        return None;
    }
    let tail = (1.0 - confidence) / 2.0;
    let k = count as f64;
    let low = if count == 0 { 0.0 } else { ChiSquared::new(2.0 * k).ok()?.inverse_cdf(tail) / 2.0 };
    let high = ChiSquared::new(2.0 * k + 2.0).ok()?.inverse_cdf(1.0 - tail) / 2.0;
    Some(Estimate { value: k / exposure, low: low / exposure, high: high / exposure })
}

/// The quantile `p` (0 to 1) of ascending values, between two of them by straight line (type 7 of Hyndman and Fan 1996,
/// <https://doi.org/10.1080/00031305.1996.10473566>). `None` of nothing.
#[must_use]
pub fn quantile(ascending: &[f64], p: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&p) {
        return None;
    }
    let place = p * ascending.len().checked_sub(1)? as f64;
    let low = ascending[place.floor() as usize];
    let high = ascending[place.ceil() as usize];
    // Equal ones first: between two infinities there is no line.
    Some(if low == high { low } else { low + place.fract() * (high - low) })
}

pub(super) fn is_confidence(confidence: f64) -> bool {
    0.0 < confidence && confidence < 1.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_interval_has_none() {
        assert_eq!(wilson(0, 0, 0.95), None);
        assert_eq!(wilson(3, 2, 0.95), None);
        for confidence in [0.0, 1.0, -1.0, f64::NAN] {
            assert_eq!(wilson(1, 2, confidence), None);
            assert_eq!(poisson(1, 2.0, confidence), None);
        }
        for exposure in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(poisson(1, exposure, 0.95), None);
        }
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0], f64::NAN), None);
    }

    #[test]
    fn quantiles_lie_on_the_line_between_values() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile(&[7.0], 0.3), Some(7.0));
        assert_eq!(quantile(&[1.0, f64::INFINITY, f64::INFINITY], 0.75), Some(f64::INFINITY));
    }

    proptest! {
        #[test]
        fn intervals_hold_what_was_found(hits in 0usize..500, more in 0usize..500, confidence in 0.01..0.999_f64) {
            if let Some(share) = wilson(hits, hits + more, confidence) {
                prop_assert!(0.0 <= share.low && share.low <= share.value);
                prop_assert!(share.value <= share.high && share.high <= 1.0);
            }
            let rate = poisson(hits as u64, 3.5, confidence.max(0.5)).unwrap();
            prop_assert!(0.0 <= rate.low && rate.low <= rate.value && rate.value <= rate.high);
        }
    }
}
