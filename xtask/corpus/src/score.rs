//! Would the model of the first day have moved traffic in time, and where would it have moved it for nothing?
//!
//! Every episode is replayed through the code of production: values into the telemetry crate's store, its windows into the
//! predictor, the prediction into the race of `decide`, and the trigger counted over ticks.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;
use forefend_decide::race;
use forefend_domain::{Basis, CellId, LeadTimeProfile, Policy, Stage, Timestamp, Windows};
use forefend_predict::{DayZero, Predictor};
use forefend_telemetry::{SeriesStore, StoreOptions};
use serde::Serialize;

use crate::{
    episode::Recording,
    outcome::{STEP, instant},
    spec::{self, Class, Kind},
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

/// Compressed like everything else: a shift that takes minutes takes seconds here.
pub(crate) const LEAD_S: f64 = 5.0;
const HORIZON: Duration = Duration::from_secs(30);
/// The probability from which the model of the first day moves traffic.
pub(crate) const SHIFT_AT: f64 = 0.6;
/// What counting to three ticks takes, and a little.
const MARGIN: Duration = Duration::from_secs(2);

/// Scores a recording and prints the result.
///
/// # Errors
/// When the recording can't be read.
pub(crate) fn run(arguments: &ScoreArguments) -> Result<()> {
    let corpus = table::load(&arguments.data)?;
    let score = score(&corpus.recordings, &DayZero::default(), arguments.lead_s, SHIFT_AT);
    if arguments.json {
        for line in score.lines() {
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
    group: u8,
    /// Whether it came out as it was meant.
    as_meant: bool,
    onset_s: Option<f64>,
    failed_s: Option<f64>,
    /// When it would first have shifted.
    shifted_s: Option<f64>,
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

/// All episodes with a model watching them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    judged: Vec<Judged>,
    lead_s: f64,
}

/// Replays all episodes with a model that moves traffic from probability `shift_at` on.
pub(crate) fn score(
    recordings: &[Recording],
    model: &(impl Predictor + Sync),
    lead_s: f64,
    shift_at: f64,
) -> Score {
    let all: Vec<&Recording> = recordings.iter().collect();
    score_of(&all, model, lead_s, shift_at)
}

/// The same for some of them.
pub(crate) fn score_of(
    recordings: &[&Recording],
    model: &(impl Predictor + Sync),
    lead_s: f64,
    shift_at: f64,
) -> Score {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let chunk = recordings.len().div_ceil(threads).max(1);
    let judged = std::thread::scope(|scope| {
        let parts: Vec<_> = recordings
            .chunks(chunk)
            .map(|part| {
                scope
                    .spawn(move || part.iter().map(|r| judge(r, model, lead_s, shift_at)).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    });
    Score { judged, lead_s }
}

fn judge(recording: &Recording, model: &impl Predictor, lead_s: f64, shift_at: f64) -> Judged {
    let policy = policy(lead_s);
    let ticks = course(recording, model, &policy);
    let shift = first_shift(&ticks, &policy, shift_at);
    Judged {
        kind: recording.spec.kind,
        group: recording.spec.group,
        as_meant: recording.is_as_meant(),
        onset_s: recording.spec.onset_s(),
        failed_s: recording.failed_s(),
        shifted_s: shift.map(|tick| f64::from(tick.step) * STEP.as_secs_f64()),
        driver: shift.map(|tick| tick.driver.clone()).unwrap_or_default(),
        id: recording.spec.id,
    }
}

/// The policy that is asked: the defaults with the horizon and the lead times of compressed time.
pub(crate) fn policy(lead_s: f64) -> Policy {
    let mut policy = Policy { horizon: HORIZON, ..Policy::default() };
    policy.trigger.margin = MARGIN;
    let shares = [
        (Stage::Create, 0.2),
        (Stage::WarmUp, 0.3),
        (Stage::Earn, 0.3),
        (Stage::Drain, 0.1),
        (Stage::Propagate, 0.1),
    ];
    policy.lead_time_priors =
        shares.map(|(stage, share)| (stage, Duration::from_secs_f64(lead_s * share))).into();
    policy
}

/// What a model says at a step.
#[derive(Debug, Clone)]
pub(crate) struct Tick {
    pub(crate) step: u32,
    pub(crate) probability: f64,
    /// Whether the race is due, and the prediction rests on more than a prior.
    pub(crate) due: bool,
    /// The metric that it rests on most, and where it stood.
    driver: String,
}

/// All that a model says of an episode before its failure.
pub(crate) fn course(recording: &Recording, model: &impl Predictor, policy: &Policy) -> Vec<Tick> {
    let lead_times = LeadTimeProfile::default();
    let mut ticks = Vec::new();
    replay(recording, |step, windows| {
        let Some(prediction) = model.predict(windows, policy.horizon) else { return };
        let driver = prediction.drivers.first();
        ticks.push(Tick {
            step,
            probability: prediction.probability.get(),
            due: prediction.basis != Basis::Prior && race(&prediction, policy, &lead_times, false).is_due(),
            driver: driver.map(|d| format!("{}: {}", d.metric, d.detail)).unwrap_or_default(),
        });
    });
    ticks
}

/// Shows the windows of every step before the failure, as production would have seen them.
pub(crate) fn replay(recording: &Recording, mut look: impl FnMut(u32, &Windows)) {
    let Ok(cell) = CellId::new("episode") else { return };
    let options = StoreOptions { step: STEP, length: 120, rate_lookback: 4, ..StoreOptions::default() };
    let mut store = SeriesStore::new(options);
    let mut places = vec![0; recording.series.len()];
    for step in 0..recording.failed_step.unwrap_or(recording.steps) {
        let at: Timestamp = instant(step);
        for (series, place) in recording.series.iter().zip(&mut places) {
            if let Some((_, value)) = series.values.get(*place).filter(|(s, _)| *s == step) {
                *place += 1;
                // There is room for all: an episode has far fewer series than the store holds.
                let _ = store.record(&cell, &series.spec, at, Some(f64::from(*value)));
            }
        }
        if let Some(windows) = store.windows(at).first() {
            look(step, windows);
        }
    }
}

/// The tick in which traffic would first move, counted as the policy's trigger does.
pub(crate) fn first_shift<'a>(ticks: &'a [Tick], policy: &Policy, shift_at: f64) -> Option<&'a Tick> {
    let mut hits = 0u64;
    let newest = (1u64 << policy.trigger.of_ticks.min(63)) - 1;
    ticks.iter().find(|tick| {
        hits = hits << 1 | u64::from(tick.due && tick.probability >= shift_at);
        tick.due && (hits & newest).count_ones() >= policy.trigger.hits
    })
}

/// One line of a benchmark's result.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    bench: &'static str,
    case: &'static str,
    peer: Option<&'static str>,
    metric: &'static str,
    unit: &'static str,
    pub(crate) ours: Option<f64>,
    theirs: Option<f64>,
    ratio: Option<f64>,
    /// Lowest and highest of the ten groups of episodes.
    spread: Option<[f64; 2]>,
    rounds: u32,
}

impl Score {
    /// Each shift on a line.
    pub(crate) fn explain(&self) {
        self.judged.iter().for_each(Judged::explain);
    }

    /// Several put together.
    pub(crate) fn of_all(parts: Vec<Self>, lead_s: f64) -> Self {
        Self { judged: parts.into_iter().flat_map(|part| part.judged).collect(), lead_s }
    }

    /// What `bench predict` prints of the corpus, beside another score of the same episodes.
    pub(crate) fn lines_against(&self, case: &'static str, peer: &'static str, other: &Self) -> Vec<Line> {
        let beside = other.lines().into_iter();
        self.lines()
            .into_iter()
            .zip(beside)
            .map(|(line, other)| {
                let ratio = line.ours.zip(other.ours).map(|(ours, theirs)| rounded(ours / theirs));
                let ratio = ratio.filter(|ratio| ratio.is_finite());
                Line { case, peer: Some(peer), theirs: other.ours, ratio, ..line }
            })
            .collect()
    }

    /// What the score says of the corpus.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let foreseeable = |j: &&Judged| j.kind.class() == Class::Foreseeable && j.as_meant;
        let others = |j: &&Judged| j.kind.class() != Class::Foreseeable && j.as_meant;
        let line = |metric,
                    unit,
                    of: &dyn Fn(&[&Judged]) -> Option<f64>,
                    which: &dyn Fn(&&Judged) -> bool| {
            let all: Vec<&Judged> = self.judged.iter().filter(which).collect();
            let mut groups: BTreeMap<u8, Vec<&Judged>> = BTreeMap::new();
            all.iter().for_each(|j| groups.entry(j.group).or_default().push(j));
            let of_groups: Vec<f64> = groups.values().filter_map(|group| of(group)).collect();
            let spread =
                of_groups.iter().copied().reduce(f64::min).zip(of_groups.iter().copied().reduce(f64::max));
            Line {
                bench: "predict",
                case: "corpus",
                peer: None,
                metric,
                unit,
                ours: of(&all).map(rounded),
                theirs: None,
                ratio: None,
                spread: spread.map(|(low, high)| [rounded(low), rounded(high)]),
                rounds: 1,
            }
        };
        vec![
            line("recall_with_lead", "share", &|all| self.recall(all), &foreseeable),
            line(
                "lead_time_s",
                "s",
                &|all| median(all.iter().filter_map(|j| j.lead_s()).collect()),
                &foreseeable,
            ),
            line("false_shift_share", "share", &|all| share(all, Judged::false_shift), &others),
        ]
    }

    /// The same by kind, as a table.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "| kind | episodes | as meant | recall with {:.0} s lead | median lead | false shifts |\n|---|--:|--:|--:|--:|--:|\n",
            self.lead_s
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
            percent(self.recall(&meant).filter(|_| foreseeable)),
            lead.filter(|_| foreseeable).map_or_else(|| "–".to_owned(), |s| format!("{s:.1} s")),
            percent(share(&meant, Judged::false_shift)),
        ];
        text.push_str(&format!("| {} |\n", columns.join(" | ")));
    }

    fn recall(&self, of: &[&Judged]) -> Option<f64> {
        share(of, |j| j.lead_s().is_some_and(|lead| lead >= self.lead_s))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sample::Series, subject::full};

    /// An episode in which memory climbs evenly from step 40 on and is full at step 100, where the cell fails.
    fn climbing(fails: bool) -> Recording {
        let spec = spec::all(1)
            .into_iter()
            .find(|s| s.kind == if fails { Kind::Leak } else { Kind::Plateau })
            .expect("there are such");
        let (memory, _) = full("memory_working_set_bytes", "bytes", 0.0, Some(64.0));
        let top = if fails { 100.0 } else { 55.0 };
        let values = (0..110).map(|step| (step, f64::from(step).clamp(40.0, top) as f32 * 0.6)).collect();
        let series = vec![Series { spec: memory, values }];
        Recording {
            spec,
            cpu_scale: 1.0,
            steps: 110,
            failed_step: fails.then_some(104),
            series,
            trouble: None,
        }
    }

    #[test]
    fn a_steady_climb_is_warned_of_in_time_and_a_plateau_is_let_be() {
        let score = score(&[climbing(true), climbing(false)], &DayZero::default(), LEAD_S, SHIFT_AT);
        let lines = score.lines();
        assert_eq!(lines[0].ours, Some(1.0), "{score:?}");
        assert!(lines[1].ours.is_some_and(|lead| (5.0..20.0).contains(&lead)), "{score:?}");
        assert_eq!(lines[2].ours, Some(0.0), "{score:?}");
    }

    #[test]
    fn a_model_that_knows_nothing_warns_of_nothing() {
        let blind = DayZero { forecast: false, ..DayZero::default() };
        let score = score(&[climbing(true)], &blind, LEAD_S, SHIFT_AT);
        assert_eq!(score.lines()[0].ours, Some(0.0));
        assert!(score.markdown().contains("| leak | 1 | 1 | 0% | – | 0% |"), "{}", score.markdown());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
