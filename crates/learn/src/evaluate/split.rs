//! What a model learns from and what it is judged by, with nothing on both sides. Rows are told by their numbers.

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::Timestamp;

/// What must be known of a row to put it on a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<G> {
    /// What is never divided: its incident, its run, its experiment.
    pub group: G,
    /// The first instant that it tells of: where its window begins.
    pub begun: Timestamp,
    /// The last instant that it tells of, its outcome aside: when it was predicted for. The embargo covers the outcome.
    pub ended: Timestamp,
}

/// Numbers of rows, ascending, each of them once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// To learn from.
    pub train: Vec<usize>,
    /// To judge by.
    pub test: Vec<usize>,
    /// Used for neither, since their group would be on both sides.
    pub left_out: Vec<usize>,
}

/// Why rows can't be divided as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Outcomes of what is learnt from would be known only after what is judged has begun.
    #[error(
        "an embargo of {embargo:?} is shorter than the horizon of {horizon:?}: take the horizon at least"
    )]
    EmbargoTooShort {
        /// What was asked for.
        embargo: Duration,
        /// How far outcomes look ahead.
        horizon: Duration,
    },
    /// Every fold needs a group, and there have to be two folds at least.
    #[error("{groups} groups do not make {folds} folds: take from 2 to as many as there are groups")]
    TooFewGroups {
        /// How many there are.
        groups: usize,
        /// How many folds were asked for.
        folds: usize,
    },
}

/// Divides rows at an instant, by whole groups: what is learnt from ended an `embargo` before the cut or earlier, what is judged by began
/// at it or later, and groups that did neither are left out (López de Prado 2018, Advances in Financial Machine Learning, §7.4).
///
/// Asks whether it holds next week, too. The embargo is at least the `horizon` that outcomes look ahead; windows do not count,
/// as `begun` and `ended` span them.
pub fn by_time<G: Ord>(
    rows: &[Row<G>],
    cut: Timestamp,
    horizon: Duration,
    embargo: Duration,
) -> Result<Split, SplitError> {
    if embargo < horizon {
        return Err(SplitError::EmbargoTooShort { embargo, horizon });
    }
    let mut split = Split::default();
    for group in by_group(rows.iter().map(|row| &row.group)).into_values() {
        // Added to the end, not taken from the cut, which could fall before the beginning of time.
        let is_before = |row: &usize| rows[*row].ended.max(rows[*row].begun) + embargo <= cut;
        let side = if group.iter().all(|row| rows[*row].begun.min(rows[*row].ended) >= cut) {
            &mut split.test
        } else if group.iter().all(is_before) {
            &mut split.train
        } else {
            &mut split.left_out
        };
        side.extend(group);
    }
    Ok(split.sorted())
}

/// For every kind, by kind: it alone is judged by, and what is learnt from has no group with a row of it. Asks whether it holds for
/// what was never seen. `kinds` and `groups` hold one element a row; rows beyond the shorter are ignored.
#[must_use]
pub fn leave_one_kind_out<K: Ord + Clone, G: Ord>(kinds: &[K], groups: &[G]) -> Vec<(K, Split)> {
    let rows = kinds.len().min(groups.len());
    let (kinds, groups) = (&kinds[..rows], by_group(&groups[..rows]));
    by_group(kinds)
        .into_keys()
        .map(|kind| {
            let mut split = Split::default();
            for group in groups.values() {
                let (of_kind, others): (Vec<usize>, Vec<usize>) =
                    group.iter().partition(|row| kinds[**row] == *kind);
                let is_apart = of_kind.is_empty();
                split.test.extend(of_kind);
                (if is_apart { &mut split.train } else { &mut split.left_out }).extend(others);
            }
            (kind.clone(), split.sorted())
        })
        .collect()
}

/// `folds` ways to divide rows by whole groups, each row judged once. The largest group that is left goes to the fold with the fewest rows,
/// so folds differ by the largest group at most (Graham 1969, <https://doi.org/10.1137/0117039>).
///
/// Time is not looked at: for choosing between models on what they may learn from, not for figures that are published.
pub fn folds<G: Ord>(groups: &[G], folds: usize) -> Result<Vec<Split>, SplitError> {
    let mut by_size: Vec<Vec<usize>> = by_group(groups).into_values().collect();
    if folds < 2 || by_size.len() < folds {
        return Err(SplitError::TooFewGroups { groups: by_size.len(), folds });
    }
    by_size.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let mut tests: Vec<Vec<usize>> = vec![Vec::new(); folds];
    for group in by_size {
        if let Some(smallest) = tests.iter_mut().min_by_key(|test| test.len()) {
            smallest.extend(group);
        }
    }
    let split = |test: &Vec<usize>| {
        let train = tests.iter().filter(|other| *other != test).flatten().copied().collect();
        Split { train, test: test.clone(), left_out: Vec::new() }.sorted()
    };
    Ok(tests.iter().map(split).collect())
}

impl Split {
    fn sorted(mut self) -> Self {
        [&mut self.train, &mut self.test, &mut self.left_out]
            .into_iter()
            .for_each(|rows| rows.sort_unstable());
        self
    }
}

