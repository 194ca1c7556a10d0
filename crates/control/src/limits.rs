//! Learning the limits that nobody declared, from the cells as seen.

use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{CellId, ObjectiveState, ServiceId, ServiceView, Windows};
use forefend_predict::{LearnedLimits, NewLimit};

/// Remembers from whose failure it has learned already.
#[derive(Debug, Default)]
pub(crate) struct LimitKeeper {
    failed: BTreeSet<CellId>,
}

impl LimitKeeper {
    /// Learns from cells that are well and from those that have just failed, gives the windows the learned limits, and
    /// tells which are new.
    pub(crate) fn learn(
        &mut self,
        services: &BTreeMap<ServiceId, ServiceView>,
        windows: &mut BTreeMap<CellId, Windows>,
        learned: &mut BTreeMap<ServiceId, LearnedLimits>,
    ) -> Vec<(ServiceId, String)> {
        let mut told = Vec::new();
        for (id, service) in services {
            for (cell, view) in &service.cells {
                let Some(seen) = windows.get_mut(cell) else { continue };
                let limits = learned.entry(id.clone()).or_default();
                let mut new = Vec::new();
                match view.objective {
                    ObjectiveState::Met { .. } => {
                        self.failed.remove(cell);
                        limits.well(seen);
                    }
                    ObjectiveState::Failed { .. } if self.failed.insert(cell.clone()) => {
                        new = limits.failed(seen);
                    }
                    _ => {}
                }
                limits.apply(seen);
                told.extend(new.into_iter().map(|limit| (id.clone(), words(&limit))));
            }
        }
        told
    }
}

fn words(NewLimit { metric, limit, failed_at }: &NewLimit) -> String {
    let levels: Vec<String> = failed_at.iter().map(f64::to_string).collect();
    format!(
        "learned that {metric} must not reach {limit}: cells failed when it stood at {}",
        levels.join(" and ")
    )
}
