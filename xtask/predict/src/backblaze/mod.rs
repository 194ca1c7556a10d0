//! Disk drives of a storage provider: does a drive fail within thirty days?
//!
//! Drives *and* time are split. Every third drive is for the test; of the others nothing is known that happened after the instant before
//! which three failures in five lie. The test begins a horizon later. A drive is looked at on fixed days of the calendar, never chosen by
//! what became of it, and only as long as its next thirty days lie within the records.

mod drives;
mod looks;
mod model;
mod peers;
mod ranks;
mod rates;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Instant,
};

use anyhow::Result;
use forefend_learn::evaluate::{bootstrap::Bootstrap, probability, rank, reliability};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::report::Line;
use drives::{DAY_H, Drive};
use looks::{HORIZON_H, Look, judged, learned};
use model::Model;

const CASE: &str = "backblaze";
/// The share of failures that lie before the instant at which training ends.
const BEFORE: f64 = 0.6;
/// The records end with September 2016.
const END_H: f64 = 17_074.0 * DAY_H;
/// Training is tried out on its own last seven months, with other drives, before the test is read.
const TRIAL_H: f64 = 210.0 * DAY_H;
/// The second figure is that of a model which is trained anew so often, as it would be in service.
const ANEW_H: f64 = 180.0 * DAY_H;
const ANEW: &str = "backblaze-half-yearly";
/// Another reading of the same words: the instant is two thirds of the time that is recorded, whatever failed by then. It was fixed before it was read.
const CALENDAR: &str = "backblaze-by-calendar";
const TRIAL: &str = "backblaze-trial";
const TRIAL_LASTING: &str = "backblaze-trial-lasting";
const RESAMPLES: usize = 200;

/// Which drives, by number.
type Which = fn(usize) -> bool;

/// Who learns and who is judged, until when.
struct Protocol {
    learns: Which,
    is_judged: Which,
    /// Nothing is learned of what happened later.
    cut: f64,
    /// Nothing is judged by what happened later.
    end: f64,
}

impl Protocol {
    fn test(cut: f64) -> Self {
        Self { learns: |n| !is_test(n), is_judged: is_test, cut, end: END_H }
    }

    /// The same within the training part: each third of its drives is judged once, by what the others tell until seven months before.
    fn trial(cut: f64) -> [Self; 3] {
        let folds: [[Which; 2]; 3] = [
            [|n| !is_test(n) && !(n / 3).is_multiple_of(3), |n| !is_test(n) && (n / 3).is_multiple_of(3)],
            [|n| !is_test(n) && n / 3 % 3 != 1, |n| !is_test(n) && n / 3 % 3 == 1],
            [|n| !is_test(n) && n / 3 % 3 != 2, |n| !is_test(n) && n / 3 % 3 == 2],
        ];
        folds.map(|[learns, is_judged]| Self { learns, is_judged, cut: cut - TRIAL_H, end: cut })
    }

    /// The test in pieces, each with all that was known a horizon before it.
    fn anew(cut: f64) -> Vec<Self> {
        let begins = (0u32..).map(|n| cut + f64::from(n) * ANEW_H);
        begins
            .take_while(|begin| begin + 2.0 * HORIZON_H <= END_H)
            .map(|begin| Self { end: (begin + ANEW_H + 2.0 * HORIZON_H).min(END_H), ..Self::test(begin) })
            .collect()
    }

    fn training(&self, drives: &[Drive]) -> Vec<Look> {
        let chosen = drives.iter().enumerate().filter(|(n, _)| (self.learns)(*n));
        chosen.flat_map(|(n, drive)| learned(n, drive, self.cut)).collect()
    }

    /// Looks whose outcome is known.
    fn judged(&self, drives: &[Drive]) -> Vec<(Look, bool)> {
        let chosen = drives.iter().enumerate().filter(|(n, _)| (self.is_judged)(*n));
        let (from, until) = (self.cut + HORIZON_H, self.end - HORIZON_H);
        let looks = chosen.flat_map(|(n, drive)| judged(n, drive, from, until));
        looks.filter_map(|look| look.outcome().map(|failed| (look, failed))).collect()
    }
}

fn is_test(number: usize) -> bool {
    number.is_multiple_of(3)
}

/// A figure of risks and outcomes.
type Figure<'a> = dyn Fn(&[f64], &[bool]) -> Option<f64> + 'a;

