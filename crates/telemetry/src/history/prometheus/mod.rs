//! An existing Prometheus as a source: which expressions are which metrics of which cells, and how they are asked for.

mod mapping;
mod query;
mod read;

pub use mapping::{MappedMetric, Mapping, MappingError, Query};
pub(super) use read::read;
