//! The failure corpus: real servers under realistic load, some of which fail, recorded with everything that can be measured of
//! them. Run it as `cargo xtask corpus COMMAND`.
//!
//! [`spec`] says from seeds what shall happen, [`episode`] makes it happen to a real [`subject`] in a [`place`] of its own
//! under the [`load`] of users with its [`cause`]s, [`sample`] measures, [`outcome`] judges, [`table`] keeps.

mod alarm;
mod card;
mod cause;
mod check;
mod clock;
mod episode;
mod export;
mod intervals;
mod keep;
mod launch;
mod learned;
mod load;
mod outcome;
mod pace;
mod peers;
mod place;
mod programs;
mod record;
mod sample;
mod score;
mod shown;
mod spec;
mod subject;
mod table;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Records, checks and describes the failure corpus, and scores the model of the first day on it.
#[derive(Parser)]
#[command(name = "cargo xtask corpus", bin_name = "cargo xtask corpus")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the episodes of a seed and records them.
    Record(record::RecordArguments),
    /// Compares two recordings of the same seed: same episodes, same outcomes, telemetry alike.
    Check(check::CheckArguments),
    /// Scores the model of the first day on a recording.
    Score(score::ScoreArguments),
    /// Scores models that learn from a recording, each on episodes that it has not seen.
    Learn(learned::LearnArguments),
    /// Turns a recording into a history with incidents, for `forefend backtest` and training.
    Export(export::ExportArguments),
    /// Writes the data card of a recording, with plots.
    Card {
        /// The recording; the card goes beside it.
        #[arg(long, default_value = "data/corpus")]
        data: PathBuf,
    },
    /// Becomes a server inside its control groups.
    #[command(hide = true)]
    Launch(launch::LaunchArguments),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some(forefend_chaos::HELPER_ARGUMENT) {
        return helper(arguments.collect());
    }
    let result = match Arguments::parse().command {
        Command::Record(arguments) => record::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Learn(arguments) => learned::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Card { data } => card::write(&data),
        Command::Launch(arguments) => launch::launch(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A process of the fault library: this program, started again.
fn helper(arguments: Vec<String>) -> ExitCode {
    ExitCode::from(u8::try_from(forefend_chaos::helper_main(&arguments)).unwrap_or(1))
}
