//! Mirrors are tried with a little real traffic before they are needed, told as an operator would tell it.
//!
//! Every tick of every story is also checked against every invariant (see `support`).

use crate::support::{SOON_S, Story, bp, id, p, per_second};
use forefend_domain::{Basis, CellHealth, Effect, EntryKind, PreTestPolicy, Weight};

/// Half of what shifts: not yet acted on.
pub(crate) const RISING: f64 = 0.35;

/// At most 1% of a cell's traffic, from a probability of 10% on; traffic moves at 60%.
pub(crate) fn trying() -> Story {
    Story::begin().with_policy(|policy| policy.pre_test = PreTestPolicy { cap: bp(100), from: p(0.1) })
}

pub(crate) fn rises(story: &mut Story, name: &str, probability: f64) {
    story.is_predicted(name, probability, Some(60.0), Basis::FirstPassage);
}

pub(crate) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.000_15
}

/// The share of its home traffic that a cell's pre-test has.
pub(crate) fn tried(story: &Story, name: &str) -> Weight {
    story.memory.pre_tests.get(name).map_or(Weight::ZERO, |test| test.share)
}

// ── begin and grow ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_share_grows_with_the_risk_up_to_the_cap() {
    let mut story = trying();
    rises(&mut story, "north", 0.09);
    story.seconds(2);
    assert_eq!(story.moves(), 0, "below `from` nothing is tried");
    let mut shares = Vec::new();
    for probability in [0.1, 0.12, RISING, 0.5, 0.59, 0.6, 0.99] {
        rises(&mut story, "north", probability);
        story.seconds(1);
        shares.push(tried(&story, "north").bp());
        let away = f64::from(*shares.last().unwrap()) / 10_000.0 * 0.5;
        assert!(close(story.share("spare"), away), "{} of the service", story.share("spare"));
        assert!(close(story.share("south"), 0.5), "nobody else's users moved");
    }
    assert_eq!(shares, [1, 1, 50, 80, 90, 100, 100], "in tenths of the cap");
    assert_eq!(story.times_said("north", "pre-test-begins"), 1);
    assert_eq!(story.moves(), 5, "one for each share");
    // It is no shift.
    assert!(story.memory.shifts.is_empty());
    assert!(!story.events.iter().any(|e| matches!(e, EntryKind::ShiftBegan { .. })), "{:?}", story.events);
}

#[test]
fn a_prior_may_try_a_mirror_and_makes_none() {
    let mut story = trying();
    story.is_predicted("north", RISING, None, Basis::Prior);
    story.seconds(2);
    assert_eq!(tried(&story, "north"), bp(50));
    assert!(story.memory.shifts.is_empty());

    let mut story = trying();
    story.at("spare").parked = true;
    story.at("south").capacity = Some(per_second(100.0));
    story.is_predicted("north", RISING, None, Basis::Prior);
    story.seconds(2);
    assert!(story.done.is_empty(), "no mirror is ready, and a prior readies none: {:?}", story.done);
}

#[test]
fn it_waits_for_a_mirror_that_is_made_ready() {
    let mut story = trying();
    story.at("spare").parked = true;
    story.at("south").capacity = Some(per_second(100.0));
    rises(&mut story, "north", RISING);
    story.tick();
    assert_eq!(story.last.plan.effects, [Effect::Unpark { cell: id("spare") }]);
    story.tick();
    assert_eq!(tried(&story, "north"), bp(50));
}

#[test]
fn without_evidence_it_gets_no_more_than_a_first_cohort() {
    let mut story = trying().with_policy(|policy| {
        policy.pre_test.cap = bp(1_000);
        policy.canary.first = bp(200);
    });
    rises(&mut story, "north", 0.59);
    story.tick();
    assert_eq!(tried(&story, "north"), bp(200), "on the strength of the passport alone");
    story.until("it has earned all of it", |s| tried(s, "north") == bp(900));
    let seen = story.memory.pre_tests["north"].evidence.requests as f64;
    assert!(0.09 * 0.5 * (1.0 - 0.05f64.powf(1.0 / seen)) <= 0.01, "after {seen} requests");
}

#[test]
fn it_gets_no_more_than_the_mirror_has_to_spare() {
    let mut story = trying().without_blueprint();
    story.at("south").health = CellHealth::Down;
    story.at("spare").passport.as_mut().unwrap().measured_capacity = Some(per_second(2.5));
    rises(&mut story, "north", 0.59);
    story.seconds(2);
    // 2.5/s less 20% are 0.002 of the service, 40 bp of half of it.
    assert_eq!(tried(&story, "north"), bp(40));
    story.at("spare").passport.as_mut().unwrap().measured_capacity = Some(per_second(0.0));
    story.tick();
    assert_eq!(story.share("spare"), 0.0);
    assert_eq!(story.times_said("north", "pre-test-ends"), 1);
}

