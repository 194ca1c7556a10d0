//! Faults as data, done to real processes, and always undone.
//!
//! A [`Fault`] says what is done to a [`Target`], a [`Ramp`] how it builds up.

mod fault;
mod ramp;
mod target;

pub use fault::{DnsFailure, Fault, FaultProblem, Foresight};
pub use ramp::Ramp;
pub use target::Target;
