//! `bench proxy`: what a proxied request costs.
//!
//! Two measurements a round. At a steady rate, the same work for all: CPU time per request, and the 99th
//! percentile of latency. Then as fast as it goes: requests per second, and CPU time per request at that.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::{
    BenchArguments, LOAD_CORE, cpu,
    load::LoadResult,
    peers::{Cell, Installed, Peer, Proxy, Purpose, Setup, free_address},
    process::Process,
    report::{Metric, Report},
};
use crate::workspace::release_build;

const CPU: Metric = Metric { name: "cpu_us_per_request", unit: "µs" };
const P99: Metric = Metric { name: "p99_ms", unit: "ms" };
const RATE: Metric = Metric { name: "requests_per_s", unit: "1/s" };
const IDLE: Metric = Metric { name: "bytes_per_idle_connection", unit: "B" };

const CASES: &[&str] = &["http1", "http2", "idle", "tls"];

/// Requests in flight at once.
const CONCURRENCY: usize = 32;
/// Requests per second of the steady load: a core of load and backends has room for it on slow machines.
const STEADY_RATE: f64 = 6_000.0;
const WARM_UP_S: f64 = 1.0;
const MEASURED_S: f64 = 3.0;
/// Enough for a figure per connection that the allocator's rounding does not blur.
const IDLE_CONNECTIONS: usize = 1_000;

/// Measures all that was asked for.
///
/// # Errors
/// When our own proxy can't be measured.
pub(super) fn run(arguments: &BenchArguments) -> Result<Report> {
    let cases = arguments.cases(CASES)?;
    let mut bench = Bench::prepare(arguments, "proxy")?;
    for round in 0..arguments.rounds {
        for case in &cases {
            for peer in bench.turn(round) {
                eprintln!("round {} of {}: {case}, {}", round + 1, arguments.rounds, peer.name());
                bench.measure(peer, case, round)?;
            }
        }
    }
    Ok(bench.finish())
}

/// What both benches of proxies need.
pub(super) struct Bench {
    pub(super) release: std::path::PathBuf,
    pub(super) report: Report,
    /// Each with what was found, or why nothing was.
    peers: Vec<(Peer, Result<Installed, String>)>,
    machine_start: (Instant, Duration),
    /// Cores that others used, by run.
    pub(super) others: Vec<f64>,
}

