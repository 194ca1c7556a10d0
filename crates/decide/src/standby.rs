//! Which synthetic cells there are, and whether they are warm, frozen or gone.

use std::{collections::BTreeSet, time::Duration};

use forefend_domain::{
    Basis, Cell, CellId, CellRole, CellView, Effect, LifeState, Mode, Plan, RegionId, ShiftReason, Weight,
    ZoneId,
};

use crate::{
    Memory, cell,
    decide::{Decision, Scene},
    mirrors, pre_test, shift,
};

/// First pause before a broken cell is made again; doubles with every try in vain.
const FIRST_RECREATE_PAUSE: Duration = Duration::from_millis(250);

/// Longest such pause.
const LONGEST_RECREATE_PAUSE: Duration = Duration::from_secs(60);

/// Whether some cell could take all of this one's traffic now, as far as readiness and capacity go.
pub(crate) fn has_ready_mirror(scene: &Scene<'_>, memory: &Memory, from: &CellView) -> bool {
    room_share(scene, memory, from) >= scene.home_share(&from.cell.id)
}

/// The share of the service that cells fit to stand in for `from` have room for.
fn room_share(scene: &Scene<'_>, memory: &Memory, from: &CellView) -> f64 {
    let mine = memory.shifts.get(&from.cell.id);
    let in_motion: BTreeSet<CellId> = shift::engaged(memory)
        .chain(pre_test::distrusted(scene, memory, from))
        .filter(|other| mine.is_none_or(|shift| !shift.carriers.contains(*other)))
        .cloned()
        .collect();
    let (fit, _) = mirrors::candidates(
        scene.world,
        scene.service,
        from,
        scene.predictions,
        &in_motion,
        &BTreeSet::new(),
        scene.guards,
    );
    fit.iter().filter_map(|m| mirrors::spare_share(scene.service, m, scene.home_share(&m.cell.id))).sum()
}

/// Whether a standby should be ready for this cell: something is foreseen, or its traffic is away or on its way.
fn is_endangered(scene: &Scene<'_>, memory: &Memory, cell: &CellView) -> bool {
    let foreseen = scene
        .predictions
        .get(&cell.cell.id)
        .is_some_and(|p| p.basis != Basis::Prior && p.probability >= scene.policy().trigger.prepare_at);
    let moving = memory.shifts.get(&cell.cell.id).is_some_and(|s| s.outbound || s.moved > Weight::ZERO);
    foreseen || moving
}

/// Plans creations, thaws, warm-ups, freezes and removals of the service's cells.
pub(crate) fn tend(scene: &Scene<'_>, decision: &mut Decision) {
    create_home_cells(scene, decision);
    recreate_broken(scene, decision);
    if scene.policy().mode == Mode::Observe {
        return;
    }
    let endangered: Vec<&CellView> =
        scene.home_cells().filter(|c| is_endangered(scene, &decision.memory, c)).collect();
    let mut taken: BTreeSet<CellId> = scene.service.cells.keys().cloned().collect();
    for cell in &endangered {
        ready_a_standby(scene, cell, &mut taken, decision);
    }
    keep_the_minimum(scene, &mut taken, decision);
    if endangered.is_empty() {
        rest_the_idle(scene, decision);
    }
}

fn synthetic<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = &'a CellView> {
    scene
        .service
        .cells
        .values()
        .filter(|c| c.cell.role == CellRole::Synthetic && c.life != LifeState::Retired)
}

/// Cells that carry traffic in normal times and are ours to make, and are not there yet.
fn create_home_cells(scene: &Scene<'_>, decision: &mut Decision) {
    for cell in scene.service.cells.values() {
        if let (LifeState::Planned, Some(blueprint), true) =
            (cell.life, &cell.cell.blueprint, cell.cell.role != CellRole::Synthetic)
        {
            let blueprint = blueprint.clone();
            decision.plan.effects.push(Effect::Create { cell: cell.cell.clone(), blueprint });
        }
    }
}

fn recreate_broken(scene: &Scene<'_>, decision: &mut Decision) {
    let now = scene.world.now;
    for cell in scene.service.cells.values() {
        if cell.life != LifeState::Failed || cell.cell.blueprint.is_none() {
            continue;
        }
        let id = &cell.cell.id;
        let mem = decision.memory.cells.entry(id.clone()).or_default();
        let pause =
            FIRST_RECREATE_PAUSE.saturating_mul(1 << mem.recreations.min(16)).min(LONGEST_RECREATE_PAUSE);
        if mem.recreated_at.is_some_and(|at| now.since(at) < pause) {
            continue;
        }
        mem.recreations += 1;
        mem.recreated_at = Some(now);
        decision.plan.effects.push(Effect::Recreate { cell: id.clone() });
        decision.explain(id, "recreated", "the cell broke and is made again from its blueprint");
    }
}

