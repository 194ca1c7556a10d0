//! A run of an experiment: a pure state machine from what is seen to what is to be done.
//!
//! `Waiting for approval → Checking readiness → Steady state before → Injecting → Recovering → Finished`, or *refused* before
//! anything is done, or *stopped* with everything undone. Start from [`choose`], [`Run`] and [`dry_run`].

mod action;
mod choose;
mod dry;
mod gate;
mod inject;
mod judge;
mod machine;
mod ready;
mod record;
mod refusal;
mod seen;
mod steady;
mod stop;
mod verdict;

pub use action::Action;
pub use choose::{Targets, choose};
pub use dry::{DryRun, Planned, dry_run};
pub(crate) use gate::{Gate, Passed, Waiting};
pub(crate) use inject::{Injections, residue};
pub(crate) use judge::{Done, has_residue, judge};
pub use machine::{Run, RunPhase};
pub use ready::{approvals_needed, refusals};
pub(crate) use record::Record;
pub use record::{CellRecord, PhaseName, PhaseRecord};
pub use refusal::Refusal;
pub(crate) use seen::ROUNDING;
pub use seen::{InjectionId, InjectionState, OtherRun, Seen, ServiceSeen};
pub(crate) use steady::Steady;
pub use steady::{Breach, Measure};
pub use stop::Stop;
pub(crate) use stop::{Sight, stop_now};
pub use verdict::{Ended, Hypothesised};
