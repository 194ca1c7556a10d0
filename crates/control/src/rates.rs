//! From running totals to rates and deltas.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use forefend_domain::{CellId, Evidence, Rate, Timestamp, TrafficView, ports::DataPlaneReport};
use forefend_telemetry::objective::TrafficDelta;

/// Rates are taken over this long: long enough to be steady, short enough to follow a shift.
const RATE_OVER: Duration = Duration::from_millis(1_000);

/// At most this many reports are remembered per cell.
const MOST_REPORTS: usize = 64;

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    requests: u64,
    errors: u64,
    slow: u64,
}

/// Remembers totals between reports.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    incarnation: Option<u64>,
    last: BTreeMap<CellId, Totals>,
    recent: BTreeMap<CellId, VecDeque<(Timestamp, u64)>>,
}

impl Rates {
    /// Takes a report; returns each cell's traffic as seen, and what it completed since the last report.
    ///
    /// When the data plane was started anew its totals began at zero, and what it has completed since is the delta; what it completed
    /// between the last report and its end is lost, never guessed.
    pub(crate) fn take(
        &mut self,
        now: Timestamp,
        report: &DataPlaneReport,
    ) -> BTreeMap<CellId, (TrafficView, TrafficDelta)> {
        let anew = self.incarnation != Some(report.incarnation);
        let first_ever = self.incarnation.is_none();
        if anew {
            self.last.clear();
            self.recent.clear();
            self.incarnation = Some(report.incarnation);
        }
        self.last.retain(|cell, _| report.cells.contains_key(cell));
        self.recent.retain(|cell, _| report.cells.contains_key(cell));
        let mut views = BTreeMap::new();
        for (id, cell) in &report.cells {
            let totals = Totals { requests: cell.requests, errors: cell.errors, slow: cell.slow };
            // An engine that joins a running data plane must not take the whole past for the last tick.
            let unknown_past = if first_ever { totals } else { Totals::default() };
            let last = self.last.insert(id.clone(), totals).unwrap_or(unknown_past);
            let delta = TrafficDelta {
                requests: totals.requests.saturating_sub(last.requests),
                errors: totals.errors.saturating_sub(last.errors),
                slow: totals.slow.saturating_sub(last.slow),
            };
            let recent = self.recent.entry(id.clone()).or_default();
            recent.push_back((now, totals.requests));
            while recent.len() > MOST_REPORTS
                || recent.get(1).is_some_and(|(at, _)| now.since(*at) >= RATE_OVER)
            {
                recent.pop_front();
            }
            let rate = recent.front().and_then(|(at, requests)| {
                let seconds = now.since(*at).as_secs_f64();
                let done = totals.requests.saturating_sub(*requests) as f64;
                (seconds > 0.0).then(|| Rate::per_second(done / seconds).ok()).flatten()
            });
            let error_share = (delta.requests > 0).then(|| delta.errors as f64 / delta.requests as f64);
            let view = TrafficView {
                rate,
                observed_share: None,
                p99: cell.p99,
                error_share,
                in_flight: Some(cell.in_flight),
                since_last: Some(Evidence { requests: delta.requests, bad: delta.errors + delta.slow }),
            };
            views.insert(id.clone(), (view, delta));
        }
        views
    }
}

/// Fills in each cell's share of the requests seen at all the given cells.
pub(crate) fn fill_observed_shares<'a>(views: impl Iterator<Item = &'a mut TrafficView>) {
    let mut views: Vec<&mut TrafficView> = views.collect();
    let total: f64 = views.iter().filter_map(|v| v.rate.map(|r| r.get())).sum();
    for view in &mut views {
        view.observed_share = view.rate.filter(|_| total > 0.0).map(|rate| rate.get() / total);
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::{CellHealth, ports::CellReport};

    use super::*;

    fn report(incarnation: u64, requests: u64) -> DataPlaneReport {
        let cell = CellReport {
            requests,
            errors: 0,
            slow: 0,
            in_flight: 0,
            p50: None,
            p99: None,
            health: CellHealth::Up,
            why: String::new(),
        };
        DataPlaneReport {
            incarnation,
            generation: 1,
            effective: BTreeMap::new(),
            cells: BTreeMap::from([(CellId::new("a").expect("legal"), cell)]),
        }
    }

    fn step(rates: &mut Rates, at_ms: u64, incarnation: u64, requests: u64) -> (Option<f64>, u64) {
        let views = rates.take(Timestamp::from_unix_ms(at_ms), &report(incarnation, requests));
        let (view, delta) = &views["a"];
        (view.rate.map(Rate::get), delta.requests)
    }

    #[test]
    fn the_past_before_we_came_and_restarts_are_not_taken_for_traffic() {
        let mut rates = Rates::default();
        assert_eq!(step(&mut rates, 0, 7, 1_000_000), (None, 0));
        assert_eq!(step(&mut rates, 250, 7, 1_000_100), (Some(400.0), 100));
        // Started anew: 40 since its start, and no rate until two reports of it are there.
        assert_eq!(step(&mut rates, 500, 8, 40), (None, 40));
        assert_eq!(step(&mut rates, 750, 8, 140), (Some(400.0), 100));
    }
}
