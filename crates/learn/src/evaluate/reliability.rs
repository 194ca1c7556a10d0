//! Whether risks mean what they say: of those told 20%, does a fifth fail?
//!
//! All of it is `None` without rows, with a risk outside 0 to 1 (a NaN is), or when there are not as many risks as outcomes.

use serde::{Deserialize, Serialize};

use super::{
    Estimate,
    interval::{poisson, wilson},
    probability::{are_risks, away_from_certainty},
};

/// Rows of neighbouring risks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// How many.
    pub rows: usize,
    /// The lowest risk among them.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// Their mean risk: the share of failures that was expected.
    pub expected: f64,
    /// The share of failures that was seen, with Wilson's interval.
    pub observed: Estimate,
}

/// The reliability curve: `bins` bins of equally many rows, by risk. Rows of one risk stay together, so bins may differ in size and be
/// fewer (Murphy and Winkler 1977, <https://doi.org/10.2307/2346866>; equal counts as in Nguyen and O'Connor 2015,
/// <https://arxiv.org/abs/1508.05154>).
///
/// Wilson's intervals take rows for independent: where incidents give many rows, they are too narrow.
#[must_use]
pub fn curve(risks: &[f64], outcomes: &[bool], bins: usize, confidence: f64) -> Option<Vec<Bin>> {
    let rows = by_risk(risks, outcomes)?;
    let bins = divide(&rows, bins);
    if bins.is_empty() {
        return None;
    }
    bins.into_iter().map(|bin| summary(bin, confidence)).collect()
}

/// Expected calibration error: how far, on average over rows, the mean risk of a bin is from its share of failures; 0 to 1, with bins
/// as in [`curve`] (Naeini et al., AAAI 2015). Depends on the number of bins and is never 0 by chance: for comparisons only.
#[must_use]
pub fn expected_calibration_error(risks: &[f64], outcomes: &[bool], bins: usize) -> Option<f64> {
    let rows = by_risk(risks, outcomes)?;
    let bins = divide(&rows, bins);
    let gap = |bin: &[(f64, bool)]| (expected(bin) - observed(bin) as f64).abs();
    (!bins.is_empty()).then(|| bins.into_iter().map(gap).sum::<f64>() / rows.len() as f64)
}

/// Failures among the rows of the highest risk.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// How many rows that is; more than asked for where the last risk is shared.
    pub rows: usize,
    /// Failures that were seen.
    pub observed: usize,
    /// Failures that were expected: the sum of risks.
    pub expected: f64,
    /// Observed over expected, 1 when calibrated, with Garwood's interval.
    pub ratio: Estimate,
}

/// Observed and expected failures in the `share` (above 0, at most 1) of rows with the highest risk: whether the risks that make
/// something happen can be believed. `None` also where nothing was expected.
#[must_use]
pub fn top(risks: &[f64], outcomes: &[bool], share: f64, confidence: f64) -> Option<Top> {
    let rows = by_risk(risks, outcomes)?;
    if !(share > 0.0 && share <= 1.0) {
        return None;
    }
    let wanted = ((share * rows.len() as f64).ceil() as usize).clamp(1, rows.len());
    let least = rows[rows.len() - wanted].0;
    let rows = &rows[rows.partition_point(|row| row.0 < least)..];
    let (observed, expected) = (observed(rows), expected(rows));
    let ratio = poisson(observed as u64, expected, confidence)?;
    Some(Top { rows: rows.len(), observed, expected, ratio })
}

/// The logistic regression of what happened on the log odds of the risk: `ln odds = intercept + slope × ln odds of the risk`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recalibration {
    /// 1 when calibrated; below, risks are too extreme (overfitting), above, too timid.
    pub slope: f64,
    /// 0 when calibrated.
    pub intercept: f64,
}

