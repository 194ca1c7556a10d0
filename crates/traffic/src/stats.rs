//! What was seen at a cell: counters that only one worker writes, merged when a report is asked for.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use histogram::{AtomicHistogram, Histogram};

/// Buckets are at most 1/64 wide, so half a bucket is less than 1% off.
const GROUPING_POWER: u8 = 6;
/// Microseconds up to 2³², over an hour.
const MAX_VALUE_POWER: u8 = 32;

/// What one worker saw at one cell. The padding keeps the workers' counters out of each other's cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slice {
    requests: AtomicU64,
    errors: AtomicU64,
    slow: AtomicU64,
    in_flight: AtomicU64,
    /// Latency in microseconds. Made at the first response: most of many cells are idle.
    latency: OnceLock<Box<AtomicHistogram>>,
}

/// What all workers saw at one cell, under its name: it outlives changes of the cell's address.
#[derive(Debug)]
pub(crate) struct CellStats {
    slices: Box<[Slice]>,
}

/// The sum over workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) slow: u64,
    pub(crate) in_flight: u64,
    /// Since they were last taken.
    pub(crate) p50: Option<Duration>,
    /// Since they were last taken.
    pub(crate) p99: Option<Duration>,
}

/// Adds to a counter that nobody else writes: no locked instruction is needed.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

impl CellStats {
    pub(crate) fn new(workers: usize) -> Self {
        Self { slices: (0..workers).map(|_| Slice::default()).collect() }
    }

    /// A try began. Every call is followed by one of [`CellStats::ended`].
    pub(crate) fn began(&self, worker: usize) {
        add(&self.slices[worker].in_flight, 1);
    }

    /// A try ended.
    pub(crate) fn ended(&self, worker: usize, outcome: Outcome) {
        let slice = &self.slices[worker];
        add(&slice.in_flight, u64::MAX);
        add(&slice.requests, 1);
        match outcome {
            Outcome::Good => {}
            Outcome::Slow => add(&slice.slow, 1),
            Outcome::Error => add(&slice.errors, 1),
        }
    }

    /// A response header came after `latency`.
    pub(crate) fn responded(&self, worker: usize, latency: Duration) {
        let latency_us =
            u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min((1 << MAX_VALUE_POWER) - 1);
        let histogram = self.slices[worker].latency.get_or_init(|| {
            let made = AtomicHistogram::new(GROUPING_POWER, MAX_VALUE_POWER);
            Box::new(made.expect("the powers are constants within the crate's limits"))
        });
        let recorded = histogram.increment(latency_us);
        debug_assert!(recorded.is_ok(), "the value was clamped to the range");
    }

    /// Sums up, and begins the latencies anew.
    pub(crate) fn take(&self) -> Totals {
        let sum =
            |of: fn(&Slice) -> &AtomicU64| self.slices.iter().map(|slice| of(slice).load(Relaxed)).sum();
        let mut merged: Option<Histogram> = None;
        for drained in
            self.slices.iter().filter_map(|slice| slice.latency.get()).map(|latency| latency.drain())
        {
            merged = match merged {
                None => Some(drained),
                Some(sum) => Some(sum.wrapping_add(&drained).unwrap_or(sum)),
            };
        }
        let quantile = |q: f64| {
            let bucket = merged.as_ref()?.quantile_bucket(q).ok()??;
            Some(Duration::from_micros(bucket.start().midpoint(bucket.end())))
        };
        Totals {
            requests: sum(|s| &s.requests),
            errors: sum(|s| &s.errors),
            slow: sum(|s| &s.slow),
            in_flight: sum(|s| &s.in_flight),
            p50: quantile(0.5),
            p99: quantile(0.99),
        }
    }
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well and in time.
    Good,
    /// Well, but over the latency objective.
    Slow,
    /// 5xx, refused, reset or timed out.
    Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_percent_and_begin_anew_with_each_report() {
        let stats = CellStats::new(2);
        for ms in 1..=1_000u64 {
            stats.responded((ms % 2) as usize, Duration::from_millis(ms));
        }
        let totals = stats.take();
        let off = |found: Option<Duration>, ms: f64| (found.unwrap().as_secs_f64() * 1e3 / ms - 1.0).abs();
        assert!(off(totals.p50, 500.0) < 0.03, "{totals:?}");
        assert!(off(totals.p99, 990.0) < 0.03, "{totals:?}");
        assert_eq!(stats.take().p99, None);
    }

    #[test]
    fn what_workers_saw_is_summed() {
        let stats = CellStats::new(2);
        for worker in [0, 1, 1] {
            stats.began(worker);
        }
        stats.ended(0, Outcome::Error);
        stats.ended(1, Outcome::Slow);
        let totals = stats.take();
        assert_eq!((totals.requests, totals.errors, totals.slow, totals.in_flight), (2, 1, 1, 1));
    }
}
