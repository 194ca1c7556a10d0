//! What every plan must keep, whoever made it.
//!
//! These functions know the world, the plan and the memory, and nothing of how the plan was made. The same functions
//! are asked in tests, at every tick of the simulation, and in production before a plan is carried out.

use std::collections::BTreeMap;

use forefend_domain::{
    Basis, CellHealth, CellId, CellRole, CellView, Effect, LifeState, Mode, Plan, Prediction, ServiceView,
    ServiceWeights, ShiftReason, Weight, World,
};

use crate::{Memory, cell, earned_share, mirrors};

/// A promise that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The name of the invariant: the name of its function here.
    pub invariant: &'static str,
    /// What breaks it, in words and numbers.
    pub detail: String,
}

/// Everything the invariants look at.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The world the plan was made for.
    pub world: &'a World,
    /// What was foreseen.
    pub predictions: &'a BTreeMap<CellId, Prediction>,
    /// The plan.
    pub plan: &'a Plan,
    /// The memory that goes with the plan.
    pub memory: &'a Memory,
}

/// Rounding of both levels of weights, as a share.
const ROUNDING: f64 = 0.000_3;

/// Every invariant. The first that does not hold is named.
///
/// # Errors
/// The violation.
pub fn check_all(case: Case<'_>) -> Result<(), Violation> {
    weights_add_up(case)?;
    frozen_holds(case)?;
    observe_moves_nothing(case)?;
    only_ready_cells_get_weight(case)?;
    evidence_earned(case)?;
    weight_within_contract(case)?;
    a_pre_test_stays_under_its_cap(case)?;
    data_gate_respected(case)?;
    absent_telemetry_holds(case)?;
    blast_radius_bounded(case)?;
    no_return_to_the_sick(case)
}

fn violated(invariant: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { invariant, detail })
}

/// Each `SetWeights`, with its service as seen and the weights in force.
fn changes<'a>(
    case: Case<'a>,
) -> impl Iterator<Item = (&'a ServiceView, &'a ServiceWeights, &'a ServiceWeights)> {
    case.plan.effects.iter().filter_map(move |effect| match effect {
        Effect::SetWeights { service, weights } => {
            let seen = case.world.services.get(service)?;
            Some((seen, weights, seen.effective.as_ref()?))
        }
        Effect::Create { .. }
        | Effect::Recreate { .. }
        | Effect::Park { .. }
        | Effect::Unpark { .. }
        | Effect::Rewarm { .. }
        | Effect::Retire { .. }
        | Effect::AskApproval { .. } => None,
    })
}

/// Cells that would get more than they have, beyond their home share: `(service, cell, new share)`.
fn growths<'a>(case: Case<'a>) -> Vec<(&'a ServiceView, &'a CellView, f64)> {
    changes(case)
        .flat_map(|(seen, new, old)| {
            seen.cells.values().filter_map(move |cell| {
                let id = &cell.cell.id;
                let (was, will) = (old.share(id), new.share(id));
                (will > was + ROUNDING && will > seen.home.share(id) + ROUNDING).then_some((seen, cell, will))
            })
        })
        .collect()
}

/// Whether traffic of a cell that has failed is being placed in this service: evidence is then not waited for.
fn is_failover(seen: &ServiceView, memory: &Memory) -> bool {
    memory
        .shifts
        .values()
        .any(|s| s.service == seen.service.id && s.reason == ShiftReason::Failed && s.outbound)
}

/// Weights of both levels add up to 10 000, and name only cells that exist.
///
/// # Errors
/// The violation.
pub fn weights_add_up(case: Case<'_>) -> Result<(), Violation> {
    for effect in &case.plan.effects {
        let Effect::SetWeights { service, weights } = effect else { continue };
        if let Err(e) = ServiceWeights::new(weights.regions().clone(), weights.cells().clone()) {
            return violated("weights_add_up", e.to_string());
        }
        let Some(seen) = case.world.services.get(service) else {
            return violated("weights_add_up", format!("service {service} does not exist"));
        };
        for ((_, cell), share) in weights.shares() {
            if share > 0.0 && !seen.cells.contains_key(&cell) {
                return violated("weights_add_up", format!("cell {cell} gets weight and does not exist"));
            }
        }
    }
    Ok(())
}

/// While frozen, nothing is done.
///
/// # Errors
/// The violation.
pub fn frozen_holds(case: Case<'_>) -> Result<(), Violation> {
    match case.plan.effects.first() {
        Some(effect) if case.world.frozen => violated("frozen_holds", format!("{effect:?} while frozen")),
        _ => Ok(()),
    }
}

