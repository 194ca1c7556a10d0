//! At which instants of a training engine's life something is asked of it: as long after its beginning as test engines are seen.
//!
//! How long a test engine was seen is known without knowing when it fails, and its life is one of those that engines have. So looks (a training
//! engine, and the length of a test engine below its life) get weights such that every length counts once and
//! all engines count alike. Of the many such weights these are the most even: the product of a factor of the engine and one of the
//! length, found by fitting one after the other (Deming & Stephan 1940, <https://doi.org/10.1214/aoms/1177731829>).

use std::collections::BTreeMap;

use super::data::{LONGEST, Unit};

/// Rounds of fitting; after a hundred nothing moves.
const ROUNDS: usize = 300;

/// A training engine at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    /// Which engine.
    pub(super) unit: usize,
    /// Cycles that are seen.
    pub(super) seen: usize,
    /// How much it counts.
    pub(super) weight: f64,
    /// Cycles left.
    pub(super) left: f64,
}

impl Look {
    /// Remaining life, clipped.
    pub(super) fn clipped(&self) -> f64 {
        self.left.min(LONGEST)
    }
}

/// The factors of engines that live so long, and of lengths.
struct Factors {
    engines: Vec<f64>,
    lengths: BTreeMap<usize, f64>,
}

impl Factors {
    fn of(lives: &[usize], lengths: &[usize]) -> Self {
        let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
        let outlived = |length: &&usize| lives.iter().any(|life| life > *length);
        lengths.iter().filter(outlived).for_each(|length| *counts.entry(*length).or_default() += 1.0);
        let each = counts.values().sum::<f64>() / lives.len() as f64;
        let mut factors = Self { engines: vec![1.0; lives.len()], lengths: counts.clone() };
        for _ in 0..ROUNDS {
            for (length, factor) in &mut factors.lengths {
                let engines = lives.iter().zip(&factors.engines).filter(|(life, _)| *life > length);
                *factor = counts[length] / engines.map(|(_, engine)| engine).sum::<f64>();
            }
            for (life, factor) in lives.iter().zip(&mut factors.engines) {
                let lengths = factors.lengths.range(..life).map(|(_, length)| length);
                let sum: f64 = lengths.sum();
                *factor = if sum > 0.0 { each / sum } else { 0.0 };
            }
        }
        factors
    }
}

fn lives(units: &[Unit]) -> Vec<usize> {
    units.iter().map(|unit| unit.cycles.len()).collect()
}

/// How much each engine speaks for the life of one of which no more is known than that it still runs, after one of these
/// lengths. An engine that lives long is still there at more of them, and so speaks less at each.
pub(super) fn voices(units: &[Unit], lengths: &[usize]) -> Vec<f64> {
    Factors::of(&lives(units), lengths).engines
}

/// All looks at these engines, if test engines were seen for so many cycles each.
pub(super) fn looks(units: &[Unit], lengths: &[usize]) -> Vec<Look> {
    let factors = Factors::of(&lives(units), lengths);
    let mut looks = Vec::new();
    for (seen, length) in &factors.lengths {
        for (n, (unit, engine)) in units.iter().zip(&factors.engines).enumerate() {
            if unit.cycles.len() > *seen {
                let left = (unit.cycles.len() - seen) as f64 + unit.left;
                looks.push(Look { unit: n, seen: *seen, weight: engine * length, left });
            }
        }
    }
    looks
}

/// The root of the mean square of errors, by weight.
pub(super) fn rmse(looks: &[Look], said: impl Fn(usize) -> f64) -> f64 {
    let squares = looks.iter().enumerate().map(|(i, look)| look.weight * (said(i) - look.clipped()).powi(2));
    (squares.sum::<f64>() / looks.iter().map(|look| look.weight).sum::<f64>()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines() -> Vec<Unit> {
        [30, 50, 200].map(|life| Unit { cycles: vec![vec![0.0]; life], left: 0.0 }).to_vec()
    }

    #[test]
    fn every_length_and_every_engine_has_its_due() {
        let found = looks(&engines(), &[20, 20, 40, 60, 49, 28]);
        let sum = |of: &dyn Fn(&Look) -> bool| found.iter().filter(|l| of(l)).map(|l| l.weight).sum::<f64>();
        for (seen, count) in [(20, 2.0), (28, 1.0), (40, 1.0), (49, 1.0), (60, 1.0)] {
            assert!((sum(&|look| look.seen == seen) - count).abs() < 1e-9, "{seen}");
        }
        for unit in 0..3 {
            assert!((sum(&|look| look.unit == unit) - 2.0).abs() < 1e-6, "{unit}");
        }
        let late: Vec<(usize, f64)> =
            found.iter().filter(|look| look.seen == 49).map(|look| (look.unit, look.left)).collect();
        assert_eq!(late, [(1, 1.0), (2, 151.0)]);
        assert!(found.iter().all(|look| look.clipped() <= 125.0));
    }

    #[test]
    fn who_lives_long_speaks_less_at_each_length() {
        let voices = voices(&engines(), &[20, 20, 40, 60, 49, 28]);
        assert!(voices[0] > voices[1] && voices[1] > voices[2], "{voices:?}");
    }

    #[test]
    fn a_length_that_no_engine_outlives_is_left_out() {
        assert_eq!(looks(&engines(), &[200, 300]), []);
    }

    #[test]
    fn errors_count_by_weight() {
        let look = |weight: f64| Look { unit: 0, seen: 1, weight, left: 10.0 };
        let looks = [look(3.0), look(1.0)];
        assert!((rmse(&looks, |i| if i == 0 { 10.0 } else { 14.0 }) - 2.0).abs() < 1e-12);
    }
}
