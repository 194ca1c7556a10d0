//! Drills: the simulated outage of a region, and what is reported of any run.
//!
//! Start from [`Drill`] and [`Report`].

mod findings;
mod machine;
mod markdown;
mod phase;
mod report;

pub use findings::Finding;
pub use machine::Drill;
pub use phase::DrillPhase;
pub use report::{CellReport, DataPoint, Foreseen, Report};
