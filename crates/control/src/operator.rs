use std::time::Duration;

use forefend_domain::{CellId, Weight};
use serde::{Deserialize, Serialize};

/// What an operator may ask the loop for. Taken up at the next tick and written to the ledger with who asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum OperatorCommand {
    /// Stop every growth of a standby's weight, every creation and every removal.
    Freeze,
    /// End a freeze.
    Unfreeze,
    /// Move this share of the cell's home traffic away and hold it there. Given again, it renews the lease.
    Shift {
        /// Whose traffic.
        cell: CellId,
        /// How much of it.
        weight: Weight,
        /// It ends by itself this long after it was last given; `None`: not before [`OperatorCommand::EndShift`].
        #[serde(default)]
        lease: Option<Duration>,
        /// Whether it is for a drill. A drill needs a lease, so that a runner that is killed leaves no traffic away from home.
        #[serde(default)]
        drill: bool,
    },
    /// End an operator's shift: the traffic goes home at the policy's rate.
    EndShift {
        /// Whose traffic.
        cell: CellId,
    },
    /// Approve the shift that the loop asked for.
    Approve {
        /// Whose traffic.
        cell: CellId,
    },
}

/// Why a command was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorRefusal {
    /// There is no such cell.
    #[error("there is no cell `{0}`; `forefend status` lists the cells")]
    NoSuchCell(CellId),
    /// The cell has no traffic of its own that could be moved.
    #[error("cell `{0}` has no traffic of its own in normal times; name the cell whose traffic shall move")]
    NothingToMove(CellId),
    /// Nothing waits for approval.
    #[error("no shift of `{0}` waits for approval")]
    NotAsked(CellId),
    /// A drill does not override a freeze.
    #[error(
        "everything is frozen, and a drill does not override that; end the freeze first: `forefend unfreeze`"
    )]
    Frozen,
    /// The lease is no time, or a drill has none.
    #[error("a lease is from 1 s to 24 h, and a drill's shift needs one")]
    BadLease,
    /// An operator's request is not a drill's to change.
    #[error("an operator keeps traffic of `{0}` away; a drill does not take that over")]
    OperatorsOwn(CellId),
    /// It could not be written to the ledger, so it does not count.
    #[error("the command could not be written to the ledger and was not taken: {0}")]
    NotWritten(String),
}
