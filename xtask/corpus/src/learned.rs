//! Models that learn from the corpus, judged on episodes that took no part: split by group of episodes, or by kind of failure.
//!
//! When traffic moves (how soon a failure must be likely, how likely, and how much what was learned counts beside limits and trends) is chosen on the training episodes alone, so that at most the
//! tolerated share of those that are healthy or can't be foreseen is moved. Peers choose theirs in the same way.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use forefend_domain::Windows;
use forefend_learn::{
    boost,
    hazard::{Learner, Watched, train},
};
use forefend_predict::{
    DayZero, Levels,
    learned::{Hazard, Learned, feature_names, features_and_first_day, never_falls},
};

use crate::{
    alarm::{Alarm, HORIZON, LEAD_S, Model, Stacks, Tick, WITHIN_S, Watcher, course, policy, replay},
    episode::Recording,
    intervals::Told,
    outcome::STEP,
    peers::Peer,
    score::{self, Score, in_parallel},
    spec::{Class, EpisodeSpec, Kind},
    table,
};

/// What to learn from, and how to tell.
#[derive(Args)]
pub(crate) struct LearnArguments {
    /// The recording.
    #[arg(long, default_value = "data/corpus")]
    data: PathBuf,
    /// A warning counts when it comes at least so many seconds before the failure.
    #[arg(long, default_value_t = LEAD_S)]
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

/// Every so many steps an episode is looked at for training.
const EVERY: usize = 2;
/// Steps before the first look: windows need a past.
const FIRST: usize = 12;
/// At most this share of episodes that must not be moved may be, among those that the alarm is chosen on; on others it will be a little
/// more, and what is asked for is 2%.
const TOLERATED: f64 = 0.014;
/// Parts that the episodes are cut into, by group.
const FOLDS: u8 = 5;
/// Parts that the training episodes are cut into to choose the alarm.
const INNER: u8 = 2;

/// Learns and prints what that gives.
///
/// # Errors
/// When the recording can't be read or nothing can be learned from it.
pub(crate) fn run(arguments: &LearnArguments) -> Result<()> {
    let corpus = table::load(&arguments.data)?;
    let episodes = &corpus.recordings;
    ensure!(!episodes.is_empty(), "{} holds no episode", arguments.data.display());
    let lead_s = arguments.lead_s;
    let seen = looks(episodes);
    let parts = parts(episodes, arguments.unseen_kinds);
    let (mut ours, mut told) = (Vec::new(), Told::default());
    for part in &parts {
        let out: Vec<&Recording> = part.out.iter().map(|i| &episodes[*i]).collect();
        let inner = inner(episodes, &seen, part)?;
        let alarm = alarm_of_learned(episodes, &inner, lead_s)?;
        let hazard = fit(&seen, &part.kept)?;
        // The model whose alarm was chosen.
        let share = SHARES[alarm.scale / WITHIN_S.len()];
        let levels = levels(&seen, &inner, share)?;
        told.add(&seen, &part.out, (&hazard, share), levels);
        let model = Stacks { learned: Learned { hazard }, shares: &SHARES };
        eprintln!("{} episodes judged by what {} taught: {alarm:?}", out.len(), part.kept.len());
        ours.push(score::score_of(&out, &model, lead_s, alarm));
    }
    let ours = Score::of_all(ours, lead_s);
    let mut others = vec![("first-passage", beside(&Model(DayZero::default()), episodes, &parts, lead_s)?)];
    for peer in Peer::ALL {
        others.push((peer.name(), beside(&peer, episodes, &parts, lead_s)?));
    }
    let case = if arguments.unseen_kinds { "corpus-unseen-kind" } else { "corpus" };
    if arguments.json {
        let lines = others.iter().flat_map(|(name, other)| ours.lines_against(case, name, other));
        for line in lines.chain(ours.lines_by_kind(case)).chain(told.lines(case)) {
            println!("{}", serde_json::to_string(&line)?);
        }
    } else if arguments.explain {
        ours.explain();
    } else {
        print!("{}", ours.markdown());
        println!();
        for line in told.lines(case) {
            println!("{}", line.words());
        }
        for (name, other) in &others {
            print!("\n{name}\n\n{}", other.markdown());
        }
    }
    Ok(())
}

/// Someone who need not learn, with the alarm that suits on the episodes that others learn from.
fn beside(watcher: &impl Watcher, episodes: &[Recording], parts: &[Part], lead_s: f64) -> Result<Score> {
    let all: Vec<&Recording> = episodes.iter().collect();
    let policy = policy(lead_s);
    let courses = in_parallel(&all, |recording| course(recording, watcher, &policy));
    let mut scores = Vec::new();
    for part in parts {
        let kept: Vec<&Recording> = part.kept.iter().map(|i| all[*i]).collect();
        let alarm = alarm(&kept, part.kept.iter().map(|i| courses[*i].clone()).collect(), lead_s)?;
        let out = part.out.iter().map(|i| (all[*i], courses[*i].as_slice()));
        scores.push(score::score_of_courses(out, lead_s, alarm));
    }
    Ok(Score::of_all(scores, lead_s))
}

/// The alarm that suits these episodes and what was said of them.
fn alarm(episodes: &[&Recording], courses: Vec<Vec<Tick>>, lead_s: f64) -> Result<Alarm> {
    let (mut still, mut failing) = (Vec::new(), Vec::new());
    for (episode, mut ticks) in episodes.iter().zip(courses).filter(|(episode, _)| episode.is_as_meant()) {
        let onset = episode.spec.onset_s().map(|s| (s / STEP.as_secs_f64()) as u32);
        match (episode.spec.kind.class(), episode.failed_step) {
            (Class::Foreseeable, Some(failed)) => failing.push((ticks, failed)),
            // What comes after the cause began is no longer for nothing.
            (Class::Unforeseeable, failed) => {
                ticks.retain(|tick| onset.or(failed).is_none_or(|until| tick.step < until));
                still.push(ticks);
            }
            (Class::Healthy | Class::Foreseeable, _) => still.push(ticks),
        }
    }
    let lead = (lead_s / STEP.as_secs_f64()).ceil() as u32;
    Alarm::choose(&still, &failing, lead, TOLERATED, &policy(lead_s)).context("no episode says anything")
}

/// Among the episodes that a model learns from: some of them, and what the others taught.
fn inner(episodes: &[Recording], seen: &[Vec<Look>], part: &Part) -> Result<Vec<(Vec<usize>, Hazard)>> {
    let mut inner = Vec::new();
    for half in 0..INNER {
        let (out, rest): (Vec<usize>, Vec<usize>) =
            part.kept.iter().copied().partition(|i| (part.half)(&episodes[*i].spec) == half);
        if !out.is_empty() && !rest.is_empty() {
            inner.push((out, fit(seen, &rest)?));
        }
    }
    Ok(inner)
}

/// Where curves are to be read, by episodes that the model learns from.
fn levels(seen: &[Vec<Look>], inner: &[(Vec<usize>, Hazard)], share: f64) -> Result<Levels> {
    let mut told = Told::default();
    for (out, hazard) in inner {
        told.add(seen, out, (hazard, share), Levels::PLAIN);
    }
    told.choose()
}

/// The alarm of a model that learns, found by cross-validation among the episodes that it learns from.
fn alarm_of_learned(episodes: &[Recording], inner: &[(Vec<usize>, Hazard)], lead_s: f64) -> Result<Alarm> {
    let policy = policy(lead_s);
    let (mut judged, mut courses) = (Vec::new(), Vec::new());
    for (out, hazard) in inner {
        let model = Stacks { learned: Learned { hazard: hazard.clone() }, shares: &SHARES };
        let out: Vec<&Recording> = out.iter().map(|i| &episodes[*i]).collect();
        courses.extend(in_parallel(&out, |recording| course(recording, &model, &policy)));
        judged.extend(out);
    }
    alarm(&judged, courses, lead_s)
}

/// How much what was learned may count beside the model of the first day.
const SHARES: [f64; 3] = [1.0, 0.5, 0.25];

/// Episodes that are judged, and those that the model learns from.
struct Part {
    out: Vec<usize>,
    kept: Vec<usize>,
    /// In which half of the episodes that the model learns from one stands, when an alarm is chosen: as those that are judged are told from
    /// those, so the halves are told apart.
    half: fn(&EpisodeSpec) -> u8,
}

fn half_of_groups(spec: &EpisodeSpec) -> u8 {
    spec.group / FOLDS % INNER
}

/// Kinds that a half fails of, the other half has not seen.
fn half_of_kinds(spec: &EpisodeSpec) -> u8 {
    match spec.kind.class() {
        Class::Foreseeable => spec.kind as u8 % INNER,
        Class::Unforeseeable | Class::Healthy => half_of_groups(spec),
    }
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
            half: half_of_groups,
        };
        return (0..FOLDS).map(of).collect();
    }
    let foreseeable = || Kind::ALL.into_iter().filter(|kind| kind.class() == Class::Foreseeable);
    (0u8..)
        .zip(foreseeable())
        .map(|(n, left_out)| {
            let f = n % FOLDS;
            // The episodes that must not be moved are judged once, by the first model that has not seen their fold.
            let judged = |i: &usize| {
                kind(i) == left_out || (n < FOLDS && fold(i) == f && kind(i).class() != Class::Foreseeable)
            };
            Part {
                out: all().filter(judged).collect(),
                kept: all().filter(|i| kind(i) != left_out && fold(i) != f).collect(),
                half: half_of_kinds,
            }
        })
        .collect()
}

