use serde::{Deserialize, Serialize};

use crate::{BlueprintName, CellId, Objective, Policy, RegionId, ServiceId, Weight, ZoneId};

/// How much a service matters. Sets the defaults of its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// May be late or lost.
    BestEffort,
    /// Most services.
    Standard,
    /// The business stops when it stops.
    Critical,
}

/// What a cell is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellRole {
    /// Carries traffic in normal times.
    Primary,
    /// Stands beside primaries, kept by the operator; may carry traffic too.
    Secondary,
    /// Made on demand from a blueprint; carries traffic only during a shift.
    Synthetic,
}

/// One copy of a service: its identity and place. What it is doing is in [`crate::CellView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Unique over all services.
    pub id: CellId,
    /// The service it is a copy of.
    pub service: ServiceId,
    /// Where it runs.
    pub region: RegionId,
    /// Where it runs within the region.
    pub zone: ZoneId,
    /// What it is for.
    pub role: CellRole,
    /// Its share of its region's traffic when nothing is shifted. Zero for synthetic cells.
    pub home_weight: Weight,
    /// The blueprint it is made from; `None` for a cell that somebody else runs.
    pub blueprint: Option<BlueprintName>,
}

/// A service: its objective, its policy and where its traffic goes in normal times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// How much it matters.
    pub tier: Tier,
    /// What its cells must keep, and what therefore counts as a failure.
    pub objective: Objective,
    /// How it is to be protected.
    pub policy: Policy,
    /// The blueprint synthetic cells are made from; `None` when only secondaries can help.
    pub mirror_blueprint: Option<BlueprintName>,
    /// Where synthetic cells may be placed, most wanted first. Cells are spread: never in the zone they are to stand
    /// in for while another is allowed.
    pub mirror_zones: Vec<(RegionId, ZoneId)>,
}