#[test]
fn the_mirror_is_the_one_that_a_shift_would_choose() {
    let mut story = trying().with_standby("a-first-by-name", "south", "south-b");
    rises(&mut story, "north", RISING);
    story.tick();
    assert_eq!(story.memory.pre_tests["north"].mirror, id("spare"), "of its own region, in another zone");
    story.failure_is_foreseen("north", SOON_S);
    story.until("all of it is away", |s| s.share("north") == 0.0);
    assert!(close(story.share("spare"), 0.5));
}

// ── the shift that follows ──────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_shift_begins_with_what_was_earned_and_never_steps_back() {
    let mut story = trying();
    rises(&mut story, "north", 0.59);
    story.seconds(20);
    let earned = story.memory.pre_tests["north"].evidence;
    assert!(earned.requests >= 80, "{earned:?}");
    story.failure_is_foreseen("north", SOON_S);
    story.until("the shift has begun", |s| s.memory.shifts.contains_key("north"));
    assert!(story.memory.pre_tests.is_empty(), "it is the shift's now");
    assert_eq!(story.times_said("north", "pre-test-ends"), 1);
    let seen = story.shift("north").mirrors["spare"];
    assert!(seen.requests > earned.requests, "{seen:?} after {earned:?}");
    let (mut share, mut total) = (story.share("spare"), seen.requests);
    assert!(share >= 0.005, "real users were served before, and still are: {share}");
    story.until("all of it is away", |s| {
        assert!(s.share("spare") >= share, "from {share} back to {}", s.share("spare"));
        share = s.share("spare");
        let now = s.shift("north").mirrors["spare"].requests;
        let new = s.service().cells["spare"].traffic.since_last.unwrap().requests;
        assert!(now - total <= new, "{new} answers counted as {}", now - total);
        total = now;
        s.share("north") == 0.0
    });
}

#[test]
fn a_share_between_two_steps_is_kept_when_the_shift_begins() {
    let mut story = trying().with_policy(|policy| {
        policy.pre_test.cap = bp(1_000);
        policy.canary.first = bp(200);
        policy.canary.steps = vec![bp(2_500), Weight::FULL];
    });
    rises(&mut story, "north", 0.6);
    story.until("it has its cap", |s| tried(s, "north") == bp(1_000));
    // Nobody comes any more, so nothing more is earned.
    story.users_per_s = 0.0;
    story.at("spare").capacity = Some(per_second(200.0));
    story.failure_is_foreseen("north", SOON_S);
    story.ticks(4);
    assert!(story.shift("north").target >= bp(1_000), "{}", story.shift("north").target);
    assert!(story.share("spare") >= 0.05 - 1e-4);
}

#[test]
fn a_failure_ends_the_trying_and_moves_everything_at_once() {
    let mut story = trying();
    rises(&mut story, "north", RISING);
    story.seconds(1);
    story.fails("north");
    story.tick();
    assert_eq!(story.share("north"), 0.0);
    assert!(story.memory.pre_tests.is_empty());
}

#[test]
fn two_cells_that_are_tried_do_not_hold_up_each_others_shifts() {
    let mut story = trying()
        .with_standby("spare-2", "south", "south-b")
        .with_policy(|policy| policy.budgets.max_cells_in_motion = 1);
    for name in ["north", "south"] {
        rises(&mut story, name, 0.59);
    }
    story.seconds(20);
    assert_eq!((tried(&story, "north"), tried(&story, "south")), (bp(90), bp(90)), "both at once: no shifts");
    for name in ["north", "south"] {
        story.failure_is_foreseen(name, SOON_S);
    }
    story.until("one of them is away", |s| s.share("north") == 0.0);
    story.seconds(5);
    assert_eq!(story.shift("south").bound_by, "budget");
    assert!(close(story.share("south"), 0.5 * 0.99), "what was tried stays: {}", story.share("south"));
    story.nothing_is_foreseen("north");
    story.until("then the other", |s| s.share("south") == 0.0);
}

#[test]
fn what_was_tried_stays_though_its_reading_back_is_off_by_a_rounding() {
    // 1% of 0.6235 is 62.35 bp of a region: what is read back is 99 bp of the cell's traffic, less than any step.
    let mut story = trying()
        .with_standby("spare-2", "north", "north-b")
        .with_home(&[("north", 0.3765), ("south", 0.6235)])
        .with_policy(|policy| policy.budgets.max_cells_in_motion = 1);
    for name in ["north", "south"] {
        rises(&mut story, name, 0.6);
    }
    story.seconds(5);
    let before = story.share("spare-2");
    assert!(before > 0.006, "{before}");
    for name in ["north", "south"] {
        story.failure_is_foreseen(name, SOON_S);
    }
    for _ in 0..80 {
        story.tick();
        assert!(story.share("spare-2") >= before - 1e-4, "from {before} back to {}", story.share("spare-2"));
    }
    assert_eq!(story.shift("south").bound_by, "budget");
    assert!(story.shift("south").moved < bp(100), "{}", story.shift("south").moved);
}
