//! Takes what a Prometheus was asked for: finds whose each series is, and puts it where scraped and pushed values go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use forefend_domain::{CellId, Timestamp};

use super::{
    directory::{Directory, Sender},
    shared::{Shared, State},
};
use crate::{
    prometheus::{api::Series, question::Grid},
    series::{MetricSpec, StoreOptions},
};

/// Series whose cells are found under one lock.
const SERIES_AT_ONCE: usize = 256;

/// Cells whose values are put in under one lock, for which the loop waits.
const CELLS_AT_ONCE: usize = 32;

/// Characters of a label that are shown.
const SHOWN: usize = 100;

/// Where asked telemetry goes in.
pub(crate) struct Pulled {
    shared: Arc<Shared>,
}

/// Series, by the cells they are of.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) of_cells: BTreeMap<CellId, Vec<Series>>,
    /// What names the first that is of nobody known.
    pub(crate) stranger: Option<String>,
}

/// What became of values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The first cell with several series at one instant, of which none counts.
    pub(crate) several: Option<CellId>,
    /// Why the first that found no room did not.
    pub(crate) refused: Option<String>,
}

/// What is at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Nothing,
    One(f64),
    Several,
}

impl Pulled {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.now()
    }

    pub(crate) fn store(&self) -> StoreOptions {
        self.shared.options.store
    }

    /// The length of a window.
    pub(crate) fn window(&self) -> Duration {
        let store = self.store();
        store.step.saturating_mul(u32::try_from(store.length).unwrap_or(u32::MAX))
    }

    /// How many cells there are.
    pub(crate) fn cells(&self) -> usize {
        self.shared.lock().pushes.directory.len()
    }

    /// Finds whose series are.
    pub(crate) fn find(&self, cell_labels: &[String], series: Vec<Series>) -> Found {
        let mut found = Found::default();
        let mut series = series.into_iter().peekable();
        // The loop must not wait for the whole of a large answer.
        while series.peek().is_some() {
            let state = self.shared.lock();
            let some = series.by_ref().take(SERIES_AT_ONCE);
            some.for_each(|one| found.add(&state.pushes.directory, cell_labels, one));
        }
        found
    }

    /// Puts in what was asked for at the instants of `grid`; `ours` makes times of ours of them. Where nothing is, of a cell that had something (`before`), is an
    /// explicit gap: a value that was shown there before was none. `before` is brought up to date.
    pub(crate) fn take(
        &self,
        spec: &MetricSpec,
        limits: &BTreeMap<CellId, f64>,
        grid: &Grid,
        ours: impl Fn(Timestamp) -> Timestamp,
        found: &BTreeMap<CellId, Vec<Series>>,
        before: &mut BTreeSet<CellId>,
    ) -> Taken {
        let now = self.now();
        let mut taken = Taken::default();
        let mut spec = spec.clone();
        let limit = spec.limit;
        let of_all: BTreeSet<CellId> = before.iter().chain(found.keys()).cloned().collect();
        let of_all: Vec<CellId> = of_all.into_iter().collect();
        for cells in of_all.chunks(CELLS_AT_ONCE) {
            let mut state = self.shared.lock();
            for cell in cells {
                let Some(known) = state.pushes.directory.known(cell) else {
                    before.remove(cell);
                    continue;
                };
                if known.paused {
                    continue;
                }
                let at_instants = brought_together(grid, found.get(cell).map_or(&[][..], Vec::as_slice));
                if at_instants.contains(&At::Several) {
                    taken.several.get_or_insert_with(|| cell.clone());
                }
                spec.limit = limit.or_else(|| limits.get(cell).copied());
                let refused = record(&mut state, cell, &spec, grid, &ours, now, &at_instants);
                match refused {
                    Some(why) => drop(taken.refused.get_or_insert(why)),
                    None if at_instants.iter().any(|at| *at != At::Nothing) => {
                        before.insert(cell.clone());
                    }
                    None => {
                        before.remove(cell);
                    }
                }
            }
        }
        taken
    }
}

impl Found {
    fn add(&mut self, directory: &Directory, cell_labels: &[String], one: Series) {
        match directory.asked(cell_labels, &one.labels) {
            Sender::Cell(cell) => {
                let cell = cell.clone();
                self.of_cells.entry(cell).or_default().push(one);
            }
            Sender::Stranger(label, value) => {
                self.stranger.get_or_insert_with(|| {
                    let value: String = value.chars().take(SHOWN).collect();
                    format!("{label}={value:?}")
                });
            }
            Sender::Nameless => {
                let names = || one.labels.keys().take(8).cloned().collect::<Vec<_>>().join(", ");
                self.stranger.get_or_insert_with(|| match names() {
                    names if names.is_empty() => "it has no labels".to_owned(),
                    names => format!("its labels are {names}"),
                });
            }
        }
    }
}

/// What all series of a cell say at the instants.
fn brought_together(grid: &Grid, series: &[Series]) -> Vec<At> {
    let count = usize::try_from(grid.count()).unwrap_or(0);
    let mut at_instants = vec![At::Nothing; count];
    for point in series.iter().flat_map(|one| &one.points) {
        // Prometheus answers for the instants it was asked for.
        let Some(at) = grid.place(point.at).and_then(|place| at_instants.get_mut(place)) else { continue };
        *at = if *at == At::Nothing { At::One(point.value) } else { At::Several };
    }
    at_instants
}

fn record(
    state: &mut State,
    cell: &CellId,
    spec: &MetricSpec,
    grid: &Grid,
    ours: impl Fn(Timestamp) -> Timestamp,
    now: Timestamp,
    at_instants: &[At],
) -> Option<String> {
    for (place, at) in at_instants.iter().enumerate() {
        let value = match at {
            At::One(value) => Some(*value),
            At::Nothing | At::Several => None,
        };
        // What is older than windows reach is left out by the store.
        let at = ours(grid.at(place)).min(now);
        if let Err(refusal) = state.store.record(cell, spec, at, value) {
            return Some(refusal.to_string());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::prometheus::api::Point;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    proptest! {
        #[test]
        fn an_instant_has_the_value_of_its_only_series_and_none_otherwise(
            points in proptest::collection::vec((0u64..12, 0u64..2, 0usize..3), 0..40), first in 1u64..4, count in 0u64..6,
        ) {
            // Some are off the grid, and some outside of it.
            let told: BTreeSet<(u64, usize)> =
                points.iter().map(|(n, off, series)| (n * 100 + off * 50, *series)).collect();
            let mut series = vec![Series { labels: BTreeMap::new(), points: Vec::new() }; 3];
            for (ms, of) in &told {
                series[*of].points.push(Point { at: at(*ms), value: *of as f64 });
            }
            let Some(grid) = Grid::between(at(first * 100), at((first + count) * 100), 100) else { return Ok(()) };
            let all = brought_together(&grid, &series);
            prop_assert_eq!(all.len() as u64, grid.count());
            for (place, found) in all.iter().enumerate() {
                let here: Vec<f64> =
                    told.iter().filter(|(ms, _)| at(*ms) == grid.at(place)).map(|(_, of)| *of as f64).collect();
                let wanted = match here[..] {
                    [] => At::Nothing,
                    [one] => At::One(one),
                    _ => At::Several,
                };
                prop_assert_eq!(*found, wanted);
            }
        }
    }
}
