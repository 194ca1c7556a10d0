//! What each mirror of a shift may carry, and who is given what.

use std::{cmp::Reverse, collections::BTreeMap};

use forefend_domain::{CellId, CellView, ServiceWeights, ShiftReason, Weight};

use crate::{ShiftMemory, cell, decide::Scene, earned_share, memory::ROUNDING, mirrors};

/// At most this many mirrors share one cell's traffic: each must earn its part by evidence of its own.
const MOST_MIRRORS: usize = 3;

/// What one mirror may carry for this shift.
pub(crate) struct Allowed {
    pub(crate) mirror: CellId,
    /// Share of the service.
    pub(crate) share: f64,
    /// Which bound that is.
    pub(crate) by: &'static str,
}

/// What each mirror may carry, best first; more than one only where the capacity of the first is not enough.
pub(crate) fn allowed_shares(
    scene: &Scene<'_>,
    fit: &[&CellView],
    shift: &ShiftMemory,
    effective: &ServiceWeights,
    home: f64,
    desire: Weight,
) -> Vec<Allowed> {
    let policy = scene.policy();
    let failed = shift.reason == ShiftReason::Failed;
    let wanted = desire.share() * home;
    // Mirrors that already carry come first, so that a better one turning up doesn't move users a second time.
    let mut order: Vec<&&CellView> = fit.iter().collect();
    // Of two that do, who has shown more: it may be given more, and the other can catch up.
    order.sort_by_key(|m| {
        let id = &m.cell.id;
        let carries = effective.share(id) > scene.home_share(id) + ROUNDING;
        (Reverse(carries), Reverse(shift.mirrors.get(id).map(|seen| seen.requests)))
    });
    // While no rates are seen nobody knows whether another mirror is needed, and so none joins.
    let no_rates = mirrors::service_rate_per_s(scene.service).is_none();
    let mut allowed: Vec<Allowed> = Vec::new();
    let mut room = 0.0;
    for mirror in order.into_iter().take(MOST_MIRRORS) {
        if room >= wanted {
            break;
        }
        let id = &mirror.cell.id;
        let has = (effective.share(id) - scene.home_share(id)).max(0.0);
        if no_rates && !failed && has == 0.0 && !allowed.is_empty() {
            continue;
        }
        let first = policy.canary.first.share() * home;
        let capacity = match mirrors::spare_share(scene.service, mirror, scene.home_share(id)) {
            Some(spare) => spare,
            // Nobody knows what it can carry. For a cell that has failed anything is better than errors.
            None if failed => 1.0,
            // Nor is that a reason to take back what it carries: an engine that has just started knows no rates yet.
            None => first.max(has),
        };
        let evidence = shift.mirrors.get(id).copied().unwrap_or_default();
        let earned = if failed || !scene.guards.evidence {
            1.0
        } else {
            earned_share(evidence, policy.canary.tolerated_harm).max(first)
        };
        let (mut share, mut by) =
            if capacity < earned { (capacity, "capacity") } else { (earned, "evidence") };
        let may_grow = shift.outbound && cell::may_grow(mirror, has > 0.0, policy, scene.world.now);
        if scene.guards.readiness && !may_grow && share > has {
            (share, by) = (has, "readiness");
        }
        // One that may not have more leaves the rest to others, whatever it could carry.
        room += if by == "readiness" { share } else { capacity };
        allowed.push(Allowed { mirror: id.clone(), share, by });
    }
    allowed
}

/// A cell that has failed gets nothing back because its mirror falters: what no other mirror has room for stays where it
/// is, for there is nobody better to give it to, and the data plane's own ejection knows who answers.
pub(crate) fn hold_on(scene: &Scene<'_>, holders: &[(&CellId, f64)], allowed: &mut Vec<Allowed>) {
    let away: f64 = holders.iter().map(|(_, has)| has).sum();
    let mut homeless = away - allowed.iter().map(|a| a.share).sum::<f64>();
    for (mirror, has) in holders.iter().filter(|(m, _)| scene.service.cells.contains_key(*m)) {
        if homeless <= 0.0 {
            return;
        }
        let known = allowed.iter_mut().find(|a| a.mirror == **mirror);
        let more = (has - known.as_ref().map_or(0.0, |a| a.share)).clamp(0.0, homeless);
        homeless -= more;
        match known {
            Some(known) => known.share += more,
            None if more > 0.0 => {
                allowed.push(Allowed { mirror: (*mirror).clone(), share: more, by: "readiness" });
            }
            None => {}
        }
    }
}

/// Fills the mirrors in order until `wanted` (a share of the service) is placed.
///
/// There is more than one only where the first can't carry all of it. So the later ones get their `first` cohort as soon as
/// there is enough for everybody's: a mirror that waits until those before it are full never shows what it can do, and the
/// shift would stand still at the last step that the others can carry.
pub(crate) fn share_out(allowed: &[Allowed], wanted: f64, first: f64) -> BTreeMap<CellId, f64> {
    let cohort = |mirror: &Allowed| mirror.share.min(first);
    let mut reserved: f64 = allowed.iter().skip(1).map(cohort).sum();
    if wanted < reserved + allowed.first().map_or(0.0, cohort) {
        reserved = 0.0;
    }
    let mut left = wanted;
    let mut given = BTreeMap::new();
    for (i, mirror) in allowed.iter().enumerate() {
        if i > 0 && reserved > 0.0 {
            reserved = (reserved - cohort(mirror)).max(0.0);
        }
        let share = (left - reserved).min(mirror.share).max(0.0);
        if share > 0.0 {
            given.insert(mirror.mirror.clone(), share);
            left -= share;
        }
    }
    given
}
