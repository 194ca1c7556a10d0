//! One shift: how much of a cell's traffic may be away now, and who takes it.

use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{
    CellHealth, CellId, CellView, EntryKind, ObjectiveState, ServiceWeights, ShiftReason, Weight,
};

use crate::{
    Memory, ShiftMemory, bad_share_lower_bound, cell,
    decide::{Decision, Scene, is_well_again, trigger_holds},
    memory::ROUNDING,
    mirrors::{self, Unfit},
    pre_test,
    sharing::{Allowed, allowed_shares, hold_on, share_out},
};

/// Traffic that is due to go home piles up for at most this long.
const LONGEST_RETURN_STEP: std::time::Duration = std::time::Duration::from_secs(2);

/// A mirror that spoils more than this is worse than nothing even for a cell that has failed.
const HOPELESS_BAD_SHARE: f64 = 0.5;

/// Whether a cell is overloaded as its policy defines it.
pub(crate) fn needs_relief(scene: &Scene<'_>, cell: &CellView) -> bool {
    match (&scene.policy().relief, cell.utilisation) {
        (Some(relief), Some(utilisation)) => utilisation > relief.above,
        (None, _) | (_, None) => false,
    }
}

/// Looks at what came about, decides the target of one shift, and returns the shares of the service that each mirror
/// shall carry for it.
pub(crate) fn advance(
    scene: &Scene<'_>,
    effective: &ServiceWeights,
    from: &CellView,
    taken: &BTreeSet<CellId>,
    decision: &mut Decision,
) -> BTreeMap<CellId, f64> {
    let id = &from.cell.id;
    let Some(mut shift) = decision.memory.shifts.remove(id) else { return BTreeMap::new() };
    let home = scene.home_share(id);
    observe(scene, effective, from, &mut shift, decision);
    let rolled_back = reject_bad_mirrors(scene, from, &mut shift, decision);
    turn(scene, from, &mut shift, decision);

    // A mirror whose own traffic is away has less than at home and may carry all the same.
    let has_left = |m: &CellId| decision.memory.shifts.contains_key(m);
    let carrying: BTreeSet<CellId> = shift
        .carriers
        .iter()
        .filter(|m| effective.share(m) > scene.home_share(m) || has_left(m))
        .cloned()
        .collect();
    let distrusted = pre_test::distrusted(scene, &decision.memory, from).filter(|m| !carrying.contains(*m));
    let in_motion = engaged(&decision.memory).chain(taken).chain(distrusted).cloned().collect();
    let (fit, why_not) = mirrors::candidates(
        scene.world,
        scene.service,
        from,
        scene.predictions,
        &in_motion,
        &carrying,
        scene.guards,
    );
    let fit: Vec<&CellView> = fit
        .into_iter()
        .filter(|m| !shift.rejected.contains(&m.cell.id))
        // On the way home nobody new is burdened: what a mirror can't keep goes home at once.
        .filter(|m| shift.outbound || carrying.contains(&m.cell.id))
        .collect();
    let desire = desire(scene, from, &shift, rolled_back);
    let mut allowed = allowed_shares(scene, &fit, &shift, effective, home, desire);
    if scene.has_failed(from) {
        let (plain, left): (Vec<&CellId>, Vec<&CellId>) =
            carrying.iter().filter(|m| !taken.contains(*m)).partition(|m| !has_left(m));
        let has = |m: &CellId| (effective.share(m) - scene.home_share(m)).max(0.0);
        let mut holders: Vec<(&CellId, f64)> = plain.into_iter().map(|m| (m, has(m))).collect();
        // What is away and not seen at the others is at those.
        let rest = shift.moved.share() * home - holders.iter().map(|(_, has)| has).sum::<f64>();
        holders.extend(left.first().map(|m| (*m, rest.max(0.0))));
        hold_on(scene, &holders, &mut allowed);
    }
    let mut bound = Bound { share: desire.share(), by: "none" };
    let outbound = shift.outbound && desire > Weight::ZERO;
    if outbound {
        bound_growth(scene, &shift, &allowed, why_not, home, decision, &mut bound);
    }
    // Whatever the direction, a mirror never keeps what it can't carry.
    let possible = allowed.iter().map(|a| a.share).sum::<f64>() / home;
    let target_share = bound.share.min(possible);
    let mut target = Weight::from_share_floor(target_share);
    if outbound && shift.reason == ShiftReason::Predicted {
        target = step_below(scene, &shift, home, target);
    }
    if scene.has_failed(from) {
        // Whatever brought the traffic away, a cell that has failed gets none of it back.
        target = target.max(shift.moved.min(Weight::from_share_floor(possible)));
    }
    if scene.world.frozen && scene.guards.freeze {
        (target, bound.by) = (shift.moved, "freeze");
    }
    announce(id, &shift, target, decision);
    if target > Weight::ZERO {
        shift.asked_at.get_or_insert(scene.world.now);
    }
    shift.target = target;
    shift.bound_by = bound.by.to_owned();
    let first = scene.policy().canary.first.share() * home;
    let given = share_out(&allowed, target.share() * home, first);
    for mirror in given.keys() {
        shift.mirrors.entry(mirror.clone()).or_default();
    }
    shift.carriers = given.keys().cloned().collect();
    decision.memory.shifts.insert(id.clone(), shift);
    given
}

