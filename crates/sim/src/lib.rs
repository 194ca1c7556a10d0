//! The real control loop on a made-up world.
//!
//! Clock, cells, telemetry, data plane, store and every failure of them come from one seed. The loop under test is
//! the production one ([`forefend_control::Controller`]), not a model of it; only what the ports reach is made up. At
//! every tick the invariants of [`forefend_decide::invariants`] are asked, and the world itself checks what only it
//! can know: that weight goes to cells that really are ready, that nothing is done before it is in the ledger, that a freeze holds, and
//! that after the last fault everything comes home.
//!
//! Start from [`run`]. The same seed gives the same run, byte for byte. [`backtest`] runs the same loop on a recorded past.

pub mod backtest;
mod faults;
mod ports;
mod random;
mod run;
mod state;
mod topology;

pub use run::{Finding, Options, Outcome, run};
