use std::time::Duration;

use forefend_domain::{CellId, Weight};
use serde::{Deserialize, Serialize};

use super::InjectionId;
use crate::Fault;

/// What a run wants done, as data. Each may come again and must then change nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Action {
    /// Begin a fault at a cell.
    Apply {
        /// Which of the run's injections.
        injection: InjectionId,
        /// What is done at full level.
        fault: Fault,
        /// The level it begins with, from 0 to 1.
        level: f64,
        /// After this long it must end by itself, should nobody undo it.
        at_most: Duration,
    },
    /// Change the level of a fault that has begun.
    SetLevel {
        /// Which.
        injection: InjectionId,
        /// From 0 to 1.
        level: f64,
    },
    /// Undo a fault.
    Undo {
        /// Which.
        injection: InjectionId,
    },
    /// Undo whatever of this run is in effect, known or not.
    EndAll {
        /// Why, in words.
        why: String,
    },
    /// Keep this share of a cell's home traffic away from it. Renewed while it is wanted; ends by itself otherwise.
    MoveAway {
        /// Whose.
        cell: CellId,
        /// The share of its home traffic, as an operator's request for a shift.
        weight: Weight,
        /// When it is not renewed for this long, the traffic goes home.
        lease: Duration,
    },
    /// Take the wish to keep a cell's traffic away back.
    GiveBack {
        /// Whose.
        cell: CellId,
    },
}