/// What was said of the looks, and what came of them.
struct Judged {
    risks: Vec<f64>,
    failed: Vec<bool>,
    /// A drive each.
    groups: Vec<usize>,
    /// The share of failures that was known from training.
    base_rate: f64,
    statics: Vec<f64>,
    statics_as_risks: Vec<f64>,
    lines: Vec<f64>,
    passages: Vec<f64>,
    random: Vec<f64>,
    train_s: f64,
}

pub(crate) fn run(folder: &Path) -> Result<Vec<Line>> {
    let drives = drives::read(&folder.join("backblaze/drives.parquet"))?;
    let cut = cut(&drives);
    let test = judge(&drives, &Protocol::test(cut))?;
    test.tell("test");
    let mut lines = test.lines(CASE);
    let by_calendar = judge(&drives, &Protocol::test(two_thirds(&drives)))?;
    by_calendar.tell("test, from two thirds of the calendar on");
    lines.extend(by_calendar.lines(CALENDAR));
    if let Some(anew) = judge_all(&drives, &Protocol::anew(cut))? {
        lines.extend(anew.lines_in_short(ANEW));
    }
    Ok(lines)
}

/// What settings are chosen by: nothing of the test's drives or time is read.
pub(crate) fn trial(folder: &Path) -> Result<Vec<Line>> {
    let drives = drives::read(&folder.join("backblaze/drives.parquet"))?;
    let cut = cut(&drives);
    let Some(all) = judge_all(&drives, &Protocol::trial(cut))? else { return Ok(Vec::new()) };
    all.tell("trial, all models");
    let lasting = lasting(&drives, cut);
    let last = all.only(|drive| lasting.contains(&drives[drive].model));
    last.tell("trial, models that last");
    let mut lines = all.lines_in_short(TRIAL);
    lines.extend(last.lines_in_short(TRIAL_LASTING));
    Ok(lines)
}

/// Models of drive of which at least half of those ever learned from are there at the cut: the fleet that comes is made of them.
fn lasting(drives: &[Drive], cut: f64) -> BTreeSet<usize> {
    let mut counts: BTreeMap<usize, [usize; 2]> = BTreeMap::new();
    let known = drives.iter().enumerate().filter(|(n, d)| !is_test(*n) && d.born + d.begins() < cut);
    for (_, drive) in known {
        let [all, alive] = counts.entry(drive.model).or_default();
        *all += 1;
        *alive += usize::from(drive.born + drive.ends() >= cut);
    }
    counts.into_iter().filter(|(_, [all, alive])| 2 * alive >= *all).map(|(model, _)| model).collect()
}

/// All that was said and done in several protocols.
fn judge_all(drives: &[Drive], protocols: &[Protocol]) -> Result<Option<Judged>> {
    let mut all: Option<Judged> = None;
    for protocol in protocols {
        let judged = judge(drives, protocol)?;
        match &mut all {
            Some(all) => all.extend(judged),
            None => all = Some(judged),
        }
    }
    Ok(all)
}

/// The instant before which the given share of failures lies.
fn cut(drives: &[Drive]) -> f64 {
    let mut failures: Vec<f64> = drives.iter().filter(|d| d.failed).map(|d| d.born + d.ends()).collect();
    failures.sort_by(f64::total_cmp);
    failures.get((failures.len() as f64 * BEFORE) as usize).copied().unwrap_or(END_H)
}

/// The instant before which two thirds of the recorded time lie.
fn two_thirds(drives: &[Drive]) -> f64 {
    let begin = drives.iter().map(|d| d.born + d.begins()).fold(END_H, f64::min);
    begin + (END_H - begin) * 2.0 / 3.0
}

fn judge(drives: &[Drive], protocol: &Protocol) -> Result<Judged> {
    let training = protocol.training(drives);
    let begun = Instant::now();
    let model = Model::fit(&training, drives)?;
    let train_s = begun.elapsed().as_secs_f64();
    let outcomes: Vec<bool> = training.iter().filter(|look| look.drawn).filter_map(Look::outcome).collect();
    let base_rate = outcomes.iter().filter(|failed| **failed).count() as f64 / outcomes.len().max(1) as f64;
    let static_rates = peers::static_rates(&training, drives);
    let limits = peers::limits(&training, drives);
    let (looks, failed): (Vec<Look>, Vec<bool>) = protocol.judged(drives).into_iter().unzip();
    let of_each = |score: &dyn Fn(&Drive, f64) -> f64| -> Vec<f64> {
        looks.iter().map(|look| score(&drives[look.drive], look.hour)).collect()
    };
    let mut random = ChaCha8Rng::seed_from_u64(2);
    Ok(Judged {
        risks: of_each(&|drive, hour| model.risk(drive, hour)),
        statics: of_each(&|drive, hour| peers::static_threshold(drive, hour) as f64),
        statics_as_risks: of_each(&|drive, hour| static_rates[peers::static_threshold(drive, hour)]),
        lines: of_each(&peers::predict_linear),
        passages: of_each(&|drive, hour| peers::first_passage(drive, hour, &limits)),
        random: looks.iter().map(|_| random.random()).collect(),
        groups: looks.iter().map(|look| look.drive).collect(),
        failed,
        base_rate,
        train_s,
    })
}

