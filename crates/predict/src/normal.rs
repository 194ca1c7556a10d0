//! The standard normal distribution, as far as it is needed here.

use statrs::function::erf::{erf_inv, erfc};

/// Φ(x).
pub(crate) fn cdf(x: f64) -> f64 {
    0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

/// ln Φ(x), finite far into the left tail, where Φ itself underflows.
pub(crate) fn ln_cdf(x: f64) -> f64 {
    if x > -30.0 {
        cdf(x).ln()
    } else {
        // Mills ratio, first two terms: relative error below 1e-5 here.
        -0.5 * x * x - (-x * (2.0 * std::f64::consts::PI).sqrt()).ln() - 1.0 / (x * x)
    }
}

/// The quantile function; `p` strictly between 0 and 1.
pub(crate) fn quantile(p: f64) -> f64 {
    std::f64::consts::SQRT_2 * erf_inv(2.0 * p - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_join_and_quantiles_invert() {
        assert!((ln_cdf(-29.999) - ln_cdf(-30.001)).abs() < 0.1);
        assert!((ln_cdf(-30.0 - 1e-9) - (-454.321_2)).abs() < 0.01);
        for p in [0.01, 0.1, 0.5, 0.9, 0.99] {
            assert!((cdf(quantile(p)) - p).abs() < 1e-9);
        }
    }
}
