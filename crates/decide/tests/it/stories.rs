//! What the decision does, told as an operator would tell it.
//!
//! Every tick of every story is also checked against every invariant (see `support`).

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod support;

use std::time::Duration;

use forefend_domain::{
    Basis, BlueprintName, CellHealth, CellRole, DataGateView, Effect, EntryKind, LifeState, Mode,
    ObjectiveState, ReliefPolicy, ShiftReason, ShiftRequest, Verdict, Weight,
};
use support::{Story, bp, id, per_second};

/// Nearer than a shift to a ready mirror takes: the race is due.
const SOON_S: f64 = 2.0;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.000_3
}

// ── moving away ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_foreseen_failure_moves_traffic_in_steps_and_each_step_is_earned() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    let mut shares = vec![0.0];
    story.until("all of it is away", |s| {
        let now = s.share("spare");
        if now > shares[shares.len() - 1] {
            shares.push(now);
            // The 95% upper bound of a bad share of which none was seen in n requests is 1 − 0.05^(1/n).
            let seen = s.shift("north").mirrors["spare"].requests as f64;
            let harm = now * (1.0 - 0.05f64.powf(1.0 / seen.max(1.0)));
            assert!(now <= 0.025 || harm <= 0.01 + 0.000_3, "{now} after {seen} requests");
        }
        s.share("north") == 0.0
    });
    assert_eq!(shares, [0.0, 0.025, 0.125, 0.25, 0.5], "the policy's steps of half of the traffic");
    assert!(close(story.share("south"), 0.5), "nobody else's users moved");
    assert_eq!(story.times_said("north", "canary"), 1);
}

#[test]
fn the_trigger_must_hold_in_enough_ticks_before_anything_moves() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.tick();
    assert!(story.memory.shifts.is_empty(), "one tick of three is noise");
    story.nothing_is_foreseen("north");
    story.ticks(3);
    story.failure_is_foreseen("north", SOON_S);
    story.tick();
    assert!(story.memory.shifts.is_empty(), "the old hit has been forgotten");
    story.tick();
    assert_eq!(story.shift("north").reason, ShiftReason::Predicted);
}

#[test]
fn without_telemetry_nothing_begins_and_that_is_said_once() {
    let mut story = Story::begin();
    story.tick();
    story.blind.push("north");
    story.failure_is_foreseen("north", SOON_S);
    story.seconds(10);
    // Until the newest telemetry is older than the policy tolerates it is still telemetry: the shift may begin then.
    assert_eq!(story.times_said("north", "held-stale"), 1);

    let mut story = Story::begin();
    story.at("north").telemetry_at = None;
    story.blind.push("north");
    story.failure_is_foreseen("north", SOON_S);
    story.seconds(10);
    assert_eq!(story.moves(), 0);
    assert!(story.memory.shifts.is_empty());
    story.blind.clear();
    story.tick();
    story.blind.push("north");
    story.seconds(10);
    assert_eq!(story.times_said("north", "held-stale"), 1, "once per silence, not once per tick");
}

#[test]
fn a_prior_never_moves_traffic_however_high() {
    let mut story = Story::begin();
    story.is_predicted("north", 0.99, Some(0.1), Basis::Prior);
    story.seconds(10);
    assert_eq!(story.moves(), 0);
    assert!(story.done.is_empty(), "nor does it make cells: {:?}", story.done);
}

#[test]
fn while_there_is_time_it_waits_and_says_how_much() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", 30.0);
    story.seconds(5);
    assert_eq!(story.moves(), 0);
    // 30 s less 1.5 s of the stages that a ready mirror still needs and 1 s of margin.
    assert!(close(story.last.plan.race_margin_s["north"], 27.5));
    story.failure_is_foreseen("north", 2.4);
    story.ticks(3);
    assert!(story.share("spare") > 0.0, "now it is due");
}

