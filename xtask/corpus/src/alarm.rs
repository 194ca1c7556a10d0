//! From windows to a shift: what a model says at each tick of an episode, and the trigger that counts it.

use std::time::Duration;

use forefend_decide::race;
use forefend_domain::{Basis, CellId, LeadTimeProfile, Policy, Prediction, Stage, Timestamp, Windows};
use forefend_predict::Predictor;
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
pub(crate) const SHIFT_AT: Alarm = Alarm { scale: 0, level: 0.6, counted: (3, 5) };
/// Ticks that must be at risk, and of how many.
pub(crate) type Counted = (usize, usize);
/// As production counts where the level follows from what is tolerated.
pub(crate) const AS_SERVED: &[Counted] = &[(1, 1)];
/// Of these the peers may choose.
pub(crate) const AS_SUITS: &[Counted] = &[(1, 1), (2, 3), (3, 5)];

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
    /// Whether the cell holds more than any that stayed well, and that is likely enough to be acted on, on each scale.
    pub(crate) exceeds: Vec<bool>,
    /// The metric that it rests on most, and where it stands.
    pub(crate) driver: String,
}

/// A model of failures, asked as production asks it: its probability within the horizon, and the race.
pub(crate) struct Model<P>(pub(crate) P);

impl<P: Predictor + Sync> Watcher for Model<P> {
    fn watch(&self, windows: &Windows, policy: &Policy) -> Option<Watch> {
        self.0.predict(windows, policy.horizon).map(|prediction| said(&prediction, policy))
    }
}

/// What a prediction comes to.
pub(crate) fn said(prediction: &Prediction, policy: &Policy) -> Watch {
    let due = race(prediction, policy, &LeadTimeProfile::default(), false).is_due();
    let due = due && prediction.basis != Basis::Prior;
    let driver = prediction.drivers.first();
    let exceeds = due && prediction.exceeds && prediction.probability >= policy.trigger.shift_at;
    Watch {
        risks: vec![if due { prediction.probability.get() } else { NOT_DUE }],
        exceeds: vec![exceeds],
        driver: driver.map(|d| format!("{}: {}", d.metric, d.detail)).unwrap_or_default(),
    }
}

/// A step of an episode, and what was said.
#[derive(Debug, Clone)]
pub(crate) struct Tick {
    pub(crate) step: u32,
    risks: Vec<f64>,
    exceeds: Vec<bool>,
    pub(crate) driver: String,
}

impl Tick {
    pub(crate) fn new(step: u32, Watch { risks, exceeds, driver }: Watch) -> Self {
        Self { step, risks, exceeds, driver }
    }

