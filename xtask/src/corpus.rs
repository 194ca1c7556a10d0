//! `cargo xtask corpus`: a package of its own does the work, so that this one stays quick to compile.

use std::ffi::OsString;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::workspace::{cargo, target_dir};

/// What is passed on.
#[derive(Args)]
pub(crate) struct CorpusArguments {
    /// `record`, `check`, `score`, `learn`, `export` or `card` with its options; `--help` tells more.
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

/// A reduced set, of every way of every kind one: most of it must come out as meant, whatever else the machine does.
///
/// # Errors
/// As [`run`]. Where faults are not possible, for want of root, it is left out and that is said.
pub(crate) fn ci() -> Result<()> {
    if !is_root() {
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "CI must run as root");
        println!("SKIPPED: recording needs root");
        return Ok(());
    }
    let rest = ["record", "--reduced", "--as-meant", "80"].map(OsString::from).into();
    run(&CorpusArguments { rest })
}

fn is_root() -> bool {
    let metadata = std::fs::metadata("/proc/self");
    metadata.is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