/// Cells that can't stand in for another shift: their own traffic is away, or they already stand in for somebody. One
/// mirror stands in for one cell, so that its capacity and its evidence are never counted twice.
pub(crate) fn engaged(memory: &Memory) -> impl Iterator<Item = &CellId> {
    memory.shifts.iter().flat_map(|(from, shift)| std::iter::once(from).chain(&shift.carriers))
}

/// Takes note of what the data plane reports: how much is away, what the mirrors have shown, whether it is done.
fn observe(
    scene: &Scene<'_>,
    effective: &ServiceWeights,
    from: &CellView,
    shift: &mut ShiftMemory,
    decision: &mut Decision,
) {
    let (id, now) = (&from.cell.id, scene.world.now);
    let home = scene.home_share(id);
    let left = effective.share(id) / home;
    let moved = if effective.share(id) == 0.0 { Weight::FULL } else { Weight::from_share(1.0 - left) };
    if moved != shift.moved {
        // On the way home the clock moves on by what that part was due for, so that the time a part takes to be read back
        // doesn't slow the return.
        let part_s = f64::from(shift.moved.bp().saturating_sub(moved.bp()))
            / f64::from(scene.policy().give_back.bp_per_second.max(1));
        let due = shift.moved_changed_at.map(|at| at + std::time::Duration::from_secs_f64(part_s));
        shift.moved_changed_at =
            due.filter(|_| !shift.outbound && part_s > 0.0).map_or(Some(now), |due| Some(due.min(now)));
    }
    shift.moved = moved;
    shift.most_moved = shift.most_moved.max(shift.moved);
    for (mirror, evidence) in &mut shift.mirrors {
        if let Some(seen) = scene.service.cells.get(mirror).and_then(|m| m.traffic.since_last) {
            *evidence = evidence.plus(seen);
        }
    }
    if shift.moved > Weight::ZERO {
        shift.first_moved_at.get_or_insert(now);
    }
    if shift.moved == Weight::FULL && shift.done_at.is_none() {
        shift.done_at = Some(now);
        let took_s = now.since(shift.began).as_secs_f64();
        decision.events.push((shift.service.clone(), EntryKind::ShiftDone { cell: id.clone(), took_s }));
        decision.explain(
            id,
            "shift-done",
            format!("all of its traffic is away, {took_s:.1} s after the decision"),
        );
    }
}

/// The share of bad answers above which a mirror is worse than the objective.
pub(crate) fn tolerable_bad_share(scene: &Scene<'_>) -> f64 {
    let objective = &scene.service.service.objective;
    objective.error_share + objective.slow_share
}

