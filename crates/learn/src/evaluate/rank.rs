//! Whether failures score higher than the rest: figures of the order of scores alone.

/// The probability that a row that failed scores higher than one that did not, ties counting half: the area under the
/// ROC curve, 0 to 1, 0.5 for chance (Mann and Whitney 1947, <https://doi.org/10.1214/aoms/1177730491>; Hanley and McNeil 1982,
/// <https://doi.org/10.1148/radiology.143.1.7063747>).
///
/// Weights say how many rows a row stands for; without, it is one each. `None` unless both outcomes carry weight, no score is a
/// NaN, weights are finite and not negative, and there are as many of each.
#[must_use]
pub fn auc(scores: &[f64], outcomes: &[bool], weights: Option<&[f64]>) -> Option<f64> {
    let steps = Steps::of(scores, outcomes, weights)?;
    let mut well_below = 0.0;
    let mut won = 0.0;
    for step in &steps.ascending {
        won += step.failed * (well_below + step.well / 2.0);
        well_below += step.well;
    }
    Some(won / (steps.failed * steps.well))
}

/// Average precision, 0 to 1: the precision at each score, averaged over the failures that the score finds. Chance gives the share of
/// failures, so it is read beside that, and compared on the same rows only (Davis and Goadrich 2006,
/// <https://doi.org/10.1145/1143844.1143874>). Nothing is interpolated, and rows of one score count at once.
///
/// Weights, and when there is none, as in [`auc`].
#[must_use]
pub fn average_precision(scores: &[f64], outcomes: &[bool], weights: Option<&[f64]>) -> Option<f64> {
    let steps = Steps::of(scores, outcomes, weights)?;
    let (mut found, mut alarmed, mut sum) = (0.0, 0.0, 0.0);
    for step in steps.ascending.iter().rev().filter(|step| step.failed + step.well > 0.0) {
        found += step.failed;
        alarmed += step.failed + step.well;
        sum += step.failed * found / alarmed;
    }
    Some(sum / steps.failed)
}

/// Weights of the rows of one score.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    failed: f64,
    well: f64,
}

struct Steps {
    /// From the lowest score to the highest.
    ascending: Vec<Step>,
    failed: f64,
    well: f64,
}

