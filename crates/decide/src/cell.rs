//! Small questions about one cell that several rules ask.

use forefend_domain::{CellHealth, CellRole, CellView, ObjectiveState, Policy, Timestamp};

/// Whether its telemetry is there and fresh.
pub(crate) fn telemetry_is_fresh(cell: &CellView, policy: &Policy, now: Timestamp) -> bool {
    cell.telemetry_at.is_some_and(|at| now.since(at) <= policy.stale_after)
}

/// Whether its papers let it count as capacity. Cells that others run or that carry traffic in normal times prove
/// themselves by their health instead.
pub(crate) fn has_valid_passport(cell: &CellView, policy: &Policy, now: Timestamp) -> bool {
    match (&cell.passport, cell.cell.role) {
        (Some(passport), CellRole::Synthetic) => {
            passport.current
                && now.since(passport.warmed_at) <= policy.standby.passport_valid_for
                && passport.warm_requests >= policy.canary.warm_requests
                && passport.warm_ok == passport.warm_requests
        }
        (None, CellRole::Synthetic) => false,
        (_, CellRole::Primary | CellRole::Secondary) => cell.health == CellHealth::Up,
    }
}

/// Whether nothing speaks against sending it requests this instant.
pub(crate) fn is_ready(cell: &CellView, policy: &Policy, now: Timestamp) -> bool {
    cell.life.can_take_traffic()
        && !cell.parked
        && cell.health != CellHealth::Down
        && !matches!(cell.objective, ObjectiveState::Failed { .. } | ObjectiveState::Breaking { .. })
        && has_valid_passport(cell, policy, now)
}

/// Whether a cell that already carries traffic of others may go on: looser than [`is_ready`], since a single bad
/// moment or an expired passport must not throw users back at a cell in trouble. Bad answers count as evidence.
pub(crate) fn can_go_on(cell: &CellView) -> bool {
    cell.life.can_take_traffic()
        && !cell.parked
        && cell.health != CellHealth::Down
        && !cell.objective.is_failed()
}

/// Whether a cell may be given more than it has: a newcomer must be ready; one that carries already must be keeping
/// its objective.
pub(crate) fn may_grow(cell: &CellView, carries: bool, policy: &Policy, now: Timestamp) -> bool {
    if carries {
        can_go_on(cell) && !matches!(cell.objective, ObjectiveState::Breaking { .. })
    } else {
        is_ready(cell, policy, now)
    }
}

/// Requests per second it may carry: its capacity less the headroom; `None` when nothing measured it.
pub(crate) fn usable_capacity_per_s(cell: &CellView, policy: &Policy) -> Option<f64> {
    let measured = cell.passport.as_ref().and_then(|p| p.measured_capacity);
    let capacity = match (cell.capacity.or(policy.capacity_per_cell), measured) {
        (Some(declared), Some(measured)) => Some(declared.get().min(measured.get())),
        (one, other) => one.or(other).map(|rate| rate.get()),
    };
    capacity.map(|c| c * (1.0 - policy.budgets.headroom))
}