impl Judged {
    fn auc_of(&self, scores: &[f64]) -> Option<f64> {
        rank::auc(scores, &self.failed, None)
    }

    fn skill_of(&self, risks: &[f64]) -> Option<f64> {
        probability::brier_skill(risks, &self.failed, None, self.base_rate)
    }

    /// The share of failures among what is judged.
    fn own_rate(&self) -> f64 {
        self.failed.iter().filter(|failed| **failed).count() as f64 / self.failed.len().max(1) as f64
    }

    /// The figures in short.
    fn tell(&self, part: &str) {
        let failures = self.failed.iter().filter(|failed| **failed).count();
        let top = reliability::top(&self.risks, &self.failed, 0.01, 0.95).map(|top| top.ratio.value);
        let slope = reliability::recalibration(&self.risks, &self.failed).map(|r| r.slope);
        let expected: f64 = self.risks.iter().sum();
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        eprintln!(
            "{CASE}, {part}: {} looks, {failures} before a failure, base rate {:.5}, auc {}, brier skill {}, slope {}, \
             observed over expected {:.3}, in the top 1% {}, {:.0} s of training",
            self.failed.len(),
            self.base_rate,
            number(self.auc_of(&self.risks)),
            number(self.skill_of(&self.risks)),
            number(slope),
            failures as f64 / expected,
            number(top),
            self.train_s,
        );
    }

    /// Adds what was said and done after this.
    fn extend(&mut self, later: Self) {
        self.risks.extend(later.risks);
        self.failed.extend(later.failed);
        self.groups.extend(later.groups);
    }

    /// What was said and done of some drives.
    fn only(&self, of: impl Fn(usize) -> bool) -> Self {
        let rows: Vec<usize> = (0..self.groups.len()).filter(|row| of(self.groups[*row])).collect();
        let pick = |scores: &[f64]| rows.iter().filter_map(|row| scores.get(*row).copied()).collect();
        Self {
            risks: pick(&self.risks),
            failed: rows.iter().map(|row| self.failed[*row]).collect(),
            groups: rows.iter().map(|row| self.groups[*row]).collect(),
            statics: pick(&self.statics),
            statics_as_risks: pick(&self.statics_as_risks),
            lines: pick(&self.lines),
            passages: pick(&self.passages),
            random: pick(&self.random),
            ..*self
        }
    }

    fn lines_in_short(&self, case: &'static str) -> Vec<Line> {
        let skill = probability::brier_skill(&self.risks, &self.failed, None, self.own_rate());
        let slope = reliability::recalibration(&self.risks, &self.failed).map(|r| r.slope);
        let top = reliability::top(&self.risks, &self.failed, 0.01, 0.95).map(|top| top.ratio);
        vec![
            Line::ours(case, "auc", "1", self.auc_of(&self.risks)),
            Line::ours(case, "brier_skill_over_rate_of_the_test", "1", skill),
            Line::ours(case, "calibration_slope", "1", slope),
            Line::estimate(case, "observed_over_expected_top_1_percent", "1", top),
        ]
    }

