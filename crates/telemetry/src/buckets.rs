//! Quantiles estimated from the buckets of a histogram.

/// How many of what was measured fell between which bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Upper bounds, growing; the last bucket has none.
    pub bounds: Vec<f64>,
    /// One more than bounds.
    pub counts: Vec<u64>,
    /// Whether they are counted since the beginning, rather than since the point before.
    pub cumulative: bool,
}

impl Buckets {
    /// Whether bounds and counts fit each other.
    #[must_use]
    pub fn fit(&self) -> bool {
        self.counts.len() == self.bounds.len() + 1
            && self.bounds.iter().all(|bound| bound.is_finite())
            && self.bounds.windows(2).all(|pair| pair[0] < pair[1])
    }

    /// What was added since `before`; `None`: it is of another life or shape.
    #[must_use]
    pub fn since(&self, before: &Self) -> Option<Self> {
        if self.bounds != before.bounds {
            return None;
        }
        let added = self.counts.iter().zip(&before.counts).map(|(now, then)| now.checked_sub(*then));
        Some(Self { bounds: self.bounds.clone(), counts: added.collect::<Option<_>>()?, cumulative: false })
    }

    /// The value below which the share `q` lies, as if what is in a bucket lay evenly between its bounds: as
    /// Prometheus' `histogram_quantile` does it. What lies above the last bound counts as the last bound. `None`: nothing
    /// was counted, or the buckets don't fit.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total: f64 = self.counts.iter().map(|count| *count as f64).sum();
        let last = *self.bounds.last()?;
        if total <= 0.0 || !self.fit() || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * total;
        let mut below = 0.0;
        for (i, upper) in self.bounds.iter().enumerate() {
            let here = self.counts[i] as f64;
            if below + here >= rank && here > 0.0 {
                // The first bucket begins at 0, unless it ends below.
                let lower = if i > 0 { self.bounds[i - 1] } else { upper.min(0.0) };
                return Some(lower + (upper - lower) * ((rank - below) / here).clamp(0.0, 1.0));
            }
            below += here;
        }
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(bounds: &[f64], counts: &[u64]) -> Buckets {
        Buckets { bounds: bounds.to_vec(), counts: counts.to_vec(), cumulative: true }
    }

    #[test]
    fn quantiles_lie_evenly_within_their_bucket() {
        let seen = buckets(&[10.0, 20.0, 40.0], &[10, 10, 0, 0]);
        assert_eq!(seen.quantile(0.25), Some(5.0));
        assert_eq!(seen.quantile(0.5), Some(10.0));
        assert_eq!(seen.quantile(0.75), Some(15.0));
        assert_eq!(buckets(&[10.0], &[0, 5]).quantile(0.5), Some(10.0), "beyond the last bound");
        assert_eq!(buckets(&[10.0], &[0, 0]).quantile(0.5), None, "nothing is no latency of 0");
        assert_eq!(buckets(&[], &[5]).quantile(0.5), None);
    }

    #[test]
    fn only_what_was_added_since_counts() {
        let (then, now) = (buckets(&[1.0, 2.0], &[5, 0, 0]), buckets(&[1.0, 2.0], &[5, 4, 0]));
        assert_eq!(now.since(&then).and_then(|added| added.quantile(0.5)), Some(1.5));
        assert_eq!(then.since(&now), None, "it began anew");
        assert_eq!(now.since(&buckets(&[1.0, 3.0], &[0, 0, 0])), None);
    }

    proptest! {
        #[test]
        fn quantiles_grow_and_stay_within_the_bounds(
            steps in proptest::collection::vec(0.1f64..10.0, 1..8),
            counts in proptest::collection::vec(0u64..100, 9),
            a in 0.0f64..=1.0, b in 0.0f64..=1.0,
        ) {
            let bounds: Vec<f64> = steps.iter().scan(0.0, |at, step| { *at += step; Some(*at) }).collect();
            let counts = counts[..=bounds.len()].to_vec();
            let seen = Buckets { bounds, counts, cumulative: true };
            let quantiles = (seen.quantile(a.min(b)), seen.quantile(a.max(b)));
            prop_assert_eq!(quantiles.0.is_some(), seen.counts.iter().any(|count| *count > 0));
            if let (Some(low), Some(high)) = quantiles {
                prop_assert!(0.0 <= low && low <= high && high <= *seen.bounds.last().unwrap());
            }
        }
    }
}
