//! The rung with a memory: a long short-term memory over what was lately seen, pooled with the rung that was taken below.
//!
//! It is asked about suspects, or about everybody where that is worth it. Size and epochs are chosen by events within what a fold learns
//! from, so that what a fold is judged by has chosen nothing. The work is bounded: so many sequences, looks and epochs, and seven trainings.

use forefend_predict::learned::{Calibration, LOOKS, Lately, Lstm, hazards_after, lately_names};

use super::{Climbed, Ground, Known, Remembered, Rung, known::Pooled, pool};
use crate::{
    TrainError,
    evaluate::{split::folds, survival::Followed},
    hazard::Watched,
    levels::{Ending, Intervals},
    lstm::{self, TrainedOn},
};

/// Cells of memory that are tried, smallest first.
const SIZES: [usize; 2] = [8, 24];
/// Failures (by event) from which a memory is tried: each fold leaves a third out, and a quarter of the rest tells when to stop.
const LEAST_EVENTS: usize = 12;
/// Looks that a sequence needs to have an order worth remembering.
const LEAST_LOOKS: usize = LOOKS / 2;
/// Sequences that a network learns from at most; of more, some are left out and others count for them.
const MOST_SEQUENCES: usize = 4_000;
/// Times that all sequences are gone through at most, and how many of these may bring nothing.
const EPOCHS: usize = 14;
const PATIENCE: usize = 4;
/// Sequences in parts, one of which tells when to stop.
const PARTS: usize = 4;
/// The share of looks that may be suspects.
const MOST_SUSPECTS: f64 = 0.1;
/// The share of what the rung below loses that asking everybody must save beside asking suspects, beyond chance: it costs ten times as much.
const WORTH_ASKING: f64 = 0.05;

/// Trains the rung and says how it does; the last training is of what serves.
///
/// # Errors
/// In words, why there is none.
pub(super) fn climb(ground: &Ground<'_>) -> Result<Remembered, String> {
    is_possible(ground)?;
    let mut best: Option<(f64, usize, Vec<Option<Said>>)> = None;
    let mut trained_on = Vec::new();
    for hidden in SIZES {
        let (error, said) = out_of_fold(ground, hidden, &mut trained_on).map_err(|e| e.to_string())?;
        if best.as_ref().is_none_or(|(least, ..)| error < *least) {
            best = Some((error, hidden, said));
        }
    }
    let (_, hidden, said) = best.ok_or("there is no size to try")?;
    let in_horizon: Vec<Option<f64>> = said.iter().map(|said| Some(said.as_ref()?.in_horizon)).collect();
    let asked = Asked::choose(ground, &in_horizon)?;
    let gain = ground.known.gain(ground.blocks, ground.losses, &asked.pooled.losses);
    let taken = gain.is_some_and(|gain| gain.low > 0.0);
    let (share, brier) = (asked.pooled.share, asked.pooled.brier);
    let climbed = Climbed { rung: Rung::Lstm, share, brier, gain, taken, asked: Some(asked.of_looks) };
    let all: Vec<usize> = (0..ground.looks.marks.len()).collect();
    let (mut lstm, mut intervals) = (None, None);
    // Where it is not taken, nobody will serve it.
    if taken {
        let (fitted, _) = fit(ground, &all, hidden, &mut trained_on).map_err(|e| e.to_string())?;
        intervals = Some(asked.intervals(ground, &said).map_err(|e| e.to_string())?);
        lstm = Some(fitted.calibrated(asked.calibration));
    }
    Ok(Remembered { climbed, lstm, suspect_from: asked.from, intervals, trained_on })
}

fn is_possible(ground: &Ground<'_>) -> Result<(), String> {
    let events = ground.looks.events(ground.settings.horizon).len();
    if events < LEAST_EVENTS {
        return Err(format!(
            "{events} events with a failure are too few for a memory: {LEAST_EVENTS} are needed"
        ));
    }
    let lately = &ground.looks.lately;
    let long = lately.iter().filter(|rows| rows.len() >= LEAST_LOOKS * Lately::width()).count();
    if 2 * long < lately.len() {
        let all = lately.len();
        return Err(format!(
            "{long} of {all} windows are long enough to have an order worth remembering: give windows {LOOKS} steps or more, and look at metrics that are measured"
        ));
    }
    Ok(())
}

