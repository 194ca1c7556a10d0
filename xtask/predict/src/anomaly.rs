//! Servers with labelled anomalies: how well does a detector that never saw a label point at them?
//!
//! A detector sees the unlabelled train rows of a server, then its test rows one by one. Its scores are judged as they are, by the volume under
//! the precision-recall surface: no threshold is chosen and no anomaly counts as found because a row of it was.
//!
//! Settings were chosen on the servers named in [`Set::chosen_on`], so there is a figure for the others alone.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use forefend_learn::evaluate::anomaly::{WINDOW, volume};
use forefend_predict::detect::{Hold, Hotelling, Learner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{report::Line, table::Table};

/// Servers of one publisher.
struct Set {
    case: &'static str,
    servers: &'static [&'static str],
    chosen_on: [&'static str; 2],
}

const SMD: Set = Set {
    case: "smd",
    servers: &["machine-1-6", "machine-2-1", "machine-2-8", "machine-3-3"],
    chosen_on: ["machine-1-6", "machine-3-3"],
};

const ASD: Set = Set {
    case: "asd",
    servers: &["omi-1", "omi-2", "omi-3", "omi-4", "omi-5", "omi-6"],
    chosen_on: ["omi-1", "omi-6"],
};

/// How a peer's score falls where it is held as ours is.
const FALLING: f64 = 0.07;

/// Of one server, for each detector.
struct Figures {
    chosen_on: bool,
    ours: f64,
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
        let line = |metric, among: &[&Figures]| {
            let of: Vec<f64> = among.iter().map(|f| f.ours).collect();
            let range =
                [of.iter().copied().fold(f64::INFINITY, f64::min), of.iter().copied().fold(0.0, f64::max)];
            Line::ours(self.case, metric, "1", mean(|f| f.ours, among)).over(range)
        };
        Ok(vec![
            line("vus_pr", &all).against("t2", mean(|f| f.t2, &all)),
            line("vus_pr", &all).against("t2-held", mean(|f| f.t2_held, &all)),
            line("vus_pr", &all).against("random", mean(|f| f.random, &all)),
            line("vus_pr_not_chosen_on", &unseen).against("t2", mean(|f| f.t2, &unseen)),
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
        let mut chance = ChaCha8Rng::seed_from_u64(1);
        let random: Vec<f64> = test.iter().map(|_| chance.random_range(0.0..1.0)).collect();
        let figures = Figures {
            chosen_on: self.chosen_on.contains(&server),
            ours: judged(&ours)?,
            t2: judged(&t2)?,
            t2_held: judged(&held)?,
            random: judged(&random)?,
            us_per_row,
        };
        eprintln!("{server}: VUS-PR {:.4}, of T² {:.4}", figures.ours, figures.t2);
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

/// One value a metric, in each row.
fn rows(table: &Table) -> Result<Vec<Vec<f64>>> {
    let columns: Vec<&[f64]> = (0..).map_while(|n| table.numbers(&format!("m{n:02}")).ok()).collect();
    ensure!(!columns.is_empty(), "there are no columns m00, m01, …");
    Ok((0..columns[0].len()).map(|row| columns.iter().map(|column| column[row]).collect()).collect())
}
