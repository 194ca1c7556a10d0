//! Benchmarks against peers, in one language: a JSON object a line, or a table.
//!
//! A bench measures whole programs. It builds the release binaries, starts the proxy under test on one core and
//! load and backends (the hidden `part` commands of this very binary) on the other, takes turns between the peers
//! round by round, and compares within each round, so that a machine that gets busier burdens all alike.

mod backend;
mod client;
mod cpu;
mod decide;
mod failover;
mod failover_load;
mod forward;
mod idle;
mod load;
mod peers;
mod predict;
mod process;
mod proxy;
mod report;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use peers::Peer;
use report::Format;

/// The core that the proxy under test has for itself.
const PROXY_CORE: usize = 0;
/// The core of load and backends.
const LOAD_CORE: usize = 1;

/// Every bench that there is.
const THERE: &[&str] = &["proxy", "failover", "predict", "decide"];
/// Those that will come with what they measure.
const NOT_YET: &[&str] = &["mirror", "cells", "data"];

/// What to measure and how to print it.
#[derive(Args)]
pub(crate) struct BenchArguments {
    /// `proxy`, `failover`, `predict` or `decide`.
    name: String,
    /// Folder with public data sets, for benches that need them.
    #[arg(long)]
    data: Option<PathBuf>,
    /// One JSON object a line instead of a table.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// The rows of the table in docs/benchmarks.md.
    #[arg(long)]
    markdown: bool,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these cases.
    #[arg(long = "case", value_name = "CASE")]
    cases: Vec<String>,
    /// Only these of the programs: forefend, haproxy, nginx, envoy, raw-forwarder.
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<Peer>,
}

impl BenchArguments {
    fn format(&self) -> Format {
        match (self.json, self.markdown) {
            (true, _) => Format::Json,
            (_, true) => Format::Markdown,
            _ => Format::Table,
        }
    }

    fn wants_peer(&self, peer: Peer) -> bool {
        self.peers.is_empty() || self.peers.contains(&peer)
    }

    /// Which of `known` cases to run.
    fn cases<'a>(&self, known: &[&'a str]) -> Result<Vec<&'a str>> {
        if let Some(unknown) = self.cases.iter().find(|case| !known.contains(&case.as_str())) {
            bail!("bench {} has no case {unknown:?}; its cases are {}", self.name, known.join(", "));
        }
        let wanted = |case: &&&str| self.cases.is_empty() || self.cases.iter().any(|c| c == **case);
        Ok(known.iter().filter(wanted).copied().collect())
    }
}

/// A process of a bench that is not the program under test.
#[derive(Subcommand)]
pub(crate) enum Part {
    /// A cell: answers every request, and keeps a journal of the numbered ones.
    Backend(backend::BackendArguments),
    /// A steady or saturating load.
    Load(load::LoadArguments),
    /// An open-loop load of reads and writes, each on lines of its own, every request on record.
    FailoverLoad(failover_load::FailoverLoadArguments),
    /// Keeps connections open and does nothing with them.
    Idle(idle::IdleArguments),
    /// Passes bytes on: what any proxy on this kernel costs at least.
    Forward(forward::ForwardArguments),
}

impl Part {
    /// Runs until its work is done or it is killed.
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async {
            match self {
                Part::Backend(arguments) => backend::serve(arguments).await,
                Part::Load(arguments) => load::run(arguments).await,
                Part::FailoverLoad(arguments) => failover_load::run(arguments).await,
                Part::Idle(arguments) => idle::run(arguments).await,
                Part::Forward(arguments) => forward::run(arguments).await,
            }
        })
    }
}

/// Runs the bench that was asked for.
///
/// # Errors
/// When there is no such bench, or our own program can't be measured. A peer that can't is a line that says so.
pub(crate) fn run(arguments: &BenchArguments) -> Result<()> {
    if arguments.name == "predict" {
        return predict::run(arguments);
    }
    if let Some(folder) = &arguments.data {
        eprintln!("note: bench {} reads no data; --data {} is not used", arguments.name, folder.display());
    }
    if arguments.name == "decide" {
        return decide::run(arguments);
    }
    let report = match arguments.name.as_str() {
        "proxy" => proxy::run(arguments)?,
        "failover" => failover::run(arguments)?,
        name if NOT_YET.contains(&name) => {
            bail!("bench {name} is not there yet; there are: {}", THERE.join(", "))
        }
        name => bail!("no bench is called {name:?}; there are: {}", THERE.join(", ")),
    };
    report.print(arguments.format());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(name: &str) -> BenchArguments {
        BenchArguments {
            name: name.to_owned(),
            data: None,
            json: true,
            markdown: false,
            rounds: 1,
            cases: Vec::new(),
            peers: Vec::new(),
        }
    }

    #[test]
    fn a_bench_to_come_says_so_and_names_those_that_exist() {
        let error = run(&arguments("mirror")).err().map(|e| e.to_string());
        assert_eq!(
            error.as_deref(),
            Some("bench mirror is not there yet; there are: proxy, failover, predict, decide")
        );
        let error = run(&arguments("prxy")).err().map(|e| e.to_string());
        assert_eq!(
            error.as_deref(),
            Some("no bench is called \"prxy\"; there are: proxy, failover, predict, decide")
        );
    }

    #[test]
    fn cases_are_chosen_by_name() {
        let mut chosen = arguments("proxy");
        assert_eq!(chosen.cases(&["http1", "http2"]).expect("all"), ["http1", "http2"]);
        chosen.cases = vec!["http2".to_owned()];
        assert_eq!(chosen.cases(&["http1", "http2"]).expect("one"), ["http2"]);
        chosen.cases = vec!["http3".to_owned()];
        assert!(chosen.cases(&["http1"]).is_err());
    }
}
