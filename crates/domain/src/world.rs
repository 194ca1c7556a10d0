use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    BlueprintHash, Cell, CellId, Evidence, LeadTimeProfile, LifeState, Rate, Service, ServiceId,
    ServiceWeights, ShiftReason, Timestamp, Weight,
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
    /// What operators and drills want moved away, whatever is predicted.
    pub requested: BTreeMap<CellId, ShiftRequest>,
}

impl World {
    /// What is wanted of the cell's traffic now: a request whose lease has run out counts no more.
    #[must_use]
    pub fn request(&self, cell: &CellId) -> Option<&ShiftRequest> {
        self.requested.get(cell).filter(|request| request.holds(self.now))
    }
}

/// A shift that somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RequestForm")]
pub struct ShiftRequest {
    /// The share of the cell's home traffic that shall be away.
    pub weight: Weight,
    /// When it ends by itself if it is not renewed; `None`: it holds until it is taken back.
    pub until: Option<Timestamp>,
    /// Whether a drill asked, not an operator.
    pub drill: bool,
}

impl ShiftRequest {
    /// An operator's, which holds until it is taken back.
    #[must_use]
    pub fn of_operator(weight: Weight) -> Self {
        Self { weight, until: None, drill: false }
    }

    /// Whether it has not run out.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Why traffic moves that is moved for it.
    #[must_use]
    pub fn reason(&self) -> ShiftReason {
        if self.drill { ShiftReason::Drill } else { ShiftReason::Operator }
    }
}

/// How a request may be written: before there were leases it was a weight and nothing else.
#[derive(Deserialize)]
#[serde(untagged)]
enum RequestForm {
    Weight(Weight),
    Whole {
        weight: Weight,
        #[serde(default)]
        until: Option<Timestamp>,
        #[serde(default)]
        drill: bool,
    },
}

impl From<RequestForm> for ShiftRequest {
    fn from(form: RequestForm) -> Self {
        match form {
            RequestForm::Weight(weight) => Self::of_operator(weight),
            RequestForm::Whole { weight, until, drill } => Self { weight, until, drill },
        }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_from_before_there_were_leases_is_read() {
        let now = Timestamp::from_unix_ms(1_000);
        let weight = Weight::from_share(0.25);
        let bare: ShiftRequest = serde_json::from_str("2500").unwrap();
        assert_eq!(bare, ShiftRequest::of_operator(weight));
        assert!(bare.holds(now + Duration::from_secs(1_000_000)));
        let leased = ShiftRequest { weight, until: Some(now), drill: true };
        let text = serde_json::to_string(&leased).unwrap();
        assert_eq!(serde_json::from_str::<ShiftRequest>(&text).unwrap(), leased);
        assert!(leased.holds(Timestamp::from_unix_ms(999)) && !leased.holds(now));
    }
}
