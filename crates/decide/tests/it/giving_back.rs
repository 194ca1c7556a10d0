//! How traffic goes home, told as an operator would tell it.
//!
//! Every tick of every story is also checked against every invariant (see `support`).

use forefend_domain::{CellHealth, EntryKind, ObjectiveState, Verdict};

use crate::support::{SOON_S, Story};

#[test]
fn a_mirror_that_is_surely_bad_gives_everything_back_and_the_cell_is_left_alone() {
    let mut story = Story::begin();
    story.at("south").health = CellHealth::Down;
    story.answers_badly("spare", 0.3);
    story.failure_is_foreseen("north", SOON_S);
    story.until("it is rolled back", |s| s.times_said("north", "rolled-back") > 0);
    assert_eq!(story.share("spare"), 0.0, "at once");
    let rolled_back = story.tick;
    assert_eq!(story.times_said("north", "mirror-rejected"), 1);
    assert!(story.rejected("spare", "north") == 1 && story.rejected("south", "north") == 0);
    story.seconds(9);
    assert_eq!(story.times_said("north", "shift-begins"), 1, "it rests, though the trigger holds");
    story.answers_badly("spare", 0.0);
    story.until("it tries again", |s| s.times_said("north", "shift-begins") == 2);
    assert!(story.tick - rolled_back >= 40, "after the 10 s of the policy");
}

#[test]
fn a_resting_cell_that_fails_is_helped_at_once() {
    let mut story = Story::begin();
    story.at("south").health = CellHealth::Down;
    story.answers_badly("spare", 0.3);
    story.failure_is_foreseen("north", SOON_S);
    story.until("it is rolled back", |s| s.times_said("north", "rolled-back") > 0);
    story.seconds(1);
    story.fails("north");
    story.ticks(2);
    assert_eq!(story.share("north"), 0.0, "30% bad answers are better than none good");
}

#[test]
fn traffic_goes_home_gradually_and_ends_at_exactly_zero() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("all of it is away", |s| s.share("north") == 0.0);
    story.ticks(2);
    story.nothing_is_foreseen("north");
    let began = story.tick;
    let mut last = story.share("north");
    let mut steps = 0;
    story.until("it is over", |s| {
        let now = s.share("north");
        assert!(now >= last - 1e-9, "never away again");
        // 20% per second of half of the traffic, and a tick is a quarter of a second: 2.5% of the service.
        assert!(now - last <= 0.026, "{last} to {now} in one tick");
        steps += u32::from(now > last);
        last = now;
        s.memory.shifts.is_empty()
    });
    assert!(steps >= 15, "{steps} steps");
    // Two seconds well, then five seconds of return.
    assert!(story.tick - began >= 26, "{} ticks", story.tick - began);
    assert_eq!(story.share("spare"), 0.0);
    assert_eq!(story.share("north"), 0.5);
    assert_eq!(story.times_said("north", "returned"), 1);
}

#[test]
fn trouble_on_the_way_home_turns_it_round() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("all of it is away", |s| s.share("north") == 0.0);
    story.nothing_is_foreseen("north");
    story.until("half is home", |s| s.share("north") >= 0.25);
    story.fails("north");
    story.ticks(2);
    assert_eq!(story.share("north"), 0.0);
    assert!(story.shift("north").outbound);
}

#[test]
fn a_cell_that_cannot_carry_gets_nothing_back() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("all of it is away", |s| s.share("north") == 0.0);
    story.nothing_is_foreseen("north");
    story.until("some is home", |s| s.share("north") > 0.1);
    let since = story.world.now;
    story.at("north").objective = ObjectiveState::Breaking { since };
    story.tick();
    let held = story.share("north");
    story.seconds(5);
    assert_eq!(story.share("north"), held, "it holds while nobody knows");
}

#[test]
fn noise_around_the_threshold_does_not_flap() {
    let mut story = Story::begin();
    for i in 0..240 {
        if i % 2 == 0 {
            story.failure_is_foreseen("north", SOON_S);
        } else {
            story.nothing_is_foreseen("north");
        }
        story.tick();
    }
    assert_eq!(story.times_said("north", "shift-begins"), 1, "{:?}", story.said);
    assert!(story.times_said("north", "return-begins") <= 1);
    assert!(story.moves() < 60, "{} changes of weights in a minute", story.moves());
}

#[test]
fn a_false_alarm_at_the_canary_makes_it_rest() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("the canary is out", |s| s.share("spare") > 0.0);
    story.memory.shifts.get_mut("north").unwrap().began_seq = Some(forefend_domain::LedgerSeq(7));
    // No more users: nothing can be earned, and so less than half ever moves.
    story.users_per_s = 0.0;
    story.nothing_is_foreseen("north");
    story.until("it is over", |s| s.memory.shifts.is_empty());
    assert!(story.events.iter().any(|e| matches!(e, EntryKind::Judged { verdict: Verdict::FalseAlarm, .. })));
    story.failure_is_foreseen("north", SOON_S);
    story.seconds(9);
    assert!(story.memory.shifts.is_empty(), "it is in its refractory time");
    story.seconds(2);
    assert!(!story.memory.shifts.is_empty());
}
