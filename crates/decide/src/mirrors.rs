use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{CellId, CellRole, CellView, Prediction, ServiceView, World};

use crate::{Guards, cell};

/// Why a cell can't stand in for another, as far as that is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unfit {
    /// The data gate is closed.
    Data,
    /// Not warm, frozen, down, or without valid papers.
    NotReady,
    /// In trouble itself.
    AtRisk,
}

/// Cells that could take traffic of `from` now, best first, and why the best of the others could not.
///
/// Those that are `carrying` already are judged less strictly. Best is: another zone (the failure may be the zone's), the same region (near its users and its data), made to
/// stand by rather than busy with traffic of its own; then by name, so that the order never wavers.
pub(crate) fn candidates<'w>(
    world: &'w World,
    service: &'w ServiceView,
    from: &CellView,
    predictions: &BTreeMap<CellId, &Prediction>,
    in_motion: &BTreeSet<CellId>,
    carrying: &BTreeSet<CellId>,
    guards: Guards,
) -> (Vec<&'w CellView>, Option<Unfit>) {
    let policy = &service.service.policy;
    let mut why_not = None;
    let mut fit: Vec<&CellView> = service
        .cells
        .values()
        .filter(|other| other.cell.id != from.cell.id)
        .filter(|other| {
            let id = &other.cell.id;
            let carries = carrying.contains(id);
            let too_risky = if carries { policy.trigger.shift_at } else { policy.trigger.prepare_at };
            let ready =
                if carries { cell::can_go_on(other) } else { cell::is_ready(other, policy, world.now) };
            let unfit = if in_motion.contains(id)
                || predictions.get(id).is_some_and(|p| p.probability >= too_risky)
            {
                Some(Unfit::AtRisk)
            } else if guards.readiness && !ready {
                Some(Unfit::NotReady)
            } else if !other.data.open {
                Some(Unfit::Data)
            } else {
                None
            };
            if let Some(unfit) = unfit {
                // The least of these is nearest to being usable, and so the most useful to name.
                why_not = Some(why_not.map_or(unfit, |known: Unfit| known.min(unfit)));
            }
            unfit.is_none()
        })
        .collect();
    fit.sort_by_key(|other| {
        (
            other.cell.zone == from.cell.zone,
            other.cell.region != from.cell.region,
            match other.cell.role {
                CellRole::Synthetic => 0,
                CellRole::Secondary => 1,
                CellRole::Primary => 2,
            },
            other.cell.id.clone(),
        )
    });
    (fit, why_not)
}

/// Requests per second of the whole service, as far as the data plane saw it.
pub(crate) fn service_rate_per_s(service: &ServiceView) -> Option<f64> {
    let rates: Vec<f64> = service.cells.values().filter_map(|c| c.traffic.rate.map(|r| r.get())).collect();
    if rates.is_empty() { None } else { Some(rates.iter().sum()) }
}

/// The share of the service's traffic that a cell has room for, beside `home_share` of its own: `None` when its
/// capacity or the service's rate is not known.
pub(crate) fn spare_share(service: &ServiceView, mirror: &CellView, home_share: f64) -> Option<f64> {
    let capacity = cell::usable_capacity_per_s(mirror, &service.service.policy)?;
    let rate = service_rate_per_s(service)?;
    if rate <= 0.0 {
        return Some(1.0);
    }
    Some((capacity / rate - home_share).max(0.0))
}
