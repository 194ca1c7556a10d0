//! One task for each source of each cell.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use forefend_domain::{CellId, Timestamp, ports::ProbeOutcome};
use tokio::{
    runtime::Handle,
    task::{self, JoinHandle, JoinSet},
    time::{self, Instant, Interval, MissedTickBehavior},
};

use super::{
    HostTarget, Target,
    shared::{Shared, Source, State},
};
use crate::{
    catalogue,
    host::{Limits, Reader},
    logs::{self, CellLogs, Follower, LogTarget},
    probe::{ProbeTarget, Probed, probe},
    scrape::{ScrapeTarget, Scraper},
    select,
};

/// Probes of one cell that may wait for answers at once. A probe that hangs must not keep the next from being sent,
/// or a cell that hangs would be noticed a timeout later than one that is dead.
const MAX_PROBES_IN_FLIGHT: usize = 4;
/// Nothing is asked more often than this, whatever a target says.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum SourceTarget {
    Scrape(ScrapeTarget),
    Probe(ProbeTarget),
    Host(HostTarget),
    Logs(LogTarget),
}

impl SourceTarget {
    /// The sources to run. A parked cell can be read through the kernel and from its files, but can't answer.
    pub(super) fn of(target: Target) -> Vec<Self> {
        let answers = !target.paused;
        let scrape = target.scrape.filter(|_| answers).map(Self::Scrape);
        let probe = target.probe.filter(|_| answers).map(Self::Probe);
        let (host, logs) = (target.host.map(Self::Host), target.logs.map(Self::Logs));
        [scrape, probe, host, logs].into_iter().flatten().collect()
    }

    pub(super) fn kind(&self) -> Source {
        match self {
            Self::Scrape(_) => Source::Scrape,
            Self::Probe(_) => Source::Probe,
            Self::Host(_) => Source::Host,
            Self::Logs(_) => Source::Logs,
        }
    }

    fn interval(&self) -> Duration {
        let interval = match self {
            Self::Scrape(target) => target.interval,
            Self::Probe(target) => target.interval,
            Self::Host(target) => target.interval,
            Self::Logs(target) => target.interval,
        };
        interval.max(MIN_INTERVAL)
    }
}

