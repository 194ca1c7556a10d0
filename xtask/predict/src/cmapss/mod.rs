//! Turbofan engines run to failure (C-MAPSS FD001, Saxena et al. 2008): how many cycles are left?
//!
//! Everything is chosen by cross-validation over training units; the test units are read once, for the figures.

mod data;
mod day_zero;
mod features;

use std::{path::Path, time::Instant};

use anyhow::Result;
use forefend_learn::{
    Matrix, boost,
    conformal::{Conformal, Shape},
    evaluate::{bootstrap::Bootstrap, rank, regression},
    hazard::{Learner, Watched, train},
};
use forefend_predict::learned::{Hazard, Trees};

use crate::report::Line;
use data::{LONGEST, Scale, Unit};
use features::{features, names};

const CASE: &str = "fd001";

/// Units of the training set are cut into so many folds.
const FOLDS: usize = 5;
/// The least that is seen of a test unit is 31 cycles.
const LEAST_SEEN: usize = 25;
/// A failure within so many cycles is asked for.
const NEAR: f64 = 30.0;
const SEEDS: u64 = 5;

pub(crate) fn run(folder: &Path) -> Result<Vec<Line>> {
    let (units, test) = (data::train(folder)?, data::test(folder)?);
    let begun = Instant::now();
    let folds = cross_validate(&units)?;
    let blend = best_blend(&folds);
    let conformal = calibrate(&folds)?;
    eprintln!(
        "{CASE}: cross-validated rmse {:.2} (trees {:.2}, curve {:.2}), share of trees {blend}",
        error(&folds, |s| s.blended(blend)),
        error(&folds, |s| s.trees),
        error(&folds, |s| s.mean),
    );
    let model = Model::fit(&units, SEEDS)?;
    let train_s = begun.elapsed().as_secs_f64();
    let said: Vec<Said> = test.iter().map(|unit| model.say(unit, unit.cycles.len())).collect();
    let left: Vec<f64> = test.iter().map(|unit| unit.left.min(LONGEST)).collect();
    let ours: Vec<f64> = said.iter().map(|s| s.blended(blend)).collect();
    let usual = units.iter().flat_map(|u| (LEAST_SEEN..u.cycles.len()).map(|n| u.remaining(n)));
    let (sum, count) = usual.fold((0.0, 0.0), |(sum, count), left| (sum + left, count + 1.0));
    let base: Vec<f64> = vec![sum / count; left.len()];
    let groups: Vec<u64> = (0..left.len() as u64).collect();
    let interval = |of: &dyn Fn(&[usize]) -> Option<f64>| Bootstrap::default().interval(&groups, of);
    let pick = |from: &[f64], rows: &[usize]| -> Vec<f64> { rows.iter().map(|i| from[*i]).collect() };
    let rmse = |rows: &[usize]| regression::rmse(&pick(&ours, rows), &pick(&left, rows));
    let soon: Vec<bool> = test.iter().map(|unit| unit.left < NEAR).collect();
    let auc_of = |scores: &[f64], rows: &[usize]| {
        let labels: Vec<bool> = rows.iter().map(|i| soon[*i]).collect();
        rank::auc(&pick(scores, rows), &labels, None)
    };
    let near: Vec<f64> = said.iter().map(|s| s.near).collect();
    let clipped = |(low, high): (f64, f64)| (low.min(LONGEST), high.min(LONGEST));
    let bounds: Vec<(f64, f64)> = said.iter().map(|s| clipped(conformal.apply(s.low, s.high))).collect();
    let day_zero: Vec<f64> = {
        let model = day_zero::DayZero::of(&units);
        test.iter().map(|unit| model.worn(unit)).collect()
    };
    Ok(vec![
        Line::estimate(CASE, "rmse_cycles", "cycles", interval(&rmse))
            .against("base-rate", regression::rmse(&base, &left)),
        Line::estimate(CASE, "auc", "1", interval(&|rows| auc_of(&near, rows))),
        Line::estimate(CASE, "coverage_90", "share", regression::coverage(&bounds, &left, 0.95)),
        Line::ours(CASE, "interval_width", "cycles", regression::mean_width(&bounds)),
        Line::ours(CASE, "train_s", "s", Some(train_s)),
        Line::estimate("fd001-day0", "auc", "1", interval(&|rows| auc_of(&day_zero, rows))),
    ])
}

/// What is said of a unit at an instant.
#[derive(Debug, Clone, Copy)]
struct Said {
    /// Cycles left, by the trees that learned that.
    trees: f64,
    /// Cycles left, the mean of the survival curve.
    mean: f64,
    /// 5% and 95% quantiles of the curve.
    low: f64,
    high: f64,
    /// P(fail within [`NEAR`]).
    near: f64,
    /// What was true.
    left: f64,
}

impl Said {
    fn blended(&self, share: f64) -> f64 {
        share * self.trees + (1.0 - share) * self.mean
    }
}

/// All that is learned from a set of units.
struct Model {
    scale: Scale,
    health: Vec<f64>,
    trees: Vec<Trees>,
    hazard: Hazard,
}

