//! What the workers route by: an immutable table for each service, made anew for each configuration.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use forefend_domain::{RegionId, ServiceWeights, Weight, ports::ServiceRouting};
use serde::{Deserialize, Serialize};

use crate::{
    cell::Cell,
    slots::{SLOTS, SlotError, SlotRuns, SlotTable, scale, slot_of},
    wire::ServiceSettings,
};

const REGION_SALT: u64 = 1;
const CELL_SALT: u64 = 2;
/// How often a user whose cell is out is hashed anew before any cell will do: keeps shares among the rest.
const REHASHES: u64 = 12;
const NO_CELL: u16 = u16::MAX;

/// The slot tables of one service, which outlive a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    regions: Option<SlotTable>,
    cells: BTreeMap<RegionId, SlotTable>,
}

/// A placement in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredPlacement {
    regions: Option<SlotRuns>,
    cells: BTreeMap<RegionId, SlotRuns>,
}

impl Placement {
    /// The placement for new weights that moves the fewest users.
    pub(crate) fn follow(&self, weights: &ServiceWeights) -> Result<Self, SlotError> {
        let next = |old: Option<&SlotTable>, quotas: &BTreeMap<String, u32>| match old {
            Some(table) => table.rebalanced(quotas),
            None => SlotTable::new(quotas),
        };
        let outer = weights.regions().iter().map(|(region, w)| (region.to_string(), w.bp())).collect();
        let mut cells = BTreeMap::new();
        for (region, inner) in weights.cells() {
            let quotas = inner.iter().map(|(cell, w)| (cell.to_string(), w.bp())).collect();
            cells.insert(region.clone(), next(self.cells.get(region), &quotas)?);
        }
        Ok(Self { regions: Some(next(self.regions.as_ref(), &outer)?), cells })
    }

    pub(crate) fn store(&self) -> StoredPlacement {
        StoredPlacement {
            regions: self.regions.as_ref().map(SlotTable::to_runs),
            cells: self.cells.iter().map(|(region, table)| (region.clone(), table.to_runs())).collect(),
        }
    }

    pub(crate) fn restore(stored: &StoredPlacement) -> Result<Self, SlotError> {
        let cells = stored
            .cells
            .iter()
            .map(|(region, runs)| Ok((region.clone(), SlotTable::from_runs(runs)?)))
            .collect::<Result<_, SlotError>>()?;
        Ok(Self { regions: stored.regions.as_ref().map(SlotTable::from_runs).transpose()?, cells })
    }
}

/// A cell in a table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) cell: Arc<Cell>,
    /// Whether it and its region have weight.
    pub(crate) weighted: bool,
}

/// What a request is placed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A user's key, hashed.
    User(u64),
    /// Nobody's: evenly spread bits for each level.
    Anyone(u64, u64),
}

/// Routing of one service.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) settings: Arc<ServiceSettings>,
    pub(crate) weights: ServiceWeights,
    pub(crate) placement: Placement,
    pub(crate) cells: Vec<Entry>,
    /// By slot: the region's number.
    region_of: Box<[u16]>,
    /// By region's number and slot: the cell's number.
    cell_of: Vec<Box<[u16]>>,
    /// Numbers of the cells with weight.
    weighted: Vec<u16>,
}

impl Table {
    /// A table of a service without routing: it has no cell to send to.
    pub(crate) fn empty(settings: Arc<ServiceSettings>, placement: Placement) -> Self {
        Self {
            settings,
            weights: ServiceWeights::default(),
            placement,
            cells: Vec::new(),
            region_of: Box::default(),
            cell_of: Vec::new(),
            weighted: Vec::new(),
        }
    }

    /// Makes the table. `cell` gives the shared state of a cell, the old one if it is still at the same address.
    pub(crate) fn new(
        settings: Arc<ServiceSettings>,
        routing: &ServiceRouting,
        old: &Placement,
        mut cell: impl FnMut(&forefend_domain::ports::Route) -> Arc<Cell>,
    ) -> Result<Self, SlotError> {
        let placement = old.follow(&routing.weights)?;
        let mut cells = Vec::with_capacity(routing.cells.len());
        let mut number: HashMap<&str, u16> = HashMap::with_capacity(routing.cells.len());
        for route in &routing.cells {
            let inner = routing.weights.cells().get(&route.region).and_then(|cells| cells.get(&route.cell));
            let weighted = routing.weights.region(&route.region) > Weight::ZERO
                && inner.is_some_and(|weight| *weight > Weight::ZERO);
            number.insert(route.cell.as_str(), cells.len() as u16);
            cells.push(Entry { cell: cell(route), weighted });
        }
        let mut region_of = vec![0u16; SLOTS].into_boxed_slice();
        let mut cell_of = Vec::new();
        if let Some(outer) = &placement.regions {
            for (slot, region) in region_of.iter_mut().enumerate() {
                *region = outer.owner(slot);
            }
            for region in outer.names() {
                let inner =
                    placement.cells.iter().find(|(id, _)| id.as_str() == region).map(|(_, table)| table);
                let numbers: Vec<u16> = inner.map_or_else(Vec::new, |table| {
                    let by_owner: Vec<u16> = table
                        .names()
                        .iter()
                        .map(|name| number.get(name.as_str()).copied().unwrap_or(NO_CELL))
                        .collect();
                    (0..SLOTS).map(|slot| by_owner[usize::from(table.owner(slot))]).collect()
                });
                cell_of.push(numbers.into_boxed_slice());
            }
        }
        let weighted = (0..cells.len()).filter(|i| cells[*i].weighted).map(|i| i as u16).collect();
        Ok(Self {
            settings,
            weights: routing.weights.clone(),
            placement,
            cells,
            region_of,
            cell_of,
            weighted,
        })
    }

