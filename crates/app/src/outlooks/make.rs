use std::{collections::BTreeSet, path::Path, time::Duration};

use forefend_config::Config;
use forefend_domain::{CellId, Timestamp};
use forefend_predict::forecast::{LimitForecast, Limited};
use forefend_telemetry::history::{self, CellHistory, History, HistoryError, HistorySource, LoadOptions};

use super::{Forecasts, write};

/// A metric of which nothing was seen for so long is not forecast: its cell is gone, or nobody measures it any more.
const LATEST: Duration = Duration::from_secs(3_600);
/// Of the ways on that are drawn: the same past gives the same forecast.
const SEED: u64 = 1;

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
            let forecasts = self.of_cell(recorded);
            if !forecasts.is_empty() {
                self.forecasts.insert(cell.clone(), forecasts);
            }
        }
    }

    fn of_cell(&mut self, recorded: &CellHistory) -> Vec<LimitForecast> {
        let mut forecasts = Vec::new();
        for (metric, series) in recorded.series.iter().filter(|(_, s)| s.kind.fails()) {
            let (Some((first, _)), Some((last, _))) = (series.samples.first(), series.samples.last()) else {
                continue;
            };
            let Some(limit) = series.limit_at(*last) else { continue };
            if self.now.since(*last) > LATEST || last.since(*first) < self.least {
                continue;
            }
            self.looked_at += 1;
            let past = &series.samples;
            let (family, kind, unit) = (series.family, series.kind, series.unit.as_str());
            let limited = Limited { metric, family, kind, unit, limit, past };
            match LimitForecast::of(&limited, self.least, SEED) {
                Ok(found) => forecasts.extend(found),
                Err(error) => tracing::warn!(%metric, %error, "a metric can't be forecast"),
            }
        }
        forecasts
    }
}
