//! Experiments and drills from the command line.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use forefend_chaos::experiment;
use serde_json::{Value, json};

use super::{Failure, Output, Remote, remote::client};

#[derive(Debug, Args)]
pub(super) struct DrillArguments {
    #[command(subcommand)]
    command: DrillCommand,
}

#[derive(Debug, Subcommand)]
enum DrillCommand {
    /// Checks the file of an experiment and says what is wrong, where, and what would be right.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Prints the JSON Schema of an experiment's file.
    Schema,
    /// Says what a run would do now, to which cells, and what would refuse it. Does nothing.
    Plan {
        /// The experiment's file.
        file: PathBuf,
        /// Chooses the cells where there is a choice.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        #[command(flatten)]
        remote: Remote,
    },
    /// Begins a run. `forefend drill list` tells how it goes.
    Run {
        /// The experiment's file.
        file: PathBuf,
        /// Chooses the cells where there is a choice.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists runs, newest first.
    List(Remote),
    /// Prints the report of a run that is over.
    Report {
        /// Which run.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Agrees to a run that waits for it.
    Approve {
        /// Which run.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Ends a run now: faults are undone, traffic goes home.
    End {
        /// Which run.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

pub(super) fn run(arguments: &DrillArguments) -> Result<(), Failure> {
    match &arguments.command {
        DrillCommand::Check { file } => check(file),
        DrillCommand::Schema => {
            println!("{}", serde_json::to_string_pretty(&experiment::experiment_schema())?);
            Ok(())
        }
        DrillCommand::Plan { file, seed, remote } => begin("plan", file, *seed, remote),
        DrillCommand::Run { file, seed, remote } => begin("run", file, *seed, remote),
        DrillCommand::List(remote) => list(remote),
        DrillCommand::Report { id, remote } => {
            let answer: Value = client(remote)?.get_blocking(&format!("/api/v1/drills/{id}"))?;
            tell(remote, &answer);
            Ok(())
        }
        DrillCommand::Approve { id, remote } => {
            post(remote, &format!("/api/v1/drills/{id}/approve"), &json!({}))
        }
        DrillCommand::End { id, remote } => post(remote, &format!("/api/v1/drills/{id}/end"), &json!({})),
    }
}

fn check(file: &Path) -> Result<(), Failure> {
    let experiment = experiment::load(file).map_err(|problems| problems.to_string())?;
    let what = if experiment.is_drill() { "the drill of an outage" } else { "an experiment" };
    println!("{} is fine: {what} of {}", file.display(), experiment.service());
    Ok(())
}

fn begin(what: &str, file: &Path, seed: u64, remote: &Remote) -> Result<(), Failure> {
    // Checked here first, where the file's name is known.
    experiment::load(file).map_err(|problems| problems.to_string())?;
    let text = std::fs::read_to_string(file)?;
    post(remote, &format!("/api/v1/drills/{what}"), &json!({ "experiment": text, "seed": seed }))
}

fn post(remote: &Remote, path: &str, body: &Value) -> Result<(), Failure> {
    let answer: Value = client(remote)?.post_blocking(path, body)?;
    tell(remote, &answer);
    Ok(())
}

fn tell(remote: &Remote, answer: &Value) {
    match (remote.output, answer.get("result").and_then(Value::as_str)) {
        (Output::Table, Some(text)) => println!("{}", text.trim_end()),
        _ => println!("{answer}"),
    }
}

fn list(remote: &Remote) -> Result<(), Failure> {
    let answer: Value = client(remote)?.get_blocking("/api/v1/drills")?;
    if remote.output == Output::Json {
        println!("{answer}");
        return Ok(());
    }
    let runs = answer["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if runs.is_empty() {
        println!("no run yet: `forefend drill run FILE` begins one");
    }
    for run in runs {
        let word = |key: &str| run[key].as_str().unwrap_or_default();
        println!("{}  {}  {}", word("id"), word("service"), word("state"));
    }
    Ok(())
}
