//! Faults as data, done to real processes, and always undone.
//!
//! A [`Fault`] says what is done to a [`Target`], a [`Ramp`] how it builds up; an [`Injector`] does it. Tools for this mostly undo
//! in the process that injects, and leave their faults behind when that process is killed. Here everything that undoes a
//! fault is on disk before it begins, as a [`Lease`] that must be renewed, and a watchdog process carries it out when its
//! holder is gone or too slow; whatever passes through the kernel's packet filter or a helper process ends by itself too.
//!
//! The program must call [`helper_main`] first thing when its first argument is [`HELPER_ARGUMENT`]: watchdog and helpers are the
//! program itself. Linux only. [`Ramp`] and [`Fault`] are pure data.

mod clock;
pub mod drill;
pub mod experiment;
mod fault;
mod helper;
mod inject;
pub mod label;
mod lease;
mod network;
mod proc;
mod ramp;
pub mod run;
mod target;
mod undo;
mod watchdog;

pub use clock::{CLOCK_VARIABLE, install_library, new_clock_file};
pub use fault::{DnsFailure, Fault, FaultProblem, Foresight};
pub use helper::{HELPER_ARGUMENT, helper_main};
pub use inject::{DEFAULT_TTL, InjectError, Injection, Injector};
pub use lease::{Lease, LeaseBook, LeaseError, Swept};
pub use proc::ProcessId;
pub use ramp::Ramp;
pub use target::Target;
pub use undo::{FileLimit, Undo};