/// Gives up mirrors that are surely worse than the objective. Returns whether the shift has none left and goes back.
fn reject_bad_mirrors(
    scene: &Scene<'_>,
    from: &CellView,
    shift: &mut ShiftMemory,
    decision: &mut Decision,
) -> bool {
    let tolerable = if scene.has_failed(from) { HOPELESS_BAD_SHARE } else { tolerable_bad_share(scene) };
    let mut rejected_now = false;
    for (mirror, evidence) in &shift.mirrors {
        let surely_bad = bad_share_lower_bound(*evidence);
        if surely_bad > tolerable && shift.rejected.insert(mirror.clone()) {
            rejected_now = true;
            let (cell, evidence) = (mirror.clone(), *evidence);
            let rejected = EntryKind::Rejected { cell, from: from.cell.id.clone(), evidence };
            decision.events.push((shift.service.clone(), rejected));
            decision.explain(
                &from.cell.id,
                "mirror-rejected",
                format!(
                    "{mirror} answered {} of {} requests badly: surely above {:.1}%",
                    evidence.bad,
                    evidence.requests,
                    tolerable * 100.0
                ),
            );
        }
    }
    let none_left = shift.mirrors.keys().all(|m| shift.rejected.contains(m));
    let gives_up = !shift.mirrors.is_empty() && none_left && !scene.has_failed(from);
    if gives_up && rejected_now {
        shift.outbound = false;
        let until = scene.world.now + scene.policy().budgets.refractory;
        decision.memory.cells.entry(from.cell.id.clone()).or_default().refractory_until = Some(until);
        decision.explain(
            &from.cell.id,
            "rolled-back",
            "no mirror is better than the cell itself: its traffic goes back at once",
        );
    }
    gives_up
}

/// Turns a shift home when its reason is gone.
fn turn(scene: &Scene<'_>, from: &CellView, shift: &mut ShiftMemory, decision: &mut Decision) {
    if !shift.outbound {
        return;
    }
    let id = &from.cell.id;
    let well_since = decision.memory.cells.get(id).and_then(|m| m.well_since);
    let gone = match shift.reason {
        ShiftReason::Predicted => {
            is_well_again(scene, well_since) && !trigger_holds(scene, &decision.memory, id)
        }
        ShiftReason::Failed => is_well_again(scene, well_since),
        ShiftReason::Operator | ShiftReason::Drill => scene.world.request(id).is_none(),
        ShiftReason::Relief => match (&scene.policy().relief, from.utilisation) {
            // With the relieved load added back, or relief would end itself and begin again.
            (Some(relief), Some(now)) => now / (1.0 - shift.moved.share()).max(0.05) < relief.below,
            (None, _) => true,
            (Some(_), None) => false,
        },
    };
    if gone {
        shift.outbound = false;
        shift.moved_changed_at = Some(scene.world.now);
        decision.explain(
            id,
            "return-begins",
            "its reason is gone and the cell is well: its traffic goes home gradually",
        );
    }
}

/// The share of the cell's traffic that would be away if nothing stood against it.
fn desire(scene: &Scene<'_>, from: &CellView, shift: &ShiftMemory, rolled_back: bool) -> Weight {
    if shift.outbound {
        return match shift.reason {
            ShiftReason::Failed | ShiftReason::Predicted => Weight::FULL,
            ShiftReason::Operator | ShiftReason::Drill => {
                scene.world.request(&from.cell.id).map_or(shift.moved, |request| request.weight)
            }
            ShiftReason::Relief => scene.policy().relief.as_ref().map_or(Weight::ZERO, |r| r.at_most),
        };
    }
    let can_carry = matches!(from.objective, ObjectiveState::Met { .. })
        && from.health != CellHealth::Down
        && cell::telemetry_is_fresh(from, scene.policy(), scene.world.now);
    if rolled_back && !scene.has_failed(from) {
        return Weight::ZERO;
    }
    if !can_carry {
        return shift.moved;
    }
    // Paced from the last part that was seen to come home, so that a read-back that is late, or a part too small for
    // the weights' resolution, holds nothing up; but what piled up meanwhile never goes home in one leap.
    let since = shift.moved_changed_at.unwrap_or(scene.world.now);
    let rate = f64::from(scene.policy().give_back.bp_per_second);
    let elapsed_s = scene.world.now.since(since).as_secs_f64();
    let smallest_visible = 3.0 / scene.home_share(&from.cell.id);
    let most = (rate * LONGEST_RETURN_STEP.as_secs_f64()).max(smallest_visible);
    let step = (rate * elapsed_s).min(most);
    shift.moved.saturating_sub(Weight::from_share(step / 10_000.0))
}