    /// The cell for a request: the one its key belongs to if `usable`, else another usable one with weight, first
    /// of the same region and in proportion to the weights. `None` when no cell with weight is usable.
    pub(crate) fn choose(&self, key: Key, mut usable: impl FnMut(u16) -> bool) -> Option<u16> {
        if self.weighted.is_empty() {
            return None;
        }
        let (region, cell) = self.place(key, 0);
        if let Some(cell) = cell.filter(|cell| usable(*cell)) {
            return Some(cell);
        }
        let seed = match key {
            Key::User(hash) => hash,
            Key::Anyone(a, b) => a ^ b.rotate_left(32),
        };
        let within = self.cell_of.get(usize::from(region));
        let near = (1..=REHASHES).filter_map(|n| within?.get(slot_of(seed, CELL_SALT + 2 * n)).copied());
        let far = (1..=REHASHES).filter_map(|n| self.place(Key::User(seed), n).1);
        near.chain(far).find(|cell| *cell != NO_CELL && usable(*cell)).or_else(|| {
            // Few are left; start at a place of the user's own, so that they don't all end at the same cell.
            let start = slot_of(seed, CELL_SALT) % self.weighted.len();
            let turn = self.weighted[start..].iter().chain(&self.weighted[..start]);
            turn.copied().find(|cell| usable(*cell))
        })
    }

    /// Region and cell that a key belongs to; another draw for each `again`.
    fn place(&self, key: Key, again: u64) -> (u16, Option<u16>) {
        let (outer, inner) = match key {
            Key::User(hash) => (slot_of(hash, REGION_SALT + 2 * again), slot_of(hash, CELL_SALT + 2 * again)),
            Key::Anyone(outer, inner) => (scale(outer), scale(inner)),
        };
        let region = self.region_of.get(outer).copied().unwrap_or(0);
        let cell = self.cell_of.get(usize::from(region)).and_then(|cells| cells.get(inner)).copied();
        (region, cell.filter(|cell| *cell != NO_CELL))
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::{CellId, ports::Route};

    use super::*;
    use crate::{slots::hash_key, stats::CellStats};

    fn routing(shares: &[(&str, &str, f64)]) -> ServiceRouting {
        let ids = |r: &str, c: &str| (RegionId::new(r).unwrap(), CellId::new(c).unwrap());
        let weights =
            ServiceWeights::from_shares(&shares.iter().map(|(r, c, s)| (ids(r, c), *s)).collect()).unwrap();
        let cells = shares
            .iter()
            .map(|(r, c, _)| Route {
                cell: ids(r, c).1,
                region: ids(r, c).0,
                address: "127.0.0.1:1".parse().unwrap(),
            })
            .collect();
        ServiceRouting { cells, weights }
    }

    fn table(shares: &[(&str, &str, f64)], old: &Placement) -> Table {
        let settings = Arc::new(ServiceSettings::default());
        Table::new(settings, &routing(shares), old, |route| {
            Arc::new(Cell::new(route.cell.clone(), route.address, Arc::new(CellStats::new(1))))
        })
        .unwrap()
    }

    fn user(n: u32) -> Key {
        Key::User(hash_key(format!("user-{n}").as_bytes()))
    }

    const USERS: u32 = 20_000;

    fn cells_of(table: &Table) -> Vec<u16> {
        (0..USERS).map(|n| table.choose(user(n), |_| true).unwrap()).collect()
    }

    #[test]
    fn moving_weight_moves_that_share_of_users_and_back() {
        let start = table(&[("n", "a", 0.5), ("n", "m", 0.0), ("s", "b", 0.5)], &Placement::default());
        let before = cells_of(&start);
        let shifted = table(&[("n", "a", 0.4), ("n", "m", 0.1), ("s", "b", 0.5)], &start.placement);
        let during = cells_of(&shifted);
        let moved = before.iter().zip(&during).filter(|(a, b)| a != b).count();
        let share = moved as f64 / f64::from(USERS);
        assert!((share - 0.1).abs() < 0.01, "{share}");
        assert!(before.iter().zip(&during).all(|(a, b)| a == b || *b == 1), "somebody moved elsewhere");
        let stored = Placement::restore(&shifted.placement.store()).unwrap();
        let back = table(&[("n", "a", 0.5), ("n", "m", 0.0), ("s", "b", 0.5)], &stored);
        assert_eq!(cells_of(&back), before);
    }

    #[test]
    fn a_cell_that_is_out_hands_its_users_to_others_with_weight_only() {
        let table = table(
            &[("n", "a", 0.3), ("n", "c", 0.3), ("n", "m", 0.0), ("s", "b", 0.4)],
            &Placement::default(),
        );
        let before = cells_of(&table);
        for n in 0..USERS {
            let cell = table.choose(user(n), |cell| cell != 0).unwrap();
            assert!(cell == 1 || cell == 3);
            let home = before[n as usize];
            assert!(home == 0 || cell == home, "user {n} was moved although their cell is well");
        }
        assert_eq!(table.choose(user(1), |cell| cell == 2), None, "a cell without weight was used");
        assert!((0..USERS).all(|n| table.choose(user(n), |cell| cell == 3) == Some(3)));
    }
}
