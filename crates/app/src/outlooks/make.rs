use std::{collections::BTreeSet, path::Path, time::Duration};

use forefend_config::Config;
use forefend_domain::{CellId, Timestamp};
use forefend_learn::practice::outlooks;
use forefend_telemetry::history::{self, History, HistoryError, HistorySource, LoadOptions};

use super::{Forecasts, write};

/// Makes the outlooks of an engine from what it recorded, and writes them where it takes them up. Tells what came of it.
///
/// # Errors
/// In words: nothing was recorded, or it can't be read or written.
pub(crate) fn make(config: &Config, now: Timestamp) -> Result<String, String> {
    let folder = config.engine.state_dir.join("history");
    if !folder.try_exists().unwrap_or(false) {
        return Err(format!(
            "{} is not there: nothing is recorded; turn `engine.history` on",
            folder.display()
        ));
    }
    let cells: Vec<CellId> = config.cells().into_iter().map(|of| of.cell.id).collect();
    let mut made =
        Made { now, least: config.engine.forecast.least, forecasts: Forecasts::new(), looked_at: 0 };
    made.read(&folder, None, &cells)?;
    let Made { forecasts, looked_at, .. } = made;
    let count: usize = forecasts.values().map(Vec::len).sum();
    write(&config.engine.state_dir, now, forecasts)
        .map_err(|e| format!("they can't be written to {}: {e}", config.engine.state_dir.display()))?;
    Ok(format!(
        "forecasts: {looked_at} metrics with a limit have a past that is long enough; {count} may reach it"
    ))
}

struct Made {
    now: Timestamp,
    least: Duration,
    forecasts: Forecasts,
    looked_at: usize,
}

impl Made {
    /// All cells at once (`None`), or so many as fit into memory, one half after the other.
    fn read(&mut self, folder: &Path, some: Option<&[CellId]>, all: &[CellId]) -> Result<(), String> {
        let cells = some.map(|cells| cells.iter().cloned().collect::<BTreeSet<_>>());
        let options = LoadOptions { cells, ..LoadOptions::default() };
        match history::load(&HistorySource::Files(folder.to_owned()), &options) {
            Ok(history) => {
                self.forecast(&history);
                Ok(())
            }
            // Nothing yet is no error: an engine has just begun.
            Err(HistoryError::Nothing { .. } | HistoryError::NoStep { .. }) => Ok(()),
            Err(error @ HistoryError::TooMuch { .. }) => {
                let cells = some.unwrap_or(all);
                if some.is_some() && cells.len() < 2 {
                    return Err(error.to_string());
                }
                let (one, other) = cells.split_at(cells.len() / 2);
                [one, other]
                    .into_iter()
                    .filter(|half| !half.is_empty())
                    .try_for_each(|half| self.read(folder, Some(half), all))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn forecast(&mut self, history: &History) {
        for (cell, recorded) in &history.cells {
            let told = outlooks(recorded, self.now, self.least);
            self.looked_at += told.looked_at;
            for (metric, error) in told.unfit {
                tracing::warn!(%cell, %metric, %error, "a metric can't be forecast");
            }
            if !told.forecasts.is_empty() {
                self.forecasts.insert(cell.clone(), told.forecasts);
            }
        }
    }
}
