//! The same question, asked of a long short-term memory that sees raw sensors, cycle by cycle.
//!
//! Everything is chosen by cross-validation over training units, at looks as long as test units are seen; the test's truth was read once, for the figures.

use std::{path::Path, time::Instant};

use anyhow::Result;
use forefend_learn::{
    evaluate::{bootstrap::Bootstrap, rank, regression},
    hazard::Watched,
    lstm::{self, Settings},
};
use forefend_predict::learned::{Calibration, Lstm, LstmLayer, LstmParts, feature_names};

use super::{
    NEAR, Truth,
    data::{self, LONGEST, Unit},
    looks::{looks, rmse},
    model::FOLDS,
    pick,
};
use crate::report::Line;

const CASE: &str = "fd001-lstm";
/// Intervals of even length up to the longest remaining life that is told apart: errors are in cycles here, not in shares.
const INTERVALS: usize = 25;
/// Models whose curves are averaged.
const SEEDS: u64 = 3;

fn settings(seed: u64) -> Settings {
    Settings {
        hidden: 32,
        epochs: 60,
        learning_rate: 5e-3,
        batch: 4,
        // Whole lives: errors traced back through 128 cycles only made it a third worse.
        span: 400,
        offset: 0.4,
        seed,
        ..Settings::default()
    }
}

pub(crate) fn run(folder: &Path) -> Result<Vec<Line>> {
    let (units, test) = (data::train(folder)?, data::test(folder)?);
    let lengths: Vec<usize> = test.iter().map(|unit| unit.cycles.len()).collect();
    tell(&units, &lengths)?;
    let begun = Instant::now();
    let models: Vec<Lstm> = (1..=SEEDS).map(|seed| fit(&units, seed)).collect::<Result<_>>()?;
    let train_s = begun.elapsed().as_secs_f64();
    let curves: Vec<Vec<Vec<f64>>> =
        models.iter().map(|model| test.iter().map(|unit| curve(model, &unit.cycles)).collect()).collect();
    let left = |curve: &[f64]| models[0].restricted_mean(curve);
    let mean: Vec<Vec<f64>> = (0..test.len()).map(|n| average(curves.iter().map(|of| &of[n]))).collect();
    let ours: Vec<f64> = mean.iter().map(|curve| left(curve)).collect();
    let near: Vec<f64> = mean.iter().map(|curve| models[0].within(curve, NEAR)).collect();
    let truth = Truth::of(&test);
    let alone = curves.iter().filter_map(|of| truth.error(&of.iter().map(|c| left(c)).collect::<Vec<_>>()));
    let interval = |of: &dyn Fn(&[usize]) -> Option<f64>| Bootstrap::default().interval(&truth.units, of);
    let error = interval(&|rows| regression::rmse(&pick(&ours, rows), &pick(&truth.left, rows)));
    let auc = interval(&|rows| rank::auc(&pick(&near, rows), &pick(&truth.soon, rows), None));
    let service = like_in_service()?;
    Ok(vec![
        Line::estimate(CASE, "rmse_cycles", "cycles", error),
        Line::ours(CASE, "rmse_of_one_model_cycles", "cycles", Some(alone.sum::<f64>() / SEEDS as f64)),
        Line::estimate(CASE, "auc", "1", auc),
        Line::ours(CASE, "train_s", "s", Some(train_s)),
        Line::ours(CASE, "step_us", "us", Some(step_us(&models[0]))),
        Line::ours(CASE, "service_step_us", "us", Some(step_us(&service))),
    ])
}

/// What a unit's cycles were followed by.
fn watched(unit: &Unit) -> Watched {
    let mut watched = Watched::default();
    for (n, row) in unit.cycles.iter().enumerate() {
        let left = (unit.cycles.len() - n - 1) as f64 + unit.left;
        // After the last cycle nothing is left to foresee.
        let weight = if left > 0.0 { 1.0 } else { 0.0 };
        watched.push(row.iter().map(|v| *v as f32).collect(), left, true, weight);
    }
    watched
}

fn fit(units: &[Unit], seed: u64) -> Result<Lstm> {
    let sequences: Vec<Watched> = units.iter().map(watched).collect();
    let columns = units.first().and_then(|unit| unit.cycles.first()).map_or(0, Vec::len);
    let features: Vec<String> = (0..columns).map(|n| format!("sensor {n}")).collect();
    let edges: Vec<f64> = (1..=INTERVALS).map(|n| LONGEST * n as f64 / INTERVALS as f64).collect();
    Ok(lstm::train(&sequences, &[], &features, &edges, &settings(seed))?.model)
}

