use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use forefend_traffic::{DirectorClient, DirectorOptions};

use super::Failure;
use crate::engine::{self, EngineOptions};

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// Which processes run here.
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
    /// Forecasts nothing: the reactive floor alone protects.
    #[arg(long, hide = true)]
    no_forecast: bool,
    /// Accepts every protection that this host lacks.
    #[arg(long, hide = true)]
    accept_missing_protections: bool,
}

/// The processes of Forefend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Director and engine, each watching the other.
    All,
    /// The data plane alone.
    Director,
    /// Everything else, with a director that runs already on the same state directory.
    Engine,
}

#[derive(Debug, Args)]
pub(super) struct StopArguments {
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// Also stops and removes the cells made from blueprints, with their data.
    #[arg(long)]
    cells: bool,
}

pub(super) fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    super::log_to_stderr();
    let config = arguments.config.canonicalize().map_err(|e| {
        format!(
            "{}: {e}; name an existing file, or begin with examples/two-nginx.yaml",
            arguments.config.display()
        )
    })?;
    if arguments.role == Role::Director {
        return direct(&config);
    }
    let options = EngineOptions {
        respawn: respawn(&config, arguments)?,
        config,
        keeps_director: arguments.role == Role::All,
        forecast: !arguments.no_forecast,
        accept_missing_protections: arguments.accept_missing_protections,
    };
    Ok(engine::run(&options)?)
}

/// The command line that starts this engine again, wherever it is started from.
fn respawn(config: &Path, arguments: &ServeArguments) -> Result<Vec<OsString>, Failure> {
    let mut argv: Vec<OsString> =
        vec![std::env::current_exe()?.into(), "serve".into(), "--config".into(), config.into()];
    if arguments.no_forecast {
        argv.push("--no-forecast".into());
    }
    if arguments.accept_missing_protections {
        argv.push("--accept-missing-protections".into());
    }
    Ok(argv)
}

fn direct(config: &Path) -> Result<(), Failure> {
    let config = forefend_config::load(config)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = config.director.workers.map_or(cores, |w| w as usize);
    let options = DirectorOptions { workers, ..DirectorOptions::new(&director_dir(&config)) };
    Ok(forefend_traffic::run(options)?)
}

fn director_dir(config: &forefend_config::Config) -> PathBuf {
    config.engine.state_dir.join("director")
}

/// How long an end may take before we stop waiting for it.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn stop(arguments: &StopArguments) -> Result<(), Failure> {
    let config = forefend_config::load(&arguments.config)?;
    let dir = director_dir(&config);
    let mut client = DirectorClient::new(&dir, Duration::from_secs(5), BTreeMap::new());
    // An engine that still runs would start the director again.
    if engine_runs(&config) {
        return Err("the engine still runs: end it first (Ctrl-C, or SIGTERM to `forefend serve`)".into());
    }
    match client.shutdown(true) {
        Ok(()) => {
            let deadline = Instant::now() + PATIENCE;
            while engine::director_runs(&dir) {
                if Instant::now() >= deadline {
                    return Err(format!("the director has not ended within {PATIENCE:?}").into());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            println!("the director has ended");
        }
        Err(error) => println!("no director runs: {error}"),
    }
    if arguments.cells {
        let removed = engine::remove_cells(&config, PATIENCE)?;
        println!("{removed} cells were stopped and removed");
    }
    Ok(())
}

/// The ledger's lock tells whether an engine works on this state directory.
fn engine_runs(config: &forefend_config::Config) -> bool {
    let path = config.engine.state_dir.join("ledger.redb");
    path.exists()
        && matches!(forefend_store::RedbStore::open(&path), Err(forefend_store::StoreError::Locked { .. }))
}
