//! What goes wrong, and when: drawn from the seed before the run begins.

use std::time::Duration;

use forefend_control::OperatorCommand;
use forefend_domain::{CellId, CellRole, Timestamp, Weight};

use crate::{
    random::Random,
    state::{Making, State},
};

/// One thing that happens to the world.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// Memory of a home cell grows until it dies or the leak is closed.
    Leak { bytes_per_s: f64, closed_after: Option<Duration> },
    /// Latency of a home cell creeps up, and back after a while.
    Creep { ms_per_s: f64, ended_after: Duration },
    /// A cell dies without warning.
    Kill,
    /// A cell's memory jumps once: no reason to move.
    Step,
    /// More users for a while.
    Spike { factor: f64, lasts: Duration },
    /// Nothing is measured of a cell for a while.
    Blind { lasts: Duration },
    /// The data plane can't be asked.
    DataPlaneGone { lasts: Duration },
    /// The data plane says yes and does nothing.
    AppliesLost { lasts: Duration },
    /// The data plane is started anew; its counts begin at zero.
    DataPlaneAnew,
    /// The store refuses.
    StoreRefuses { lasts: Duration },
    /// The driver refuses.
    DriverRefuses { lasts: Duration },
    /// Cells die while they are made.
    CreationsFail { lasts: Duration },
    /// The engine is killed and comes back with what the store holds.
    EngineKilled,
    /// A mirror that carries traffic begins to answer badly.
    MirrorTurnsBad { bad_share: f64 },
    /// An operator does something.
    Operator(Operation),
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Operation {
    /// Freezes, and ends it later.
    Freeze { lasts: Duration },
    /// Shifts a home cell by hand, and ends it later.
    Shift { weight: Weight, lasts: Duration },
    /// Begins a drill's shift of a home cell, and is killed before it can end it.
    Drill { weight: Weight, lease: Duration },
    /// Approves whatever waits.
    Approve,
}

/// Something to be undone later.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Later {
    CloseLeak(CellId),
    EndCreep(CellId),
    Command(OperatorCommand),
}

pub(crate) fn draw(random: &mut Random, from: Timestamp, until: Timestamp) -> Vec<(Timestamp, Fault)> {
    let count = random.pick(2, 9);
    let span_ms = u64::try_from(until.since(from).as_millis()).unwrap_or(u64::MAX);
    let mut faults: Vec<(Timestamp, Fault)> =
        (0..count).map(|_| (from + Duration::from_millis(random.pick(0, span_ms)), one(random))).collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn one(random: &mut Random) -> Fault {
    let lasts = Duration::from_millis(random.pick(500, 6_000));
    match random.pick(0, 21) {
        0..=4 => Fault::Leak {
            bytes_per_s: random.between(2.0, 12.0) * 1024.0 * 1024.0,
            closed_after: random.chance(0.4).then(|| Duration::from_millis(random.pick(2_000, 8_000))),
        },
        5..=7 => Fault::Creep {
            ms_per_s: random.between(10.0, 60.0),
            ended_after: Duration::from_millis(random.pick(3_000, 14_000)),
        },
        8 => Fault::Kill,
        9 => Fault::Step,
        10 => Fault::Spike { factor: random.between(1.5, 4.0), lasts },
        11 => Fault::Blind { lasts },
        12 => Fault::DataPlaneGone { lasts },
        13 => Fault::AppliesLost { lasts },
        14 => Fault::DataPlaneAnew,
        15 => Fault::StoreRefuses { lasts },
        16 => Fault::DriverRefuses { lasts },
        17 => Fault::CreationsFail { lasts },
        18 => Fault::EngineKilled,
        19 => Fault::MirrorTurnsBad { bad_share: random.between(0.05, 0.9) },
        _ => Fault::Operator(*random.one_of(&[
            Operation::Freeze { lasts: Duration::from_secs(5) },
            Operation::Freeze { lasts: Duration::from_secs(12) },
            Operation::Shift {
                weight: Weight::from_bp(3_000).unwrap_or(Weight::FULL),
                lasts: Duration::from_secs(8),
            },
            Operation::Drill {
                weight: Weight::from_bp(5_000).unwrap_or(Weight::FULL),
                lease: Duration::from_secs(6),
            },
            Operation::Approve,
        ])),
    }
}

impl State {
    /// Lets a fault happen to the world. Returns what must be undone later, and when.
    pub(crate) fn suffer(&mut self, fault: &Fault) -> Option<(Timestamp, Later)> {
        let now = self.now;
        let homes: Vec<CellId> = self
            .cells
            .values()
            .filter(|c| c.cell.role != CellRole::Synthetic && c.making == Making::Ready)
            .map(|c| c.cell.id.clone())
            .collect();
        let victim = (!homes.is_empty()).then(|| self.random.one_of(&homes).clone());
        match fault {
            Fault::Leak { bytes_per_s, closed_after } => {
                let id = victim?;
                self.cells.get_mut(&id)?.leak_per_s = *bytes_per_s;
                let closed = (*closed_after)?;
                return Some((now + closed, Later::CloseLeak(id)));
            }
            Fault::Creep { ms_per_s, ended_after } => {
                let id = victim?;
                self.cells.get_mut(&id)?.creep_ms_per_s = *ms_per_s;
                return Some((now + *ended_after, Later::EndCreep(id)));
            }
            Fault::Kill => {
                let all: Vec<CellId> = self.cells.keys().cloned().collect();
                let id = self.random.one_of(&all).clone();
                self.cells.get_mut(&id)?.break_down(now);
            }
            Fault::Step => self.cells.get_mut(&victim?)?.memory += 25.0 * 1024.0 * 1024.0,
            Fault::Spike { factor, lasts } => (self.spike, self.spike_until) = (*factor, now + *lasts),
            Fault::Blind { lasts } => self.cells.get_mut(&victim?)?.blind_until = now + *lasts,
            Fault::DataPlaneGone { lasts } => self.outages.data_plane = now + *lasts,
            Fault::AppliesLost { lasts } => self.outages.applies_lost = now + *lasts,
            Fault::DataPlaneAnew => {
                self.incarnation += 1;
                for cell in self.cells.values_mut() {
                    cell.totals = crate::state::Totals::default();
                }
            }
            Fault::StoreRefuses { lasts } => self.outages.store = now + *lasts,
            Fault::DriverRefuses { lasts } => self.outages.driver = now + *lasts,
            Fault::CreationsFail { lasts } => self.outages.creations_fail = now + *lasts,
            Fault::MirrorTurnsBad { bad_share } => {
                let bad = *bad_share;
                for cell in
                    self.cells.values_mut().filter(|c| c.cell.role == CellRole::Synthetic && c.rate > 0.0)
                {
                    cell.bad_share = bad;
                }
            }
            Fault::EngineKilled | Fault::Operator(_) => {}
        }
        None
    }

    pub(crate) fn undo(&mut self, later: &Later) {
        match later {
            Later::CloseLeak(id) => {
                if let Some(cell) = self.cells.get_mut(id) {
                    cell.leak_per_s = 0.0;
                    cell.memory = cell.memory.min(30.0 * 1024.0 * 1024.0);
                }
            }
            Later::EndCreep(id) => {
                if let Some(cell) = self.cells.get_mut(id) {
                    cell.creep_ms_per_s = 0.0;
                    cell.latency_ms = cell.latency_ms.min(10.0);
                }
            }
            Later::Command(_) => {}
        }
    }
}
