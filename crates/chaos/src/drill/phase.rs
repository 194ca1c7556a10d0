use forefend_domain::{Timestamp, Weight};
use serde::{Deserialize, Serialize};

use crate::run::Ended;

/// Where a drill stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum DrillPhase {
    /// It waits for somebody's word.
    WaitingForApproval {
        /// How many words are needed.
        needed: u32,
    },
    /// It looks whether it may begin.
    CheckingReadiness,
    /// It waits until the steady state has held.
    SteadyBefore {
        /// Since when it holds; `None`: it does not.
        since: Option<Timestamp>,
    },
    /// Traffic is moved away, step by step.
    MovingAway {
        /// The share of each cell's home traffic that is asked to be away.
        weight: Weight,
        /// When this step was first asked for.
        asked: Timestamp,
    },
    /// The region is empty.
    Holding {
        /// Since when.
        since: Timestamp,
    },
    /// The fault is undone; it waits until the cells are well, before they get traffic.
    Mending {
        /// Since when.
        since: Timestamp,
    },
    /// The traffic goes home.
    GivingBack {
        /// Since when.
        since: Timestamp,
    },
    /// The traffic is at home; it waits until the steady state has held again.
    Recovering {
        /// Since when.
        since: Timestamp,
    },
    /// It is over.
    Over(Ended),
}

/// The instants that a report tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) began: Option<Timestamp>,
    pub(crate) emptied: Option<Timestamp>,
    pub(crate) steady_without: Option<Timestamp>,
    pub(crate) home: Option<Timestamp>,
    pub(crate) recovered: Option<Timestamp>,
}
