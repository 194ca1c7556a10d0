//! Disk drives of a storage provider: does a drive fail within thirty days?
//!
//! Drives *and* time are split: learned from some drives up to an instant, measured on others after it, with an embargo of the horizon between.
//! A drive is looked at on fixed days of the calendar, never chosen by what became of it.

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::Result;
use forefend_learn::{
    boost, calibrate,
    evaluate::{bootstrap::Bootstrap, probability, rank, reliability},
    hazard::{Learner, Watched, train},
};
use forefend_predict::learned::Hazard;

use crate::{report::Line, table::Table};

const CASE: &str = "backblaze";
const DAY_H: f64 = 24.0;
const HORIZON_H: f64 = 30.0 * DAY_H;
/// From look to look.
const EVERY_H: f64 = 15.0 * DAY_H;
/// Looks without a failure within the horizon are kept one in so many for training, and count for as many.
const KEPT_ONE_IN: u64 = 6;
/// The share of failures that lie before the instant that parts training and test.
const BEFORE: f64 = 0.6;
const RESAMPLES: usize = 500;

/// The attributes that are read.
const SMART: [&str; 9] = [
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
const TELLING: [usize; 5] = [0, 3, 4, 7, 8];
/// How far back changes are counted.
const BACK_H: [f64; 3] = [7.0 * DAY_H, 30.0 * DAY_H, 90.0 * DAY_H];

/// A drive: what its attributes were from when to when, in hours of its life.
struct Drive {
    /// The calendar at hour 0 of its life, in hours since 1970.
    born: f64,
    manufacturer: f32,
    size_tb: f32,
    spans: Vec<Span>,
    failed: bool,
}

struct Span {
    from: f64,
    to: f64,
    smart: [f32; SMART.len()],
}

/// A drive on a day.
struct Look {
    drive: u64,
    /// Hours since 1970.
    at: f64,
    row: Vec<f32>,
    /// Until it failed or was last seen.
    left: f64,
    failed: bool,
}

impl Look {
    /// Whether it failed within the horizon; `None`: it was lost sight of before.
    fn outcome(&self) -> Option<bool> {
        let within = self.left <= HORIZON_H;
        if self.failed && within { Some(true) } else { (!within).then_some(false) }
    }
}

pub(crate) fn run(folder: &Path) -> Result<Vec<Line>> {
    let drives = read(&folder.join("backblaze/drives.parquet"))?;
    let mut failures: Vec<f64> = drives.values().filter(|d| d.failed).map(|d| d.born + d.ends()).collect();
    failures.sort_by(f64::total_cmp);
    let parted_at = failures.get((failures.len() as f64 * BEFORE) as usize).copied().unwrap_or(f64::INFINITY);
    let looks: Vec<Look> = drives.values().zip(0u64..).flat_map(|(drive, n)| drive.looks(n)).collect();
    let for_training = |look: &&Look| !look.drive.is_multiple_of(3) && look.at + HORIZON_H <= parted_at;
    let for_test = |look: &&Look| look.drive.is_multiple_of(3) && look.at > parted_at;
    let known: Vec<&Look> = looks.iter().filter(for_training).collect();
    let test: Vec<(&Look, bool)> =
        looks.iter().filter(for_test).filter_map(|look| Some((look, look.outcome()?))).collect();
    let begun = Instant::now();
    let hazard = learn(&known)?;
    let train_s = begun.elapsed().as_secs_f64();
    let said: Vec<f64> = test.iter().map(|(look, _)| within_horizon(&hazard, &look.row)).collect();
    let truth: Vec<bool> = test.iter().map(|(_, failed)| *failed).collect();
    let groups: Vec<u64> = test.iter().map(|(look, _)| look.drive).collect();
    let telling: Vec<f64> = test.iter().map(|(look, _)| threshold(&look.row)).collect();
    let known_rate = {
        let outcomes: Vec<bool> = known.iter().filter_map(|look| look.outcome()).collect();
        outcomes.iter().filter(|failed| **failed).count() as f64 / outcomes.len().max(1) as f64
    };
    eprintln!(
        "{CASE}: {} drives, {} looks for training, {} for test, {} of them before a failure",
        drives.len(),
        known.len(),
        test.len(),
        truth.iter().filter(|failed| **failed).count()
    );
    let pick = |rows: &[usize], from: &[f64]| -> Vec<f64> { rows.iter().map(|i| from[*i]).collect() };
    let labels = |rows: &[usize]| -> Vec<bool> { rows.iter().map(|i| truth[*i]).collect() };
    let bootstrap = Bootstrap { resamples: RESAMPLES, ..Bootstrap::default() };
    let interval = |of: &dyn Fn(&[usize]) -> Option<f64>| bootstrap.interval(&groups, of);
    let auc = |rows: &[usize]| rank::auc(&pick(rows, &said), &labels(rows), None);
    let skill =
        |rows: &[usize]| probability::brier_skill(&pick(rows, &said), &labels(rows), None, known_rate);
    let slope =
        |rows: &[usize]| reliability::recalibration(&pick(rows, &said), &labels(rows)).map(|c| c.slope);
    let top = reliability::top(&said, &truth, 0.01, 0.95).map(|top| top.ratio);
    let ece = reliability::expected_calibration_error(&said, &truth, 10);
    Ok(vec![
        Line::estimate(CASE, "auc", "1", interval(&auc))
            .against("static-threshold", rank::auc(&telling, &truth, None)),
        Line::estimate(CASE, "brier_skill", "1", interval(&skill)),
        Line::estimate(CASE, "calibration_slope", "1", interval(&slope)),
        Line::estimate(CASE, "observed_over_expected_top_1_percent", "1", top),
        Line::ours(CASE, "ece", "1", ece),
        Line::ours(CASE, "train_s", "s", Some(train_s)),
    ])
}

fn learn(known: &[&Look]) -> Result<Hazard> {
    let edges: Vec<f64> = [5.0, 10.0, 20.0, 30.0, 60.0].map(|days| days * DAY_H).to_vec();
    let mut watched = Watched::default();
    let mut held_out = Watched::default();
    for (n, look) in (0u64..).zip(known) {
        let fails = look.failed && look.left <= 2.0 * HORIZON_H;
        let weight = if fails { 1 } else { KEPT_ONE_IN };
        if !fails && !n.is_multiple_of(KEPT_ONE_IN) {
            continue;
        }
        let into =
            if look.drive % 3 == 1 && look.drive.is_multiple_of(5) { &mut held_out } else { &mut watched };
        into.push(look.row.clone(), look.left.max(0.5), look.failed, weight as f32);
    }
    let settings = boost::Settings {
        rounds: 400,
        learning_rate: 0.05,
        leaves: 16,
        min_rows_in_leaf: 100,
        l2: 10.0,
        row_share: 0.7,
        column_share: 0.5,
        seed: 1,
        patience: Some(30),
        ..boost::Settings::default()
    };
    let hazard = train(&watched, Some(&held_out), &names(), &edges, &Learner::Trees(settings))?;
    // Calibrated only if that makes the held-out drives' score better.
    let kept: Vec<(f64, bool, u64)> = known
        .iter()
        .filter(|look| look.drive % 3 == 1 && look.drive.is_multiple_of(5))
        .filter_map(|look| Some((within_horizon(&hazard, &look.row), look.outcome()?, look.drive)))
        .collect();
    let said: Vec<f64> = kept.iter().map(|k| k.0).collect();
    let truth: Vec<f32> = kept.iter().map(|k| f32::from(u8::from(k.1))).collect();
    let groups: Vec<u64> = kept.iter().map(|k| k.2).collect();
    Ok(hazard.calibrated(calibrate::choose(&said, &truth, &groups, None)?))
}

fn within_horizon(hazard: &Hazard, row: &[f32]) -> f64 {
    hazard.within(&hazard.cumulative(row), HORIZON_H)
}

/// The provider's own rule as a score: how many of the telling attributes are above zero.
fn threshold(row: &[f32]) -> f64 {
    TELLING.iter().filter(|i| row[**i] > 0.0).count() as f64
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = SMART.map(str::to_owned).to_vec();
    for back in BACK_H {
        names.extend(SMART.map(|smart| format!("{smart}.change{}d", back / DAY_H)));
    }
    names.extend(["age", "since_change", "changes", "size", "manufacturer"].map(str::to_owned));
    names
}

impl Drive {
    /// When it was last seen, in hours of its life.
    fn ends(&self) -> f64 {
        self.spans.last().map_or(0.0, |span| span.to)
    }

    fn span_at(&self, hour: f64) -> Option<&Span> {
        let i = self.spans.partition_point(|span| span.to <= hour);
        self.spans.get(i).filter(|span| span.from <= hour)
    }

    /// What was seen of it on each of the days.
    fn looks(&self, n: u64) -> Vec<Look> {
        let (first, last) = (self.spans.first().map_or(0.0, |span| span.from), self.ends());
        let mut at = ((self.born + first) / EVERY_H).ceil() * EVERY_H;
        let mut looks = Vec::new();
        while at < self.born + last {
            let hour = at - self.born;
            if let Some(span) = self.span_at(hour) {
                let row = self.row(hour, span);
                looks.push(Look { drive: n, at, row, left: last - hour, failed: self.failed });
            }
            at += EVERY_H;
        }
        looks
    }

    fn row(&self, hour: f64, now: &Span) -> Vec<f32> {
        let mut row: Vec<f32> = now.smart.iter().map(|v| v.max(0.0).ln_1p()).collect();
        for back in BACK_H {
            let before = self.span_at(hour - back);
            for (i, value) in now.smart.iter().enumerate() {
                row.push(before.map_or(f32::NAN, |span| {
                    let change = value - span.smart[i];
                    change.signum() * change.abs().ln_1p()
                }));
            }
        }
        let seen = self.spans.partition_point(|span| span.from <= hour);
        row.extend([hour as f32, (hour - now.from) as f32, seen as f32, self.size_tb, self.manufacturer]);
        row
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Drive>> {
    let table = Table::read(path)?;
    let serial = table.texts("serial_number")?;
    let maker = table.texts("manufacturer")?;
    let column = |name: &str| table.numbers(name);
    let (from, to, fails) = (column("tstart")?, column("tstop")?, column("fails")?);
    let (day, hours, size) = (column("min_date")?, column("min_hours")?, column("size_tb")?);
    let smart: Vec<&[f64]> = SMART.iter().map(|name| column(name)).collect::<Result<_>>()?;
    let makers: BTreeMap<&str, usize> = {
        let names: std::collections::BTreeSet<&str> = maker.iter().map(String::as_str).collect();
        names.into_iter().zip(0..).collect()
    };
    let mut drives: BTreeMap<String, Drive> = BTreeMap::new();
    for i in 0..serial.len() {
        let drive = drives.entry(serial[i].clone()).or_insert_with(|| Drive {
            born: day[i] * DAY_H - hours[i],
            manufacturer: makers.get(maker[i].as_str()).map_or(f32::NAN, |n| *n as f32),
            size_tb: size[i] as f32,
            spans: Vec::new(),
            failed: false,
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
    Ok(drives)
}
