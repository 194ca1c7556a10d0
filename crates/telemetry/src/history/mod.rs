//! What was recorded of cells: their telemetry over hours and weeks, and the incidents in it.
//!
//! A history is read from somewhere (files, an existing Prometheus, the engine's own store), held as plain values, and turned into the same aligned windows that are
//! predicted from live. So training and backtests see what production sees.

mod incident;
mod recorded;

pub use incident::{Incident, IncidentSource};
pub use recorded::{CellHistory, History, RecordedSeries};
