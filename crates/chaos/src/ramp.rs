use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a fault's level goes over time.
///
/// A level is a share of the fault's full effect, from 0 (none) to 1 (all). Real failures rarely come at once: a leak
/// rises, a bad disk stutters. What a predictor can learn from a fault is decided here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "shape", rename_all = "kebab-case")]
pub enum Ramp {
    /// All of it from the first instant.
    #[default]
    Step,
    /// In a straight line.
    Linear {
        /// From nothing to all.
        over: Duration,
    },
    /// Slow at first, then ever faster: `(e^(4t) − 1) / (e^4 − 1)`.
    Exponential {
        /// From nothing to all.
        over: Duration,
    },
    /// Up in a straight line, down at once, over and over.
    Sawtooth {
        /// From one tooth's start to the next.
        period: Duration,
    },
    /// All of it, then nothing, over and over.
    Intermittent {
        /// How long it lasts.
        on: Duration,
        /// How long it pauses.
        off: Duration,
    },
}

/// How bent the exponential ramp is: at half its time it has reached 12% of its height.
const BEND: f64 = 4.0;

impl Ramp {
    /// The level at `t` after the fault began: from 0 to 1. A ramp without extent is a step.
    #[must_use]
    pub fn level(self, t: Duration) -> f64 {
        let share = |t: Duration, of: Duration| {
            if of.is_zero() { 1.0 } else { (t.as_secs_f64() / of.as_secs_f64()).clamp(0.0, 1.0) }
        };
        match self {
            Self::Step => 1.0,
            Self::Linear { over } => share(t, over),
            Self::Exponential { over } => ((BEND * share(t, over)).exp_m1() / BEND.exp_m1()).clamp(0.0, 1.0),
            Self::Sawtooth { period } => share(remainder(t, period), period),
            Self::Intermittent { on, off } => {
                if off.is_zero() || remainder(t, on.saturating_add(off)) < on {
                    1.0
                } else {
                    0.0
                }
            }
        }
    }

    /// Whether it gives warning: its level rises over time before it is at its height.
    #[must_use]
    pub fn is_gradual(self) -> bool {
        match self {
            Self::Linear { over } | Self::Exponential { over } => !over.is_zero(),
            Self::Sawtooth { period } => !period.is_zero(),
            Self::Step | Self::Intermittent { .. } => false,
        }
    }
}

fn remainder(t: Duration, period: Duration) -> Duration {
    match t.as_nanos().checked_rem(period.as_nanos()) {
        Some(left) => Duration::new((left / 1_000_000_000) as u64, (left % 1_000_000_000) as u32),
        None => t,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn shapes_are_what_they_are_called() {
        assert_eq!(Ramp::Step.level(S(0)), 1.0);
        assert_eq!(Ramp::Linear { over: S(10) }.level(S(5)), 0.5);
        assert_eq!(Ramp::Linear { over: S(10) }.level(S(50)), 1.0);
        let slow = Ramp::Exponential { over: S(10) };
        assert!((slow.level(S(5)) - 0.119).abs() < 0.001, "{}", slow.level(S(5)));
        assert_eq!(slow.level(S(10)), 1.0);
        let teeth = Ramp::Sawtooth { period: S(4) };
        assert_eq!(
            [teeth.level(S(0)), teeth.level(S(3)), teeth.level(S(4)), teeth.level(S(7))],
            [0.0, 0.75, 0.0, 0.75]
        );
        let now_and_then = Ramp::Intermittent { on: S(1), off: S(2) };
        assert_eq!([0, 1, 2, 3, 4].map(|t| now_and_then.level(S(t))), [1.0, 0.0, 0.0, 1.0, 0.0]);
    }

    fn any_ramp() -> impl Strategy<Value = Ramp> {
        let d = || (0u64..1_000_000).prop_map(Duration::from_millis);
        prop_oneof![
            Just(Ramp::Step),
            d().prop_map(|over| Ramp::Linear { over }),
            d().prop_map(|over| Ramp::Exponential { over }),
            d().prop_map(|period| Ramp::Sawtooth { period }),
            (d(), d()).prop_map(|(on, off)| Ramp::Intermittent { on, off }),
        ]
    }

    proptest! {
        #[test]
        fn a_level_is_a_share(ramp in any_ramp(), t in 0u64..u64::MAX) {
            let level = ramp.level(Duration::from_millis(t));
            prop_assert!((0.0..=1.0).contains(&level), "{level}");
        }

        #[test]
        fn what_rises_once_never_falls(over in 0u64..100_000, t in 0u64..100_000, later in 0u64..100_000) {
            let over = Duration::from_millis(over);
            for ramp in [Ramp::Linear { over }, Ramp::Exponential { over }, Ramp::Step] {
                let at = |t| ramp.level(Duration::from_millis(t));
                prop_assert!(at(t + later) >= at(t));
            }
        }

        #[test]
        fn repeating_shapes_repeat(t in 0u64..1_000_000, on in 1u64..10_000, off in 1u64..10_000) {
            let ms = Duration::from_millis;
            let teeth = Ramp::Sawtooth { period: ms(on) };
            prop_assert!((teeth.level(ms(t)) - teeth.level(ms(t + on))).abs() < 1e-9);
            let pulse = Ramp::Intermittent { on: ms(on), off: ms(off) };
            prop_assert_eq!(pulse.level(ms(t)), pulse.level(ms(t + on + off)));
        }
    }
}
