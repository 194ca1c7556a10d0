//! The ladder: prior and first passage, penalised logistic hazard, boosted hazard, a long short-term memory above the best of these. A model climbs only
//! where out-of-fold losses say, beyond chance, that it is better than the rung below.

mod known;
#[cfg(feature = "lstm")]
mod memory;

use std::{collections::BTreeSet, time::Duration};

use forefend_predict::learned::{
    Beyond, Calibration, Hazard, Learned, Lstm, Model, Remembering, RememberingParts, Stacked, feature_names,
    never_falls,
};
use serde::{Deserialize, Serialize};

use super::{FirstDay, Landmark, Looks};
use crate::{
    TrainError,
    beyond::{self, Held},
    boost,
    evaluate::{
        Estimate,
        split::{Split, SplitError, folds},
        survival::Followed,
    },
    hazard::{Learner, Watched, log_edges, train},
    levels::{Ending, Intervals},
    logistic,
    lstm::{DeviceChoice, TrainedOn},
};
use known::Known;

/// How models are trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How far ahead they look.
    pub horizon: Duration,
    /// The shortest time that they tell apart: the history's step, or the distance of looks.
    pub shortest: Duration,
    /// Parts that what is learned from is cut into, by whole events, to choose by.
    pub folds: usize,
    /// Failures (by event) from which anything is learned.
    pub least_events: usize,
    /// Of draws.
    pub seed: u64,
    /// Where networks learn.
    pub device: DeviceChoice,
}

impl Settings {
    /// For this horizon: three parts, five events, on the CPU.
    #[must_use]
    pub fn new(horizon: Duration, shortest: Duration) -> Self {
        Self { horizon, shortest, folds: 3, least_events: 5, seed: 1, device: DeviceChoice::Cpu }
    }
}

/// Why nothing was trained.
#[derive(Debug, thiserror::Error)]
pub enum LadderError {
    /// Too few failures.
    #[error(
        "{events} events with a failure are too few to learn from: {least} are needed; import older incidents, or run drills, whose failures count too"
    )]
    TooFewEvents {
        /// How many there are.
        events: usize,
        /// How many there have to be.
        least: usize,
    },
    /// The rows can't be divided.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// The rungs, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// Limits, trends and the prior: nothing is learned.
    FirstDay,
    /// Penalised logistic regression.
    Linear,
    /// Boosted trees.
    Trees,
    /// A long short-term memory that reads the windows of suspects, above the best of the rungs below.
    Lstm,
}

impl Rung {
    const LEARNED: [Self; 2] = [Self::Linear, Self::Trees];

    fn learner(self, settings: &Settings) -> Option<Learner> {
        match self {
            Self::FirstDay | Self::Lstm => None,
            Self::Linear => {
                Some(Learner::Linear(logistic::Settings { l2: 30.0, ..logistic::Settings::default() }))
            }
            Self::Trees => {
                // Fuller and faster is never safer; time takes the last column.
                let mut monotone: Vec<i8> = never_falls().into_iter().map(i8::from).collect();
                monotone.push(0);
                Some(Learner::Trees(boost::Settings {
                    rounds: 200,
                    learning_rate: 0.06,
                    leaves: 14,
                    min_rows_in_leaf: 40,
                    l2: 5.0,
                    row_share: 0.7,
                    column_share: 0.3,
                    seed: settings.seed,
                    monotone,
                    threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                    ..boost::Settings::default()
                }))
            }
        }
    }
}

/// One rung, as it did on what it had not learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Climbed {
    /// Which.
    pub rung: Rung,
    /// How much what was learned counts beside limits and trends, 0 to 1.
    pub share: f64,
    /// Its mean loss over rows it had not learned from: the Brier score within the horizon.
    pub brier: f64,
    /// How much that is below the rung that was taken before; above 0 throughout: it was climbed.
    pub gain: Option<Estimate>,
    /// Whether it is now the one taken.
    pub taken: bool,
    /// The share of looks at which it would be asked, 0 to 1; `None`: at all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<f64>,
}

/// A rung that was not tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Which.
    pub rung: Rung,
    /// In words.
    pub why: String,
}

/// What training gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The model.
    pub model: Model,
    /// Its rung.
    pub rung: Rung,
    /// How each rung did.
    pub ladder: Vec<Climbed>,
    /// Rungs that were not tried.
    pub left_out: Vec<LeftOut>,
    /// How the intervals of what was learned hold, a memory above it left aside; `None`: nothing was.
    pub intervals: Option<Intervals>,
    /// The same of suspects, about whom a memory is asked; `None`: none serves.
    pub suspects: Option<Intervals>,
    /// What came of asking what cells that stayed well never held; `None`: nothing was learned that it could stand beside, or nobody that held more was seen to fail.
    pub beyond: Option<TriedBeyond>,
    /// Where networks learned; nowhere, where none was tried.
    pub trained_on: Vec<TrainedOn>,
}

