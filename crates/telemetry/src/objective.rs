//! Does a cell keep its objective? Judged from probes and real traffic together, over a short sliding window.
//!
//! - The window is the longer of 1 s and four probe intervals.
//! - With at least [`MIN_REQUESTS`] requests in it (probes count as requests), the objective is broken when the share
//!   of errors or of slow answers is above what it allows.
//! - With fewer, the last [`PROBES_JUDGED`] probes decide: it is broken when at least half of them, and at least two,
//!   failed or took longer than the objective's latency.
//! - With fewer than two probes besides, nothing can be said: unknown, never met.
//! - A breach that lasts for `failed_for` is a failure. It ends once the objective was kept for a whole window, so
//!   that a cell which flaps within a window does not count as recovered.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use forefend_domain::{CellId, Objective, ObjectiveState, Timestamp, ports::ProbeOutcome};

/// Requests that a window must hold for its shares to be judged: below, one stray error would be above 5%.
pub const MIN_REQUESTS: u64 = 20;
/// How many of the last probes are judged while there is too little traffic.
pub const PROBES_JUDGED: usize = 4;
/// Half of [`PROBES_JUDGED`]; also the fewest probes from which anything is concluded.
const PROBES_BAD: usize = 2;
const MIN_WINDOW: Duration = Duration::from_secs(1);
/// Bound of ticks remembered in one window: more often than every 4 ms nobody ticks.
const MAX_TICKS: usize = 256;

/// How cells are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTiming {
    /// From one probe to the next.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
}

/// What the data plane saw at a cell since the last tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficDelta {
    /// Requests ended, well or not.
    pub requests: u64,
    /// Of those, errors.
    pub errors: u64,
    /// Of those that were no errors, over the latency objective.
    pub slow: u64,
}

/// Judges cells. Pure: time is passed in.
#[derive(Debug)]
pub struct ObjectiveTracker {
    window: Duration,
    /// Probes are remembered for longer than the window, since the outcome of one that hangs comes a timeout late.
    probe_memory: Duration,
    cells: BTreeMap<CellId, Judged>,
}

#[derive(Debug, Default)]
struct Judged {
    probes: VecDeque<Probe>,
    traffic: VecDeque<(Timestamp, TrafficDelta)>,
    now: Timestamp,
    standing: Standing,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    at: Timestamp,
    ok: bool,
    took: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Standing {
    #[default]
    Unknown,
    Met {
        since: Timestamp,
    },
    Broken {
        since: Timestamp,
        /// Since when it is kept again, if it is; not yet for a whole window.
        kept_since: Option<Timestamp>,
        failed: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    TooLittle,
    Kept,
    Broken,
}

impl ObjectiveTracker {
    /// A tracker that has seen nothing.
    #[must_use]
    pub fn new(timing: ProbeTiming) -> Self {
        let window = timing.interval.saturating_mul(4).max(MIN_WINDOW);
        Self { window, probe_memory: window.saturating_add(timing.timeout), cells: BTreeMap::new() }
    }

    /// Takes the outcome of a probe. Outcomes may come in any order.
    pub fn probe(&mut self, outcome: &ProbeOutcome) {
        let probes = &mut self.cells.entry(outcome.cell.clone()).or_default().probes;
        let place = probes.partition_point(|probe| probe.at <= outcome.at);
        probes.insert(place, Probe { at: outcome.at, ok: outcome.ok, took: outcome.took });
        if probes.len() > PROBES_JUDGED {
            probes.pop_front();
        }
    }

    /// Takes what the data plane saw up to `at` since the last call. A delta without requests says nothing.
    pub fn traffic(&mut self, cell: &CellId, at: Timestamp, delta: TrafficDelta) {
        if delta.requests == 0 {
            return;
        }
        let traffic = &mut self.cells.entry(cell.clone()).or_default().traffic;
        if traffic.len() == MAX_TICKS {
            traffic.pop_front();
        }
        traffic.push_back((at, delta));
    }

    /// Where the cell stands at `now`. Call it once a tick: the states' times are times of calls.
    pub fn judge(&mut self, cell: &CellId, objective: &Objective, now: Timestamp) -> ObjectiveState {
        let (window, probe_memory) = (self.window, self.probe_memory);
        let Some(judged) = self.cells.get_mut(cell) else { return ObjectiveState::Unknown };
        judged.now = judged.now.max(now);
        let now = judged.now;
        judged.traffic.retain(|(at, _)| now.since(*at) <= window);
        judged.probes.retain(|probe| now.since(probe.at) <= probe_memory);
        let finding = judged.finding(objective, window);
        judged.standing = judged.standing.after(finding, now, window, objective.failed_for);
        judged.standing.state()
    }

    /// Forgets a cell: when it is retired, parked or made anew.
    pub fn forget(&mut self, cell: &CellId) {
        self.cells.remove(cell);
    }

    /// The length of the sliding window.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }
}

impl Judged {
    fn finding(&self, objective: &Objective, window: Duration) -> Finding {
        let slow = |probe: &&Probe| probe.ok && probe.took > objective.latency;
        let recent = || self.probes.iter().filter(|probe| self.now.since(probe.at) <= window);
        let sum = |part: fn(&TrafficDelta) -> u64| {
            self.traffic.iter().fold(0u64, |sum, (_, delta)| sum.saturating_add(part(delta)))
        };
        let requests = sum(|delta| delta.requests);
        let total = requests.saturating_add(recent().count() as u64);
        if requests > 0 && total >= MIN_REQUESTS {
            let errors = sum(|delta| delta.errors) as f64 + recent().filter(|p| !p.ok).count() as f64;
            let slow = sum(|delta| delta.slow) as f64 + recent().filter(slow).count() as f64;
            let total = total as f64;
            return if errors / total > objective.error_share || slow / total > objective.slow_share {
                Finding::Broken
            } else {
                Finding::Kept
            };
        }
        if self.probes.len() < PROBES_BAD {
            return Finding::TooLittle;
        }
        let bad = self.probes.iter().filter(|probe| !probe.ok || slow(probe)).count();
        if bad >= PROBES_BAD { Finding::Broken } else { Finding::Kept }
    }
}

impl Standing {
    fn after(self, finding: Finding, now: Timestamp, window: Duration, failed_for: Duration) -> Self {
        match (finding, self) {
            (Finding::TooLittle, _) => Self::Unknown,
            (Finding::Kept, Self::Unknown) => Self::Met { since: now },
            (Finding::Kept, Self::Met { since }) => Self::Met { since },
            (Finding::Kept, Self::Broken { since, kept_since, failed }) => {
                let kept_since = kept_since.unwrap_or(now);
                if now.since(kept_since) >= window {
                    Self::Met { since: kept_since }
                } else {
                    Self::Broken { since, kept_since: Some(kept_since), failed }
                }
            }
            (Finding::Broken, Self::Unknown | Self::Met { .. }) => {
                Self::Broken { since: now, kept_since: None, failed: failed_for.is_zero() }
            }
            (Finding::Broken, Self::Broken { since, kept_since: _, failed }) => {
                Self::Broken { since, kept_since: None, failed: failed || now.since(since) >= failed_for }
            }
        }
    }

    fn state(self) -> ObjectiveState {
        match self {
            Self::Unknown => ObjectiveState::Unknown,
            Self::Met { since } => ObjectiveState::Met { since },
            Self::Broken { since, failed: false, .. } => ObjectiveState::Breaking { since },
            Self::Broken { since, failed: true, .. } => ObjectiveState::Failed { since },
        }
    }
}
