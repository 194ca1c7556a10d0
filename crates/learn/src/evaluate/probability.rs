//! How good risks are as probabilities: proper scores, which nobody improves by saying anything but what they believe (Gneiting
//! and Raftery 2007, <https://doi.org/10.1198/016214506000001437>).
//!
//! Risks are probabilities from 0 to 1, outcomes say whether it came to pass, weights (if any) how many rows a row stands for.
//! Every figure is `None` without rows, with a risk outside its range (a NaN is), or when there are not as many of each.

/// The Brier score: the mean squared distance of the risk from what happened, 0 (best) to 1 (Brier 1950,
/// <https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2>).
#[must_use]
pub fn brier(risks: &[f64], outcomes: &[bool], weights: Option<&[f64]>) -> Option<f64> {
    mean(&brier_by_row(risks, outcomes)?, weights)
}

/// What each row adds to the [`brier`] score, for comparing two models row by row.
#[must_use]
pub fn brier_by_row(risks: &[f64], outcomes: &[bool]) -> Option<Vec<f64>> {
    by_row(risks, outcomes, |risk, failed| (risk - f64::from(failed)).powi(2))
}

/// The mean logarithmic loss in nats, 0 (best) and up (Good 1952, <https://doi.org/10.1111/j.2517-6161.1952.tb00104.x>).
///
/// Risks are kept 2.2e-16 away from 0 and 1: a wrong certainty costs 36 nats, not everything.
#[must_use]
pub fn log_loss(risks: &[f64], outcomes: &[bool], weights: Option<&[f64]>) -> Option<f64> {
    mean(&log_loss_by_row(risks, outcomes)?, weights)
}

/// What each row adds to the [`log_loss`], in nats.
#[must_use]
pub fn log_loss_by_row(risks: &[f64], outcomes: &[bool]) -> Option<Vec<f64>> {
    by_row(risks, outcomes, |risk, failed| {
        let risk = away_from_certainty(risk);
        if failed { -risk.ln() } else { -(-risk).ln_1p() }
    })
}

/// The Brier skill score: the share of the Brier score of "always `base_rate`" that is saved. 1 is perfect, 0 no better than the
/// base rate, below 0 worse (Murphy 1973, <https://doi.org/10.1175/1520-0450(1973)012%3C0215:HASSFP%3E2.0.CO;2>).
///
/// The base rate (0 to 1) should be known beforehand, from what the model learnt from; that of the judged rows themselves is the
/// stricter reference. `None` also where the reference is perfect.
#[must_use]
pub fn brier_skill(risks: &[f64], outcomes: &[bool], weights: Option<&[f64]>, base_rate: f64) -> Option<f64> {
    let reference = brier(&vec![base_rate; outcomes.len()], outcomes, weights)?;
    let score = brier(risks, outcomes, weights)?;
    (reference > 0.0).then_some(1.0 - score / reference)
}

/// The same with the [`log_loss`]: the share of the base rate's surprise that is saved.
#[must_use]
pub fn log_skill(risks: &[f64], outcomes: &[bool], weights: Option<&[f64]>, base_rate: f64) -> Option<f64> {
    let reference = log_loss(&vec![base_rate; outcomes.len()], outcomes, weights)?;
    let score = log_loss(risks, outcomes, weights)?;
    (reference > 0.0).then_some(1.0 - score / reference)
}

/// Whether these are risks of as many rows as there are outcomes, and of at least one.
pub(super) fn are_risks(risks: &[f64], outcomes: usize) -> bool {
    !risks.is_empty() && risks.len() == outcomes && risks.iter().all(|risk| (0.0..=1.0).contains(risk))
}

/// The nearest risk whose log odds are finite.
pub(super) fn away_from_certainty(risk: f64) -> f64 {
    risk.clamp(f64::EPSILON, 1.0 - f64::EPSILON)
}

