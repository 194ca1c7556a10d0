//! Blueprints, and the driver that makes cells of them.
//!
//! A [`Blueprint`] says what a cell is made from and how it is warmed up. [`SandboxDriver`] makes cells as confined
//! processes of this machine: namespaces, control groups (v1, v2 or both at once), no capabilities, a system call filter,
//! Landlock and a read-only root. Each of these protections is tried out ([`Protections`]); a machine that lacks one is
//! refused unless [`AcceptMissing`] says otherwise.
//!
//! Why not a container engine: a sandbox starts in milliseconds, parks in less, and needs nothing installed. Drivers for
//! container engines stand beside it behind the same port, [`forefend_domain::ports::CellDriver`], and run the same
//! [`conformance`] suite.
//!
//! The program must call [`init_main`] first thing when its first argument is [`INIT_ARGUMENT`]: cells are started through it.
//! Cells outlive the engine. All that is needed to find them again is on disk and in the kernel, so the engine may be killed
//! at any instant.

mod blueprint;
mod cgroup;
pub mod conformance;
mod driver;
mod http;
mod init;
mod process;
mod protection;
mod record;
mod source;
mod sys;
mod units;
mod validate;
mod warm_up;

pub use blueprint::{
    Blueprint, BlueprintError, Dependency, EnvReference, EnvValue, Image, Network, Readiness, Replay,
    ReplayMethod, Resources, WarmUp,
};
pub use driver::{CellUsage, ClockLibrary, SandboxDriver, SandboxError, SandboxOptions};
pub use init::{INIT_ARGUMENT, init_main};
pub use protection::{AcceptMissing, Protection, Protections};
pub use source::{BlueprintSource, CheckedBlueprint, InMemoryBlueprints};
