//! Models that learn from the corpus, judged on episodes that took no part: split by group of episodes, or by kind of failure.
//!
//! When traffic moves (how soon a failure must be likely, how likely, and how much what was learned counts beside limits and trends) is chosen on the training episodes alone, so that at most the
//! tolerated share of those that are healthy or can't be foreseen is moved. Peers choose theirs in the same way.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use forefend_learn::{
    beyond::{Held, learn},
    boost,
    evaluate::{split::folds, survival::Followed},
    hazard::{Learner, Watched, train},
};
use forefend_predict::{
    DayZero, Levels,
    learned::{Beyond, Hazard, feature_names, never_falls},
};

use crate::{
    alarm::{AS_SERVED, AS_SUITS, Alarm, Counted, HORIZON, LEAD_S, Model, Tick, Watcher, course, policy},
    clock::Clock,
    episode::Recording,
    intervals::Told,
    outcome::STEP,
    peers::Peer,
    score::{self, Asked, Score, in_parallel},
    shown::{Shown, Taught, shown},
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
/// At most this share of episodes that must not be moved is to be expected to be, as far as those tell that the alarm is chosen on; on others it will be
/// a little more, and what is asked for is 2%.
const TOLERATED: f64 = 0.016;
/// Parts that the episodes are cut into, by group.
const FOLDS: u8 = 5;
/// Parts that the training episodes are cut into to choose the alarm, the same again: what teaches there is nearly what teaches in the end.
const INNER: u8 = FOLDS;

/// Learns and prints what that gives.
///
/// # Errors
/// When the recording can't be read or nothing can be learned from it.
pub(crate) fn run(arguments: &LearnArguments) -> Result<()> {
    let corpus = table::load(&arguments.data)?;
    let episodes = &corpus.recordings;
    ensure!(!episodes.is_empty(), "{} holds no episode", arguments.data.display());
    let all: Vec<&Recording> = episodes.iter().collect();
    let seen = shown(&all);
    let parts = parts(episodes, arguments.unseen_kinds);
    let asked = Clock::ALL.map(|clock| Asked { lead_s: arguments.lead_s, clock });
    let (ours, told) = ours(episodes, &seen, &parts, asked, arguments.explain)?;
    let mut others = vec![("first-passage", beside(&Model(DayZero::default()), episodes, &parts, asked)?)];
    for peer in Peer::ALL {
        others.push((peer.name(), beside(&peer, episodes, &parts, asked)?));
    }
    if arguments.explain {
        ours[0].explain();
        return Ok(());
    }
    for (n, (ours, asked)) in ours.iter().zip(asked).enumerate() {
        let case = asked.clock.case(arguments.unseen_kinds);
        if arguments.json {
            for line in others.iter().flat_map(|(name, other)| ours.lines_against(case, name, &other[n])) {
                println!("{}", serde_json::to_string(&line)?);
            }
            continue;
        }
        print!("{case}\n\n{}", ours.markdown());
        for (name, other) in &others {
            print!("\n{case}, {name}\n\n{}", other[n].markdown());
        }
    }
    for line in told.lines(asked[0].clock.case(arguments.unseen_kinds)) {
        let words = if arguments.json { serde_json::to_string(&line)? } else { line.words() };
        println!("{words}");
    }
    Ok(())
}

/// A score by each clock.
type Scores = [Score; Clock::ALL.len()];

/// What is learned and judged part by part.
fn ours(
    episodes: &[Recording],
    seen: &[Vec<Shown>],
    parts: &[Part],
    asked: [Asked; Clock::ALL.len()],
    explains: bool,
) -> Result<(Scores, Told)> {
    let (mut scores, mut told) = (asked.map(|_| Vec::new()), Told::default());
    for part in parts {
        let out: Vec<&Recording> = part.out.iter().map(|i| &episodes[*i]).collect();
        let taught = inner(episodes, seen, part)?;
        let (inner, inner_courses) = cross_validated(episodes, seen, &taught, asked[0].lead_s);
        let (hazard, beyond) = (fit(episodes, seen, &part.kept)?, beyond(episodes, seen, &part.kept)?);
        let model = Taught { hazard, shares: &SHARES, beyond, explains };
        let courses = said(&model, seen, &part.out, asked[0].lead_s);
        for (asked, scores) in asked.into_iter().zip(&mut scores) {
            let marks = model.beyond.as_ref().map_or(0, |beyond| beyond.parts().most.len());
            let alarm = alarm(&inner, &inner_courses, asked, (AS_SERVED, marks))?;
            let (judged, kept) = (out.len(), part.kept.len());
            eprintln!("{judged} episodes judged by what {kept} taught, {:?}: {alarm:?}", asked.clock);
            if asked.clock == Clock::ALL[0] {
                // Of the model whose alarm was chosen.
                let share = SHARES[alarm.scale];
                let levels = levels(episodes, seen, &taught, share)?;
                told.add((episodes, seen), &part.out, (&model, share), levels);
            }
            let of = out.iter().copied().zip(courses.iter().map(Vec::as_slice));
            scores.push(score::score_of_courses(of, asked, alarm));
        }
    }
    Ok((put_together(scores, asked), told))
}

/// Someone who need not learn, with the alarm that suits on the episodes that others learn from.
fn beside(
    watcher: &impl Watcher,
    episodes: &[Recording],
    parts: &[Part],
    asked: [Asked; Clock::ALL.len()],
) -> Result<Scores> {
    let all: Vec<&Recording> = episodes.iter().collect();
    let courses = courses(&all, watcher, asked[0].lead_s);
    let mut scores = asked.map(|_| Vec::new());
    for part in parts {
        let kept: Vec<&Recording> = part.kept.iter().map(|i| all[*i]).collect();
        let said: Vec<Vec<Tick>> = part.kept.iter().map(|i| courses[*i].clone()).collect();
        for (asked, scores) in asked.into_iter().zip(&mut scores) {
            let out = part.out.iter().map(|i| (all[*i], courses[*i].as_slice()));
            scores.push(score::score_of_courses(out, asked, alarm(&kept, &said, asked, (AS_SUITS, 0))?));
        }
    }
    Ok(put_together(scores, asked))
}

/// The scores of the parts, clock by clock.
fn put_together(mut parts: [Vec<Score>; Clock::ALL.len()], asked: [Asked; Clock::ALL.len()]) -> Scores {
    std::array::from_fn(|n| Score::of_all(std::mem::take(&mut parts[n]), asked[n]))
}

/// What was taught says of these episodes.
fn said(model: &Taught, seen: &[Vec<Shown>], episodes: &[usize], lead_s: f64) -> Vec<Vec<Tick>> {
    let policy = policy(lead_s);
    episodes.iter().map(|i| model.course(&seen[*i], &policy)).collect()
}

/// What a watcher says of each episode.
fn courses(episodes: &[&Recording], watcher: &impl Watcher, lead_s: f64) -> Vec<Vec<Tick>> {
    let policy = policy(lead_s);
    in_parallel(episodes, |recording| course(recording, watcher, &policy))
}

/// The alarm that suits these episodes and what was said of them.
fn alarm(
    episodes: &[&Recording],
    courses: &[Vec<Tick>],
    asked: Asked,
    how: (&[Counted], usize),
) -> Result<Alarm> {
    let (mut still, mut failing) = (Vec::new(), Vec::new());
    let step_s = STEP.as_secs_f64();
    for (episode, ticks) in episodes.iter().zip(courses).filter(|(episode, _)| episode.is_as_meant()) {
        let onset = episode.spec.onset_s().map(|s| (s / step_s) as u32);
        match (episode.spec.kind.class(), episode.failed_step) {
            (Class::Foreseeable, Some(failed)) => {
                failing.push((ticks.clone(), f64::from(failed) - asked.recorded_s(&episode.spec) / step_s));
            }
            // What comes after the cause began is no longer for nothing.
            (Class::Unforeseeable, failed) => {
                let mut ticks = ticks.clone();
                ticks.retain(|tick| onset.or(failed).is_none_or(|until| tick.step < until));
                still.push(ticks);
            }
            (Class::Healthy | Class::Foreseeable, _) => still.push(ticks.clone()),
        }
    }
    Alarm::choose(&still, &failing, TOLERATED, how).context("no episode says anything")
}

/// Some of the episodes that a model learns from, and what the others taught.
type Inner = (Vec<usize>, Taught);

/// Every one of the episodes that a model learns from, once among those that did not teach.
fn inner(episodes: &[Recording], seen: &[Vec<Shown>], part: &Part) -> Result<Vec<Inner>> {
    let mut all = Vec::new();
    for inner in 0..INNER {
        let (out, rest): (Vec<usize>, Vec<usize>) =
            part.kept.iter().copied().partition(|i| (part.inner)(&episodes[*i].spec) == inner);
        if !out.is_empty() && !rest.is_empty() {
            let (hazard, beyond) = (fit(episodes, seen, &rest)?, beyond(episodes, seen, &rest)?);
            all.push((out, Taught { hazard, shares: &SHARES, beyond, explains: false }));
        }
    }
    Ok(all)
}

/// What was said of each of these episodes by what the others taught.
fn cross_validated<'a>(
    episodes: &'a [Recording],
    seen: &[Vec<Shown>],
    inner: &[Inner],
    lead_s: f64,
) -> (Vec<&'a Recording>, Vec<Vec<Tick>>) {
    let (mut judged, mut courses) = (Vec::new(), Vec::new());
    for (out, model) in inner {
        courses.extend(said(model, seen, out, lead_s));
        judged.extend(out.iter().map(|i| &episodes[*i]));
    }
    (judged, courses)
}

