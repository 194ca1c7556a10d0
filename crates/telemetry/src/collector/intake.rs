//! Takes what was pushed: finds whose it is and what is wanted of it, and puts it where scraped values go.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use forefend_domain::{CellId, MetricName, Timestamp};

use super::{
    directory::{Directory, Identity, Known, Sender},
    logs::LogTotals,
    shared::{Shared, Source, State},
};
use crate::{
    pushed::{CountsAs, Labels, PushedLog, PushedPoint, PushedSeries, Refused, Tally},
    select::{self, KnownLimits},
    series::{MetricSpec, Recorded},
};

/// A sample may be so far ahead of our clock, and counts as measured now; further ahead it is refused.
const AHEAD_AT_MOST: Duration = Duration::from_secs(60);

/// Senders nobody knows that are named in the log.
const STRANGERS_NAMED: usize = 64;

/// Characters of a sender's name that are shown.
const SHOWN: usize = 100;

/// Limits told by metrics, and buckets remembered, of one cell.
const REMEMBERED_OF_A_CELL: usize = 256;

/// Series that are taken under one lock.
const SERIES_AT_ONCE: usize = 256;

/// Where pushed telemetry goes in. Can be cloned, and used from any thread.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
    identity: Arc<Identity>,
}

/// What became of what was pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// It is in the windows, or a later observation of the same step is.
    pub kept: Tally,
    /// Nobody wants it: it was not selected, or its cell does not count at the moment.
    pub ignored: Tally,
    /// Whose it is is not known.
    pub unknown: Tally,
    /// The first of those, and what would help.
    pub stranger: Option<String>,
    /// It can't be kept, now or later.
    pub refused: Refused,
}

/// What is remembered of pushes.
#[derive(Default)]
pub(super) struct Pushes {
    pub(super) directory: Directory,
    pub(super) cells: BTreeMap<CellId, OfCell>,
    /// Senders nobody knows that were named in the log.
    strangers: Vec<String>,
    pub(super) kept: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
}

/// What is remembered of one cell.
#[derive(Default)]
pub(super) struct OfCell {
    /// Series that nobody selected, with the time of their newest point.
    taken: HashMap<MetricName, Timestamp>,
    limits: KnownLimits,
    buckets: HashMap<MetricName, (Timestamp, Arc<crate::buckets::Buckets>)>,
    pub(super) logs: LogTotals,
}

impl Intake {
    pub(super) fn new(shared: Arc<Shared>, identity: Identity) -> Self {
        Self { shared, identity: Arc::new(identity) }
    }

    /// Takes series. What can't be kept does not keep out the rest.
    pub fn push(&self, series: Vec<PushedSeries>) -> Report {
        let now = self.shared.now();
        let mut batch = Batch { intake: self, now, report: Report::default(), problems: BTreeMap::new() };
        let mut series = series.into_iter().peekable();
        // The loop must not wait for the whole of a large push.
        while series.peek().is_some() {
            let mut state = self.shared.lock();
            series.by_ref().take(SERIES_AT_ONCE).for_each(|series| batch.one(&mut state, series));
        }
        batch.end(&mut self.shared.lock())
    }

    /// Takes records of logs. They become templates and rates like lines of files where the cell's logs are wanted; otherwise they are counted by
    /// severity.
    pub fn push_logs(&self, records: Vec<PushedLog>) -> Report {
        let now = self.shared.now();
        let mut batch = Batch { intake: self, now, report: Report::default(), problems: BTreeMap::new() };
        let mut state = self.shared.lock();
        let mut heard: BTreeSet<CellId> = BTreeSet::new();
        let mut taken = Vec::new();
        for record in records {
            let Some((cell, known)) = batch.whose(&mut state, &Labels::new(), &record.source, |report| {
                report.unknown.add(CountsAs::Sample, 1);
            }) else {
                continue;
            };
            if known.paused {
                batch.report.ignored.add(CountsAs::Sample, 1);
                continue;
            }
            let at = record.at.unwrap_or(now).min(now);
            let PushedLog { severity, body, .. } = record;
            taken.push(super::LogRecord { cell, at, severity, body });
            batch.report.kept.add(CountsAs::Sample, 1);
        }
        // Templates are looked for without the lock that the loop waits for.
        drop(state);
        taken.retain(|record| {
            !self.shared.logs.line(&record.cell, record.at, record.severity.of_lines(), &record.body)
        });
        let mut state = self.shared.lock();
        for record in taken {
            super::logs::take_log(&mut state, &record);
            heard.insert(record.cell);
        }
        for cell in heard {
            if let Some(why) = super::logs::record_totals(&mut state, &cell, now) {
                batch.problems.insert(cell, why);
            }
        }
        batch.end(&mut state)
    }
}

