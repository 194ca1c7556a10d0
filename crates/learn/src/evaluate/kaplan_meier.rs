use serde::{Deserialize, Serialize};

/// How long a row was watched, and how that ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// Seconds from the prediction to the failure, or to the end of watching.
    pub time_s: f64,
    /// Whether it ended with the failure. Otherwise all that is known is that the failure came later, if at all (censored).
    pub failed: bool,
}

/// The share of rows that nothing has happened to yet, over time, as rows leave unseen (Kaplan and Meier 1958,
/// <https://doi.org/10.1080/01621459.1958.10501452>).
///
/// At one instant failures come before ends of watching: who was watched until then without failing has survived it.
#[derive(Debug, Clone, PartialEq)]
pub struct KaplanMeier {
    /// When it falls, ascending.
    times_s: Vec<f64>,
    /// To what.
    shares: Vec<f64>,
    last_s: f64,
}

impl KaplanMeier {
    /// Of the time to failure. `None` without rows, or with a time that is negative or not finite.
    #[must_use]
    pub fn of_failures(rows: &[Followed]) -> Option<Self> {
        Self::of(rows, |failed, _, at_risk| (failed, at_risk))
    }

    /// Of the time to the end of watching, which failures hide: what inverse probabilities of censoring are taken from. `None` as
    /// [`KaplanMeier::of_failures`].
    #[must_use]
    pub fn of_censoring(rows: &[Followed]) -> Option<Self> {
        Self::of(rows, |failed, censored, at_risk| (censored, at_risk - failed))
    }

    fn of(rows: &[Followed], event: impl Fn(usize, usize, usize) -> (usize, usize)) -> Option<Self> {
        if rows.iter().any(|row| !(row.time_s.is_finite() && row.time_s >= 0.0)) {
            return None;
        }
        let mut rows = rows.to_vec();
        rows.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        let last_s = rows.last()?.time_s;
        let (mut times_s, mut shares) = (Vec::new(), Vec::new());
        let (mut at_risk, mut share) = (rows.len(), 1.0);
        for tied in rows.chunk_by(|a, b| a.time_s == b.time_s) {
            let failed = tied.iter().filter(|row| row.failed).count();
            let (gone, of) = event(failed, tied.len() - failed, at_risk);
            if gone > 0 {
                share *= (of - gone) as f64 / of as f64;
                times_s.push(tied[0].time_s);
                shares.push(share);
            }
            at_risk -= tied.len();
        }
        Some(Self { times_s, shares, last_s })
    }

    /// P(later than `time_s`), 0 to 1. Beyond [`KaplanMeier::last_s`], what it was there.
    #[must_use]
    pub fn after(&self, time_s: f64) -> f64 {
        self.share_after(self.times_s.partition_point(|t| *t <= time_s))
    }

    /// P(at `time_s` or later), 0 to 1.
    #[must_use]
    pub fn from(&self, time_s: f64) -> f64 {
        self.share_after(self.times_s.partition_point(|t| *t < time_s))
    }

    /// How long the row that was watched longest was watched, in seconds. Of later, nothing is known.
    #[must_use]
    pub fn last_s(&self) -> f64 {
        self.last_s
    }

    fn share_after(&self, falls: usize) -> f64 {
        falls.checked_sub(1).map_or(1.0, |last| self.shares[last])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(of: &[(f64, bool)]) -> Vec<Followed> {
        of.iter().map(|(time_s, failed)| Followed { time_s: *time_s, failed: *failed }).collect()
    }

    #[test]
    fn no_times_no_curve() {
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(KaplanMeier::of_failures(&rows(&[(bad, true)])), None);
        }
        assert_eq!(KaplanMeier::of_failures(&[]), None);
        assert_eq!(KaplanMeier::of_censoring(&[]), None);
    }

    /// Kaplan and Meier's own example (1958, §1.2): deaths at 0.8, 3.1, 5.4, 9.2, losses at 1.0, 2.7, 7.0, 12.1.
    #[test]
    fn the_example_of_the_paper_comes_out() {
        let rows = rows(&[
            (0.8, true),
            (1.0, false),
            (2.7, false),
            (3.1, true),
            (5.4, true),
            (7.0, false),
            (9.2, true),
            (12.1, false),
        ]);
        let curve = KaplanMeier::of_failures(&rows).unwrap();
        for (after_s, share) in
            [(0.0, 1.0), (0.8, 0.875), (3.1, 0.7), (5.4, 0.525), (9.2, 0.2625), (99.0, 0.2625)]
        {
            assert!((curve.after(after_s) - share).abs() < 1e-12, "{after_s}");
        }
        assert_eq!(curve.from(0.8), 1.0);
        assert_eq!(curve.last_s(), 12.1);
    }

    #[test]
    fn at_one_instant_failures_come_first() {
        let rows = rows(&[(1.0, true), (1.0, false), (2.0, false)]);
        assert!((KaplanMeier::of_failures(&rows).unwrap().after(1.0) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(KaplanMeier::of_censoring(&rows).unwrap().after(1.0), 0.5);
    }

    proptest! {
        /// Before the next instant, the two shares together are the share of rows that is left.
        #[test]
        fn both_curves_multiply_to_what_is_left(
            of in prop::collection::vec((0u8..30, any::<bool>()), 1..100),
            at in 0u8..31,
        ) {
            let of: Vec<(f64, bool)> = of.into_iter().map(|(t, failed)| (f64::from(t), failed)).collect();
            let rows = rows(&of);
            let at = f64::from(at);
            let product = KaplanMeier::of_failures(&rows).unwrap().after(at)
                * KaplanMeier::of_censoring(&rows).unwrap().after(at);
            let left = rows.iter().filter(|row| row.time_s > at).count() as f64 / rows.len() as f64;
            prop_assert!((product - left).abs() < 1e-9, "{product} {left}");
        }
    }
}
