//! The Python package `prophet`, measured in the same run.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{Said, series::Task};

const SCRIPT: &str = include_str!("prophet.py");

/// What the script says of a task.
#[derive(Deserialize)]
struct Forecast {
    fit_s: f64,
    yhat: Vec<f64>,
    yhat_lower: Vec<f64>,
    yhat_upper: Vec<f64>,
}

/// What prophet says of each task.
///
/// # Errors
/// When no Python with the package is found, or it fails.
pub(super) fn prophet(tasks: &[Task]) -> Result<Vec<Said>> {
    let python = python().context(
        "no Python with the package prophet: name one by PROPHET_PYTHON, or `python3 -m venv target/bench-venv && \
         target/bench-venv/bin/pip install prophet`",
    )?;
    let mut child = Command::new(&python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("can't run {}", python.display()))?;
    let mut lines = String::new();
    for task in tasks {
        let (history_s, values): (Vec<f64>, Vec<f64>) = task.history.iter().copied().unzip();
        let asked_s: Vec<f64> = task.coming.iter().map(|point| point.0).collect();
        lines +=
            &serde_json::json!({"history_s": history_s, "values": values, "asked_s": asked_s}).to_string();
        lines.push('\n');
    }
    let mut stdin = child.stdin.take().context("no standard input")?;
    // It answers while it reads, so somebody has to listen meanwhile.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output()?;
    let written = writer.join();
    ensure!(output.status.success(), "{} ended with {}", python.display(), output.status);
    if !matches!(written, Ok(Ok(()))) {
        bail!("{} did not read all tasks", python.display());
    }
    let said: Vec<Said> = String::from_utf8(output.stdout)?
        .lines()
        .map(|line| {
            let Forecast { fit_s, yhat, yhat_lower, yhat_upper } = serde_json::from_str(line)?;
            Ok(Said { at: yhat, bounds: yhat_lower.into_iter().zip(yhat_upper).collect(), fit_s })
        })
        .collect::<Result<_>>()?;
    ensure!(said.len() == tasks.len(), "prophet answered {} of {} tasks", said.len(), tasks.len());
    Ok(said)
}

/// The first Python that has the package.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("PROPHET_PYTHON").map(PathBuf::from);
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench-venv/bin/python3");
    let has = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", "import prophet"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    named.into_iter().chain([venv, PathBuf::from("python3")]).find(has)
}