#[test]
fn making_a_mirror_counts_in_the_race() {
    let mut story = Story::without_standby();
    story.failure_is_foreseen("north", 30.0);
    // The other primary has room for all of it at first, so no cell would have to be made …
    story.tick();
    assert!(close(story.last.plan.race_margin_s["north"], 27.5));
    // … and then it has not.
    story.at("south").capacity = Some(per_second(100.0));
    story.service().service.mirror_blueprint = None;
    story.tick();
    assert!(close(story.last.plan.race_margin_s["north"], 26.5), "create and warm up come on top");
}

#[test]
fn a_closed_data_gate_keeps_all_traffic_at_home() {
    let mut story = Story::begin().without_blueprint();
    for name in ["spare", "south"] {
        story.at(name).data = DataGateView { open: false, lag: None, why: "lag unknown".into() };
    }
    story.failure_is_foreseen("north", SOON_S);
    story.seconds(10);
    assert_eq!(story.moves(), 0);
    assert_eq!(story.shift("north").bound_by, "data");
    story.at("spare").data.open = true;
    story.seconds(1);
    assert!(story.share("spare") > 0.0, "it goes on when the gate opens");
}

#[test]
fn a_gate_that_closes_in_the_middle_brings_the_traffic_home() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("half is away", |s| s.share("north") <= 0.25);
    for name in ["spare", "south"] {
        story.at(name).data.open = false;
    }
    story.tick();
    assert_eq!(story.share("spare"), 0.0);
}

#[test]
fn a_mirror_of_unknown_capacity_gets_the_canary_and_no_more() {
    let mut story = Story::begin().without_blueprint().with_policy(|p| p.capacity_per_cell = None);
    story.at("spare").passport.as_mut().unwrap().measured_capacity = None;
    story.at("south").health = CellHealth::Down;
    story.failure_is_foreseen("north", SOON_S);
    story.seconds(20);
    assert!(close(story.share("spare"), 0.025), "{}", story.share("spare"));
    story.fails("north");
    story.ticks(2);
    assert!(close(story.share("spare"), 0.5), "for a cell that has failed anything is better than errors");
}

#[test]
fn what_one_mirror_cannot_carry_is_spread_over_several() {
    let mut story = Story::begin().with_standby("spare-2", "south", "south-b");
    for name in ["spare", "spare-2"] {
        // 320 of 1 000 requests per second after the headroom.
        story.at(name).passport.as_mut().unwrap().measured_capacity = Some(per_second(400.0));
    }
    story.failure_is_foreseen("north", SOON_S);
    story.until("all of it is away", |s| s.share("north") == 0.0);
    assert!(story.share("spare") <= 0.32 + 1e-3 && story.share("spare-2") <= 0.32 + 1e-3);
    assert!(close(story.share("spare") + story.share("spare-2"), 0.5));
}

#[test]
fn a_secondary_can_be_the_mirror() {
    let mut story = Story::without_standby()
        .with_cell("second", "north", "north-b", CellRole::Secondary)
        .with_home(&[("north", 0.5), ("south", 0.5), ("second", 0.0)]);
    story.failure_is_foreseen("north", SOON_S);
    story.until("all of it is away", |s| s.share("north") == 0.0);
    assert!(close(story.share("second"), 0.5));
    assert!(story.created().is_empty());
}

#[test]
fn a_secondary_with_traffic_of_its_own_is_covered_like_a_primary() {
    let mut story = Story::begin().with_cell("second", "north", "north-b", CellRole::Secondary).with_home(&[
        ("north", 0.4),
        ("south", 0.4),
        ("second", 0.2),
    ]);
    story.failure_is_foreseen("second", SOON_S);
    story.until("all of it is away", |s| s.share("second") == 0.0);
    assert!(close(story.share("south") + story.share("spare") + story.share("north"), 1.0));
    assert_eq!(story.shift("second").reason, ShiftReason::Predicted);
}

#[test]
fn a_mirror_that_is_itself_at_risk_is_not_chosen() {
    let mut story = Story::begin();
    story.failure_is_foreseen("spare", 8.0);
    story.failure_is_foreseen("north", SOON_S);
    story.until("something is away", |s| s.share("north") < 0.5);
    assert_eq!(story.share("spare"), 0.0);
}

