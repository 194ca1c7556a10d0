use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{CellId, Evidence, LedgerSeq, ServiceId, ServiceView, ShiftReason, Timestamp, Weight};
use serde::{Deserialize, Serialize};

/// What can't be seen and must be remembered from tick to tick. Stored atomically with the ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// By cell.
    pub cells: BTreeMap<CellId, CellMemory>,
    /// By the cell whose traffic is away or about to be.
    pub shifts: BTreeMap<CellId, ShiftMemory>,
    /// By the cell whose mirror is tried with a little of its traffic.
    #[serde(default)]
    pub pre_tests: BTreeMap<CellId, PreTestMemory>,
    /// Cells for whose shift approval was asked.
    pub asked: BTreeSet<CellId>,
}

impl Memory {
    /// What is remembered of the cells of one service. What was begun for a cell while it belonged to another service is over.
    pub(crate) fn of_cells(&self, service: &ServiceView) -> Self {
        let id = &service.service.id;
        let known = || service.cells.keys();
        Self {
            cells: known().filter_map(|cell| Some((cell.clone(), self.cells.get(cell)?.clone()))).collect(),
            shifts: known()
                .filter_map(|cell| self.shifts.get_key_value(cell).filter(|(_, shift)| shift.service == *id))
                .map(|(cell, shift)| (cell.clone(), shift.clone()))
                .collect(),
            pre_tests: known()
                .filter_map(|cell| self.pre_tests.get_key_value(cell).filter(|(_, test)| test.service == *id))
                .map(|(cell, test)| (cell.clone(), test.clone()))
                .collect(),
            asked: known().filter(|cell| self.asked.contains(*cell)).cloned().collect(),
        }
    }

    /// What the plan of each service is judged by: its shifts and pre-tests. A service that has none is not named.
    #[must_use]
    pub fn by_service(&self) -> BTreeMap<ServiceId, Self> {
        let mut all: BTreeMap<ServiceId, Self> = BTreeMap::new();
        for (cell, shift) in &self.shifts {
            all.entry(shift.service.clone()).or_default().shifts.insert(cell.clone(), shift.clone());
        }
        for (cell, test) in &self.pre_tests {
            all.entry(test.service.clone()).or_default().pre_tests.insert(cell.clone(), test.clone());
        }
        all
    }

    /// Takes back what was decided for these cells: of them it is then remembered what was remembered `before`.
    pub fn forget_decisions<'c>(&mut self, before: &Self, cells: impl Iterator<Item = &'c CellId>) {
        fn restore<V: Clone>(now: &mut BTreeMap<CellId, V>, before: &BTreeMap<CellId, V>, id: &CellId) {
            match before.get(id) {
                Some(value) => now.insert(id.clone(), value.clone()),
                None => now.remove(id),
            };
        }
        for id in cells {
            restore(&mut self.cells, &before.cells, id);
            restore(&mut self.shifts, &before.shifts, id);
            restore(&mut self.pre_tests, &before.pre_tests, id);
            if before.asked.contains(id) {
                self.asked.insert(id.clone());
            } else {
                self.asked.remove(id);
            }
        }
    }
}

/// What is remembered of a cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CellMemory {
    /// The last 64 ticks in which anything was predicted, newest in the lowest bit: did the trigger hold?
    pub hits: u64,
    /// Since when it has been well without a break: nothing foreseen, objective met, telemetry fresh.
    pub well_since: Option<Timestamp>,
    /// Until then nothing is done for it on a prediction.
    pub refractory_until: Option<Timestamp>,
    /// How often it was made again without having been well in between.
    pub recreations: u32,
    /// When it was last made again.
    pub recreated_at: Option<Timestamp>,
    /// Whether its present failure is in the ledger.
    pub failure_noted: bool,
    /// Whether it was held for want of telemetry, so that this is said once and not every tick.
    pub held: bool,
    /// As a mirror: until then no pre-test uses it again, for one had to be broken off.
    #[serde(default)]
    pub untested_until: Option<Timestamp>,
    /// As a mirror: until then only a cell that has failed is moved to it, for it answered a pre-test badly.
    #[serde(default)]
    pub distrusted_until: Option<Timestamp>,
}

