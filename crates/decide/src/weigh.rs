//! From what is wanted of each shift and pre-test to the weights of a service.

use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{CellId, CellView, Effect, EntryKind, ServiceWeights, Weight};

use crate::{
    Memory, cell,
    decide::{Decision, Scene},
    mirrors, pre_test, shift,
    verdict::verdict,
};

/// Works out the target of every shift and every pre-test and, from all of them, the weights of the service.
pub(crate) fn weigh(scene: &Scene<'_>, decision: &mut Decision) {
    let Some(effective) = &scene.service.effective else {
        // Not seen is not zero: without a read-back nothing is concluded and nothing is asked.
        return;
    };
    let mut shares: BTreeMap<CellId, f64> =
        scene.home_cells().map(|c| (c.cell.id.clone(), scene.home_share(&c.cell.id))).collect();
    let ours: Vec<CellId> = decision
        .memory
        .shifts
        .iter()
        .filter(|(_, shift)| shift.service == scene.service.service.id)
        .map(|(id, _)| id.clone())
        .collect();
    shift::reclaim(scene, effective, &mut decision.memory);
    let mut taken = BTreeSet::new();
    for id in ours {
        let home = scene.home_share(&id);
        let Some(cell) = scene.service.cells.get(&id).filter(|_| home > 0.0) else {
            decision.memory.shifts.remove(&id);
            continue;
        };
        let given = shift::advance(scene, effective, cell, &taken, decision);
        taken.extend(given.keys().cloned());
        if ends(scene, &id, decision) {
            continue;
        }
        for (mirror, share) in given {
            *shares.entry(id.clone()).or_default() -= share;
            *shares.entry(mirror).or_default() += share;
        }
    }
    for test in pre_test::advance(scene, &taken, decision) {
        *shares.entry(test.from).or_default() -= test.share;
        *shares.entry(test.mirror).or_default() += test.share;
    }
    restrain(scene, effective, &decision.memory, &mut shares);
    let located = shares
        .into_iter()
        .filter_map(|(id, share)| {
            let cell = &scene.service.cells.get(&id)?.cell;
            // What is left by subtraction of equals is rounding, and must be nothing at all.
            Some(((cell.region.clone(), id), if share < 1e-9 { 0.0 } else { share }))
        })
        .collect();
    if let Some(weights) = ServiceWeights::from_shares(&located)
        && !same_weights(&weights, effective)
    {
        decision.plan.effects.push(Effect::SetWeights { service: scene.service.service.id.clone(), weights });
    }
}

/// Takes back growth that nobody may have: of a home cell that has failed, and beyond its home share of any cell that is in
/// no state to grow: not ready, behind a closed data gate, full. What is taken back stays with the cells that would have given it.
///
/// Each shift alone asks for nothing of the kind. It comes about where weights were applied late, or where a cell that stands in for another is
/// in trouble itself and own and foreign traffic can't be told apart.
fn restrain(
    scene: &Scene<'_>,
    effective: &ServiceWeights,
    memory: &Memory,
    shares: &mut BTreeMap<CellId, f64>,
) {
    if !scene.guards.readiness {
        return;
    }
    let now = scene.world.now;
    let most = |cell: &CellView| {
        let id = &cell.cell.id;
        let (has, home) = (effective.share(id), scene.home_share(id));
        let away = memory.shifts.get(id).is_some_and(|s| s.moved > Weight::ZERO);
        if home > 0.0 && away && scene.has_failed(cell) {
            return has;
        }
        let may_grow = cell.data.open && cell::may_grow(cell, has > 0.0, scene.policy(), now);
        let room = if may_grow {
            mirrors::spare_share(scene.service, cell, 0.0).unwrap_or(f64::INFINITY)
        } else {
            0.0
        };
        room.max(has).max(home)
    };
    let mut taken_back = 0.0;
    for cell in scene.service.cells.values() {
        if let Some(share) = shares.get_mut(&cell.cell.id) {
            let excess = (*share - most(cell)).max(0.0);
            *share -= excess;
            taken_back += excess;
        }
    }
    if taken_back < 1e-9 {
        return;
    }
    let losers: Vec<(CellId, f64)> = scene
        .service
        .cells
        .keys()
        .map(|id| (id.clone(), effective.share(id) - shares.get(id).copied().unwrap_or(0.0)))
        .filter(|(_, loss)| *loss > 0.0)
        .collect();
    let lost: f64 = losers.iter().map(|(_, loss)| loss).sum();
    for (id, loss) in losers {
        *shares.entry(id).or_default() += taken_back * loss / lost;
    }
}

/// Whether two weights send every request to the same place: a cell that is missing has zero.
fn same_weights(a: &ServiceWeights, b: &ServiceWeights) -> bool {
    let nonzero = |w: &ServiceWeights| {
        w.shares()
            .into_iter()
            .filter(|(_, share)| *share > 0.0)
            .map(|((_, cell), s)| (cell, s))
            .collect::<BTreeMap<_, _>>()
    };
    nonzero(a) == nonzero(b)
}

/// Ends a shift whose traffic is all home, and judges it.
fn ends(scene: &Scene<'_>, id: &CellId, decision: &mut Decision) -> bool {
    let Some(shift) = decision.memory.shifts.get(id) else { return true };
    if shift.outbound || shift.moved > Weight::ZERO || shift.target > Weight::ZERO {
        return false;
    }
    let verdict = verdict(shift);
    let (most_moved, seq) = (shift.most_moved, shift.began_seq);
    decision.memory.shifts.remove(id);
    let service = &scene.service.service.id;
    if most_moved > Weight::ZERO {
        decision.events.push((service.clone(), EntryKind::Returned { cell: id.clone() }));
        decision.explain(id, "returned", "all of its traffic is home");
    }
    if let Some(shift) = seq {
        decision.events.push((service.clone(), EntryKind::Judged { shift, cell: id.clone(), verdict }));
    }
    if let Some(mem) = decision.memory.cells.get_mut(id) {
        mem.hits = 0;
        if verdict == forefend_domain::Verdict::FalseAlarm {
            mem.refractory_until = Some(scene.world.now + scene.policy().budgets.refractory);
        }
    }
    true
}
