//! Intervals that keep their promise: split conformal prediction on top of any two quantiles of a quantity that is never
//! negative, such as a time to failure.

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How an interval is made longer or shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Both ends are moved by an amount in the unit of the quantity: errors are of the same size everywhere.
    Additive,
    /// Both ends are multiplied: errors grow with the quantity, as those of most times do.
    Multiplicative,
}

/// A correction of lower and upper quantile predictions that makes the intervals between them cover the truth as often as
/// asked: conformalised quantile regression (Romano, Patterson & Candès 2019, <https://arxiv.org/abs/1905.03222>) in its
/// asymmetric form, where either end alone keeps half of the promise.
///
/// The promise holds on average over rows that are exchangeable with those of the fit, whatever the model and however
/// little it knows. It is no promise for a single kind of row, nor once the world has changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Conformal {
    shape: Shape,
    lower_by: f64,
    upper_by: f64,
}

/// Sums of ranks are compared with this much room for rounding.
const ROUNDING: f64 = 1e-9;

impl Conformal {
    /// A correction from predictions of rows that the model wasn't trained on, and what became of them, in the same unit. An upper
    /// prediction may be infinite.
    ///
    /// Of n rows, the error of either end is the one of rank `⌈(n + 1) · (1 + coverage) / 2⌉`.
    ///
    /// # Errors
    /// [`TrainError::TooFew`] where that rank is above n: no finite interval could promise it. Otherwise where lengths
    /// differ, a number is out of range, or [`TrainError::UpperZero`].
    pub fn fit(
        shape: Shape,
        lower: &[f64],
        upper: &[f64],
        truth: &[f64],
        coverage: f64,
    ) -> Result<Self, TrainError> {
        let each_its_own: Vec<usize> = (0..truth.len()).collect();
        Self::fit_grouped(shape, lower, upper, truth, coverage, &each_its_own)
    }

    /// As [`Self::fit`] where rows come in groups, such as many instants before one failure: groups are taken to be
    /// exchangeable, not rows. The promise is for a row of a new group; every group counts the same, however many rows it has
    /// (Lee, Barber & Willett 2023, <https://arxiv.org/abs/2306.06342>).
    ///
    /// # Errors
    /// As of [`Self::fit`], with groups for rows.
    pub fn fit_grouped<G: Ord>(
        shape: Shape,
        lower: &[f64],
        upper: &[f64],
        truth: &[f64],
        coverage: f64,
        groups: &[G],
    ) -> Result<Self, TrainError> {
        check(lower, upper, truth, coverage)?;
        if groups.len() != truth.len() {
            return Err(TrainError::Lengths { what: "groups", have: groups.len(), want: truth.len() });
        }
        let masses = masses(groups);
        let rows = || lower.iter().zip(upper).map(|(lower, upper)| in_order(*lower, *upper)).zip(truth);
        // Each end may miss half of what may be missed at all.
        let quantile = |errors: Vec<f64>| {
            let have = masses.groups;
            let level = f64::midpoint(1.0, coverage);
            let need = (level / (1.0 - level) - ROUNDING).ceil() as usize;
            masses.quantile(&errors, level).ok_or(TrainError::TooFew { have, need, coverage })
        };
        match shape {
            Shape::Additive => {
                let below = quantile(rows().map(|((lower, _), truth)| lower - truth).collect())?;
                let above = quantile(rows().map(|((_, upper), truth)| truth - upper).collect())?;
                // Where most upper predictions are infinite, nothing is known of the others.
                Ok(Self { shape, lower_by: below, upper_by: if above.is_finite() { above } else { 0.0 } })
            }
            Shape::Multiplicative => {
                let below = quantile(rows().map(|((lower, _), truth)| ratio(lower, *truth)).collect())?;
                let above = quantile(rows().map(|((_, upper), truth)| ratio(*truth, upper)).collect())?;
                if above.is_infinite() {
                    return Err(TrainError::UpperZero);
                }
                let lower_by = if below > 0.0 { below.recip() } else { 1.0 };
                Ok(Self {
                    shape,
                    lower_by: lower_by.min(f64::MAX),
                    upper_by: if above > 0.0 { above } else { 1.0 },
                })
            }
        }
    }

