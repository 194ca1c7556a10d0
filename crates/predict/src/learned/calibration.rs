use serde::{Deserialize, Serialize};

/// Puts the probabilities of a model right: what it calls 10% should happen one time in ten. Never falls where the
/// probability rises, so that no two cells change places.
///
/// [`Self::platt`], [`Self::isotonic`] and deserialisation check the numbers. They are `f32`, which a decimal text gives
/// back exactly.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "WrittenCalibration", rename_all = "snake_case")]
pub enum Calibration {
    /// Nothing to put right, or too little seen to know.
    #[default]
    Identity,
    /// A straight line on the log odds (Platt 1999): two numbers, for models that are evenly too bold or too timid.
    Platt {
        /// Log odds per log odds, not negative.
        slope: f32,
        /// Log odds at a probability of one half.
        intercept: f32,
    },
    /// Any rising line, straight between knots and flat beyond the first and the last.
    Isotonic {
        /// Probabilities of the model, strictly ascending.
        x: Vec<f32>,
        /// What they are to be, never falling.
        y: Vec<f32>,
    },
}

/// Log odds are taken no nearer to 0 and 1 than this.
const LEAST: f64 = 1e-12;

impl Calibration {
    /// A straight line on the log odds.
    ///
    /// # Errors
    /// Where a number isn't finite, or the slope is negative and would turn the order round.
    pub fn platt(slope: f32, intercept: f32) -> Result<Self, String> {
        if !(slope.is_finite() && intercept.is_finite()) {
            return Err("a number of the calibration is not finite".into());
        }
        if slope < 0.0 {
            return Err(format!("the slope {slope} of the calibration is negative"));
        }
        Ok(Self::Platt { slope, intercept })
    }

    /// A rising line through the knots `(x, y)`.
    ///
    /// # Errors
    /// Where there are no knots or not as many `x` as `y`, one isn't a probability, `x` doesn't ascend or `y` falls.
    pub fn isotonic(x: Vec<f32>, y: Vec<f32>) -> Result<Self, String> {
        if x.is_empty() || x.len() != y.len() {
            return Err(format!("{} and {} coordinates make no knots of a calibration", x.len(), y.len()));
        }
        if !x.iter().chain(&y).all(|p| (0.0..=1.0).contains(p)) {
            return Err("a knot of the calibration is not a probability".into());
        }
        if !(x.is_sorted_by(|a, b| a < b) && y.is_sorted()) {
            return Err("the knots of the calibration don't ascend".into());
        }
        Ok(Self::Isotonic { x, y })
    }

    /// The probability that should be believed where the model says `p`. From 0 to 1 and never NaN: a `p` outside is taken
    /// for the nearest end, and NaN, which no model here gives, for 0.
    #[must_use]
    pub fn apply(&self, p: f64) -> f64 {
        let p = if p.is_nan() { 0.0 } else { p.clamp(0.0, 1.0) };
        let calibrated = match self {
            Self::Identity => p,
            Self::Platt { slope, intercept } => {
                let p = p.clamp(LEAST, 1.0 - LEAST);
                let log_odds = f64::from(*slope) * (p / (1.0 - p)).ln() + f64::from(*intercept);
                1.0 / (1.0 + (-log_odds).exp())
            }
            Self::Isotonic { x, y } => between(p, x, y).unwrap_or(p),
        };
        // The variants are open to all, so what is in them need not have been checked.
        if calibrated.is_nan() { p } else { calibrated.clamp(0.0, 1.0) }
    }
}

/// The line through the knots at `p`; nothing where there are none.
fn between(p: f64, x: &[f32], y: &[f32]) -> Option<f64> {
    let above = x.partition_point(|knot| f64::from(*knot) < p);
    let y_at = |i: usize| y.get(i).copied().map(f64::from);
    let Some(below) = above.checked_sub(1) else { return y_at(0) };
    let Some(x1) = x.get(above).copied().map(f64::from) else { return y_at(below) };
    let (x0, y0, y1) = (f64::from(x[below]), y_at(below)?, y_at(above)?);
    // Rounding must not lift a point above the knot that follows it.
    Some((y0 + (p - x0) / (x1 - x0) * (y1 - y0)).min(y1))
}

/// A [`Calibration`] before it is checked.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenCalibration {
    Identity,
    Platt { slope: f32, intercept: f32 },
    Isotonic { x: Vec<f32>, y: Vec<f32> },
}

impl TryFrom<WrittenCalibration> for Calibration {
    type Error = String;

