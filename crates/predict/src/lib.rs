//! Windows to predictions. Pure: no clock, no randomness, no I/O.
//!
//! The model of the first day needs no failure to have been seen. For every metric that has a limit it asks *when is
//! it there?* ([`first_passage`]), with the drift's uncertainty carried through; the answers of all metrics become
//! **one** survival curve ([`Curve`]), and probability, time to failure, health and drivers are read off that curve, so they can't
//! contradict each other. Extrapolating a line and comparing it with a threshold, the obvious alternative, gives no
//! probability and takes every step and every burst for a trend.
//!
//! Limits are declared, read from the system, or learned from earlier failures ([`LearnedLimits`]).
//!
//! Start from [`DayZero::predict`]. Learned models will join it behind [`Predictor`].

mod anomaly;
mod column;
mod curve;
mod day_zero;
pub mod detect;
pub mod first_passage;
mod fleet;
pub mod forecast;
mod held;
pub mod learned;
mod levels;
mod limits;
mod normal;
mod trend;

pub use anomaly::robust_z;
pub use curve::Curve;
pub use day_zero::{DayZero, Known, Predictor, Unusual, quantity};
pub use fleet::{Fleet, Hazards, Place};
pub use held::{HELD_STEPS, held};
pub use levels::Levels;
pub use limits::{LearnedLimits, NewLimit};
pub use trend::{Trend, TrendMixture, estimate};
