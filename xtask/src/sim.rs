//! `cargo xtask sim`: seeds of the simulator, in parallel, with a line that repeats a failing one.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Result, bail};
use clap::Args;
use forefend_sim::{Options, Outcome, run};

/// Seeds that every change must pass.
const CI_SEEDS: u64 = 500;

/// Failing seeds that are printed before the rest is counted only.
const MOST_PRINTED: usize = 10;

/// Which made-up worlds to run.
#[derive(Args)]
pub(crate) struct SimArguments {
    /// Runs this one seed and prints every tick.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long, default_value_t = CI_SEEDS)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Also runs each world without forecasts, and compares what users suffered.
    #[arg(long)]
    compare: bool,
}

/// Runs what was asked for.
pub(crate) fn sim(arguments: &SimArguments) -> Result<()> {
    match arguments.seed {
        Some(seed) => one(seed),
        None => many(arguments.from, arguments.seeds, arguments.compare),
    }
}

/// The seeds of the test command.
pub(crate) fn ci() -> Result<()> {
    many(0, CI_SEEDS, false)
}

fn one(seed: u64) -> Result<()> {
    let outcome = run(Options { trace: true, ..Options::seed(seed) });
    println!(
        "seed {seed}: {} requests, {} failed, {} slow, {} shifts, {} ledger entries",
        outcome.requests, outcome.failed, outcome.slow, outcome.shifts, outcome.ledger
    );
    for finding in &outcome.findings {
        println!("  at {} s  {}", finding.at_s, finding.what);
    }
    if outcome.findings.is_empty() { Ok(()) } else { bail!("seed {seed} breaks an invariant") }
}

#[derive(Default)]
struct Sum {
    requests: u64,
    spoilt: u64,
    spoilt_without_forecast: u64,
    shifts: u64,
    failures: Vec<(u64, Outcome)>,
}

fn many(from: u64, seeds: u64, compare: bool) -> Result<()> {
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Sum::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let outcome = run(Options::seed(seed));
                    let reactive = compare.then(|| run(Options { forecast: false, ..Options::seed(seed) }));
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    sum.requests += outcome.requests;
                    sum.spoilt += outcome.failed + outcome.slow;
                    sum.shifts += outcome.shifts;
                    sum.spoilt_without_forecast += reactive.map_or(0, |r| r.failed + r.slow);
                    if !outcome.findings.is_empty() {
                        sum.failures.push((seed, outcome));
                    }
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.failures.sort_by_key(|(seed, _)| *seed);
    for (seed, outcome) in sum.failures.iter().take(MOST_PRINTED) {
        println!("seed {seed} (repeat with: cargo xtask sim --seed {seed})");
        for finding in outcome.findings.iter().take(3) {
            println!("  at {} s  {}", finding.at_s, finding.what);
        }
    }
    println!(
        "{seeds} seeds, {} requests, {} spoilt, {} shifts, {} seeds break an invariant",
        sum.requests,
        sum.spoilt,
        sum.shifts,
        sum.failures.len()
    );
    if compare {
        println!("without forecasts the same worlds spoil {}", sum.spoilt_without_forecast);
    }
    if sum.failures.is_empty() { Ok(()) } else { bail!("{} seeds break an invariant", sum.failures.len()) }
}
