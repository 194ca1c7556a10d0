//! The engine's process: everything but the data plane. It chooses the drivers, runs the loop, and watches the director.

mod asked;
pub(crate) mod assemble;
mod begin;
mod blueprints;
mod clock;
mod director;
mod gate;
mod history;
mod models;
mod past;
mod ports;
mod pushes;
mod reload;
mod run;
mod targets;
mod wake;

use std::{ffi::OsString, path::PathBuf, time::Duration};

pub use run::run;

/// How an engine is started.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// Whether the engine starts a director and keeps it running. Otherwise one runs elsewhere on the same state directory.
    pub keeps_director: bool,
    /// The command line that starts this engine again; handed to the director it starts.
    pub respawn: Vec<OsString>,
    /// Whether anything is forecast. Without, the reactive floor alone protects: what prediction is measured against.
    pub forecast: bool,
    /// Accepts every protection that this host lacks, whatever the file says; each is still named in the log.
    pub accept_missing_protections: bool,
}

/// The engine could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] forefend_config::ConfigErrors),
    /// A file or directory can't be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] forefend_store::StoreError),
    /// Cells can't be made.
    #[error(transparent)]
    Cells(#[from] forefend_cells::SandboxError),
    /// A blueprint is wrong.
    #[error(transparent)]
    Blueprint(#[from] forefend_cells::BlueprintError),
    /// The API can't start.
    #[error(transparent)]
    Api(#[from] crate::api::ServeError),
    /// Pushed telemetry can't be taken.
    #[error(transparent)]
    Receive(#[from] crate::receive::ReceiveError),
    /// A Prometheus can't be asked.
    #[error("engine.prometheus.{0}")]
    Prometheus(String),
    /// The loop can't start.
    #[error(transparent)]
    Controller(#[from] forefend_control::ControllerError),
    /// Learned models can't be kept.
    #[error(transparent)]
    Models(#[from] forefend_learn::practice::RegistryError),
    /// A token can't be read.
    #[error("{0}")]
    Token(String),
    /// The director does not come up.
    #[error("the director did not answer within {0:?}: see {1}")]
    Director(Duration, PathBuf),
}

impl EngineError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Checks the file's blueprints as the driver would.
///
/// # Errors
/// What is wrong with the first that is wrong.
pub fn check_blueprints(config: &forefend_config::Config) -> Result<(), forefend_cells::BlueprintError> {
    blueprints::checked(config).map(drop)
}

/// Whether a director works on this state directory: it holds the lock there as long as it lives.
#[must_use]
pub fn director_runs(director_dir: &std::path::Path) -> bool {
    use nix::fcntl::{Flock, FlockArg};
    let Ok(file) = std::fs::File::open(director_dir.join("director.lock")) else { return false };
    matches!(Flock::lock(file, FlockArg::LockExclusiveNonblock), Err((_, nix::errno::Errno::EWOULDBLOCK)))
}

/// Stops and removes every cell that was made on the configuration's state directory, while no engine runs on it.
///
/// # Errors
/// When the cells can't be taken over.
pub fn remove_cells(config: &forefend_config::Config, patience: Duration) -> Result<usize, EngineError> {
    use forefend_domain::ports::{CellCommand, CellDriver as _};
    let options = forefend_cells::SandboxOptions::new(&config.engine.state_dir);
    let source = std::sync::Arc::new(forefend_cells::InMemoryBlueprints::default());
    let mut driver = forefend_cells::SandboxDriver::new(options, source)?;
    let cells: Vec<forefend_domain::CellId> = driver.observe().into_iter().map(|o| o.cell.id).collect();
    for cell in &cells {
        // Retiring what is there can't be refused; what is gone is retired.
        let _ = driver.request(CellCommand::Retire { cell: cell.clone() });
    }
    let deadline = std::time::Instant::now() + patience;
    while !driver.observe().is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(cells.len() - driver.observe().len())
}
