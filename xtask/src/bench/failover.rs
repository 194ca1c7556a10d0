//! `bench failover`: what users notice when the cell with nine tenths of the weight goes.
//!
//! Reads and writes come in an open loop. After three seconds the cell is killed, or stopped (its sockets stay open
//! and nobody answers), or killed 50 ms after its weight was moved away. Failed requests are counted over the whole
//! run; latency and duplicates over the requests begun in the five seconds after the fault.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{
    BenchArguments, LOAD_CORE,
    backend::read_journal,
    cpu,
    failover_load::{PATIENCE, Request, monotonic_ns, read_record},
    peers::{Cell, Installed, Peer, Purpose, Setup, free_address},
    process::Process,
    proxy::{Bench, start_cells},
    report::Metric,
};

const FAILED_REQUESTS: Metric = Metric { name: "failed_requests", unit: "requests" };
const FAILED_POSTS: Metric = Metric { name: "failed_posts", unit: "requests" };
const P99: Metric = Metric { name: "p99_ms", unit: "ms" };
const P99_RATIO: Metric = Metric { name: "p99_ratio", unit: "1" };
const DUPLICATED: Metric = Metric { name: "duplicated_share", unit: "1" };
const METRICS: [Metric; 5] = [FAILED_REQUESTS, FAILED_POSTS, P99, P99_RATIO, DUPLICATED];

const CASES: &[&str] = &["killed", "stopped", "foretold"];

const READS_PER_S: f64 = 2_000.0;
const WRITES_PER_S: f64 = 200.0;
const WARM_UP_S: f64 = 2.0;
/// Recorded time before the fault.
const BEFORE: Duration = Duration::from_secs(3);
/// Time after the fault whose requests are judged for latency and duplicates.
const AFTER: Duration = Duration::from_secs(5);
/// What a request's execution takes, so that some are under way whenever the cell goes.
const SERVICE_MS: &str = "5";
/// How long before the fault the weights are moved in case `foretold`.
const NOTICE: Duration = Duration::from_millis(50);

/// Measures all that was asked for.
///
/// # Errors
/// When our own proxy can't be measured.
pub(super) fn run(arguments: &BenchArguments) -> Result<super::report::Report> {
    let cases = arguments.cases(CASES)?;
    let mut bench = Bench::prepare(arguments, "failover")?;
    for round in 0..arguments.rounds {
        for case in &cases {
            // A raw forwarder knows no cells that could fail.
            for peer in bench.turn(round).into_iter().filter(|p| *p != Peer::RawForwarder) {
                eprintln!("round {} of {}: {case}, {}", round + 1, arguments.rounds, peer.name());
                let outcome = match bench.installed(peer) {
                    Ok(installed) => one_run(&bench.release, peer, installed, case),
                    Err(why) => {
                        bench.report.skip(case, &METRICS, peer, round, &why);
                        continue;
                    }
                };
                match outcome {
                    Ok((figures, others)) => {
                        bench.others.push(others);
                        for (metric, value) in figures.named() {
                            bench.report.record(case, metric, peer, round, value);
                        }
                    }
                    Err(error) => bench.lost(case, &METRICS, peer, round, &error)?,
                }
            }
        }
    }
    Ok(bench.finish())
}

/// What users noticed.
#[derive(Debug, PartialEq)]
struct Figures {
    failed_requests: f64,
    failed_posts: f64,
    p99_ms: f64,
    p99_ratio: f64,
    duplicated_share: f64,
}

impl Figures {
    fn named(&self) -> [(Metric, f64); 5] {
        [
            (FAILED_REQUESTS, self.failed_requests),
            (FAILED_POSTS, self.failed_posts),
            (P99, self.p99_ms),
            (P99_RATIO, self.p99_ratio),
            (DUPLICATED, self.duplicated_share),
        ]
    }
}