/// In mode observe no standby ever gets weight, unless an operator or a drill asked.
///
/// # Errors
/// The violation.
pub fn observe_moves_nothing(case: Case<'_>) -> Result<(), Violation> {
    for (seen, cell, will) in growths(case) {
        let asked = seen.cells.keys().any(|c| case.world.request(c).is_some());
        let old = seen.effective.as_ref().map_or(0.0, |w| w.share(&cell.cell.id));
        if seen.service.policy.mode == Mode::Observe && !asked {
            return violated(
                "observe_moves_nothing",
                format!("{} would grow from {old:.4} to {will:.4} in mode observe", cell.cell.id),
            );
        }
    }
    Ok(())
}

/// Only cells that are ready, and standbys with valid papers, get weight.
///
/// # Errors
/// The violation.
pub fn only_ready_cells_get_weight(case: Case<'_>) -> Result<(), Violation> {
    for (seen, cell, will) in growths(case) {
        let carries = seen.effective.as_ref().is_some_and(|w| w.share(&cell.cell.id) > 0.0);
        if !cell::may_grow(cell, carries, &seen.service.policy, case.world.now) {
            return violated(
                "only_ready_cells_get_weight",
                format!(
                    "{} would get {will:.4} but is {:?}, parked: {}, health {:?}, objective {:?}, passport {:?}",
                    cell.cell.id, cell.life, cell.parked, cell.health, cell.objective, cell.passport
                ),
            );
        }
    }
    Ok(())
}

/// A mirror's weight beyond the first cohort is earned: share × upper bound of its bad share ≤ tolerated harm.
///
/// # Errors
/// The violation.
pub fn evidence_earned(case: Case<'_>) -> Result<(), Violation> {
    for (seen, cell, will) in growths(case) {
        if is_failover(seen, case.memory) {
            continue;
        }
        let policy = &seen.service.policy;
        let id = &cell.cell.id;
        let extra = will - seen.home.share(id);
        let of_shifts = case.memory.shifts.iter().filter_map(|(from, s)| Some((from, s.mirrors.get(id)?)));
        let of_tests = case.memory.pre_tests.iter().filter(|(_, t)| t.mirror == *id);
        let earned: f64 = of_shifts
            .chain(of_tests.map(|(from, test)| (from, &test.evidence)))
            .map(|(from, evidence)| {
                let first = policy.canary.first.share() * seen.home.share(from);
                earned_share(*evidence, policy.canary.tolerated_harm).max(first)
            })
            .sum();
        if extra > earned + ROUNDING {
            return violated(
                "evidence_earned",
                format!("{} would carry {extra:.4} of the service and has earned {earned:.4}", cell.cell.id),
            );
        }
    }
    Ok(())
}

/// A mirror's weight stays within its measured capacity less the headroom.
///
/// # Errors
/// The violation.
pub fn weight_within_contract(case: Case<'_>) -> Result<(), Violation> {
    for (seen, cell, will) in growths(case) {
        let rate = mirrors::service_rate_per_s(seen).unwrap_or(0.0);
        match cell::usable_capacity_per_s(cell, &seen.service.policy) {
            Some(usable) if will * rate > usable * (1.0 + 1e-9) + ROUNDING * rate => {
                return violated(
                    "weight_within_contract",
                    format!("{} would get {:.1}/s and can carry {usable:.1}/s", cell.cell.id, will * rate),
                );
            }
            Some(_) => {}
            None if is_failover(seen, case.memory) => {}
            None => {
                let extra = will - seen.home.share(&cell.cell.id);
                let first = seen.service.policy.canary.first.share();
                if extra > first + ROUNDING {
                    return violated(
                        "weight_within_contract",
                        format!("{} would carry {extra:.4} and its capacity is unknown", cell.cell.id),
                    );
                }
            }
        }
    }
    Ok(())
}

/// Where no shift is, at most the policy's cap of a cell's home traffic is away, and that only for a pre-test in mode auto.
///
/// # Errors
/// The violation.
pub fn a_pre_test_stays_under_its_cap(case: Case<'_>) -> Result<(), Violation> {
    for (seen, new, _) in changes(case) {
        let policy = &seen.service.policy;
        for id in seen.cells.keys().filter(|id| !case.memory.shifts.contains_key(*id)) {
            let home = seen.home.share(id);
            let tested = case.memory.pre_tests.contains_key(id) && policy.mode == Mode::Auto;
            let cap = if tested { policy.pre_test.cap } else { Weight::ZERO };
            let away = home - new.share(id);
            if away > cap.share() * home + ROUNDING {
                return violated(
                    "a_pre_test_stays_under_its_cap",
                    format!(
                        "{away:.4} of the service would be away from {id} without a shift; allowed is {cap}"
                    ),
                );
            }
        }
    }
    Ok(())
}