/// A task that is stopped when this is dropped.
pub(super) struct Running {
    shared: Arc<Shared>,
    live: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Running {
    /// Stops it and waits for its end.
    pub(super) async fn stop(mut self) {
        let task = self.task.take();
        self.end(task.as_ref());
        if let Some(task) = task {
            // An error here says that it was aborted, which is what was wanted, or panicked, which the runtime tells.
            drop(task.await);
        }
    }

    fn end(&self, task: Option<&JoinHandle<()>>) {
        // Under the lock: once this returns, the task can't write any more, even if it is running right now.
        let state = self.shared.lock();
        self.live.store(false, Ordering::Relaxed);
        drop(state);
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(self.task.as_ref());
    }
}

/// What a task knows of its surroundings.
struct Context {
    shared: Arc<Shared>,
    cell: CellId,
    source: Source,
    live: Arc<AtomicBool>,
}

impl Context {
    /// Writes, unless the task was stopped meanwhile.
    fn write(&self, write: impl FnOnce(&mut State)) {
        let mut state = self.shared.lock();
        if self.live.load(Ordering::Relaxed) {
            write(&mut state);
        }
    }
}

pub(super) fn start(runtime: &Handle, shared: &Arc<Shared>, cell: &CellId, target: SourceTarget) -> Running {
    let live = Arc::new(AtomicBool::new(true));
    let context = Context {
        shared: Arc::clone(shared),
        cell: cell.clone(),
        source: target.kind(),
        live: Arc::clone(&live),
    };
    let task = runtime.spawn(async move {
        let ticks = ticks(&context, target.interval());
        match target {
            SourceTarget::Scrape(target) => scrapes(context, target, ticks).await,
            SourceTarget::Probe(target) => probes(context, target, ticks).await,
            SourceTarget::Host(target) => readings(context, target, ticks).await,
            SourceTarget::Logs(target) => log_files(context, target, ticks).await,
        }
    });
    Running { shared: Arc::clone(shared), live, task: Some(task) }
}

/// A steady beat. Its phase comes from the cell's name, so that cells are not asked all at once; it lies in the middle
/// half of a step, so that no jitter of the timer puts two observations into one step and none into the next.
fn ticks(context: &Context, interval: Duration) -> Interval {
    let step_ms = u64::try_from(context.shared.options.store.step.as_millis()).unwrap_or(u64::MAX).max(1);
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut hasher = DefaultHasher::new();
    (&context.cell, context.source).hash(&mut hasher);
    let wait_ms = first_wait_ms(context.shared.now(), step_ms, interval_ms, hasher.finish());
    let mut ticks = time::interval_at(Instant::now() + Duration::from_millis(wait_ms), interval);
    // Keeps the phase.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Less than one interval.
fn first_wait_ms(now: Timestamp, step_ms: u64, interval_ms: u64, hash: u64) -> u64 {
    let within_step = step_ms / 4 + (hash >> 32) % (step_ms / 2).max(1);
    let which_step = hash % (interval_ms / step_ms).max(1);
    let phase = (which_step * step_ms + within_step) % interval_ms;
    (phase + interval_ms - now.unix_ms() % interval_ms) % interval_ms
}

async fn scrapes(context: Context, target: ScrapeTarget, mut ticks: Interval) {
    let options = &context.shared.options;
    let mut scraper = Scraper::new(&target, options.max_scrape_bytes, options.exposition);
    loop {
        ticks.tick().await;
        let at = context.shared.now();
        let (selected, problem) = match scraper.scrape().await {
            Ok(exposition) => {
                let (selected, left_out) = if target.metrics.is_empty() {
                    select::take_all(&exposition, options.default_series, at)
                } else {
                    (select::select(&exposition, &target.metrics, at), 0)
                };
                let problem = match &exposition.first_error {
                    Some(first) => {
                        Some(format!("{} lines were skipped; the first: {first}", exposition.broken_lines))
                    }
                    None if selected.is_empty() => Some(
                        "the scrape holds none of the metrics that are wanted; see the names under `metrics`"
                            .into(),
                    ),
                    None if left_out > 0 => Some(format!(
                        "{left_out} series beyond {} were left out; select what matters",
                        options.default_series
                    )),
                    None => None,
                };
                (selected, problem)
            }
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        context.write(|state| {
            let samples = selected.iter().map(|selected| (&selected.spec, selected.at, Some(selected.value)));
            let refused = state.record(&context.cell, samples);
            state.note(&context.cell, context.source, at, problem.or(refused));
        });
    }
}

async fn probes(context: Context, target: ProbeTarget, mut ticks: Interval) {
    let mut in_flight: JoinSet<(Timestamp, Probed)> = JoinSet::new();
    let target = Arc::new(target);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if in_flight.len() < MAX_PROBES_IN_FLIGHT {
                    let (target, shared) = (Arc::clone(&target), Arc::clone(&context.shared));
                    in_flight.spawn(async move {
                        let probed = probe(&target).await;
                        (shared.now(), probed)
                    });
                }
            }
            Some(Ok((at, probed))) = in_flight.join_next() => {
                context.write(|state| report(state, &context.cell, target.limit_ms(), at, probed));
            }
        }
    }
}

fn report(state: &mut State, cell: &CellId, limit_ms: Option<f64>, at: Timestamp, probed: Probed) {
    let ok = probed.outcome.is_ok();
    let latency = ok.then_some(probed.took.as_secs_f64() * 1_000.0);
    let failed = if ok { 0.0 } else { 1.0 };
    let specs = (catalogue::PROBE_LATENCY.spec(limit_ms), catalogue::PROBE_FAILED.spec(None));
    let refused = state.record(cell, [(&specs.0, at, latency), (&specs.1, at, Some(failed))]);
    state.note(cell, Source::Probe, at, probed.outcome.err().map(|error| error.to_string()).or(refused));
    state.queue(ProbeOutcome { cell: cell.clone(), at, ok, took: probed.took });
}