impl Bench {
    /// Builds our programs and finds the others.
    pub(super) fn prepare(arguments: &BenchArguments, name: &'static str) -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        ensure!(
            cores >= 2,
            "the bench needs two cores, one for the proxy and one for its load; here is {cores}"
        );
        let ours = arguments.wants_peer(Peer::Forefend) && std::env::var_os("FOREFEND").is_none();
        let release = release_build(if ours { &["xtask", "forefend"] } else { &["xtask"] })?;
        raise_file_limit()?;
        let mut peers = Vec::new();
        let mut report = Report::new(name);
        for peer in Peer::ALL.into_iter().filter(|peer| arguments.wants_peer(*peer)) {
            let found = peer.provide(&release);
            match &found {
                Ok(installed) => report.note(format!("{}: {}", peer.name(), installed.version)),
                Err(error) => eprintln!("warning: {} is left out: {error:#}", peer.name()),
            }
            peers.push((peer, found.map_err(|error| format!("{error:#}"))));
        }
        let machine_start = (Instant::now(), cpu::machine_time()?);
        Ok(Self { release, report, peers, machine_start, others: Vec::new() })
    }

    /// The order of a round: it rotates, so that nobody is always first.
    pub(super) fn turn(&self, round: u32) -> Vec<Peer> {
        let mut order: Vec<Peer> = self.peers.iter().map(|(peer, _)| *peer).collect();
        let by = round as usize % order.len().max(1);
        order.rotate_left(by);
        order
    }

    /// The program of `peer`.
    pub(super) fn installed(&self, peer: Peer) -> Result<&Installed, String> {
        match self.peers.iter().find(|(p, _)| *p == peer) {
            Some((_, Ok(installed))) => Ok(installed),
            Some((_, Err(why))) => Err(why.clone()),
            None => Err("not asked for".to_owned()),
        }
    }

    /// Keeps why a run gave nothing; for our own proxy that ends the bench.
    pub(super) fn lost(
        &mut self,
        case: &str,
        metrics: &[Metric],
        peer: Peer,
        round: u32,
        error: &anyhow::Error,
    ) -> Result<()> {
        ensure!(peer != Peer::Forefend, "forefend can't be measured in case {case}: {error:#}");
        eprintln!("warning: {case}, {}: {error:#}", peer.name());
        self.report.skip(case, metrics, peer, round, &format!("{error:#}"));
        Ok(())
    }

    /// The report, with how busy others kept the machine.
    pub(super) fn finish(mut self) -> Report {
        let wall = self.machine_start.0.elapsed();
        self.others.sort_by(f64::total_cmp);
        if let (Some(median), Some(worst)) = (self.others.get(self.others.len() / 2), self.others.last()) {
            self.report.note(format!(
                "others kept {:.2} cores busy while we measured (worst run {worst:.2}); the bench took {} s",
                median,
                wall.as_secs()
            ));
        }
        if let Ok(model) = std::fs::read_to_string("/proc/cpuinfo") {
            let model = model.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
            let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
            self.report
                .note(format!("machine: {cores} cores,{}", model.trim_start_matches(['\t', ' ', ':'])));
        }
        self.report
    }

    fn measure(&mut self, peer: Peer, case: &str, round: u32) -> Result<()> {
        let metrics: &[Metric] = match case {
            "idle" => &[IDLE],
            _ => &[CPU, P99, RATE],
        };
        let purpose = Purpose::Throughput { http2: case == "http2" };
        let refusal = match case {
            "tls" => {
                Some("the director does not terminate TLS yet, so there is nothing to compare".to_owned())
            }
            _ => peer.unsupported(purpose).map(str::to_owned).or_else(|| self.installed(peer).err()),
        };
        if let Some(why) = refusal {
            self.report.skip(case, metrics, peer, round, &why);
            return Ok(());
        }
        let installed = self.installed(peer).map_err(anyhow::Error::msg)?;
        let run = Run::start(&self.release, peer, installed, purpose);
        let measured = run.and_then(|run| if case == "idle" { run.idle() } else { run.load(case) });
        match measured {
            Ok((figures, others)) => {
                for (case, metric, value) in figures {
                    self.report.record(&case, metric, peer, round, value);
                }
                self.others.extend(others);
                Ok(())
            }
            Err(error) => self.lost(case, metrics, peer, round, &error),
        }
    }
}

/// A proxy and its two cells.
struct Run {
    release: std::path::PathBuf,
    proxy: Proxy,
    cells: Vec<Process>,
    listen: SocketAddr,
    http2: bool,
    folder: tempfile::TempDir,
}

/// Figures of a run, each under its case, and the cores that others used meanwhile.
type Measured = (Vec<(String, Metric, f64)>, Vec<f64>);