/// One push under way.
struct Batch<'a> {
    intake: &'a Intake,
    now: Timestamp,
    report: Report,
    problems: BTreeMap<CellId, String>,
}

impl Batch<'_> {
    fn one(&mut self, state: &mut State, mut series: PushedSeries) {
        let (counts_as, points) = (series.counts_as, series.points.len());
        let told = std::mem::take(&mut series.labels);
        let found = self.whose(state, &told, &series.source, |report| report.unknown.add(counts_as, points));
        let Some((cell, known)) = found else { return };
        series.labels = self.intake.identity.own(told);
        let of_cell = state.pushes.cells.entry(cell.clone()).or_default();
        of_cell.learn_limit(&series, &known);
        let spec = if known.paused { None } else { self.wanted(of_cell, &cell, &series, &known) };
        let Some(spec) = spec else {
            return self.report.ignored.add(counts_as, points);
        };
        if series.quantile.is_some() {
            of_cell.estimate(&spec.name, &mut series);
        }
        for point in &series.points {
            match self.keep(state, &cell, &spec, point) {
                Ok(()) => self.report.kept.add(counts_as, 1),
                Err(why) => {
                    self.problems.entry(cell.clone()).or_insert_with(|| why.clone());
                    self.report.refused.add(counts_as, 1, || why);
                }
            }
        }
    }

    fn whose(
        &mut self,
        state: &mut State,
        labels: &Labels,
        source: &Labels,
        unknown: impl FnOnce(&mut Report),
    ) -> Option<(CellId, Arc<Known>)> {
        let pushes = &mut state.pushes;
        let stranger = match pushes.directory.sender(&self.intake.identity, labels, source) {
            Sender::Cell(cell) => return Some((cell.clone(), pushes.directory.known(cell)?)),
            Sender::Stranger(label, value) => {
                let value: String = value.chars().take(SHOWN).collect();
                format!("{label}={value:?} names no cell, nor an address of one")
            }
            Sender::Nameless => {
                format!(
                    "no label says which cell it is of; add one of {}",
                    self.intake.identity.cell_labels.join(", ")
                )
            }
        };
        unknown(&mut self.report);
        if pushes.strangers.len() < STRANGERS_NAMED && !pushes.strangers.contains(&stranger) {
            tracing::warn!("pushed telemetry is dropped: {stranger}");
            pushes.strangers.push(stranger.clone());
            if pushes.strangers.len() == STRANGERS_NAMED {
                tracing::warn!("further senders of dropped telemetry are not named any more");
            }
        }
        self.report.stranger.get_or_insert(stranger);
        None
    }

    /// What the series is for us; `None`: not wanted.
    fn wanted(
        &mut self,
        of_cell: &mut OfCell,
        cell: &CellId,
        series: &PushedSeries,
        known: &Known,
    ) -> Option<MetricSpec> {
        if let Some(selector) =
            known.target.metrics.iter().find(|selector| selector.fits(&series.name, &series.labels))
        {
            return Some(selector.pushed(series, &of_cell.limits));
        }
        if !known.target.metrics.is_empty() || !series.by_default {
            return None;
        }
        let spec = select::pushed_by_default(series, &of_cell.limits);
        let bound = self.intake.shared.options.default_series;
        let newest = series.points.iter().map(|point| point.at).max().unwrap_or_default().min(self.now);
        if of_cell.room(&spec.name, newest, bound, self.window_began()) {
            return Some(spec);
        }
        self.problems.entry(cell.clone()).or_insert_with(|| {
            format!(
                "`{}` was left out, for {bound} series that nobody selected are kept already; select what matters",
                spec.name
            )
        });
        None
    }

    fn window_began(&self) -> Timestamp {
        let store = self.intake.shared.options.store;
        let length = store.step.saturating_mul(u32::try_from(store.length).unwrap_or(u32::MAX));
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_unix_ms(self.now.unix_ms().saturating_sub(length))
    }

    fn keep(
        &self,
        state: &mut State,
        cell: &CellId,
        spec: &MetricSpec,
        point: &PushedPoint,
    ) -> Result<(), String> {
        let ahead = Duration::from_millis(point.at.unix_ms().saturating_sub(self.now.unix_ms()));
        if ahead > AHEAD_AT_MOST {
            return Err(format!(
                "`{}` of {cell} was measured {ahead:?} after now; set the clocks of both machines right",
                spec.name
            ));
        }
        let at = point.at.min(self.now);
        let began = point.began.map(|began| began.min(at));
        match state.store.record_since(cell, spec, began, at, point.value) {
            Ok(Recorded::Kept | Recorded::Superseded) => Ok(()),
            Ok(Recorded::TooOld) => {
                let age = Duration::from_millis(self.now.unix_ms().saturating_sub(at.unix_ms()));
                Err(format!("`{}` of {cell} came {age:?} late, which is longer than windows are", spec.name))
            }
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    fn end(self, state: &mut State) -> Report {
        for (cell, what) in self.problems {
            state.note(&cell, Source::Push, self.now, Some(what));
        }
        state.pushes.kept += self.report.kept.all();
        state.pushes.unknown += self.report.unknown.all();
        state.pushes.refused += self.report.refused.tally.all();
        self.report
    }
}

impl OfCell {
    /// Keeps what a metric says about another's limit.
    fn learn_limit(&mut self, series: &PushedSeries, known: &Known) {
        if !select::tells_limit(&series.name, &known.target.metrics)
            || (self.limits.len() >= REMEMBERED_OF_A_CELL && !self.limits.has(series))
        {
            return;
        }
        if let Some(value) = series.points.iter().rev().find_map(|point| point.value) {
            self.limits.learn(series, value);
        }
    }

    /// Whether a series that nobody selected may be kept. Those that ended make room.
    fn room(&mut self, name: &MetricName, newest: Timestamp, bound: usize, window_began: Timestamp) -> bool {
        if !self.taken.contains_key(name) && self.taken.len() >= bound {
            self.taken.retain(|_, at| *at >= window_began);
            if self.taken.len() >= bound {
                return false;
            }
        }
        self.taken.insert(name.clone(), newest);
        true
    }

    /// Puts the estimate in place: of a delta from its own buckets, else from what was added since the point before.
    fn estimate(&mut self, name: &MetricName, series: &mut PushedSeries) {
        let Some((quantile, buckets)) = &series.quantile else { return };
        let Some(point) = series.points.first_mut() else { return };
        if !buckets.cumulative {
            point.value = buckets.quantile(*quantile);
            return;
        }
        let before = self.buckets.get(name).filter(|(at, _)| *at < point.at);
        let same_life = |at: &Timestamp| point.began.is_none_or(|began| began <= *at);
        point.value = before
            .filter(|(at, _)| same_life(at))
            .and_then(|(_, before)| buckets.since(before))
            .and_then(|added| added.quantile(*quantile));
        point.began = None;
        let newer = self.buckets.get(name).is_none_or(|(at, _)| *at < point.at);
        if newer && (self.buckets.len() < REMEMBERED_OF_A_CELL || self.buckets.contains_key(name)) {
            self.buckets.insert(name.clone(), (point.at, Arc::clone(buckets)));
        }
    }
}
