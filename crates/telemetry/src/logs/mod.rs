//! Logs as telemetry: lines in, rates out.
//!
//! A line is read in four steps, each pure: [`line`] finds its severity and its message, [`mask`](mod@mask) hides what differs
//! from line to line, [`drain`] finds its template, [`CellLogs`] counts it. [`follow`] is the shell that reads files across
//! rotation. [`Logs`] holds the counts of all cells and takes lines from anywhere, files or not: start from [`Logs::line`].
//!
//! A log that is there and says nothing is a measurement: its rates are zero. A log that is not there is a gap.

pub mod drain;
pub mod follow;
mod header;
pub mod line;
pub mod mask;
mod metrics;
mod pattern;
mod severity;
mod tally;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forefend_domain::{CellId, Timestamp};

pub use drain::{Drain, DrainOptions};
pub use follow::{FollowError, Follower};
pub use metrics::template_name;
pub use pattern::Pattern;
pub use severity::Severity;
pub use tally::{CellLogs, LogCounts, Observation};

/// Which logs of a cell are read, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LogTarget {
    /// The files. May be none: then only lines count that [`Logs::line`] is given.
    pub paths: Vec<PathBuf>,
    /// From one reading to the next.
    pub interval: Duration,
    /// What is made of the lines.
    pub options: LogOptions,
}

/// What is made of lines.
#[derive(Debug, Clone, PartialEq)]
pub struct LogOptions {
    /// Bound of a line in bytes; what is beyond is cut off, which is counted.
    pub max_line_bytes: usize,
    /// How templates are found.
    pub drain: DrainOptions,
    /// Bound of templates whose rate is a metric of its own.
    pub named: usize,
    /// For how long a template counts as novel; and how long a log is known before novelty is told at all.
    pub novel_for: Duration,
    /// Rates that must not be reached.
    pub limits: Vec<LogLimit>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            max_line_bytes: 4_096,
            drain: DrainOptions::default(),
            named: 16,
            novel_for: Duration::from_secs(600),
            limits: Vec::new(),
        }
    }
}

/// A rate that must not be reached.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLimit {
    /// Of which lines.
    pub of: Counted,
    /// Lines per second.
    pub per_second: f64,
}

/// Lines that are counted together because a limit was declared for them.
#[derive(Debug, Clone, PartialEq)]
pub enum Counted {
    /// As bad as this, or worse.
    AtLeast(Severity),
    /// Whose message fits.
    Lines(Pattern),
}

/// What is read of a file at most at one look: some 8 000 lines. More is skipped, and said, so that a burst costs neither memory
/// nor the freshness of what is told.
pub const BYTES_PER_LOOK: u64 = 1 << 20;

/// The logs of all cells: what collectors' tasks and receivers of pushed lines share.
#[derive(Debug, Default)]
pub struct Logs {
    cells: Mutex<BTreeMap<CellId, Arc<Mutex<CellLogs>>>>,
}

impl Logs {
    /// Takes a line of a cell, from a file or from anywhere else. `severity` where whoever sent it told it apart from the
    /// text; otherwise it is looked for there. `at` is when it came.
    ///
    /// `false`, and nothing is counted, when the cell's logs are not wanted.
    pub fn line(&self, cell: &CellId, at: Timestamp, severity: Option<Severity>, text: &str) -> bool {
        let Some(logs) = self.of(cell) else { return false };
        lock(&logs).pushed(at, severity, text);
        true
    }

    /// How the logs of a cell fare; `None` when they are not wanted.
    #[must_use]
    pub fn counts(&self, cell: &CellId) -> Option<LogCounts> {
        self.of(cell).map(|logs| lock(&logs).counts())
    }

    /// The logs of a cell from now on; what is known stays when `options` are the same.
    pub(crate) fn open(&self, cell: &CellId, options: &LogOptions) -> Arc<Mutex<CellLogs>> {
        let mut cells = lock(&self.cells);
        if let Some(known) = cells.get(cell)
            && lock(known).options() == options
        {
            return Arc::clone(known);
        }
        let fresh = Arc::new(Mutex::new(CellLogs::new(options.clone())));
        cells.insert(cell.clone(), Arc::clone(&fresh));
        fresh
    }

    pub(crate) fn forget(&self, cell: &CellId) {
        lock(&self.cells).remove(cell);
    }

    fn of(&self, cell: &CellId) -> Option<Arc<Mutex<CellLogs>>> {
        lock(&self.cells).get(cell).cloned()
    }
}

/// A panic elsewhere leaves counts usable: every operation on them ends in a consistent state.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
