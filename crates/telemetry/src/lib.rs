//! Observations in, aligned windows out.
//!
//! The parts are pure wherever they can be: [`exposition`] reads what a cell exposes, [`select`] picks metrics from
//! it, [`host`] reads what the kernel says of a process and its cgroup, [`series`] keeps recent samples and makes
//! aligned windows of them, [`remote_write`] and [`otlp`] read what is pushed, [`objective`] judges whether a cell keeps its objective,
//! [`logs`] makes rates of lines. Thin shells do the I/O: [`scrape`] and [`probe`] over the network, [`logs::follow`] on files, and
//! [`prometheus`] on a Prometheus that is there already, and [`Collector`], which runs them for a changing set of targets and
//! is the [`forefend_domain::ports::TelemetrySource`] of the control loop. Start from [`Collector`].
//!
//! What was not measured stays a gap: no part of this crate turns absence into zero, or into health.

mod access;
mod buckets;
pub mod catalogue;
pub mod collector;
pub mod exposition;
mod fetch;
pub mod history;
pub mod host;
pub mod inflate;
pub mod logs;
pub mod objective;
pub mod otlp;
pub mod probe;
pub mod prometheus;
pub mod pushed;
pub mod remote_write;
pub mod scrape;
pub mod select;
pub mod series;
mod wire;

pub use access::{Access, AccessError};
pub use collector::{
    Collector, CollectorOptions, HostTarget, Identity, Intake, Newest, Problem, PushTarget, Report, Source,
    Target,
};
pub use fetch::FetchError;
pub use logs::{LogOptions, LogTarget};
pub use objective::{ObjectiveTracker, ProbeTiming, TrafficDelta};
pub use probe::ProbeTarget;
pub use scrape::ScrapeTarget;
pub use select::MetricSelector;
pub use series::{MetricSpec, SeriesStore, StoreOptions, TooManySeries};
