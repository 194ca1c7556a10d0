use std::time::Duration;

use forefend_domain::{CellId, Objective, ObjectiveState, Timestamp, ports::ProbeOutcome};
use forefend_telemetry::{ObjectiveTracker, ProbeTiming, TrafficDelta};
use proptest::prelude::*;

const OBJECTIVE: Objective = Objective {
    latency: Duration::from_millis(100),
    slow_share: 0.05,
    error_share: 0.01,
    failed_for: Duration::from_secs(2),
};
const TIMING: ProbeTiming =
    ProbeTiming { interval: Duration::from_millis(250), timeout: Duration::from_millis(500) };

/// A cell on a timeline of 250 ms ticks.
struct Story {
    tracker: ObjectiveTracker,
    cell: CellId,
    now: u64,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Well,
    Slowly,
    Not,
}

impl Story {
    fn new() -> Self {
        Self { tracker: ObjectiveTracker::new(TIMING), cell: CellId::new("shop-1").unwrap(), now: 1_000_000 }
    }

    fn tick(&mut self, probe: Option<Answer>, traffic: (u64, u64, u64)) -> ObjectiveState {
        self.now += 250;
        let at = Timestamp::from_unix_ms(self.now);
        if let Some(answer) = probe {
            let (ok, took) = match answer {
                Answer::Well => (true, 5),
                Answer::Slowly => (true, 150),
                Answer::Not => (false, 1),
            };
            let (cell, took) = (self.cell.clone(), Duration::from_millis(took));
            self.tracker.probe(&ProbeOutcome { cell, at, ok, took });
        }
        let (requests, errors, slow) = traffic;
        self.tracker.traffic(&self.cell, at, TrafficDelta { requests, errors, slow });
        self.tracker.judge(&self.cell, &OBJECTIVE, at)
    }

    fn probes(&mut self, ticks: usize, answer: Answer) -> ObjectiveState {
        (0..ticks).map(|_| self.tick(Some(answer), (0, 0, 0))).last().unwrap()
    }

    fn traffic(&mut self, ticks: usize, traffic: (u64, u64, u64)) -> ObjectiveState {
        (0..ticks).map(|_| self.tick(None, traffic)).last().unwrap()
    }
}

fn is_met(state: ObjectiveState) -> bool {
    matches!(state, ObjectiveState::Met { .. })
}

fn is_breaking(state: ObjectiveState) -> bool {
    matches!(state, ObjectiveState::Breaking { .. })
}

#[test]
fn without_data_nothing_is_known_and_silence_ends_what_was_known() {
    let mut story = Story::new();
    assert_eq!(story.tick(None, (0, 0, 0)), ObjectiveState::Unknown);
    assert!(is_met(story.probes(4, Answer::Well)));
    // Window 1 s and timeout 0.5 s after the last answer, all of it is too old.
    assert_eq!(story.traffic(7, (0, 0, 0)), ObjectiveState::Unknown);
}

#[test]
fn an_idle_cell_that_dies_breaks_then_fails_then_recovers() {
    let mut story = Story::new();
    assert!(is_met(story.probes(8, Answer::Well)));
    assert!(is_met(story.probes(1, Answer::Not)), "one refused connection is not yet a breach");
    let broken = story.probes(1, Answer::Not);
    let since = Timestamp::from_unix_ms(story.now);
    assert_eq!(broken, ObjectiveState::Breaking { since });
    assert!(is_breaking(story.probes(7, Answer::Not)));
    assert_eq!(story.probes(1, Answer::Not), ObjectiveState::Failed { since });
    // Three good of four end the breach, and then a whole window must stay good.
    assert_eq!(story.probes(6, Answer::Well), ObjectiveState::Failed { since });
    assert!(is_met(story.probes(1, Answer::Well)));
}

#[test]
fn slow_probes_break_it_like_failed_ones() {
    let mut story = Story::new();
    story.probes(4, Answer::Well);
    assert!(is_breaking(story.probes(2, Answer::Slowly)));
}

#[test]
fn a_share_of_errors_or_slow_answers_above_the_objective_breaks_it() {
    for (traffic, breaks) in [
        ((100, 0, 0), false),
        ((100, 1, 0), false),
        ((100, 2, 0), true),
        ((100, 0, 5), false),
        ((100, 0, 6), true),
    ] {
        let state = Story::new().traffic(4, traffic);
        assert_eq!(is_breaking(state), breaks, "{traffic:?}: {state:?}");
        assert_eq!(is_met(state), !breaks, "{traffic:?}: {state:?}");
    }
}