/// No cell gets traffic of others past a closed data gate.
///
/// # Errors
/// The violation.
pub fn data_gate_respected(case: Case<'_>) -> Result<(), Violation> {
    for (_, cell, will) in growths(case) {
        if !cell.data.open {
            return violated(
                "data_gate_respected",
                format!(
                    "{} would get {will:.4} but its data gate is closed: {}",
                    cell.cell.id, cell.data.why
                ),
            );
        }
    }
    Ok(())
}

/// No shift begins on a prediction without fresh telemetry, nor on a prior alone; no pre-test without fresh telemetry that calls for
/// it.
///
/// # Errors
/// The violation.
pub fn absent_telemetry_holds(case: Case<'_>) -> Result<(), Violation> {
    let is_fresh = |seen: &ServiceView, id: &CellId| {
        let cell = seen.cells.get(id);
        cell.is_some_and(|c| cell::telemetry_is_fresh(c, &seen.service.policy, case.world.now))
    };
    for (id, test) in case.memory.pre_tests.iter().filter(|(_, test)| test.began == case.world.now) {
        let Some(seen) = case.world.services.get(&test.service) else { continue };
        let risk = case.predictions.get(id).map(|p| p.probability);
        if !is_fresh(seen, id) || risk.is_none_or(|p| p < seen.service.policy.pre_test.from) {
            return violated(
                "absent_telemetry_holds",
                format!("a pre-test of {id} began; telemetry fresh: {}, risk {risk:?}", is_fresh(seen, id)),
            );
        }
    }
    for (id, shift) in &case.memory.shifts {
        if shift.began != case.world.now || shift.began_as != ShiftReason::Predicted {
            continue;
        }
        let Some(seen) = case.world.services.get(&shift.service) else { continue };
        let fresh = is_fresh(seen, id);
        let grounded = case.predictions.get(id).is_some_and(|p| p.basis != Basis::Prior);
        if !fresh || !grounded {
            return violated(
                "absent_telemetry_holds",
                format!("a shift of {id} began; telemetry fresh: {fresh}, grounded: {grounded}"),
            );
        }
    }
    Ok(())
}

/// Not more cells and not more traffic are away from home than the policy permits, failed cells not counted. What is away for a
/// pre-test, or was when the shift began, is traffic away and not a cell in motion.
///
/// # Errors
/// The violation.
pub fn blast_radius_bounded(case: Case<'_>) -> Result<(), Violation> {
    for (seen, new, old) in changes(case) {
        let budgets = &seen.service.policy.budgets;
        let (mut cells, mut weight, mut grows) = (0u32, 0.0, false);
        for (from, shift) in &case.memory.shifts {
            if shift.service != seen.service.id || shift.reason == ShiftReason::Failed {
                continue;
            }
            let away = seen.home.share(from) - new.share(from);
            let tested = shift.head_start.share() * seen.home.share(from);
            cells += u32::from(away > tested + ROUNDING);
            if away > ROUNDING {
                weight += away;
                grows |= new.share(from) < old.share(from) - ROUNDING;
            }
        }
        for from in case.memory.pre_tests.keys().filter(|id| seen.cells.contains_key(*id)) {
            weight += (seen.home.share(from) - new.share(from)).max(0.0);
            grows |= new.share(from) < old.share(from) - ROUNDING;
        }
        if grows
            && (cells > budgets.max_cells_in_motion
                || weight > budgets.max_weight_in_motion.share() + ROUNDING)
        {
            return violated(
                "blast_radius_bounded",
                format!(
                    "{cells} cells and {weight:.4} of {} would be away; allowed are {} and {}",
                    seen.service.id, budgets.max_cells_in_motion, budgets.max_weight_in_motion
                ),
            );
        }
    }
    Ok(())
}

/// Traffic goes home only to a cell that can carry it now.
///
/// # Errors
/// The violation.
pub fn no_return_to_the_sick(case: Case<'_>) -> Result<(), Violation> {
    for (seen, new, old) in changes(case) {
        for cell in seen.cells.values().filter(|c| c.cell.role != CellRole::Synthetic) {
            let id = &cell.cell.id;
            let grows = new.share(id) > old.share(id) + ROUNDING;
            let away = case.memory.shifts.get(id).is_some_and(|s| s.moved > Weight::ZERO);
            let dead = cell.objective.is_failed() || cell.life == LifeState::Failed;
            if grows && away && dead && cell.health != CellHealth::Up {
                return violated(
                    "no_return_to_the_sick",
                    format!("{id} would get traffic back while it has failed ({:?})", cell.objective),
                );
            }
        }
    }
    Ok(())
}
