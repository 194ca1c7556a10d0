//! A boosted model as it is served: learned here from made-up cells, with the settings that `learn` uses on the corpus; and above it a memory of the larger
//! size that `learn` tries, whose weights are made up: what it says does not matter here, only what it costs.

use std::time::Duration;

use anyhow::{Error, Result};
use forefend_domain::Windows;
use forefend_learn::{
    boost,
    hazard::{Learner, Watched, train},
};
use forefend_predict::{
    Predictor as _,
    learned::{
        Calibration, Learned, Lstm, LstmLayer, LstmParts, Remembering, RememberingParts, Stacked,
        feature_names, features, lately_names, never_falls, steps_in_a_look,
    },
};
use forefend_telemetry::{SeriesStore, StoreOptions};

use crate::fleet;

/// Cells that it learns from: one in a hundred of them leaks.
const CELLS: usize = 3_000;
/// Ends of the intervals in which a failure may fall, in seconds.
const EDGES_S: [f64; 8] = [60.0, 120.0, 180.0, 240.0, 360.0, 500.0, 700.0, 900.0];

/// The share of cells that may be suspects, as `learn` has it.
const SUSPECTS: f64 = 0.1;
/// Cells of memory.
const HIDDEN: usize = 24;
/// How far all of them look ahead.
pub(crate) const HORIZON: Duration = Duration::from_secs(900);

/// Every layer: first day, trees beside it with half of the say, and a memory that is asked about the riskiest tenth.
///
/// # Errors
/// When nothing can be learned.
pub(crate) fn learned() -> Result<Remembering> {
    let (below, seen) = trees()?;
    let p = |windows: &Windows| below.predict(windows, HORIZON).map(|said| said.probability.get());
    let mut risks: Vec<f64> = seen.iter().filter_map(p).collect();
    risks.sort_by(f64::total_cmp);
    let place = ((1.0 - SUSPECTS) * risks.len() as f64) as usize;
    // Nobody at the risk that most have is a suspect: above it, not from it on.
    let suspect_from = risks.get(place).copied().unwrap_or(1.0).next_up();
    let steps = steps_in_a_look(fleet::LENGTH);
    let (below, lstm) = (Some(below), memory()?);
    let parts = RememberingParts { below, lstm, steps, share: 0.5, suspect_from, levels: None };
    Remembering::new(parts).map_err(Error::msg)
}

fn memory() -> Result<Lstm> {
    let features = lately_names();
    let inputs = features.len();
    let numbers = |count: usize| (0..count).map(|n| (n as f32 * 0.37).sin() * 0.2).collect::<Vec<f32>>();
    let layer = LstmLayer {
        inputs,
        hidden: HIDDEN,
        input: numbers(inputs * 4 * HIDDEN),
        recurrent: numbers(HIDDEN * 4 * HIDDEN),
        bias: numbers(4 * HIDDEN),
    };
    let parts = LstmParts {
        edges: EDGES_S.to_vec(),
        features,
        centre: vec![0.5; inputs],
        scale: vec![1.0; inputs],
        layers: vec![layer],
        head: numbers(HIDDEN * EDGES_S.len()),
        head_bias: vec![-6.0; EDGES_S.len()],
        calibration: Calibration::Identity,
    };
    Lstm::new(parts).map_err(Error::msg)
}

/// Boosted trees beside the model of the first day, and the windows of every tenth cell that they learned from.
fn trees() -> Result<(Stacked, Vec<Windows>)> {
    let mut seen = Vec::new();
    let mut watched = Watched::default();
    for cell in (0..CELLS).step_by(10).chain((0..100).map(|n| n * 100)) {
        let end = 200 + cell as u64 % 131;
        let step = fleet::TICK;
        let options = StoreOptions { step, length: fleet::LENGTH, ..StoreOptions::default() };
        let mut store = SeriesStore::new(options);
        let (id, specs) = (fleet::cell_id(cell)?, fleet::specs());
        let mut totals = vec![0.0; fleet::counters()];
        let mut values = Vec::new();
        for step in end - fleet::LENGTH as u64..=end {
            fleet::values(cell, step, &mut totals, &mut values);
            for (spec, value) in specs.iter().zip(&values) {
                store.record(&id, spec, fleet::instant(step), Some(*value))?;
            }
        }
        let Some(windows) = store.windows(fleet::instant(end)).pop() else { continue };
        let Some(row) = features(&windows, HORIZON) else { continue };
        if seen.len() < CELLS / 10 {
            seen.push(windows);
        }
        let left = fleet::left(cell, end).map_or(900.0, |steps| (steps * 10) as f64);
        watched.push(row.values, left.min(900.0), left < 900.0, 1.0);
    }
    let mut monotone: Vec<i8> = never_falls().into_iter().map(i8::from).collect();
    monotone.push(0);
    let settings = boost::Settings {
        rounds: 200,
        learning_rate: 0.06,
        leaves: 14,
        min_rows_in_leaf: 2,
        min_hessian: 1e-9,
        l2: 5.0,
        row_share: 0.7,
        column_share: 0.3,
        seed: 1,
        monotone,
        patience: None,
        ..boost::Settings::default()
    };
    let hazard = train(&watched, None, &feature_names(), &EDGES_S, &Learner::Trees(settings))?;
    Ok((Stacked { learned: Learned { hazard }, share: 0.5, levels: None, beyond: None }, seen))
}