/// Counts as carriers all mirrors that are seen to carry, whatever was wanted last: weights that were asked for may be applied late,
/// after the wish for them has gone.
pub(crate) fn reclaim(scene: &Scene<'_>, effective: &ServiceWeights, memory: &mut Memory) {
    let mut claimed: BTreeSet<CellId> =
        memory.shifts.values().flat_map(|s| s.carriers.iter().cloned()).collect();
    for shift in memory.shifts.values_mut().filter(|s| s.service == scene.service.service.id) {
        for mirror in shift.mirrors.keys() {
            // What the weights' rounding leaves at a cell is nobody's traffic.
            let carries = effective.share(mirror) > scene.home_share(mirror) + ROUNDING;
            if carries && claimed.insert(mirror.clone()) {
                shift.carriers.insert(mirror.clone());
            }
        }
    }
}

/// A share of the cell's traffic, and what keeps it from being more.
struct Bound {
    share: f64,
    by: &'static str,
}

impl Bound {
    fn at_most(&mut self, share: f64, by: &'static str) {
        if share < self.share {
            (self.share, self.by) = (share.max(0.0), by);
        }
    }
}

/// The bounds of the weight contract on traffic that moves away.
fn bound_growth(
    scene: &Scene<'_>,
    shift: &ShiftMemory,
    allowed: &[Allowed],
    why_not: Option<Unfit>,
    home: f64,
    decision: &Decision,
    bound: &mut Bound,
) {
    let none_because = match why_not {
        Some(Unfit::Data) => "data",
        Some(Unfit::NotReady | Unfit::AtRisk) | None => "readiness",
    };
    let by = allowed.last().map_or(none_because, |a| a.by);
    bound.at_most(allowed.iter().map(|a| a.share).sum::<f64>() / home, by);
    if shift.reason == ShiftReason::Failed {
        return;
    }
    let budgets = &scene.policy().budgets;
    // What a pre-test has moved stays, also where its reading back is off by a rounding.
    let held = shift.moved.max(shift.head_start);
    let others = decision.memory.shifts.iter().filter(|(_, other)| {
        other.service == shift.service
            && other.reason != ShiftReason::Failed
            && other.moved.max(other.target) > Weight::ZERO
    });
    let (mut cells, mut weight) = (0, 0.0);
    for (other, memory) in others {
        cells += u32::from(memory.is_in_motion(scene.home_share(other)));
        weight += memory.moved.max(memory.target).share() * scene.home_share(other);
    }
    if cells >= budgets.max_cells_in_motion {
        bound.at_most(held.share(), "budget");
    }
    let left = (budgets.max_weight_in_motion.share() - weight) / home;
    bound.at_most(left.max(held.share()), "budget");
}

/// Shares of a service are read back in whole basis points on two levels: each may be off by so much, as a share of the service.
const SMALLEST_SEEN: f64 = 3.0 / 10_000.0;

/// The largest step that is at most `weight`, or zero when even the first is more; never more than one step beyond what was
/// seen to have moved, however much was earned beforehand: a mirror that gets most of the traffic at a stroke shows how it
/// bears that only when everybody is there. What a pre-test had is a step too, so that the shift never begins with a step
/// back.
fn step_below(scene: &Scene<'_>, shift: &ShiftMemory, home: f64, weight: Weight) -> Weight {
    let canary = &scene.policy().canary;
    let steps = || [&shift.head_start, &canary.first].into_iter().chain(&canary.steps);
    // Of a small home share the weights' whole basis points show less than was asked for: that counts as reached.
    let seen = shift.moved.saturating_add(Weight::from_share(SMALLEST_SEEN / home));
    let next = steps().filter(|step| **step > seen).min().copied().unwrap_or(Weight::FULL);
    steps().filter(|step| **step <= weight.min(next)).max().copied().unwrap_or(Weight::ZERO)
}

fn announce(id: &CellId, shift: &ShiftMemory, target: Weight, decision: &mut Decision) {
    if target == shift.target || target == shift.moved {
        return;
    }
    let evidence = shift.mirrors.values().fold(forefend_domain::Evidence::default(), |sum, e| sum.plus(*e));
    let (what, way) = match (shift.outbound, target > shift.moved) {
        (true, true) if shift.moved == Weight::ZERO => ("canary", "away"),
        (true, true) => ("step", "away"),
        (true, false) => ("step-back", "away"),
        // A return is announced once, when it begins; its steps are many and small.
        (false, _) => return,
    };
    decision.explain(
        id,
        what,
        format!(
            "{target} {way}, after {} requests at the mirrors, {} of them bad",
            evidence.requests, evidence.bad
        ),
    );
}