/// Where curves are to be read, by episodes that the model learns from.
fn levels(episodes: &[Recording], seen: &[Vec<Shown>], inner: &[Inner], share: f64) -> Result<Levels> {
    let mut told = Told::default();
    for (out, model) in inner {
        told.add((episodes, seen), out, (model, share), Levels::PLAIN);
    }
    told.choose()
}

/// The looks that are learned from, each with the seconds until it failed, or until it was lost sight of.
pub(crate) fn looks<'a>(episode: &Recording, seen: &'a [Shown]) -> impl Iterator<Item = (&'a Shown, f64)> {
    let end = episode.failed_step.unwrap_or(episode.steps);
    let at = |shown: &&Shown| shown.step as usize >= FIRST && (shown.step as usize).is_multiple_of(EVERY);
    seen.iter().filter(at).map(move |look| (look, f64::from(end - look.step) * STEP.as_secs_f64()))
}

/// How much what was learned may count beside the model of the first day.
const SHARES: [f64; 3] = [1.0, 0.5, 0.25];

/// Episodes that are judged, and those that the model learns from.
struct Part {
    out: Vec<usize>,
    kept: Vec<usize>,
    /// In which part of the episodes that the model learns from one stands, when an alarm is chosen: as those that are judged are told from
    /// those, so the parts are told apart.
    inner: fn(&EpisodeSpec) -> u8,
}

