use forefend_domain::{CellId, Timestamp};
use serde::{Deserialize, Serialize};

/// How it is known that a cell failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentSource {
    /// It broke its own objective for as long as its policy says.
    Objective,
    /// It was tried with traffic of another cell and answered it surely worse than is tolerated.
    Canary,
    /// A fault of an experiment was at work.
    Fault,
    /// A drill was.
    Drill,
    /// An operator said so.
    Operator,
    /// It stood in a file of past incidents.
    #[default]
    Imported,
}

impl IncidentSource {
    /// Whether the cell might have stayed well if nobody had done anything to it: a fault, a drill, or traffic of another.
    #[must_use]
    pub fn may_be_of_our_making(self) -> bool {
        matches!(self, Self::Fault | Self::Drill | Self::Canary)
    }
}

/// One failure of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// Which cell failed.
    pub cell: CellId,
    /// Since when it broke its objective.
    pub began: Timestamp,
    /// When it was well again; `None`: not known, or not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// What sort of failure it was, in the words of those who wrote it down: `memory leak`. Incidents of one kind are judged together.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Incidents with one name share a cause (a region that went as a whole) and are never divided between what is learned from and what is
    /// judged by. Empty: it stands alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event: String,
    /// How it is known.
    #[serde(default)]
    pub source: IncidentSource,
}