#[test]
fn a_few_requests_prove_nothing_and_probes_decide() {
    let mut story = Story::new();
    assert_eq!(story.traffic(3, (1, 1, 0)), ObjectiveState::Unknown);
    for _ in 0..3 {
        story.tick(Some(Answer::Well), (1, 1, 0));
    }
    assert!(is_met(story.tick(Some(Answer::Well), (1, 1, 0))));
}

#[test]
fn much_good_traffic_outweighs_failing_probes_and_little_does_not() {
    let mut busy = Story::new();
    let state = (0..8).map(|_| busy.tick(Some(Answer::Not), (1_000, 0, 0))).last().unwrap();
    assert!(is_met(state));
    let mut quiet = Story::new();
    let state = (0..8).map(|_| quiet.tick(Some(Answer::Not), (6, 0, 0))).last().unwrap();
    assert!(is_breaking(state));
}

#[test]
fn a_breach_that_pauses_for_less_than_a_window_goes_on() {
    let mut story = Story::new();
    story.traffic(4, (100, 0, 0));
    let broken = story.traffic(1, (100, 50, 0));
    let ObjectiveState::Breaking { since } = broken else { panic!("{broken:?}") };
    // The errors leave the window after 1 s; 0.5 s later they are back.
    assert_eq!(story.traffic(6, (100, 0, 0)), broken);
    assert_eq!(story.traffic(1, (100, 50, 0)), ObjectiveState::Breaking { since });
    assert_eq!(story.traffic(2, (100, 50, 0)), ObjectiveState::Failed { since });
}

#[test]
fn a_breach_that_ended_does_not_become_a_failure_while_recovery_is_watched() {
    let mut story = Story::new();
    story.traffic(4, (100, 0, 0));
    story.traffic(1, (100, 50, 0));
    let states: Vec<_> = (0..12).map(|_| story.traffic(1, (100, 0, 0))).collect();
    assert!(states.iter().all(|state| !state.is_failed()), "{states:?}");
    assert!(is_met(states[11]));
}

fn answers() -> impl Strategy<Value = Option<Answer>> {
    prop_oneof![Just(None), Just(Some(Answer::Well)), Just(Some(Answer::Slowly)), Just(Some(Answer::Not))]
}

proptest! {
    /// A failure follows a breach of at least `failed_for`, without unknown or met in between; and no breach is told
    /// of a cell that never did anything badly.
    #[test]
    fn failures_have_a_history(
        ticks in prop::collection::vec((answers(), 0u64..60, 0u64..3, 0u64..3), 1..120),
    ) {
        let mut story = Story::new();
        let mut breach: Option<Timestamp> = None;
        let mut any_bad = false;
        for (probe, requests, errors, slow) in ticks {
            let (errors, slow) = (errors.min(requests), slow.min(requests));
            any_bad |= errors + slow > 0 || matches!(probe, Some(Answer::Slowly | Answer::Not));
            let state = story.tick(probe, (requests, errors, slow));
            let now = Timestamp::from_unix_ms(story.now);
            match state {
                ObjectiveState::Unknown => breach = None,
                ObjectiveState::Met { since } => {
                    prop_assert!(since <= now);
                    breach = None;
                }
                ObjectiveState::Breaking { since } => {
                    prop_assert!(any_bad);
                    prop_assert_eq!(since, *breach.get_or_insert(since));
                }
                ObjectiveState::Failed { since } => {
                    prop_assert_eq!(breach, Some(since));
                    prop_assert!(now.since(since) >= OBJECTIVE.failed_for);
                }
            }
        }
    }

    /// Only bad answers, enough of them: never met.
    #[test]
    fn what_is_only_bad_is_never_met(ticks in prop::collection::vec(prop::option::of(0u64..60), 1..40)) {
        let mut story = Story::new();
        for requests in ticks {
            let requests = requests.unwrap_or(0);
            let state = story.tick(Some(Answer::Not), (requests, requests, 0));
            prop_assert!(!is_met(state));
        }
    }
}
