//! The long format: a row for each value, gathered into a history.

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{CellId, Family, MetricKind, MetricName, ServiceId, Timestamp};

use super::{
    error::Complaint,
    recorded::{CellHistory, History, RecordedSeries},
    words,
};

/// The columns, in the order in which they are written.
pub(super) const COLUMNS: [&str; 9] =
    ["cell", "service", "metric", "family", "kind", "unit", "limit", "at", "value"];
/// Those without which nothing can be read.
pub(super) const NEEDED: [&str; 4] = ["cell", "metric", "at", "value"];
/// The service of cells that name none.
const SERVICE: &str = "recorded";

/// One line of a table. What is `None` was not said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row<'a> {
    pub(super) cell: &'a str,
    pub(super) service: Option<&'a str>,
    pub(super) metric: &'a str,
    pub(super) family: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    pub(super) unit: Option<&'a str>,
    pub(super) limit: Option<f64>,
    pub(super) at: Timestamp,
    pub(super) value: Option<f64>,
}

/// Rows on their way to a history.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    cells: BTreeMap<Box<str>, GatheredCell>,
    rows: u64,
    /// The coarsest that a file told.
    step: Option<Duration>,
}

#[derive(Debug)]
struct GatheredCell {
    id: CellId,
    service: Option<ServiceId>,
    series: BTreeMap<Box<str>, GatheredSeries>,
}

#[derive(Debug, Default)]
struct GatheredSeries {
    family: Option<Family>,
    kind: Option<MetricKind>,
    unit: String,
    rows: Vec<GatheredRow>,
}

/// 24 bytes: what memory goes into while a history is read. NaN: none.
#[derive(Debug, Clone, Copy)]
struct GatheredRow {
    at: Timestamp,
    value: f64,
    limit: f64,
}

/// A name that is none, in the words of the type that refused it: what is wrong, then what to do.
pub(super) fn name_complaint(column: &str, error: &impl ToString) -> Complaint {
    let words = error.to_string();
    let (what, remedy) = words.split_once(": ").unwrap_or((&words, "write another name"));
    Complaint::new(format!("column {column}"), what, remedy)
}

impl Gathered {
    /// Takes a row. Rows may come in any order; of two for one instant of one metric the later counts.
    pub(super) fn add(&mut self, row: &Row<'_>) -> Result<(), Complaint> {
        if row.metric.is_empty() {
            return Err(Complaint::new("column metric", "the name is empty", "name the metric in every row"));
        }
        let cell = match self.cells.get_mut(row.cell) {
            Some(known) => known,
            None => {
                let id = CellId::new(row.cell).map_err(|e| name_complaint("cell", &e))?;
                let new = GatheredCell { id, service: None, series: BTreeMap::new() };
                self.cells.entry(row.cell.into()).or_insert(new)
            }
        };
        if let Some(service) = row.service
            && cell.service.as_ref().is_none_or(|known| known.as_str() != service)
        {
            cell.service = Some(ServiceId::new(service).map_err(|e| name_complaint("service", &e))?);
        }
        let series = match cell.series.get_mut(row.metric) {
            Some(known) => known,
            None => cell.series.entry(row.metric.into()).or_default(),
        };
        if let Some(word) = row.family {
            series.family = Some(words::family_of(word)?);
        }
        if let Some(word) = row.kind {
            series.kind = Some(words::kind_of(word)?);
        }
        if let Some(unit) = row.unit.filter(|unit| *unit != series.unit) {
            unit.clone_into(&mut series.unit);
        }
        let number = |n: Option<f64>| n.filter(|n| n.is_finite()).unwrap_or(f64::NAN);
        let (value, limit) = (number(row.value), number(row.limit));
        series.rows.push(GatheredRow { at: row.at, value, limit });
        self.rows += 1;
        Ok(())
    }

    /// How many were taken.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// A file says its step. Of several the longest counts: a finer one would see gaps where there are none.
    pub(super) fn told_step(&mut self, step: Duration) {
        self.step = self.step.max(Some(step));
    }

