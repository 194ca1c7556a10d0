use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use forefend_domain::{
    CellId, MetricName, MetricWindow, ObjectiveState, ServiceId, Timestamp, Weight, Windows,
};

use super::{
    journal::{self, SeriesRecord},
    outcome::{Happened, Outcome, Outcomes},
};
use crate::history::words;

/// Steps that may still change after their end: an answer that was long under way is stamped with the instant of the question.
const UNSETTLED: usize = 4;

/// Outcomes that are told again when it is not known which of them were lost.
const RECENT_OUTCOMES: usize = 256;

/// When a segment of the history ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentBounds {
    /// After this time.
    pub time: Duration,
    /// After this many bytes of journal.
    pub bytes: u64,
}

impl Default for SegmentBounds {
    /// Half an hour or 16 MiB, whichever comes first: what is not sealed is read in a fraction of a second, and sealing takes some 50 MB.
    fn default() -> Self {
        Self { time: Duration::from_secs(30 * 60), bytes: 16 * 1_024 * 1_024 }
    }
}

/// What is known of a cell now.
#[derive(Debug, Clone, PartialEq)]
pub struct CellNow {
    /// Which.
    pub cell: CellId,
    /// Whether it keeps its objective.
    pub objective: ObjectiveState,
    /// The share of its home traffic that is elsewhere.
    pub away: Weight,
}

/// Bytes to be appended to the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Whether they begin a new one; the one before is then complete.
    pub begins: Option<Timestamp>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Turns what the loop sees into bytes of journals: each value once, and once more where it changed. Pure: time comes with what is seen.
#[derive(Debug)]
pub struct Recorder {
    step_ms: u64,
    bounds: SegmentBounds,
    /// The last step that a predecessor may have written.
    settled: u64,
    cells: BTreeMap<CellId, BTreeMap<MetricName, Series>>,
    /// Those not yet looked at in the look that goes on, and what was new of the others, by step.
    before: BTreeMap<CellId, BTreeMap<MetricName, Series>>,
    values: BTreeMap<u64, Vec<(u32, f64)>>,
    /// Ids are given anew in each segment.
    next_id: u32,
    begun: Option<Timestamp>,
    segment_bytes: u64,
    failed: BTreeMap<CellId, Timestamp>,
    away: BTreeMap<CellId, (Timestamp, Weight)>,
    /// The newest outcomes, told again after a loss.
    recent: VecDeque<Outcome>,
    lost: bool,
    pending: Vec<u8>,
}

#[derive(Debug)]
struct Series {
    /// In the present segment.
    id: Option<u32>,
    /// Whether the present segment says what it is.
    named: bool,
    service: Option<ServiceId>,
    described: Described,
    /// The newest step that was written, and what of it and those before: step `k` at `k mod` their number.
    newest: u64,
    written: [f64; UNSETTLED],
}

#[derive(Debug, Clone, PartialEq)]
struct Described {
    family: &'static str,
    kind: &'static str,
    unit: String,
    limit: Option<f64>,
}