/// One fault; gives what users noticed, and the cores that others used before the fault.
fn one_run(release: &Path, peer: Peer, installed: &Installed, case: &str) -> Result<(Figures, f64)> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let journal = path("{cell}.journal").display().to_string();
    let (cells, addresses) =
        start_cells(release, folder.path(), &[["--service-ms", SERVICE_MS], ["--journal", &journal]])?;
    let listen = free_address()?;
    let weighted = |address, weight_bp| Cell { address, weight_bp };
    let setup = Setup {
        listen,
        cells: [weighted(addresses[0], 9_000), weighted(addresses[1], 1_000)],
        purpose: Purpose::Failover,
        folder: folder.path(),
    };
    let mut proxy = peer.start(installed, &setup)?;
    let record = path("record");
    let seconds = (BEFORE + AFTER).as_secs_f64() + 0.5;
    let load = Process::start(
        "load",
        LOAD_CORE,
        folder.path(),
        &release.join("xtask"),
        [
            "part".to_owned(),
            "failover-load".to_owned(),
            format!("--target={listen}"),
            format!("--reads={READS_PER_S}"),
            format!("--writes={WRITES_PER_S}"),
            format!("--warm-up-s={WARM_UP_S}"),
            format!("--seconds={seconds}"),
            format!("--record={}", record.display()),
        ],
        Signal::SIGKILL,
    )?;
    let patience = Duration::from_secs_f64(WARM_UP_S + seconds + 20.0);
    ensure!(load.line(patience)? == "begin", "the load began with an unexpected line");
    let ours =
        || cells.iter().chain([&load, &proxy.process]).map(Process::cpu_time).sum::<Result<Duration>>();
    let (begin, machine_before, ours_before) = (Instant::now(), cpu::machine_time()?, ours()?);
    std::thread::sleep(BEFORE.saturating_sub(NOTICE));
    let others = cpu::machine_time()?
        .saturating_sub(machine_before)
        .saturating_sub(ours()?.saturating_sub(ours_before));
    let others = others.as_secs_f64() / begin.elapsed().as_secs_f64();
    let notice_ends = Instant::now() + NOTICE;
    if case == "foretold" {
        proxy.move_weight_away()?;
    }
    std::thread::sleep(notice_ends.saturating_duration_since(Instant::now()));
    let fault_ns = monotonic_ns()?;
    cells[0].signal(if case == "stopped" { Signal::SIGSTOP } else { Signal::SIGKILL })?;
    ensure!(load.line(patience)? == "end", "the load ended with an unexpected line");
    proxy.process.still_runs()?;
    // A stopped cell that goes on executes whatever still lies in its sockets.
    if case == "stopped" {
        cells[0].signal(Signal::SIGCONT)?;
    }
    let journals = [path("cell-0.journal"), path("cell-1.journal")];
    wait_until_quiet(&journals)?;
    let mut executed = Vec::new();
    for journal in &journals {
        executed.extend(read_journal(journal)?);
    }
    Ok((judge(&read_record(&record)?, &executed, fault_ns)?, others))
}

