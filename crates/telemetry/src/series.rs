//! The recent samples of every cell and metric, in rings of fixed size, and the aligned windows made of them.
//!
//! Time is cut into steps; step `k` is the time after `(k − 1)·step` up to and including `k·step`. Each series keeps
//! the last observation of each step. A gauge's value of a step is that observation; a counter's is the mean rate
//! per second from the observation before it. Where nothing was observed there is a gap.

mod past;
mod ring;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

use forefend_domain::{CellId, Family, MetricKind, MetricName, Timestamp, Windows};

use self::{
    past::Past,
    ring::{Series, Span},
};

/// What a series is.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSpec {
    /// Its name, with labels if it has any.
    pub name: MetricName,
    /// What it tells.
    pub family: Family,
    /// What crossing the limit means.
    pub kind: MetricKind,
    /// The unit of the window's values: for a counter, of its rate.
    pub unit: String,
    /// The value it must not reach. `None` keeps a limit learned before, unless the kind becomes unbounded.
    pub limit: Option<f64>,
    /// Whether observations only grow and the window shall hold rates.
    pub counter: bool,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// The length of a step: at least 1 ms.
    pub step: Duration,
    /// Steps in a window: at least 1.
    pub length: usize,
    /// How many steps back the observation may lie that a counter's rate is taken from.
    pub rate_lookback: usize,
    /// Bound of cells.
    pub max_cells: usize,
    /// Bound of series of one cell.
    pub max_series_per_cell: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(1),
            length: 240,
            rate_lookback: 16,
            max_cells: 20_000,
            max_series_per_cell: 256,
        }
    }
}

impl StoreOptions {
    /// Slots of a ring: those of the window; of a counter also those that the first rate may be taken from; the step that is under way, and
    /// one for observations stamped slightly ahead of the asker's clock, which must not push out what the window still shows.
    fn slots(&self, counter: bool) -> usize {
        self.length + if counter { self.rate_lookback } else { 0 } + 2
    }

    fn most_slots(&self) -> u64 {
        self.slots(true) as u64
    }
}

/// What became of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is kept.
    Kept,
    /// A later one of the same step is kept instead.
    Superseded,
    /// It is older than anything the window can hold; it was counted and dropped.
    TooOld,
}

/// There is no room for another series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cell {cell} has no room for metric `{metric}`: {what} are bounded at {bound}; select fewer metrics or fewer labels, or raise the bound"
)]
pub struct TooManySeries {
    /// Whose metric.
    pub cell: CellId,
    /// Which metric.
    pub metric: MetricName,
    /// Which bound: `cells` or `series of a cell`.
    pub what: &'static str,
    /// The bound.
    pub bound: usize,
}

/// The store. Pure: time comes with the observations and the questions.
#[derive(Debug)]
pub struct SeriesStore {
    options: StoreOptions,
    step_ms: u64,
    cells: BTreeMap<CellId, BTreeMap<MetricName, Series>>,
    /// Names that series share: a fleet has few of them, and each cell all of them.
    names: BTreeSet<MetricName>,
    /// Whether any series may show the time before this store.
    has_past: bool,
    newest_now: Timestamp,
    too_old: u64,
    refused: u64,
}

/// Names that are shared, at most: of more, those that come later are not.
const SHARED_NAMES: usize = 65_536;

impl SeriesStore {
    /// An empty store. A step below 1 ms becomes 1 ms, a length of 0 becomes 1.
    #[must_use]
    pub fn new(options: StoreOptions) -> Self {
        let step_ms = u64::try_from(options.step.as_millis()).unwrap_or(u64::MAX).max(1);
        let options = StoreOptions {
            step: Duration::from_millis(step_ms),
            length: options.length.max(1),
            rate_lookback: options.rate_lookback.max(1),
            ..options
        };
        Self {
            options,
            step_ms,
            cells: BTreeMap::new(),
            names: BTreeSet::new(),
            has_past: false,
            newest_now: Timestamp::default(),
            too_old: 0,
            refused: 0,
        }
    }

    /// Takes an observation made at `at`. `None`, NaN, an infinity and a negative counter are explicit gaps: they
    /// also cut a counter's rate off from what was before. Of two observations of one instant the later told wins.
    /// A limit in `spec` replaces the one known; that it is absent does not.
    ///
    /// # Errors
    /// [`TooManySeries`] when the metric is new and there is no room for it. Series that ended make room.
    pub fn record(
        &mut self,
        cell: &CellId,
        spec: &MetricSpec,
        at: Timestamp,
        value: Option<f64>,
    ) -> Result<Recorded, TooManySeries> {
        self.record_since(cell, spec, None, at, value)
    }

