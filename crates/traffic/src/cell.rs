//! A cell as all workers see it: its address, whether it may be sent to, and what was seen at it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use forefend_domain::{CellHealth, CellId};

use crate::{stats::CellStats, wire::Ejection};

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// The clock all threads of a director share, counted from its start: fits in an atomic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Moment {
        Moment { us: Instant::now().saturating_duration_since(self.0).as_micros() as u64 }
    }

    /// Milliseconds since the start, never 0 (which stands for "never").
    pub(crate) fn ms(self) -> u64 {
        self.now().ms()
    }

    pub(crate) fn at(self, ms: u64) -> Instant {
        self.0 + Duration::from_millis(ms.saturating_sub(1))
    }
}

/// A time on the clock: one number, for every request asks for several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    us: u64,
}

impl Moment {
    /// Milliseconds since the start, never 0.
    pub(crate) fn ms(self) -> u64 {
        self.us / 1_000 + 1
    }

    /// What has passed since `earlier`; zero if it is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.us.saturating_sub(earlier.us))
    }
}

/// One cell at one address. A changed address makes a new one, of which nothing is known.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) id: CellId,
    pub(crate) address: SocketAddr,
    pub(crate) stats: Arc<CellStats>,
    checked: AtomicU8,
    failures_in_row: AtomicU32,
    ejected_until_ms: AtomicU64,
    ejections: AtomicU32,
    why: Mutex<String>,
}

impl Cell {
    pub(crate) fn new(id: CellId, address: SocketAddr, stats: Arc<CellStats>) -> Self {
        Self {
            id,
            address,
            stats,
            checked: AtomicU8::new(UNKNOWN),
            failures_in_row: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            why: Mutex::new("not checked yet".into()),
        }
    }

    /// Whether requests may be sent to it, as far as checks and ejection tell.
    pub(crate) fn is_available(&self, now_ms: u64) -> bool {
        self.checked.load(Relaxed) != DOWN && self.ejected_until_ms.load(Relaxed) <= now_ms
    }

    /// A try went well: the row of failures ends.
    pub(crate) fn succeeded(&self) {
        // Read first: on the hot path the line stays shared between the workers' caches.
        if self.failures_in_row.load(Relaxed) != 0 {
            self.failures_in_row.store(0, Relaxed);
        }
    }

    /// A try failed. `true` when that is one too many and the cell should be ejected.
    pub(crate) fn failed(&self, ejection: &Ejection) -> bool {
        let in_row = self.failures_in_row.fetch_add(1, Relaxed).saturating_add(1);
        ejection.consecutive_failures > 0 && in_row >= ejection.consecutive_failures
    }

    /// Leaves it out for a time that doubles with each ejection (until a long good time makes it forgotten).
    pub(crate) fn eject(&self, ejection: &Ejection, now_ms: u64, cause: &str) {
        let last_until = self.ejected_until_ms.load(Relaxed);
        let max_ms = ejection.max_duration.as_millis() as u64;
        if last_until > 0 && now_ms > last_until.saturating_add(max_ms) {
            self.ejections.store(0, Relaxed);
        }
        let times = self.ejections.fetch_add(1, Relaxed).min(20);
        let for_ms =
            (ejection.base_duration.as_millis() as u64).saturating_mul(1 << times).min(max_ms.max(1));
        self.failures_in_row.store(0, Relaxed);
        self.ejected_until_ms.store(now_ms + for_ms, Relaxed);
        self.set_why(format!("ejected for {for_ms} ms: {cause}"));
        tracing::warn!(cell = %self.id, for_ms, cause, "cell ejected");
    }

    pub(crate) fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.load(Relaxed) > now_ms
    }

    /// What the checks found; returns whether that is a change.
    pub(crate) fn set_checked(&self, health: CellHealth, why: String) -> bool {
        let value = match health {
            CellHealth::Unknown => UNKNOWN,
            CellHealth::Up => UP,
            CellHealth::Down => DOWN,
        };
        let changed = self.checked.swap(value, Relaxed) != value;
        self.set_why(why);
        changed
    }

    /// Health for the report, with the reason.
    pub(crate) fn health(&self, now_ms: u64) -> (CellHealth, String) {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let until = self.ejected_until_ms.load(Relaxed);
        if until > now_ms {
            return (CellHealth::Down, format!("{why} ({} ms left)", until - now_ms));
        }
        match self.checked.load(Relaxed) {
            UP => (CellHealth::Up, why),
            DOWN => (CellHealth::Down, why),
            _ => (CellHealth::Unknown, why),
        }
    }

    fn set_why(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell() -> Cell {
        let address = "127.0.0.1:1".parse().unwrap();
        Cell::new(CellId::new("a").unwrap(), address, Arc::new(CellStats::new(1)))
    }

    #[test]
    fn ejections_double_up_to_the_longest_and_are_forgotten_after_a_good_time() {
        let ejection = Ejection {
            consecutive_failures: 2,
            base_duration: Duration::from_millis(100),
            max_duration: Duration::from_millis(300),
            max_percent: 100,
        };
        let cell = cell();
        assert!(!cell.failed(&ejection));
        cell.succeeded();
        assert!(!cell.failed(&ejection), "a good answer ends the row");
        assert!(cell.failed(&ejection));
        cell.eject(&ejection, 1_000, "test");
        assert!(!cell.is_available(1_099) && cell.is_available(1_100));
        cell.eject(&ejection, 1_200, "test");
        assert!(!cell.is_available(1_399) && cell.is_available(1_400));
        cell.eject(&ejection, 1_400, "test");
        assert!(!cell.is_available(1_699) && cell.is_available(1_700), "at most 300 ms");
        cell.eject(&ejection, 9_000, "test");
        assert!(cell.is_available(9_100), "the good time was not honoured");
    }
}
