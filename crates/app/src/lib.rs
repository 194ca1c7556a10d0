//! The parts of the `forefend` binary: the command line, the engine's process, the API with its dashboard, the demo.

pub mod api;
pub mod backtest;
pub mod cli;
pub mod demo;
pub mod drills;
pub mod engine;
mod listen;
pub mod models;
mod outlooks;
mod receive;
