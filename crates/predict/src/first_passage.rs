//! When does a metric that drifts and trembles reach its limit?
//!
//! For a Brownian motion with drift μ and variance σ² per second that starts `distance` below a barrier, the first
//! passage time is inverse Gaussian for μ > 0 (Schrödinger 1915; Folks & Chhikara 1978,
//! <https://doi.org/10.1111/j.2517-6161.1978.tb01039.x>); for μ ≤ 0 it is defective: the barrier may never be reached.

use crate::normal::{cdf, ln_cdf};

/// So many standard deviations off, what is left is below 3e-18: less than the rounding of what it is added to.
const SURE: f64 = 9.0;

/// The probability that the barrier is reached within `t_s` seconds.
///
/// `distance` is how far below the barrier it starts (at or above it: 1), `drift` its units per second, `variance` its
/// units² per second. With `variance` 0 the path is a straight line.
#[must_use]
pub fn probability_within(t_s: f64, distance: f64, drift: f64, variance: f64) -> f64 {
    if distance <= 0.0 {
        return 1.0;
    }
    if t_s <= 0.0 {
        return 0.0;
    }
    let sigma_root_t = (variance * t_s).sqrt();
    // Below this the two terms lose all digits to cancellation; the straight line is exact to the same order.
    if sigma_root_t <= 1e-9 * distance {
        return if drift * t_s >= distance { 1.0 } else { 0.0 };
    }
    let ahead = (drift * t_s - distance) / sigma_root_t;
    if ahead >= SURE {
        return 1.0;
    }
    // Both terms together are at most exp(-ahead²/2) there.
    if ahead <= -SURE && drift * t_s >= -distance {
        return 0.0;
    }
    let direct = cdf(ahead);
    let reflected =
        (2.0 * drift * distance / variance + ln_cdf(-(drift * t_s + distance) / sigma_root_t)).exp();
    (direct + reflected).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_the_reflection_principle_without_drift() {
        // P(max of BM up to t ≥ d) = 2 (1 − Φ(d/√t)).
        let p = probability_within(4.0, 1.0, 0.0, 1.0);
        assert!((p - 2.0 * (1.0 - cdf(0.5))).abs() < 1e-12);
    }

    #[test]
    fn what_is_passed_over_is_nothing() {
        let (variance, t) = (0.7f64, 3.0f64);
        let sigma = (variance * t).sqrt();
        for drift in [-2.0, -0.1, 0.0, 0.1, 2.0] {
            let at = |z: f64| probability_within(t, drift * t + z * sigma, drift, variance);
            let (sooner, later) = (at(8.99), at(9.01));
            assert!(sooner - later < 1e-17, "{drift}: {sooner} and {later}");
            let near = |z: f64| probability_within(t, drift * t - z * sigma, drift, variance);
            assert!((near(9.01) - near(8.99)).abs() < 1e-15);
        }
    }

    #[test]
    fn a_straight_line_arrives_when_it_arrives() {
        assert_eq!(probability_within(9.9, 10.0, 1.0, 0.0), 0.0);
        assert_eq!(probability_within(10.1, 10.0, 1.0, 0.0), 1.0);
    }

    proptest! {
        #[test]
        fn is_a_distribution_in_time(
            distance in 0.01f64..1e3, drift in -10.0f64..10.0, variance in 0.0f64..100.0, t in 0.0f64..1e4, more in 0.0f64..1e4,
        ) {
            let earlier = probability_within(t, distance, drift, variance);
            let later = probability_within(t + more, distance, drift, variance);
            prop_assert!((0.0..=1.0).contains(&earlier));
            prop_assert!(later >= earlier - 1e-6, "{earlier} then {later}");
        }

        #[test]
        fn nearer_and_faster_is_likelier(
            distance in 0.1f64..1e2, drift in -5.0f64..5.0, variance in 0.01f64..50.0, t in 0.1f64..1e3,
        ) {
            let p = probability_within(t, distance, drift, variance);
            prop_assert!(probability_within(t, distance * 0.9, drift, variance) >= p - 1e-9);
            prop_assert!(probability_within(t, distance, drift + 0.1, variance) >= p - 1e-9);
        }
    }
}