// ── budgets ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn no_more_cells_are_in_motion_than_the_policy_permits() {
    let mut story = Story::begin()
        .with_standby("spare-2", "south", "south-b")
        .with_policy(|p| p.budgets.max_cells_in_motion = 1);
    story.failure_is_foreseen("north", SOON_S);
    story.failure_is_foreseen("south", SOON_S);
    for _ in 0..60 {
        story.tick();
        let away = ["north", "south"].iter().filter(|c| story.share(c) < 0.499).count();
        assert!(away <= 1, "{away} cells are in motion");
    }
    assert_eq!(story.share("north"), 0.0);
    assert_eq!(story.shift("south").bound_by, "budget");
}

#[test]
fn no_more_weight_is_in_motion_than_the_policy_permits() {
    let mut story = Story::begin()
        .with_standby("spare-2", "south", "south-b")
        .with_policy(|p| p.budgets.max_weight_in_motion = bp(3_000));
    story.failure_is_foreseen("north", SOON_S);
    story.failure_is_foreseen("south", SOON_S);
    for _ in 0..80 {
        story.tick();
        let away = 1.0 - story.share("north") - story.share("south");
        assert!(away <= 0.3 + 1e-3, "{away} is away");
    }
    assert!(story.share("north") < 0.5);
}

#[test]
fn a_mirror_stands_in_for_one_cell_only() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.failure_is_foreseen("south", SOON_S);
    for _ in 0..80 {
        story.tick();
        let carriers: Vec<_> = story.memory.shifts.values().flat_map(|s| s.carriers.iter()).collect();
        let distinct: std::collections::BTreeSet<_> = carriers.iter().collect();
        assert_eq!(carriers.len(), distinct.len(), "claimed twice: {carriers:?}");
        assert!(story.share("spare") <= 0.5 + 1e-3);
    }
}

// ── who decides ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_freeze_holds_everything_and_ends() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("a quarter is away", |s| s.share("north") <= 0.375);
    let before = story.applied().clone();
    story.world.frozen = true;
    story.seconds(5);
    story.fails("south");
    story.seconds(5);
    assert_eq!(*story.applied(), before, "what has moved stays, what has not stays too");
    let asked = story.done.len();
    assert_eq!(story.shift("north").bound_by, "freeze");
    story.is_well("south");
    story.world.frozen = false;
    story.until("it goes on where it was", |s| s.share("north") == 0.0);
    assert!(story.done.len() > asked);
}

#[test]
fn approve_asks_once_and_moves_after_the_approval() {
    let mut story = Story::begin().with_policy(|p| p.mode = Mode::Approve);
    story.failure_is_foreseen("north", SOON_S);
    story.seconds(5);
    let asked = story.done.iter().filter(|(_, e)| matches!(e, Effect::AskApproval { .. })).count();
    assert_eq!((asked, story.moves()), (1, 0));
    assert_eq!(story.times_said("north", "approval-asked"), 1);
    story.world.approved.insert(id("north"));
    story.until("all of it is away", |s| s.share("north") == 0.0);
}

#[test]
fn in_mode_approve_a_failure_needs_no_approval() {
    let mut story = Story::begin().with_policy(|p| p.mode = Mode::Approve);
    story.fails("north");
    story.ticks(2);
    assert_eq!(story.share("north"), 0.0);
}

#[test]
fn observe_says_what_it_would_do_and_does_nothing() {
    let mut story = Story::begin().with_policy(|p| p.mode = Mode::Observe);
    story.failure_is_foreseen("north", SOON_S);
    story.seconds(5);
    story.fails("south");
    story.seconds(5);
    assert_eq!(story.times_said("north", "would-shift"), 1);
    assert_eq!(story.times_said("south", "would-shift"), 1);
    assert!(story.done.is_empty(), "{:?}", story.done);
}

