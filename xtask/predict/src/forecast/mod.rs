//! A day ahead, on series of NAB, against the Python package `prophet` and the day before.
//!
//! Each of the last four days of a series is forecast from what was before it, at most 60 days. Errors are in units of how far values are from the
//! day before in the history, so that series weigh alike. Our settings were chosen on the series of tweets and of prices of ads alone; prophet has its own defaults.

mod peer;
mod series;

use std::{path::Path, time::Instant};

use anyhow::Result;
use forefend_learn::evaluate::{Estimate, bootstrap::Bootstrap};
use forefend_predict::forecast::{Forecast, Settings};

use crate::report::Line;
use series::{Task, tasks};

const CASE: &str = "forecast";
/// What settings were chosen on.
const CHOSEN_ON: [&str; 2] = ["realAdExchange", "realTweets"];
const JUDGED: [&str; 3] = ["realAWSCloudwatch", "realKnownCause", "realTraffic"];
/// The share that intervals are to hold.
const COVERAGE: f64 = 0.8;

/// What was said of a task.
struct Said {
    at: Vec<f64>,
    bounds: Vec<(f64, f64)>,
    fit_s: f64,
}

/// A figure of a task.
type Figure = fn(&Task, &Said) -> f64;

const FIGURES: [(&str, &str, Figure); 5] = [
    ("mae_scaled", "1", |task, said| absolute_error(task, said) / task.scale()),
    ("smape", "share", smape),
    ("coverage_80", "share", held),
    ("interval_width_scaled", "1", |task, said| width(said) / task.scale()),
    ("fit_s", "s", |_, said| said.fit_s),
];

pub(crate) fn run(folder: &Path) -> Result<Vec<Line>> {
    let nab = folder.join("nab");
    let chosen_on = tasks(&nab, &CHOSEN_ON)?;
    let said = ours(&chosen_on);
    let figures: Vec<String> = FIGURES
        .iter()
        .map(|(metric, _, figure)| format!("{metric} {:.4}", mean(&chosen_on, &said, *figure)))
        .collect();
    eprintln!("{CASE}: where settings were chosen, {} days: {}", chosen_on.len(), figures.join(", "));
    let judged = tasks(&nab, &JUDGED)?;
    let said = ours(&judged);
    let before: Vec<Said> = judged.iter().map(day_before).collect();
    let mut lines =
        vec![line(&judged, &said, 0).against("day-before", Some(mean(&judged, &before, FIGURES[0].2)))];
    match peer::prophet(&judged) {
        Ok(theirs) => {
            let against = |n: usize| {
                line(&judged, &said, n).against("prophet", Some(mean(&judged, &theirs, FIGURES[n].2)))
            };
            lines.extend((0..FIGURES.len()).map(against));
            let better = |rows: &[usize]| {
                let of = |said: &[Said], n: usize| absolute_error(&judged[n], &said[n]);
                let better = rows.iter().filter(|n| of(&said, **n) < of(&theirs, **n)).count();
                Some(better as f64 / rows.len() as f64)
            };
            lines.push(Line::estimate(CASE, "days_with_less_error", "share", by_series(&judged, better)));
        }
        Err(why) => {
            for (metric, unit, _) in FIGURES {
                let skipped = Line::skipped(CASE, metric, unit, format!("{why:#}"));
                lines.push(Line { peer: Some("prophet"), ..skipped });
            }
            lines.extend((0..FIGURES.len()).map(|n| line(&judged, &said, n)));
        }
    }
    Ok(lines)
}

fn ours(tasks: &[Task]) -> Vec<Said> {
    let said = |task: &Task| {
        let begun = Instant::now();
        // A task has a history of three days at least, in order.
        let fitted = Forecast::fit(&task.history, &Settings::default());
        let fit_s = begun.elapsed().as_secs_f64();
        let of = |at: f64| {
            fitted.as_ref().map_or((f64::NAN, (f64::NAN, f64::NAN)), |f| (f.at(at), f.interval(at, COVERAGE)))
        };
        let (at, bounds) = task.coming.iter().map(|point| of(point.0)).unzip();
        Said { at, bounds, fit_s }
    };
    tasks.iter().map(said).collect()
}

fn day_before(task: &Task) -> Said {
    Said { at: task.day_before(), bounds: Vec::new(), fit_s: 0.0 }
}

fn absolute_error(task: &Task, said: &Said) -> f64 {
    let errors = task.coming.iter().zip(&said.at).map(|((_, value), at)| (value - at).abs());
    errors.sum::<f64>() / task.coming.len() as f64
}

/// The symmetric absolute error as a share; where value and forecast are both 0, none.
fn smape(task: &Task, said: &Said) -> f64 {
    let errors = task.coming.iter().zip(&said.at).map(|((_, value), at)| {
        let size = value.abs() + at.abs();
        if size > 0.0 { 2.0 * (value - at).abs() / size } else { 0.0 }
    });
    errors.sum::<f64>() / task.coming.len() as f64
}

fn held(task: &Task, said: &Said) -> f64 {
    let inside = task
        .coming
        .iter()
        .zip(&said.bounds)
        .filter(|((_, value), (low, high))| low <= value && value <= high);
    inside.count() as f64 / task.coming.len() as f64
}

fn width(said: &Said) -> f64 {
    said.bounds.iter().map(|(low, high)| high - low).sum::<f64>() / said.bounds.len() as f64
}

fn mean(tasks: &[Task], said: &[Said], figure: Figure) -> f64 {
    tasks.iter().zip(said).map(|(task, said)| figure(task, said)).sum::<f64>() / tasks.len() as f64
}

fn line(tasks: &[Task], said: &[Said], n: usize) -> Line {
    let (metric, unit, figure) = FIGURES[n];
    let of = |rows: &[usize]| {
        Some(rows.iter().map(|n| figure(&tasks[*n], &said[*n])).sum::<f64>() / rows.len() as f64)
    };
    Line::estimate(CASE, metric, unit, by_series(tasks, of))
}

fn by_series(tasks: &[Task], of: impl Fn(&[usize]) -> Option<f64>) -> Option<Estimate> {
    let series: Vec<usize> = tasks.iter().map(|task| task.series).collect();
    Bootstrap::default().interval(&series, of)
}
