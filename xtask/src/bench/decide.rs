//! `bench decide`: a package of its own does the work, in this very process's place.

use anyhow::{Context, Result, ensure};

use super::BenchArguments;
use crate::workspace::release_build;

/// What a tick of the loop costs.
const CASES: [&str; 3] = ["10k", "100k", "100k-vs-10k"];

/// Builds what is needed and runs the cases that were asked for.
///
/// # Errors
/// When a case is not known or fails.
pub(super) fn run(arguments: &BenchArguments) -> Result<()> {
    let wanted = arguments.cases(&CASES)?;
    let mut command = std::process::Command::new(release_build(&["xtask-decide"])?.join("xtask-decide"));
    command.args(["--rounds", &arguments.rounds.to_string()]);
    if arguments.json {
        command.arg("--json");
    }
    for case in &wanted {
        command.args(["--case", *case]);
    }
    let status = command.status().context("xtask-decide")?;
    ensure!(status.success(), "xtask-decide ended with {status}");
    Ok(())
}