fn curve(model: &Lstm, cycles: &[Vec<f64>]) -> Vec<f64> {
    let (mut state, mut hazards) = (model.fresh(), Vec::new());
    for row in cycles {
        let row: Vec<f32> = row.iter().map(|v| *v as f32).collect();
        (state, hazards) = model.step(state, &row);
    }
    model.cumulative(&hazards)
}

fn average<'a>(curves: impl Iterator<Item = &'a Vec<f64>>) -> Vec<f64> {
    let mut sum: Vec<f64> = Vec::new();
    let mut count = 0.0;
    for curve in curves {
        sum.resize(curve.len(), 0.0);
        sum.iter_mut().zip(curve).for_each(|(sum, p)| *sum += p);
        count += 1.0;
    }
    sum.iter().map(|sum| sum / count).collect()
}

/// Tells what cross-validation finds of one model.
fn tell(units: &[Unit], lengths: &[usize]) -> Result<()> {
    let looks = looks(units, lengths);
    let begun = Instant::now();
    let mut models = Vec::with_capacity(FOLDS);
    for out in 0..FOLDS {
        let kept = units.iter().enumerate().filter(|(unit, _)| unit % FOLDS != out);
        models.push(fit(&kept.map(|(_, unit)| unit.clone()).collect::<Vec<_>>(), 1)?);
    }
    let said: Vec<f64> = looks
        .iter()
        .map(|look| {
            let model = &models[look.unit % FOLDS];
            model.restricted_mean(&curve(model, &units[look.unit].cycles[..look.seen]))
        })
        .collect();
    let error = rmse(&looks, |i| said[i]);
    let seconds = begun.elapsed().as_secs_f64() / FOLDS as f64;
    eprintln!("{CASE}: cross-validated rmse of one model {error:.2}, {seconds:.1} s each to train");
    Ok(())
}

/// A model of the sizes that service would have, with weights of no meaning, all features known.
fn like_in_service() -> Result<Lstm> {
    const HIDDEN: usize = 32;
    const EDGES: usize = 24;
    let features = feature_names();
    let inputs = features.len();
    let numbers = |count: usize| (0..count).map(|n| 0.1 * (n as f32 * 0.37).sin()).collect::<Vec<f32>>();
    let layer = LstmLayer {
        inputs,
        hidden: HIDDEN,
        input: numbers(inputs * 4 * HIDDEN),
        recurrent: numbers(HIDDEN * 4 * HIDDEN),
        bias: numbers(4 * HIDDEN),
    };
    let parts = LstmParts {
        edges: (1..=EDGES).map(|n| n as f64).collect(),
        features,
        centre: vec![0.0; inputs],
        scale: vec![1.0; inputs],
        layers: vec![layer],
        head: numbers(HIDDEN * EDGES),
        head_bias: vec![-3.0; EDGES],
        calibration: Calibration::Identity,
    };
    Lstm::new(parts).map_err(anyhow::Error::msg)
}

/// What a step takes, in microseconds: the median of a hundred hundreds, each of a state of its own.
fn step_us(model: &Lstm) -> f64 {
    let row: Vec<f32> = (0..model.parts().features.len()).map(|n| 0.5 + (n % 7) as f32).collect();
    let mut states = vec![model.fresh(); 100];
    let mut round = || {
        let begun = Instant::now();
        for state in &mut states {
            *state = std::hint::black_box(model.step(std::mem::take(state), &row)).0;
        }
        begun.elapsed().as_secs_f64() * 1e6 / 100.0
    };
    let mut rounds: Vec<f64> = (0..100).map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[50]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_watched_until_it_fails_and_judged_while_anything_is_left() {
        let unit = Unit { cycles: vec![vec![1.0]; 3], left: 0.0 };
        let of = watched(&unit);
        assert_eq!(of.times, [2.0, 1.0, 0.0]);
        assert_eq!(of.weights, [1.0, 1.0, 0.0]);
        let cut = watched(&Unit { left: 7.0, ..unit });
        assert_eq!(cut.times, [9.0, 8.0, 7.0]);
        assert_eq!(cut.weights, [1.0; 3]);
    }

    #[test]
    fn the_average_of_curves_is_theirs() {
        assert_eq!(average([vec![0.0, 1.0], vec![0.5, 0.5]].iter()), [0.25, 0.75]);
    }
}
