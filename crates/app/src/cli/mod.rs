//! The command line: a thin `match` over subcommands.

mod backtest;
mod director;
mod drill;
mod explained;
mod files;
mod forecast;
mod forecast_words;
mod models;
mod past;
mod remote;
mod serve;
mod show;
mod terminal;
mod train;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use forefend_domain::CellId;

use crate::demo::DemoArguments;

/// Predictive failover: moves traffic before a cell fails, and gives it back when it does not.
#[derive(Debug, Parser)]
#[command(name = "forefend", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows it at work: two regions of a sample service, real traffic, four acts, with prediction and without.
    Demo(DemoArguments),
    /// Protects the services of a configuration file.
    Serve(serve::ServeArguments),
    /// Ends the director of a configuration (requests in flight finish), and its cells if asked to.
    Stop(serve::StopArguments),
    /// Checks a configuration file and says what is wrong, where, and what would be right.
    Check {
        /// The file.
        file: PathBuf,
        /// How problems are printed.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Prints the JSON Schema of the configuration file.
    Schema,
    /// Shows every cell: risk, time to failure, weights, what is next.
    Status(Remote),
    /// Explains what is foreseen for a cell, why, what holds its traffic where it is, and which past failures looked like it.
    Explain {
        /// Which cell.
        cell: CellId,
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows the newest decisions and what came of them.
    Ledger {
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        remote: Remote,
    },
    /// Stops every growth of a standby's weight, every creation and every removal, at once.
    Freeze(Remote),
    /// Ends a freeze.
    Unfreeze(Remote),
    /// Moves a share of a cell's traffic away by hand, in the same guarded steps; `0%` brings it home.
    Shift {
        /// Whose traffic.
        cell: CellId,
        /// How much of it, for example `25%`.
        #[arg(value_parser = files::percent)]
        share: forefend_domain::Weight,
        #[command(flatten)]
        remote: Remote,
    },
    /// Approves the shift that the engine asks for.
    Approve {
        /// Whose traffic.
        cell: CellId,
        #[command(flatten)]
        remote: Remote,
    },
    /// Replays recorded telemetry and incidents: what would have moved, when, and what it would have been good for.
    Backtest(backtest::BacktestArguments),
    /// Experiments and drills: faults on purpose, with guard rails, and what was learnt from them.
    Drill(drill::DrillArguments),
    /// Learns from recorded telemetry and past incidents, and puts what was learned before the gate.
    Train(train::TrainArguments),
    /// Forecasts a metric of a cell, or the load of a service, from its recorded past: expected values with their interval, trend, seasons, and when a limit is reached.
    Forecast(forecast::ForecastArguments),
    /// Learned models: who serves, who is tried in the shadow, promotion and rollback.
    Models(models::ModelsArguments),
    /// Tells of a failure that nothing here has noticed, so that it is learned from.
    Incident(models::IncidentArguments),
    /// The data plane as a process of its own; `serve` starts it.
    #[command(hide = true)]
    Director(director::DirectorArguments),
    /// Clears up behind a demo that was killed; `demo` starts it.
    #[command(hide = true)]
    Caretaker(crate::demo::CaretakerArguments),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Which engine to ask.
#[derive(Debug, Args)]
struct Remote {
    /// The address of its API.
    #[arg(long, default_value = "http://127.0.0.1:7700", env = "FOREFEND_API")]
    api: String,
    /// The token, if the API demands one; better in the variable than on the command line.
    #[arg(long, env = "FOREFEND_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Reads the command line and does it.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Demo(arguments) => return crate::demo::run(&arguments),
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Stop(arguments) => serve::stop(&arguments),
        Command::Check { file, output } => return files::check(&file, output),
        Command::Schema => files::schema(),
        Command::Status(remote) => show::status(&remote),
        Command::Explain { cell, remote } => show::explain(&cell, &remote),
        Command::Ledger { limit, remote } => show::ledger(limit, &remote),
        Command::Freeze(remote) => remote::freeze(&remote, true),
        Command::Unfreeze(remote) => remote::freeze(&remote, false),
        Command::Shift { cell, share, remote } => remote::shift(&cell, share, &remote),
        Command::Approve { cell, remote } => remote::approve(&cell, &remote),
        Command::Backtest(arguments) => backtest::run(&arguments),
        Command::Drill(arguments) => drill::run(&arguments),
        Command::Train(arguments) => train::train(&arguments),
        Command::Forecast(arguments) => forecast::run(&arguments),
        Command::Models(arguments) => models::run(&arguments),
        Command::Incident(arguments) => models::incident(&arguments),
        Command::Director(arguments) => director::run(&arguments),
        Command::Caretaker(arguments) => crate::demo::attend(&arguments).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

pub(crate) use forecast_words::reached;

type Failure = Box<dyn std::error::Error>;

/// Logs go to stderr, so that stdout stays for results.
pub(crate) fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FOREFEND_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second call in one process finds the first in place, and that is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init();
}

/// What tests elsewhere in the crate need of here.
#[cfg(test)]
pub(crate) mod tests_support {
    /// A service of which nothing is written down.
    pub(crate) fn standard() -> forefend_domain::Service {
        super::backtest::standard().expect("a legal name")
    }
}
