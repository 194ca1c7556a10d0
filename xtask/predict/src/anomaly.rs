//! Servers with labelled anomalies: how well does a detector that never saw a label point at them?
//!
//! A detector sees the unlabelled train rows of a server, then its test rows one by one. Its scores are judged as they are, by the volume under
//! the precision-recall surface: no threshold is chosen and no anomaly counts as found because a row of it was.
//!
//! Settings were chosen on the servers named in [`Set::chosen_on`], so there is a figure for the others alone. What the engine serves is the memory
//! of a fleet, here one of a single cell, which is shown the same rows as windows; how its score is made was chosen on the same servers.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use forefend_domain::{
    CellId, CellRole, Family, MetricKind, MetricName, MetricWindow, Sample, ServiceId, Timestamp, Windows,
    ZoneId,
};
use forefend_learn::evaluate::anomaly::{WINDOW, volume};
use forefend_predict::{
    Fleet, Place,
    detect::{Hold, Hotelling, Learner},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{report::Line, table::Table};

/// Servers of one publisher.
struct Set {
    case: &'static str,
    /// From row to row.
    step: Duration,
    servers: &'static [&'static str],
    chosen_on: [&'static str; 2],
}

const SMD: Set = Set {
    case: "smd",
    step: Duration::from_secs(60),
    servers: &["machine-1-6", "machine-2-1", "machine-2-8", "machine-3-3"],
    chosen_on: ["machine-1-6", "machine-3-3"],
};

const ASD: Set = Set {
    case: "asd",
    step: Duration::from_secs(300),
    servers: &["omi-1", "omi-2", "omi-3", "omi-4", "omi-5", "omi-6"],
    chosen_on: ["omi-1", "omi-6"],
};

/// Rows that a served window holds.
const WINDOW_ROWS: usize = 120;
/// When rows begin: a midnight, since the sets don't say when it was.
const BEGIN_MS: u64 = 1_699_833_600_000;
/// How a peer's score falls where it is held as ours is.
const FALLING: f64 = 0.07;

/// Of one server, for each detector.
struct Figures {
    chosen_on: bool,
    ours: f64,
    served: f64,
    t2: f64,
    t2_held: f64,
    random: f64,
    us_per_row: f64,
}

pub(crate) fn smd(folder: &Path) -> Result<Vec<Line>> {
    SMD.lines(folder)
}

pub(crate) fn asd(folder: &Path) -> Result<Vec<Line>> {
    ASD.lines(folder)
}

impl Set {
    fn lines(&self, folder: &Path) -> Result<Vec<Line>> {
        let figures: Vec<Figures> = self
            .servers
            .iter()
            .map(|server| self.figures(&folder.join(self.case), server).with_context(|| (*server).to_owned()))
            .collect::<Result<_>>()?;
        let unseen: Vec<&Figures> = figures.iter().filter(|f| !f.chosen_on).collect();
        let all: Vec<&Figures> = figures.iter().collect();
        let mean = |of: fn(&Figures) -> f64, among: &[&Figures]| {
            Some(among.iter().map(|f| of(f)).sum::<f64>() / among.len() as f64)
        };
        let line_of = |metric, of: fn(&Figures) -> f64, among: &[&Figures]| {
            let each: Vec<f64> = among.iter().map(|f| of(f)).collect();
            let range = [
                each.iter().copied().fold(f64::INFINITY, f64::min),
                each.iter().copied().fold(0.0, f64::max),
            ];
            Line::ours(self.case, metric, "1", mean(of, among)).over(range)
        };
        let line = |metric, among: &[&Figures]| line_of(metric, |f| f.ours, among);
        let served = |metric, among: &[&Figures]| line_of(metric, |f| f.served, among);
        Ok(vec![
            line("vus_pr", &all).against("t2", mean(|f| f.t2, &all)),
            line("vus_pr", &all).against("t2-held", mean(|f| f.t2_held, &all)),
            line("vus_pr", &all).against("random", mean(|f| f.random, &all)),
            line("vus_pr_not_chosen_on", &unseen).against("t2", mean(|f| f.t2, &unseen)),
            served("vus_pr_served", &all).against("t2", mean(|f| f.t2, &all)),
            served("vus_pr_served", &all).against("joint", mean(|f| f.ours, &all)),
            served("vus_pr_served", &all).against("random", mean(|f| f.random, &all)),
            served("vus_pr_served_not_chosen_on", &unseen).against("t2", mean(|f| f.t2, &unseen)),
            Line::ours(self.case, "row_us", "us", mean(|f| f.us_per_row, &all)),
        ])
    }

    fn figures(&self, folder: &Path, server: &str) -> Result<Figures> {
        let train = Table::read(&folder.join(format!("{server}.train.parquet")))?;
        let test = Table::read(&folder.join(format!("{server}.test.parquet")))?;
        let anomalous: Vec<bool> = test.numbers("label")?.iter().map(|label| *label > 0.0).collect();
        let (train, test) = (rows(&train)?, rows(&test)?);
        let judged = |scores: &[f64]| {
            volume(scores, &anomalous, WINDOW).map(|volume| volume.pr).context("there is nothing to judge")
        };
        let begun = Instant::now();
        let ours = joint(&train, &test)?;
        let us_per_row = begun.elapsed().as_secs_f64() * 1e6 / (train.len() + test.len()) as f64;
        let hotelling = Hotelling::fit(&train).context("no metric varies")?;
        let t2: Vec<f64> = test.iter().map(|row| hotelling.t2(row)).collect();
        let mut hold = Hold::new(FALLING);
        let held: Vec<f64> = t2.iter().map(|score| hold.push(score.sqrt())).collect();
        let served = served(&train, &test, self.step)?;
        let mut chance = ChaCha8Rng::seed_from_u64(1);
        let random: Vec<f64> = test.iter().map(|_| chance.random_range(0.0..1.0)).collect();
        let figures = Figures {
            chosen_on: self.chosen_on.contains(&server),
            ours: judged(&ours)?,
            served: judged(&served)?,
            t2: judged(&t2)?,
            t2_held: judged(&held)?,
            random: judged(&random)?,
            us_per_row,
        };
        eprintln!(
            "{server}: VUS-PR {:.4}, as served {:.4}, of T² {:.4}, held {:.4}",
            figures.ours, figures.served, figures.t2, figures.t2_held
        );
        Ok(figures)
    }
}

/// The scores of the test rows, each by what came before it.
fn joint(train: &[Vec<f64>], test: &[Vec<f64>]) -> Result<Vec<f64>> {
    let mut learner = Learner::new(train.first().map_or(0, Vec::len));
    train.iter().for_each(|row| learner.push(row));
    let mut detector = learner.finish().context("the train rows are too few")?;
    Ok(test.iter().map(|row| detector.push(row).score).collect())
}

/// What the engine says of the test rows: each row is a tick, and the newest rows are its window.
fn served(train: &[Vec<f64>], test: &[Vec<f64>], step: Duration) -> Result<Vec<f64>> {
    let (service, zone) = (ServiceId::new("servers")?, ZoneId::new("zone")?);
    let place = Place { service: &service, role: CellRole::Primary, zone: &zone, failed: false };
    let metric = |n: usize| MetricWindow {
        name: MetricName::new(&format!("m{n:02}")),
        family: Family::Custom,
        kind: MetricKind::Unbounded,
        unit: String::new(),
        limit: None,
        samples: Vec::new(),
    };
    let metrics = (0..train.first().map_or(0, Vec::len)).map(metric).map(|m| (m.name.clone(), m)).collect();
    let mut windows =
        Windows { cell: CellId::new("server")?, at: Timestamp::from_unix_ms(BEGIN_MS), step, metrics };
    let mut fleet = Fleet::default();
    let mut scores = Vec::with_capacity(test.len());
    for (n, row) in train.iter().chain(test).enumerate() {
        windows.at = Timestamp::from_unix_ms(windows.at.unix_ms() + step.as_millis() as u64);
        for (metric, value) in windows.metrics.values_mut().zip(row) {
            if metric.samples.len() >= WINDOW_ROWS {
                metric.samples.remove(0);
            }
            metric.samples.push(Sample { at: windows.at, value: Some(*value) });
        }
        fleet.observe(&windows, &place);
        if n >= train.len() {
            scores.push(fleet.unusual(&windows.cell).context("nothing is known of the server")?.score);
        }
    }
    Ok(scores)
}

/// One value a metric, in each row.
fn rows(table: &Table) -> Result<Vec<Vec<f64>>> {
    let columns: Vec<&[f64]> = (0..).map_while(|n| table.numbers(&format!("m{n:02}")).ok()).collect();
    ensure!(!columns.is_empty(), "there are no columns m00, m01, …");
    Ok((0..columns[0].len()).map(|row| columns.iter().map(|column| column[row]).collect()).collect())
}
