//! What evidence is worth: exact binomial bounds (Clopper & Pearson 1934, <https://doi.org/10.1093/biomet/26.4.404>).
//!
//! The exact interval is used because counts are small where it matters: at the canary, with no bad answer among a
//! few dozen, a normal approximation would claim certainty.

use forefend_domain::Evidence;
use statrs::distribution::{Beta, ContinuousCDF};

/// One-sided confidence of both bounds.
const CONFIDENCE: f64 = 0.95;

/// The share of bad answers that the mirror does not exceed, with 95% confidence. 1 while nothing was seen.
#[must_use]
pub fn bad_share_upper_bound(evidence: Evidence) -> f64 {
    let (n, k) = (evidence.requests as f64, evidence.bad.min(evidence.requests) as f64);
    if evidence.requests == 0 || k >= n {
        return 1.0;
    }
    if evidence.bad == 0 {
        // The general formula's closed form, which is also its hottest case.
        return 1.0 - (1.0 - CONFIDENCE).powf(1.0 / n);
    }
    Beta::new(k + 1.0, n - k).map_or(1.0, |beta| beta.inverse_cdf(CONFIDENCE))
}

/// The share of bad answers that the mirror exceeds, with 95% confidence. 0 while nothing bad was seen.
#[must_use]
pub fn bad_share_lower_bound(evidence: Evidence) -> f64 {
    let (n, k) = (evidence.requests as f64, evidence.bad.min(evidence.requests) as f64);
    if evidence.bad == 0 || evidence.requests == 0 {
        return 0.0;
    }
    Beta::new(k, n - k + 1.0).map_or(0.0, |beta| beta.inverse_cdf(1.0 - CONFIDENCE))
}

/// The share of the service's traffic that a mirror has earned: the most whose expected harm, share × upper bound of
/// its bad share, stays within `tolerated_harm`.
#[must_use]
pub fn earned_share(evidence: Evidence, tolerated_harm: f64) -> f64 {
    (tolerated_harm / bad_share_upper_bound(evidence)).min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_rule_of_three() {
        let bound = bad_share_upper_bound(Evidence { requests: 300, bad: 0 });
        assert!((bound - 3.0 / 300.0).abs() < 1e-3, "{bound}");
    }

    proptest! {
        #[test]
        fn more_good_answers_earn_more_and_bad_ones_less(requests in 1u64..100_000, bad in 0u64..50) {
            prop_assume!(bad <= requests);
            let at = |requests, bad| earned_share(Evidence { requests, bad }, 0.01);
            prop_assert!(at(requests + 10, bad) >= at(requests, bad) - 1e-9);
            prop_assert!(at(requests + 1, bad + 1) <= at(requests, bad) + 1e-9);
            let e = Evidence { requests, bad };
            prop_assert!(bad_share_lower_bound(e) <= bad as f64 / requests as f64 + 1e-9);
            prop_assert!(bad_share_upper_bound(e) >= bad as f64 / requests as f64 - 1e-9);
        }
    }
}
