//! What the memory tells of traffic that is away, for API and dashboard.

use forefend_decide::Memory;
use forefend_domain::{CellId, Evidence, Mode, ShiftReason, Timestamp, Weight};

use crate::{PreTestView, ShiftView, Topology, persisted::Persisted};

/// Shifts that run, and those that wait for approval.
pub(crate) fn shifts(topology: &Topology, kept: &Persisted, at: Option<Timestamp>) -> Vec<ShiftView> {
    let waiting = kept.memory.asked.iter().filter_map(|cell| waiting(topology, kept, cell, at));
    let running = kept.memory.shifts.iter().map(|(from, shift)| ShiftView {
        service: shift.service.clone(),
        from: from.clone(),
        to: shift.mirrors.keys().cloned().collect(),
        reason: shift.reason,
        outbound: shift.outbound,
        moved: shift.moved,
        target: shift.target,
        evidence: shift.mirrors.values().fold(Evidence::default(), |sum, e| sum.plus(*e)),
        bound_by: shift.bound_by.clone(),
        since: shift.began,
    });
    running.chain(waiting).collect()
}

/// A shift that waits for approval: shown, and not begun.
fn waiting(topology: &Topology, kept: &Persisted, cell: &CellId, at: Option<Timestamp>) -> Option<ShiftView> {
    let spec = topology.services.values().find(|s| s.cells.contains_key(cell))?;
    let waits = spec.service.policy.mode == Mode::Approve
        && !kept.approved.contains(cell)
        && !kept.memory.shifts.contains_key(cell);
    waits.then(|| ShiftView {
        service: spec.service.id.clone(),
        from: cell.clone(),
        to: Vec::new(),
        reason: ShiftReason::Predicted,
        outbound: true,
        moved: Weight::ZERO,
        target: Weight::ZERO,
        evidence: Evidence::default(),
        bound_by: "approval".to_owned(),
        since: at.unwrap_or_default(),
    })
}

/// Mirrors that are tried.
pub(crate) fn pre_tests(memory: &Memory) -> Vec<PreTestView> {
    let view = |(from, test): (&CellId, &forefend_decide::PreTestMemory)| PreTestView {
        service: test.service.clone(),
        from: from.clone(),
        to: test.mirror.clone(),
        share: test.share,
        evidence: test.evidence,
        since: test.began,
    };
    memory.pre_tests.iter().map(view).collect()
}
