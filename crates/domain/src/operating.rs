use serde::{Deserialize, Serialize};

use crate::{Probability, TriggerPolicy};

/// What acting from a probability on would have cost and brought, on failures that the model had not learned from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// Acting at this probability or above.
    pub threshold: Probability,
    /// Alarms that no failure followed, for each cell and week.
    pub false_alarms_per_cell_week: f64,
    /// The share of failures told with enough lead, 0 to 1; `None`: there was none.
    pub recall: Option<f64>,
}

/// All points, the highest threshold first: from point to point it tells more, and more for nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperatingCurve(pub Vec<OperatingPoint>);

impl OperatingCurve {
    /// The lowest threshold down to which no point has more false alarms than these. `None`: even the highest has, or there is no point.
    #[must_use]
    pub fn threshold_for(&self, false_alarms_per_cell_week: f64) -> Option<Probability> {
        let fits = |p: &&OperatingPoint| p.false_alarms_per_cell_week <= false_alarms_per_cell_week;
        self.0.iter().take_while(fits).last().map(|point| point.threshold)
    }

    /// The trigger that gives no more false alarms than these: traffic moves at the threshold that the curve has for them, and what comes
    /// before or after moves down with it where it would stand above. One tick suffices, as one look did when alarms were counted; and a cell that holds more than any
    /// that stayed well is an alarm of its own, as it was there. Where the curve has none, the trigger stays as it is.
    #[must_use]
    pub fn trigger(&self, as_written: &TriggerPolicy, false_alarms_per_cell_week: f64) -> TriggerPolicy {
        let Some(shift_at) = self.threshold_for(false_alarms_per_cell_week) else {
            return as_written.clone();
        };
        // In proportion, so that getting ready still comes before, and being well again is still well below.
        let scale =
            if as_written.shift_at.get() > 0.0 { shift_at.get() / as_written.shift_at.get() } else { 1.0 };
        let scaled = |p: Probability| Probability::clamped((p.get() * scale).min(shift_at.get()), shift_at);
        TriggerPolicy {
            prepare_at: scaled(as_written.prepare_at),
            shift_at,
            clear_below: scaled(as_written.clear_below),
            hits: 1,
            of_ticks: 1,
            exceeding_at: Some(as_written.shift_at),
            ..as_written.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    fn p(p: f64) -> Probability {
        Probability::new(p).unwrap()
    }

    fn curve(points: &[(f64, f64)]) -> OperatingCurve {
        let point = |(threshold, alarms): &(f64, f64)| OperatingPoint {
            threshold: p(*threshold),
            false_alarms_per_cell_week: *alarms,
            recall: None,
        };
        OperatingCurve(points.iter().map(point).collect())
    }

    #[test]
    fn the_threshold_is_the_lowest_above_which_all_is_tolerated() {
        let curve = curve(&[(0.9, 0.0), (0.5, 0.2), (0.3, 2.0), (0.1, 1.0)]);
        let at = |alarms| curve.threshold_for(alarms).map(Probability::get);
        assert_eq!([at(0.0), at(0.2), at(1.0), at(2.0)], [Some(0.9), Some(0.5), Some(0.5), Some(0.1)]);
        assert_eq!(OperatingCurve::default().threshold_for(1.0), None);
        assert_eq!(super::tests::curve(&[(0.9, 0.5)]).threshold_for(0.1), None);
    }

    #[test]
    fn the_order_of_thresholds_is_kept() {
        let written = Policy::default().trigger;
        for (threshold, alarms) in [(0.01, 0.1), (0.3, 0.1), (0.99, 0.1)] {
            let trigger = curve(&[(threshold, alarms)]).trigger(&written, 0.1);
            assert_eq!(trigger.shift_at, p(threshold));
            assert!(trigger.prepare_at <= trigger.shift_at && trigger.clear_below <= trigger.shift_at);
            assert_eq!((trigger.hits, trigger.of_ticks, trigger.margin), (1, 1, written.margin));
            assert!(trigger.exceeding_at == Some(written.shift_at));
        }
        assert_eq!(curve(&[(0.2, 5.0)]).trigger(&written, 0.1), written);
    }
}
