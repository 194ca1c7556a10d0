use std::time::Duration;

use forefend_predict::Predictor;
use forefend_telemetry::history::History;
use serde::{Deserialize, Serialize};

use super::{Grid, Landmark, parallel::in_parallel};

/// What two models said of a cell at an instant, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Where, and what became of it.
    pub mark: Landmark,
    /// P(fail within the horizon) as the one that serves said, 0 to 1.
    pub champion: f64,
    /// As the one that would like to serve said, 0 to 1.
    pub challenger: f64,
    /// Whether the one that serves said that the cell holds more than any that stayed well: an alarm of its own.
    #[serde(default)]
    pub champion_exceeds: bool,
    /// Whether the one that would like to serve did.
    #[serde(default)]
    pub challenger_exceeds: bool,
}

impl Judged {
    /// What a threshold of the one that serves is held against: certainty, where it was an alarm of its own.
    #[must_use]
    pub fn champion_alarm(&self) -> f64 {
        if self.champion_exceeds { 1.0 } else { self.champion }
    }

    /// The same of the one that would like to serve.
    #[must_use]
    pub fn challenger_alarm(&self) -> f64 {
        if self.challenger_exceeds { 1.0 } else { self.challenger }
    }
}

/// Asks both models at every landmark, by the same way on which they are asked in production: with the windows of then, and nothing
/// else. Landmarks at which one of them has nothing to say are left out.
#[must_use]
pub fn judge(
    history: &History,
    marks: &[Landmark],
    grid: &Grid,
    champion: &(impl Predictor + Sync),
    challenger: &(impl Predictor + Sync),
) -> Vec<Judged> {
    let horizon: Duration = grid.horizon;
    in_parallel(marks, |mark| {
        let windows = history.windows(&mark.cell, mark.at, grid.length)?;
        let (champion, challenger) =
            (champion.predict(&windows, horizon)?, challenger.predict(&windows, horizon)?);
        Some(Judged {
            mark: mark.clone(),
            champion: champion.probability.get(),
            challenger: challenger.probability.get(),
            champion_exceeds: champion.exceeds,
            challenger_exceeds: challenger.exceeds,
        })
    })
    .into_iter()
    .flatten()
    .collect()
}