/// How what cells that stayed well never held did beside the rung that was taken, on what it had not learned from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TriedBeyond {
    /// Events and stretches of quiet that held more than all others.
    pub witnesses: usize,
    /// Those of them that failed within the horizon.
    pub failed: usize,
    /// The Brier score within the horizon with it.
    pub brier: f64,
    /// How much that is below the score without; not below 0 throughout: it was taken.
    pub gain: Option<Estimate>,
    /// Whether it serves.
    pub taken: bool,
}

/// What the rungs so far have come to, and what the next is judged by.
#[cfg_attr(not(feature = "lstm"), expect(dead_code, reason = "only a memory is judged by it"))]
struct Ground<'a> {
    looks: &'a Looks,
    splits: &'a [Split],
    blocks: &'a [&'a str],
    known: &'a Known,
    settings: &'a Settings,
    /// Of the rung that was taken: what it said of each look, out of fold, and what that lost.
    below: &'a [f64],
    losses: &'a [(f64, f64)],
    /// How far up its curve each look came.
    endings: &'a [Ending],
}

/// A memory, as it would serve.
struct Remembered {
    climbed: Climbed,
    /// `None`: it was not worth its climb.
    lstm: Option<Lstm>,
    suspect_from: f64,
    /// How the intervals hold of those it would be asked about.
    intervals: Option<Intervals>,
    trained_on: Vec<TrainedOn>,
}

/// The rung that is taken so far.
struct Taken {
    rung: Rung,
    said: Vec<f64>,
    losses: Vec<(f64, f64)>,
    made: Option<Made>,
}

/// How the rung that is taken is made again from all looks.
struct Made {
    learner: Learner,
    calibration: Calibration,
    share: f64,
    endings: Vec<Ending>,
    beyond: Option<Beyond>,
}

/// How much what was learned may count beside the model of the first day.
const SHARES: [f64; 4] = [1.0, 0.75, 0.5, 0.25];

/// Ends of intervals in which a failure may fall.
const EDGES: usize = 8;

/// Trains every rung and takes the highest that is worth its climb.
///
/// # Errors
/// With too few failures, or when a rung can't be trained for another reason than that its rows do not suffice.
pub fn climb(looks: &Looks, settings: &Settings) -> Result<Trained, LadderError> {
    let events = looks.events(settings.horizon).len();
    if events < settings.least_events {
        return Err(LadderError::TooFewEvents { events, least: settings.least_events });
    }
    let blocks: Vec<&str> = looks.marks.iter().map(|mark| mark.block.as_str()).collect();
    let splits = folds(&blocks, settings.folds)?;
    let Some(known) = Known::of(looks, settings.horizon) else {
        return Err(LadderError::Train(TrainError::Model {
            why: "no cell was watched for a whole horizon; give it a longer history".to_owned(),
        }));
    };
    let first_day: Vec<f64> = looks.rows.iter().map(|row| first_passage(row)).collect();
    let losses = known.losses(&first_day);
    let mut ladder = vec![Climbed {
        rung: Rung::FirstDay,
        share: 0.0,
        brier: known.mean(&losses),
        gain: None,
        taken: true,
        asked: None,
    }];
    let mut taken = Taken { rung: Rung::FirstDay, said: first_day.clone(), losses, made: None };
    for rung in Rung::LEARNED {
        let Some(learner) = rung.learner(settings) else { continue };
        let said = out_of_fold(looks, &splits, &learner, settings)?;
        let calibration = known.calibration(&said.in_horizon, &blocks)?;
        let learned: Vec<f64> = said.in_horizon.iter().map(|p| calibration.apply(*p)).collect();
        let Some(best) = known
            .best_share(|share| learned.iter().zip(&first_day).map(|(l, f)| pool(share, *l, *f)).collect())
        else {
            continue;
        };
        let gain = known.gain(&blocks, &taken.losses, &best.losses);
        let is_better = gain.is_some_and(|gain| gain.low > 0.0);
        let (share, brier) = (best.share, best.brier);
        ladder.push(Climbed { rung, share, brier, gain, taken: is_better, asked: None });
        if is_better {
            let endings = endings(looks, &said, &calibration, share);
            let made = Some(Made { learner, calibration, share, endings, beyond: None });
            taken = Taken { rung, said: best.said, losses: best.losses, made };
        }
    }
    let beyond = match &taken.made {
        Some(_) => tried_beyond(looks, &splits, &blocks, &known, &mut taken, settings)?,
        None => None,
    };
    let endings = match &taken.made {
        Some(made) => made.endings.clone(),
        None => looks.first_day.iter().zip(&looks.marks).map(ending_of_first_day).collect(),
    };
    let ground = Ground {
        looks,
        splits: &splits,
        blocks: &blocks,
        known: &known,
        settings,
        below: &taken.said,
        losses: &taken.losses,
        endings: &endings,
    };
    let (mut remembered, mut left_out, mut trained_on) = (None, Vec::new(), Vec::new());
    match with_memory(&ground) {
        Ok(found) => {
            trained_on.clone_from(&found.trained_on);
            ladder.push(found.climbed.clone());
            remembered = Some(found).filter(|found| found.lstm.is_some());
        }
        Err(why) => left_out.push(LeftOut { rung: Rung::Lstm, why }),
    }
    let rung = remembered.as_ref().map_or(taken.rung, |_| Rung::Lstm);
    ladder.iter_mut().for_each(|climbed| climbed.taken = climbed.rung == rung);
    let suspects = remembered.as_ref().and_then(|found| found.intervals.clone());
    let (model, intervals) = made(looks, &blocks, taken.made, remembered, settings)?;
    Ok(Trained { model, rung, ladder, left_out, intervals, suspects, beyond, trained_on })
}