/// Cox's test of calibration (Cox 1958, <https://doi.org/10.1093/biomet/45.3-4.562>; Van Calster et al. 2019,
/// <https://doi.org/10.1186/s12916-019-1466-7>), by maximum likelihood. Risks are kept 2.2e-16 away from certainty.
///
/// `None` also with one outcome only, one risk only, or where a threshold separates the outcomes, which takes the slope to infinity.
#[must_use]
pub fn recalibration(risks: &[f64], outcomes: &[bool]) -> Option<Recalibration> {
    let odds = log_odds(risks, outcomes)?;
    let centre = odds.iter().sum::<f64>() / odds.len() as f64;
    let (mut intercept, mut slope) = (0.0, 0.0);
    let mut likelihood = log_likelihood(&odds, outcomes, centre, intercept, slope);
    for _ in 0..MOST_STEPS {
        let (along_intercept, along_slope) = newton_step(&odds, outcomes, centre, intercept, slope)?;
        // Half the step until it does not lead downhill.
        let mut share = 1.0;
        let (next, better) = loop {
            let next = (intercept + share * along_intercept, slope + share * along_slope);
            let found = log_likelihood(&odds, outcomes, centre, next.0, next.1);
            if found >= likelihood || share < 1e-9 {
                break (next, found);
            }
            share /= 2.0;
        };
        let moved = (next.0 - intercept).abs().max((next.1 - slope).abs());
        (intercept, slope) = next;
        likelihood = better;
        if moved < 1e-10 {
            return Some(Recalibration { slope, intercept: intercept - slope * centre });
        }
    }
    None
}

/// Calibration in the large: what has to be added to all log odds for the mean risk to be the share of failures. 0 when calibrated,
/// above when risks are too low. `None` also with one outcome only.
#[must_use]
pub fn in_the_large(risks: &[f64], outcomes: &[bool]) -> Option<f64> {
    let odds = log_odds(risks, outcomes)?;
    let failed = outcomes.iter().filter(|failed| **failed).count();
    if failed == 0 || failed == outcomes.len() {
        return None;
    }
    // The sum of risks rises with what is added. Log odds are between −37 and 37, and so is what n rows may need, give or take ln n.
    let (mut low, mut high) = (-100.0, 100.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        let sum: f64 = odds.iter().map(|odds| logistic(odds + middle)).sum();
        *(if sum < failed as f64 { &mut low } else { &mut high }) = middle;
    }
    Some((low + high) / 2.0)
}

/// Newton's method needs about ten; those that need more lead to infinity.
const MOST_STEPS: usize = 60;