/// What is remembered of a shift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShiftMemory {
    /// Of which service.
    pub service: ServiceId,
    /// Why it goes on. May grow from predicted to failed.
    pub reason: ShiftReason,
    /// Why it began.
    pub began_as: ShiftReason,
    /// When it was decided.
    pub began: Timestamp,
    /// Where the ledger says so; filled in by the loop.
    pub began_seq: Option<LedgerSeq>,
    /// Who takes the traffic, and what each has shown since the shift began.
    pub mirrors: BTreeMap<CellId, Evidence>,
    /// Which of them carry, or were asked to, as of the last tick.
    pub carriers: BTreeSet<CellId>,
    /// Mirrors that answered badly and are not tried again in this shift.
    pub rejected: BTreeSet<CellId>,
    /// The share that a pre-test had at its mirror when the shift began: a step that is taken already.
    #[serde(default)]
    pub head_start: Weight,
    /// Whether it moves away or goes home.
    pub outbound: bool,
    /// When `moved` last changed.
    pub moved_changed_at: Option<Timestamp>,
    /// The share of the cell's home traffic seen away, as of the last tick.
    pub moved: Weight,
    /// The most that was ever seen away.
    pub most_moved: Weight,
    /// The share that is wanted away.
    pub target: Weight,
    /// The bound that kept the target from being larger.
    pub bound_by: String,
    /// When the first weight was asked for.
    pub asked_at: Option<Timestamp>,
    /// When traffic was first seen away.
    pub first_moved_at: Option<Timestamp>,
    /// When all of the traffic was first seen away.
    pub done_at: Option<Timestamp>,
    /// Start of the breach that became a failure, if the cell has failed since.
    pub failed_since: Option<Timestamp>,
}

/// Rounding of both levels of weights, as a share of the service.
pub(crate) const ROUNDING: f64 = 0.000_3;

impl ShiftMemory {
    /// Whether more of the cell's traffic is away, or wanted away, than a pre-test had there before. `home` is the cell's share of
    /// the service.
    pub(crate) fn is_in_motion(&self, home: f64) -> bool {
        let away = self.moved.max(self.target);
        if self.head_start == Weight::ZERO {
            away > Weight::ZERO
        } else {
            away.saturating_sub(self.head_start).share() * home > ROUNDING
        }
    }

    pub(crate) fn new(service: ServiceId, reason: ShiftReason, began: Timestamp) -> Self {
        Self {
            service,
            reason,
            began_as: reason,
            began,
            began_seq: None,
            mirrors: BTreeMap::new(),
            carriers: BTreeSet::new(),
            rejected: BTreeSet::new(),
            head_start: Weight::ZERO,
            outbound: true,
            moved_changed_at: None,
            moved: Weight::ZERO,
            most_moved: Weight::ZERO,
            target: Weight::ZERO,
            bound_by: "none".to_owned(),
            asked_at: None,
            first_moved_at: None,
            done_at: None,
            failed_since: None,
        }
    }
}

/// What is remembered of a pre-test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreTestMemory {
    /// Of which service.
    pub service: ServiceId,
    /// Who is tried.
    pub mirror: CellId,
    /// When it was decided.
    pub began: Timestamp,
    /// What the mirror has shown since then. What is long past fades, so that it can't outvote what it does now.
    pub evidence: Evidence,
    /// The share of the cell's home traffic that the risk has called for. It only grows: a falling risk moves nobody.
    pub wanted: Weight,
    /// The share that it has, within every bound, as of the last tick.
    pub share: Weight,
    /// Since when the probability has been below the policy's `from`, in every tick in which anything was foreseen at all.
    pub below_since: Option<Timestamp>,
}