impl Run {
    fn start(release: &Path, peer: Peer, installed: &Installed, purpose: Purpose) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (cells, addresses) = start_cells(release, folder.path(), &[])?;
        let listen = free_address()?;
        let setup = Setup {
            listen,
            cells: addresses.map(|address| Cell { address, weight_bp: 5_000 }),
            purpose,
            folder: folder.path(),
        };
        let proxy = peer.start(installed, &setup)?;
        let http2 = purpose == Purpose::Throughput { http2: true };
        Ok(Self { release: release.to_owned(), proxy, cells, listen, http2, folder })
    }

    fn load(self, case: &str) -> Result<Measured> {
        let (steady, steady_cpu_us, others_steady) = self.one_load(Some(STEADY_RATE))?;
        let (full, full_cpu_us, others_full) = self.one_load(None)?;
        let saturated = format!("{case}-saturated");
        let figures = vec![
            (case.to_owned(), CPU, steady_cpu_us),
            (case.to_owned(), P99, steady.p99_ms),
            (case.to_owned(), RATE, full.answered as f64 / full.seconds),
            (saturated, CPU, full_cpu_us),
        ];
        Ok((figures, vec![others_steady, others_full]))
    }

    /// Runs a load; gives its result, the proxy's CPU time per request, and the cores that others used.
    fn one_load(&self, rate: Option<f64>) -> Result<(LoadResult, f64, f64)> {
        let mut arguments: Vec<String> = ["part", "load", "--target"].map(str::to_owned).into();
        arguments.push(self.listen.to_string());
        arguments.extend(["--concurrency".to_owned(), CONCURRENCY.to_string()]);
        arguments.extend(["--warm-up-s".to_owned(), WARM_UP_S.to_string()]);
        arguments.extend(["--seconds".to_owned(), MEASURED_S.to_string()]);
        if let Some(rate) = rate {
            arguments.extend(["--rate".to_owned(), rate.to_string()]);
        }
        if self.http2 {
            arguments.push("--http2".to_owned());
        }
        let load = Process::start(
            "load",
            LOAD_CORE,
            self.folder.path(),
            &self.release.join("xtask"),
            arguments,
            Signal::SIGKILL,
        )?;
        let patience = Duration::from_secs_f64(WARM_UP_S + MEASURED_S + 20.0);
        ensure!(load.line(patience)? == "begin", "the load began with an unexpected line");
        let (begin, proxy_before) = (Instant::now(), self.proxy.process.cpu_time()?);
        let (machine_before, load_before) = (cpu::machine_time()?, load.cpu_time()?);
        let cells_before = self.cells_time()?;
        // The load ends with its result, so what it used is asked for shortly before.
        std::thread::sleep(Duration::from_secs_f64(MEASURED_S * 0.9));
        let machine = cpu::machine_time()?.saturating_sub(machine_before);
        let ours = (self.proxy.process.cpu_time()?.saturating_sub(proxy_before))
            + load.cpu_time()?.saturating_sub(load_before)
            + self.cells_time()?.saturating_sub(cells_before);
        let others = machine.saturating_sub(ours).as_secs_f64() / begin.elapsed().as_secs_f64();
        let result: LoadResult = serde_json::from_str(&load.line(patience)?).context("the load's result")?;
        let used = self.proxy.process.cpu_time()?.saturating_sub(proxy_before);
        ensure!(result.answered > 0, "no request was answered; {} failed", result.failed);
        let failed_share = result.failed as f64 / (result.answered + result.failed) as f64;
        ensure!(
            failed_share < 0.001,
            "{} of {} requests failed",
            result.failed,
            result.answered + result.failed
        );
        let cpu_us = used.as_secs_f64() * 1e6 / result.answered as f64;
        Ok((result, cpu_us, others))
    }

    fn cells_time(&self) -> Result<Duration> {
        self.cells.iter().map(Process::cpu_time).sum()
    }

    fn idle(self) -> Result<Measured> {
        // A little work first, so that what is allocated once is there before.
        self.one_load(Some(STEADY_RATE / 10.0))?;
        let before = self.proxy.process.memory()?;
        let arguments = ["part", "idle", "--target", &self.listen.to_string(), "--connections"];
        let arguments = arguments.into_iter().map(str::to_owned).chain([IDLE_CONNECTIONS.to_string()]);
        let idle = Process::start(
            "idle",
            LOAD_CORE,
            self.folder.path(),
            &self.release.join("xtask"),
            arguments,
            Signal::SIGKILL,
        )?;
        ensure!(
            idle.line(Duration::from_secs(60))? == "idle",
            "the idle connections began with an unexpected line"
        );
        let grown = self.proxy.process.memory()?.saturating_sub(before);
        Ok((vec![("idle".to_owned(), IDLE, grown as f64 / IDLE_CONNECTIONS as f64)], Vec::new()))
    }
}

/// Starts two cells on the load's core; each may keep a journal.
pub(super) fn start_cells(
    release: &Path,
    folder: &Path,
    extra: &[[&str; 2]],
) -> Result<(Vec<Process>, [SocketAddr; 2])> {
    let mut processes = Vec::new();
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); 2];
    for (n, address) in addresses.iter_mut().enumerate() {
        let name = format!("cell-{n}");
        let mut arguments: Vec<String> =
            ["part", "backend", "--listen", "127.0.0.1:0"].map(str::to_owned).into();
        for [flag, value] in extra {
            arguments.extend([(*flag).to_owned(), value.replace("{cell}", &name)]);
        }
        let process =
            Process::start(&name, LOAD_CORE, folder, &release.join("xtask"), arguments, Signal::SIGKILL)?;
        let port = process.line(Duration::from_secs(10))?;
        address.set_port(port.parse().with_context(|| format!("{name} listens on {port:?}"))?);
        processes.push(process);
    }
    Ok((processes, addresses))
}

/// A proxy with a thousand users has more than a thousand files.
fn raise_file_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(16_384);
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(())
}
