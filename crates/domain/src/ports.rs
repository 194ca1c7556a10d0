//! The ports: how the control loop meets the world.
//!
//! They are synchronous and poll-style on purpose. The loop asks what is there now and requests what shall be; it
//! never waits for an effect, it sees at a later tick whether it came about. So the same loop runs against real
//! drivers (which do their work on tasks of their own) and against a made-up world under one seed.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    BlueprintName, Cell, CellHealth, CellId, DataGateView, DataPolicy, EntryKind, LedgerEntry, LedgerSeq,
    Passport, RegionId, ServiceId, ServiceWeights, Stage, Timestamp, Windows,
};

/// Something that a port was asked for could not be done. The loop writes it to the ledger and decides anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The other side did not answer.
    #[error("{port} is not reachable: {why}")]
    Unreachable {
        /// Which port.
        port: &'static str,
        /// In words.
        why: String,
    },
    /// The other side said no.
    #[error("{port} refused: {why}")]
    Refused {
        /// Which port.
        port: &'static str,
        /// In words.
        why: String,
    },
}

/// Tells the time. Never steps back.
pub trait Clock {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Where aligned windows come from.
pub trait TelemetrySource {
    /// The windows of every cell of which anything was ever heard, up to `now`.
    fn windows(&mut self, now: Timestamp) -> Vec<Windows>;
    /// The same, cell by cell in the order of their names: a fleet's windows together are many times larger than what they are made from.
    /// What is changed of the windows is forgotten: the next cell's are made in their place.
    fn each_windows(&mut self, now: Timestamp, look: &mut dyn FnMut(&mut Windows)) {
        self.windows(now).iter_mut().for_each(look);
    }
    /// Outcomes of active probes since the last call, oldest first.
    fn probes(&mut self) -> Vec<ProbeOutcome>;
}

/// What one active probe of a cell saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutcome {
    /// Which cell was probed.
    pub cell: CellId,
    /// When the answer (or the giving up) was.
    pub at: Timestamp,
    /// Whether it answered as the probe expects.
    pub ok: bool,
    /// How long it took.
    pub took: Duration,
}

/// Where a cell's requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which cell.
    pub cell: CellId,
    /// Its region.
    pub region: RegionId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Cells and weights of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRouting {
    /// Every cell that has or may get weight.
    pub cells: Vec<Route>,
    /// The weights.
    pub weights: ServiceWeights,
}

/// All that the data plane must know to serve without us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Grows with every change; the data plane refuses an older one.
    pub generation: u64,
    /// By service.
    pub services: BTreeMap<ServiceId, ServiceRouting>,
}

/// What the data plane saw at one cell. Counts are totals since the data plane started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// Requests ended, well or not.
    pub requests: u64,
    /// Of those, 5xx, reset or timeout.
    pub errors: u64,
    /// Of those that were no errors, over the latency objective.
    pub slow: u64,
    /// Begun and not ended.
    pub in_flight: u64,
    /// Median latency since the last report, if any request ended.
    pub p50: Option<Duration>,
    /// 99th percentile of latency since the last report, if any request ended.
    pub p99: Option<Duration>,
    /// Its own checks and ejection.
    pub health: CellHealth,
    /// Why, in words.
    pub why: String,
}

/// What the data plane tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataPlaneReport {
    /// Differs for every start of the data plane; when it changes, totals began anew.
    pub incarnation: u64,
    /// The generation of the routing that it applies.
    pub generation: u64,
    /// The weights that it applies.
    pub effective: BTreeMap<ServiceId, ServiceWeights>,
    /// What it saw at each cell.
    pub cells: BTreeMap<CellId, CellReport>,
}

/// The data plane: applies weights and tells what it saw.
pub trait DataPlane {
    /// What it applies and saw.
    ///
    /// # Errors
    /// When it can't be asked; the loop then holds.
    fn report(&mut self) -> Result<DataPlaneReport, PortError>;
    /// Asks it to apply `routing`. Counts only when read back by [`DataPlane::report`].
    ///
    /// # Errors
    /// When it can't be asked or refuses.
    fn apply(&mut self, routing: &Routing) -> Result<(), PortError>;
}

/// How far a driver has come with a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum DriverStage {
    /// Its processes are being started.
    Creating,
    /// The warm-up plan is being executed.
    Warming,
    /// It runs and its warm-up held.
    Ready,
    /// It is ready and frozen.
    Parked,
    /// It broke.
    Failed {
        /// In words.
        why: String,
    },
}

/// What a driver sees of a cell of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellObservation {
    /// Identity and place, kept with the cell, so that it can be adopted after a restart.
    pub cell: Cell,
    /// How far it is.
    pub stage: DriverStage,
    /// Where it listens, once it does.
    pub address: Option<SocketAddr>,
    /// Its papers, once it is warm.
    pub passport: Option<Passport>,
    /// How long the stages took that ended since the last observation.
    pub took: Vec<(Stage, Duration)>,
}

/// What a driver can be asked to do. Each is idempotent: asking again for what is or is under way changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum CellCommand {
    /// Create, warm up and check a cell.
    Create {
        /// Identity and place.
        cell: Cell,
        /// What from: the newest version that the driver has.
        blueprint: BlueprintName,
    },
    /// Make a cell again that failed.
    Recreate {
        /// Which.
        cell: CellId,
    },
    /// Freeze.
    Park {
        /// Which.
        cell: CellId,
    },
    /// Thaw.
    Unpark {
        /// Which.
        cell: CellId,
    },
    /// Execute the warm-up plan again.
    Rewarm {
        /// Which.
        cell: CellId,
    },
    /// Stop and remove.
    Retire {
        /// Which.
        cell: CellId,
    },
}

/// Makes and removes cells.
pub trait CellDriver {
    /// Every cell the driver has, adopted ones among them.
    fn observe(&mut self) -> Vec<CellObservation>;
    /// Begins to do it; [`CellDriver::observe`] tells how it goes.
    ///
    /// # Errors
    /// When it can't even begin: no such cell or blueprint, a protection missing that the policy demands.
    fn request(&mut self, command: CellCommand) -> Result<(), PortError>;
}

/// Says whether a service's data lets a cell take traffic.
pub trait DataGate {
    /// The gate of one cell as of now. What is unknown is closed.
    fn gate(&mut self, cell: &Cell, policy: &DataPolicy, windows: Option<&Windows>) -> DataGateView;
}

/// Keeps the ledger and the memory of decisions, atomically together.
pub trait Store {
    /// Appends entries and replaces the memory in one transaction that is durable when this returns.
    ///
    /// # Errors
    /// When it is not durable. The loop then does nothing of what it decided.
    fn commit(
        &mut self,
        at: Timestamp,
        entries: &[(Option<ServiceId>, EntryKind)],
        memory: &[u8],
    ) -> Result<Vec<LedgerSeq>, PortError>;
    /// The memory of the last commit; `None` before the first.
    ///
    /// # Errors
    /// When the store can't be read.
    fn memory(&mut self) -> Result<Option<Vec<u8>>, PortError>;
    /// The newest `limit` entries with a place below `before`, newest first.
    ///
    /// # Errors
    /// When the store can't be read.
    fn entries(&mut self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, PortError>;
}
