use serde::{Deserialize, Serialize};

use crate::{CellId, Effect, Evidence, Explanation, Prediction, ServiceId, ShiftReason, Timestamp};

/// The place of an entry in the ledger: 1, 2, 3, … without gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LedgerSeq(pub u64);

/// How a shift turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The cell failed after its traffic had gone.
    Saved,
    /// The cell stayed well although nothing was done to help it.
    FalseAlarm,
    /// Neither helped nor harmed: the cell failed before the shift was done, or the shift was an operator's or a drill's.
    Neutral,
    /// What would have happened can't be known: taking the traffic away may have saved it (censored).
    Unknown,
}

/// What an entry tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EntryKind {
    /// The engine started, took over what runs, or took over a changed configuration.
    Engine {
        /// In words.
        what: String,
    },
    /// Effects decided on, written before they are carried out.
    Decision {
        /// What is to be done.
        effects: Vec<Effect>,
        /// Why.
        explanations: Vec<Explanation>,
        /// The predictions it rests on (only of cells it is about).
        predictions: Vec<Prediction>,
    },
    /// An effect could not be carried out.
    Refused {
        /// Which.
        effect: Effect,
        /// Why, in words.
        why: String,
    },
    /// A shift began.
    ShiftBegan {
        /// Of whose traffic.
        cell: CellId,
        /// Why.
        reason: ShiftReason,
    },
    /// All of the cell's traffic was seen to be away.
    ShiftDone {
        /// Of whose traffic.
        cell: CellId,
        /// Seconds from decision to read-back.
        took_s: f64,
    },
    /// All of the cell's traffic was seen to be back.
    Returned {
        /// Whose.
        cell: CellId,
    },
    /// A cell broke its objective for as long as the policy says.
    Failure {
        /// Which.
        cell: CellId,
        /// Start of the unbroken breach.
        since: Timestamp,
        /// Seconds from the whole of its traffic being away to the start of the breach; negative or `None`: it was not.
        lead_time_s: Option<f64>,
    },
    /// A cell was tried with traffic of another, by a pre-test or in the steps of a shift, and answered it surely worse than is tolerated.
    Rejected {
        /// Which was tried.
        cell: CellId,
        /// Whose traffic it was.
        from: CellId,
        /// What it answered.
        evidence: Evidence,
    },
    /// A shift was judged.
    Judged {
        /// The entry that began it.
        shift: LedgerSeq,
        /// Whose traffic.
        cell: CellId,
        /// How it turned out.
        verdict: Verdict,
    },
    /// An operator did something.
    Operator {
        /// Who, as far as the token tells.
        who: String,
        /// In words.
        what: String,
    },
    /// A named invariant did not hold; the plan was dropped.
    InvariantBroken {
        /// Its name.
        invariant: String,
        /// In words.
        detail: String,
    },
}

/// One record of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Its place.
    pub seq: LedgerSeq,
    /// When.
    pub at: Timestamp,
    /// Of which service, if of one.
    pub service: Option<ServiceId>,
    /// What.
    #[serde(flatten)]
    pub kind: EntryKind,
}
