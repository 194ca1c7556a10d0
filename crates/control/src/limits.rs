//! Learning the limits that nobody declared, from the cells as seen.

use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{CellId, CellView, ObjectiveState, ServiceId, Windows};
use forefend_predict::{LearnedLimits, NewLimit};

/// Remembers from whose failure it has learned already.
#[derive(Debug, Default)]
pub(crate) struct LimitKeeper {
    failed: BTreeSet<CellId>,
}

impl LimitKeeper {
    /// Learns from a cell that is well or has just failed, gives its windows the limits learned so far, and tells in words which are
    /// new.
    pub(crate) fn learn(
        &mut self,
        view: &CellView,
        windows: &mut Windows,
        learned: &mut BTreeMap<ServiceId, LearnedLimits>,
    ) -> Vec<String> {
        let limits = learned.entry(view.cell.service.clone()).or_default();
        let cell = &view.cell.id;
        let mut new = Vec::new();
        match view.objective {
            ObjectiveState::Met { .. } => {
                self.failed.remove(cell);
                limits.well(windows);
            }
            ObjectiveState::Failed { .. } if self.failed.insert(cell.clone()) => {
                new = limits.failed(windows);
            }
            _ => {}
        }
        limits.apply(windows);
        new.iter().map(words).collect()
    }
}

fn words(NewLimit { metric, limit, failed_at }: &NewLimit) -> String {
    let levels: Vec<String> = failed_at.iter().map(f64::to_string).collect();
    format!(
        "learned that {metric} must not reach {limit}: cells failed when it stood at {}",
        levels.join(" and ")
    )
}
