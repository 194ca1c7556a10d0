use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forefend_control::Snapshot;
use forefend_domain::{CellId, LedgerEntry, Timestamp, Weight};

use super::handle::{History, HistoryPoint, MetricNow};

/// A page of the ledger: entries below a place, at most so many, newest first.
type LedgerReader = Box<dyn Fn(Option<u64>, usize) -> Result<Vec<LedgerEntry>, String> + Send + Sync>;

/// What is measured of a cell now.
type MetricsReader = Box<dyn Fn(&CellId) -> Vec<MetricNow> + Send + Sync>;

/// A bounded history in memory: the oldest points and entries fall out first.
///
/// The engine feeds it each [`Snapshot`]; the ledger is read from the store when one is given
/// ([`MemoryHistory::with_ledger`]), else from the entries pushed here.
pub struct MemoryHistory {
    points_at_most: usize,
    entries_at_most: usize,
    every: Duration,
    kept: Mutex<Kept>,
    reader: Option<LedgerReader>,
    metrics: Option<MetricsReader>,
}

#[derive(Default)]
struct Kept {
    points: VecDeque<HistoryPoint>,
    entries: VecDeque<LedgerEntry>,
    recorded_at: Option<Timestamp>,
}

impl MemoryHistory {
    /// Keeps `points_at_most` points (one per cell and recorded tick; about 100 bytes each) and `entries_at_most`
    /// ledger entries. Ticks that follow a recorded one sooner than `every` are left out.
    #[must_use]
    pub fn new(points_at_most: usize, entries_at_most: usize, every: Duration) -> Self {
        Self { points_at_most, entries_at_most, every, kept: Mutex::default(), reader: None, metrics: None }
    }

    /// Reads the ledger with `reader` (of a store) instead of the entries pushed here.
    #[must_use]
    pub fn with_ledger(
        mut self,
        reader: impl Fn(Option<u64>, usize) -> Result<Vec<LedgerEntry>, String> + Send + Sync + 'static,
    ) -> Self {
        self.reader = Some(Box::new(reader));
        self
    }

    /// Asks `metrics` (of telemetry) what is measured of a cell now.
    #[must_use]
    pub fn with_metrics(
        mut self,
        metrics: impl Fn(&CellId) -> Vec<MetricNow> + Send + Sync + 'static,
    ) -> Self {
        self.metrics = Some(Box::new(metrics));
        self
    }

    /// Adds what the snapshot tells of every cell.
    pub fn record(&self, snapshot: &Snapshot) {
        let now = snapshot.world.now;
        let mut kept = self.lock();
        if kept.recorded_at.is_some_and(|last| now < last + self.every) {
            return;
        }
        kept.recorded_at = Some(now);
        for (service, view) in &snapshot.world.services {
            for (cell, seen) in &view.cells {
                let prediction = snapshot.predictions.get(cell);
                kept.points.push_back(HistoryPoint {
                    at: now,
                    service: service.clone(),
                    cell: cell.clone(),
                    effective_bp: view.effective.as_ref().map(|w| Weight::from_share(w.share(cell)).bp()),
                    observed_bp: seen.traffic.observed_share.map(|s| Weight::from_share(s).bp()),
                    probability: prediction.map(|p| p.probability.get()),
                    health: prediction.map(|p| p.health.get()),
                });
            }
        }
        let excess = kept.points.len().saturating_sub(self.points_at_most);
        kept.points.drain(..excess);
    }

    /// Adds an entry of the ledger. Not needed when a reader was given.
    pub fn push(&self, entry: LedgerEntry) {
        let mut kept = self.lock();
        if kept.entries.len() >= self.entries_at_most {
            kept.entries.pop_front();
        }
        kept.entries.push_back(entry);
    }

    /// Nothing under this lock can leave it half-changed, so a panic elsewhere need not take the history away.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for MemoryHistory {
    fn series(&self, since: Timestamp) -> Vec<HistoryPoint> {
        let kept = self.lock();
        let first = kept.points.partition_point(|point| point.at <= since);
        kept.points.range(first..).cloned().collect()
    }

    fn ledger(&self, before: Option<u64>, limit: usize) -> Result<Vec<LedgerEntry>, String> {
        if let Some(reader) = &self.reader {
            return reader(before, limit);
        }
        let kept = self.lock();
        let below = |entry: &&LedgerEntry| before.is_none_or(|before| entry.seq.0 < before);
        Ok(kept.entries.iter().rev().filter(below).take(limit).cloned().collect())
    }

    fn metrics(&self, cell: &CellId) -> Vec<MetricNow> {
        self.metrics.as_ref().map_or_else(Vec::new, |metrics| metrics(cell))
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::{EntryKind, LedgerSeq};

    use super::*;

    fn entry(seq: u64) -> LedgerEntry {
        LedgerEntry {
            seq: LedgerSeq(seq),
            at: Timestamp::from_unix_ms(seq),
            service: None,
            kind: EntryKind::Engine { what: "started".into() },
        }
    }

    #[test]
    fn the_ledger_is_paged_backwards_and_forgets_the_oldest() {
        let history = MemoryHistory::new(10, 5, Duration::ZERO);
        (1..=8).for_each(|seq| history.push(entry(seq)));
        let seqs = |before, limit| -> Vec<u64> {
            history.ledger(before, limit).unwrap().iter().map(|e| e.seq.0).collect()
        };
        assert_eq!(seqs(None, 3), [8, 7, 6]);
        assert_eq!(seqs(Some(6), 10), [5, 4]);
        assert!(seqs(Some(4), 10).is_empty());
    }

    #[test]
    fn a_reader_takes_the_place_of_pushed_entries() {
        let history = MemoryHistory::new(1, 1, Duration::ZERO).with_ledger(|before, limit| {
            assert_eq!((before, limit), (Some(9), 2));
            Err("the store is closed".into())
        });
        assert_eq!(history.ledger(Some(9), 2), Err("the store is closed".into()));
    }
}
