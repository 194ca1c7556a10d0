//! From windows to a shift: what a model says at each tick of an episode, and the trigger that counts it.

use std::time::Duration;

use forefend_decide::race;
use forefend_domain::{Basis, CellId, LeadTimeProfile, Policy, Prediction, Stage, Timestamp, Windows};
use forefend_predict::{DayZero, Predictor, learned::Stacked};
use forefend_telemetry::{SeriesStore, StoreOptions};

use crate::{
    episode::Recording,
    outcome::{STEP, instant},
};

/// The warning that is asked for, in seconds: twice what a shift takes in the demo's topology, the 95th percentile of twelve (2.5 to 3.0 s
/// from the decision until all of the traffic was away). A shift is no faster where failures are compressed.
pub(crate) const LEAD_S: f64 = 6.0;
/// How far ahead models are asked to look.
pub(crate) const HORIZON: Duration = Duration::from_secs(30);
/// What counting to three ticks takes, and a little.
const MARGIN: Duration = Duration::from_secs(2);
/// The model of the first day moves traffic from this probability within the horizon on.
pub(crate) const SHIFT_AT: Alarm = Alarm { scale: WITHIN_S.len() - 1, level: 0.6 };
/// Times within which a failure is asked for. A threshold is set on one of them.
pub(crate) const WITHIN_S: [f64; 5] = [4.0, 7.0, 10.0, 15.0, 30.0];

/// Something that watches a cell and says how much it is at risk.
pub(crate) trait Watcher: Sync {
    /// What it says of the windows; `None`: nothing.
    fn watch(&self, windows: &Windows, policy: &Policy) -> Option<Watch>;
}

/// The risk where it is not yet time to act, however likely a failure is.
pub(crate) const NOT_DUE: f64 = f64::NEG_INFINITY;

/// What a watcher says.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// One on each scale that the watcher has; a threshold is set on one of them. [`NOT_DUE`] where it is not yet time to act.
    pub(crate) risks: Vec<f64>,
    /// The metric that it rests on most, and where it stands.
    pub(crate) driver: String,
}

/// A model of failures, asked as production asks it: its probabilities on the scales of [`WITHIN_S`], and the race.
pub(crate) struct Model<P>(pub(crate) P);

impl<P: Predictor + Sync> Watcher for Model<P> {
    fn watch(&self, windows: &Windows, policy: &Policy) -> Option<Watch> {
        self.0.predict(windows, policy.horizon).map(|prediction| said(&prediction, policy))
    }
}

/// What a prediction comes to.
fn said(prediction: &Prediction, policy: &Policy) -> Watch {
    let due = race(prediction, policy, &LeadTimeProfile::default(), false).is_due();
    let due = due && prediction.basis != Basis::Prior;
    let driver = prediction.drivers.first();
    Watch {
        risks: WITHIN_S.iter().map(|t| if due { within(prediction, *t) } else { NOT_DUE }).collect(),
        driver: driver.map(|d| format!("{}: {}", d.metric, d.detail)).unwrap_or_default(),
    }
}

/// A model that learned, beside the model of the first day: with each of these shares of what was learned.
pub(crate) struct Stacks<P> {
    pub(crate) learned: P,
    pub(crate) shares: &'static [f64],
}

impl<P: Predictor + Sync> Watcher for Stacks<P> {
    fn watch(&self, windows: &Windows, policy: &Policy) -> Option<Watch> {
        let learned = self.learned.predict(windows, policy.horizon)?;
        let first_day = DayZero::default().predict(windows, policy.horizon)?;
        let pooled =
            self.shares.iter().map(|s| Stacked::pool(*s, learned.clone(), &first_day, policy.horizon));
        pooled.map(|prediction| said(&prediction, policy)).reduce(|mut all, next| {
            all.risks.extend(next.risks);
            all
        })
    }
}

/// P(fail ≤ t), read off the curve of a prediction.
fn within(prediction: &Prediction, t_s: f64) -> f64 {
    let curve = &prediction.curve;
    let i = curve.partition_point(|(t, _)| *t < t_s);
    match (i.checked_sub(1).map(|before| curve[before]), curve.get(i)) {
        (Some((t0, p0)), Some((t1, p1))) => p0 + (p1 - p0) * (t_s - t0) / (t1 - t0),
        (None, Some((t1, p1))) => p1 * t_s / t1,
        (Some((_, last)), None) => last,
        (None, None) => prediction.probability.get(),
    }
}