    /// The interval to be believed where the model says `lower` to `upper`. Its ends are in order and never below 0; where the
    /// correction would cross them, both are at the upper one, the sooner. An end that is NaN is as good as unknown: 0 or
    /// infinite.
    #[must_use]
    pub fn apply(&self, lower: f64, upper: f64) -> (f64, f64) {
        let (lower, upper) = in_order(
            if lower.is_nan() { 0.0 } else { lower },
            if upper.is_nan() { f64::INFINITY } else { upper },
        );
        let (lower, upper) = match self.shape {
            Shape::Additive => (lower - self.lower_by, upper + self.upper_by),
            Shape::Multiplicative => (product(lower, self.lower_by), product(upper, self.upper_by)),
        };
        let upper = upper.max(0.0);
        (lower.clamp(0.0, upper), upper)
    }
}

fn check(lower: &[f64], upper: &[f64], truth: &[f64], coverage: f64) -> Result<(), TrainError> {
    if !(coverage > 0.0 && coverage < 1.0) {
        return Err(TrainError::Setting { name: "coverage", allowed: "between 0 and 1" });
    }
    if truth.is_empty() {
        return Err(TrainError::NoRows);
    }
    for (what, have) in [("lower predictions", lower.len()), ("upper predictions", upper.len())] {
        if have != truth.len() {
            return Err(TrainError::Lengths { what, have, want: truth.len() });
        }
    }
    let wrong = |values: &[f64], fine: fn(f64) -> bool, allowed: &'static str| {
        let row = values.iter().position(|value| !fine(*value))?;
        Some(TrainError::Prediction { row, value: values[row], allowed })
    };
    let error = wrong(lower, f64::is_finite, "finite at the lower end")
        .or_else(|| {
            wrong(upper, |upper| !upper.is_nan() && upper > f64::NEG_INFINITY, "a number or infinity")
        })
        .or_else(|| wrong(truth, |truth| truth.is_finite() && truth >= 0.0, "of a truth from 0 on"));
    error.map_or(Ok(()), Err)
}

/// The two ends in order, and not below 0, where the truth never is.
fn in_order(lower: f64, upper: f64) -> (f64, f64) {
    (lower.min(upper).max(0.0), lower.max(upper).max(0.0))
}

/// By what `small` has to be multiplied to reach `large`; 0 where any number will do.
fn ratio(large: f64, small: f64) -> f64 {
    if large <= 0.0 || small.is_infinite() { 0.0 } else { large / small }
}

/// A product in which 0 wins over infinity.
fn product(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { a * b }
}

/// How much every row counts. The groups that were seen and the one to come weigh the same; of the one to come, nothing is known, so
/// its error counts as infinite.
struct Masses {
    of_rows: Vec<f64>,
    groups: usize,
}

fn masses<G: Ord>(groups: &[G]) -> Masses {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|a, b| groups[*a].cmp(&groups[*b]));
    let chunks: Vec<&[usize]> = order.chunk_by(|a, b| groups[*a] == groups[*b]).collect();
    let mut of_rows = vec![0.0; groups.len()];
    for rows in &chunks {
        let mass = 1.0 / ((chunks.len() + 1) as f64 * rows.len() as f64);
        rows.iter().for_each(|row| of_rows[*row] = mass);
    }
    Masses { of_rows, groups: chunks.len() }
}

impl Masses {
    /// The least error such that those up to it have `level` of all mass; `None` where that takes the group to come.
    fn quantile(&self, errors: &[f64], level: f64) -> Option<f64> {
        let mut order: Vec<usize> = (0..errors.len()).collect();
        order.sort_by(|a, b| errors[*a].total_cmp(&errors[*b]));
        let mut mass = 0.0;
        order.into_iter().find_map(|row| {
            mass += self.of_rows[row];
            (mass >= level - ROUNDING).then_some(errors[row])
        })
    }
}