/// Adds what cells that stayed well never held to the rung that is taken, if that is no worse beyond chance: it is for kinds of failure that were never seen, and
/// those can't show in what is learned from.
fn tried_beyond(
    looks: &Looks,
    splits: &[Split],
    blocks: &[&str],
    known: &Known,
    taken: &mut Taken,
    settings: &Settings,
) -> Result<Option<TriedBeyond>, TrainError> {
    let held: Vec<Held> = looks
        .held
        .iter()
        .zip(&looks.marks)
        .map(|(shares, mark)| Held {
            shares: *shares,
            followed: mark.followed,
            was_well: !mark.after_failure,
        })
        .collect();
    let Some(learned) = beyond::learn(&held, blocks, splits, &edges(settings))? else { return Ok(None) };
    let horizon_s = settings.horizon.as_secs_f64();
    let said: Vec<f64> =
        taken.said.iter().enumerate().map(|(i, p)| either(*p, learned.within(i, horizon_s))).collect();
    let losses = known.losses(&said);
    let gain = known.gain(blocks, &taken.losses, &losses);
    let witnesses: BTreeSet<&str> = learned.exceeding().map(|i| blocks[i]).collect();
    let failing = learned.exceeding().filter(|i| looks.marks[*i].fails_within(settings.horizon));
    let failed: BTreeSet<&str> = failing.map(|i| blocks[i]).collect();
    let is_no_worse = gain.is_some_and(|gain| gain.high >= 0.0);
    let tried = TriedBeyond {
        witnesses: witnesses.len(),
        failed: failed.len(),
        brier: known.mean(&losses),
        gain,
        taken: is_no_worse,
    };
    if let Some(made) = taken.made.as_mut().filter(|_| is_no_worse) {
        for (i, (ending, mark)) in made.endings.iter_mut().zip(&looks.marks).enumerate() {
            ending.level = either(ending.level, learned.within(i, mark.followed.time_s));
            ending.reach = either(ending.reach, learned.within(i, f64::INFINITY)).max(ending.level);
        }
        made.beyond = Some(learned.beyond);
        (taken.said, taken.losses) = (said, losses);
    }
    Ok(Some(tried))
}

/// The probability of one or the other of two causes that know nothing of each other.
fn either(one: f64, other: f64) -> f64 {
    1.0 - (1.0 - one) * (1.0 - other)
}

/// The model that serves: learned again from all looks, and the memory above it, if it was worth its climb.
fn made(
    looks: &Looks,
    blocks: &[&str],
    below: Option<Made>,
    remembered: Option<Remembered>,
    settings: &Settings,
) -> Result<(Model, Option<Intervals>), LadderError> {
    let (below, intervals) = match below {
        None => (None, None),
        Some(Made { learner, calibration, share, endings, beyond }) => {
            let all: Vec<usize> = (0..looks.marks.len()).collect();
            let hazard = fit(looks, &all, &learner, settings)?.calibrated(calibration);
            let intervals = Intervals::of(&endings, blocks)?;
            let levels = intervals.levels;
            (Some(Stacked { learned: Learned { hazard }, share, levels, beyond }), Some(intervals))
        }
    };
    let Some(Remembered { climbed, lstm: Some(lstm), suspect_from, intervals: of_suspects, .. }) = remembered
    else {
        return Ok((below.map_or(Model::FirstDay, |stacked| Model::Stacked(Box::new(stacked))), intervals));
    };
    let (steps, share) = (looks.steps, climbed.share);
    let levels = of_suspects.and_then(|intervals| intervals.levels);
    let parts = RememberingParts { below, lstm, steps, share, suspect_from, levels };
    let remembering = Remembering::new(parts).map_err(|why| TrainError::Model { why })?;
    Ok((Model::Remembering(Box::new(remembering)), intervals))
}