#[test]
fn an_operator_moves_a_share_and_ends_it() {
    let mut story = Story::begin();
    story.world.requested.insert(id("north"), ShiftRequest::of_operator(bp(2_000)));
    story.until("a fifth is away", |s| close(s.share("north"), 0.4));
    story.seconds(5);
    assert!(close(story.share("north"), 0.4), "and it is held there");
    story.world.requested.clear();
    story.until("it is over", |s| s.memory.shifts.is_empty());
    assert_eq!((story.share("north"), story.share("spare")), (0.5, 0.0));
}

// ── failure ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_failure_in_the_middle_of_a_shift_moves_the_rest_at_once() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("the canary is out", |s| s.share("spare") > 0.0);
    story.fails("north");
    story.tick();
    assert_eq!(story.share("north"), 0.0);
    assert_eq!(story.times_said("north", "failover-completes"), 1);
    assert!(story.shift("north").mirrors["spare"].requests < 150, "it was not waited for evidence");
}

#[test]
fn a_failure_that_nobody_foresaw_moves_everything_at_once() {
    let mut story = Story::begin();
    story.seconds(2);
    story.fails("north");
    story.tick();
    assert_eq!(story.share("north"), 0.0);
    let failures = story.events.iter().filter(|e| matches!(e, EntryKind::Failure { .. })).count();
    story.seconds(5);
    assert_eq!(failures, 1, "one failure is one entry");
}

#[test]
fn a_shift_that_was_done_before_the_failure_is_judged_saved() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("all of it is away", |s| s.memory.shifts.get("north").is_some_and(|s| s.done_at.is_some()));
    story.tick();
    story.memory.shifts.get_mut("north").unwrap().began_seq = Some(forefend_domain::LedgerSeq(7));
    story.fails("north");
    story.seconds(2);
    story.nothing_is_foreseen("north");
    story.is_well("north");
    story.until("it is over", |s| s.memory.shifts.is_empty());
    let lead = story.events.iter().find_map(|e| match e {
        EntryKind::Failure { lead_time_s, .. } => *lead_time_s,
        _ => None,
    });
    assert!(lead.is_some_and(|s| s > 0.0), "{lead:?}");
    let judged = story.events.iter().find_map(|e| match e {
        EntryKind::Judged { verdict, .. } => Some(*verdict),
        _ => None,
    });
    assert_eq!(judged, Some(Verdict::Saved));
}

#[test]
fn a_dead_process_counts_as_failed_before_its_objective_does() {
    let mut story = Story::begin();
    story.seconds(1);
    story.at("north").life = LifeState::Failed;
    story.at("north").health = CellHealth::Down;
    story.tick();
    assert_eq!(story.share("north"), 0.0);
}

#[test]
fn without_a_read_back_nothing_is_concluded() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("the canary is out", |s| s.share("spare") > 0.0);
    story.data_plane_answers = false;
    let (asked, moved) = (story.moves(), story.shift("north").moved);
    story.fails("north");
    story.seconds(5);
    assert_eq!(story.moves(), asked);
    assert_eq!(story.shift("north").moved, moved);
    story.data_plane_answers = true;
    story.tick();
    assert_eq!(story.share("north"), 0.0);
}

// ── giving back ─────────────────────────────────────────────────────────────────────────────────────────────────────

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

// ── overload ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn relief(at_most: Weight) -> ReliefPolicy {
    ReliefPolicy { above: 0.85, below: 0.6, at_most }
}

#[test]
fn overload_is_relieved_by_the_policys_share_and_taken_back() {
    let mut story = Story::begin().with_policy(|p| p.relief = Some(relief(bp(3_000))));
    story.at("north").utilisation = Some(0.95);
    story.until("the policy's share is away", |s| close(s.share("north"), 0.35));
    story.at("north").utilisation = Some(0.70);
    story.seconds(5);
    assert!(close(story.share("north"), 0.35), "0.70 with 30% away would be 1.0: relief does not end itself");
    story.at("north").utilisation = Some(0.40);
    let before = story.share("north");
    story.tick();
    assert!(story.share("north") < before + 0.026, "at the policy's rate");
    story.until("it is over", |s| s.memory.shifts.is_empty());
    assert_eq!((story.share("north"), story.share("spare")), (0.5, 0.0));
}

