//! Records of logs on their way to numbers.

use std::collections::BTreeMap;

use forefend_domain::{CellId, Family, MetricKind, MetricName, Timestamp};

use super::shared::State;
use crate::{pushed::Severity, series::MetricSpec};

/// A record of a cell's log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRecord {
    /// Of whom.
    pub cell: CellId,
    /// When it happened.
    pub at: Timestamp,
    /// How bad it is.
    pub severity: Severity,
    /// Its text.
    pub body: String,
}

/// Records of one cell by severity, since the cell is known.
pub(super) struct LogTotals(BTreeMap<Severity, u64>);

impl Default for LogTotals {
    /// The bad ones are counted from the start, so that the first burst of them is a burst and not the beginning of a count.
    fn default() -> Self {
        Self([Severity::Warn, Severity::Error, Severity::Fatal].into_iter().map(|s| (s, 0)).collect())
    }
}

/// The one place where records of logs come in.
pub(super) fn take_log(state: &mut State, record: &LogRecord) {
    let of_cell = state.pushes.cells.entry(record.cell.clone()).or_default();
    *of_cell.logs.0.entry(record.severity).or_default() += 1;
}

/// Puts the totals of a cell into its windows, as of the time they were counted: when the cell wrote a record tells
/// less, for records come late and in any order. The first problem, in words.
pub(super) fn record_totals(state: &mut State, cell: &CellId, now: Timestamp) -> Option<String> {
    let totals = &state.pushes.cells.get(cell)?.logs.0;
    let observed: Vec<(MetricSpec, u64)> = totals.iter().map(|(s, total)| (spec(*s), *total)).collect();
    state.record(cell, observed.iter().map(|(spec, total)| (spec, now, Some(*total as f64))))
}

fn spec(severity: Severity) -> MetricSpec {
    MetricSpec {
        name: MetricName::new(&format!("log.records{{severity={:?}}}", severity.word())),
        family: Family::Logs,
        kind: MetricKind::Unbounded,
        unit: "1/s".to_owned(),
        limit: None,
        counter: true,
    }
}
