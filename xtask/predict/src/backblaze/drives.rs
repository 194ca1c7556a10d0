//! Drives, and what was known of one at an hour of its life.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Result;

use crate::table::Table;

pub(super) const DAY_H: f64 = 24.0;

/// The attributes that are read.
pub(super) const SMART: [&str; 9] = [
    "smart_5",
    "smart_10",
    "smart_12",
    "smart_187",
    "smart_188",
    "smart_189",
    "smart_196",
    "smart_197",
    "smart_198",
];
/// Those of which the provider says that any count above zero foretells failure.
pub(super) const TELLING: [usize; 5] = [0, 3, 4, 7, 8];
/// Stands for an attribute that a model of drive does not have.
const NOT_COUNTED: f32 = -1.0;
/// Counts of starts say how old a drive is and how often it was touched; all others only ever get worse by rising.
const STARTS: usize = 2;
/// How far back changes of values are measured.
const CHANGES: [f64; 3] = [7.0 * DAY_H, 30.0 * DAY_H, 90.0 * DAY_H];
/// How far back it is counted how often anything changed.
const COUNTS: [f64; 4] = [7.0 * DAY_H, 30.0 * DAY_H, 90.0 * DAY_H, 180.0 * DAY_H];

/// A drive: what its attributes were from when to when, in hours of its life.
#[derive(Debug, Clone, Default)]
pub(super) struct Drive {
    /// The calendar at hour 0 of its life, in hours since 1970. Hours without power are not counted by a drive, so this may be early.
    pub(super) born: f64,
    /// Number of its model among all, by name.
    pub(super) model: usize,
    /// Number of its manufacturer among all, by name.
    pub(super) maker: usize,
    pub(super) size_tb: f32,
    /// Ascending, without gaps.
    pub(super) spans: Vec<Span>,
    /// Whether it failed when last seen.
    pub(super) failed: bool,
}

/// Nothing changed from `from` until before `to`.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) smart: [f32; SMART.len()],
}

impl Drive {
    /// When it was first seen, in hours of its life.
    pub(super) fn begins(&self) -> f64 {
        self.spans.first().map_or(0.0, |span| span.from)
    }

    /// When it was last seen, in hours of its life.
    pub(super) fn ends(&self) -> f64 {
        self.spans.last().map_or(0.0, |span| span.to)
    }

    /// The number of the span at an hour; `None`: it was not yet or no longer seen then.
    pub(super) fn at(&self, hour: f64) -> Option<usize> {
        let i = self.spans.partition_point(|span| span.to <= hour);
        self.spans.get(i).filter(|span| span.from <= hour).map(|_| i)
    }

    /// Features at an hour, from nothing but what had been seen by then; see [`names`].
    pub(super) fn row(&self, hour: f64) -> Option<Vec<f32>> {
        let at = self.at(hour)?;
        let now = &self.spans[at];
        let mut row = now.smart.to_vec();
        for back in CHANGES {
            let before = self.at(hour - back).map(|i| &self.spans[i]);
            row.extend((0..SMART.len()).map(|i| before.map_or(f32::NAN, |b| now.smart[i] - b.smart[i])));
        }
        for back in COUNTS {
            row.push(self.at(hour - back).map_or(f32::NAN, |before| (at - before) as f32));
        }
        // Unknown is here what a model of drive never writes down, or what was before it came: no gap, and no reason to end a tree's way.
        let (levels, changes) = row.split_at_mut(SMART.len());
        levels.iter_mut().filter(|level| level.is_nan()).for_each(|level| *level = NOT_COUNTED);
        changes.iter_mut().filter(|change| change.is_nan()).for_each(|change| *change = 0.0);
        row.extend([hour as f32, (hour - now.from) as f32, self.size_tb, self.maker as f32]);
        Some(row)
    }
}

/// The names of the features that [`Drive::row`] gives.
pub(super) fn names() -> Vec<String> {
    let mut names: Vec<String> = SMART.map(str::to_owned).to_vec();
    for back in CHANGES {
        names.extend(SMART.map(|smart| format!("{smart}.change{}d", back / DAY_H)));
    }
    names.extend(COUNTS.map(|back| format!("changes{}d", back / DAY_H)));
    names.extend(["age", "since_change", "size", "manufacturer"].map(str::to_owned));
    names
}

/// For each feature of [`names`]: 1 where more of it may only mean more risk.
pub(super) fn directions() -> Vec<i8> {
    let mut directions = vec![0; names().len()];
    for (i, direction) in directions.iter_mut().enumerate().take(SMART.len()) {
        *direction = i8::from(i != STARTS);
    }
    directions
}

