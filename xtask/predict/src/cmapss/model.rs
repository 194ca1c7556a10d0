//! All that is learned from engines, and what it says of others.

use anyhow::Result;
use forefend_learn::{Matrix, boost};
use forefend_predict::learned::Trees;

use super::{
    course::Courses,
    data::{LONGEST, Unit},
    day_zero::DayZero,
    features::{COUNT, features},
    looks::{Look, rmse, voices},
    posterior::Posterior,
    wear::Plane,
};

/// Units of the training set are cut into so many folds.
pub(super) const FOLDS: usize = 5;
/// Trees learn from this cycle on; the least that is seen of a test engine is more.
const LEAST_SEEN: usize = 25;
/// From one instant that trees learn from to the next.
const EVERY: usize = 3;
/// Features that say what the courses say.
const TOLD: usize = 3;
/// The share of belief in the interval that trees are told.
const CORE: f64 = 0.8;

/// What is said of an engine at an instant.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Cycles left, by the courses of other engines.
    pub(super) posterior: Posterior,
    /// Cycles left, by trees that know what the courses say.
    pub(super) trees: f64,
    /// How worn it is, for one that never saw a failure.
    pub(super) worn: f64,
}

impl Said {
    /// Cycles left, with a share of the trees.
    pub(super) fn blended(&self, share: f64) -> f64 {
        share * self.trees + (1.0 - share) * self.posterior.mean(LONGEST)
    }
}

/// What was learned.
pub(super) struct Model {
    plane: Plane,
    courses: Courses,
    trees: Vec<Trees>,
    day_zero: DayZero,
}

impl Model {
    /// For engines that will have been seen for `lengths`; with as many models of trees as there are seeds.
    pub(super) fn fit(units: &[Unit], lengths: &[usize], seeds: u64) -> Result<Self> {
        let plane = Plane::of(units);
        let lives: Vec<_> = units.iter().map(|unit| plane.points(&unit.cycles)).collect();
        let voices = voices(units, lengths);
        let courses = Courses::of(&lives, &voices);
        let mut matrix = Matrix::new(COUNT + TOLD, Vec::new())?;
        let mut left: Vec<f32> = Vec::new();
        for (unit, points) in units.iter().zip(&lives) {
            for seen in (LEAST_SEEN..=points.len()).step_by(EVERY) {
                matrix.push(&told(&points[..seen], &courses.left(&points[..seen])))?;
                left.push(unit.remaining(seen) as f32);
            }
        }
        let grown = |seed| boost::train(&matrix, &left, None, None, &settings(seed));
        let trees = (0..seeds).map(grown).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { courses, plane, trees, day_zero: DayZero::of(units) })
    }

    /// What is said of an engine of which these rows were seen.
    pub(super) fn say(&self, rows: &[Vec<f64>]) -> Said {
        let points = self.plane.points(rows);
        let posterior = self.courses.left(&points);
        let row = told(&points, &posterior);
        let trees = self.trees.iter().map(|trees| trees.score(&row)).sum::<f64>() / self.trees.len() as f64;
        Said { posterior, trees, worn: self.day_zero.worn(rows) }
    }
}

/// What trees are told: what is seen, and what the courses make of it. (The courses know the engines that trees learn from, which makes them look
/// a little better than they are; engines that were held out say that it helps all the same.)
fn told(points: &[super::wear::Point], posterior: &Posterior) -> Vec<f32> {
    let mut row = features(points);
    let (low, high) = posterior.interval(LONGEST as usize, CORE);
    row.extend([posterior.mean(LONGEST) as f32, low as f32, high as f32]);
    row
}

fn settings(seed: u64) -> boost::Settings {
    boost::Settings {
        rounds: 250,
        learning_rate: 0.03,
        leaves: 12,
        min_rows_in_leaf: 20,
        l2: 5.0,
        row_share: 0.5,
        column_share: 0.5,
        seed,
        loss: boost::Loss::Squared,
        ..boost::Settings::default()
    }
}

/// What is said at each look by a model that never saw the engine.
pub(super) fn cross_validate(units: &[Unit], lengths: &[usize], looks: &[Look]) -> Result<Vec<Said>> {
    let fold = |unit: usize| unit % FOLDS;
    let models: Vec<Model> = (0..FOLDS)
        .map(|out| {
            let kept = units.iter().enumerate().filter(|(unit, _)| fold(*unit) != out);
            Model::fit(&kept.map(|(_, unit)| unit.clone()).collect::<Vec<_>>(), lengths, 1)
        })
        .collect::<Result<_>>()?;
    Ok(looks.iter().map(|look| models[fold(look.unit)].say(&units[look.unit].cycles[..look.seen])).collect())
}

/// The share of the trees that errs least on what took no part in the training.
pub(super) fn best_blend(looks: &[Look], said: &[Said]) -> f64 {
    let error = |share: f64| rmse(looks, |i| said[i].blended(share));
    let shares = (0..=10).map(|i| f64::from(i) / 10.0);
    shares.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blend_leans_to_what_errs_less() {
        let weights: Vec<f64> = (1..=40).map(|left: i32| -f64::from((left - 20).abs())).collect();
        let said = vec![Said { posterior: Posterior::new(&weights), trees: 30.0, worn: 0.0 }; 2];
        let looks = |left: f64| [1.0, 2.0].map(|weight| Look { unit: 0, seen: 50, weight, left });
        assert_eq!(best_blend(&looks(20.0), &said), 0.0);
        assert_eq!(best_blend(&looks(30.0), &said), 1.0);
        let between = best_blend(&looks(24.0), &said);
        assert!((0.3..0.5).contains(&between), "{between}");
    }
}