    fn try_from(written: WrittenCalibration) -> Result<Self, String> {
        match written {
            WrittenCalibration::Identity => Ok(Self::Identity),
            WrittenCalibration::Platt { slope, intercept } => Self::platt(slope, intercept),
            WrittenCalibration::Isotonic { x, y } => Self::isotonic(x, y),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_calibration() -> impl Strategy<Value = Calibration> {
        let platt = (0f32..1e3, -1e3f32..1e3).prop_map(|(a, b)| Calibration::platt(a, b).unwrap());
        let knots = prop::collection::vec((0f32..=1.0, 0f32..=1.0), 1..12).prop_map(|knots| {
            let (mut x, mut y): (Vec<f32>, Vec<f32>) = knots.into_iter().unzip();
            x.sort_by(f32::total_cmp);
            x.dedup();
            y.sort_by(f32::total_cmp);
            y.truncate(x.len());
            Calibration::isotonic(x, y).unwrap()
        });
        prop_oneof![Just(Calibration::Identity), platt, knots]
    }

    #[test]
    fn the_line_goes_through_its_knots_and_is_flat_beyond_them() {
        let line = Calibration::isotonic(vec![0.25, 0.5, 0.75], vec![0.0, 0.5, 0.5]).unwrap();
        for (p, wanted) in [(0.0, 0.0), (0.25, 0.0), (0.375, 0.25), (0.5, 0.5), (0.6, 0.5), (1.0, 0.5)] {
            assert_eq!(line.apply(p), wanted, "at {p}");
        }
    }

    #[test]
    fn a_slope_of_one_changes_nothing_and_of_half_halves_the_log_odds() {
        assert!((Calibration::platt(1.0, 0.0).unwrap().apply(0.2) - 0.2).abs() < 1e-12);
        assert!((Calibration::platt(0.5, 0.0).unwrap().apply(0.8) - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn damaged_calibrations_are_refused_with_a_reason() {
        for (text, reason) in [
            (r#"{"platt":{"slope":-1.0,"intercept":0.0}}"#, "negative"),
            (r#"{"platt":{"slope":1e39,"intercept":0.0}}"#, ""),
            (r#"{"platt":{"slope":null,"intercept":0.0}}"#, ""),
            (r#"{"isotonic":{"x":[],"y":[]}}"#, "no knots"),
            (r#"{"isotonic":{"x":[0.1,0.2],"y":[0.1]}}"#, "no knots"),
            (r#"{"isotonic":{"x":[0.2,0.2],"y":[0.1,0.2]}}"#, "ascend"),
            (r#"{"isotonic":{"x":[0.1,0.2],"y":[0.2,0.1]}}"#, "ascend"),
            (r#"{"isotonic":{"x":[0.1],"y":[1.1]}}"#, "not a probability"),
            (r#""wish""#, "wish"),
        ] {
            let error = serde_json::from_str::<Calibration>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_was_put_together_by_hand_may_be_nonsense_but_gives_probabilities() {
        for calibration in [
            Calibration::Isotonic { x: vec![], y: vec![] },
            Calibration::Isotonic { x: vec![0.1, 0.9], y: vec![f32::NAN] },
            Calibration::Isotonic { x: vec![0.5, 0.5], y: vec![9.0, -9.0] },
            Calibration::Platt { slope: f32::NAN, intercept: f32::INFINITY },
        ] {
            for p in [f64::NAN, f64::NEG_INFINITY, 0.0, 0.5, 0.7, 1.0, f64::INFINITY] {
                assert!((0.0..=1.0).contains(&calibration.apply(p)), "{calibration:?} at {p}");
            }
        }
    }

    proptest! {
        #[test]
        fn order_is_kept_and_probabilities_stay_probabilities(
            calibration in any_calibration(),
            p in any::<f64>(),
            mut ascending in prop::collection::vec(-0.1f64..1.1, 2..40),
        ) {
            prop_assert!((0.0..=1.0).contains(&calibration.apply(p)));
            ascending.sort_by(f64::total_cmp);
            let calibrated: Vec<f64> = ascending.iter().map(|p| calibration.apply(*p)).collect();
            prop_assert!(calibrated.is_sorted(), "{calibrated:?}");
        }

        #[test]
        fn what_is_written_down_comes_back_exactly(calibration in any_calibration()) {
            let text = serde_json::to_string(&calibration).unwrap();
            prop_assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), calibration);
        }
    }
}
