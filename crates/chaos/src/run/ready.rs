//! Readiness: everything that speaks against beginning, not only the first.

use forefend_domain::{Basis, CellId, LifeState, ObjectiveState, ServiceId, Timestamp, Weight};

use super::{
    Refusal, Seen, Targets,
    seen::{is_fit, usable_per_s},
};
use crate::experiment::Experiment;

/// What speaks against beginning now. `id` is the run's own, which stands in its own way not.
#[must_use]
pub fn refusals(
    experiment: &Experiment,
    targets: &Targets,
    id: &str,
    seen: &Seen<'_>,
    now: Timestamp,
) -> Vec<Refusal> {
    let rails = &experiment.guard_rails;
    let mut found = Vec::new();
    if seen.world.frozen {
        found.push(Refusal::Frozen);
    }
    not_seen(experiment, targets, seen, now, &mut found);
    other_runs(experiment, id, seen, now, &mut found);
    let ends =
        now + experiment.hypothesis.holds_for + experiment.lasts() + experiment.hypothesis.recovers_within;
    if let Some((at, why)) = experiment.blocked(now, ends) {
        found.push(Refusal::Blocked { at, why: why.to_owned() });
    }
    unwell(experiment, seen, &mut found);
    let service = experiment.service();
    let Some(view) = seen.view(service) else { return found };
    for cell in &targets.cells {
        let runs = view.cells.get(cell).is_some_and(|c| {
            !matches!(
                c.life,
                LifeState::Retired | LifeState::Failed | LifeState::Planned | LifeState::Creating
            )
        });
        if !runs {
            found.push(Refusal::TargetGone { cell: cell.clone() });
        }
    }
    if rails.running_shift {
        let moving = view.cells.keys().find(|cell| {
            seen.shifting.contains(*cell)
                || seen.world.request(cell).is_some_and(|request| request.weight > Weight::ZERO)
                || (view.effective.is_some() && !seen.is_home(service, cell))
        });
        found.extend(moving.map(|cell| Refusal::RunningShift { cell: cell.clone() }));
    }
    if rails.capacity {
        found.extend(capacity_refusals(service, &targets.cells, seen, now));
    }
    if experiment.is_drill() {
        drill(experiment, targets, seen, now, &mut found);
    }
    found
}

fn not_seen(
    experiment: &Experiment,
    targets: &Targets,
    seen: &Seen<'_>,
    now: Timestamp,
    found: &mut Vec<Refusal>,
) {
    for service in experiment.steady_state().into_keys() {
        if seen.view(&service).is_none() {
            found.push(Refusal::NoSuchService { service });
            continue;
        }
        let fresh = seen.fresh_at(&service, &targets.cells);
        if fresh.is_none_or(|at| now.since(at) > experiment.stop_conditions.blind_for) {
            found.push(Refusal::NotSeen { service });
        }
    }
}

fn other_runs(experiment: &Experiment, id: &str, seen: &Seen<'_>, now: Timestamp, found: &mut Vec<Refusal>) {
    let rails = &experiment.guard_rails;
    let others = || seen.others.iter().filter(|other| other.id != id);
    if rails.another_running
        && let Some(other) = others().find(|other| other.ended.is_none())
    {
        found.push(Refusal::AnotherRuns { id: other.id.clone() });
    }
    let same = others().filter(|other| other.service == *experiment.service());
    if let Some(ago) = same.filter_map(|other| other.ended).map(|end| now.since(end)).min()
        && ago < rails.pause
    {
        found.push(Refusal::TooSoon { ago_s: ago.as_secs(), pause_s: rails.pause.as_secs() });
    }
}

fn unwell(experiment: &Experiment, seen: &Seen<'_>, found: &mut Vec<Refusal>) {
    let limit = experiment.guard_rails.risk_at;
    for service in experiment.steady_state().keys() {
        for (id, cell) in seen.view(service).into_iter().flat_map(|view| &view.cells) {
            if matches!(cell.life, LifeState::Retired) {
                continue;
            }
            if matches!(cell.objective, ObjectiveState::Failed { .. } | ObjectiveState::Breaking { .. }) {
                found.push(Refusal::Unwell { cell: id.clone() });
                continue;
            }
            let risk = seen.predictions.get(id).filter(|p| p.basis != Basis::Prior && p.probability >= limit);
            found.extend(risk.map(|p| Refusal::AtRisk {
                cell: id.clone(),
                probability: p.probability.get(),
                limit: limit.get(),
            }));
        }
    }
}

/// What speaks against the rest of the service's cells carrying all of its traffic. What is unknown counts as nothing.
pub(crate) fn capacity_refusals(
    service: &ServiceId,
    targets: &[CellId],
    seen: &Seen<'_>,
    now: Timestamp,
) -> Vec<Refusal> {
    let Some(view) = seen.view(service) else { return Vec::new() };
    let Some(rate) = seen.services.get(service).and_then(|users| users.rate) else {
        return vec![Refusal::RateUnknown { service: service.clone() }];
    };
    let others = || view.cells.values().filter(|c| !targets.contains(&c.cell.id) && is_fit(c, view, now));
    let usable: f64 = others().filter_map(|cell| usable_per_s(cell, view)).sum();
    if usable >= rate.get() {
        return Vec::new();
    }
    let unknown = others().find(|cell| usable_per_s(cell, view).is_none());
    let unknown = unknown.map(|cell| Refusal::CapacityUnknown { cell: cell.cell.id.clone() });
    vec![unknown.unwrap_or(Refusal::CapacityShort { usable_per_s: usable, present_per_s: rate.get() })]
}

fn drill(
    experiment: &Experiment,
    targets: &Targets,
    seen: &Seen<'_>,
    now: Timestamp,
    found: &mut Vec<Refusal>,
) {
    let service = experiment.service();
    let Some(view) = seen.view(service) else { return };
    let budgets = &view.service.policy.budgets;
    let (cells_allowed, share_allowed) =
        (budgets.max_cells_in_motion as usize, budgets.max_weight_in_motion.share());
    if targets.cells.len() > cells_allowed || targets.share > share_allowed + 1e-9 {
        found.push(Refusal::BudgetTooSmall {
            cells: targets.cells.len(),
            share: targets.share,
            cells_allowed,
            share_allowed,
        });
    }
    let region = experiment.outage.as_ref().map(|outage| &outage.region);
    // Traffic that is new to a cell needs its data to allow it, unlike what it has at home.
    let mirror = view
        .cells
        .values()
        .any(|cell| Some(&cell.cell.region) != region && cell.data.open && is_fit(cell, view, now));
    if !mirror {
        found.push(Refusal::NoFitMirror { service: service.clone() });
    }
}

/// How many persons' word is needed.
#[must_use]
pub fn approvals_needed(experiment: &Experiment, targets: &Targets) -> u32 {
    let large = targets.share > experiment.approvals.above.get() + 1e-9;
    experiment.approvals.required.max(u32::from(large))
}

/// How many of those whose word counts have given it.
pub(crate) fn approvals_given(experiment: &Experiment, seen: &Seen<'_>) -> u32 {
    let by = &experiment.approvals.by;
    let given = seen.approvals.iter().filter(|name| by.is_empty() || by.contains(name)).count();
    u32::try_from(given).unwrap_or(u32::MAX)
}
