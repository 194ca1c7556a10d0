//! Models that learn from the corpus, judged on episodes that took no part: split by group of episodes, or by kind of failure.
//!
//! The threshold of probability from which traffic would move is chosen on the training episodes alone, so that at most the tolerated
//! share of those that are healthy or can't be foreseen is shifted.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use forefend_domain::{Policy, Windows};
use forefend_learn::{
    boost,
    hazard::{Learner, Watched, train},
};
use forefend_predict::{
    DayZero,
    learned::{Hazard, Learned, feature_names, features},
};

use crate::{
    episode::Recording,
    outcome::STEP,
    score::{self, Score},
    spec::{Class, Kind},
    table,
};

/// What to learn from, and how to tell.
#[derive(Args)]
pub(crate) struct LearnArguments {
    /// The recording.
    #[arg(long, default_value = "data/corpus")]
    data: PathBuf,
    /// A warning counts when it comes at least so many seconds before the failure.
    #[arg(long, default_value_t = score::LEAD_S)]
    lead_s: f64,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Each shift on a line, with what it rests on.
    #[arg(long, conflicts_with = "json")]
    explain: bool,
    /// Leave each kind of failure out of the training in turn, instead of groups of episodes.
    #[arg(long)]
    unseen_kinds: bool,
}

const HORIZON: Duration = Duration::from_secs(30);
/// Every so many steps an episode is looked at for training.
const EVERY: usize = 3;
/// Steps before the first look: windows need a past.
const FIRST: usize = 16;
/// At most this share of episodes that must not be shifted may be.
const TOLERATED: f64 = 0.02;
/// Parts that the episodes are cut into, by group.
const FOLDS: u8 = 5;
/// Parts that the training episodes are cut into to choose the threshold.
const INNER: u8 = 2;

/// Learns and prints what that gives.
///
/// # Errors
/// When the recording can't be read or nothing can be learned from it.
pub(crate) fn run(arguments: &LearnArguments) -> Result<()> {
    let corpus = table::load(&arguments.data)?;
    let episodes = &corpus.recordings;
    ensure!(!episodes.is_empty(), "{} holds no episode", arguments.data.display());
    let seen = looks(episodes);
    let mut judged = Vec::new();
    for part in parts(episodes, arguments.unseen_kinds) {
        let threshold = threshold(episodes, &seen, &part.kept, arguments.lead_s)?;
        let learned = Learned { hazard: fit(&seen, &part.kept)? };
        let out: Vec<&Recording> = part.out.iter().map(|i| &episodes[*i]).collect();
        eprintln!(
            "{} episodes judged by what {} taught, from probability {threshold:.3}",
            out.len(),
            part.kept.len()
        );
        judged.push(score::score_of(&out, &learned, arguments.lead_s, threshold));
    }
    let all = Score::of_all(judged, arguments.lead_s);
    let case = if arguments.unseen_kinds { "corpus-unseen-kind" } else { "corpus" };
    if arguments.json {
        let first_day = score::score(episodes, &DayZero::default(), arguments.lead_s, score::SHIFT_AT);
        for line in all.lines_against(case, "first-passage", &first_day) {
            println!("{}", serde_json::to_string(&line)?);
        }
    } else if arguments.explain {
        all.explain();
    } else {
        print!("{}", all.markdown());
    }
    Ok(())
}

/// Episodes that are judged, and those that the model learns from.
struct Part {
    out: Vec<usize>,
    kept: Vec<usize>,
}

/// Each group of episodes left out in turn; with `by_kind` each foreseeable kind, beside the others of a group that is left out too.
fn parts(episodes: &[Recording], by_kind: bool) -> Vec<Part> {
    let all = || 0..episodes.len();
    let fold = |i: &usize| episodes[*i].spec.group % FOLDS;
    let kind = |i: &usize| episodes[*i].spec.kind;
    if !by_kind {
        let of = |f: u8| Part {
            out: all().filter(|i| fold(i) == f).collect(),
            kept: all().filter(|i| fold(i) != f).collect(),
        };
        return (0..FOLDS).map(of).collect();
    }
    let foreseeable = || Kind::ALL.into_iter().filter(|kind| kind.class() == Class::Foreseeable);
    (0u8..)
        .zip(foreseeable())
        .map(|(n, left_out)| {
            let f = n % FOLDS;
            // The episodes that must not be shifted are judged once, by the first model that has not seen their fold.
            let judged = |i: &usize| {
                kind(i) == left_out || (n < FOLDS && fold(i) == f && kind(i).class() != Class::Foreseeable)
            };
            Part {
                out: all().filter(judged).collect(),
                kept: all().filter(|i| kind(i) != left_out && fold(i) != f).collect(),
            }
        })
        .collect()
}