fn by_row(risks: &[f64], outcomes: &[bool], loss: impl Fn(f64, bool) -> f64) -> Option<Vec<f64>> {
    are_risks(risks, outcomes.len())
        .then(|| risks.iter().zip(outcomes).map(|(risk, failed)| loss(*risk, *failed)).collect())
}

fn mean(losses: &[f64], weights: Option<&[f64]>) -> Option<f64> {
    let Some(weights) = weights else {
        return Some(losses.iter().sum::<f64>() / losses.len() as f64);
    };
    if weights.len() != losses.len() || !weights.iter().all(|w| w.is_finite() && *w >= 0.0) {
        return None;
    }
    let total: f64 = weights.iter().sum();
    let sum: f64 = losses.iter().zip(weights).map(|(loss, weight)| loss * weight).sum();
    (total > 0.0).then_some(sum / total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_are_no_risks_have_no_score() {
        for figure in [brier, log_loss] {
            assert_eq!(figure(&[], &[], None), None);
            assert_eq!(figure(&[0.5], &[], None), None);
            for risk in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
                assert_eq!(figure(&[risk], &[true], None), None);
            }
            assert_eq!(figure(&[0.5], &[true], Some(&[0.0])), None);
            assert_eq!(figure(&[0.5], &[true], Some(&[f64::NAN])), None);
            assert_eq!(figure(&[0.5], &[true], Some(&[])), None);
        }
        assert_eq!(brier_skill(&[0.5], &[true], None, 1.0), None, "the reference is perfect");
        assert_eq!(brier_skill(&[0.5], &[true], None, 2.0), None);
    }

    #[test]
    fn the_base_rate_has_no_skill_and_the_truth_has_all() {
        let outcomes = [true, false, false, false];
        assert_eq!(brier(&[0.25; 4], &outcomes, None), Some(0.1875));
        for skill in [brier_skill, log_skill] {
            assert_eq!(skill(&[0.25; 4], &outcomes, None, 0.25), Some(0.0));
            assert!(skill(&[1.0, 0.0, 0.0, 0.0], &outcomes, None, 0.25).unwrap() > 0.999_999);
            assert!(skill(&[0.0, 1.0, 1.0, 1.0], &outcomes, None, 0.25).unwrap() < 0.0);
        }
    }

    #[test]
    fn a_wrong_certainty_costs_much_but_not_everything() {
        let loss = log_loss(&[0.0], &[true], None).unwrap();
        assert!((loss - 36.043_653).abs() < 1e-6, "{loss}");
    }

    proptest! {
        #[test]
        fn a_weight_of_two_is_the_row_twice(
            rows in prop::collection::vec((0.0..=1.0_f64, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let risks: Vec<f64> = rows.iter().map(|r| r.0).collect();
            let outcomes: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let weights: Vec<f64> = rows.iter().map(|r| if r.2 { 2.0 } else { 1.0 }).collect();
            let twice = rows.iter().chain(rows.iter().filter(|r| r.2));
            let (risks_twice, outcomes_twice): (Vec<f64>, Vec<bool>) = twice.map(|r| (r.0, r.1)).unzip();
            for figure in [brier, log_loss] {
                let weighted = figure(&risks, &outcomes, Some(&weights)).unwrap();
                let repeated = figure(&risks_twice, &outcomes_twice, None).unwrap();
                prop_assert!((weighted - repeated).abs() < 1e-9);
            }
        }

        #[test]
        fn saying_what_one_believes_is_best(truth in 0.01..0.99_f64, said in 0.0..=1.0_f64) {
            type Figure = fn(&[f64], &[bool], Option<&[f64]>) -> Option<f64>;
            let expected = |figure: Figure, risk: f64| {
                truth * figure(&[risk], &[true], None).unwrap()
                    + (1.0 - truth) * figure(&[risk], &[false], None).unwrap()
            };
            prop_assert!(expected(brier, truth) <= expected(brier, said) + 1e-12);
            prop_assert!(expected(log_loss, truth) <= expected(log_loss, said) + 1e-12);
        }
    }
}