async fn readings(context: Context, target: HostTarget, mut ticks: Interval) {
    let host_cpus = std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64);
    let limits = Limits { memory_bytes: target.memory_limit, host_cpus };
    let mut reader = Reader::new(target.proc_root, target.pid, target.cgroup, limits);
    loop {
        ticks.tick().await;
        let at = context.shared.now();
        // Files of the kernel have no asynchronous reading; a blocked one must not hold up a worker.
        let read = task::spawn_blocking(move || {
            let outcome = reader.read(at);
            (reader, outcome)
        });
        // It panics only if reading did, and ends with the runtime: in both cases there is nothing left to read.
        let Ok((returned, (observed, errors))) = read.await else { return };
        reader = returned;
        context.write(|state| {
            let samples = observed.iter().map(|(spec, value)| (spec, at, *value));
            let refused = state.record(&context.cell, samples);
            let problem = errors.first().map(|error| error.to_string()).or(refused);
            state.note(&context.cell, context.source, at, problem);
        });
    }
}

/// What one look at the files of a cell found.
struct Read {
    followers: Vec<Follower>,
    /// Whether one of them is there.
    present: bool,
    problem: Option<String>,
}

async fn log_files(context: Context, target: LogTarget, mut ticks: Interval) {
    let cell_logs = context.shared.logs.open(&context.cell, &target.options);
    let most = target.options.max_line_bytes;
    let mut followers: Vec<Follower> =
        target.paths.iter().map(|path| Follower::new(path.clone(), logs::BYTES_PER_LOOK, most)).collect();
    loop {
        ticks.tick().await;
        let at = context.shared.now();
        let here = Arc::clone(&cell_logs);
        // Files have no asynchronous reading either, and a line takes some microseconds to count.
        let read = task::spawn_blocking(move || read_logs(followers, &here, at)).await;
        let Ok(read) = read else { return };
        followers = read.followers;
        let observed = logs::lock(&cell_logs).sample(at, read.present);
        context.write(|state| {
            let samples = observed.iter().map(|(spec, at, value)| (spec, *at, *value));
            let refused = state.record(&context.cell, samples);
            state.note(&context.cell, context.source, at, read.problem.or(refused));
        });
    }
}

/// Reads what is new in all files of a cell. The first problem is told, one of skipped lines last.
fn read_logs(mut followers: Vec<Follower>, cell_logs: &Mutex<CellLogs>, at: Timestamp) -> Read {
    let (mut present, mut problem, mut skipped) = (false, None, None);
    let mut cell_logs = logs::lock(cell_logs);
    for follower in &mut followers {
        match follower.look(|line, cut| cell_logs.bytes(at, line, cut)) {
            Ok(looked) => {
                present |= looked.present;
                cell_logs.note(looked.skipped_bytes, u64::from(looked.restarted));
                let path = follower.path().display();
                if looked.skipped_bytes > 0 {
                    skipped = Some(format!(
                        "{} bytes of {path} were skipped: more is written to it than is read, and its rates are too low",
                        looked.skipped_bytes
                    ));
                }
                if !looked.present {
                    problem.get_or_insert_with(|| {
                        format!("there is no {path}; its rates are unknown until it is there")
                    });
                }
            }
            Err(error) => drop(problem.get_or_insert_with(|| error.to_string())),
        }
    }
    drop(cell_logs);
    Read { followers, present, problem: problem.or(skipped) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_beat_begins_within_an_interval_and_away_from_the_edges_of_steps(
            now in 0u64..10_000_000, step in 4u64..5_000, steps in 1u64..20, hash: u64,
        ) {
            let interval = step * steps;
            let wait = first_wait_ms(Timestamp::from_unix_ms(now), step, interval, hash);
            prop_assert!(wait < interval);
            let in_step = (now + wait) % step;
            prop_assert!(in_step >= step / 4 && in_step < step / 4 + (step / 2).max(1));
        }

        #[test]
        fn no_interval_is_too_odd(now: u64, step in 1u64..100_000, interval in 1u64..100_000, hash: u64) {
            prop_assert!(first_wait_ms(Timestamp::from_unix_ms(now), step, interval, hash) < interval);
        }
    }
}
