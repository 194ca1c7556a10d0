//! What a replay leaves behind, before it is judged.

use std::collections::BTreeMap;

use forefend_domain::{CellId, MetricName, ShiftReason, Timestamp, Verdict};
use forefend_telemetry::history::{History, Incident};

use super::{Options, alarms::Stood};

/// An incident whose end is known, or assumed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(crate) cell: CellId,
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
    pub(crate) end_is_assumed: bool,
    pub(crate) kind: String,
    pub(crate) event: String,
}

/// Incidents of the cells of one service, oldest first.
pub(crate) fn known<'c>(
    history: &History,
    incidents: &[Incident],
    cells: impl Iterator<Item = &'c CellId> + Clone,
    options: &Options,
) -> Vec<Known> {
    let mut known: Vec<Known> = incidents
        .iter()
        .filter(|i| cells.clone().any(|cell| *cell == i.cell) && history.cells.contains_key(&i.cell))
        .map(|i| Known {
            cell: i.cell.clone(),
            began: i.began,
            ended: i.ended.filter(|ended| *ended > i.began).unwrap_or(i.began + options.unended),
            end_is_assumed: i.ended.is_none_or(|ended| ended <= i.began),
            kind: if i.kind.is_empty() { "not named".to_owned() } else { i.kind.clone() },
            event: i.event.clone(),
        })
        .collect();
    known.sort_by(|a, b| (a.began, &a.cell).cmp(&(b.began, &b.cell)));
    known
}

/// A cell at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) at: Timestamp,
    /// Of failure within the horizon; NaN: nothing was foreseen.
    pub(crate) probability: f32,
    /// The share of its home traffic that is away.
    pub(crate) away: f32,
}

/// A shift of one cell.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShiftTrace {
    pub(crate) cell: CellId,
    pub(crate) reason: ShiftReason,
    pub(crate) began: Timestamp,
    pub(crate) why: String,
    pub(crate) driver: Option<MetricName>,
    pub(crate) probability: Option<f64>,
    pub(crate) done: Option<Timestamp>,
    pub(crate) over: Option<Timestamp>,
    pub(crate) most_away: f64,
    pub(crate) requests_away: f64,
    /// What the ledger says came of it.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) course: Vec<Point>,
}

/// How an incident went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IncidentTrace {
    pub(crate) known: Known,
    /// Whether anything was foreseen of the cell shortly before, so that a warning was possible at all.
    pub(crate) watched: bool,
    /// The share of the cell's traffic that was away when it began.
    pub(crate) away: f64,
    /// Since when all of it was, without a break.
    pub(crate) away_since: Option<Timestamp>,
    /// Cell-seconds of failure that had traffic: seconds weighted by the share of the cell's traffic that was there.
    pub(crate) exposed_s: f64,
    pub(crate) lasted_s: f64,
    pub(crate) failed_requests: f64,
    /// If nothing had been moved.
    pub(crate) all_requests: f64,
    pub(crate) driver: Option<MetricName>,
    pub(crate) probability: Option<f64>,
    pub(crate) course: Vec<Point>,
}

/// All that a replay of one service leaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    pub(crate) shifts: Vec<ShiftTrace>,
    pub(crate) incidents: Vec<IncidentTrace>,
    /// Cell-seconds in which something was foreseen and nothing was wrong.
    pub(crate) exposure_s: f64,
    pub(crate) live_s: f64,
    pub(crate) parked_s: f64,
    pub(crate) requests: f64,
    /// Probability, and whether the cell failed within the horizon.
    pub(crate) rows: Vec<(f64, bool)>,
    /// By rule and level: when the alarm would have stood.
    pub(crate) alarms: Vec<Vec<Vec<Stood>>>,
    /// The recording's end, by cell.
    pub(crate) until: BTreeMap<CellId, Timestamp>,
    /// What a shift takes by the policy, in seconds.
    pub(crate) lead_time_s: f64,
    pub(crate) broken: Vec<String>,
}
