//! Learning in production: from what happened to a model that may serve.
//!
//! [`Outcomes`] says which cells failed when, and when their fate could not be seen. [`landmarks`] lays fixed instants over a history
//! and says of each what became of the cell. [`ladder`] trains on those, rung by rung. [`gate`] decides whether a challenger may take
//! the champion's place; [`Trial`] collects what both say live, so that the gate can be asked again with what no history can leak into.
//! [`Registry`] keeps the models on disk, with the data they saw and their scores. [`outlooks`] forecasts from the same past when limits are reached.
//!
//! All but the registry is pure.

mod fingerprint;
pub mod gate;
mod judged;
pub mod ladder;
mod landmarks;
mod outcomes;
mod outlooks;
mod parallel;
mod registry;
mod study;
mod trial;

pub use fingerprint::{Drift, Fingerprint, Spread};
pub use judged::{Judged, judge};
pub use landmarks::{FirstDay, Grid, Landmark, Looks, landmarks, look};
pub use outcomes::{Away, Outcomes};
pub use outlooks::{Outlooked, outlooks};
pub use registry::{Card, Registry, RegistryError, Scores, State, Status, Stored};
pub use study::Study;
pub use trial::{Said, Trial};