/// Waits until the cells have executed what was left: no journal grows for half a second.
fn wait_until_quiet(journals: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let lengths = || journals.iter().map(|j| std::fs::metadata(j).map_or(0, |m| m.len())).collect::<Vec<_>>();
    let (mut last, mut since) = (lengths(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        if Instant::now() > deadline {
            bail!("cells still execute requests 20 s after the load ended");
        }
        std::thread::sleep(Duration::from_millis(20));
        let now = lengths();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Turns the record and the journals into figures.
fn judge(requests: &[Request], executed: &[u64], fault_ns: u64) -> Result<Figures> {
    let nanoseconds = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let before: Vec<&Request> = requests.iter().filter(|r| r.begun_ns < fault_ns).collect();
    let after: Vec<&Request> =
        requests.iter().filter(|r| (fault_ns..fault_ns + nanoseconds(AFTER)).contains(&r.begun_ns)).collect();
    ensure!(!before.is_empty() && !after.is_empty(), "no requests before or after the fault");
    // A machine too busy to offer the load would flatter the proxy.
    let expected = (READS_PER_S + WRITES_PER_S) * AFTER.as_secs_f64();
    let offered = after.len() as f64 / expected;
    ensure!(
        offered > 0.9,
        "only {:.0}% of the load could be offered; the machine is too busy",
        offered * 100.0
    );
    let failed = |write: bool| requests.iter().filter(|r| r.write == write && r.failed()).count() as f64;
    let mut executions: HashMap<u64, u32> = HashMap::new();
    for number in executed {
        *executions.entry(*number).or_default() += 1;
    }
    let duplicated = after.iter().filter(|r| executions.get(&r.number).is_some_and(|n| *n > 1)).count();
    let (p99_before, p99_after) = (p99_ms(&before), p99_ms(&after));
    Ok(Figures {
        failed_requests: failed(false),
        failed_posts: failed(true),
        p99_ms: p99_after,
        p99_ratio: p99_after / p99_before,
        duplicated_share: duplicated as f64 / after.len() as f64,
    })
}

impl Request {
    fn failed(&self) -> bool {
        !(200..400).contains(&self.status)
    }
}

/// A failed request counts with all of a user's patience, lest failing fast looks better than answering.
fn p99_ms(requests: &[&Request]) -> f64 {
    let mut latencies: Vec<u64> =
        requests
            .iter()
            .map(|r| {
                if r.failed() { u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX) } else { r.latency_ns }
            })
            .collect();
    latencies.sort_unstable();
    // The nearest rank.
    let rank = (latencies.len() * 99).div_ceil(100).max(1);
    latencies.get(rank - 1).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT_NS: u64 = 10_000_000_000;

    /// Requests for a second before and five after the fault, all well and taking 5 ms.
    fn all_well() -> Vec<Request> {
        (0..13_200)
            .map(|n| Request {
                number: n,
                write: n % 11 == 0,
                begun_ns: FAULT_NS - 1_000_000_000 + n * 454_545,
                latency_ns: 5_000_000,
                status: 200,
            })
            .collect()
    }

    fn once(requests: &[Request]) -> Vec<u64> {
        requests.iter().map(|r| r.number).collect()
    }

    #[test]
    fn nothing_lost_nothing_slow_nothing_twice() {
        let requests = all_well();
        let figures = judge(&requests, &once(&requests), FAULT_NS).expect("enough requests");
        assert_eq!(
            figures,
            Figures {
                failed_requests: 0.0,
                failed_posts: 0.0,
                p99_ms: 5.0,
                p99_ratio: 1.0,
                duplicated_share: 0.0
            }
        );
    }

    #[test]
    fn failures_are_counted_by_kind_and_weigh_as_slow() {
        let mut requests = all_well();
        for request in requests.iter_mut().filter(|r| r.begun_ns >= FAULT_NS).take(220) {
            request.status = if request.write { 503 } else { 0 };
            request.latency_ns = 1;
        }
        let figures = judge(&requests, &once(&requests), FAULT_NS).expect("enough requests");
        assert_eq!((figures.failed_requests, figures.failed_posts), (200.0, 20.0));
        assert_eq!((figures.p99_ms, figures.p99_ratio), (2_000.0, 400.0));
    }

    #[test]
    fn a_request_executed_twice_counts_only_after_the_fault() {
        let requests = all_well();
        let mut executed = once(&requests);
        let after: Vec<u64> = requests.iter().filter(|r| r.begun_ns >= FAULT_NS).map(|r| r.number).collect();
        executed.extend([0, 1, 2]);
        executed.extend(&after[..110]);
        // Three times is still one request.
        executed.push(after[0]);
        let figures = judge(&requests, &executed, FAULT_NS).expect("enough requests");
        let begun =
            requests.iter().filter(|r| (FAULT_NS..FAULT_NS + 5_000_000_000).contains(&r.begun_ns)).count();
        assert_eq!(figures.duplicated_share, 110.0 / begun as f64);
    }

    #[test]
    fn a_load_that_was_not_offered_is_no_measurement() {
        let requests: Vec<Request> = all_well().into_iter().step_by(2).collect();
        assert!(judge(&requests, &[], FAULT_NS).is_err());
        assert!(judge(&[], &[], FAULT_NS).is_err());
    }
}
