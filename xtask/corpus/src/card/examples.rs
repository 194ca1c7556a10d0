//! One episode of each kind as a plot: how full the fullest thing was, and how badly users fared.

use super::plot::{Line, Panel, grid};
use crate::{
    episode::Recording,
    outcome::{STEP, objective},
    sample::Series,
    spec::{self, Class, Kind},
};

const COLUMNS: usize = 4;

/// The plots of a class.
pub(super) fn of(recordings: &[Recording], class: Class) -> String {
    let panels: Vec<Panel> = Kind::ALL
        .into_iter()
        .filter(|kind| kind.class() == class)
        .filter_map(|kind| {
            let meant = |r: &&Recording| r.spec.kind == kind && r.is_as_meant();
            recordings.iter().find(meant).map(panel)
        })
        .collect();
    let legend = [
        ("a", "fullest resource, of its limit"),
        ("b", "what users see, of the objective"),
        ("c", "errors in the log, of the most"),
        ("o", "onset"),
        ("f", "failure"),
    ];
    grid(&panels, COLUMNS, &legend)
}

fn panel(recording: &Recording) -> Panel {
    let users = users(recording);
    let mut lines = vec![Line { class: "b", points: users }];
    let log = log_errors(recording);
    if !log.is_empty() {
        lines.push(Line { class: "c", points: log });
    }
    let fullest = fullest(recording);
    if let Some(series) = fullest {
        lines.push(Line { class: "a", points: of_limit(series, series.spec.limit) });
    }
    Panel {
        title: spec::name(recording.spec.kind),
        subtitle: format!(
            "{}{}",
            spec::name(recording.spec.subject),
            fullest.map(|s| format!(", {}", s.spec.name)).unwrap_or_default()
        ),
        lines,
        onset_s: recording.spec.onset_s(),
        failed_s: recording.failed_s(),
        end_s: recording.spec.length_s,
    }
}

fn seconds(step: u32) -> f64 {
    f64::from(step) * STEP.as_secs_f64()
}

fn of_limit(series: &Series, limit: Option<f64>) -> Vec<(f64, f64)> {
    let limit = limit.unwrap_or(f64::INFINITY);
    series.values.iter().map(|(step, value)| (seconds(*step), f64::from(*value) / limit)).collect()
}

/// A resource that rises by less of its limit plays no part.
const FELT: f64 = 0.15;

/// The resource that rose most towards its limit.
fn fullest(recording: &Recording) -> Option<&Series> {
    let rise = |series: &Series| {
        let levels = of_limit(series, series.spec.limit);
        let first = levels.iter().take(8).map(|(_, v)| *v).fold(f64::INFINITY, f64::min);
        let most = levels.iter().map(|(_, v)| *v).fold(0.0, f64::max);
        most - first
    };
    recording
        .series
        .iter()
        .filter(|s| s.spec.limit.is_some() && spec::name(s.spec.family) == "saturation")
        .filter(|s| rise(s) >= FELT)
        .max_by(|a, b| rise(a).total_cmp(&rise(b)))
}

/// The worse of error share and 99th percentile of latency, each as a share of what the objective allows.
fn users(recording: &Recording) -> Vec<(f64, f64)> {
    let named = |name: &str| recording.series.iter().find(|s| s.spec.name.as_str() == name);
    let objective = objective();
    let errors = named("error_ratio").map(|s| of_limit(s, Some(objective.error_share))).unwrap_or_default();
    let limit_ms = objective.latency.as_secs_f64() * 1e3;
    let slow = named("latency_p99_ms").map(|s| of_limit(s, Some(limit_ms))).unwrap_or_default();
    errors
        .into_iter()
        .map(|(at, errors)| {
            let slow = slow.iter().find(|(s, _)| *s == at).map_or(0.0, |(_, v)| *v);
            (at, errors.max(slow))
        })
        .collect()
}

/// New errors in the log from step to step, as a share of the most.
fn log_errors(recording: &Recording) -> Vec<(f64, f64)> {
    let total = recording.series.iter().find(|s| s.spec.name.as_str() == "log_errors_total");
    let Some(total) = total else { return Vec::new() };
    let new: Vec<(f64, f64)> = total
        .values
        .windows(2)
        .map(|pair| (seconds(pair[1].0), f64::from(pair[1].1 - pair[0].1).max(0.0)))
        .collect();
    let most = new.iter().map(|(_, n)| *n).fold(0.0, f64::max);
    if most < 3.0 { Vec::new() } else { new.into_iter().map(|(s, n)| (s, n / most)).collect() }
}
