//! Collects from a changing set of cells, all at once, and hands the loop aligned windows.

mod directory;
mod intake;
mod logs;
mod pulled;
mod shared;
mod target;
mod tasks;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forefend_domain::{
    CellId, MetricName, Timestamp, Windows,
    ports::{ProbeOutcome, TelemetrySource},
};
use tokio::runtime::Handle;

use self::{
    directory::Directory,
    shared::Shared,
    tasks::{Running, SourceTarget},
};
use crate::{
    exposition::Limits,
    history::History,
    logs::Logs,
    prometheus::{Follower, PrometheusOptions},
    series::{MetricSpec, StoreOptions, TooManySeries},
};

pub use directory::Identity;
pub use intake::{Intake, Report};
pub use logs::LogRecord;
pub(crate) use pulled::{Found, Pulled};
pub use shared::{Problem, Source};
pub use target::{HostTarget, PushTarget, Target};

/// Cells whose windows are made while the store is locked: few enough that they stay near.
const CELLS_AT_ONCE: usize = 8;

/// Tells the time to the collector's tasks: the engine's clock.
pub type ClockFn = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a collector works.
#[derive(Clone)]
pub struct CollectorOptions {
    /// Steps, lengths and bounds of what is kept.
    pub store: StoreOptions,
    /// Bound of probe outcomes that wait for the loop; beyond it the oldest are dropped.
    pub max_probes_waiting: usize,
    /// Bound of a scrape's body in bytes.
    pub max_scrape_bytes: usize,
    /// Limits of an exposition.
    pub exposition: Limits,
    /// Bound of series taken from a target without selectors.
    pub default_series: usize,
    /// The engine's clock.
    pub clock: ClockFn,
}

impl CollectorOptions {
    /// Defaults, with the engine's clock.
    #[must_use]
    pub fn new(clock: ClockFn) -> Self {
        Self {
            store: StoreOptions::default(),
            max_probes_waiting: 65_536,
            max_scrape_bytes: 8 * 1_024 * 1_024,
            exposition: Limits::default(),
            default_series: 64,
            clock,
        }
    }
}

/// The shell around the pure parts: a task for each source of each cell, one store behind a lock that is never held
/// over an await. Dropping it aborts the tasks; [`Collector::shutdown`] also waits for their end.
pub struct Collector {
    shared: Arc<Shared>,
    runtime: Handle,
    running: BTreeMap<CellId, Vec<(SourceTarget, Running)>>,
}

impl Collector {
    /// A collector without targets, whose tasks will run on `runtime`.
    #[must_use]
    pub fn new(options: CollectorOptions, runtime: Handle) -> Self {
        Self { shared: Arc::new(Shared::new(options)), runtime, running: BTreeMap::new() }
    }