    /// Like [`SeriesStore::record`] of a counter that says since when it counts. A counter that began anew is then known
    /// even where its new value passes the old one, and its rate is that since it began.
    ///
    /// # Errors
    /// As [`SeriesStore::record`].
    pub fn record_since(
        &mut self,
        cell: &CellId,
        spec: &MetricSpec,
        began: Option<Timestamp>,
        at: Timestamp,
        value: Option<f64>,
    ) -> Result<Recorded, TooManySeries> {
        let step = at.unix_ms().div_ceil(self.step_ms);
        let (step_ms, options) = (self.step_ms, self.options);
        let value = value.filter(|v| v.is_finite() && !(spec.counter && *v < 0.0));
        let plausible = (self.newest_now.unix_ms() / step_ms).saturating_add(options.most_slots());
        let known = self.cells.get_mut(cell).and_then(|all| all.get_mut(&spec.name));
        let series = match known {
            Some(series) => series,
            None => self.begin(cell, spec, step)?,
        };
        series.adopt(spec, &options, step_ms);
        let mut recorded = series.record(step, at.unix_ms(), value, step_ms);
        if recorded == Recorded::TooOld && series.newest() > plausible && step <= plausible {
            // One observation stamped far ahead of every clock must not shut out all that are right.
            series.begin_anew(&options, step_ms);
            recorded = series.record(step, at.unix_ms(), value, step_ms);
        }
        if recorded == Recorded::Kept
            && let Some(began) = began.filter(|_| spec.counter)
        {
            series.counts_since(began);
        }
        self.too_old += u64::from(recorded == Recorded::TooOld);
        Ok(recorded)
    }

    /// A series that is new, if there is room for it.
    fn begin(&mut self, cell: &CellId, spec: &MetricSpec, step: u64) -> Result<&mut Series, TooManySeries> {
        if let Err(refusal) = self.make_room(cell, spec, step) {
            self.refused += 1;
            return Err(refusal);
        }
        let name = match self.names.get(&spec.name) {
            Some(name) => name.clone(),
            None => {
                if self.names.len() < SHARED_NAMES {
                    self.names.insert(spec.name.clone());
                }
                spec.name.clone()
            }
        };
        let spec = MetricSpec { name: name.clone(), ..spec.clone() };
        let (options, step_ms) = (&self.options, self.step_ms);
        let all = self.cells.entry(cell.clone()).or_default();
        Ok(all.entry(name).or_insert_with(|| Series::new(spec, options, step_ms)))
    }

    /// Gives windows a past that somebody else recorded: values as they stood in windows, oldest first. Where something is observed, that
    /// counts. Values beyond a window's length are left out.
    ///
    /// # Errors
    /// [`TooManySeries`] when the metric is new and there is no room for it.
    pub fn restore(
        &mut self,
        cell: &CellId,
        spec: &MetricSpec,
        samples: &[(Timestamp, f64)],
    ) -> Result<(), TooManySeries> {
        let Some(past) = Past::new(samples, self.step_ms, self.options.length) else { return Ok(()) };
        let known = self.cells.get_mut(cell).and_then(|all| all.get_mut(&spec.name));
        let series = match known {
            Some(series) => series,
            None => self.begin(cell, spec, past.last())?,
        };
        series.restore(past);
        self.has_past = true;
        Ok(())
    }

    /// Sets or clears the limit of a metric; `false` when the metric is not known.
    pub fn set_limit(&mut self, cell: &CellId, metric: &MetricName, limit: Option<f64>) -> bool {
        let series = self.cells.get_mut(cell).and_then(|series| series.get_mut(metric));
        series.map(|series| series.set_limit(limit)).is_some()
    }

    /// Forgets all of a cell.
    pub fn forget(&mut self, cell: &CellId) {
        self.cells.remove(cell);
    }

    /// The windows of every cell that is not forgotten, up to the last step that has ended at `now`. When `now` is
    /// earlier than at an earlier call, that call's is taken: time does not step back.
    pub fn windows(&mut self, now: Timestamp) -> Vec<Windows> {
        let last = self.last_step(now);
        self.cells.iter().map(|(cell, all)| self.windows_of(cell, all, last)).collect()
    }

    /// The same, one after the other, ordered by cell. Each is made in the place of the one before, and what `look` changes of it is
    /// forgotten.
    pub fn each_windows(&mut self, now: Timestamp, look: &mut dyn FnMut(&mut Windows)) {
        let last = self.last_step(now);
        let mut place: Option<Windows> = None;
        for (cell, all) in &self.cells {
            self.put(cell, all, last, &mut place);
            place.iter_mut().for_each(&mut *look);
        }
    }