/// Reads all drives, by serial number.
pub(super) fn read(path: &Path) -> Result<Vec<Drive>> {
    let table = Table::read(path)?;
    let serial = table.texts("serial_number")?;
    let (model, maker) = (table.texts("model")?, table.texts("manufacturer")?);
    let column = |name: &str| table.numbers(name);
    let (from, to, fails) = (column("tstart")?, column("tstop")?, column("fails")?);
    let (day, hours, size) = (column("min_date")?, column("min_hours")?, column("size_tb")?);
    let smart: Vec<&[f64]> = SMART.iter().map(|name| column(name)).collect::<Result<_>>()?;
    let (models, makers) = (numbered(model), numbered(maker));
    let mut drives: BTreeMap<&str, Drive> = BTreeMap::new();
    for i in 0..serial.len() {
        let drive = drives.entry(&serial[i]).or_insert_with(|| Drive {
            born: day[i] * DAY_H - hours[i],
            model: models[model[i].as_str()],
            maker: makers[maker[i].as_str()],
            size_tb: size[i] as f32,
            ..Drive::default()
        });
        drive.failed |= fails[i] > 0.0;
        let mut values = [0.0; SMART.len()];
        for (value, column) in values.iter_mut().zip(&smart) {
            *value = column[i] as f32;
        }
        drive.spans.push(Span { from: from[i], to: to[i], smart: values });
    }
    for drive in drives.values_mut() {
        drive.spans.sort_by(|a, b| a.from.total_cmp(&b.from));
    }
    Ok(drives.into_values().collect())
}

/// Numbers from 0 for texts, in their order.
fn numbered(texts: &[String]) -> BTreeMap<&str, usize> {
    let distinct: BTreeSet<&str> = texts.iter().map(String::as_str).collect();
    distinct.into_iter().zip(0..).collect()
}

/// A drive whose one attribute, the first, has these values from these hours on.
#[cfg(test)]
pub(super) fn made_up(values: &[(f64, f32)], ends: f64, failed: bool) -> Drive {
    let ends_of = |i: usize| values.get(i + 1).map_or(ends, |next| next.0);
    let spans = values.iter().enumerate().map(|(i, (from, value))| {
        let mut smart = [0.0; SMART.len()];
        smart[0] = *value;
        Span { from: *from, to: ends_of(i), smart }
    });
    Drive { spans: spans.collect(), failed, ..Drive::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(row: &[f32], name: &str) -> f32 {
        row[names().iter().position(|n| n == name).unwrap()]
    }

    #[test]
    fn a_row_tells_levels_changes_and_ages() {
        let drive = made_up(&[(100.0, 1.0), (1_000.0, 4.0), (1_100.0, 9.0)], 2_000.0, true);
        let row = drive.row(1_110.0).unwrap();
        assert_eq!(row.len(), names().len());
        assert_eq!(feature(&row, "smart_5"), 9.0);
        assert_eq!(feature(&row, "smart_5.change7d"), 8.0, "at hour 942 it was 1");
        assert_eq!(feature(&row, "changes7d"), 2.0);
        assert_eq!(feature(&row, "smart_5.change90d"), 0.0, "nothing was seen so long ago");
        let mut lacking = drive.clone();
        lacking.spans.iter_mut().for_each(|span| span.smart[3] = f32::NAN);
        let row_of_lacking = lacking.row(1_110.0).unwrap();
        assert_eq!(feature(&row_of_lacking, "smart_187"), -1.0);
        assert_eq!(feature(&row_of_lacking, "smart_187.change7d"), 0.0);
        assert_eq!(feature(&row, "age"), 1_110.0);
        assert_eq!(feature(&row, "since_change"), 10.0);
        assert!(drive.row(99.0).is_none() && drive.row(2_000.0).is_none());
    }

    #[test]
    fn a_row_does_not_change_with_what_comes_after() {
        let seen = made_up(&[(0.0, 1.0), (500.0, 2.0)], 900.0, false);
        let doomed = made_up(&[(0.0, 1.0), (500.0, 2.0), (700.0, 50.0), (701.0, 90.0)], 702.0, true);
        // Unknown values are not equal to themselves, hence as text.
        assert_eq!(format!("{:?}", seen.row(650.0)), format!("{:?}", doomed.row(650.0)));
        assert_ne!(format!("{:?}", seen.row(700.0)), format!("{:?}", doomed.row(700.0)));
    }

    #[test]
    fn only_counts_of_what_went_wrong_have_a_direction() {
        let (names, directions) = (names(), directions());
        assert_eq!(names.len(), directions.len());
        let up: Vec<&str> =
            names.iter().zip(&directions).filter(|(_, d)| **d == 1).map(|(n, _)| n.as_str()).collect();
        assert_eq!(up.len(), 8);
        assert!(!up.contains(&"smart_12") && up.iter().all(|name| SMART.contains(name)));
    }
}
