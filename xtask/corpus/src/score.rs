//! Would a model have moved traffic in time, and where would it have moved it for nothing?
//!
//! Every episode is replayed through the code of production: values into the telemetry crate's store, its windows into the
//! predictor, the prediction into the race of `decide`, and the trigger counted over ticks.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use forefend_learn::evaluate::{Estimate, bootstrap::Bootstrap};
use forefend_predict::DayZero;
use serde::Serialize;

use crate::{
    alarm::{Alarm, LEAD_S, Model, SHIFT_AT, Tick, Watcher, course, policy},
    clock::Clock,
    episode::Recording,
    outcome::STEP,
    spec::{self, Class, EpisodeSpec, Kind},
    table,
};

/// What to score, and how to tell.
#[derive(Args)]
pub(crate) struct ScoreArguments {
    /// The recording.
    #[arg(long, default_value = "data/corpus")]
    data: PathBuf,
    /// A warning counts when it comes at least so many seconds before the failure. A shift takes so long, too.
    #[arg(long, default_value_t = LEAD_S)]
    lead_s: f64,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Each shift on a line, with what it rests on.
    #[arg(long, conflicts_with = "json")]
    explain: bool,
}

/// Scores a recording and prints the result.
///
/// # Errors
/// When the recording can't be read.
pub(crate) fn run(arguments: &ScoreArguments) -> Result<()> {
    let corpus = table::load(&arguments.data)?;
    let score = score(&corpus.recordings, &Model(DayZero::default()), arguments.lead_s, SHIFT_AT);
    if arguments.json {
        for line in score.lines("first-day") {
            println!("{}", serde_json::to_string(&line)?);
        }
    } else if arguments.explain {
        score.explain();
    } else {
        print!("{}", score.markdown());
    }
    Ok(())
}

/// How one episode went with a model watching it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judged {
    pub(crate) kind: Kind,
    /// Whether it came out as it was meant.
    as_meant: bool,
    onset_s: Option<f64>,
    failed_s: Option<f64>,
    /// When it would first have shifted.
    shifted_s: Option<f64>,
    /// The lead asked for, in seconds of the recording.
    wanted_s: f64,
    /// How many seconds a lead has by the clock that counts.
    clocked_s: Option<f64>,
    /// The metric that the shift rests on most, and where it stood.
    driver: String,
    id: u32,
}

impl Judged {
    fn explain(&self) {
        let Some(shifted) = self.shifted_s else { return };
        let verdict = match (self.false_shift(), self.lead_s()) {
            (true, _) => "false".to_owned(),
            (false, Some(lead)) => format!("{lead:.1} s before the failure"),
            (false, None) => "no failure came".to_owned(),
        };
        println!(
            "{:>5} {:<18} at {shifted:.1} s  {verdict}  {}",
            self.id,
            spec::name(self.kind),
            self.driver
        );
    }

    /// Seconds from the shift to the failure, if the shift came between onset and failure.
    fn lead_s(&self) -> Option<f64> {
        let (failed, shifted) = (self.failed_s?, self.shifted_s?);
        (shifted >= self.onset_s.unwrap_or(0.0) && shifted < failed).then_some(failed - shifted)
    }

    fn is_warned(&self) -> bool {
        self.lead_s().is_some_and(|lead| lead >= self.wanted_s)
    }

    /// Whether it would have shifted for nothing: before the cause, or where nothing can be known.
    fn false_shift(&self) -> bool {
        let before = |limit: Option<f64>| self.shifted_s.is_some_and(|s| limit.is_none_or(|l| s < l));
        match self.kind.class() {
            Class::Healthy => self.shifted_s.is_some(),
            Class::Foreseeable => before(self.onset_s),
            Class::Unforeseeable => before(self.onset_s.or(self.failed_s)),
        }
    }
}

/// The lead that is asked of a warning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Asked {
    pub(crate) lead_s: f64,
    /// In which seconds.
    pub(crate) clock: Clock,
}