fn part_of_groups(spec: &EpisodeSpec) -> u8 {
    spec.group % INNER
}

/// Kinds that a part fails of, the other parts have not seen.
fn part_of_kinds(spec: &EpisodeSpec) -> u8 {
    match spec.kind.class() {
        Class::Foreseeable => spec.kind as u8 % INNER,
        Class::Unforeseeable | Class::Healthy => part_of_groups(spec),
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
            inner: part_of_groups,
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
                inner: part_of_kinds,
            }
        })
        .collect()
}

/// Ends of the intervals in which a failure may fall, in seconds. The last is what features look ahead to.
const EDGES_S: [f64; 8] = [2.5, 4.0, 5.5, 7.0, 10.0, 15.0, 20.0, HORIZON.as_secs() as f64];

/// What cells that stayed well never held, and how soon those failed that did.
fn beyond(episodes: &[Recording], seen: &[Vec<Shown>], kept: &[usize]) -> Result<Option<Beyond>> {
    let (mut all, mut blocks, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for i in kept {
        let episode = &episodes[*i];
        for (look, left_s) in looks(episode, &seen[*i]) {
            let followed = Followed { time_s: left_s, failed: episode.failed_step.is_some() };
            all.push(Held { shares: look.held, followed, was_well: true });
            blocks.push(*i);
            groups.push(episode.spec.group);
        }
    }
    let learned = learn(&all, &blocks, &folds(&groups, BEYOND_FOLDS)?, &EDGES_S)?;
    Ok(learned.map(|learned| learned.beyond))
}

/// Parts by group in which marks are set in turn.
const BEYOND_FOLDS: usize = 4;

fn fit(episodes: &[Recording], seen: &[Vec<Shown>], kept: &[usize]) -> Result<Hazard> {
    let mut watched = Watched::default();
    for i in kept {
        let episode = &episodes[*i];
        for (look, left_s) in looks(episode, &seen[*i]) {
            watched.push(look.row.clone(), left_s, episode.failed_step.is_some(), 1.0);
        }
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
