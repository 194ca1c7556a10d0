use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    BlueprintHash, Cell, CellId, Evidence, LeadTimeProfile, LifeState, Rate, Service, ServiceId,
    ServiceWeights, Timestamp,
};

/// The world as last seen. What was not seen is `None`, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// When.
    pub now: Timestamp,
    /// The one switch: while set, no weight of any standby grows and no cell is made or removed. Traffic already
    /// moved stays where it is.
    pub frozen: bool,
    /// By service.
    pub services: BTreeMap<ServiceId, ServiceView>,
    /// Cells whose shift an operator has approved.
    pub approved: BTreeSet<CellId>,
    /// Shares of cells' home traffic that an operator wants moved away, whatever is predicted.
    pub requested: BTreeMap<CellId, crate::Weight>,
}

/// What is seen of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its objective and policy.
    pub service: Service,
    /// Where its traffic goes in normal times.
    pub home: ServiceWeights,
    /// What the data plane says it applies; `None` when it did not answer.
    pub effective: Option<ServiceWeights>,
    /// Its cells.
    pub cells: BTreeMap<CellId, CellView>,
    /// How long shifts of this service take.
    pub lead_times: LeadTimeProfile,
}

/// What the data plane says of a cell's health: its own checks and passive ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellHealth {
    /// It answers.
    Up,
    /// Checks fail or it was ejected.
    Down,
    /// Not checked yet, frozen, or the data plane did not answer.
    Unknown,
}

/// Whether a cell keeps its objective, judged from probes and real traffic together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ObjectiveState {
    /// Too little was seen.
    Unknown,
    /// It keeps it.
    Met {
        /// Since when without a break.
        since: Timestamp,
    },
    /// It breaks it, but not yet for long enough to count as failed.
    Breaking {
        /// Since when without a break.
        since: Timestamp,
    },
    /// It broke it for `failed_for`.
    Failed {
        /// The start of the unbroken breach.
        since: Timestamp,
    },
}

impl ObjectiveState {
    /// Whether it counts as failed.
    #[must_use]
    pub fn is_failed(self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// What is known of a standby: only a cell with a valid passport counts as capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passport {
    /// The blueprint version it was made from.
    pub blueprint: BlueprintHash,
    /// Whether that is the newest version.
    pub current: bool,
    /// When its warm-up was last completed and checked.
    pub warmed_at: Timestamp,
    /// Requests replayed in warm-up.
    pub warm_requests: u32,
    /// Of those, answered well.
    pub warm_ok: u32,
    /// Requests per second that warm-up measured; `None` when its plan replays none.
    pub measured_capacity: Option<Rate>,
}

/// Whether the service's data lets this cell take traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataGateView {
    /// Whether it may.
    pub open: bool,
    /// How far its copy is behind, if that is known.
    pub lag: Option<Duration>,
    /// Why, in words.
    pub why: String,
}

/// What the data plane saw at a cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficView {
    /// Requests per second over the last second or so.
    pub rate: Option<Rate>,
    /// The share of the service's requests that it really got.
    pub observed_share: Option<f64>,
    /// 99th percentile of latency in the last interval.
    pub p99: Option<Duration>,
    /// Share of errors in the last interval.
    pub error_share: Option<f64>,
    /// Requests begun and not ended.
    pub in_flight: Option<u64>,
    /// What it completed since the last tick; `None` when the data plane did not answer.
    pub since_last: Option<Evidence>,
}

/// What is seen of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellView {
    /// Identity and place.
    pub cell: Cell,
    /// Where it stands in its life.
    pub life: LifeState,
    /// Whether it is frozen.
    pub parked: bool,
    /// What the data plane says of it.
    pub health: CellHealth,
    /// Whether it keeps its objective.
    pub objective: ObjectiveState,
    /// What the data plane saw.
    pub traffic: TrafficView,
    /// When telemetry last arrived; `None`: never.
    pub telemetry_at: Option<Timestamp>,
    /// Share of its capacity in use, from 0 (idle) to 1 and above; `None` when nothing measures it.
    pub utilisation: Option<f64>,
    /// What it can carry; `None` when nothing measured it.
    pub capacity: Option<Rate>,
    /// Its papers, if it is a standby.
    pub passport: Option<Passport>,
    /// What the data allows.
    pub data: DataGateView,
    /// When it last had traffic or was warmed.
    pub used_at: Option<Timestamp>,
}
