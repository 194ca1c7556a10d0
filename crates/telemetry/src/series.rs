//! The recent samples of every cell and metric, in rings of fixed size, and the aligned windows made of them.
//!
//! Time is cut into steps; step `k` is the time after `(k − 1)·step` up to and including `k·step`. Each series keeps
//! the last observation of each step. A gauge's value of a step is that observation; a counter's is the mean rate
//! per second from the observation before it. Where nothing was observed there is a gap.

mod past;

use std::{collections::BTreeMap, ops::Bound, time::Duration};

use forefend_domain::{CellId, Family, MetricKind, MetricName, MetricWindow, Sample, Timestamp, Windows};

use self::past::Past;

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
    newest_now: Timestamp,
    too_old: u64,
    refused: u64,
}

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
        let (newest_now, too_old, refused) = (Timestamp::default(), 0, 0);
        Self { options, step_ms, cells: BTreeMap::new(), newest_now, too_old, refused }
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
        let slots = self.options.length + self.options.rate_lookback + SPARE_SLOTS;
        if !self.cells.get(cell).is_some_and(|series| series.contains_key(&spec.name))
            && let Err(refusal) = self.make_room(cell, spec, step, slots)
        {
            self.refused += 1;
            return Err(refusal);
        }
        let all = self.cells.entry(cell.clone()).or_default();
        let series = all.entry(spec.name.clone()).or_insert_with(|| Series::new(spec.clone(), slots));
        series.adopt(spec, slots);
        let value = value.filter(|v| v.is_finite() && !(spec.counter && *v < 0.0));
        let mut recorded = series.record(step, at.unix_ms(), value, self.step_ms);
        let plausible = (self.newest_now.unix_ms() / self.step_ms).saturating_add(slots as u64);
        if recorded == Recorded::TooOld && series.newest > plausible && step <= plausible {
            // One observation stamped far ahead of every clock must not shut out all that are right.
            *series = Series::new(series.spec.clone(), slots);
            recorded = series.record(step, at.unix_ms(), value, self.step_ms);
        }
        if recorded == Recorded::Kept
            && let Some(began) = began.filter(|_| spec.counter)
        {
            series.began_ms = series.began_ms.max(began.unix_ms());
        }
        self.too_old += u64::from(recorded == Recorded::TooOld);
        Ok(recorded)
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
        let slots = self.options.length + self.options.rate_lookback + SPARE_SLOTS;
        if !self.cells.get(cell).is_some_and(|series| series.contains_key(&spec.name))
            && let Err(refusal) = self.make_room(cell, spec, past.last(), slots)
        {
            self.refused += 1;
            return Err(refusal);
        }
        let all = self.cells.entry(cell.clone()).or_default();
        let series = all.entry(spec.name.clone()).or_insert_with(|| Series::new(spec.clone(), slots));
        series.newest = series.newest.max(past.last());
        series.past = Some(past);
        Ok(())
    }

    /// Sets or clears the limit of a metric; `false` when the metric is not known.
    pub fn set_limit(&mut self, cell: &CellId, metric: &MetricName, limit: Option<f64>) -> bool {
        let series = self.cells.get_mut(cell).and_then(|series| series.get_mut(metric));
        series.map(|series| series.spec.limit = limit.filter(|l| l.is_finite())).is_some()
    }

    /// Forgets all of a cell.
    pub fn forget(&mut self, cell: &CellId) {
        self.cells.remove(cell);
    }

    /// The windows of every cell that is not forgotten, up to the last step that has ended at `now`. When `now` is
    /// earlier than at an earlier call, that call's is taken: time does not step back.
    pub fn windows(&mut self, now: Timestamp) -> Vec<Windows> {
        let mut windows = Vec::with_capacity(self.cells.len());
        self.each_windows(now, &mut |one| windows.push(one));
        windows
    }

    /// The same, one after the other, ordered by cell.
    pub fn each_windows(&mut self, now: Timestamp, look: &mut dyn FnMut(Windows)) {
        let last = self.last_step(now);
        for (cell, all) in &self.cells {
            look(self.windows_of(cell, all, last));
        }
    }

    /// The same of the next `most` cells after one, for whoever can't keep the store to themselves for long. Empty: there are no more.
    pub fn next_windows(&mut self, now: Timestamp, after: Option<&CellId>, most: usize) -> Vec<Windows> {
        let last = self.last_step(now);
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.cells.range::<CellId, _>((begin, Bound::Unbounded)).take(most);
        next.map(|(cell, all)| self.windows_of(cell, all, last)).collect()
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
        if last > before {
            let first = last.saturating_sub(self.options.length as u64 - 1);
            for series in self.cells.values_mut().flat_map(BTreeMap::values_mut) {
                series.past.take_if(|past| past.last() < first);
            }
        }
        last
    }

    fn windows_of(&self, cell: &CellId, all: &BTreeMap<MetricName, Series>, last: u64) -> Windows {
        Windows {
            cell: cell.clone(),
            at: Timestamp::from_unix_ms(last * self.step_ms),
            step: self.options.step,
            metrics: all
                .iter()
                .map(|(name, series)| (name.clone(), series.window(last, &self.options, self.step_ms)))
                .collect(),
        }
    }

    /// What is known of a cell now, by name: each metric with the newest value of its window and the end of its step.
    #[must_use]
    pub fn newest(&self, cell: &CellId) -> Vec<(MetricSpec, Option<(Timestamp, f64)>)> {
        let last = self.newest_now.unix_ms() / self.step_ms;
        let newest = |series: &Series| {
            let first = last.saturating_sub(self.options.length as u64 - 1);
            (first..=last).rev().find_map(|step| {
                let value = series.value(series.slot_of(step), step, &self.options, self.step_ms)?;
                Some((Timestamp::from_unix_ms(step * self.step_ms), value))
            })
        };
        self.cells
            .get(cell)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|s| (s.spec.clone(), newest(s)))
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

    fn make_room(
        &mut self,
        cell: &CellId,
        spec: &MetricSpec,
        step: u64,
        slots: usize,
    ) -> Result<(), TooManySeries> {
        let refuse =
            |what, bound| TooManySeries { cell: cell.clone(), metric: spec.name.clone(), what, bound };
        let ended = |series: &Series| series.newest.saturating_add(slots as u64) <= step;
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

/// The step that is under way, and one for observations stamped slightly ahead of the asker's clock: they must not
/// push out what the window still shows.
const SPARE_SLOTS: usize = 2;

/// The number of slots is what memory goes into: 12 bytes each.
#[derive(Debug)]
struct Series {
    spec: MetricSpec,
    /// Step `k` lives in slot `k mod len`. NaN: an explicit gap.
    values: Box<[f64]>,
    /// How long before the end of its step the observation was, in milliseconds. [`NOTHING`]: nothing was observed.
    before_end_ms: Box<[u32]>,
    /// The newest step observed; 0 before the first. Slots hold it and the `len − 1` steps before it, and nothing older.
    newest: u64,
    /// What windows show of the time before this store.
    past: Option<Past>,
    /// When the counter began for the last time, as far as it was told; 0: never told.
    began_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    at_ms: u64,
    /// NaN: an explicit gap.
    value: f64,
}

const NOTHING: u32 = u32::MAX;

impl Series {
    fn new(mut spec: MetricSpec, slots: usize) -> Self {
        spec.limit = spec.limit.filter(|l| l.is_finite());
        Self {
            spec,
            values: vec![f64::NAN; slots].into_boxed_slice(),
            before_end_ms: vec![NOTHING; slots].into_boxed_slice(),
            newest: 0,
            past: None,
            began_ms: 0,
        }
    }

    fn len(&self) -> u64 {
        self.values.len() as u64
    }

    fn adopt(&mut self, spec: &MetricSpec, slots: usize) {
        if self.spec == *spec {
            return;
        }
        // That the limit itself was lifted shows in the kind.
        let lifted = spec.kind == MetricKind::Unbounded && self.spec.kind != MetricKind::Unbounded;
        let limit = spec.limit.filter(|l| l.is_finite()).or(self.spec.limit.filter(|_| !lifted));
        if spec.counter != self.spec.counter {
            // Totals and levels can't stand in one ring.
            let past = self.past.take();
            *self = Self { past, ..Self::new(spec.clone(), slots) };
        }
        self.spec = MetricSpec { limit, ..spec.clone() };
    }

    fn slot_of(&self, step: u64) -> usize {
        (step % self.len()) as usize
    }

    fn record(&mut self, step: u64, at_ms: u64, value: Option<f64>, step_ms: u64) -> Recorded {
        if step.saturating_add(self.len()) <= self.newest {
            return Recorded::TooOld;
        }
        // What the ring has come round to is forgotten.
        let passed = step.saturating_sub(self.newest).min(self.len());
        for back in 0..passed {
            let slot = self.slot_of(step - back);
            self.before_end_ms[slot] = NOTHING;
        }
        self.newest = self.newest.max(step);
        let index = self.slot_of(step);
        if self.observed_at(index, step, step_ms).is_some_and(|held| held.at_ms > at_ms) {
            return Recorded::Superseded;
        }
        let before_end = step.saturating_mul(step_ms).saturating_sub(at_ms);
        self.before_end_ms[index] = u32::try_from(before_end).unwrap_or(NOTHING - 1).min(NOTHING - 1);
        self.values[index] = value.unwrap_or(f64::NAN);
        Recorded::Kept
    }

    /// What was observed in a step whose slot is known: a division costs more than all else here.
    fn observed_at(&self, slot: usize, step: u64, step_ms: u64) -> Option<Slot> {
        let before_end = self.before_end_ms[slot];
        let held = step <= self.newest && step.saturating_add(self.len()) > self.newest;
        (held && before_end != NOTHING).then(|| Slot {
            at_ms: step.saturating_mul(step_ms).saturating_sub(u64::from(before_end)),
            value: self.values[slot],
        })
    }

    fn window(&self, last: u64, options: &StoreOptions, step_ms: u64) -> MetricWindow {
        // Fewer samples than a window holds only within the first window after 1970, where made-up worlds begin.
        let first = last.saturating_sub(options.length as u64 - 1);
        let mut samples = Vec::with_capacity((last - first + 1) as usize);
        let mut slot = self.slot_of(first);
        for step in first..=last {
            let value = self.value(slot, step, options, step_ms);
            let value = value.or_else(|| self.past.as_ref()?.value(step));
            samples.push(Sample { at: Timestamp::from_unix_ms(step * step_ms), value });
            slot = if slot + 1 == self.values.len() { 0 } else { slot + 1 };
        }
        MetricWindow {
            name: self.spec.name.clone(),
            family: self.spec.family,
            kind: self.spec.kind,
            unit: self.spec.unit.clone(),
            limit: self.spec.limit,
            samples,
        }
    }

    /// The value of a step whose slot is known.
    fn value(&self, slot: usize, step: u64, options: &StoreOptions, step_ms: u64) -> Option<f64> {
        if self.spec.counter {
            self.rate(slot, step, options.rate_lookback as u64, step_ms)
        } else {
            self.observed_at(slot, step, step_ms).map(|slot| slot.value).filter(|v| !v.is_nan())
        }
    }

    /// Per second since the observation before; a gap after an explicit gap, and when the counter began anew.
    fn rate(&self, slot: usize, step: u64, lookback: u64, step_ms: u64) -> Option<f64> {
        let here = self.observed_at(slot, step, step_ms).filter(|slot| !slot.value.is_nan())?;
        let length = self.values.len();
        let before = (1..=lookback.min(step).min(length as u64 - 1)).find_map(|back| {
            let slot =
                if slot >= back as usize { slot - back as usize } else { slot + length - back as usize };
            self.observed_at(slot, step - back, step_ms)
        })?;
        if before.at_ms < self.began_ms && self.began_ms <= here.at_ms {
            // It counts from 0 since then.
            let seconds = (here.at_ms - self.began_ms) as f64 / 1_000.0;
            return Some(here.value / seconds).filter(|rate| rate.is_finite());
        }
        if before.value.is_nan() || here.value < before.value {
            return None;
        }
        let seconds = (here.at_ms - before.at_ms) as f64 / 1_000.0;
        Some((here.value - before.value) / seconds).filter(|rate| rate.is_finite())
    }
}
