//! How well failures are foreseen: on public data, each with its own protocol, against simple peers in the same run. docs/benchmarks.md holds
//! the figures and says how they came about.

mod anomaly;
mod backblaze;
mod cmapss;
mod forecast;
mod nab;
mod report;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Parser;

use report::Line;

/// What to measure and how to print it.
#[derive(Parser)]
struct Arguments {
    /// The folder with the public data.
    #[arg(long)]
    data: PathBuf,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Only these cases.
    #[arg(long = "case", value_name = "CASE")]
    cases: Vec<String>,
}

/// Measures a case on the data in a folder.
type Case = fn(&Path) -> Result<Vec<Line>>;

const CASES: [(&str, Case); 8] = [
    ("fd001", cmapss::run),
    #[cfg(feature = "lstm")]
    ("fd001-lstm", cmapss::lstm::run),
    #[cfg(not(feature = "lstm"))]
    ("fd001-lstm", without_lstm),
    ("backblaze-trial", backblaze::trial),
    ("backblaze", backblaze::run),
    ("smd", anomaly::smd),
    ("asd", anomaly::asd),
    ("nab", nab::run),
    ("forecast", forecast::run),
];

#[cfg(not(feature = "lstm"))]
fn without_lstm(_: &Path) -> Result<Vec<Line>> {
    Ok(vec![Line::skipped(
        "fd001-lstm",
        "rmse_cycles",
        "cycles",
        "built without the feature lstm".to_owned(),
    )])
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = arguments.data.display();
    ensure!(
        arguments.data.is_dir(),
        "there is no folder {folder}: the data is not part of this repository; docs/benchmarks.md says where it comes from"
    );
    let known: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = arguments.cases.iter().find(|case| !known.contains(&case.as_str())) {
        bail!("bench predict has no case {unknown:?}; its cases are {}", known.join(", "));
    }
    if !arguments.json {
        println!("| case | metric | peer | ours | theirs | ratio | spread |\n|---|---|---|--:|--:|--:|---|");
    }
    for (name, case) in CASES {
        if !arguments.cases.is_empty() && !arguments.cases.iter().any(|c| c == name) {
            continue;
        }
        for line in case(&arguments.data)? {
            if arguments.json {
                println!("{}", serde_json::to_string(&line)?);
            } else {
                println!("{}", line.row());
            }
        }
    }
    Ok(())
}