impl Steps {
    fn of(scores: &[f64], outcomes: &[bool], weights: Option<&[f64]>) -> Option<Self> {
        let are_weights = |w: &[f64]| w.len() == scores.len() && w.iter().all(|w| w.is_finite() && *w >= 0.0);
        if outcomes.len() != scores.len()
            || scores.iter().any(|s| s.is_nan())
            || !weights.is_none_or(are_weights)
        {
            return None;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let ascending: Vec<Step> = order
            .chunk_by(|a, b| scores[*a] == scores[*b])
            .map(|tied| {
                tied.iter().fold(Step::default(), |mut step, row| {
                    let weight = weights.map_or(1.0, |w| w[*row]);
                    *(if outcomes[*row] { &mut step.failed } else { &mut step.well }) += weight;
                    step
                })
            })
            .collect();
        let failed: f64 = ascending.iter().map(|s| s.failed).sum();
        let well: f64 = ascending.iter().map(|s| s.well).sum();
        (failed > 0.0 && well > 0.0).then_some(Self { ascending, failed, well })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Figure = fn(&[f64], &[bool], Option<&[f64]>) -> Option<f64>;

    const BOTH: [Figure; 2] = [auc, average_precision];

    #[test]
    fn what_has_no_order_has_no_figure() {
        for figure in BOTH {
            assert_eq!(figure(&[], &[], None), None);
            assert_eq!(figure(&[1.0, 2.0], &[true, true], None), None);
            assert_eq!(figure(&[1.0, 2.0], &[false, false], None), None);
            assert_eq!(figure(&[1.0, f64::NAN], &[true, false], None), None);
            assert_eq!(figure(&[1.0], &[true, false], None), None);
            assert_eq!(figure(&[1.0, 2.0], &[true, false], Some(&[1.0])), None);
            assert_eq!(figure(&[1.0, 2.0], &[true, false], Some(&[1.0, -1.0])), None);
            assert_eq!(figure(&[1.0, 2.0], &[true, false], Some(&[1.0, 0.0])), None);
        }
    }

    #[test]
    fn the_order_is_all_that_counts() {
        assert_eq!(auc(&[0.1, 0.2, 0.9], &[false, false, true], None), Some(1.0));
        assert_eq!(auc(&[0.1, 0.2, 0.9], &[true, false, false], None), Some(0.0));
        assert_eq!(auc(&[0.0, -0.0, 0.0], &[true, false, false], None), Some(0.5));
        assert_eq!(auc(&[f64::NEG_INFINITY, f64::INFINITY], &[false, true], None), Some(1.0));
        assert_eq!(average_precision(&[5.0; 4], &[true, false, false, false], None), Some(0.25));
    }

    /// Pair by pair.
    fn auc_by_pairs(scores: &[f64], outcomes: &[bool], weights: &[f64]) -> f64 {
        let (mut won, mut pairs) = (0.0, 0.0);
        for i in (0..scores.len()).filter(|i| outcomes[*i]) {
            for j in (0..scores.len()).filter(|j| !outcomes[*j]) {
                let w = weights[i] * weights[j];
                pairs += w;
                won += w * (f64::from(scores[i] > scores[j]) + f64::from(scores[i] == scores[j]) / 2.0);
            }
        }
        won / pairs
    }

    proptest! {
        #[test]
        fn auc_is_what_pairs_say(
            rows in prop::collection::vec((0u8..12, any::<bool>(), 0.1..5.0_f64), 2..80),
        ) {
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let outcomes: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let weights: Vec<f64> = rows.iter().map(|r| r.2).collect();
            if let Some(found) = auc(&scores, &outcomes, Some(&weights)) {
                prop_assert!((found - auc_by_pairs(&scores, &outcomes, &weights)).abs() < 1e-9);
            }
        }

        #[test]
        fn nothing_changes_with_the_scale_or_the_order_of_rows(
            rows in prop::collection::vec((0u8..30, any::<bool>()), 2..80),
            turn in 0usize..80,
        ) {
            let mut scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let mut outcomes: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let before = BOTH.map(|figure| figure(&scores, &outcomes, None));
            scores.iter_mut().for_each(|s| *s = (*s / 7.0).exp() - 3.0);
            let turn = turn % scores.len();
            scores.rotate_left(turn);
            outcomes.rotate_left(turn);
            for (figure, before) in BOTH.iter().zip(before) {
                let after = figure(&scores, &outcomes, None);
                prop_assert_eq!(after.is_some(), before.is_some());
                prop_assert!((after.unwrap_or(0.0) - before.unwrap_or(0.0)).abs() < 1e-12);
            }
        }

        #[test]
        fn a_weight_of_two_is_the_row_twice(
            rows in prop::collection::vec((0u8..9, any::<bool>(), any::<bool>()), 2..60),
        ) {
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let outcomes: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let weights: Vec<f64> = rows.iter().map(|r| if r.2 { 2.0 } else { 1.0 }).collect();
            let again = |n: &usize| rows[*n].2;
            let twice: Vec<usize> = (0..rows.len()).chain((0..rows.len()).filter(again)).collect();
            let scores_twice: Vec<f64> = twice.iter().map(|n| scores[*n]).collect();
            let outcomes_twice: Vec<bool> = twice.iter().map(|n| outcomes[*n]).collect();
            for figure in BOTH {
                let weighted = figure(&scores, &outcomes, Some(&weights));
                let repeated = figure(&scores_twice, &outcomes_twice, None);
                prop_assert_eq!(weighted.is_some(), repeated.is_some());
                prop_assert!((weighted.unwrap_or(0.0) - repeated.unwrap_or(0.0)).abs() < 1e-12);
            }
        }
    }
}