/// A [`Conformal`] before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    shape: Shape,
    lower_by: f64,
    upper_by: f64,
}

impl TryFrom<Written> for Conformal {
    type Error = String;

    fn try_from(Written { shape, lower_by, upper_by }: Written) -> Result<Self, String> {
        if !(lower_by.is_finite() && upper_by.is_finite()) {
            return Err("a correction of the interval is not finite".into());
        }
        if shape == Shape::Multiplicative && (lower_by < 0.0 || upper_by < 0.0) {
            return Err("a factor of the interval is negative".into());
        }
        Ok(Self { shape, lower_by, upper_by })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SHAPES: [Shape; 2] = [Shape::Additive, Shape::Multiplicative];

    /// Truths around a scale that the model knows, and quantiles of a model that is far too sure of itself and too high.
    fn made_up(random: &mut ChaCha8Rng, shift: f64) -> (f64, f64, f64) {
        let scale = random.random_range(1.0..100.0);
        let truth: f64 = scale * (-(1.0 - random.random::<f64>()).ln()) * shift;
        (scale * 0.9, scale * 1.3, truth)
    }

    fn columns(rows: &[(f64, f64, f64)]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let (lower, rest): (Vec<f64>, Vec<(f64, f64)>) = rows.iter().map(|r| (r.0, (r.1, r.2))).unzip();
        let (upper, truth) = rest.into_iter().unzip();
        (lower, upper, truth)
    }

    fn covers(fitted: &Conformal, (lower, upper, truth): (f64, f64, f64)) -> bool {
        let (lower, upper) = fitted.apply(lower, upper);
        (lower..=upper).contains(&truth)
    }

    #[test]
    fn the_promise_is_kept_on_rows_like_those_of_the_fit_and_by_no_more_than_it_takes() {
        for shape in SHAPES {
            let (mut covered, mut asked) = (0u32, 0u32);
            for seed in 0..400 {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let rows: Vec<_> = (0..59).map(|_| made_up(&mut random, 1.0)).collect();
                let (lower, upper, truth) = columns(&rows);
                let fitted = Conformal::fit(shape, &lower, &upper, &truth, 0.8).unwrap();
                for _ in 0..20 {
                    covered += u32::from(covers(&fitted, made_up(&mut random, 1.0)));
                    asked += 1;
                }
            }
            let share = f64::from(covered) / f64::from(asked);
            assert!((0.785..0.83).contains(&share), "{shape:?}: {share}");
        }
    }

    #[test]
    fn the_promise_is_kept_for_a_new_group_though_rows_of_a_group_are_alike() {
        let (mut covered, mut asked) = (0u32, 0u32);
        for seed in 0..400 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (mut rows, mut groups) = (vec![], vec![]);
            let group = |random: &mut ChaCha8Rng| {
                let (shift, size) = (random.random_range(0.2..5.0), random.random_range(1..30));
                (0..size).map(|_| made_up(random, shift)).collect::<Vec<_>>()
            };
            for number in 0..29 {
                let some = group(&mut random);
                groups.extend(some.iter().map(|_| number));
                rows.extend(some);
            }
            let (lower, upper, truth) = columns(&rows);
            let shape = Shape::Multiplicative;
            let fitted = Conformal::fit_grouped(shape, &lower, &upper, &truth, 0.8, &groups).unwrap();
            for _ in 0..5 {
                covered += u32::from(covers(&fitted, group(&mut random)[0]));
                asked += 1;
            }
        }
        let share = f64::from(covered) / f64::from(asked);
        assert!((0.78..0.86).contains(&share), "{share}");
    }

    #[test]
    fn the_rank_is_that_of_the_finite_sample() {
        // Errors of the upper end are 1 to 19, and (19 + 1) · 0.95 = 19.
        let truth: Vec<f64> = (1..=19).map(f64::from).collect();
        let fitted = Conformal::fit(Shape::Additive, &[0.0; 19], &[0.0; 19], &truth, 0.9).unwrap();
        assert_eq!(fitted.apply(0.0, 0.0).1, 19.0);
        let fitted = Conformal::fit(Shape::Additive, &[0.0; 19], &[0.0; 19], &truth, 0.8).unwrap();
        assert_eq!(fitted.apply(0.0, 0.0).1, 18.0);
    }