/// Thaws, warms or creates a standby for an endangered cell, unless there is room enough already.
fn ready_a_standby(
    scene: &Scene<'_>,
    from: &CellView,
    taken: &mut BTreeSet<CellId>,
    decision: &mut Decision,
) {
    let shift = decision.memory.shifts.get(&from.cell.id);
    let wanted = match shift.map(|s| s.reason) {
        Some(ShiftReason::Operator | ShiftReason::Drill) => {
            scene.world.request(&from.cell.id).map_or(Weight::ZERO, |request| request.weight)
        }
        Some(ShiftReason::Relief) => scene.policy().relief.as_ref().map_or(Weight::ZERO, |r| r.at_most),
        Some(ShiftReason::Predicted | ShiftReason::Failed) | None => Weight::FULL,
    };
    let serving = shift.is_some_and(|s| s.moved >= wanted);
    if serving
        || room_share(scene, &decision.memory, from) >= wanted.share() * scene.home_share(&from.cell.id)
    {
        return;
    }
    let elsewhere = |c: &&CellView| c.cell.zone != from.cell.zone;
    if synthetic(scene).filter(elsewhere).any(|c| c.life.is_coming()) {
        return;
    }
    let tested = decision.memory.pre_tests.values().map(|test| &test.mirror);
    let busy: BTreeSet<&CellId> =
        decision.memory.shifts.values().flat_map(|s| s.mirrors.keys()).chain(tested).collect();
    let resting = synthetic(scene).filter(elsewhere).find(|c| {
        c.life == LifeState::Idle
            && !busy.contains(&c.cell.id)
            && (c.parked || !cell::has_valid_passport(c, scene.policy(), scene.world.now))
    });
    if let Some(resting) = resting {
        let id = resting.cell.id.clone();
        if resting.parked {
            decision.explain(&id, "thawed", format!("{} is endangered", from.cell.id));
            decision.plan.effects.push(Effect::Unpark { cell: id });
        } else {
            decision.plan.effects.push(Effect::Rewarm { cell: id });
        }
        return;
    }
    create(scene, Some(from), taken, decision);
}

fn keep_the_minimum(scene: &Scene<'_>, taken: &mut BTreeSet<CellId>, decision: &mut Decision) {
    let planned = decision.plan.effects.iter().filter(|e| match e {
        Effect::Create { cell, .. } => {
            cell.service == scene.service.service.id && cell.role == CellRole::Synthetic
        }
        _ => false,
    });
    let have = synthetic(scene).count() + planned.count();
    for _ in have..scene.policy().standby.min as usize {
        create(scene, None, taken, decision);
    }
}

fn create(scene: &Scene<'_>, from: Option<&CellView>, taken: &mut BTreeSet<CellId>, decision: &mut Decision) {
    let service = &scene.service.service;
    let Some(blueprint) = &service.mirror_blueprint else { return };
    let planned = taken.len().saturating_sub(scene.service.cells.len());
    if synthetic(scene).count() + planned >= scene.policy().standby.max as usize {
        return;
    }
    let Some((region, zone)) = place(scene, from, &decision.plan) else { return };
    let name = (1..).find_map(|n| {
        // The zone's name may be long; the cell's must stay a valid name.
        let id = CellId::new(&format!("{:.24}-{:.24}-s{n}", service.id.as_str(), zone.as_str())).ok()?;
        (!taken.contains(&id)).then_some(id)
    });
    let Some(id) = name else { return };
    taken.insert(id.clone());
    let cell = Cell {
        id: id.clone(),
        service: service.id.clone(),
        region,
        zone,
        role: CellRole::Synthetic,
        home_weight: Weight::ZERO,
        blueprint: Some(blueprint.clone()),
    };
    let why = from.map_or_else(
        || "the policy keeps this many standing by".to_owned(),
        |from| format!("{} is endangered and nothing that stands by can take its traffic", from.cell.id),
    );
    decision.explain(&id, "created", why);
    decision.plan.effects.push(Effect::Create { cell, blueprint: blueprint.clone() });
}

/// The permitted place with the fewest synthetic cells, outside the endangered cell's zone, in its region if possible.
/// Cells that are planned already count, or those of one tick would all come to stand in one zone.
fn place(scene: &Scene<'_>, from: Option<&CellView>, plan: &Plan) -> Option<(RegionId, ZoneId)> {
    let planned_in = |zone: &ZoneId| {
        let is_there = |effect: &&Effect| match effect {
            Effect::Create { cell, .. } => {
                cell.service == scene.service.service.id
                    && cell.role == CellRole::Synthetic
                    && cell.zone == *zone
            }
            _ => false,
        };
        plan.effects.iter().filter(is_there).count()
    };
    scene
        .service
        .service
        .mirror_zones
        .iter()
        .filter(|(_, zone)| from.is_none_or(|f| f.cell.zone != *zone))
        .min_by_key(|(region, zone)| {
            let abroad = from.is_some_and(|f| f.cell.region != *region);
            let standing = synthetic(scene).filter(|c| c.cell.zone == *zone).count();
            (abroad, standing + planned_in(zone))
        })
        .cloned()
}

/// Freezes what idles and removes what has idled for long.
fn rest_the_idle(scene: &Scene<'_>, decision: &mut Decision) {
    let standby = &scene.policy().standby;
    let mut left = synthetic(scene).count();
    let tested: BTreeSet<CellId> = decision.memory.pre_tests.values().map(|t| t.mirror.clone()).collect();
    for cell in synthetic(scene) {
        if cell.life != LifeState::Idle || cell.traffic.in_flight.is_some_and(|n| n > 0) {
            continue;
        }
        let id = &cell.cell.id;
        if tested.contains(id) {
            // Its weight was asked for and is not seen yet.
            continue;
        }
        let unused = cell.used_at.map_or(Duration::ZERO, |at| scene.world.now.since(at));
        if left > standby.min as usize && unused >= standby.retire_after {
            left -= 1;
            decision.explain(id, "retired", format!("not used for {} s", unused.as_secs()));
            decision.plan.effects.push(Effect::Retire { cell: id.clone() });
        } else if standby.freeze_when_idle && !cell.parked {
            decision.plan.effects.push(Effect::Park { cell: id.clone() });
        }
    }
}
