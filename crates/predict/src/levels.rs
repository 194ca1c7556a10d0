use forefend_domain::{Interval, TimeToFailure};
use serde::{Deserialize, Serialize};

use crate::Curve;

/// Where a survival curve is read for the two ends of the time to failure that people and decisions are told.
///
/// A curve that is right is read at one tenth and at nine tenths, which is the default. One that is too sure of itself, or not sure enough, is
/// read elsewhere: the curve stays the one source of every figure, and only the levels move. The median is the curve's own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "(f64, f64)", into = "(f64, f64)")]
pub struct Levels {
    low: f64,
    high: f64,
}

impl Default for Levels {
    fn default() -> Self {
        Self::PLAIN
    }
}

impl From<Levels> for (f64, f64) {
    fn from(levels: Levels) -> Self {
        (levels.low, levels.high)
    }
}

impl TryFrom<(f64, f64)> for Levels {
    type Error = String;

    fn try_from((low, high): (f64, f64)) -> Result<Self, String> {
        let levels = Self::new(low, high);
        if (levels.low, levels.high) == (low, high) {
            Ok(levels)
        } else {
            Err(format!(
                "the levels {low} and {high} of an interval are not on either side of the median; train the model again"
            ))
        }
    }
}

impl Levels {
    /// One failure in ten before, one in ten after: as the curve says it.
    pub const PLAIN: Self = Self { low: 0.1, high: 0.9 };
    /// No end is read nearer to certainty than this: curves are not told apart there.
    pub const EXTREME: f64 = 1e-4;

    /// The lower and the upper level; each is kept on its side of the median, and NaN is the plain one.
    #[must_use]
    pub fn new(low: f64, high: f64) -> Self {
        let or = |level: f64, plain: f64| if level.is_nan() { plain } else { level };
        Self {
            low: or(low, Self::PLAIN.low).clamp(Self::EXTREME, 0.5),
            high: or(high, Self::PLAIN.high).clamp(0.5, 1.0 - Self::EXTREME),
        }
    }

    /// Where the early end is read, above 0 to 0.5.
    #[must_use]
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Where the late end is read, 0.5 to below 1.
    #[must_use]
    pub fn high(&self) -> f64 {
        self.high
    }

    /// The times to be told of a curve. An end is told only where the plain one would be: on other curves nobody has checked the level, and a level
    /// of one in a thousand would be reached by every cell that is well.
    #[must_use]
    pub fn read(&self, curve: &Curve) -> TimeToFailure {
        let told = |level: f64, plain: f64| curve.quantile(plain).and_then(|_| curve.quantile(level));
        TimeToFailure {
            p10: told(self.low, Self::PLAIN.low),
            p50: curve.quantile(0.5),
            p90: told(self.high, Self::PLAIN.high),
        }
    }

    /// The same of levels that may not be there, with what that is called.
    #[must_use]
    pub fn told(levels: Option<&Self>, curve: &Curve) -> (TimeToFailure, Interval) {
        match levels {
            Some(levels) => (levels.read(curve), Interval::Calibrated),
            None => (curve.time_to_failure(), Interval::Plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn curve(rate: f64, step_at: f64, step: f64) -> Curve {
        let horizon = Duration::from_secs(60);
        let mut curve = Curve::new(horizon).with_probabilities(|t| 1.0 - (-rate * t).exp());
        curve.add(&Curve::new(horizon).with_probabilities(|t| if t > step_at { step } else { 0.0 }));
        curve
    }

    proptest! {
        #[test]
        fn ends_stay_around_the_median_and_agree_with_every_probability(
            rate in 1e-6f64..1.0, step_at in 0.1f64..300.0, step in 0.0f64..1.0, low in any::<f64>(), high in any::<f64>(),
            low_share in 0.0f64..1.0, at in 1.0f64..240.0,
        ) {
            let curve = curve(rate, step_at, step);
            for levels in [Levels::new(low, high), Levels::new(0.5 * low_share, 0.5 + 0.5 * low_share)] {
                let told = levels.read(&curve);
                prop_assert!(told.is_ordered(), "{told:?} at {levels:?}");
                // Who says "nine in ten sooner than t" says that it is more likely than not by then, and the other way round.
                let p = |t: Duration| curve.probability_within(t).get();
                prop_assert!(told.p90.is_none_or(|t| p(t) >= levels.high() - 1e-6));
                prop_assert!(told.p10.is_none_or(|t| p(t) >= levels.low() - 1e-6));
                let t = Duration::from_secs_f64(at);
                if told.p10.is_some_and(|end| t < end) {
                    prop_assert!(p(t) <= levels.low() + 1e-6, "{} before the early end", p(t));
                }
                if told.p90.is_some_and(|end| t > end) {
                    prop_assert!(p(t) >= levels.high() - 1e-6, "{} after the late end", p(t));
                }
            }
        }

        #[test]
        fn what_the_curve_does_not_reach_is_beyond(rate in 1e-6f64..4e-4, low in 1e-4f64..0.1) {
            // At most 9% within all that the curve speaks for.
            prop_assert_eq!(Levels::new(low, 0.6).read(&curve(rate, 1e9, 0.0)), TimeToFailure::default());
        }
    }

    #[test]
    fn the_plain_levels_are_the_curves_own_quantiles() {
        let curve = curve(0.02, 100.0, 0.3);
        assert_eq!(Levels::PLAIN.read(&curve), curve.time_to_failure());
        assert_eq!(Levels::new(f64::NAN, f64::NAN), Levels::PLAIN);
        let (wide, narrow) = (Levels::new(0.02, 0.99).read(&curve), Levels::new(0.3, 0.7).read(&curve));
        assert!(wide.p10 < narrow.p10 && wide.p90 > narrow.p90 && wide.p50 == narrow.p50);
    }

    #[test]
    fn levels_that_make_no_interval_are_refused() {
        for text in ["[0.6,0.9]", "[0.1,0.4]", "[0.0,0.9]", "[0.1,1.0]"] {
            assert!(serde_json::from_str::<Levels>(text).is_err(), "{text}");
        }
        let levels = Levels::new(0.03, 0.97);
        assert_eq!(serde_json::from_str::<Levels>(&serde_json::to_string(&levels).unwrap()).unwrap(), levels);
    }
}
