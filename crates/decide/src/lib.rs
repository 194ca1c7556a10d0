//! Predictions and the seen world to a plan. Pure: what it knows it is given, what it wants is data.
//!
//! [`decide`] looks at everything anew each tick. It keeps no queue of intentions; its [`Memory`] holds only what can't be
//! seen: how often a trigger held lately, what evidence a mirror has earned, until when a cell is left alone. How
//! much traffic *is* away from home is read from the weights that the data plane reports, never from memory.
//!
//! What every plan must keep is in [`invariants`], written apart from the code that makes plans, and checked in tests,
//! in the simulator and in production before a plan is carried out.

mod bounds;
mod cell;
mod decide;
pub mod invariants;
mod memory;
mod mirrors;
mod pre_test;
mod race;
mod sharing;
mod shift;
mod standby;
mod verdict;
mod weigh;

pub use bounds::{bad_share_lower_bound, bad_share_upper_bound, earned_share};
pub use decide::{Decision, decide};
pub use memory::{CellMemory, Memory, PreTestMemory, ShiftMemory};
pub use race::{Race, race};

/// Rules that can be switched off, one at a time, to prove that the simulator would notice. Production uses
/// [`Guards::ALL`]; there is no way to configure anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// Only cells that are ready and have valid papers get weight.
    pub readiness: bool,
    /// Weight is earned by evidence.
    pub evidence: bool,
    /// A freeze holds everything.
    pub freeze: bool,
    /// A pre-test stays under the policy's cap.
    pub pre_test_cap: bool,
}

impl Guards {
    /// Every rule in force.
    pub const ALL: Self = Self { readiness: true, evidence: true, freeze: true, pre_test_cap: true };
}
