//! Labels: what was done to which cell, from when to when, and whether it failed of it. What is learnt from.
//!
//! A label is one line of JSON. [`split`] divides labels into those to learn from and those to judge by, so that no run is on
//! both sides; [`outcome`] says what a label tells about the cell's survival.

mod lines;
mod of_run;
mod split;

use std::time::Duration;

use forefend_domain::{CellId, ServiceId, Timestamp};
pub use lines::{LabelError, LabelProblem, read, write};
pub use of_run::{labels_of_drill, labels_of_run};
use serde::{Deserialize, Serialize};
pub use split::{GroupBy, LeftOut, Side, Split, split};

use crate::{Fault, Foresight, Ramp};

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// How much an injected failure weighs beside a real one: real causes come in mixtures that no list of faults has.
pub const INJECTED_WEIGHT: f64 = 0.5;

/// What was done to one cell, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The version of this format.
    pub v: u32,
    /// Its own id: unique over all labels.
    pub id: String,
    /// The run that it is of. Labels of one run share causes and surroundings, so they are never divided.
    pub run: String,
    /// The experiment that the run is of.
    pub experiment: String,
    /// The cell.
    pub cell: CellId,
    /// Its service.
    pub service: ServiceId,
    /// What was done, with its parameters.
    pub fault: Fault,
    /// How it built up.
    pub ramp: Ramp,
    /// How much of its full effect it was to have, from 0 to 1.
    pub intensity: f64,
    /// The highest level that it had, from 0 to 1.
    pub peak_level: f64,
    /// The mean level over its time, from 0 to 1.
    pub mean_level: f64,
    /// When it began.
    pub begun: Timestamp,
    /// When its end was asked for; `None`: it had not ended when the label was written.
    pub ended: Option<Timestamp>,
    /// When it was seen to be undone.
    pub undone: Option<Timestamp>,
    /// Whether metrics could show it before it struck.
    pub foresight: Foresight,
    /// Since when the cell broke its objective for as long as counts as a failure; `None`: it did not.
    pub broke: Option<Timestamp>,
    /// When all of its traffic was first seen to be away; `None`: never.
    pub emptied: Option<Timestamp>,
    /// Where it comes from.
    pub source: Source,
    /// Its weight in training, where a real failure has 1.
    pub weight: f64,
}

/// Where a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A fault of an experiment.
    Fault,
    /// The fault of a drill, at a cell without traffic.
    Drill,
}

/// What a label tells about the cell's survival, counted from the fault's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It failed of the fault.
    Failed {
        /// After this long.
        after: Duration,
    },
    /// It had not failed until then; what would have come is not known.
    Censored {
        /// After this long.
        after: Duration,
        /// Why no more is known.
        why: Censoring,
    },
    /// It tells nothing: the cell was ill before.
    Unusable,
}

/// Why no more is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Censoring {
    /// The traffic was taken away, which may have saved the cell.
    TrafficMoved,
    /// The fault ended before the cell did.
    FaultEnded,
    /// The label was written while the fault went on.
    NotEnded,
}

/// The rule of censoring. `until` is when the label was written; `grace` is how long after a fault's end a failure still counts
/// as its doing.
///
/// A failure counts whether or not traffic was there: probes go on, and a cell that dies empty died of the fault. Without a
/// failure the cell is known to have lived until its traffic was away, or until the fault ended, whichever came first.
#[must_use]
pub fn outcome(label: &Label, until: Timestamp, grace: Duration) -> Outcome {
    let after = |at: Timestamp| at.since(label.begun);
    if label.broke.is_some_and(|broke| broke < label.begun) {
        return Outcome::Unusable;
    }
    let end = label.ended.unwrap_or(until);
    if let Some(broke) = label.broke
        && broke <= end + grace
    {
        return Outcome::Failed { after: after(broke) };
    }
    match label.emptied.filter(|emptied| *emptied < end && label.source == Source::Fault) {
        Some(emptied) => {
            Outcome::Censored { after: after(emptied.max(label.begun)), why: Censoring::TrafficMoved }
        }
        None if label.ended.is_some() => Outcome::Censored { after: after(end), why: Censoring::FaultEnded },
        None => Outcome::Censored { after: after(end), why: Censoring::NotEnded },
    }
}