impl Asked {
    /// The same in seconds of the recording of an episode.
    pub(crate) fn recorded_s(self, spec: &EpisodeSpec) -> f64 {
        self.clock.recorded_s(spec, self.lead_s)
    }
}

/// All episodes with a model watching them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    judged: Vec<Judged>,
    asked: Asked,
}

/// Replays all episodes with a model that moves traffic as `alarm` says.
pub(crate) fn score(recordings: &[Recording], model: &impl Watcher, lead_s: f64, alarm: Alarm) -> Score {
    let all: Vec<&Recording> = recordings.iter().collect();
    score_of(&all, model, lead_s, alarm)
}

/// The same for some of them.
fn score_of(recordings: &[&Recording], model: &impl Watcher, lead_s: f64, alarm: Alarm) -> Score {
    let policy = policy(lead_s);
    let asked = Asked { lead_s, clock: Clock::Recording };
    let judged = in_parallel(recordings, |recording| {
        judge(recording, &course(recording, model, &policy), alarm, asked)
    });
    Score { judged, asked }
}

/// The same from what was said of each.
pub(crate) fn score_of_courses<'a>(
    courses: impl Iterator<Item = (&'a Recording, &'a [Tick])>,
    asked: Asked,
    alarm: Alarm,
) -> Score {
    Score { judged: courses.map(|(r, ticks)| judge(r, ticks, alarm, asked)).collect(), asked }
}

