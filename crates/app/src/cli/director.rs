use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use forefend_domain::Weight;
use forefend_traffic::{DirectorOptions, HealthCheck, ServiceSettings};

use super::Failure;

#[derive(Debug, Args)]
pub(super) struct DirectorArguments {
    /// Where journal and control socket are.
    #[arg(long)]
    state_dir: PathBuf,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Serves one service by itself, with no engine: where clients connect.
    #[arg(long, requires = "cell")]
    listen: Option<SocketAddr>,
    /// A cell of that service, `ADDRESS=BASIS_POINTS`; all add up to 10000.
    #[arg(long, value_parser = cell)]
    cell: Vec<(SocketAddr, Weight)>,
    /// The path of that service's health checks; empty: none.
    #[arg(long, default_value = "/")]
    health_path: String,
    /// Milliseconds between health checks of a cell.
    #[arg(long, default_value_t = 1_000)]
    health_interval_ms: u64,
    /// Milliseconds for one try.
    #[arg(long, default_value_t = 1_000)]
    try_timeout_ms: u64,
    /// The command line that starts the engine again should it die. Takes all that follows.
    #[arg(long, num_args = 1.., allow_hyphen_values = true)]
    respawn_engine: Vec<OsString>,
}

fn cell(text: &str) -> Result<(SocketAddr, Weight), String> {
    let wrong = || format!("`{text}` is not `ADDRESS=BASIS_POINTS`");
    let (address, bp) = text.split_once('=').ok_or_else(wrong)?;
    let weight = bp.parse().ok().and_then(|bp| Weight::from_bp(bp).ok()).ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, weight))
}

pub(super) fn run(arguments: &DirectorArguments) -> Result<(), Failure> {
    super::log_to_stderr();
    if let Some(listen) = arguments.listen {
        let interval = Duration::from_millis(arguments.health_interval_ms);
        let settings = ServiceSettings {
            try_timeout: Duration::from_millis(arguments.try_timeout_ms),
            health: HealthCheck {
                path: arguments.health_path.clone(),
                interval,
                timeout: interval.min(Duration::from_millis(500)),
                ..HealthCheck::default()
            },
            ..ServiceSettings::default()
        };
        return Ok(forefend_traffic::standalone(
            listen,
            &arguments.cell,
            settings,
            &arguments.state_dir,
            arguments.workers,
        )?);
    }
    let respawn = (!arguments.respawn_engine.is_empty()).then(|| arguments.respawn_engine.clone());
    let options = DirectorOptions {
        workers: arguments.workers,
        respawn_engine: respawn,
        ..DirectorOptions::new(&arguments.state_dir)
    };
    Ok(forefend_traffic::run(options)?)
}