fn log_odds(risks: &[f64], outcomes: &[bool]) -> Option<Vec<f64>> {
    let odds = |risk: &f64| {
        let risk = away_from_certainty(*risk);
        risk.ln() - (-risk).ln_1p()
    };
    are_risks(risks, outcomes.len()).then(|| risks.iter().map(odds).collect())
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn log_likelihood(odds: &[f64], outcomes: &[bool], centre: f64, intercept: f64, slope: f64) -> f64 {
    let one = |(odds, failed): (&f64, &bool)| {
        let x = intercept + slope * (odds - centre);
        let against = if *failed { -x } else { x };
        // −ln(1 + exp(against)), without overflow.
        -(against.max(0.0) + (-against.abs()).exp().ln_1p())
    };
    odds.iter().zip(outcomes).map(one).sum()
}

fn newton_step(
    odds: &[f64],
    outcomes: &[bool],
    centre: f64,
    intercept: f64,
    slope: f64,
) -> Option<(f64, f64)> {
    let (mut gradient, mut curvature) = ([0.0; 2], [0.0; 3]);
    for (odds, failed) in odds.iter().zip(outcomes) {
        let x = odds - centre;
        let risk = logistic(intercept + slope * x);
        let (missing, weight) = (f64::from(*failed) - risk, risk * (1.0 - risk));
        gradient[0] += missing;
        gradient[1] += missing * x;
        curvature[0] += weight;
        curvature[1] += weight * x;
        curvature[2] += weight * x * x;
    }
    let [a, b, c] = curvature;
    let determinant = a * c - b * b;
    // Flat in some direction: one risk only, or fitted perfectly already.
    (determinant > 1e-12 * a * c && determinant > 1e-200 && a > 1e-12).then(|| {
        ((c * gradient[0] - b * gradient[1]) / determinant, (a * gradient[1] - b * gradient[0]) / determinant)
    })
}

/// `(risk, outcome)`, ascending.
fn by_risk(risks: &[f64], outcomes: &[bool]) -> Option<Vec<(f64, bool)>> {
    if !are_risks(risks, outcomes.len()) {
        return None;
    }
    let mut rows: Vec<(f64, bool)> = risks.iter().copied().zip(outcomes.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(rows)
}

fn divide(rows: &[(f64, bool)], bins: usize) -> Vec<&[(f64, bool)]> {
    let bins = bins.min(rows.len());
    let mut divided = Vec::new();
    let mut start = 0;
    for bin in 1..=bins {
        let end = (rows.len() * bin / bins).max(start);
        let tied = rows[end..].iter().take_while(|row| end > 0 && row.0 == rows[end - 1].0).count();
        if end + tied > start {
            divided.push(&rows[start..end + tied]);
            start = end + tied;
        }
    }
    divided
}

fn summary(bin: &[(f64, bool)], confidence: f64) -> Option<Bin> {
    Some(Bin {
        rows: bin.len(),
        lowest: bin.first()?.0,
        highest: bin.last()?.0,
        expected: expected(bin) / bin.len() as f64,
        observed: wilson(observed(bin), bin.len(), confidence)?,
    })
}

fn expected(rows: &[(f64, bool)]) -> f64 {
    rows.iter().map(|row| row.0).sum()
}

fn observed(rows: &[(f64, bool)]) -> usize {
    rows.iter().filter(|row| row.1).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::made_up::MadeUp;

    /// Risks, and outcomes that happen with odds of `slope` times the log odds, plus `shift`.
    fn made_up(n: usize, slope: f64, shift: f64) -> (Vec<f64>, Vec<bool>) {
        let mut chance = MadeUp::new(7);
        let risks: Vec<f64> = (0..n).map(|_| 0.02 + 0.9 * chance.uniform()).collect();
        let happens = |risk: &f64| logistic(slope * (risk / (1.0 - risk)).ln() + shift);
        let outcomes = risks.iter().map(|risk| chance.is_below(happens(risk))).collect();
        (risks, outcomes)
    }

    #[test]
    fn what_can_not_be_judged_is_not() {
        for (risks, outcomes) in [
            (vec![], vec![]),
            (vec![0.5], vec![]),
            (vec![f64::NAN, 0.5], vec![true, false]),
            (vec![1.5, 0.5], vec![true, false]),
        ] {
            assert_eq!(curve(&risks, &outcomes, 10, 0.95), None);
            assert_eq!(expected_calibration_error(&risks, &outcomes, 10), None);
            assert_eq!(top(&risks, &outcomes, 0.1, 0.95), None);
            assert_eq!(recalibration(&risks, &outcomes), None);
            assert_eq!(in_the_large(&risks, &outcomes), None);
        }
        let outcomes = [false, true, false, true];
        assert_eq!(recalibration(&[0.3; 4], &outcomes), None, "one risk");
        assert_eq!(recalibration(&[0.1, 0.8, 0.2, 0.9], &outcomes), None, "separated");
        assert_eq!(recalibration(&[0.1, 0.8, 0.2, 0.9], &[true; 4]), None, "one outcome");
        assert_eq!(in_the_large(&[0.1, 0.8, 0.2, 0.9], &[true; 4]), None, "one outcome");
        assert_eq!(top(&[0.0; 4], &outcomes, 0.5, 0.95), None, "nothing expected");
        assert_eq!(expected_calibration_error(&[0.1; 4], &outcomes, 0), None, "no bins");
    }

    #[test]
    fn risks_that_mean_what_they_say_are_calibrated() {
        let (risks, outcomes) = made_up(40_000, 1.0, 0.0);
        let found = recalibration(&risks, &outcomes).unwrap();
        assert!((found.slope - 1.0).abs() < 0.05 && found.intercept.abs() < 0.05, "{found:?}");
        assert!(in_the_large(&risks, &outcomes).unwrap().abs() < 0.05);
        assert!(expected_calibration_error(&risks, &outcomes, 10).unwrap() < 0.02);
        let curve = curve(&risks, &outcomes, 10, 0.999).unwrap();
        assert_eq!(curve.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [4_000; 10]);
        assert!(curve.iter().all(|b| b.observed.low <= b.expected && b.expected <= b.observed.high));
        let top = top(&risks, &outcomes, 0.01, 0.999).unwrap();
        assert_eq!(top.rows, 400);
        assert!(top.ratio.low <= 1.0 && 1.0 <= top.ratio.high, "{top:?}");
    }

    #[test]
    fn the_slope_tells_extreme_risks_and_the_intercept_low_ones() {
        let (risks, outcomes) = made_up(40_000, 0.5, 1.0);
        let found = recalibration(&risks, &outcomes).unwrap();
        assert!((found.slope - 0.5).abs() < 0.05 && (found.intercept - 1.0).abs() < 0.05, "{found:?}");
        assert!(in_the_large(&risks, &outcomes).unwrap() > 0.5);
        assert!(top(&risks, &outcomes, 1.0, 0.95).unwrap().ratio.low > 1.0);
    }

    #[test]
    fn certain_risks_are_bearable() {
        let found = recalibration(&[0.0, 1.0, 0.0, 1.0], &[false, true, true, false]).unwrap();
        assert!(found.slope.abs() < 1e-9 && found.intercept.abs() < 1e-9, "{found:?}");
    }

    proptest! {
        #[test]
        fn bins_hold_every_row_once_and_split_no_risk(
            rows in prop::collection::vec((0u8..20, any::<bool>()), 1..200),
            bins in 1usize..30,
            turn in 0usize..200,
        ) {
            let (mut risks, mut outcomes): (Vec<f64>, Vec<bool>) =
                rows.iter().map(|row| (f64::from(row.0) / 19.0, row.1)).unzip();
            let found = curve(&risks, &outcomes, bins, 0.95).unwrap();
            prop_assert!(found.len() <= bins);
            prop_assert_eq!(found.iter().map(|bin| bin.rows).sum::<usize>(), rows.len());
            prop_assert!(found.windows(2).all(|pair| pair[0].highest < pair[1].lowest));
            let turn = turn % rows.len();
            risks.rotate_left(turn);
            outcomes.rotate_left(turn);
            let turned = curve(&risks, &outcomes, bins, 0.95).unwrap();
            let of = |curve: &[Bin]| curve.iter().map(|b| (b.rows, b.observed.value.to_bits())).collect::<Vec<_>>();
            prop_assert_eq!(of(&found), of(&turned));
        }

        #[test]
        fn recalibrated_risks_need_no_recalibration(
            rows in prop::collection::vec((0.05..0.95_f64, any::<bool>()), 30..100),
        ) {
            let (risks, outcomes): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
            if let Some(found) = recalibration(&risks, &outcomes) {
                let mended: Vec<f64> = risks
                    .iter()
                    .map(|r| logistic(found.intercept + found.slope * (r / (1.0 - r)).ln()))
                    .collect();
                prop_assert!((mended.iter().sum::<f64>() - observed_of(&outcomes)).abs() < 1e-6);
                prop_assert!(in_the_large(&mended, &outcomes).unwrap().abs() < 1e-6);
            }
        }
    }

    fn observed_of(outcomes: &[bool]) -> f64 {
        outcomes.iter().filter(|failed| **failed).count() as f64
    }
}
