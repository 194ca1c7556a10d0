//! Intervals without a formula: what the figure would have been with other incidents.
//!
//! Rows of one group (an incident, a run) come and go together, since they are not independent: groups are drawn with replacement, as
//! many as there are (Efron 1979, <https://doi.org/10.1214/aos/1176344552>; by cluster, Field and Welsh 2007,
//! <https://doi.org/10.1111/j.1467-9868.2007.00593.x>). With fewer than about twenty groups the intervals are too narrow.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::interval::{Estimate, is_confidence, quantile};

/// The share of resamples that a figure must be defined for. What is left would be the interval of another, luckier figure.
const LEAST_DEFINED: f64 = 0.95;

/// How to resample. The same values give the same interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// How often. A thousand is enough for 95%.
    pub resamples: usize,
    /// The share of resamples inside the interval, strictly between 0 and 1.
    pub confidence: f64,
    /// Of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// Two thousand resamples, 95%.
    fn default() -> Self {
        Self { resamples: 2_000, confidence: 0.95, seed: 1 }
    }
}

impl Bootstrap {
    /// A figure with its percentile interval. `groups` holds the group of every row; `figure` is given the numbers of rows, those of a
    /// group as often as it was drawn.
    ///
    /// `None` with fewer than two groups, without resamples, or where the figure is undefined (or not finite) for all rows or for
    /// more than one resample in twenty.
    #[must_use]
    pub fn interval<G: Ord>(
        &self,
        groups: &[G],
        figure: impl Fn(&[usize]) -> Option<f64>,
    ) -> Option<Estimate> {
        let blocks: Vec<Vec<usize>> = blocks(groups);
        let all: Vec<usize> = (0..groups.len()).collect();
        let value = figure(&all)?;
        let mut rows = Vec::new();
        self.percentiles(blocks.len(), value, |drawn| {
            rows.clear();
            drawn.iter().for_each(|block| rows.extend_from_slice(&blocks[*block]));
            figure(&rows)
        })
    }

    /// How much larger a figure of the candidate is than the incumbent's, both on the same draws: what they have in common cancels.
    /// `None` as [`Bootstrap::interval`].
    #[must_use]
    pub fn difference<G: Ord>(
        &self,
        groups: &[G],
        incumbent: impl Fn(&[usize]) -> Option<f64>,
        candidate: impl Fn(&[usize]) -> Option<f64>,
    ) -> Option<Estimate> {
        self.interval(groups, |rows| Some(candidate(rows)? - incumbent(rows)?))
    }

    /// How much larger the candidate's mean loss is than the incumbent's, from the loss of every row under each (such as
    /// [`brier_by_row`](super::probability::brier_by_row)). Below 0 with all of its interval, the candidate is better.
    ///
    /// The same as [`Bootstrap::difference`] of means, but a resample costs its groups and not its rows. `None` as
    /// [`Bootstrap::interval`], or when there are not as many losses as rows.
    #[must_use]
    pub fn mean_difference<G: Ord>(
        &self,
        groups: &[G],
        incumbent: &[f64],
        candidate: &[f64],
    ) -> Option<Estimate> {
        if incumbent.len() != groups.len() || candidate.len() != groups.len() {
            return None;
        }
        let total = |rows: Vec<usize>| {
            (rows.iter().map(|row| candidate[*row] - incumbent[*row]).sum::<f64>(), rows.len())
        };
        let blocks: Vec<(f64, usize)> = blocks(groups).into_iter().map(total).collect();
        let mean = |drawn: &[usize]| {
            let sum: f64 = drawn.iter().map(|block| blocks[*block].0).sum();
            let rows: usize = drawn.iter().map(|block| blocks[*block].1).sum();
            (rows > 0).then(|| sum / rows as f64)
        };
        let all: Vec<usize> = (0..blocks.len()).collect();
        self.percentiles(blocks.len(), mean(&all)?, mean)
    }

    fn percentiles(
        &self,
        blocks: usize,
        value: f64,
        mut figure: impl FnMut(&[usize]) -> Option<f64>,
    ) -> Option<Estimate> {
        if blocks < 2 || self.resamples == 0 || !is_confidence(self.confidence) || !value.is_finite() {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut drawn = vec![0; blocks];
        let mut found = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            drawn.iter_mut().for_each(|block| *block = random.random_range(0..blocks));
            found.extend(figure(&drawn).filter(|figure| figure.is_finite()));
        }
        if (found.len() as f64) < LEAST_DEFINED * self.resamples as f64 {
            return None;
        }
        found.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some(Estimate { value, low: quantile(&found, tail)?, high: quantile(&found, 1.0 - tail)? })
    }
}