#[cfg(feature = "lstm")]
fn with_memory(ground: &Ground<'_>) -> Result<Remembered, String> {
    memory::climb(ground)
}

#[cfg(not(feature = "lstm"))]
fn with_memory(_: &Ground<'_>) -> Result<Remembered, String> {
    Err("this build trains none (it serves those that others trained); a release build does, by `cargo xtask release` or `--features lstm`".to_owned())
}

/// What the model of the first day said: it is the last feature, in log odds.
fn first_passage(row: &[f32]) -> f64 {
    row.last().map_or(0.0, |log_odds| 1.0 / (1.0 + (-f64::from(*log_odds)).exp()))
}

fn pool(share: f64, learned: f64, first_day: f64) -> f64 {
    let log_odds = |p: f64| {
        let p = p.clamp(1e-12, 1.0 - 1e-12);
        (p / (1.0 - p)).ln()
    };
    1.0 / (1.0 + (-(share * log_odds(learned) + (1.0 - share) * log_odds(first_day))).exp())
}

fn fit(
    looks: &Looks,
    numbers: &[usize],
    learner: &Learner,
    settings: &Settings,
) -> Result<Hazard, TrainError> {
    let mut watched = Watched::default();
    for i in numbers {
        let mark = &looks.marks[*i];
        let Followed { time_s, failed } = mark.followed;
        watched.push(looks.rows[*i].clone(), time_s.max(1e-3), failed, mark.weight);
    }
    train(&watched, None, &feature_names(), &edges(settings), learner)
}

/// Ends of intervals, in seconds; the last is the horizon.
fn edges(settings: &Settings) -> Vec<f64> {
    let horizon_s = settings.horizon.as_secs_f64();
    // The first interval ends no sooner than a look can tell, and leaves room for the others.
    let first = settings.shortest.as_secs_f64().clamp(horizon_s / 64.0, horizon_s / 8.0);
    log_edges(first, horizon_s, EDGES)
}

/// What models said of rows that they had not learned from, nor from anything that shares their event.
struct OutOfFold {
    /// P(fail within the horizon).
    in_horizon: Vec<f64>,
    /// P(fail by the end of watching); after the horizon that stays.
    by_end: Vec<f64>,
}

/// How far up the curve of the first day a look came.
fn ending_of_first_day((first_day, mark): (&FirstDay, &Landmark)) -> Ending {
    let (level, weight) = (first_day.by_end.min(first_day.by_reach), f64::from(mark.weight));
    Ending { level, reach: first_day.by_reach, failed: first_day.in_reach, weight }
}

/// How far up the curve that is served each look came.
fn endings(looks: &Looks, said: &OutOfFold, calibration: &Calibration, share: f64) -> Vec<Ending> {
    let learned = said
        .in_horizon
        .iter()
        .zip(&said.by_end)
        .map(|(p, end)| (calibration.apply(*p), calibration.apply(*end)));
    let first_days = looks.first_day.iter().zip(&looks.marks);
    let ending = |((in_horizon, by_end), (first_day, mark)): ((f64, f64), (&FirstDay, &Landmark))| {
        let reach = pool(share, in_horizon, first_day.by_reach);
        Ending {
            level: pool(share, by_end, first_day.by_end).min(reach),
            reach,
            failed: first_day.in_reach,
            weight: f64::from(mark.weight),
        }
    };
    learned.zip(first_days).map(ending).collect()
}

/// Every row is told by a model that had not learned from it or from anything that shares its event.
fn out_of_fold(
    looks: &Looks,
    splits: &[Split],
    learner: &Learner,
    settings: &Settings,
) -> Result<OutOfFold, TrainError> {
    let mut said = OutOfFold { in_horizon: vec![0.0; looks.rows.len()], by_end: vec![0.0; looks.rows.len()] };
    for split in splits {
        let hazard = fit(looks, &split.train, learner, settings)?;
        for i in &split.test {
            let cumulative = hazard.cumulative(&looks.rows[*i]);
            said.in_horizon[*i] = cumulative.last().copied().unwrap_or(0.0);
            said.by_end[*i] = hazard.within(&cumulative, looks.marks[*i].followed.time_s);
        }
    }
    Ok(said)
}