    /// Replaces the set of targets. Sources that did not change go on undisturbed, others are started or stopped.
    /// All that is known of a cell that is no longer among them is forgotten; to keep it, pause the target instead.
    /// Of two targets of one cell the later counts.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        let targets: BTreeMap<CellId, Target> = targets.into_iter().map(|t| (t.cell.clone(), t)).collect();
        let gone: Vec<CellId> =
            self.running.keys().filter(|cell| !targets.contains_key(*cell)).cloned().collect();
        for cell in gone {
            // The tasks first: none may write after the forgetting.
            self.running.remove(&cell);
            self.shared.forget(&cell);
        }
        self.shared.lock().pushes.directory = Directory::new(targets.values());
        for (cell, target) in targets {
            let wanted = SourceTarget::of(target);
            let mut before = self.running.remove(&cell).unwrap_or_default();
            let mut now = Vec::with_capacity(wanted.len());
            for source in wanted {
                match before.iter().position(|(old, _)| *old == source) {
                    Some(index) => now.push(before.swap_remove(index)),
                    None => {
                        let task = tasks::start(&self.runtime, &self.shared, &cell, source.clone());
                        now.push((source, task));
                    }
                }
            }
            for (old, task) in before {
                drop(task);
                if !now.iter().any(|(source, _)| source.kind() == old.kind()) {
                    self.shared.clear_problem(&cell, old.kind());
                    if old.kind() == Source::Logs {
                        self.shared.logs.forget(&cell);
                    }
                }
            }
            self.running.insert(cell, now);
        }
    }

    /// Takes a value from elsewhere: the data plane's own view, for example. See [`crate::catalogue`] for the names.
    ///
    /// # Errors
    /// [`TooManySeries`] when there is no room for a new metric.
    pub fn feed(
        &self,
        cell: &CellId,
        spec: &MetricSpec,
        at: Timestamp,
        value: Option<f64>,
    ) -> Result<(), TooManySeries> {
        self.shared.lock().store.record(cell, spec, at, value).map(drop)
    }

    /// The windows of one cell, up to the last step that has ended at `now`; `None`: nothing was ever heard of it.
    #[must_use]
    pub fn windows_of(&self, cell: &CellId, now: Timestamp) -> Option<Windows> {
        self.shared.lock().store.windows_for(cell, now)
    }

    /// The logs of all cells, for lines that do not come from files.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.shared.logs
    }

    /// Gives the windows the past of a history, of all cells that it knows. Returns how many metrics there was room for.
    pub fn restore(&self, history: &History) -> usize {
        let mut state = self.shared.lock();
        let mut restored = 0;
        for (cell, recorded) in &history.cells {
            for (name, series) in &recorded.series {
                let limit = series.samples.last().and_then(|(at, _)| series.limit_at(*at));
                let spec = MetricSpec {
                    name: name.clone(),
                    family: series.family,
                    kind: series.kind,
                    unit: series.unit.clone(),
                    limit,
                    counter: false,
                };
                restored += usize::from(state.store.restore(cell, &spec, &series.samples).is_ok());
            }
        }
        restored
    }

    /// Where pushed telemetry goes in, for tasks of their own. It knows the cells of [`Collector::set_targets`].
    #[must_use]
    pub fn intake(&self, identity: Identity) -> Intake {
        Intake::new(Arc::clone(&self.shared), identity)
    }

    /// Asks a Prometheus for telemetry, on a task of its own, until what is returned is dropped. It knows the cells of
    /// [`Collector::set_targets`]; call that first for cells whose past shall be read.
    #[must_use]
    pub fn follow_prometheus(&self, options: PrometheusOptions) -> Follower {
        Follower::start(options, Pulled::new(Arc::clone(&self.shared)), &self.runtime)
    }

    /// Sets or clears the limit of a metric, when it was learned or decided elsewhere; `false` when the metric is
    /// not known.
    pub fn set_limit(&self, cell: &CellId, metric: &MetricName, limit: Option<f64>) -> bool {
        self.shared.lock().store.set_limit(cell, metric, limit)
    }

    /// What does not work at the moment, ordered by cell. A problem goes when its source works again,
    /// one with pushes when there was none for a minute.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let now = self.shared.now();
        self.shared.lock().problems(now)
    }

    /// Tells what is known of cells now, to anybody on any thread.
    #[must_use]
    pub fn newest(&self) -> Newest {
        Newest(Arc::clone(&self.shared))
    }

    /// How it fares.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.shared.lock();
        Counts {
            series: state.store.series_count(),
            dropped_too_old: state.store.dropped_too_old(),
            refused_series: state.store.refused(),
            dropped_probes: state.dropped_probes,
            pushed_kept: state.pushes.kept,
            pushed_unknown: state.pushes.unknown,
            pushed_refused: state.pushes.refused,
        }
    }

    /// Stops all tasks and waits for their end, for at most `patience`; `false` when it was not enough.
    pub async fn shutdown(mut self, patience: Duration) -> bool {
        let running = std::mem::take(&mut self.running);
        let ended = async {
            for (_, task) in running.into_values().flatten() {
                task.stop().await;
            }
        };
        tokio::time::timeout(patience, ended).await.is_ok()
    }
}

/// What a collector knows, read from elsewhere.
#[derive(Clone)]
pub struct Newest(Arc<Shared>);

impl Newest {
    /// Each metric of a cell, by name, with its newest value and the end of the step that it stands for; no value where the
    /// whole window is a gap.
    #[must_use]
    pub fn of(&self, cell: &CellId) -> Vec<(MetricSpec, Option<(Timestamp, f64)>)> {
        self.0.lock().store.newest(cell)
    }
}

/// Numbers about the collector itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Series kept.
    pub series: usize,
    /// Observations dropped because they came too late.
    pub dropped_too_old: u64,
    /// Observations refused because there was no room for their series.
    pub refused_series: u64,
    /// Probe outcomes dropped because nobody took them.
    pub dropped_probes: u64,
    /// Points and records of logs that were pushed and taken.
    pub pushed_kept: u64,
    /// Points and records of logs that were pushed for cells that are not known.
    pub pushed_unknown: u64,
    /// Points that were pushed and can't be kept.
    pub pushed_refused: u64,
}

impl TelemetrySource for Collector {
    fn windows(&mut self, now: Timestamp) -> Vec<Windows> {
        self.shared.lock().store.windows(now)
    }

    fn each_windows(&mut self, now: Timestamp, look: &mut dyn FnMut(&mut Windows)) {
        let mut last: Option<CellId> = None;
        let mut places = Vec::new();
        loop {
            // Looking takes longer than making them, and meanwhile the tasks have something to record.
            let after = last.as_ref();
            let count = self.shared.lock().store.next_windows(now, after, CELLS_AT_ONCE, &mut places);
            let Some(newest) = places[..count].iter().flatten().next_back() else { return };
            last = Some(newest.cell.clone());
            places[..count].iter_mut().flatten().for_each(&mut *look);
        }
    }

    fn probes(&mut self) -> Vec<ProbeOutcome> {
        let mut outcomes: Vec<ProbeOutcome> = self.shared.lock().probes.drain(..).collect();
        // Tasks that end together may queue in any order.
        outcomes.sort_by_key(|outcome| outcome.at);
        outcomes
    }
}
