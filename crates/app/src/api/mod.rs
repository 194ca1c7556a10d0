//! The HTTP API and the dashboard.
//!
//! [`serve`] answers from what the engine publishes ([`EngineHandle`]) and never touches the loop: reading is a look at
//! the last [`Snapshot`](forefend_control::Snapshot), writing is an operator's command handed to the engine, which
//! answers whether it took it up. Nothing here can slow a tick: snapshots come through a `watch` channel, commands
//! go through a bounded one and are refused when it is full.
//!
//! Without tokens it listens on loopback only, and refuses to be built otherwise.

mod assets;
mod auth;
pub mod client;
mod commands;
mod drills;
mod events;
pub mod explain;
pub mod explanation;
mod guard;
mod handle;
mod memory_history;
mod metrics;
mod models;
mod problem;
mod routes;
mod server;
mod view;

pub use auth::{Role, Token};
pub use drills::{DrillRequest, DrillsHandle};
pub use handle::{
    EngineHandle, EvidenceHandle, History, HistoryPoint, MetricNow, OperatorRequest, WindowsRequest,
};
pub use memory_history::MemoryHistory;
pub use models::{ModelRequest, ModelsHandle};
pub use problem::Problem;
pub use routes::{OPENAPI, RouteInfo, route_table};
pub use server::{ApiOptions, ServeError, Server, serve};
pub use view::{CellDetail, CellSummary, CellWeights, SnapshotView, WeightBound};
