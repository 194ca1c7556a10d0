use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{
    CellId, Family, MetricKind, MetricName, MetricWindow, Sample, ServiceId, Timestamp, Windows,
};

/// One metric of one cell over time, as a window would show it: a counter is a rate already.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedSeries {
    /// What it tells.
    pub family: Family,
    /// What crossing the limit means.
    pub kind: MetricKind,
    /// The unit of its values.
    pub unit: String,
    /// The limit from an instant on, oldest first; `None` from an instant on at which it was lifted.
    pub limits: Vec<(Timestamp, Option<f64>)>,
    /// Values at the ends of steps, oldest first, at most one a step. A step without a value is a gap.
    pub samples: Vec<(Timestamp, f64)>,
}

/// All that was recorded of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct CellHistory {
    /// Its service.
    pub service: ServiceId,
    /// By metric.
    pub series: BTreeMap<MetricName, RecordedSeries>,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The distance between samples; at least 1 ms.
    pub step: Duration,
    /// By cell.
    pub cells: BTreeMap<CellId, CellHistory>,
}

impl RecordedSeries {
    /// The limit that held at `at`.
    #[must_use]
    pub fn limit_at(&self, at: Timestamp) -> Option<f64> {
        let known = self.limits.partition_point(|(from, _)| *from <= at);
        known.checked_sub(1).and_then(|i| self.limits[i].1)
    }
}

impl History {
    /// The instants of the oldest and the newest sample; `None` when there is none.
    #[must_use]
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let all = || self.cells.values().flat_map(|cell| cell.series.values());
        let first = all().filter_map(|s| s.samples.first()).map(|(at, _)| *at).min()?;
        let last = all().filter_map(|s| s.samples.last()).map(|(at, _)| *at).max()?;
        Some((first, last))
    }

    /// The windows of `cell` as they were at `at`: `length` steps that end with the last step not after `at`. Nothing later than `at` is
    /// looked at. `None` when nothing is recorded of the cell.
    #[must_use]
    pub fn windows(&self, cell: &CellId, at: Timestamp, length: usize) -> Option<Windows> {
        let recorded = self.cells.get(cell)?;
        let step_ms = u64::try_from(self.step.as_millis()).unwrap_or(u64::MAX).max(1);
        let last = at.unix_ms() / step_ms;
        let first = last.saturating_sub((length as u64).saturating_sub(1));
        let end = Timestamp::from_unix_ms(last * step_ms);
        let metrics = recorded
            .series
            .iter()
            .map(|(name, series)| {
                // A sample belongs to the step at whose end it stands, or within which it fell.
                let step_of = |at: Timestamp| at.unix_ms().div_ceil(step_ms);
                let mut known = series.samples.partition_point(|(at, _)| step_of(*at) < first);
                let samples = (first..=last)
                    .map(|step| {
                        let mut value = None;
                        while let Some((_, v)) =
                            series.samples.get(known).filter(|(at, _)| step_of(*at) == step)
                        {
                            value = Some(*v).filter(|v| v.is_finite());
                            known += 1;
                        }
                        Sample { at: Timestamp::from_unix_ms(step * step_ms), value }
                    })
                    .collect();
                let window = MetricWindow {
                    name: name.clone(),
                    family: series.family,
                    kind: series.kind,
                    unit: series.unit.clone(),
                    limit: series.limit_at(end),
                    samples,
                };
                (name.clone(), window)
            })
            .collect();
        Some(Windows { cell: cell.clone(), at: end, step: self.step, metrics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    fn history() -> (History, CellId, MetricName) {
        let (cell, name) = (CellId::new("a-1").unwrap(), MetricName::new("memory"));
        let series = RecordedSeries {
            family: Family::Saturation,
            kind: MetricKind::Exhaustible,
            unit: "bytes".to_owned(),
            limits: vec![(at(0), Some(10.0)), (at(3_000), Some(20.0)), (at(5_000), None)],
            samples: vec![(at(1_000), 1.0), (at(2_000), 2.0), (at(4_000), 4.0), (at(5_000), f64::NAN)],
        };
        let of_cell = CellHistory {
            service: "shop".parse().unwrap(),
            series: BTreeMap::from([(name.clone(), series)]),
        };
        let cells = BTreeMap::from([(cell.clone(), of_cell)]);
        (History { step: Duration::from_secs(1), cells }, cell, name)
    }

    #[test]
    fn windows_show_the_past_alone_with_the_limit_of_then() {
        let (history, cell, name) = history();
        let window = |ms| history.windows(&cell, at(ms), 3).unwrap().metrics[&name].clone();
        let values = |ms| window(ms).samples.iter().map(|s| s.value).collect::<Vec<_>>();
        assert_eq!(values(2_999), [None, Some(1.0), Some(2.0)]);
        assert_eq!(window(2_999).limit, Some(10.0));
        assert_eq!(values(4_000), [Some(2.0), None, Some(4.0)]);
        assert_eq!(window(4_000).limit, Some(20.0));
        assert_eq!((values(6_000), window(6_000).limit), (vec![Some(4.0), None, None], None));
        assert_eq!(history.span(), Some((at(1_000), at(5_000))));
        assert!(history.windows(&"b".parse().unwrap(), at(1_000), 3).is_none());
    }
}