/// A step of an episode, and what was said.
#[derive(Debug, Clone)]
pub(crate) struct Tick {
    pub(crate) step: u32,
    risks: Vec<f64>,
    pub(crate) driver: String,
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

/// All that a watcher says of an episode before its failure.
pub(crate) fn course(recording: &Recording, watcher: &impl Watcher, policy: &Policy) -> Vec<Tick> {
    let mut ticks = Vec::new();
    replay(recording, |step, windows| {
        if let Some(Watch { risks, driver }) = watcher.watch(windows, policy) {
            ticks.push(Tick { step, risks, driver });
        }
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

/// When traffic moves: from this risk on, on one of a watcher's scales, counted over ticks as the policy says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Alarm {
    pub(crate) scale: usize,
    pub(crate) level: f64,
}

impl Alarm {
    /// The tick in which traffic first moves.
    pub(crate) fn first<'a>(&self, ticks: &'a [Tick], policy: &Policy) -> Option<&'a Tick> {
        let at = levels(ticks, self.scale, policy).position(|level| level >= self.level)?;
        ticks.get(at)
    }

    /// The alarm that warns of the most failures with enough lead, of those that move at most the tolerated share of what must not be
    /// moved.
    ///
    /// `still` are courses that must not be moved, `failing` those that end in a failure so many steps from the beginning, of which only
    /// what comes at least `lead` steps before counts.
    pub(crate) fn choose(
        still: &[Vec<Tick>],
        failing: &[(Vec<Tick>, u32)],
        lead: u32,
        tolerated: f64,
        policy: &Policy,
    ) -> Option<Self> {
        let scales = still.iter().chain(failing.iter().map(|(ticks, _)| ticks)).flatten().next()?.risks.len();
        let highest = |ticks: &[Tick], scale: usize| levels(ticks, scale, policy).fold(NOT_DUE, f64::max);
        let alarms = (0..scales).map(|scale| {
            let mut reached: Vec<f64> = still.iter().map(|ticks| highest(ticks, scale)).collect();
            reached.sort_by(|a, b| b.total_cmp(a));
            // So many may be moved; the next one must not.
            let next = reached.get((reached.len() as f64 * tolerated) as usize);
            let level = next.copied().unwrap_or(NOT_DUE).max(LEAST_LEVEL).next_up();
            let alarm = Self { scale, level };
            let warned = failing.iter().filter(|(ticks, failed)| {
                alarm.first(ticks, policy).is_some_and(|tick| tick.step + lead <= *failed)
            });
            (warned.count(), alarm)
        });
        alarms.max_by_key(|(warned, _)| *warned).map(|(_, alarm)| alarm)
    }
}

/// Nobody moves traffic for less, even where nothing speaks against it.
const LEAST_LEVEL: f64 = 0.01;

/// For each tick the highest level at which it would move traffic: enough of the newest ticks are due at that risk.
fn levels<'a>(ticks: &'a [Tick], scale: usize, policy: &Policy) -> impl Iterator<Item = f64> + 'a {
    let (hits, of) = (policy.trigger.hits.max(1) as usize, policy.trigger.of_ticks.max(1) as usize);
    (0..ticks.len()).map(move |now| {
        // A tick that is not due raises nothing: it is the smallest there is.
        let newest = &ticks[(now + 1).saturating_sub(of)..=now];
        let mut risks: Vec<f64> = newest.iter().map(|tick| tick.risks[scale]).collect();
        risks.sort_by(|a, b| b.total_cmp(a));
        risks.get(hits - 1).copied().unwrap_or(NOT_DUE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(risks: &[(f64, bool)]) -> Vec<Tick> {
        let tick = |(step, (risk, due)): (u32, &(f64, bool))| Tick {
            step,
            risks: vec![0.0, if *due { *risk } else { NOT_DUE }],
            driver: String::new(),
        };
        (0..).zip(risks).map(tick).collect()
    }

    fn counting(hits: u32, of_ticks: u32) -> Policy {
        let mut policy = policy(5.0);
        (policy.trigger.hits, policy.trigger.of_ticks) = (hits, of_ticks);
        policy
    }

    #[test]
    fn traffic_moves_with_the_last_of_enough_ticks_that_are_due() {
        let course = ticks(&[
            (0.9, true),
            (0.1, true),
            (0.9, false),
            (0.8, true),
            (0.7, true),
            (0.9, true),
            (0.2, true),
        ]);
        let first =
            |level, policy: &Policy| Alarm { scale: 1, level }.first(&course, policy).map(|tick| tick.step);
        assert_eq!(first(0.75, &counting(1, 1)), Some(0));
        assert_eq!(first(0.75, &counting(2, 3)), Some(5));
        // The tick that was not due does not count, though its risk was high.
        assert_eq!(first(0.75, &counting(3, 5)), None);
        assert_eq!(first(0.7, &counting(3, 5)), Some(4));
        assert_eq!(Alarm { scale: 0, level: 0.5 }.first(&course, &counting(1, 1)).map(|t| t.step), None);
    }

    #[test]
    fn the_alarm_that_is_chosen_moves_no_more_than_is_tolerated_and_warns_in_time() {
        let policy = counting(1, 1);
        let still: Vec<Vec<Tick>> = [0.2, 0.9, 0.3, 0.4].map(|risk| ticks(&[(risk, true)])).into();
        let failing = vec![(ticks(&[(0.1, true), (0.6, true), (0.95, true)]), 5u32)];
        let one_in_four = Alarm::choose(&still, &failing, 2, 0.25, &policy).unwrap();
        assert_eq!(one_in_four.scale, 1);
        assert!(one_in_four.level > 0.4 && one_in_four.level < 0.401);
        let moved = still.iter().filter(|ticks| one_in_four.first(ticks, &policy).is_some()).count();
        assert_eq!(moved, 1);
        let none = Alarm::choose(&still, &failing, 2, 0.0, &policy).unwrap();
        assert!(none.level > 0.9);
        assert_eq!(Alarm::choose(&[], &[], 2, 0.0, &policy), None);
    }
}
