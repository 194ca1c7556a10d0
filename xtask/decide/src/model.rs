//! A boosted model as it is served: learned here from made-up cells, with the settings that `learn` uses on the corpus.

use std::time::Duration;

use anyhow::Result;
use forefend_learn::{
    boost,
    hazard::{Learner, Watched, train},
};
use forefend_predict::learned::{Learned, Stacked, feature_names, features, never_falls};
use forefend_telemetry::{SeriesStore, StoreOptions};

use crate::fleet;

/// Cells that it learns from: one in a hundred of them leaks.
const CELLS: usize = 3_000;
/// Ends of the intervals in which a failure may fall, in seconds.
const EDGES_S: [f64; 8] = [60.0, 120.0, 180.0, 240.0, 360.0, 500.0, 700.0, 900.0];

/// Boosted trees beside the model of the first day, with half of the say.
///
/// # Errors
/// When nothing can be learned.
pub(crate) fn learned() -> Result<Stacked> {
    let horizon = Duration::from_secs(900);
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
        let Some(row) = store.windows(fleet::instant(end)).first().and_then(|w| features(w, horizon)) else {
            continue;
        };
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
    Ok(Stacked { learned: Learned { hazard }, share: 0.5, levels: None })
}