    #[test]
    fn too_few_rows_for_the_promise_are_told_with_how_many_it_takes() {
        let error = Conformal::fit(Shape::Additive, &[0.0; 18], &[1.0; 18], &[0.5; 18], 0.9).unwrap_err();
        assert_eq!(error, TrainError::TooFew { have: 18, need: 19, coverage: 0.9 });
        // Ten rows of one failure are one failure.
        let groups = [3; 19];
        let error = Conformal::fit_grouped(Shape::Additive, &[0.0; 19], &[1.0; 19], &[0.5; 19], 0.9, &groups)
            .unwrap_err();
        assert_eq!(error, TrainError::TooFew { have: 1, need: 19, coverage: 0.9 });
    }

    #[test]
    fn what_does_not_fit_together_is_told() {
        let told = |lower: &[f64], upper: &[f64], truth: &[f64], coverage| {
            Conformal::fit(Shape::Multiplicative, lower, upper, truth, coverage).unwrap_err().to_string()
        };
        assert!(told(&[], &[], &[], 0.5).contains("no rows"));
        assert!(told(&[1.0], &[1.0, 2.0], &[1.0], 0.5).contains("2 upper predictions for 1"));
        assert!(told(&[f64::NAN], &[1.0], &[1.0], 0.5).contains("row 0 is NaN"));
        assert!(told(&[0.0], &[1.0], &[-1.0], 0.5).contains("row 0 is -1"));
        assert!(told(&[0.0], &[1.0], &[1.0], 1.0).contains("coverage"));
        assert!(told(&[0.0; 9], &[0.0; 9], &[1.0; 9], 0.5).contains("additive"));
    }

    #[test]
    fn damaged_corrections_are_refused() {
        for text in [
            r#"{"shape":"multiplicative","lower_by":-1.0,"upper_by":1.0}"#,
            r#"{"shape":"additive","lower_by":null,"upper_by":1.0}"#,
            r#"{"shape":"round","lower_by":1.0,"upper_by":1.0}"#,
        ] {
            assert!(serde_json::from_str::<Conformal>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ends_are_in_order_and_from_0_on_whatever_was_predicted(
            rows in prop::collection::vec((0f64..50.0, prop_oneof![1 => Just(f64::INFINITY), 9 => 0f64..90.0], prop_oneof![1 => Just(0.0), 5 => 0f64..70.0]), 3..40),
            coverage in 0.05f64..0.5,
            ends in (any::<f64>(), prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY)]),
        ) {
            let (lower, upper, truth) = columns(&rows);
            for shape in SHAPES {
                let Ok(fitted) = Conformal::fit(shape, &lower, &upper, &truth, coverage) else { continue };
                let (low, high) = fitted.apply(ends.0, ends.1);
                prop_assert!(0.0 <= low && low <= high, "{low} to {high}");
                let text = serde_json::to_string(&fitted).unwrap();
                let read: Conformal = serde_json::from_str(&text).unwrap();
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs();
                prop_assert!(near(fitted.lower_by, read.lower_by) && near(fitted.upper_by, read.upper_by));
            }
        }

        #[test]
        fn on_the_rows_of_the_fit_either_end_misses_no_more_than_it_may(
            rows in prop::collection::vec((0f64..50.0, 0f64..90.0, 0.1f64..70.0), 10..40),
        ) {
            let (lower, upper, truth) = columns(&rows);
            for shape in SHAPES {
                let Ok(fitted) = Conformal::fit(shape, &lower, &upper, &truth, 0.7) else { continue };
                let missed = rows.iter().filter(|row| {
                    let (low, high) = fitted.apply(row.0, row.1);
                    row.2 < low * (1.0 - 1e-9) - 1e-9 || row.2 > high * (1.0 + 1e-9) + 1e-9
                });
                prop_assert!(missed.count() as f64 <= 0.3 * rows.len() as f64);
            }
        }
    }
}