#[test]
fn relief_gives_no_more_than_the_mirror_has_to_spare() {
    let mut story = Story::begin().without_blueprint().with_policy(|p| p.relief = Some(relief(bp(3_000))));
    story.at("spare").passport.as_mut().unwrap().measured_capacity = Some(per_second(100.0));
    story.at("south").health = CellHealth::Down;
    story.at("north").utilisation = Some(0.95);
    story.seconds(10);
    assert!(close(story.share("spare"), 0.08), "100/s less 20% of 1 000/s, not {}", story.share("spare"));
    assert_eq!(story.shift("north").bound_by, "capacity");
}

#[test]
fn unmeasured_utilisation_is_no_overload() {
    let mut story = Story::begin().with_policy(|p| p.relief = Some(relief(bp(3_000))));
    story.at("north").utilisation = None;
    story.seconds(5);
    assert!(story.memory.shifts.is_empty());
}

// ── standbys ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A world in which the other primary is too small to help.
fn nobody_can_help() -> Story {
    let mut story = Story::without_standby();
    story.at("south").capacity = Some(per_second(625.0));
    story
}

#[test]
fn a_standby_is_made_in_another_zone_of_the_region_before_anything_moves() {
    let mut story = nobody_can_help();
    story.instant_cells = false;
    // Endangered enough to prepare, not enough to shift.
    story.is_predicted("north", 0.3, Some(20.0), Basis::FirstPassage);
    story.seconds(3);
    let created = story.created();
    assert_eq!(created.len(), 1, "one, and not one per tick");
    assert_eq!((created[0].region.as_str(), created[0].zone.as_str()), ("north", "north-b"));
    assert_eq!(created[0].role, CellRole::Synthetic);
    assert_eq!(story.moves(), 0);
}

#[test]
fn an_expired_passport_is_renewed_before_the_cell_counts() {
    let mut story = nobody_can_help().with_standby("spare", "north", "north-b");
    story.service().service.policy.standby.passport_valid_for = Duration::from_secs(5);
    story.seconds(6);
    story.is_predicted("north", 0.3, Some(20.0), Basis::FirstPassage);
    story.tick();
    assert_eq!(story.last.plan.effects, [Effect::Rewarm { cell: id("spare") }]);
    assert!(story.created().is_empty());
}

#[test]
fn papers_with_a_flaw_are_no_papers() {
    for flaw in ["old version", "bad answers", "too few requests"] {
        let mut story = nobody_can_help().with_standby("spare", "north", "north-b");
        let papers = story.at("spare").passport.as_mut().unwrap();
        match flaw {
            "old version" => papers.current = false,
            "bad answers" => papers.warm_ok -= 1,
            _ => (papers.warm_requests, papers.warm_ok) = (19, 19),
        }
        story.is_predicted("north", 0.3, Some(20.0), Basis::FirstPassage);
        story.tick();
        assert_eq!(story.last.plan.effects, [Effect::Rewarm { cell: id("spare") }], "{flaw}");
    }
}

#[test]
fn a_frozen_standby_is_thawed_first() {
    let mut story = nobody_can_help().with_standby("spare", "north", "north-b");
    story.at("spare").parked = true;
    story.failure_is_foreseen("north", SOON_S);
    story.tick();
    assert_eq!(story.last.plan.effects, [Effect::Unpark { cell: id("spare") }]);
    story.until("all of it is away", |s| s.share("north") == 0.0);
    assert!(story.share("spare") > 0.49);
}

#[test]
fn the_minimum_is_kept_and_the_maximum_is_not_exceeded() {
    let mut story = nobody_can_help().with_policy(|p| (p.standby.min, p.standby.max) = (2, 2));
    story.tick();
    assert_eq!(story.created().len(), 2);
    let zones: std::collections::BTreeSet<_> = story.created().iter().map(|c| c.zone.clone()).collect();
    assert_eq!(zones.len(), 2, "spread: {:?}", story.created());
    // Both are too small for the trouble that comes, and still there is no third.
    let names: Vec<_> = story.created().iter().map(|c| c.id.clone()).collect();
    for name in names {
        story.at(name.as_str()).passport.as_mut().unwrap().measured_capacity = Some(per_second(10.0));
    }
    story.failure_is_foreseen("north", SOON_S);
    story.failure_is_foreseen("south", SOON_S);
    story.seconds(10);
    assert_eq!(story.created().len(), 2);
}