impl Recorder {
    /// Records what is aligned after `now`. What `past` holds open is taken to be so still.
    #[must_use]
    pub fn new(step: Duration, bounds: SegmentBounds, now: Timestamp, past: &Outcomes) -> Self {
        let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX).max(1);
        let open = past.incidents.iter().filter(|incident| incident.ended.is_none());
        let gone = past.absences.iter().filter(|absence| absence.ended.is_none());
        Self {
            step_ms,
            bounds,
            settled: now.unix_ms() / step_ms,
            cells: BTreeMap::new(),
            before: BTreeMap::new(),
            values: BTreeMap::new(),
            next_id: 0,
            begun: None,
            segment_bytes: 0,
            failed: open.map(|incident| (incident.cell.clone(), incident.began)).collect(),
            away: gone.map(|absence| (absence.cell.clone(), (absence.began, absence.most))).collect(),
            recent: VecDeque::new(),
            lost: false,
            pending: Vec::new(),
        }
    }

    /// Takes what is aligned now: of every cell, for those that are missing are forgotten.
    pub fn windows<'a>(
        &mut self,
        now: Timestamp,
        windows: &[Windows],
        service_of: impl Fn(&CellId) -> Option<&'a ServiceId>,
    ) {
        self.begin(now);
        windows.iter().for_each(|of_cell| self.look(of_cell, service_of(&of_cell.cell)));
        self.end();
    }

    /// Begins a look at every cell, one after the other, so that nobody has to hold the windows of all.
    pub fn begin(&mut self, now: Timestamp) {
        self.begin_if_due(now);
        self.before = std::mem::take(&mut self.cells);
        self.values.clear();
    }

    /// Takes what is aligned of one cell, between [`Recorder::begin`] and [`Recorder::end`].
    pub fn look(&mut self, of_cell: &Windows, service: Option<&ServiceId>) {
        let mut known = self.before.remove(&of_cell.cell).unwrap_or_default();
        known.retain(|name, _| of_cell.metrics.contains_key(name));
        let mut values = std::mem::take(&mut self.values);
        for (name, window) in &of_cell.metrics {
            let series = match known.get_mut(name) {
                Some(series) => series,
                None => known.entry(name.clone()).or_insert_with(|| Series::new(window, self.settled)),
            };
            self.take(&of_cell.cell, service, window, series, &mut values);
        }
        self.values = values;
        self.cells.insert(of_cell.cell.clone(), known);
    }

    /// Every cell has been looked at; those that were not are forgotten.
    pub fn end(&mut self) {
        self.before.clear();
        for (step, mut values) in std::mem::take(&mut self.values) {
            values.sort_by_key(|(id, _)| *id);
            journal::put_values(&mut self.pending, step * self.step_ms, &values);
        }
    }

    fn take(
        &mut self,
        cell: &CellId,
        service: Option<&ServiceId>,
        window: &MetricWindow,
        series: &mut Series,
        values: &mut BTreeMap<u64, Vec<(u32, f64)>>,
    ) {
        if !series.described.is_of(window) || series.service.as_ref() != service {
            series.described = Described::of(window);
            series.service = service.cloned();
            series.named = false;
        }
        let unsettled = series.newest.saturating_sub(UNSETTLED as u64 - 1).max(self.settled + 1);
        let step_of = |at: Timestamp| at.unix_ms() / self.step_ms;
        // Nearly always the last few of some hundreds.
        let first = window.samples.partition_point(|sample| step_of(sample.at) < unsettled);
        for sample in &window.samples[first..] {
            let step = step_of(sample.at);
            series.advance(step);
            let Some(value) = sample.value.filter(|v| v.is_finite()) else { continue };
            let written = &mut series.written[(step % UNSETTLED as u64) as usize];
            if written.to_bits() == value.to_bits() {
                continue;
            }
            *written = value;
            let id = *series.id.get_or_insert_with(|| {
                self.next_id += 1;
                self.next_id - 1
            });
            if !series.named {
                let record = SeriesRecord {
                    cell: cell.as_str(),
                    service: service.map(ServiceId::as_str).unwrap_or_default(),
                    metric: window.name.as_str(),
                    family: series.described.family,
                    kind: series.described.kind,
                    unit: &series.described.unit,
                    limit: series.described.limit,
                };
                journal::put_series(&mut self.pending, id, &record);
                series.named = true;
            }
            values.entry(step).or_default().push((id, value));
        }
    }

    /// Takes what became of cells. What is not known of a cell, or a cell that is not named, leaves things as they were.
    pub fn outcomes(&mut self, now: Timestamp, cells: &[CellNow]) {
        self.begin_if_due(now);
        for CellNow { cell, objective, away } in cells {
            match objective {
                ObjectiveState::Failed { since } if !self.failed.contains_key(cell) => {
                    self.failed.insert(cell.clone(), *since);
                    self.tell(*since, cell, Happened::Failed);
                }
                ObjectiveState::Met { .. } => {
                    if self.failed.remove(cell).is_some() {
                        self.tell(now, cell, Happened::Well);
                    }
                }
                ObjectiveState::Failed { .. } | ObjectiveState::Unknown | ObjectiveState::Breaking { .. } => {
                }
            }
            let before = self.away.get(cell).map_or(Weight::ZERO, |(_, share)| *share);
            if before != *away {
                self.tell(now, cell, Happened::Away(*away));
                match *away {
                    Weight::ZERO => self.away.remove(cell),
                    away => self.away.insert(cell.clone(), (now, away)),
                };
            }
        }
    }

    fn tell(&mut self, at: Timestamp, cell: &CellId, happened: Happened) {
        let outcome = Outcome { at, cell: cell.clone(), happened };
        journal::put_outcome(&mut self.pending, &outcome);
        if self.recent.len() >= RECENT_OUTCOMES {
            self.recent.pop_front();
        }
        self.recent.push_back(outcome);
    }

    /// What is to be written since the last call.
    #[must_use]
    pub fn take_batch(&mut self) -> Batch {
        let bytes = std::mem::take(&mut self.pending);
        let begins = self.begun.filter(|_| self.segment_bytes == 0 && !bytes.is_empty());
        self.segment_bytes += bytes.len() as u64;
        Batch { begins, bytes }
    }

    /// What was taken could not be written: the next batch begins a new segment, which needs nothing that came before.
    pub fn lost(&mut self) {
        self.begun = None;
        self.lost = true;
    }

    fn begin_if_due(&mut self, now: Timestamp) {
        let full = self.segment_bytes >= self.bounds.bytes;
        let goes_on = self.begun.is_some_and(|begun| !full && now.since(begun) < self.bounds.time);
        if goes_on || !self.pending.is_empty() {
            return;
        }
        self.begun = Some(now);
        self.segment_bytes = 0;
        self.next_id = 0;
        for series in self.cells.values_mut().flat_map(BTreeMap::values_mut) {
            (series.id, series.named) = (None, false);
        }
        journal::put_begin(&mut self.pending, self.step_ms);
        // What holds on is told in every segment, for the one that told it first may be dropped one day; what may have been lost, too.
        let failed = self.failed.iter().map(|(cell, at)| (*at, cell, Happened::Failed));
        let away = self.away.iter().map(|(cell, (at, share))| (*at, cell, Happened::Away(*share)));
        let open =
            failed.chain(away).map(|(at, cell, happened)| Outcome { at, cell: cell.clone(), happened });
        let again = self.recent.iter().filter(|_| self.lost).cloned();
        for outcome in open.chain(again) {
            journal::put_outcome(&mut self.pending, &outcome);
        }
        self.lost = false;
    }
}

impl Series {
    fn new(window: &MetricWindow, settled: u64) -> Self {
        Self {
            id: None,
            named: false,
            service: None,
            described: Described::of(window),
            newest: settled,
            written: [f64::NAN; UNSETTLED],
        }
    }

    /// Forgets what was written of steps that make room for those up to `step`.
    fn advance(&mut self, step: u64) {
        let passed = step.saturating_sub(self.newest).min(UNSETTLED as u64);
        for back in 0..passed {
            self.written[((step - back) % UNSETTLED as u64) as usize] = f64::NAN;
        }
        self.newest = self.newest.max(step);
    }
}

impl Described {
    fn of(window: &MetricWindow) -> Self {
        Self {
            family: words::family_word(window.family),
            kind: words::kind_word(window.kind),
            unit: window.unit.clone(),
            limit: window.limit,
        }
    }

    /// Asked of every series at every tick: nothing is allocated.
    fn is_of(&self, window: &MetricWindow) -> bool {
        self.family == words::family_word(window.family)
            && self.kind == words::kind_word(window.kind)
            && self.unit == window.unit
            && self.limit.map(f64::to_bits) == window.limit.map(f64::to_bits)
    }
}
