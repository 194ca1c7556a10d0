//! The data plane: a reverse proxy for HTTP/1.1 and HTTP/2, the *director*, that is a process of its own.
//!
//! It applies weights and reports what it saw, and serves its last good state when everything else is gone: health
//! checks, ejection, retries within a budget and stickiness need no controller. Configuration comes over a unix
//! socket and goes to a journal, so that a director that was killed serves again, each user where they were.
//!
//! Existing proxies were measured and fell short in one of two ways: those with a cheap request path can't move an
//! exact share of *users* (their weights are per request or per hash ring), and those that can cost twice the CPU.
//!
//! Start from [`run`] (the process), [`DirectorClient`] (the engine's end of it) and [`DirectorConfig`]. The pure
//! part is [`slots`]: who owns which of 10 000 slots, and who moves when weights change.
//!
//! Threads: the control thread has the socket, the journal, the checks. Each worker has its own runtime, listeners,
//! connections to cells and counters; between threads there are only immutable tables and a few atomics per cell.

mod body;
mod budget;
mod cell;
mod client;
mod control;
mod deadline;
mod director;
mod flight;
mod headers;
mod health;
mod io;
mod journal;
mod proxy;
pub mod slots;
mod state;
mod stats;
mod supervise;
mod sys;
mod table;
mod upstream;
mod validate;
mod wire;
mod worker;

pub use client::{DirectorClient, SOCKET};
pub use director::{DirectorError, DirectorOptions, run, standalone};
pub use wire::{
    ControlRequest, ControlResponse, DirectorConfig, Ejection, HealthCheck, MAX_CONTROL_BYTES, Protocol,
    RetryBudget, ServiceSettings, Sticky,
};
