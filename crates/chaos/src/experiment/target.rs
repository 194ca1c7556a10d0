use forefend_config::{Share, section, words};
use forefend_domain::{CellId, CellRole, RegionId, ServiceId, ZoneId};

section! {
    /// Which cells it is done to. What is written narrows the choice; a choice that is left is made by the run's seed.
    pub struct TargetConfig {
        /// The service.
        service: ServiceId,
        /// Only cells of these regions. Left out: any.
        regions: Vec<RegionId> = Vec::new(),
        /// Only cells of these zones. Left out: any.
        zones: Vec<ZoneId> = Vec::new(),
        /// Only cells of these roles. Left out: primaries; with `whole`, any.
        roles: Vec<Role> = Vec::new(),
        /// Only these cells. Left out: any.
        cells: Vec<CellId> = Vec::new(),
        /// So many of them. Left out, with `percent` and `whole` too: one.
        count: Option<u32>,
        /// This share of them, rounded up.
        percent: Option<Share>,
        /// All of them that are in one zone, or in one region.
        whole: Option<Whole>,
        /// What it may never exceed; a run that would is refused.
        blast_radius: BlastRadius = forefend_config::sections::all_defaults(),
    }
}

section! {
    /// How much may be hit at most.
    pub struct BlastRadius {
        /// So many cells.
        max_cells: u32 = 1,
        /// Cells that are home to this share of the service's traffic together.
        max_share: Share = Share::percent(50.0),
    }
}

/// What a cell is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Carries traffic in normal times.
    Primary,
    /// Stands beside primaries.
    Secondary,
    /// Made on demand.
    Synthetic,
}

words!(Role, "role", "What a cell is for.", {
    "primary" => Role::Primary,
    "secondary" => Role::Secondary,
    "synthetic" => Role::Synthetic,
});

impl From<Role> for CellRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Primary => Self::Primary,
            Role::Secondary => Self::Secondary,
            Role::Synthetic => Self::Synthetic,
        }
    }
}

/// What is hit as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// A zone.
    Zone,
    /// A region.
    Region,
}

words!(Whole, "whole", "What is hit as one.", {
    "zone" => Whole::Zone,
    "region" => Whole::Region,
});
