//! What was recorded of cells: their telemetry over hours and weeks, and the incidents in it.
//!
//! A history is read from somewhere (files, an existing Prometheus, the engine's own store), held as plain values, and turned into the same aligned windows that are
//! predicted from live. So training and backtests see what production sees.

mod error;
mod file;
mod incident;
mod incident_file;
mod load;
pub mod prometheus;
mod recorded;
mod rows;
mod source;
pub mod store;
mod words;

pub use error::{Complaint, HistoryError};
pub use file::parquet_write::write_parquet;
pub use incident::{Incident, IncidentSource};
pub use incident_file::{parse_incidents, read_incidents};
pub use load::{LoadOptions, load, load_outcomes, parse_csv};
pub use recorded::{CellHistory, History, RecordedSeries};
pub use source::{HistorySource, PrometheusUrl};
pub use words::{instant, instant_word};
