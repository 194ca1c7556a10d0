use serde::{Deserialize, Serialize};

use crate::{BlueprintName, Cell, CellId, ServiceId, ServiceWeights};

/// Why traffic of a cell is away from home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShiftReason {
    /// A failure is foreseen and the lead-time race is due.
    Predicted,
    /// The cell has failed.
    Failed,
    /// The cell is overloaded.
    Relief,
    /// An operator asked.
    Operator,
    /// A drill asked.
    Drill,
}

/// Something to be done. Effects are data; the loop hands them to the ports after they are in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum Effect {
    /// Make these the weights of a service.
    SetWeights {
        /// Whose.
        service: ServiceId,
        /// All of them, both levels.
        weights: ServiceWeights,
    },
    /// Make a synthetic cell.
    Create {
        /// Its identity and place.
        cell: Cell,
        /// What from: the newest version in the store.
        blueprint: BlueprintName,
    },
    /// Make a managed cell again that failed.
    Recreate {
        /// Which.
        cell: CellId,
    },
    /// Freeze an idle cell.
    Park {
        /// Which.
        cell: CellId,
    },
    /// Thaw a frozen cell.
    Unpark {
        /// Which.
        cell: CellId,
    },
    /// Warm a cell again whose passport ran out.
    Rewarm {
        /// Which.
        cell: CellId,
    },
    /// Stop and remove a synthetic cell.
    Retire {
        /// Which.
        cell: CellId,
    },
    /// Ask an operator to approve a shift.
    AskApproval {
        /// The cell whose traffic would move.
        cell: CellId,
    },
}

/// A sentence for the ledger and the dashboard: what was decided about a cell, and which bound decided it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Of which cell.
    pub cell: CellId,
    /// A short word that stays the same between versions: `shift-begins`, `held-stale`, `rolled-back`.
    pub what: String,
    /// In words and numbers.
    pub why: String,
}

/// What shall be done now, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order they are to be done.
    pub effects: Vec<Effect>,
    /// What changed since the last tick, for the ledger.
    pub explanations: Vec<Explanation>,
    /// The margin of the lead-time race of each endangered cell in seconds: positive while there is time left to wait.
    pub race_margin_s: std::collections::BTreeMap<CellId, f64>,
}

impl Plan {
    /// Whether nothing is to be done and nothing to be said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.explanations.is_empty()
    }
}