/// The rows of each group, by group.
fn blocks<G: Ord>(groups: &[G]) -> Vec<Vec<usize>> {
    let mut blocks: BTreeMap<&G, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        blocks.entry(group).or_default().push(row);
    }
    blocks.into_values().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::made_up::MadeUp;

    fn mean(values: &[f64]) -> impl Fn(&[usize]) -> Option<f64> {
        move |rows: &[usize]| {
            (!rows.is_empty()).then(|| rows.iter().map(|row| values[*row]).sum::<f64>() / rows.len() as f64)
        }
    }

    #[test]
    fn what_can_not_be_resampled_has_no_interval() {
        let by = Bootstrap::default();
        assert_eq!(by.interval(&[0u8; 0], mean(&[])), None);
        assert_eq!(by.interval(&[7u8; 3], mean(&[1.0, 2.0, 3.0])), None, "one group");
        assert_eq!(by.interval(&[1u8, 2], mean(&[1.0, f64::NAN])), None);
        assert_eq!(by.interval(&[1u8, 2], |_| None), None);
        assert_eq!(by.mean_difference(&[1u8, 2], &[1.0], &[1.0, 2.0]), None);
        for bad in [Bootstrap { resamples: 0, ..by }, Bootstrap { confidence: 1.0, ..by }] {
            assert_eq!(bad.interval(&[1u8, 2], mean(&[1.0, 2.0])), None);
        }
        // A quarter of the resamples lacks the second group, and without it there is no figure.
        let only_with_second = |rows: &[usize]| rows.contains(&1).then_some(1.0);
        assert_eq!(by.interval(&[1u8, 2], only_with_second), None);
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_textbook() {
        let mut chance = MadeUp::new(3);
        let values = chance.uniforms(400);
        let groups: Vec<usize> = (0..400).collect();
        let found = Bootstrap::default().interval(&groups, mean(&values)).unwrap();
        // The standard deviation of uniform values is 0.2887.
        let half = 1.96 * 0.2887 / 20.0;
        assert!((found.high - found.low - 2.0 * half).abs() < 0.006, "{found:?}");
        assert!(found.low < found.value && found.value < found.high);
    }

    #[test]
    fn rows_of_one_group_are_one_witness() {
        let mut chance = MadeUp::new(5);
        let of_groups = chance.uniforms(40);
        let values: Vec<f64> = of_groups.iter().flat_map(|value| [*value; 25]).collect();
        let groups: Vec<usize> = (0..40).flat_map(|group| [group; 25]).collect();
        let rows: Vec<usize> = (0..1_000).collect();
        let by = Bootstrap::default();
        let width = |e: Estimate| e.high - e.low;
        let by_group = width(by.interval(&groups, mean(&values)).unwrap());
        let by_row = width(by.interval(&rows, mean(&values)).unwrap());
        assert!((by_group / by_row - 5.0).abs() < 0.7, "{by_group} {by_row}");
    }

    #[test]
    fn what_two_models_share_cancels() {
        let mut chance = MadeUp::new(9);
        let incumbent = chance.uniforms(300);
        let candidate: Vec<f64> = incumbent.iter().map(|loss| loss - 0.01).collect();
        let groups: Vec<usize> = (0..300).map(|row| row / 6).collect();
        let found = Bootstrap::default().mean_difference(&groups, &incumbent, &candidate).unwrap();
        assert!((found.low + 0.01).abs() < 1e-9 && (found.high + 0.01).abs() < 1e-9, "{found:?}");
    }

    proptest! {
        #[test]
        fn both_ways_to_a_difference_agree_and_the_order_of_rows_does_not_matter(
            rows in prop::collection::vec((0u8..6, 0.0..1.0_f64, 0.0..1.0_f64), 2..50),
            turn in 0usize..50,
            seed in any::<u64>(),
        ) {
            let by = Bootstrap { resamples: 50, seed, ..Bootstrap::default() };
            let split = |rows: &[(u8, f64, f64)]| {
                let groups: Vec<u8> = rows.iter().map(|row| row.0).collect();
                let first: Vec<f64> = rows.iter().map(|row| row.1).collect();
                let second: Vec<f64> = rows.iter().map(|row| row.2).collect();
                (groups, first, second)
            };
            let (groups, first, second) = split(&rows);
            let quick = by.mean_difference(&groups, &first, &second);
            let slow = by.difference(&groups, mean(&first), mean(&second));
            let mut turned = rows.clone();
            turned.rotate_left(turn % rows.len());
            let (groups, first, second) = split(&turned);
            let turned = by.mean_difference(&groups, &first, &second);
            for other in [slow, turned] {
                prop_assert_eq!(quick.is_some(), other.is_some());
                if let (Some(a), Some(b)) = (quick, other) {
                    for (a, b) in [(a.value, b.value), (a.low, b.low), (a.high, b.high)] {
                        prop_assert!((a - b).abs() < 1e-9);
                    }
                }
            }
        }
    }
}