/// A look at an episode: what was known at a step, and what became of it.
struct Look {
    row: Vec<f32>,
    /// Seconds until it failed, or until it was lost sight of.
    left_s: f64,
    failed: bool,
}

/// Looks at every episode, at fixed steps.
fn looks(episodes: &[Recording]) -> Vec<Vec<Look>> {
    let one = |recording: &Recording| {
        let mut looks = Vec::new();
        let end = recording.failed_step.unwrap_or(recording.steps);
        score::replay(recording, |step, windows: &Windows| {
            if (step as usize) < FIRST || !(step as usize).is_multiple_of(EVERY) {
                return;
            }
            if let Some(row) = features(windows, HORIZON) {
                let left_s = f64::from(end - step) * STEP.as_secs_f64();
                looks.push(Look { row: row.values, left_s, failed: recording.failed_step.is_some() });
            }
        });
        looks
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let chunk = episodes.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = episodes
            .chunks(chunk)
            .map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

fn fit(seen: &[Vec<Look>], kept: &[usize]) -> Result<Hazard> {
    let mut watched = Watched::default();
    for look in kept.iter().flat_map(|i| &seen[*i]) {
        watched.push(look.row.clone(), look.left_s, look.failed, 1.0);
    }
    let settings = boost::Settings {
        rounds: 200,
        learning_rate: 0.06,
        leaves: 12,
        min_rows_in_leaf: 40,
        l2: 5.0,
        row_share: 0.7,
        column_share: 0.4,
        seed: 1,
        ..boost::Settings::default()
    };
    let edges = vec![2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0];
    Ok(train(&watched, None, &feature_names(), &edges, &Learner::Trees(settings))?)
}

/// The lowest probability from which at most the tolerated share is shifted of what must not be, found by cross-validation among the
/// episodes that are learned from.
fn threshold(episodes: &[Recording], seen: &[Vec<Look>], kept: &[usize], lead_s: f64) -> Result<f64> {
    let policy = score::policy(lead_s);
    let mut highest: Vec<f64> = Vec::new();
    for inner in 0..INNER {
        let (out, rest): (Vec<usize>, Vec<usize>) =
            kept.iter().copied().partition(|i| episodes[*i].spec.group / FOLDS % INNER == inner);
        if out.is_empty() || rest.is_empty() {
            continue;
        }
        let model = Learned { hazard: fit(seen, &rest)? };
        let must_stay: Vec<&Recording> =
            out.iter().map(|i| &episodes[*i]).filter(|r| r.spec.kind.class() != Class::Foreseeable).collect();
        highest.extend(courses(&must_stay, &model, &policy).iter().map(|ticks| {
            // The threshold at which it would just not be shifted.
            let levels = (1..100).rev().map(|percent| f64::from(percent) / 100.0);
            levels
                .into_iter()
                .find(|level| score::first_shift(ticks, &policy, *level).is_some())
                .unwrap_or(0.0)
        }));
    }
    highest.sort_by(|a, b| b.total_cmp(a));
    // So many may be shifted; the next one must not.
    let tolerated = (highest.len() as f64 * TOLERATED) as usize;
    Ok(highest.get(tolerated).map_or(0.5, |level| (level + 0.01).min(0.99)))
}

fn courses(recordings: &[&Recording], model: &Learned, policy: &Policy) -> Vec<Vec<score::Tick>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let chunk = recordings.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = recordings
            .chunks(chunk)
            .map(|part| {
                scope.spawn(move || part.iter().map(|r| score::course(r, model, policy)).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}