/// What a network said of a look that it had not learned from.
#[derive(Debug, Clone, Copy)]
struct Said {
    /// P(fail within the horizon).
    in_horizon: f64,
    /// P(fail by the end of watching); after the horizon that stays.
    by_end: f64,
}

/// When a memory is asked, and what comes of it.
struct Asked {
    /// The risk below from which on.
    from: f64,
    /// The share of looks.
    of_looks: f64,
    calibration: Calibration,
    pooled: Pooled,
}

impl Asked {
    /// Suspects, or everybody where that is so much better, beyond chance, that it is worth it.
    fn choose(ground: &Ground<'_>, said: &[Option<f64>]) -> Result<Self, String> {
        let everybody = Self::of(ground, said, 0.0).map_err(|e| e.to_string())?;
        let Some(suspects) = suspect_from(ground).and_then(|from| Self::of(ground, said, from).ok()) else {
            return Ok(everybody);
        };
        let gain = ground.known.gain(ground.blocks, &suspects.pooled.losses, &everybody.pooled.losses);
        let least = WORTH_ASKING * ground.known.mean(ground.losses);
        Ok(if gain.is_some_and(|gain| gain.low > least) { everybody } else { suspects })
    }

    fn of(ground: &Ground<'_>, said: &[Option<f64>], from: f64) -> Result<Self, TrainError> {
        let below = ground.below;
        let is_asked = |n: usize| said[n].is_some() && below[n] >= from;
        let alone: Vec<f64> = said.iter().zip(below).map(|(said, below)| said.unwrap_or(*below)).collect();
        let asked: Known = ground.known.only(is_asked);
        let calibration = asked.calibration(&alone, ground.blocks)?;
        let together = |share: f64| {
            let of = |(n, (alone, below)): (usize, (&f64, &f64))| match is_asked(n) {
                true => pool(share, calibration.apply(*alone), *below),
                false => *below,
            };
            alone.iter().zip(below).enumerate().map(of).collect()
        };
        let pooled = ground.known.best_share(together).ok_or(TrainError::NoRows)?;
        let weight = |n: &usize| f64::from(ground.looks.marks[*n].weight);
        let all: f64 = (0..below.len()).map(|n| weight(&n)).sum();
        let of_looks = (0..below.len()).filter(|n| is_asked(*n)).map(|n| weight(&n)).sum::<f64>() / all;
        Ok(Self { from, of_looks, calibration, pooled })
    }

    /// How the intervals hold of those that it is asked about, and where their curves are to be read.
    fn intervals(&self, ground: &Ground<'_>, said: &[Option<Said>]) -> Result<Intervals, TrainError> {
        let share = self.pooled.share;
        let ending = |n: usize| {
            let (said, below) = (said[n].filter(|_| ground.below[n] >= self.from)?, ground.endings[n]);
            let pooled = |alone: f64, below: f64| pool(share, self.calibration.apply(alone), below);
            let reach = pooled(said.in_horizon, below.reach);
            let level = pooled(said.by_end, below.level).min(reach);
            Some((Ending { level, reach, ..below }, ground.blocks[n]))
        };
        let (endings, blocks): (Vec<Ending>, Vec<&str>) = (0..said.len()).filter_map(ending).unzip();
        Intervals::of(&endings, &blocks)
    }
}

/// The risk below from which on no more looks are suspects than may be; `None` where already those at the highest risk are too many.
fn suspect_from(ground: &Ground<'_>) -> Option<f64> {
    let mut risks: Vec<(f64, f64)> =
        ground.below.iter().zip(&ground.looks.marks).map(|(p, mark)| (*p, f64::from(mark.weight))).collect();
    risks.sort_by(|a, b| b.0.total_cmp(&a.0));
    let most = MOST_SUSPECTS * risks.iter().map(|(_, weight)| weight).sum::<f64>();
    let (mut sum, mut from) = (0.0, None);
    for alike in risks.chunk_by(|a, b| a.0 == b.0) {
        sum += alike.iter().map(|(_, weight)| weight).sum::<f64>();
        if sum > most {
            break;
        }
        from = alike.first().map(|(p, _)| *p);
    }
    from
}

