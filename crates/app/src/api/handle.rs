use std::sync::Arc;

use forefend_control::{OperatorCommand, Snapshot};
use forefend_domain::{CellId, Family, LedgerEntry, MetricKind, MetricName, ServiceId, Timestamp, Windows};
use forefend_predict::learned::Episode;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::{drills::DrillsHandle, models::ModelsHandle};

/// All that the API knows of the engine.
#[derive(Clone)]
pub struct EngineHandle {
    /// The last tick. Readers that are slower than the engine skip ticks.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What was.
    pub history: Arc<dyn History>,
    /// Where operators' commands go. When it is full they are refused, not queued.
    pub commands: mpsc::Sender<OperatorRequest>,
    /// Experiments and drills.
    pub drills: DrillsHandle,
    /// Learned models.
    pub models: ModelsHandle,
    /// What explanations rest on besides.
    pub evidence: EvidenceHandle,
}

/// Telemetry and past failures, for those who ask for an explanation.
#[derive(Clone, Default)]
pub struct EvidenceHandle {
    /// Where windows of a cell are asked for; `None`: nobody has them.
    pub windows: Option<mpsc::Sender<WindowsRequest>>,
    /// Past failures as they looked before.
    pub past: Arc<Vec<Episode>>,
}

/// Somebody wants to see the windows of a cell as predictions see them.
#[derive(Debug)]
pub struct WindowsRequest {
    /// Of which cell.
    pub cell: CellId,
    /// The windows; `None`: there are none.
    pub reply: oneshot::Sender<Option<Windows>>,
}

/// A command of an operator on its way to the engine.
#[derive(Debug)]
pub struct OperatorRequest {
    /// Who asks: the name of the token, or `local` when there are no tokens.
    pub who: String,
    /// What for.
    pub command: OperatorCommand,
    /// The engine's answer in words: what it will do, or why it won't.
    pub reply: oneshot::Sender<Result<String, String>>,
}

/// The past, as the dashboard shows it.
pub trait History: Send + Sync {
    /// What was seen of every cell after `since`, oldest first.
    fn series(&self, since: Timestamp) -> Vec<HistoryPoint>;

    /// At most `limit` entries of the ledger with a place below `before` (`None`: the newest), newest first. May
    /// block: it is called where blocking is allowed.
    ///
    /// # Errors
    /// Why the ledger could not be read, in words.
    fn ledger(&self, before: Option<u64>, limit: usize) -> Result<Vec<LedgerEntry>, String>;

    /// What is measured of a cell now, by name. Nothing where no telemetry is kept.
    fn metrics(&self, _cell: &CellId) -> Vec<MetricNow> {
        Vec::new()
    }
}

/// One metric of a cell with its newest value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricNow {
    /// Its name, with labels or the text of a template.
    pub name: MetricName,
    /// What it tells.
    pub family: Family,
    /// What reaching its limit means.
    pub kind: MetricKind,
    /// The unit of value and limit.
    pub unit: String,
    /// The value it must not reach, if one is known.
    pub limit: Option<f64>,
    /// The newest value; `None`: nothing was measured in the whole window.
    pub value: Option<f64>,
    /// The end of the step that the value stands for.
    pub at: Option<Timestamp>,
}

/// One cell at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// When.
    pub at: Timestamp,
    /// Of which service.
    pub service: ServiceId,
    /// Which cell.
    pub cell: CellId,
    /// Share of the service's traffic that the data plane said it applied, in basis points; `None`: it did not answer.
    pub effective_bp: Option<u32>,
    /// Share of the service's requests that the cell really got, in basis points; `None`: not measured.
    pub observed_bp: Option<u32>,
    /// That it fails within the horizon, 0 to 1; `None`: no prediction.
    pub probability: Option<f64>,
    /// Health score, 0 to 100; `None`: no prediction.
    pub health: Option<f64>,
}
