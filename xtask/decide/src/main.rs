//! `bench decide`: what a tick of the real loop costs with ten thousand cells, and with a hundred thousand.
//!
//! Telemetry lies in the real store of series; the real controller makes windows, predicts with the model of the first day, a
//! boosted model beside it and a memory above both for suspects, decides, and writes its memory to a store in memory. Cells are made up. What their
//! telemetry costs to take is measured beside it, scraped and pushed. docs/benchmarks.md holds the figures.

mod fleet;
mod measure;
mod model;
mod push;
mod world;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use measure::Round;
use serde::{Serialize, de::DeserializeOwned};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What to measure and how to print it.
#[derive(Parser)]
struct Arguments {
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these cases: `10k`, `100k`, `100k-vs-10k`.
    #[arg(long = "case", value_name = "CASE")]
    cases: Vec<String>,
    /// Becomes the process that holds a fleet of so many cells.
    #[arg(long, hide = true)]
    fleet: Option<usize>,
    /// Becomes the process that pushes the telemetry of so many cells.
    #[arg(long, hide = true)]
    push: Option<usize>,
}

/// Cells whose telemetry is pushed.
const PUSHED: usize = 10_000;

const CASES: [&str; 3] = ["10k", "100k", "100k-vs-10k"];

/// One figure.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    case: &'static str,
    peer: Option<&'static str>,
    metric: &'static str,
    unit: &'static str,
    ours: Option<f64>,
    theirs: Option<f64>,
    ratio: Option<f64>,
    spread: [f64; 2],
    rounds: usize,
}

impl Line {
    /// The median over rounds, and the range.
    fn of(case: &'static str, metric: &'static str, unit: &'static str, rounds: &[f64]) -> Result<Self> {
        let mut sorted: Vec<f64> = rounds.iter().map(|v| rounded(*v)).collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else { bail!("no round was measured") };
        Ok(Self {
            bench: "decide",
            case,
            peer: None,
            metric,
            unit,
            ours: Some(sorted[sorted.len() / 2]),
            theirs: None,
            ratio: None,
            spread: [*low, *high],
            rounds: sorted.len(),
        })
    }
}

/// Four digits that matter.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 10f64.powf(3.0 - value.abs().log10().floor());
    (value * digits).round() / digits
}

/// A process that holds a fleet, or takes what one pushes.
struct Fleet {
    process: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Fleet {
    fn start(what: &str, cells: usize) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([what, &cells.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("no standard output")?);
        let mut fleet = Self { process, ask, answers };
        let said = fleet.line()?;
        ensure!(said == "ready", "the fleet of {cells} cells said {said:?}");
        Ok(fleet)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the process of a fleet ended: {}", self.process.wait()?);
        Ok(line.trim_end().to_owned())
    }

    fn round<T: DeserializeOwned>(&mut self) -> Result<T> {
        writeln!(self.ask.as_mut().context("no standard input")?, "round")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.ask.take());
        let _ = self.process.wait();
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(cells) = arguments.fleet {
        return measure::serve(cells);
    }
    if let Some(cells) = arguments.push {
        return push::serve(cells);
    }
    if let Some(unknown) = arguments.cases.iter().find(|case| !CASES.contains(&case.as_str())) {
        bail!("bench decide has no case {unknown:?}; its cases are {}", CASES.join(", "));
    }
    let wanted = |case: &str| arguments.cases.is_empty() || arguments.cases.iter().any(|c| c == case);
    let compared = wanted("100k-vs-10k");
    let start = |wanted: bool, cells| wanted.then(|| Fleet::start("--fleet", cells)).transpose();
    let mut fleets = [start(wanted("10k") || compared, 10_000)?, start(wanted("100k") || compared, 100_000)?];
    // Pushes are taken by a process of their own, so that the memory of the other stays the loop's: ten thousand cells, also for the
    // larger fleet, for what a sample costs does not depend on their number.
    let mut pushed = Fleet::start("--push", PUSHED)?;
    let mut pushes: Vec<f64> = Vec::new();
    let mut rounds: [Vec<Round>; 2] = Default::default();
    for _ in 0..arguments.rounds {
        pushes.push(pushed.round::<f64>()? / PUSHED as f64);
        for (fleet, rounds) in fleets.iter_mut().zip(&mut rounds) {
            if let Some(fleet) = fleet {
                rounds.push(fleet.round()?);
            }
        }
    }
    let mut lines = Vec::new();
    for ((case, cells), rounds) in [("10k", 10_000), ("100k", 100_000)].into_iter().zip(&rounds) {
        if wanted(case) {
            let pushes: Vec<f64> = pushes.iter().map(|each| each * f64::from(cells)).collect();
            lines.extend(of_case(case, rounds, &pushes)?);
        }
    }
    if compared {
        let ratios: Vec<f64> =
            rounds[1].iter().zip(&rounds[0]).map(|(many, few)| many.tick_s / few.tick_s).collect();
        lines.push(Line::of("100k-vs-10k", "cost_ratio", "ratio", &ratios)?);
    }
    for line in lines {
        if arguments.json {
            println!("{}", serde_json::to_string(&line)?);
        } else {
            let [low, high] = line.spread;
            let ours = line.ours.unwrap_or(f64::NAN);
            println!("| {} | {} | {ours} {} | {low} … {high} |", line.case, line.metric, line.unit);
        }
    }
    Ok(())
}

fn of_case(case: &'static str, rounds: &[Round], pushes: &[f64]) -> Result<Vec<Line>> {
    let share = |of: &dyn Fn(&Round) -> f64| -> Vec<f64> {
        rounds.iter().map(|round| of(round) / fleet::TICK.as_secs_f64()).collect()
    };
    let asked: Vec<f64> = rounds.iter().map(|round| round.lstm_share).collect();
    let each: Vec<f64> = rounds.iter().map(|round| round.lstm_us).collect();
    let memory: Vec<f64> = rounds.iter().map(|round| round.kib_per_cell).collect();
    for (what, of) in [
        ("windows", share(&|r| r.windows_s)),
        ("predictions", share(&|r| r.predict_s)),
        ("parsing and recording", share(&|r| r.ingest_s)),
    ] {
        let line = Line::of(case, "", "", &of)?;
        eprintln!("{case}: {what} alone take {:.4} of a core", line.ours.unwrap_or(f64::NAN));
    }
    let pushed: Vec<f64> = pushes.iter().map(|took_s| took_s / fleet::TICK.as_secs_f64()).collect();
    let with_pushed: Vec<f64> = share(&|r| r.tick_s).iter().zip(&pushed).map(|(a, b)| a + b).collect();
    let pushed = Line::of(case, "", "", &pushed)?.ours.unwrap_or(f64::NAN);
    eprintln!("{case}: remote write alone takes {pushed:.4} of a core");
    Ok(vec![
        Line::of(case, "core_share_predict_decide", "cores", &share(&|r| r.tick_s))?,
        Line::of(case, "core_share_with_ingest", "cores", &share(&|r| r.tick_s + r.ingest_s))?,
        Line::of(case, "core_share_with_remote_write", "cores", &with_pushed)?,
        Line::of(case, "kib_per_cell", "KiB", &memory)?,
        Line::of(case, "lstm_share", "cells", &asked)?,
        Line::of(case, "lstm_us_per_suspect", "us", &each)?,
    ])
}
