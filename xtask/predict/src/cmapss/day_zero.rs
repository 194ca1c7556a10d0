//! Without a failure ever seen: how far has an engine moved from what it was when it was new, in the direction in which new engines begin to move?

use super::{
    data::{NEW, Unit},
    features::{last_mean, newest, slope},
};

/// So many first cycles are taken as healthy: no engine fails before its hundredth.
const HEALTHY: usize = 40;

/// Cycles that are averaged at the end.
const NEWEST: usize = 10;

/// Cycles whose slope counts, and how many cycles it is carried on.
const SLOPE: usize = 30;
const AHEAD: f64 = 20.0;

/// Of what an engine was in its own beginning, this share is its own; the rest is noise and what engines have in common.
const OWN: f64 = 0.3;

/// What new engines look like and where they are going, and nothing else.
#[derive(Debug, Clone)]
pub(super) struct DayZero {
    centre: Vec<f64>,
    width: Vec<f64>,
    direction: Vec<f64>,
}

impl DayZero {
    /// From the first cycles of the units only.
    pub(super) fn of(units: &[Unit]) -> Self {
        let healthy: Vec<&[Vec<f64>]> =
            units.iter().map(|unit| &unit.cycles[..unit.cycles.len().min(HEALTHY)]).collect();
        let rows: Vec<&Vec<f64>> = healthy.iter().flat_map(|rows| rows.iter()).collect();
        let n = rows.len() as f64;
        let sensors = rows.first().map_or(0, |row| row.len());
        let centre: Vec<f64> = (0..sensors).map(|s| rows.iter().map(|row| row[s]).sum::<f64>() / n).collect();
        let width: Vec<f64> = (0..sensors)
            .map(|s| (rows.iter().map(|row| (row[s] - centre[s]).powi(2)).sum::<f64>() / n).sqrt().max(1e-9))
            .collect();
        let drift = |s: usize| -> f64 {
            let of_one = |rows: &&[Vec<f64>]| slope(&rows.iter().map(|row| row[s]).collect::<Vec<_>>());
            healthy.iter().map(of_one).sum::<f64>() / healthy.len() as f64 / width[s]
        };
        let direction = (0..sensors).map(drift).collect();
        Self { centre, width, direction }
    }

    /// How far the engine will have moved a little later, in units that only order engines.
    pub(super) fn worn(&self, rows: &[Vec<f64>]) -> f64 {
        let moved = |s: usize| {
            let values: Vec<f64> = rows.iter().map(|row| (row[s] - self.centre[s]) / self.width[s]).collect();
            let begun = last_mean(&values[..values.len().min(NEW)], NEW);
            last_mean(&values, NEWEST) + AHEAD * slope(newest(&values, SLOPE)) - OWN * begun
        };
        self.direction.iter().enumerate().map(|(s, towards)| towards * moved(s)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Engines whose first sensor rises and whose second only trembles, all alike but for where they begin.
    fn engines(cycles: usize) -> Vec<Unit> {
        (0..6)
            .map(|n| {
                let row = |t: usize| {
                    let trembles = f64::from(u8::from((t * 7 + n * 3) % 4 < 2));
                    vec![10.0 + n as f64 + 0.05 * t as f64 + trembles, 5.0 - trembles]
                };
                Unit { cycles: (0..cycles).map(row).collect(), left: 0.0 }
            })
            .collect()
    }

    #[test]
    fn what_happens_later_in_life_is_not_learned() {
        let (short, mut long) = (engines(HEALTHY), engines(HEALTHY));
        long.iter_mut().for_each(|unit| unit.cycles.extend((0..80).map(|t| vec![-1e3 * f64::from(t), 1e6])));
        assert_eq!(DayZero::of(&short).direction, DayZero::of(&long).direction);
        assert_eq!(DayZero::of(&short).width, DayZero::of(&long).width);
    }

    #[test]
    fn an_engine_that_went_further_the_same_way_is_more_worn() {
        let learned = DayZero::of(&engines(60));
        let course = &engines(200)[2].cycles;
        assert!(learned.worn(&course[..180]) > learned.worn(&course[..60]) + 1e-6);
        let back: Vec<Vec<f64>> = (0..180).map(|t| vec![12.0 - 0.05 * f64::from(t), 5.0]).collect();
        assert!(learned.worn(&back) < learned.worn(&course[..60]));
    }
}
