use serde::{Deserialize, Serialize};

use super::{Refusal, Stop, steady::Breach};

/// What became of the hypothesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Hypothesised {
    /// It held.
    Upheld,
    /// It did not.
    Refuted {
        /// Which objective, when, by how much.
        breach: Breach,
    },
    /// Nothing was learnt about it.
    NotTested {
        /// Why, in words.
        why: String,
    },
}

impl Hypothesised {
    /// What a stop says about the hypothesis: an objective that broke refutes it, anything else says nothing.
    pub(crate) fn after(stop: &Stop) -> Self {
        match stop {
            Stop::Objective { breach } => Self::Refuted { breach: breach.clone() },
            Stop::Alarm { .. }
            | Stop::Blind { .. }
            | Stop::Frozen
            | Stop::Blocked { .. }
            | Stop::Asked { .. }
            | Stop::NotInjected { .. }
            | Stop::Capacity { .. }
            | Stop::TooSlow { .. }
            | Stop::NotEmpty { .. } => Self::NotTested { why: stop.to_string() },
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ended", rename_all = "kebab-case")]
pub enum Ended {
    /// It went to its end.
    Finished {
        /// What was learnt.
        hypothesis: Hypothesised,
    },
    /// It was not begun.
    Refused {
        /// Everything that spoke against it.
        reasons: Vec<Refusal>,
    },
    /// It was ended before its time, and everything undone.
    Stopped {
        /// Why.
        why: Stop,
        /// What was learnt all the same.
        hypothesis: Hypothesised,
    },
}