    /// `step` goes before what files told, that before what is seen. `None` when no step is to be seen.
    pub(super) fn finish(mut self, step: Option<Duration>) -> Option<History> {
        for series in self.cells.values_mut().flat_map(|cell| cell.series.values_mut()) {
            series.put_in_order();
        }
        let step = step.or(self.step).or_else(|| self.median_distance())?.max(Duration::from_millis(1));
        let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
        let cells = self.cells.into_values().filter_map(|cell| {
            let service = cell.service.or_else(|| ServiceId::new(SERVICE).ok())?;
            let series = cell.series.into_iter();
            let series = series.map(|(name, s)| (MetricName::new(&name), s.finish(step_ms))).collect();
            Some((cell.id, CellHistory { service, series }))
        });
        Some(History { step: Duration::from_millis(step_ms), cells: cells.collect() })
    }

    /// Of neighbours in time within a metric, over all metrics: the lower median.
    fn median_distance(&self) -> Option<Duration> {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for series in self.cells.values().flat_map(|cell| cell.series.values()) {
            let measured: Vec<u64> =
                series.rows.iter().filter(|row| !row.value.is_nan()).map(|row| row.at.unix_ms()).collect();
            for pair in measured.windows(2) {
                *counts.entry(pair[1] - pair[0]).or_default() += 1;
            }
        }
        let all: u64 = counts.values().sum();
        let mut seen = 0;
        counts.into_iter().find_map(|(distance, count)| {
            seen += count;
            (seen * 2 >= all).then_some(Duration::from_millis(distance))
        })
    }
}

impl GatheredSeries {
    /// By time; of rows of one instant only the last told remains.
    fn put_in_order(&mut self) {
        // Stable, so the order in which they were told remains among equals.
        self.rows.sort_by_key(|row| row.at);
        let mut kept = 0;
        for next in 0..self.rows.len() {
            if kept > 0 && self.rows[kept - 1].at == self.rows[next].at {
                kept -= 1;
            }
            self.rows[kept] = self.rows[next];
            kept += 1;
        }
        self.rows.truncate(kept);
    }

    /// The rows must be in order.
    fn finish(self, step_ms: u64) -> RecordedSeries {
        let mut limits: Vec<(Timestamp, Option<f64>)> = Vec::new();
        let mut samples: Vec<(Timestamp, f64)> = Vec::new();
        for row in &self.rows {
            let limit = Some(row.limit).filter(|l| !l.is_nan());
            if limits.last().map_or(limit.is_some(), |(_, known)| *known != limit) {
                limits.push((row.at, limit));
            }
            if row.value.is_nan() {
                continue;
            }
            let step_of = |at: Timestamp| at.unix_ms().div_ceil(step_ms);
            match samples.last_mut() {
                Some(last) if step_of(last.0) == step_of(row.at) => *last = (row.at, row.value),
                _ => samples.push((row.at, row.value)),
            }
        }
        // Who writes down a limit and no kind means that it must not be reached.
        let unsaid = if limits.is_empty() { MetricKind::Unbounded } else { MetricKind::Exhaustible };
        RecordedSeries {
            family: self.family.unwrap_or(Family::Custom),
            kind: self.kind.unwrap_or(unsaid),
            unit: self.unit,
            limits,
            samples,
        }
    }
}

/// The rows of a history: cell by cell, metric by metric, oldest first. A limit that changed where there is no sample gets a row without
/// a value.
pub(super) fn rows_of(history: &History) -> impl Iterator<Item = Row<'_>> {
    history.cells.iter().flat_map(|(cell, recorded)| {
        recorded.series.iter().flat_map(move |(metric, series)| {
            let (mut sample, mut limit) = (0, 0);
            let mut holds = None;
            std::iter::from_fn(move || {
                let next_sample = series.samples.get(sample);
                let next_limit = series.limits.get(limit);
                let at = match (next_sample, next_limit) {
                    (Some((s, _)), Some((l, _))) => *s.min(l),
                    (Some((at, _)), None) | (None, Some((at, _))) => *at,
                    (None, None) => return None,
                };
                if let Some((_, new)) = next_limit.filter(|(from, _)| *from == at) {
                    holds = *new;
                    limit += 1;
                }
                let value = next_sample.filter(|(of, _)| *of == at).map(|(_, value)| *value);
                sample += usize::from(value.is_some());
                Some(Row {
                    cell: cell.as_str(),
                    service: Some(recorded.service.as_str()),
                    metric: metric.as_str(),
                    family: Some(words::family_word(series.family)),
                    kind: Some(words::kind_word(series.kind)),
                    unit: Some(&series.unit),
                    limit: holds,
                    at,
                    value: value.filter(|v| v.is_finite()),
                })
            })
        })
    })
}
