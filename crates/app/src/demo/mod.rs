//! `forefend demo`: two regions of a real sample service as sandboxed cells, real traffic, four acts; each with prediction and
//! without.
//!
//! The processes are those of `forefend serve`: a director and an engine, started from a configuration file that is
//! written to a temporary directory. This process plays the users (`load`), does the harm (`stage`) and counts what the
//! users met (`acts`).

mod acts;
mod caretaker;
mod figures;
mod load;
mod script;
mod stage;
mod view;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

pub use caretaker::CaretakerArguments;
pub(crate) use caretaker::attend;
pub use figures::{ActFigures, Figures, Report};
pub use script::configuration;

/// What to show.
#[derive(Debug, Clone, Args)]
pub struct DemoArguments {
    /// Draws no live view; what happens is told line by line on stderr.
    #[arg(long)]
    headless: bool,
    /// Ends with one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// Plays only the acts of these letters, for example `ad`.
    #[arg(long, default_value = "abcd")]
    acts: String,
    /// Leaves out the run without prediction.
    #[arg(long)]
    predictive_only: bool,
    /// Keeps everything running after the last act until Ctrl-C, for a look at the dashboard.
    #[arg(long)]
    keep: bool,
    /// Keeps the files of the run (logs, ledger, cells' data) in this directory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the dashboard listens; by default 127.0.0.1:7700, or any free port when that is taken.
    #[arg(long)]
    api_port: Option<u16>,
}

/// Plays the demo.
#[must_use]
pub fn run(arguments: &DemoArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the demo's runtime can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(play(arguments)) {
        Ok(report) => {
            if arguments.json {
                match serde_json::to_string(&report) {
                    Ok(line) => println!("{line}"),
                    Err(error) => {
                        eprintln!("error: {error}");
                        return ExitCode::FAILURE;
                    }
                }
            } else {
                println!("{}", report.table());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(arguments: &DemoArguments) -> Result<Report, DemoError> {
    let letters: Vec<char> = arguments.acts.chars().collect();
    if let Some(wrong) = letters.iter().find(|c| script::Act::from_letter(**c).is_none()) {
        return Err(DemoError::new(format!("there is no act `{wrong}`: the acts are a, b, c and d")));
    }
    let wanted: Vec<script::Act> = letters.iter().filter_map(|c| script::Act::from_letter(*c)).collect();
    tokio::select! {
        report = acts::play_all(arguments, &wanted) => report,
        told = told_to_end() => {
            told?;
            Err(DemoError::new("interrupted; everything that was started has been stopped"))
        }
    }
}

/// Returns at Ctrl-C, at SIGTERM, and when the terminal goes away.
async fn told_to_end() -> Result<(), DemoError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// The demo could not be played.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DemoError(String);

impl DemoError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl From<std::io::Error> for DemoError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<crate::api::client::ClientError> for DemoError {
    fn from(error: crate::api::client::ClientError) -> Self {
        Self(error.to_string())
    }
}
