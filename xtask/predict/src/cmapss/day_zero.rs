//! Without a failure ever seen: how far has an engine moved from what it was when it was new?

use super::{
    data::{NEW, Scale, Unit},
    features::last_mean,
};

/// Cycles that are averaged at the end.
const NEWEST: usize = 20;

/// What new engines look like, and nothing else.
pub(super) struct DayZero {
    scale: Scale,
}

impl DayZero {
    /// From the first cycles of the units only.
    pub(super) fn of(units: &[Unit]) -> Self {
        Self { scale: Scale::of(units) }
    }

    /// The squared distance of the newest cycles from the engine's own first, in deviations of new engines, over all sensors.
    pub(super) fn worn(&self, unit: &Unit) -> f64 {
        let rows = self.scale.apply(unit);
        let sensors = rows.first().map_or(0, Vec::len);
        (0..sensors)
            .map(|s| {
                let values: Vec<f64> = rows.iter().map(|row| row[s]).collect();
                let new = &values[..values.len().min(NEW)];
                let begun = new.iter().sum::<f64>() / new.len() as f64;
                // Of its own beginning little is known: half of it is what engines have in common, which is 0 here.
                (last_mean(&values, NEWEST) - 0.5 * begun).powi(2)
            })
            .sum()
    }
}