    fn lines(&self, case: &'static str) -> Vec<Line> {
        let pick = |rows: &[usize]| -> (Vec<f64>, Vec<bool>) {
            rows.iter().map(|row| (self.risks[*row], self.failed[*row])).unzip()
        };
        let bootstrap = Bootstrap { resamples: RESAMPLES, ..Bootstrap::default() };
        let interval = |of: &Figure<'_>| {
            bootstrap.interval(&self.groups, |rows| {
                let (risks, failed) = pick(rows);
                of(&risks, &failed)
            })
        };
        let auc = interval(&|risks, failed| rank::auc(risks, failed, None));
        let auc = || Line::estimate(case, "auc", "1", auc);
        let skill_over =
            |rate: f64| interval(&|risks, failed| probability::brier_skill(risks, failed, None, rate));
        let skill = skill_over(self.base_rate);
        let skill = || Line::estimate(case, "brier_skill", "1", skill);
        let slope = interval(&|risks, failed| reliability::recalibration(risks, failed).map(|r| r.slope));
        let top =
            interval(&|risks, failed| reliability::top(risks, failed, 0.01, 0.95).map(|top| top.ratio.value));
        let ece = reliability::expected_calibration_error(&self.risks, &self.failed, 10);
        let base = vec![self.base_rate; self.failed.len()];
        vec![
            auc().against("random", self.auc_of(&self.random)),
            auc().against("static-threshold", self.auc_of(&self.statics)),
            auc().against("predict-linear", self.auc_of(&self.lines)),
            auc().against("first-passage", self.auc_of(&self.passages)),
            skill().against("base-rate", self.skill_of(&base)),
            skill().against("static-threshold", self.skill_of(&self.statics_as_risks)),
            skill().against("first-passage", self.skill_of(&self.passages)),
            Line::estimate(case, "brier_skill_over_rate_of_the_test", "1", skill_over(self.own_rate())),
            Line::estimate(case, "calibration_slope", "1", slope),
            Line::estimate(case, "observed_over_expected_top_1_percent", "1", top),
            Line::ours(case, "ece", "1", ece),
            Line::ours(case, "train_s", "s", Some(self.train_s)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{drives::made_up, *};

    /// Drives that fail a day after each other.
    fn fleet() -> Vec<Drive> {
        (0u16..300).map(|n| made_up(&[(1.0, 0.0)], f64::from(n + 1) * DAY_H, n % 3 == 0)).collect()
    }

    #[test]
    fn the_cut_leaves_two_failures_in_five_behind_it() {
        let drives = fleet();
        let behind = drives.iter().filter(|d| d.failed && d.ends() >= cut(&drives)).count();
        assert_eq!(behind, 40);
        assert_eq!((cut(&[]), two_thirds(&[])), (END_H, END_H));
        assert_eq!(two_thirds(&drives), 1.0 + (END_H - 1.0) * 2.0 / 3.0);
    }

    #[test]
    fn no_drive_and_no_day_is_on_both_sides() {
        let drives = fleet();
        let cut = cut(&drives);
        let end = 280.0 * DAY_H;
        let [first, second, third] = Protocol::trial(end);
        for protocol in [Protocol { end, ..Protocol::test(cut) }, first, second, third] {
            let (training, judged) = (protocol.training(&drives), protocol.judged(&drives));
            assert!(!training.is_empty() && !judged.is_empty());
            for look in &training {
                assert!(look.at + look.left <= protocol.cut && !is_test(look.drive));
            }
            for (look, _) in &judged {
                assert!(look.at >= protocol.cut + HORIZON_H && look.at + HORIZON_H <= protocol.end);
                assert!(training.iter().all(|learned| learned.drive != look.drive));
            }
        }
    }

    #[test]
    fn pieces_of_the_test_make_the_whole_of_it() {
        let cut = END_H - 700.0 * DAY_H + 1.0;
        let drives: Vec<Drive> = (0..4)
            .map(|_| Drive { born: cut - 5_000.0, ..made_up(&[(1.0, 0.0)], 30_000.0, false) })
            .collect();
        let pieces = Protocol::anew(cut);
        assert!(pieces.iter().all(|piece| piece.end <= END_H) && pieces.len() == 4);
        let of_pieces: usize = pieces.iter().map(|piece| piece.judged(&drives).len()).sum();
        assert_eq!(of_pieces, Protocol::test(cut).judged(&drives).len());
        assert!(of_pieces > 80);
    }

    #[test]
    fn the_trial_never_sees_a_test_drive_or_the_time_of_the_test() {
        let test = Protocol::test(1e6);
        assert!((0..100).all(|n| is_test(n) == (test.is_judged)(n) && is_test(n) != (test.learns)(n)));
        for trial in Protocol::trial(1e6) {
            assert!((0..100).all(|n| !(is_test(n) && ((trial.learns)(n) || (trial.is_judged)(n)))));
            assert!((0..100).all(|n| !((trial.learns)(n) && (trial.is_judged)(n))));
            assert!(trial.end <= test.cut && trial.cut + HORIZON_H < trial.end);
        }
        let judged = (0..100).filter(|n| Protocol::trial(1e6).iter().any(|trial| (trial.is_judged)(*n)));
        assert_eq!(judged.count(), 66, "each drive of the training part once");
    }
}
