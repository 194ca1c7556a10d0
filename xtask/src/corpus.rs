//! `cargo xtask corpus`: a package of its own does the work, so that this one stays quick to compile.

use std::ffi::OsString;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::workspace::{cargo, target_dir};

/// What is passed on.
#[derive(Args)]
pub(crate) struct CorpusArguments {
    /// `record`, `check`, `score` or `card` with its options; `--help` tells more.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Builds the recorder and the sample service, and runs the recorder.
///
/// # Errors
/// When they do not build, or the recorder fails.
pub(crate) fn run(arguments: &CorpusArguments) -> Result<()> {
    // Servers are what is measured, and they are release builds of others; ours need not be optimised to the last.
    let built = cargo()
        .args(["build", "--quiet", "--package", "xtask-corpus", "--package", "forefend-shop", "--bins"])
        .status()
        .context("cargo build")?;
    ensure!(built.success(), "the recorder does not build: {built}");
    let program = target_dir()?.join("debug/xtask-corpus");
    let status = std::process::Command::new(&program)
        .args(&arguments.rest)
        .current_dir(crate::workspace::root())
        .status()
        .with_context(|| format!("can't run {}", program.display()))?;
    ensure!(status.success(), "the recorder ended with {status}");
    Ok(())
}
