use std::collections::BTreeMap;

use forefend_domain::{CellId, Evidence, Plan, Prediction, ServiceId, ShiftReason, Timestamp, Weight, World};
use serde::{Deserialize, Serialize};

/// Everything the loop saw, foresaw and decided in one tick: what the API, the dashboard and the terminal show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts ticks since the engine started.
    pub tick: u64,
    /// The world as seen.
    pub world: World,
    /// What is foreseen, by cell. A cell without telemetry has none.
    pub predictions: BTreeMap<CellId, Prediction>,
    /// What was decided.
    pub plan: Plan,
    /// Traffic that is away from home, or about to be.
    pub shifts: Vec<ShiftView>,
    /// Mirrors that are tried with a little real traffic while nothing is shifted.
    #[serde(default)]
    pub pre_tests: Vec<PreTestView>,
    /// What does not work at the moment, in words: an unreachable data plane, a store that refuses. Empty is good.
    pub degraded: Vec<String>,
}

/// One cell's traffic on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShiftView {
    /// Of which service.
    pub service: ServiceId,
    /// Whose traffic.
    pub from: CellId,
    /// Who gets it.
    pub to: Vec<CellId>,
    /// Why.
    pub reason: ShiftReason,
    /// Whether it moves away (`true`) or goes home (`false`).
    pub outbound: bool,
    /// The share of the cell's home traffic that is away, as read back from the data plane.
    pub moved: Weight,
    /// The share that is wanted away now.
    pub target: Weight,
    /// What the mirror has shown.
    pub evidence: Evidence,
    /// The bound that keeps the target from being larger: `evidence`, `capacity`, `data`, `budget`, `freeze`,
    /// `approval`, `readiness`, or `none`.
    pub bound_by: String,
    /// Since when.
    pub since: Timestamp,
}

/// A mirror that is tried before it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreTestView {
    /// Of which service.
    pub service: ServiceId,
    /// With whose traffic.
    pub from: CellId,
    /// Who is tried.
    pub to: CellId,
    /// The share of the cell's home traffic that it has.
    pub share: Weight,
    /// What the mirror has shown.
    pub evidence: Evidence,
    /// Since when.
    pub since: Timestamp,
}
