//! What cargo alone cannot do: the one test command, the dependency checks, the benchmarks.
//!
//! Run it as `cargo xtask COMMAND`.

mod bench;
mod ci;
mod corpus;
mod packages;
mod sim;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What cargo alone cannot do for this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything that must hold before a change lands: format, lints, tests, doc tests.
    Test,
    /// Builds the binary that goes into production, with every feature that is off while developing, and prints where it lies.
    Release,
    /// Checks licences, bans, sources and advisories with cargo-deny, where it is installed.
    Deny,
    /// Runs the real control loop on made-up worlds and checks the invariants at every tick.
    Sim(sim::SimArguments),
    /// Measures Forefend against its peers on this machine.
    Bench(bench::BenchArguments),
    /// Records the failure corpus, checks, describes and scores it.
    #[command(disable_help_flag = true)]
    Corpus(corpus::CorpusArguments),
    /// The parts that benchmarks start as processes of their own.
    #[command(subcommand, hide = true)]
    Part(bench::Part),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Test => ci::test(),
        Command::Release => release(),
        Command::Deny => ci::deny(),
        Command::Sim(arguments) => sim::sim(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Corpus(arguments) => corpus::run(&arguments),
        Command::Part(part) => part.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Development leaves out what takes minutes to build; what users run does not.
fn release() -> anyhow::Result<()> {
    let folder = workspace::release_build_with(&["forefend"], &["forefend/gpu"])?;
    println!("{}", folder.join("forefend").display());
    Ok(())
}
