//! What the telemetry crate promises, part by part and together over real sockets.

#![expect(clippy::unwrap_used, reason = "in a test, what can't go on shall fail where it stands")]

mod collector;
mod exposition;
mod history;
mod history_prometheus;
mod history_store;
mod host;
mod intake;
mod logs;
mod objective;
mod otlp;
mod prometheus;
mod remote_write;
mod select;
mod series;
mod server;
