use std::collections::BTreeMap;

use forefend_domain::{CellId, CellRole, CellView, LifeState, ServiceView, World};
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::experiment::{Experiment, Outage, TargetConfig, Whole};

/// The cells that a run is done to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// Which, by name.
    pub cells: Vec<CellId>,
    /// The share of the service's traffic that is at home there, from 0 to 1.
    pub share: f64,
}

/// Chooses the targets of an experiment, or the cells of an outage: the same seed chooses the same cells of the same world.
///
/// # Errors
/// Why nothing may be chosen: no cell fits, or the blast radius would be exceeded. It is never made to fit by taking
/// fewer: a smaller experiment is another one.
pub fn choose(experiment: &Experiment, world: &World, seed: u64) -> Result<Targets, Vec<Refusal>> {
    let service = experiment.service();
    let Some(view) = world.services.get(service) else {
        return Err(vec![Refusal::NoSuchService { service: service.clone() }]);
    };
    let (cells, max_cells, max_share) = match (&experiment.outage, &experiment.target) {
        (Some(outage), _) => (of_outage(outage, view), None, outage.max_share),
        (None, Some(target)) => {
            let blast = &target.blast_radius;
            (of_target(target, view, seed)?, Some(blast.max_cells as usize), blast.max_share)
        }
        (None, None) => (Vec::new(), None, forefend_config::Share::percent(0.0)),
    };
    if cells.is_empty() {
        return Err(vec![Refusal::NoTarget { service: service.clone() }]);
    }
    let share: f64 = cells.iter().map(|cell| view.home.share(cell)).sum();
    let mut refusals = Vec::new();
    if let Some(allowed) = max_cells.filter(|max| cells.len() > *max) {
        refusals.push(Refusal::TooManyCells { cells: cells.len(), allowed });
    }
    // Shares come from whole basis points; a hair of binary rounding is not an excess.
    if share > max_share.get() + 1e-9 {
        refusals.push(Refusal::TooMuchTraffic { share, allowed: max_share.get() });
    }
    if refusals.is_empty() { Ok(Targets { cells, share }) } else { Err(refusals) }
}

fn of_outage(outage: &Outage, view: &ServiceView) -> Vec<CellId> {
    let at_home = view.cells.values().filter(|c| c.cell.region == outage.region);
    at_home.map(|c| c.cell.id.clone()).filter(|cell| view.home.share(cell) > 0.0).collect()
}

fn of_target(target: &TargetConfig, view: &ServiceView, seed: u64) -> Result<Vec<CellId>, Vec<Refusal>> {
    let unknown = target.cells.iter().filter(|cell| !view.cells.contains_key(*cell));
    let unknown: Vec<Refusal> = unknown.map(|cell| Refusal::NoSuchCell { cell: cell.clone() }).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let fitting: Vec<&CellView> = view.cells.values().filter(|cell| fits(target, cell)).collect();
    let mut random = SplitMix(seed);
    let mut chosen: Vec<CellId> = if let Some(whole) = target.whole {
        let mut groups: BTreeMap<String, Vec<CellId>> = BTreeMap::new();
        for cell in fitting {
            let group = match whole {
                Whole::Zone => format!("{}/{}", cell.cell.region, cell.cell.zone),
                Whole::Region => cell.cell.region.to_string(),
            };
            groups.entry(group).or_default().push(cell.cell.id.clone());
        }
        let at = random.below(groups.len());
        groups.into_values().nth(at).unwrap_or_default()
    } else {
        let wanted = match (target.count, target.percent) {
            (Some(count), _) => count as usize,
            (None, Some(percent)) => (percent.get() * fitting.len() as f64 - 1e-9).ceil() as usize,
            (None, None) => 1,
        };
        if wanted > fitting.len() {
            return Err(vec![Refusal::TooFewCells { wanted, found: fitting.len() }]);
        }
        let mut cells: Vec<CellId> = fitting.iter().map(|c| c.cell.id.clone()).collect();
        // Fisher and Yates, as far as needed.
        for i in 0..wanted {
            let j = i + random.below(cells.len() - i);
            cells.swap(i, j);
        }
        cells.truncate(wanted);
        cells
    };
    chosen.sort();
    Ok(chosen)
}

fn fits(target: &TargetConfig, cell: &CellView) -> bool {
    fn any<T: PartialEq>(named: &[T], one: &T) -> bool {
        named.is_empty() || named.contains(one)
    }
    let roles: Vec<CellRole> = match (target.roles.as_slice(), target.whole) {
        // Who names cells means those.
        ([], None) if target.cells.is_empty() => vec![CellRole::Primary],
        (roles, _) => roles.iter().map(|role| CellRole::from(*role)).collect(),
    };
    let runs = !matches!(
        cell.life,
        LifeState::Planned | LifeState::Creating | LifeState::Retired | LifeState::Failed
    );
    runs && any(&target.regions, &cell.cell.region)
        && any(&target.zones, &cell.cell.zone)
        && any(&target.cells, &cell.cell.id)
        && any(&roles, &cell.cell.role)
}

/// Steele, Lea & Flood 2014, Fast splittable pseudorandom number generators, <https://doi.org/10.1145/2714064.2660195>: small,
/// and the same for ever, so that an old run's seed still names its cells.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n` − 1; 0 when `n` is 0. The bias of a remainder is far below what thousands of cells would show.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % (n.max(1) as u64)) as usize
    }
}