/// What networks of this size say of looks that they did not learn from, and how well they did on what told them when to stop; `None` where nothing was
/// seen lately.
fn out_of_fold(
    ground: &Ground<'_>,
    hidden: usize,
    trained_on: &mut Vec<TrainedOn>,
) -> Result<(f64, Vec<Option<Said>>), TrainError> {
    let mut said = vec![None; ground.looks.marks.len()];
    let mut errors = 0.0;
    for split in ground.splits {
        let (lstm, error) = fit(ground, &split.train, hidden, trained_on)?;
        errors += error;
        for i in &split.test {
            let Some(hazards) = hazards_after(&lstm, &ground.looks.lately[*i]) else { continue };
            let cumulative = lstm.cumulative(&hazards);
            let by_end = lstm.within(&cumulative, ground.looks.marks[*i].followed.time_s);
            said[*i] = cumulative.last().map(|in_horizon| Said { in_horizon: *in_horizon, by_end });
        }
    }
    Ok((errors, said))
}

/// A network that learned from these looks, a part of which told it when to stop, and its loss there.
fn fit(
    ground: &Ground<'_>,
    numbers: &[usize],
    hidden: usize,
    trained_on: &mut Vec<TrainedOn>,
) -> Result<(Lstm, f64), TrainError> {
    let numbers: Vec<usize> =
        numbers.iter().copied().filter(|i| !ground.looks.lately[*i].is_empty()).collect();
    let blocks: Vec<&str> = numbers.iter().map(|i| ground.blocks[*i]).collect();
    let parts = folds(&blocks, PARTS).map_err(|e| TrainError::Model { why: e.to_string() })?;
    let part = parts.first().ok_or(TrainError::NoRows)?;
    let of = |places: &[usize], most: usize| {
        sequences(ground, &places.iter().map(|place| numbers[*place]).collect::<Vec<_>>(), most)
    };
    let (learned, held_out) = (of(&part.train, MOST_SEQUENCES), of(&part.test, MOST_SEQUENCES / 2));
    let settings = lstm::Settings {
        hidden,
        epochs: EPOCHS,
        patience: PATIENCE,
        learning_rate: 1e-2,
        weight_decay: 1e-3,
        batch: 32,
        span: LOOKS,
        offset: 0.1,
        seed: ground.settings.seed,
        device: ground.settings.device,
        ..lstm::Settings::default()
    };
    let edges = super::edges(ground.settings);
    let trained = lstm::train(&learned, &held_out, &lately_names(), &edges, &settings)?;
    lstm::note(trained_on, trained.on);
    let error = trained.held_out.iter().copied().fold(f64::INFINITY, f64::min);
    Ok((trained.model, error))
}

/// A sequence each, judged at its end alone. Of more than `most`, what is near a failure keeps half of the room at least.
fn sequences(ground: &Ground<'_>, numbers: &[usize], most: usize) -> Vec<Watched> {
    let soon = 2.0 * ground.settings.horizon.as_secs_f64();
    let (near, far): (Vec<usize>, Vec<usize>) = numbers.iter().partition(|i| {
        let Followed { time_s, failed } = ground.looks.marks[**i].followed;
        failed && time_s <= soon
    });
    let near = thinned(&near, most.saturating_sub(far.len()).max(most / 2));
    let far = thinned(&far, most.saturating_sub(near.len()));
    near.into_iter().chain(far).map(|(i, counts)| sequence(ground, i, counts)).collect()
}

