//! `bench proxy`: what a proxied request costs.
//!
//! Two measurements a round. At a steady rate, the same work for all: CPU time per request, and the 99th
//! percentile of latency. Then as fast as it goes: requests per second, and CPU time per request at that. All peers
//! run at the same time and are loaded one after the other in short slices, over and over: what a shared machine's speed
//! does within a few seconds then meets all of them alike.

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
/// Before the first slice of a peer; connections to cells and caches are made then.
const FIRST_WARM_UP_S: f64 = 1.0;
/// Before every other one.
const WARM_UP_S: f64 = 0.2;
const SLICE_S: f64 = 0.5;
/// Slices of a peer, a round and a load.
const SLICES: usize = 6;
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
            eprintln!("round {} of {}: {case}", round + 1, arguments.rounds);
            match *case {
                "idle" => bench.measure_idle(round)?,
                _ => bench.measure_load(case, round)?,
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

    /// Starts a proxy; tells the report why if that is not possible.
    fn start(&mut self, case: &str, metrics: &[Metric], peer: Peer, round: u32) -> Result<Option<Run>> {
        let purpose = Purpose::Throughput { http2: case == "http2" };
        let refusal = match case {
            "tls" => {
                Some("the director does not terminate TLS yet, so there is nothing to compare".to_owned())
            }
            _ => peer.unsupported(purpose).map(str::to_owned).or_else(|| self.installed(peer).err()),
        };
        if let Some(why) = refusal {
            self.report.skip(case, metrics, peer, round, &why);
            return Ok(None);
        }
        let installed = self.installed(peer).map_err(anyhow::Error::msg)?;
        match Run::start(&self.release, peer, installed, purpose) {
            Ok(run) => Ok(Some(run)),
            Err(error) => self.lost(case, metrics, peer, round, &error).map(|()| None),
        }
    }

    fn measure_idle(&mut self, round: u32) -> Result<()> {
        for peer in self.turn(round) {
            let Some(run) = self.start("idle", &[IDLE], peer, round)? else { continue };
            match run.idle() {
                Ok(bytes) => self.report.record("idle", IDLE, peer, round, bytes),
                Err(error) => self.lost("idle", &[IDLE], peer, round, &error)?,
            }
        }
        Ok(())
    }

    fn measure_load(&mut self, case: &str, round: u32) -> Result<()> {
        let mut runs = Vec::new();
        for peer in self.turn(round) {
            if let Some(run) = self.start(case, &[CPU, P99, RATE], peer, round)? {
                runs.push((peer, run, [Sum::default(), Sum::default()]));
            }
        }
        for (load, rate) in [Some(STEADY_RATE), None].into_iter().enumerate() {
            for slice in 0..SLICES {
                let mut lost = Vec::new();
                for (peer, run, sums) in &mut runs {
                    let warm_up_s = if load + slice == 0 { FIRST_WARM_UP_S } else { WARM_UP_S };
                    match run.one_load(rate, warm_up_s, SLICE_S) {
                        Ok(seen) => sums[load].add(&seen),
                        Err(error) => lost.push((*peer, error)),
                    }
                }
                for (peer, error) in lost {
                    runs.retain(|(p, ..)| *p != peer);
                    self.lost(case, &[CPU, P99, RATE], peer, round, &error)?;
                }
            }
        }
        for (peer, _run, [steady, full]) in runs {
            self.report.record(case, CPU, peer, round, steady.cpu_us());
            self.report.record(case, P99, peer, round, steady.p99_ms());
            self.report.record(case, RATE, peer, round, full.answered as f64 / full.seconds);
            self.report.record(&format!("{case}-saturated"), CPU, peer, round, full.cpu_us());
            self.others.extend(steady.others.into_iter().chain(full.others));
        }
        Ok(())
    }
}

/// What a peer's slices of one round and load give together.
#[derive(Default)]
struct Sum {
    answered: u64,
    seconds: f64,
    used: Duration,
    p99_ms: Vec<f64>,
    others: Vec<f64>,
}

impl Sum {
    fn add(&mut self, slice: &Slice) {
        self.answered += slice.result.answered;
        self.seconds += slice.result.seconds;
        self.used += slice.used;
        self.p99_ms.push(slice.result.p99_ms);
        self.others.push(slice.others);
    }

    fn cpu_us(&self) -> f64 {
        self.used.as_secs_f64() * 1e6 / self.answered as f64
    }

    /// The median of the slices'.
    fn p99_ms(&self) -> f64 {
        let mut sorted = self.p99_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// One slice: what the load saw, the CPU time of the proxy, and the cores that others used.
struct Slice {
    result: LoadResult,
    used: Duration,
    others: f64,
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

    /// Loads it for `seconds`.
    fn one_load(&self, rate: Option<f64>, warm_up_s: f64, seconds: f64) -> Result<Slice> {
        let mut arguments: Vec<String> = ["part", "load", "--target"].map(str::to_owned).into();
        arguments.push(self.listen.to_string());
        arguments.extend(["--concurrency".to_owned(), CONCURRENCY.to_string()]);
        arguments.extend(["--warm-up-s".to_owned(), warm_up_s.to_string()]);
        arguments.extend(["--seconds".to_owned(), seconds.to_string()]);
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
        let patience = Duration::from_secs_f64(warm_up_s + seconds + 20.0);
        ensure!(load.line(patience)? == "begin", "the load began with an unexpected line");
        let (begin, proxy_before) = (Instant::now(), self.proxy.process.cpu_time()?);
        let (machine_before, load_before) = (cpu::machine_time()?, load.cpu_time()?);
        let cells_before = self.cells_time()?;
        // The load ends with its result, so what it used is asked for shortly before.
        std::thread::sleep(Duration::from_secs_f64(seconds * 0.9));
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
        Ok(Slice { result, used, others })
    }

    fn cells_time(&self) -> Result<Duration> {
        self.cells.iter().map(Process::cpu_time).sum()
    }

    /// Bytes that an idle connection takes.
    fn idle(self) -> Result<f64> {
        // A little work first, so that what is allocated once is there before.
        self.one_load(Some(STEADY_RATE / 10.0), FIRST_WARM_UP_S, SLICE_S)?;
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
        Ok(grown as f64 / IDLE_CONNECTIONS as f64)
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
