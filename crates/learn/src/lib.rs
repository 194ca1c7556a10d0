//! From what was seen to models: training, calibration, evaluation.
//!
//! What a model *is* lives in `forefend-predict`, which serves it; here it is made and judged. Randomness comes from seeds
//! that are passed in: the same rows and the same seed make the same model.

pub mod beyond;
pub mod boost;
pub mod calibrate;
pub mod conformal;
pub mod evaluate;
pub mod hazard;
pub mod levels;
pub mod logistic;
pub mod lstm;
mod matrix;
pub mod practice;

pub use matrix::{Matrix, TrainError};