#[test]
fn what_idles_is_frozen_and_what_idles_for_long_is_removed_down_to_the_minimum() {
    let mut story = Story::begin().with_standby("spare-2", "south", "south-b").with_policy(|p| {
        p.standby.min = 1;
        p.standby.freeze_when_idle = true;
        p.standby.retire_after = Duration::from_secs(5);
    });
    story.tick();
    assert!(story.at("spare").parked && story.at("spare-2").parked);
    story.seconds(10);
    let left = story.service().cells.values().filter(|c| c.cell.role == CellRole::Synthetic).count();
    assert_eq!(left, 1);
    assert!(story.created().is_empty(), "it is not made again at once");
}

#[test]
fn nothing_is_frozen_or_removed_while_a_cell_is_endangered() {
    let mut story = Story::begin().with_policy(|p| {
        p.standby.freeze_when_idle = true;
        p.standby.retire_after = Duration::ZERO;
    });
    story.is_predicted("north", 0.3, Some(20.0), Basis::FirstPassage);
    story.seconds(5);
    assert!(story.done.is_empty(), "{:?}", story.done);
}

#[test]
fn a_broken_cell_is_made_again_with_growing_pauses() {
    let mut story = Story::begin();
    story.instant_cells = false;
    story.at("north").cell.blueprint = Some(BlueprintName::new("shop").unwrap());
    story.at("north").life = LifeState::Failed;
    story.seconds(70);
    let at: Vec<u32> = story
        .done
        .iter()
        .filter_map(|(tick, e)| matches!(e, Effect::Recreate { .. }).then_some(*tick))
        .collect();
    let pauses: Vec<u32> = at.windows(2).map(|w| w[1] - w[0]).collect();
    // In ticks of 250 ms: the pause doubles with every try in vain.
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128]);
}

#[test]
fn a_cell_that_somebody_else_runs_is_not_made_again() {
    let mut story = Story::begin();
    story.at("north").life = LifeState::Failed;
    story.seconds(5);
    assert!(!story.done.iter().any(|(_, e)| matches!(e, Effect::Recreate { .. })));
}

// ── deciding anew ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn when_the_plan_has_come_about_nothing_more_is_asked_for() {
    let asks_no_more = |story: &Story| {
        let again = story.decide_again();
        assert!(again.plan.effects.is_empty(), "tick {}: {:?}", story.tick, again.plan.effects);
    };
    let mut story = nobody_can_help().with_policy(|p| p.standby.freeze_when_idle = true);
    story.ticks(2);
    story.failure_is_foreseen("north", SOON_S);
    story.tick();
    // The second hit of the trigger would come with a second look; from here on it holds.
    story.tick();
    for _ in 0..40 {
        story.tick();
        asks_no_more(&story);
    }
    story.fails("north");
    for _ in 0..10 {
        story.tick();
        asks_no_more(&story);
    }
    story.nothing_is_foreseen("north");
    story.is_well("north");
    for _ in 0..60 {
        story.tick();
        asks_no_more(&story);
    }
    assert!(story.memory.shifts.is_empty());
    assert_eq!(story.share("north"), 0.5);
}

#[test]
fn the_same_arguments_give_the_same_decision() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    for _ in 0..30 {
        story.tick();
        assert_eq!(story.decide_again(), story.decide_again());
    }
}

#[test]
fn memory_survives_being_written_down() {
    let mut story = Story::begin();
    story.failure_is_foreseen("north", SOON_S);
    story.until("half is away", |s| s.share("north") <= 0.25);
    let text = serde_json::to_string(&story.memory).unwrap();
    assert_eq!(serde_json::from_str::<forefend_decide::Memory>(&text).unwrap(), story.memory);
}