fn by_group<'a, G: Ord>(groups: impl IntoIterator<Item = &'a G>) -> BTreeMap<&'a G, Vec<usize>> {
    let mut rows: BTreeMap<&G, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.into_iter().enumerate() {
        rows.entry(group).or_default().push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn row(group: u8, begun_ms: u64, took_ms: u64) -> Row<u8> {
        let begun = Timestamp::from_unix_ms(begun_ms);
        Row { group, begun, ended: begun + Duration::from_millis(took_ms) }
    }

    fn groups_of(rows: &[usize], groups: &[u8]) -> BTreeSet<u8> {
        rows.iter().map(|row| groups[*row]).collect()
    }

    fn holds_every_row_once(split: &Split, rows: usize) -> bool {
        let mut all: Vec<usize> =
            [&split.train, &split.test, &split.left_out].into_iter().flatten().copied().collect();
        all.sort_unstable();
        all == (0..rows).collect::<Vec<_>>()
    }

    #[test]
    fn a_short_embargo_and_too_few_groups_are_refused() {
        let second = Duration::from_secs(1);
        let error = by_time(&[row(1, 0, 1)], Timestamp::from_unix_ms(9), second, second / 2).unwrap_err();
        assert!(error.to_string().contains("take the horizon at least"), "{error}");
        assert_eq!(folds(&[1, 1, 2], 3), Err(SplitError::TooFewGroups { groups: 2, folds: 3 }));
        assert_eq!(folds(&[1, 2], 1), Err(SplitError::TooFewGroups { groups: 2, folds: 1 }));
        assert_eq!(folds::<u8>(&[], 0), Err(SplitError::TooFewGroups { groups: 0, folds: 0 }));
        assert!(leave_one_kind_out::<u8, u8>(&[], &[]).is_empty());
    }

    #[test]
    fn a_group_that_straddles_the_cut_is_left_out() {
        let rows = [row(1, 100, 50), row(2, 100, 50), row(2, 900, 50), row(3, 900, 50), row(4, 340, 20)];
        let ms = Duration::from_millis;
        let split = by_time(&rows, Timestamp::from_unix_ms(500), ms(150), ms(150)).unwrap();
        assert_eq!(split, Split { train: vec![0], test: vec![3], left_out: vec![1, 2, 4] });
    }

    #[test]
    fn what_shares_a_group_with_the_kind_is_not_learnt_from() {
        let found = leave_one_kind_out(&["disk", "leak", "leak", "disk"], &[1, 1, 2, 3]);
        let disk = Split { train: vec![2], test: vec![0, 3], left_out: vec![1] };
        let leak = Split { train: vec![3], test: vec![1, 2], left_out: vec![0] };
        assert_eq!(found, [("disk", disk), ("leak", leak)]);
    }

    proptest! {
        #[test]
        fn no_group_is_on_both_sides_and_what_is_learnt_from_ended_long_before(
            rows in prop::collection::vec((0u8..20, 0u64..1_000, 0u64..100), 1..80),
            cut_ms in 0u64..1_200,
            embargo_ms in 0u64..300,
        ) {
            let groups: Vec<u8> = rows.iter().map(|r| r.0).collect();
            // Rows of a group are near each other, as incidents are.
            let rows: Vec<Row<u8>> =
                rows.iter().map(|r| row(r.0, u64::from(r.0) * 50 + r.1 / 8, r.2)).collect();
            let embargo = Duration::from_millis(embargo_ms);
            let cut = Timestamp::from_unix_ms(cut_ms);
            let split = by_time(&rows, cut, embargo, embargo).unwrap();
            prop_assert!(holds_every_row_once(&split, rows.len()));
            prop_assert!(groups_of(&split.train, &groups).is_disjoint(&groups_of(&split.test, &groups)));
            if let Some(first) = split.test.iter().map(|r| rows[*r].begun).min() {
                prop_assert!(split.train.iter().all(|r| rows[*r].ended + embargo <= first));
            }
        }

        #[test]
        fn a_kind_left_out_is_nowhere_in_what_is_learnt_from(
            rows in prop::collection::vec((0u8..5, 0u8..15), 1..80),
        ) {
            let (kinds, groups): (Vec<u8>, Vec<u8>) = rows.iter().copied().unzip();
            for (kind, split) in leave_one_kind_out(&kinds, &groups) {
                prop_assert!(holds_every_row_once(&split, rows.len()));
                prop_assert!(split.test.iter().all(|row| kinds[*row] == kind));
                prop_assert!(split.train.iter().all(|row| kinds[*row] != kind));
                prop_assert!(groups_of(&split.train, &groups).is_disjoint(&groups_of(&split.test, &groups)));
            }
        }

        #[test]
        fn folds_are_balanced_and_judge_every_row_once(
            groups in prop::collection::vec(0u8..30, 1..200),
            count in 2usize..7,
        ) {
            let Ok(folds) = folds(&groups, count) else { return Ok(()) };
            prop_assert_eq!(folds.len(), count);
            let mut judged: Vec<usize> = folds.iter().flat_map(|split| split.test.clone()).collect();
            judged.sort_unstable();
            prop_assert_eq!(judged, (0..groups.len()).collect::<Vec<_>>());
            for split in &folds {
                prop_assert!(holds_every_row_once(split, groups.len()));
                prop_assert!(groups_of(&split.train, &groups).is_disjoint(&groups_of(&split.test, &groups)));
            }
            let sizes = folds.iter().map(|split| split.test.len());
            let largest = by_group(&groups).values().map(Vec::len).max().unwrap();
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= largest);
        }
    }
}