/// A look at an episode: what was known at a step, and what became of it.
pub(crate) struct Look {
    pub(crate) row: Vec<f32>,
    /// What the model of the first day said, over the times of a curve.
    pub(crate) first_day: Vec<f32>,
    /// Seconds until it failed, or until it was lost sight of.
    pub(crate) left_s: f64,
    pub(crate) failed: bool,
}

/// Looks at every episode, at fixed steps.
fn looks(episodes: &[Recording]) -> Vec<Vec<Look>> {
    let all: Vec<&Recording> = episodes.iter().collect();
    in_parallel(&all, |recording| {
        let mut looks = Vec::new();
        let end = recording.failed_step.unwrap_or(recording.steps);
        replay(recording, |step, windows: &Windows| {
            if (step as usize) < FIRST || !(step as usize).is_multiple_of(EVERY) {
                return;
            }
            if let Some((row, first_day)) = features_and_first_day(windows, HORIZON) {
                let left_s = f64::from(end - step) * STEP.as_secs_f64();
                let first_day = first_day.curve.iter().map(|(_, p)| *p as f32).collect();
                let failed = recording.failed_step.is_some();
                looks.push(Look { row: row.values, first_day, left_s, failed });
            }
        });
        looks
    })
}

/// Ends of the intervals in which a failure may fall, in seconds. The last is what features look ahead to.
const EDGES_S: [f64; 8] = [2.5, 4.0, 5.5, 7.0, 10.0, 15.0, 20.0, HORIZON.as_secs() as f64];

fn fit(seen: &[Vec<Look>], kept: &[usize]) -> Result<Hazard> {
    let mut watched = Watched::default();
    for look in kept.iter().flat_map(|i| &seen[*i]) {
        watched.push(look.row.clone(), look.left_s, look.failed, 1.0);
    }
    let names = feature_names();
    // Without that, a few hundred episodes leave too much to chance.
    let mut monotone: Vec<i8> = never_falls().into_iter().map(i8::from).collect();
    monotone.push(0);
    let settings = boost::Settings {
        rounds: 200,
        learning_rate: 0.06,
        leaves: 14,
        min_rows_in_leaf: 40,
        l2: 5.0,
        row_share: 0.7,
        column_share: 0.3,
        seed: 1,
        monotone,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ..boost::Settings::default()
    };
    Ok(train(&watched, None, &names, &EDGES_S, &Learner::Trees(settings))?)
}
