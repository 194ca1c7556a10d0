//! Models that were trained on failures, as values: what `forefend-learn` makes and what is served.

mod beyond;
mod calibration;
mod features;
mod forest;
mod hazard;
mod lately;
mod linear;
mod lstm;
mod model;
mod past;
mod predictor;
mod remembering;
mod stacked;
mod told;
mod trees;

pub use beyond::{Beyond, BeyondParts, HELD_FAMILIES, shares_held};
pub use calibration::Calibration;
pub use features::{Row, feature_names, features, features_and_first_day, never_falls};
pub use hazard::{Hazard, Scorer};
pub use lately::{LOOKS, Lately, lately_names, steps_in_a_look};
pub use linear::Linear;
pub use lstm::{Lstm, LstmLayer, LstmParts, LstmState};
pub use model::Model;
pub use past::{Episode, Neighbour, is_comparable, nearest, nearest_to};
pub use predictor::Learned;
pub use remembering::{Remembering, RememberingParts, hazards_after};
pub use stacked::Stacked;
pub use trees::{Node, Tree, Trees};