/// What `of` gives for each, by as many threads as there are processors.
pub(crate) fn in_parallel<T: Send>(recordings: &[&Recording], of: impl Fn(&Recording) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let chunk = recordings.len().div_ceil(threads).max(1);
    let of = &of;
    std::thread::scope(|scope| {
        let parts: Vec<_> = recordings
            .chunks(chunk)
            .map(|part| scope.spawn(move || part.iter().map(|r| of(r)).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

fn judge(recording: &Recording, ticks: &[Tick], alarm: Alarm, asked: Asked) -> Judged {
    let shift = alarm.first(ticks);
    let spec = &recording.spec;
    let mut judged = Judged {
        kind: recording.spec.kind,
        as_meant: recording.is_as_meant(),
        onset_s: recording.spec.onset_s(),
        failed_s: recording.failed_s(),
        shifted_s: shift.map(|tick| f64::from(tick.step) * STEP.as_secs_f64()),
        wanted_s: asked.recorded_s(spec),
        clocked_s: None,
        driver: shift.map(|tick| tick.driver.clone()).unwrap_or_default(),
        id: spec.id,
    };
    judged.clocked_s = judged.lead_s().map(|lead| asked.clock.lead_s(spec, lead));
    judged
}

/// One line of a benchmark's result.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    bench: &'static str,
    case: &'static str,
    peer: Option<&'static str>,
    metric: String,
    unit: &'static str,
    pub(crate) ours: Option<f64>,
    theirs: Option<f64>,
    ratio: Option<f64>,
    /// The 95% interval, by drawing episodes with replacement.
    spread: Option<[f64; 2]>,
    rounds: u32,
}

impl Line {
    /// A figure beside another of the same looks.
    pub(crate) fn beside(
        case: &'static str,
        peer: &'static str,
        metric: &str,
        unit: &'static str,
        ours: Option<Estimate>,
        theirs: Option<Estimate>,
    ) -> Self {
        let (our, their) = (ours.map(|found| found.value), theirs.map(|found| found.value));
        let ratio = our.zip(their).map(|(ours, theirs)| rounded(ours / theirs));
        let spread = ours.filter(|found| found.low.is_finite());
        Self {
            bench: "predict",
            case,
            peer: Some(peer),
            metric: metric.to_owned(),
            unit,
            ours: our.map(rounded),
            theirs: their.map(rounded),
            ratio: ratio.filter(|ratio| ratio.is_finite()),
            spread: spread.map(|found| [rounded(found.low), rounded(found.high)]),
            rounds: 1,
        }
    }
}

impl Line {
    /// The figure, its interval, and the other's.
    pub(crate) fn words(&self) -> String {
        let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value}"));
        let spread = self.spread.map_or_else(String::new, |[low, high]| format!(" ({low} … {high})"));
        let beside = self.peer.unwrap_or("nobody");
        format!("{}: {}{spread}, {beside} {}", self.metric, figure(self.ours), figure(self.theirs))
    }
}

impl Score {
    /// Each shift on a line.
    pub(crate) fn explain(&self) {
        self.judged.iter().for_each(Judged::explain);
    }

    /// Several put together.
    pub(crate) fn of_all(parts: Vec<Self>, asked: Asked) -> Self {
        Self { judged: parts.into_iter().flat_map(|part| part.judged).collect(), asked }
    }

    /// What `bench predict` prints of the corpus, beside another score of the same episodes.
    pub(crate) fn lines_against(&self, case: &'static str, peer: &'static str, other: &Self) -> Vec<Line> {
        let all = |of: &Self| [of.lines(case), of.lines_by_kind(case)].concat();
        all(self)
            .into_iter()
            .zip(all(other))
            .map(|(line, other)| {
                let ratio = line.ours.zip(other.ours).map(|(ours, theirs)| rounded(ours / theirs));
                let ratio = ratio.filter(|ratio| ratio.is_finite());
                Line { peer: Some(peer), theirs: other.ours, ratio, ..line }
            })
            .collect()
    }

    /// What the score says of the corpus.
    pub(crate) fn lines(&self, case: &'static str) -> Vec<Line> {
        let foreseeable = |j: &&Judged| j.kind.class() == Class::Foreseeable && j.as_meant;
        let others = |j: &&Judged| j.kind.class() != Class::Foreseeable && j.as_meant;
        let early = |all: &[&Judged]| share(all, Judged::false_shift);
        vec![
            self.line(case, "recall_with_lead", "share", warned_in_time, foreseeable),
            self.line(case, "recall_with_lead_of_2_s", "share", |all| warned(all, 2.0), foreseeable),
            self.line(case, "recall", "share", |all| warned(all, 0.0), foreseeable),
            self.line(
                case,
                "lead_time_s",
                "s",
                |all| median(all.iter().filter_map(|j| j.lead_s()).collect()),
                foreseeable,
            ),
            self.line(
                case,
                "lead_time_by_its_clock_s",
                "s",
                |all| median(all.iter().filter_map(|j| j.clocked_s).collect()),
                foreseeable,
            ),
            self.line(case, "false_shift_share", "share", early, others),
            self.line(case, "shift_before_onset_share", "share", early, foreseeable),
        ]
    }

    /// Recall with lead, kind by kind.
    fn lines_by_kind(&self, case: &'static str) -> Vec<Line> {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.class() == Class::Foreseeable);
        kinds
            .map(|kind| {
                let metric = format!("recall_with_lead[{}]", spec::name(kind));
                self.line(case, &metric, "share", warned_in_time, move |j| j.kind == kind && j.as_meant)
            })
            .collect()
    }

    fn line(
        &self,
        case: &'static str,
        metric: &str,
        unit: &'static str,
        of: impl Fn(&[&Judged]) -> Option<f64>,
        which: impl Fn(&&Judged) -> bool,
    ) -> Line {
        let all: Vec<&Judged> = self.judged.iter().filter(which).collect();
        let episodes: Vec<u32> = all.iter().map(|j| j.id).collect();
        let drawn = |rows: &[usize]| of(&rows.iter().map(|row| all[*row]).collect::<Vec<_>>());
        let interval = Bootstrap::default().interval(&episodes, drawn);
        Line {
            bench: "predict",
            case,
            peer: None,
            metric: metric.to_owned(),
            unit,
            ours: of(&all).map(rounded),
            theirs: None,
            ratio: None,
            spread: interval.map(|found| [rounded(found.low), rounded(found.high)]),
            rounds: 1,
        }
    }

    /// The same by kind, as a table.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "| kind | episodes | as meant | recall with {:.1} s lead | median lead | false shifts |\n|---|--:|--:|--:|--:|--:|\n",
            self.asked.lead_s
        );
        for kind in Kind::ALL {
            self.row(&spec::name(kind), |j| j.kind == kind, &mut text);
        }
        for class in [Class::Foreseeable, Class::Unforeseeable, Class::Healthy] {
            self.row(&format!("**all {}**", spec::name(class)), |j| j.kind.class() == class, &mut text);
        }
        text
    }

    fn row(&self, name: &str, which: impl Fn(&Judged) -> bool, text: &mut String) {
        let all: Vec<&Judged> = self.judged.iter().filter(|j| which(j)).collect();
        let Some(first) = all.first() else { return };
        let meant: Vec<&Judged> = all.iter().copied().filter(|j| j.as_meant).collect();
        let foreseeable = first.kind.class() == Class::Foreseeable;
        let percent =
            |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |s| format!("{:.0}%", s * 100.0));
        let lead = median(meant.iter().filter_map(|j| j.lead_s()).collect());
        let columns = [
            name.to_owned(),
            all.len().to_string(),
            meant.len().to_string(),
            percent(warned_in_time(&meant).filter(|_| foreseeable)),
            lead.filter(|_| foreseeable).map_or_else(|| "–".to_owned(), |s| format!("{s:.1} s")),
            percent(share(&meant, Judged::false_shift)),
        ];
        text.push_str(&format!("| {} |\n", columns.join(" | ")));
    }
}