impl Model {
    fn fit(units: &[Unit], seeds: u64) -> Result<Self> {
        let scale = Scale::of(units);
        let health = wear(units, &scale);
        let names = names(health.len());
        let mut matrix = Matrix::new(names.len(), Vec::new())?;
        let mut left: Vec<f32> = Vec::new();
        let mut watched = Watched::default();
        for unit in units {
            let rows = scale.apply(unit);
            // Every unit counts alike, however long it ran.
            let weight = 200.0 / rows.len() as f32;
            for seen in LEAST_SEEN..=rows.len() {
                let row = features(&rows[..seen], &health);
                matrix.push(&row)?;
                left.push(unit.remaining(seen) as f32);
                if seen % 2 == 0 {
                    let true_left = (rows.len() - seen) as f64 + unit.left;
                    watched.push(row, (true_left + 0.5).min(LONGEST + 1.0), true_left <= LONGEST, weight);
                }
            }
        }
        let trees = (0..seeds)
            .map(|seed| {
                let settings = boost::Settings {
                    rounds: 250,
                    learning_rate: 0.03,
                    leaves: 12,
                    min_rows_in_leaf: 40,
                    l2: 5.0,
                    row_share: 0.5,
                    column_share: 0.3,
                    seed,
                    loss: boost::Loss::Squared,
                    ..boost::Settings::default()
                };
                boost::train(&matrix, &left, None, None, &settings)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let settings = boost::Settings {
            rounds: 200,
            learning_rate: 0.05,
            leaves: 12,
            min_rows_in_leaf: 60,
            l2: 5.0,
            row_share: 0.5,
            column_share: 0.3,
            seed: 1,
            ..boost::Settings::default()
        };
        let edges: Vec<f64> = (1..=20).map(|i| f64::from(i) * LONGEST / 20.0).collect();
        let hazard = train(&watched, None, &names, &edges, &Learner::Trees(settings))?;
        Ok(Self { scale, health, trees, hazard })
    }

    fn say(&self, unit: &Unit, seen: usize) -> Said {
        let rows = self.scale.apply(unit);
        let row = features(&rows[..seen], &self.health);
        let curve = self.hazard.cumulative(&row);
        let quantile = |p| self.hazard.quantile(&curve, p).unwrap_or(LONGEST);
        Said {
            trees: self.trees.iter().map(|t| t.score(&row)).sum::<f64>() / self.trees.len() as f64,
            mean: self.hazard.restricted_mean(&curve),
            low: quantile(0.05),
            high: quantile(0.95),
            near: self.hazard.within(&curve, NEAR),
            left: unit.remaining(seen),
        }
    }
}

/// How much each sensor tells of wear: how far it has moved from new to the last cycles, in deviations of a new engine.
fn wear(units: &[Unit], scale: &Scale) -> Vec<f64> {
    let scaled: Vec<Vec<Vec<f64>>> = units.iter().map(|unit| scale.apply(unit)).collect();
    let last = scaled.iter().flat_map(|rows| rows.iter().rev().take(10));
    let mut moved = vec![0.0; scaled[0][0].len()];
    let mut n = 0.0;
    for row in last {
        n += 1.0;
        moved.iter_mut().zip(row).for_each(|(m, v)| *m += v);
    }
    let norm = moved.iter().map(|m| (m / n).powi(2)).sum::<f64>().sqrt();
    moved.iter().map(|m| m / n / norm).collect()
}

/// What is said of units that took no part in the training, each at several instants.
fn cross_validate(units: &[Unit]) -> Result<Vec<Said>> {
    let mut all = Vec::new();
    for fold in 0..FOLDS {
        let (out, kept): (Vec<_>, Vec<_>) = units.iter().enumerate().partition(|(i, _)| i % FOLDS == fold);
        let kept: Vec<Unit> = kept.into_iter().map(|(_, unit)| unit.clone()).collect();
        let model = Model::fit(&kept, 1)?;
        for (i, unit) in out {
            // Like the test units: seen up to some instant with 7 to 145 cycles left.
            for n in 0..6usize {
                let left = 7 + (i * 37 + n * 23) % 139;
                if let Some(seen) = unit.cycles.len().checked_sub(left).filter(|seen| *seen >= LEAST_SEEN) {
                    all.push(model.say(unit, seen));
                }
            }
        }
    }
    Ok(all)
}

fn error(said: &[Said], of: impl Fn(&Said) -> f64) -> f64 {
    let squares: f64 = said.iter().map(|s| (of(s) - s.left).powi(2)).sum();
    (squares / said.len() as f64).sqrt()
}

/// The share of the trees that errs least on what took no part in the training.
fn best_blend(said: &[Said]) -> f64 {
    let shares = (0..=10).map(|i| f64::from(i) / 10.0);
    shares
        .min_by(|a, b| error(said, |s| s.blended(*a)).total_cmp(&error(said, |s| s.blended(*b))))
        .unwrap_or(0.5)
}

fn calibrate(said: &[Said]) -> Result<Conformal> {
    let column = |of: fn(&Said) -> f64| -> Vec<f64> { said.iter().map(of).collect() };
    let (lower, upper, truth) = (column(|s| s.low), column(|s| s.high), column(|s| s.left));
    Ok(Conformal::fit(Shape::Additive, &lower, &upper, &truth, 0.9)?)
}
