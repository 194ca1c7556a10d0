use forefend_domain::{CellId, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::steady::Breach;
use crate::experiment::show_instant;

/// Why a run is not begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Refusal {
    /// The service is not among those that are protected.
    #[error("there is no service `{service}`")]
    NoSuchService {
        /// Which.
        service: ServiceId,
    },
    /// A named cell does not exist.
    #[error("the service has no cell `{cell}`")]
    NoSuchCell {
        /// Which.
        cell: CellId,
    },
    /// The selection leaves none.
    #[error("no running cell of `{service}` fits the target")]
    NoTarget {
        /// The service.
        service: ServiceId,
    },
    /// The selection leaves fewer than are to be hit.
    #[error("{wanted} cells are to be hit, but only {found} fit the target")]
    TooFewCells {
        /// To be hit.
        wanted: usize,
        /// There are.
        found: usize,
    },
    /// A chosen cell does not run any more.
    #[error("the target `{cell}` does not run any more")]
    TargetGone {
        /// Which.
        cell: CellId,
    },
    /// The blast radius in cells.
    #[error("{cells} cells would be hit, more than the blast radius of {allowed}")]
    TooManyCells {
        /// Would be hit.
        cells: usize,
        /// May be hit.
        allowed: usize,
    },
    /// The blast radius in traffic.
    #[error("{:.1}% of the service's traffic is at home in the targets, more than the {:.1}% allowed", share * 100.0, allowed * 100.0)]
    TooMuchTraffic {
        /// At home in the targets, from 0 to 1.
        share: f64,
        /// Allowed, from 0 to 1.
        allowed: f64,
    },
    /// The service can't be seen.
    #[error("nothing fresh is seen of `{service}`")]
    NotSeen {
        /// Which.
        service: ServiceId,
    },
    /// The one switch.
    #[error("everything is frozen")]
    Frozen,
    /// A cell may fail by itself.
    #[error("cell `{cell}` fails soon with probability {:.0}% (limit {:.0}%)", probability * 100.0, limit * 100.0)]
    AtRisk {
        /// Which.
        cell: CellId,
        /// From 0 to 1.
        probability: f64,
        /// From 0 to 1.
        limit: f64,
    },
    /// A cell breaks its objective now.
    #[error("cell `{cell}` breaks its objective already")]
    Unwell {
        /// Which.
        cell: CellId,
    },
    /// The other cells could not carry the traffic.
    #[error(
        "without the targets {usable_per_s:.0} requests/s could be carried, but {present_per_s:.0}/s come"
    )]
    CapacityShort {
        /// What the others may carry, headroom kept.
        usable_per_s: f64,
        /// What comes now.
        present_per_s: f64,
    },
    /// Nobody knows what a cell can carry.
    #[error("what `{cell}` can carry is not known")]
    CapacityUnknown {
        /// Which.
        cell: CellId,
    },
    /// Nobody knows how much traffic there is.
    #[error("how many requests `{service}` gets is not known")]
    RateUnknown {
        /// Which service.
        service: ServiceId,
    },
    /// Traffic is away from home or on its way.
    #[error("traffic of `{cell}` is away from home or on its way")]
    RunningShift {
        /// Whose.
        cell: CellId,
    },
    /// Something else is tried at the moment.
    #[error("`{id}` is running")]
    AnotherRuns {
        /// Which.
        id: String,
    },
    /// The service needs rest.
    #[error("the last run at the service ended {ago_s} s ago; {pause_s} s must pass")]
    TooSoon {
        /// Seconds since then.
        ago_s: u64,
        /// Seconds that must pass.
        pause_s: u64,
    },
    /// A block window.
    #[error("it would reach into a block window that begins {}{}", show_instant(*at), if why.is_empty() { String::new() } else { format!(" ({why})") })]
    Blocked {
        /// When it begins, or now.
        at: Timestamp,
        /// What for.
        why: String,
    },
    /// The policy's budgets do not allow that much to be moved.
    #[error("the policy lets {cells_allowed} cells and {:.0}% of the traffic be in motion, the drill needs {cells} and {:.0}%", share_allowed * 100.0, share * 100.0)]
    BudgetTooSmall {
        /// Needed.
        cells: usize,
        /// Needed, from 0 to 1.
        share: f64,
        /// Allowed.
        cells_allowed: usize,
        /// Allowed, from 0 to 1.
        share_allowed: f64,
    },
    /// Nothing could take the traffic.
    #[error("no cell outside the region could take the traffic of `{service}`")]
    NoFitMirror {
        /// The service.
        service: ServiceId,
    },
    /// Nobody approved in time.
    #[error("{have} of {needed} approvals came in time")]
    NotApproved {
        /// There are.
        have: u32,
        /// Needed.
        needed: u32,
    },
    /// The steady state did not come about.
    #[error("the steady state did not hold before the beginning: {breach}")]
    NotSteady {
        /// What was last missing.
        breach: Breach,
    },
}

impl Refusal {
    /// What would help.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoSuchService { .. } => "name a service of the configuration".into(),
            Self::NoSuchCell { .. } => "name cells that `forefend status` shows, or select by region, zone or role".into(),
            Self::NoTarget { .. } => "widen `target`: regions, zones, roles, cells".into(),
            Self::TooFewCells { .. } => "lower `target.count`, or widen the selection".into(),
            Self::TargetGone { .. } => "start the run again: it chooses among the cells that run".into(),
            Self::TooManyCells { cells, .. } => {
                format!("hit fewer cells, or raise `target.blast_radius.max_cells` to {cells}")
            }
            Self::TooMuchTraffic { .. } => {
                "choose cells with less traffic at home, or raise `max_share` if so much may be hit".into()
            }
            Self::NotSeen { .. } => "wait until the data plane and the cells' telemetry report, or mend that first".into(),
            Self::Frozen => "take the freeze back when it is safe: `forefend unfreeze`".into(),
            Self::AtRisk { cell, .. } => {
                format!("see `forefend explain {cell}` and wait until the risk is gone, or raise `guard_rails.risk_at`")
            }
            Self::Unwell { cell } => format!("mend `{cell}` first: nothing can be learnt while a cell fails by itself"),
            Self::CapacityShort { usable_per_s, present_per_s } => format!(
                "add capacity for {:.0} requests/s (a standby more, or `standby.min`), or run when less traffic comes",
                (present_per_s - usable_per_s).max(0.0)
            ),
            Self::CapacityUnknown { .. } => {
                "state `policy.capacity_per_cell`, or let warm-up measure it by replayed requests".into()
            }
            Self::RateUnknown { .. } => "wait until the data plane reports rates of every cell that has weight".into(),
            Self::RunningShift { .. } => "wait until the traffic is back at home: `forefend status`".into(),
            Self::AnotherRuns { id } => format!("wait until `{id}` has ended, or end it"),
            Self::TooSoon { ago_s, pause_s } => {
                format!("run again in {} s, or lower `guard_rails.pause`", pause_s.saturating_sub(*ago_s))
            }
            Self::Blocked { .. } => "run when the window is over, or shorten the run so that it ends before".into(),
            Self::BudgetTooSmall { .. } => {
                "raise `policy.budgets.max_cells_in_motion` and `max_weight_in_motion`, or drill a smaller region".into()
            }
            Self::NoFitMirror { .. } => {
                "make a standby ready elsewhere: `mirror` with a zone of another region, a valid passport, data that allows it".into()
            }
            Self::NotApproved { .. } => "ask for approval again: `forefend approve`".into(),
            Self::NotSteady { .. } => {
                "mend what breaks the objective, or correct `hypothesis.steady_state` if it asks for too much".into()
            }
        }
    }
}