/// The share of which a shift warned with the lead asked for.
fn warned_in_time(of: &[&Judged]) -> Option<f64> {
    share(of, Judged::is_warned)
}

/// The share of which a shift warned at least so many seconds before.
fn warned(of: &[&Judged], lead_s: f64) -> Option<f64> {
    share(of, |j| j.lead_s().is_some_and(|lead| lead >= lead_s))
}

/// The share of episodes that are like that; `None` of none.
fn share(of: &[&Judged], which: impl Fn(&Judged) -> bool) -> Option<f64> {
    (!of.is_empty()).then(|| of.iter().filter(|j| which(j)).count() as f64 / of.len() as f64)
}

/// The middle of the values; of an even number, the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// An episode in which memory climbs evenly from step 40 on and is full at step 100, where the cell fails.
#[cfg(test)]
pub(crate) fn climbing(fails: bool) -> Recording {
    let spec = spec::all(1)
        .into_iter()
        .find(|s| s.kind == if fails { Kind::Leak } else { Kind::Plateau })
        .expect("there are such");
    let (memory, _) = crate::subject::full("memory_working_set_bytes", "bytes", 0.0, Some(64.0));
    let top = if fails { 100.0 } else { 55.0 };
    let values = (0..110).map(|step| (step, f64::from(step).clamp(40.0, top) as f32 * 0.6)).collect();
    let series = vec![crate::sample::Series { spec: memory, values }];
    Recording { spec, cpu_scale: 1.0, steps: 110, failed_step: fails.then_some(104), series, trouble: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_climb_is_warned_of_in_time_and_a_plateau_is_let_be() {
        let score = score(&[climbing(true), climbing(false)], &Model(DayZero::default()), 5.0, SHIFT_AT);
        let lines = score.lines("corpus");
        assert_eq!(lines[0].ours, Some(1.0), "{score:?}");
        assert!(lines[3].ours.is_some_and(|lead| (5.0..20.0).contains(&lead)), "{score:?}");
        assert_eq!(lines[5].ours, Some(0.0), "{score:?}");
    }

    #[test]
    fn a_model_that_knows_nothing_warns_of_nothing() {
        let blind = DayZero { forecast: false, ..DayZero::default() };
        let score = score(&[climbing(true)], &Model(blind), LEAD_S, SHIFT_AT);
        assert_eq!(score.lines("corpus")[0].ours, Some(0.0));
        assert!(score.markdown().contains("| leak | 1 | 1 | 0% | – | 0% |"), "{}", score.markdown());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
