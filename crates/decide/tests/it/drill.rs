//! Shifts that a drill asks for, told as an operator would tell it.
//!
//! Every tick of every story is also checked against every invariant (see `support`).

use std::time::Duration;

use crate::support::{Story, bp, close, id};
use forefend_domain::{
    Basis, EntryKind, LedgerSeq, Mode, ObjectiveState, ShiftReason, ShiftRequest, Verdict, Weight,
};

/// A drill wants this much of the traffic of `north` away, for so many seconds unless it asks again.
fn asks(story: &mut Story, weight: Weight, lease_s: u64) {
    let until = Some(story.world.now + Duration::from_secs(lease_s));
    story.world.requested.insert(id("north"), ShiftRequest { weight, until, drill: true });
}

#[test]
fn it_moves_in_earned_steps_and_is_held_while_the_lease_is_renewed() {
    let mut story = Story::begin();
    asks(&mut story, Weight::FULL, 5);
    story.tick();
    assert_eq!(story.shift("north").reason, ShiftReason::Drill);
    assert!(story.events.contains(&EntryKind::ShiftBegan { cell: id("north"), reason: ShiftReason::Drill }));
    assert!(story.share("spare") <= 0.025 + 1e-9, "a canary first: {}", story.share("spare"));
    story.until("all of it is away", |s| {
        asks(s, Weight::FULL, 5);
        s.share("north") == 0.0
    });
    let seen = story.shift("north").mirrors["spare"].requests as f64;
    assert!(0.5 * (1.0 - 0.05f64.powf(1.0 / seen)) <= 0.01 + 0.000_3, "after {seen} requests");
    for _ in 0..15 {
        asks(&mut story, Weight::FULL, 5);
        story.seconds(4);
    }
    assert_eq!(story.share("north"), 0.0, "a minute on leases of five seconds");
}

#[test]
fn when_its_runner_is_killed_the_traffic_goes_home_by_itself_and_nothing_is_judged_of_it() {
    let mut story = Story::begin();
    asks(&mut story, bp(4_000), 3);
    story.ticks(2);
    story.memory.shifts.get_mut("north").unwrap().began_seq = Some(LedgerSeq(7));
    story.until("it is away", |s| close(s.share("north"), 0.3));
    // Nobody renews it, and nobody takes it back.
    let mut last = story.share("north");
    story.until("it is over", |s| {
        let now = s.share("north");
        assert!(now - last <= 0.2 * 0.5 * 0.25 + 1e-3, "from {last} to {now}: faster than the policy's rate");
        last = now;
        s.memory.shifts.is_empty()
    });
    assert!(story.tick >= 12, "not before its three seconds");
    assert_eq!((story.share("north"), story.share("spare")), (0.5, 0.0));
    let verdicts: Vec<_> = story.events.iter().filter(|e| matches!(e, EntryKind::Judged { .. })).collect();
    assert!(matches!(verdicts[..], [EntryKind::Judged { verdict: Verdict::Neutral, .. }]), "{verdicts:?}");
    story.seconds(10);
    assert_eq!(story.times_said("north", "shift-begins"), 1, "and it stays at home");
}

#[test]
fn a_cell_that_fails_in_the_middle_of_a_drill_is_failed_over() {
    let mut story = Story::begin();
    asks(&mut story, bp(1_000), 3);
    story.seconds(1);
    story.memory.shifts.get_mut("north").unwrap().began_seq = Some(LedgerSeq(7));
    story.fails("north");
    story.tick();
    assert_eq!(story.share("north"), 0.0);
    assert_eq!(story.shift("north").reason, ShiftReason::Failed);
    story.seconds(5);
    assert_eq!(
        story.share("north"),
        0.0,
        "the end of the lease does not bring traffic to a cell that has failed"
    );
    story.is_well("north");
    story.until("it is over", |s| s.memory.shifts.is_empty());
    assert!(story.events.iter().any(|e| matches!(e, EntryKind::Judged { verdict: Verdict::Neutral, .. })));
}

#[test]
fn it_gives_nothing_back_to_a_cell_that_cannot_carry() {
    let mut story = Story::begin();
    asks(&mut story, bp(4_000), 3);
    story.until("it is away", |s| close(s.share("north"), 0.3));
    let since = story.world.now;
    story.at("north").objective = ObjectiveState::Breaking { since };
    story.seconds(10);
    assert!(close(story.share("north"), 0.3));
    story.at("north").objective = ObjectiveState::Met { since };
    story.until("it is home", |s| s.memory.shifts.is_empty());
}

#[test]
fn it_does_not_override_a_freeze() {
    let mut story = Story::begin();
    story.world.frozen = true;
    asks(&mut story, Weight::FULL, 60);
    story.seconds(5);
    assert!(story.done.is_empty() && story.memory.shifts.is_empty());

    let mut story = Story::begin();
    asks(&mut story, bp(4_000), 3);
    story.until("it is away", |s| close(s.share("north"), 0.3));
    let before = story.applied().clone();
    story.world.frozen = true;
    story.seconds(10);
    assert_eq!(*story.applied(), before, "what has moved stays, whatever the lease");
    story.world.frozen = false;
    story.until("it is home", |s| s.memory.shifts.is_empty());
}

#[test]
fn an_operator_takes_it_over_and_the_lease_counts_no_more() {
    let mut story = Story::begin();
    asks(&mut story, bp(2_000), 3);
    story.until("it is away", |s| close(s.share("north"), 0.4));
    story.world.requested.insert(id("north"), ShiftRequest::of_operator(bp(2_000)));
    story.seconds(10);
    assert!(close(story.share("north"), 0.4));
    assert_eq!(story.shift("north").reason, ShiftReason::Operator);
    assert_eq!(story.times_said("north", "drill-taken-over"), 1);
}

#[test]
fn an_operators_lease_runs_out_too_and_works_in_mode_observe() {
    let mut story = Story::begin().with_policy(|policy| policy.mode = Mode::Observe);
    let until = Some(story.world.now + Duration::from_secs(3));
    story.world.requested.insert(id("north"), ShiftRequest { weight: bp(2_000), until, drill: false });
    story.until("it is away", |s| close(s.share("north"), 0.4));
    story.until("it is home", |s| s.memory.shifts.is_empty());
    assert_eq!(story.share("north"), 0.5);
}

#[test]
fn it_keeps_to_the_budgets() {
    let mut story = Story::begin()
        .with_standby("spare-2", "south", "south-b")
        .with_policy(|policy| policy.budgets.max_cells_in_motion = 1);
    story.failure_is_foreseen("south", 2.0);
    story.until("south is on its way", |s| s.share("south") < 0.5);
    asks(&mut story, Weight::FULL, 60);
    story.seconds(10);
    assert!(close(story.share("north"), 0.5));
    assert_eq!(story.shift("north").bound_by, "budget");
}

#[test]
fn a_failure_that_is_foreseen_when_the_drill_ends_keeps_the_traffic_away() {
    let mut story = Story::begin();
    asks(&mut story, Weight::FULL, 4);
    story.until("all of it is away", |s| {
        asks(s, Weight::FULL, 4);
        s.share("north") == 0.0
    });
    story.is_predicted("north", 0.9, Some(1.0), Basis::FirstPassage);
    story.seconds(10);
    assert_eq!(story.share("north"), 0.0);
    assert_eq!(story.shift("north").reason, ShiftReason::Predicted);
}
