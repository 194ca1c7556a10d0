//! From wanted weights to what the data plane is told.

use std::{collections::BTreeMap, net::SocketAddr};

use forefend_domain::{
    Cell, CellId, ServiceId, ServiceWeights, World,
    ports::{CellObservation, DataPlane, DataPlaneReport, Route, Routing, ServiceRouting},
};

use crate::{Topology, observe};

/// What the routing rests on.
pub(crate) struct Seen<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) world: &'a World,
    pub(crate) observations: &'a BTreeMap<CellId, CellObservation>,
    pub(crate) report: &'a DataPlaneReport,
}

/// What the data plane was told.
#[derive(Debug, Default)]
pub(crate) struct Router {
    told: Option<Routing>,
    /// By service, where cells were last seen to listen. A cell that is made again keeps its place in the routing meanwhile, so that
    /// traffic of others, and its own on the way elsewhere, is not held up.
    addresses: BTreeMap<ServiceId, BTreeMap<CellId, (Cell, SocketAddr)>>,
}

impl Router {
    /// Tells the data plane cells and weights, if they differ from what it was told or applies.
    pub(crate) fn tell(
        &mut self,
        seen: &Seen<'_>,
        mut wanted: BTreeMap<ServiceId, ServiceWeights>,
        data_plane: &mut dyn DataPlane,
        degraded: &mut Vec<String>,
    ) {
        let Seen { topology, world, observations, report } = seen;
        let managed = observe::by_service(observations);
        self.addresses.retain(|id, _| topology.services.contains_key(id));
        let mut services = BTreeMap::new();
        for (id, spec) in &topology.services {
            let effective = || world.services.get(id).and_then(|s| s.effective.clone());
            let changes = wanted.contains_key(id);
            let Some(weights) = wanted.remove(id).or_else(effective) else { continue };
            if weights.regions().is_empty() {
                continue;
            }
            let addresses = self.addresses.entry(id.clone()).or_default();
            addresses
                .extend(observe::addresses(spec, managed.get(id).map(Vec::as_slice).unwrap_or_default()));
            let seen = world.services.get(id);
            addresses.retain(|cell, _| seen.is_some_and(|s| s.cells.contains_key(cell)));
            let missing: Vec<String> = weights
                .shares()
                .into_iter()
                .filter(|((_, cell), share)| *share > 0.0 && !addresses.contains_key(cell))
                .map(|((_, cell), _)| cell.to_string())
                .collect();
            if !missing.is_empty() {
                if changes {
                    degraded.push(format!("{id} waits for {} to listen", missing.join(", ")));
                }
                // What the data plane has of it stays as it applies it.
                let last = self.told.as_ref().and_then(|r| r.services.get(id)).cloned();
                if let (Some(last), Some(weights)) = (last, effective()) {
                    services.insert(id.clone(), ServiceRouting { cells: last.cells, weights });
                }
                continue;
            }
            let cells = addresses
                .values()
                .map(|(cell, address)| Route {
                    cell: cell.id.clone(),
                    region: cell.region.clone(),
                    address: *address,
                })
                .collect();
            services.insert(id.clone(), ServiceRouting { cells, weights });
        }
        let told = self.told.as_ref();
        let unchanged = told.is_some_and(|r| r.services == services && r.generation == report.generation);
        if unchanged || services.is_empty() {
            return;
        }
        let generation = told.map_or(0, |r| r.generation).max(report.generation) + 1;
        let routing = Routing { generation, services };
        match data_plane.apply(&routing) {
            Ok(()) => self.told = Some(routing),
            Err(e) => degraded.push(e.to_string()),
        }
    }
}