/// Evenly, so many at most, each with how many it stands for.
fn thinned(numbers: &[usize], most: usize) -> Vec<(usize, f32)> {
    let every = numbers.len().div_ceil(most.max(1)).max(1);
    let kept: Vec<usize> = numbers.iter().copied().skip(every / 2).step_by(every).collect();
    let counts = numbers.len() as f32 / kept.len().max(1) as f32;
    kept.into_iter().map(|i| (i, counts)).collect()
}

fn sequence(ground: &Ground<'_>, i: usize, counts: f32) -> Watched {
    let mark = &ground.looks.marks[i];
    let Followed { time_s, failed } = mark.followed;
    let rows = ground.looks.lately[i].chunks_exact(Lately::width());
    let last = rows.len().saturating_sub(1);
    let mut watched = Watched::default();
    for (n, row) in rows.enumerate() {
        let weight = if n == last { mark.weight * counts } else { 0.0 };
        watched.push(row.to_vec(), time_s.max(1e-3), failed, weight);
    }
    watched
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forefend_domain::Timestamp;

    use super::{
        super::super::{Landmark, Looks},
        *,
    };
    use crate::practice::ladder::Settings;

    const LOOKS: usize = 400;

    /// Looks of which every tenth is risky; each risky one with an even number fails, and of the others each `quiet_fails`th.
    fn looks(quiet_fails: usize) -> Looks {
        let mark = |n: usize| {
            let failed =
                if n.is_multiple_of(10) { n.is_multiple_of(20) } else { n.is_multiple_of(quiet_fails) };
            Landmark {
                cell: "a".parse().unwrap(),
                service: "shop".parse().unwrap(),
                at: Timestamp::from_unix_ms(n as u64),
                followed: Followed { time_s: if failed { 10.0 } else { 100.0 }, failed },
                block: n.to_string(),
                kind: String::new(),
                weight: 1.0,
                after_failure: false,
            }
        };
        Looks { marks: (0..LOOKS).map(mark).collect(), ..Looks::default() }
    }

    /// Who is asked when below nothing is known but who is risky, and the memory knows it all.
    fn asked(looks: &Looks, below: impl Fn(usize) -> f64) -> Asked {
        let horizon = Duration::from_secs(60);
        let settings = Settings::new(horizon, Duration::from_secs(1));
        let known = Known::of(looks, horizon).unwrap();
        let below: Vec<f64> = (0..LOOKS).map(below).collect();
        let losses = known.losses(&below);
        let blocks: Vec<&str> = looks.marks.iter().map(|mark| mark.block.as_str()).collect();
        let ground = Ground {
            looks,
            splits: &[],
            blocks: &blocks,
            known: &known,
            settings: &settings,
            below: &below,
            losses: &losses,
            endings: &[],
        };
        let said: Vec<Option<f64>> =
            looks.marks.iter().map(|mark| Some(if mark.followed.failed { 0.9 } else { 0.02 })).collect();
        Asked::choose(&ground, &said).unwrap()
    }

    #[test]
    fn suspects_are_asked_where_that_is_enough_and_everybody_where_it_is_not() {
        let risky = |n: usize| if n.is_multiple_of(10) { 0.5 } else { 0.001 };
        let enough = asked(&looks(usize::MAX), risky);
        assert_eq!((enough.from, enough.of_looks), (0.5, 0.1));
        let too_few = asked(&looks(7), risky);
        assert_eq!((too_few.from, too_few.of_looks), (0.0, 1.0));
        assert!(too_few.pooled.brier < 0.02);
        // Where below all are alike, nobody is a suspect more than others.
        assert_eq!(asked(&looks(7), |_| 0.1).from, 0.0);
    }

    #[test]
    fn those_that_are_left_stand_for_those_that_are_not() {
        let numbers: Vec<usize> = (0..103).collect();
        for most in [1, 7, 50, 103, 200] {
            let kept = thinned(&numbers, most);
            assert!(!kept.is_empty() && kept.len() <= most, "{most}: {}", kept.len());
            let counts: f32 = kept.iter().map(|(_, counts)| counts).sum();
            assert!((counts - 103.0).abs() < 1e-3, "{most}: {counts}");
        }
        assert!(thinned(&[], 5).is_empty());
    }
}
