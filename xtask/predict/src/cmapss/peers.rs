//! The usual simple ways, each as good as training engines can make it.

use anyhow::{Context, Result};
use forefend_learn::evaluate::rank;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{
    data::{LONGEST, Unit},
    features::{last_mean, newest, slope},
    looks::{Look, rmse},
    wear::{Plane, Point},
};

/// Cycles that a threshold is put to, averaged.
const AVERAGED: usize = 5;
/// Windows that a straight line may be drawn through.
const WINDOWS: [usize; 6] = [10, 15, 20, 30, 50, 80];

/// Remaining lives that are drawn at random, of so many engines.
pub(super) fn random(count: usize) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    (0..count).map(|_| random.random_range(0.0..LONGEST)).collect()
}

/// The mean remaining life, whatever is seen.
pub(super) fn base_rate(looks: &[Look]) -> f64 {
    let whole: f64 = looks.iter().map(|look| look.weight).sum();
    looks.iter().map(|look| look.weight * look.clipped()).sum::<f64>() / whole
}

/// A sensor that alarms above some value, or below.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threshold {
    sensor: usize,
    sign: f64,
}

impl Threshold {
    /// The one that best tells training engines that fail within `near` cycles from others.
    pub(super) fn best(units: &[Unit], looks: &[Look], near: f64) -> Result<Self> {
        let sensors = units.first().and_then(|unit| unit.cycles.first()).map_or(0, Vec::len);
        let soon: Vec<bool> = looks.iter().map(|look| look.left < near).collect();
        let weights: Vec<f64> = looks.iter().map(|look| look.weight).collect();
        let each = (0..sensors).flat_map(|sensor| [-1.0, 1.0].map(|sign| Self { sensor, sign }));
        each.filter_map(|one| {
            let scores: Vec<f64> =
                looks.iter().map(|look| one.score(&units[look.unit].cycles[..look.seen])).collect();
            Some((rank::auc(&scores, &soon, Some(&weights))?, one))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, one)| one)
        .context("no engine fails soon")
    }

    pub(super) fn score(self, rows: &[Vec<f64>]) -> f64 {
        let values: Vec<f64> = newest_rows(rows).iter().map(|row| row[self.sensor]).collect();
        self.sign * last_mean(&values, AVERAGED)
    }
}

fn newest_rows(rows: &[Vec<f64>]) -> &[Vec<f64>] {
    &rows[rows.len().saturating_sub(AVERAGED)..]
}

/// A straight line through the newest wear, carried on to the mark at which engines fail: `predict_linear`. The mark and
/// the sensors' weights are ours.
#[derive(Debug, Clone)]
pub(super) struct Line {
    plane: Plane,
    window: usize,
}

impl Line {
    /// With the window that errs least on training engines.
    pub(super) fn best(units: &[Unit], looks: &[Look]) -> Self {
        let plane = Plane::of(units);
        let points: Vec<Vec<Point>> = units.iter().map(|unit| plane.points(&unit.cycles)).collect();
        let error = |window: usize| {
            rmse(looks, |i| {
                carried_on(&points[looks[i].unit][..looks[i].seen], plane.mark, window).min(LONGEST)
            })
        };
        let window = WINDOWS.into_iter().min_by(|a, b| error(*a).total_cmp(&error(*b)));
        Self { window: window.unwrap_or(WINDOWS[0]), plane }
    }

    /// Cycles until the line is at the mark; infinite where it never is.
    pub(super) fn left(&self, rows: &[Vec<f64>]) -> f64 {
        carried_on(&self.plane.points(rows), self.plane.mark, self.window)
    }
}

fn carried_on(points: &[Point], mark: f64, window: usize) -> f64 {
    let values: Vec<f64> = points.iter().map(|point| point[0]).collect();
    let last = newest(&values, window);
    let pace = slope(last);
    let now = last_mean(last, window) + pace * (last.len() as f64 - 1.0) / 2.0;
    if now >= mark {
        0.0
    } else if pace > 0.0 {
        (mark - now) / pace
    } else {
        f64::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_arrives_when_it_arrives() {
        let points: Vec<Point> = (0..50).map(|t| [0.5 * f64::from(t), 3.0]).collect();
        // At 24.5 now, half a unit a cycle.
        assert!((carried_on(&points, 30.0, 20) - 11.0).abs() < 1e-9);
        assert_eq!(carried_on(&points, 24.0, 20), 0.0);
        let falling: Vec<Point> = points.iter().map(|point| [-point[0], 0.0]).collect();
        assert_eq!(carried_on(&falling, 30.0, 20), f64::INFINITY);
    }

    /// Engines of which the second sensor falls towards the failure and the first means nothing.
    fn engines() -> Vec<Unit> {
        let row = |left: usize| vec![((left * 13) % 7) as f64, left.min(60) as f64];
        [80, 100, 120].map(|life| Unit { cycles: (0..life).rev().map(row).collect(), left: 0.0 }).to_vec()
    }

    #[test]
    fn the_threshold_is_put_to_the_sensor_that_tells() {
        let units = engines();
        let looks = super::super::looks::looks(&units, &[50, 60, 70, 79]);
        let best = Threshold::best(&units, &looks, 30.0).unwrap();
        assert_eq!((best.sensor, best.sign), (1, -1.0));
        assert!(Threshold::best(&units, &looks, 0.0).is_err());
    }

    #[test]
    fn the_base_rate_is_the_mean_by_weight() {
        let look = |weight: f64, left: f64| Look { unit: 0, seen: 1, weight, left };
        assert!((base_rate(&[look(3.0, 10.0), look(1.0, 300.0)]) - 38.75).abs() < 1e-12);
        assert!(random(50).iter().all(|left| (0.0..LONGEST).contains(left)));
    }
}
