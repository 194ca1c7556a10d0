//! What is unlike itself, without labels: detectors that see one sample after the other.
//!
//! A detector's score at an instant rests on samples up to then only; its memory is bounded, and a sample costs the same
//! however many were before it. [`Joint`] watches the metrics of a cell together, [`Single`] one metric for itself;
//! [`Hotelling`] is the plain distance that they have to beat.

mod hold;
mod hotelling;
mod joint;
mod single;
mod triangle;

pub use hold::Hold;
pub use hotelling::Hotelling;
pub use joint::{Finding, Joint, Learner};
pub use single::Single;