    #[cfg(test)]
    pub(crate) fn risk(&self, scale: usize) -> f64 {
        self.risks[scale]
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

/// All that a watcher says of an episode before its failure.
pub(crate) fn course(recording: &Recording, watcher: &impl Watcher, policy: &Policy) -> Vec<Tick> {
    let mut ticks = Vec::new();
    replay(recording, |step, windows| {
        ticks.extend(watcher.watch(windows, policy).map(|watch| Tick::new(step, watch)));
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

/// When traffic moves: from this risk on, on one of a watcher's scales, in so many of so many ticks; or at once, where a cell holds more than any that stayed
/// well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Alarm {
    pub(crate) scale: usize,
    pub(crate) level: f64,
    pub(crate) counted: Counted,
}

impl Alarm {
    /// The tick in which traffic first moves.
    pub(crate) fn first<'a>(&self, ticks: &'a [Tick]) -> Option<&'a Tick> {
        let at = |(tick, level): &(&Tick, f64)| *level >= self.level || tick.exceeds[self.scale];
        ticks.iter().zip(levels(ticks, self.scale, self.counted)).find(at).map(|(tick, _)| tick)
    }

    /// The alarm that warns of the most failures with enough lead, of those that are to be expected to move at most the tolerated share of
    /// what must not be moved.
    ///
    /// `still` are courses that must not be moved, `failing` those that end in a failure, each with the last instant at which a warning is still
    /// in time, in steps from the beginning. Of `n` courses, one more of the same sort is expected to be above the k-th highest with probability
    /// `k / (n + 1)`: that is what counts. The mark of each of `marks` families is such a bound as well, the highest of them all; what is beyond them here, beyond marks that only half of
    /// the courses set, is not counted.
    pub(crate) fn choose(
        still: &[Vec<Tick>],
        failing: &[(Vec<Tick>, f64)],
        tolerated: f64,
        (counted, marks): (&[Counted], usize),
    ) -> Option<Self> {
        let scales = still.iter().chain(failing.iter().map(|(ticks, _)| ticks)).flatten().next()?.risks.len();
        let place = ((tolerated * (still.len() + 1) as f64) as usize).saturating_sub(1 + marks);
        let mut best: Option<(usize, Self)> = None;
        for (scale, counted) in (0..scales).flat_map(|scale| counted.iter().map(move |c| (scale, *c))) {
            let level = level_above(still, scale, counted, place);
            let alarm = Self { scale, level, counted };
            let in_time = |(ticks, last): &&(Vec<Tick>, f64)| {
                alarm.first(ticks).is_some_and(|tick| f64::from(tick.step) <= *last)
            };
            let warned = failing.iter().filter(in_time).count();
            // Of equally good ones the last, which rests least on what was learned.
            if best.is_none_or(|(most, _)| warned >= most) {
                best = Some((warned, alarm));
            }
        }
        best.map(|(_, alarm)| alarm)
    }
}

/// The level that all but this many of the courses stay below.
fn level_above(still: &[Vec<Tick>], scale: usize, counted: Counted, but: usize) -> f64 {
    let highest = |ticks: &Vec<Tick>| levels(ticks, scale, counted).fold(NOT_DUE, f64::max);
    let mut reached: Vec<f64> = still.iter().map(highest).collect();
    reached.sort_by(|a, b| b.total_cmp(a));
    // So many may be moved; the next one must not.
    let next = reached.get(but).copied().unwrap_or(NOT_DUE);
    next.max(LEAST_LEVEL).next_up()
}

/// Nobody moves traffic for less, even where nothing speaks against it.
const LEAST_LEVEL: f64 = 0.01;

/// For each tick the highest level at which it would move traffic: enough of the newest ticks are due at that risk.
fn levels(ticks: &[Tick], scale: usize, (hits, of): Counted) -> impl Iterator<Item = f64> + '_ {
    (0..ticks.len()).map(move |now| {
        // A tick that is not due raises nothing: it is the smallest there is.
        let newest = &ticks[(now + 1).saturating_sub(of)..=now];
        let risks = || newest.iter().map(|tick| tick.risks[scale]);
        risks().filter(|risk| risks().filter(|other| other >= risk).count() >= hits).fold(NOT_DUE, f64::max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(risks: &[(f64, bool)]) -> Vec<Tick> {
        let tick = |(step, (risk, due)): (u32, &(f64, bool))| Tick {
            step,
            risks: vec![0.0, if *due { *risk } else { NOT_DUE }],
            exceeds: vec![false; 2],
            driver: String::new(),
        };
        (0..).zip(risks).map(tick).collect()
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
        let first = |level, counted| Alarm { scale: 1, level, counted }.first(&course).map(|tick| tick.step);
        assert_eq!(first(0.75, (1, 1)), Some(0));
        assert_eq!(first(0.75, (2, 3)), Some(5));
        // The tick that was not due does not count, though its risk was high.
        assert_eq!(first(0.75, (3, 5)), None);
        assert_eq!(first(0.7, (3, 5)), Some(4));
        assert!(Alarm { scale: 0, level: 0.5, counted: (1, 1) }.first(&course).is_none());
    }

    #[test]
    fn the_alarm_that_is_chosen_moves_no_more_than_is_tolerated_and_warns_in_time() {
        let still: Vec<Vec<Tick>> = [0.2, 0.9, 0.3, 0.4].map(|risk| ticks(&[(risk, true); 5])).into();
        let risks = [0.1, 0.6, 0.95, 0.95, 0.95].map(|risk| (risk, true));
        let failing = vec![(ticks(&risks), 3.0)];
        // Two of five, the new one and the one that is allowed.
        let one_in_four = Alarm::choose(&still, &failing, 0.4, (AS_SERVED, 0)).unwrap();
        assert_eq!(one_in_four.scale, 1);
        assert!(one_in_four.level > 0.4 && one_in_four.level < 0.401);
        let moved = still.iter().filter(|ticks| one_in_four.first(ticks).is_some()).count();
        assert_eq!(moved, 1);
        let none = Alarm::choose(&still, &failing, 0.0, (AS_SERVED, 0)).unwrap();
        assert!(none.level > 0.9);
        assert_eq!(Alarm::choose(&[], &[], 0.0, (AS_SUITS, 0)), None);
    }

    #[test]
    fn a_cell_that_holds_more_than_any_that_stayed_well_moves_wherever_the_level_stands() {
        let still: Vec<Vec<Tick>> = (0..20).map(|n| ticks(&[(0.04 * f64::from(n), true); 5])).collect();
        let mut course = ticks(&[(0.1, true), (0.1, true)]);
        course[1].exceeds[1] = true;
        let failing = vec![(course, 5.0)];
        let alarm = |marks| Alarm::choose(&still, &failing, 0.2, (AS_SERVED, marks)).unwrap();
        assert_eq!(alarm(1).scale, 1);
        assert_eq!(alarm(1).first(&failing[0].0).map(|tick| tick.step), Some(1));
        assert!(alarm(1).level > alarm(0).level, "what marks may move is not left to the level");
    }
}