    /// The same of the next `most` cells after one, for whoever can't keep the store to themselves for long: put into `places`, in the
    /// place of what was there. Returns how many there are; none: there are no more.
    pub fn next_windows(
        &mut self,
        now: Timestamp,
        after: Option<&CellId>,
        most: usize,
        places: &mut Vec<Option<Windows>>,
    ) -> usize {
        let last = self.last_step(now);
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.cells.range::<CellId, _>((begin, Bound::Unbounded)).take(most);
        let mut count = 0;
        for (cell, all) in next {
            if places.len() == count {
                places.push(None);
            }
            self.put(cell, all, last, &mut places[count]);
            count += 1;
        }
        count
    }

    /// The same of one cell; `None`: it is not known.
    pub fn windows_for(&mut self, cell: &CellId, now: Timestamp) -> Option<Windows> {
        let last = self.last_step(now);
        self.cells.get(cell).map(|all| self.windows_of(cell, all, last))
    }

    /// The last step that has ended.
    fn last_step(&mut self, now: Timestamp) -> u64 {
        let before = self.newest_now.unix_ms() / self.step_ms;
        self.newest_now = self.newest_now.max(now);
        let last = self.newest_now.unix_ms() / self.step_ms;
        if last > before && self.has_past {
            let first = last.saturating_sub(self.options.length as u64 - 1);
            let all = self.cells.values_mut().flat_map(BTreeMap::values_mut);
            // Every series forgets what it can.
            self.has_past = all.map(|series| series.keeps_past(first)).filter(|kept| *kept).count() > 0;
        }
        last
    }

    fn windows_of(&self, cell: &CellId, all: &BTreeMap<MetricName, Series>, last: u64) -> Windows {
        let span = self.span(last);
        Windows {
            cell: cell.clone(),
            at: Timestamp::from_unix_ms(last * self.step_ms),
            step: self.options.step,
            metrics: all.iter().map(|(name, series)| (name.clone(), series.window(&span))).collect(),
        }
    }

    /// Puts the windows of a cell where those of another were. Cells mostly have the same metrics: then nothing is made anew, and
    /// what is written stays where it is near.
    fn put(&self, cell: &CellId, all: &BTreeMap<MetricName, Series>, last: u64, place: &mut Option<Windows>) {
        let alike = |before: &Windows| {
            before.metrics.len() == all.len() && before.metrics.keys().zip(all.keys()).all(|(a, b)| a == b)
        };
        let Some(windows) = place.as_mut().filter(|before| alike(before)) else {
            *place = Some(self.windows_of(cell, all, last));
            return;
        };
        let span = self.span(last);
        windows.cell = cell.clone();
        windows.at = Timestamp::from_unix_ms(last * self.step_ms);
        windows.step = self.options.step;
        let mut coming = all.values().skip(1);
        for (window, series) in windows.metrics.values_mut().zip(all.values()) {
            coming.next().into_iter().for_each(Series::bring_near);
            series.put(&span, window);
        }
    }

    fn span(&self, last: u64) -> Span {
        // Fewer samples than a window holds only within the first window after 1970, where made-up worlds begin.
        let first = last.saturating_sub(self.options.length as u64 - 1);
        Span { first, last, lookback: self.options.rate_lookback as u64, step_ms: self.step_ms }
    }

    /// What is known of a cell now, by name: each metric with the newest value of its window and the end of its step.
    #[must_use]
    pub fn newest(&self, cell: &CellId) -> Vec<(MetricSpec, Option<(Timestamp, f64)>)> {
        let span = self.span(self.newest_now.unix_ms() / self.step_ms);
        self.cells
            .get(cell)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|series| (series.spec().clone(), series.newest_of(&span)))
            .collect()
    }

    /// How many series there are.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.cells.values().map(BTreeMap::len).sum()
    }

    /// How many observations were dropped because they came too late.
    #[must_use]
    pub fn dropped_too_old(&self) -> u64 {
        self.too_old
    }

    /// How many observations were refused for want of room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn make_room(&mut self, cell: &CellId, spec: &MetricSpec, step: u64) -> Result<(), TooManySeries> {
        let slots = self.options.most_slots();
        let refuse =
            |what, bound| TooManySeries { cell: cell.clone(), metric: spec.name.clone(), what, bound };
        let ended = |series: &Series| series.newest().saturating_add(slots) <= step;
        if let Some(all) = self.cells.get_mut(cell) {
            let bound = self.options.max_series_per_cell;
            if all.len() >= bound {
                all.retain(|_, series| !ended(series));
            }
            return if all.len() < bound { Ok(()) } else { Err(refuse("series of a cell", bound)) };
        }
        let bound = self.options.max_cells;
        if self.cells.len() >= bound {
            self.cells.retain(|_, all| !all.values().all(ended));
        }
        if self.cells.len() >= bound {
            return Err(refuse("cells", bound));
        }
        if self.options.max_series_per_cell == 0 {
            return Err(refuse("series of a cell", 0));
        }
        Ok(())
    }
}
