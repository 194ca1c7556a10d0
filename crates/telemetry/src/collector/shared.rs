use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forefend_domain::{CellId, Timestamp, ports::ProbeOutcome};

use super::{CollectorOptions, intake::Pushes};
use crate::{
    logs::Logs,
    series::{MetricSpec, SeriesStore},
};

/// A problem with pushes is over when there was none for this long.
const PUSHES_GOOD_FOR: Duration = Duration::from_secs(60);

/// Where observations of a cell come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Its exposition.
    Scrape,
    /// Active probes.
    Probe,
    /// The kernel.
    Host,
    /// Its logs.
    Logs,
    /// What it, or somebody for it, pushes.
    Push,
}

/// Something does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// With which cell.
    pub cell: CellId,
    /// With which source.
    pub source: Source,
    /// Since when without a break.
    pub since: Timestamp,
    /// When it was last seen.
    pub at: Timestamp,
    /// The last error, in words.
    pub what: String,
}

pub(super) struct Shared {
    pub(super) options: CollectorOptions,
    pub(super) logs: Logs,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) store: SeriesStore,
    pub(super) probes: VecDeque<ProbeOutcome>,
    pub(super) dropped_probes: u64,
    pub(super) pushes: Pushes,
    /// At most one for each source of each target.
    problems: BTreeMap<(CellId, Source), Problem>,
    max_probes_waiting: usize,
}

impl Shared {
    pub(super) fn new(options: CollectorOptions) -> Self {
        let state = State {
            store: SeriesStore::new(options.store),
            probes: VecDeque::new(),
            dropped_probes: 0,
            pushes: Pushes::default(),
            problems: BTreeMap::new(),
            max_probes_waiting: options.max_probes_waiting.max(1),
        };
        Self { options, logs: Logs::default(), state: Mutex::new(state) }
    }

    /// Held for one batch of observations or one question, never over an await. A panic elsewhere leaves it usable:
    /// every operation on it ends in a consistent state.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.options.clock)()
    }

    pub(super) fn forget(&self, cell: &CellId) {
        self.logs.forget(cell);
        let mut state = self.lock();
        state.store.forget(cell);
        state.probes.retain(|outcome| outcome.cell != *cell);
        state.problems.retain(|(of, _), _| of != cell);
        state.pushes.cells.remove(cell);
    }

    pub(super) fn clear_problem(&self, cell: &CellId, source: Source) {
        self.lock().problems.remove(&(cell.clone(), source));
    }
}

impl State {
    pub(super) fn problems(&mut self, now: Timestamp) -> Vec<Problem> {
        // One good push does not say that the next is: others of the same cell may come from elsewhere.
        self.problems.retain(|(_, source), problem| {
            *source != Source::Push || now.since(problem.at) < PUSHES_GOOD_FOR
        });
        self.problems.values().cloned().collect()
    }

    /// Records observations; the error of the first one refused.
    pub(super) fn record<'a>(
        &mut self,
        cell: &CellId,
        observed: impl IntoIterator<Item = (&'a MetricSpec, Timestamp, Option<f64>)>,
    ) -> Option<String> {
        let mut first = None;
        for (spec, at, value) in observed {
            if let Err(refusal) = self.store.record(cell, spec, at, value) {
                first.get_or_insert_with(|| refusal.to_string());
            }
        }
        first
    }

    pub(super) fn queue(&mut self, outcome: ProbeOutcome) {
        if self.probes.len() >= self.max_probes_waiting {
            self.probes.pop_front();
            self.dropped_probes += 1;
        }
        self.probes.push_back(outcome);
    }

    /// Notes what does not work, or that all works. Logged when it begins and when it ends, not in between.
    pub(super) fn note(&mut self, cell: &CellId, source: Source, at: Timestamp, what: Option<String>) {
        let key = (cell.clone(), source);
        let Some(what) = what else {
            if self.problems.remove(&key).is_some() {
                tracing::info!(%cell, ?source, "telemetry works again");
            }
            return;
        };
        let since = self.problems.get(&key).map(|problem| problem.since);
        if since.is_none() {
            tracing::warn!(%cell, ?source, problem = what, "telemetry does not work");
        }
        let since = since.unwrap_or(at);
        self.problems.insert(key, Problem { cell: cell.clone(), source, since, at, what });
    }
}
