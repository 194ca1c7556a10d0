use serde::{Deserialize, Serialize};

/// A weighted sum of standardised features: the log odds of a logistic regression.
///
/// The score is `intercept + Σ weight · (feature − centre) / scale`. A feature that isn't known (NaN, infinite, or missing
/// at the end of the row) stands at its centre and so says nothing. All numbers of the model are `f32`, which a decimal
/// text gives back exactly; sums are `f64`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenLinear")]
pub struct Linear {
    intercept: f32,
    weights: Vec<f32>,
    centre: Vec<f32>,
    scale: Vec<f32>,
}

impl Linear {
    /// A model with one weight, centre and scale for each feature. The intercept and the weights are in log odds, the weights per
    /// scale; centre and scale are in the unit of the feature.
    ///
    /// # Errors
    /// Says what is wrong: lists of different lengths, a number that isn't finite, a scale that isn't positive.
    pub fn new(intercept: f32, weights: Vec<f32>, centre: Vec<f32>, scale: Vec<f32>) -> Result<Self, String> {
        if centre.len() != weights.len() || scale.len() != weights.len() {
            let (weights, centre, scale) = (weights.len(), centre.len(), scale.len());
            return Err(format!("{weights} weights, {centre} centres and {scale} scales should be as many"));
        }
        let finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
        if !(intercept.is_finite() && finite(&weights) && finite(&centre) && finite(&scale)) {
            return Err("a number of the linear model is not finite".into());
        }
        if scale.iter().any(|scale| *scale <= 0.0) {
            return Err("a scale of the linear model is not positive".into());
        }
        Ok(Self { intercept, weights, centre, scale })
    }

    /// How many features a row has.
    #[must_use]
    pub fn feature_count(&self) -> usize {
        self.weights.len()
    }

    /// The score of a row whose features all stand at their centre, in log odds.
    #[must_use]
    pub fn intercept(&self) -> f64 {
        f64::from(self.intercept)
    }

    /// What one scale more of each feature adds, in log odds.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// What each feature is measured from, in its own unit.
    #[must_use]
    pub fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// What each feature is measured in, in its own unit; positive.
    #[must_use]
    pub fn scale(&self) -> &[f32] {
        &self.scale
    }

    /// The log odds of a row. Always finite.
    #[must_use]
    pub fn score(&self, features: &[f32]) -> f64 {
        (0..self.weights.len()).fold(self.intercept(), |score, i| score + self.part(i, features))
    }

    /// Shares the score out: `out[i]` becomes what feature `i` adds, and the return value is the intercept. Both together add up
    /// to [`Self::score`]. Of features that move together, the regression has chosen how they share the credit.
    ///
    /// # Panics
    /// Where `out` has no place for every feature.
    pub fn contributions(&self, features: &[f32], out: &mut [f64]) -> f64 {
        assert!(
            out.len() >= self.feature_count(),
            "{} places for {} features",
            out.len(),
            self.weights.len()
        );
        out.fill(0.0);
        out.iter_mut()
            .take(self.weights.len())
            .enumerate()
            .for_each(|(i, out)| *out = self.part(i, features));
        self.intercept()
    }

    fn part(&self, i: usize, features: &[f32]) -> f64 {
        match features.get(i) {
            Some(value) if value.is_finite() => {
                let deviation = f64::from(*value) - f64::from(self.centre[i]);
                f64::from(self.weights[i]) * (deviation / f64::from(self.scale[i]))
            }
            _ => 0.0,
        }
    }
}

/// A [`Linear`] before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLinear {
    intercept: f32,
    weights: Vec<f32>,
    centre: Vec<f32>,
    scale: Vec<f32>,
}

impl TryFrom<WrittenLinear> for Linear {
    type Error = String;

    fn try_from(written: WrittenLinear) -> Result<Self, String> {
        Self::new(written.intercept, written.weights, written.centre, written.scale)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_linear() -> impl Strategy<Value = Linear> {
        let column = (-5f32..5.0, -1e6f32..1e6, 1e-2f32..1e6);
        (-5f32..5.0, prop::collection::vec(column, 0..6)).prop_map(|(intercept, columns)| {
            let (weights, rest): (Vec<f32>, Vec<(f32, f32)>) =
                columns.iter().map(|c| (c.0, (c.1, c.2))).unzip();
            let (centre, scale) = rest.into_iter().unzip();
            Linear::new(intercept, weights, centre, scale).unwrap()
        })
    }

    #[test]
    fn a_feature_counts_in_scales_from_its_centre_and_an_unknown_one_not_at_all() {
        let model = Linear::new(-1.0, vec![2.0, 0.5], vec![10.0, 0.0], vec![5.0, 1.0]).unwrap();
        assert_eq!(model.score(&[15.0, 4.0]), 3.0);
        assert_eq!(model.score(&[f32::NAN, 4.0]), 1.0);
        assert_eq!(model.score(&[f32::INFINITY]), -1.0);
    }

    #[test]
    fn damaged_models_are_refused_with_a_reason() {
        for (text, reason) in [
            (r#"{"intercept":0.0,"weights":[1.0],"centre":[],"scale":[1.0]}"#, "as many"),
            (r#"{"intercept":0.0,"weights":[1.0],"centre":[0.0],"scale":[0.0]}"#, "not positive"),
            (r#"{"intercept":0.0,"weights":[1e39],"centre":[0.0],"scale":[1.0]}"#, ""),
            (r#"{"intercept":1e39,"weights":[],"centre":[],"scale":[]}"#, ""),
            (r#"{"intercept":null,"weights":[],"centre":[],"scale":[]}"#, ""),
            (r#"{"intercept":0.0,"weights":[],"centre":[]}"#, "scale"),
        ] {
            let error = serde_json::from_str::<Linear>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn scores_are_finite_and_parts_add_up(
            model in any_linear(),
            features in prop::collection::vec(prop_oneof![-1e4f32..1e4, Just(f32::NAN)], 0..8),
        ) {
            let score = model.score(&features);
            prop_assert!(score.is_finite());
            let mut parts = vec![1.0; model.feature_count()];
            let sum = model.contributions(&features, &mut parts) + parts.iter().sum::<f64>();
            prop_assert!((sum - score).abs() <= 1e-9 * score.abs().max(1.0), "{sum} is not {score}");
        }

        #[test]
        fn no_feature_makes_a_score_that_is_not_finite(model in any_linear(), feature in any::<f32>()) {
            prop_assert!(model.score(&[feature; 6]).is_finite());
        }

        #[test]
        fn a_model_that_is_written_down_comes_back_exactly(model in any_linear()) {
            let text = serde_json::to_string(&model).unwrap();
            prop_assert_eq!(serde_json::from_str::<Linear>(&text).unwrap(), model);
        }
    }
}
