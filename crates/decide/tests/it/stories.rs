//! What the decision does, told as an operator would tell it.
//!
//! Every tick of every story is also checked against every invariant (see `support`).

use crate::support::{SOON_S, Story, bp, close, id, p, per_second};
use forefend_domain::{
    Basis, CellHealth, CellRole, DataGateView, Effect, EntryKind, LifeState, Mode, OperatingCurve,
    OperatingPoint, ShiftReason, ShiftRequest, Verdict,
};

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
fn a_cell_that_holds_more_than_any_that_stayed_well_moves_below_a_threshold_that_a_curve_has_raised() {
    let curve = OperatingCurve(vec![OperatingPoint {
        threshold: p(0.97),
        false_alarms_per_cell_week: 0.1,
        recall: None,
    }]);
    let mut story = Story::begin().with_policy(|policy| policy.trigger = curve.trigger(&policy.trigger, 0.5));
    story.is_predicted("north", 0.95, Some(SOON_S), Basis::Calibrated);
    story.ticks(5);
    assert!(story.memory.shifts.is_empty(), "what the curve tolerates begins at 97%");
    story.exceeds("north", 0.4);
    story.ticks(5);
    assert!(story.memory.shifts.is_empty(), "less likely than what was written to act on");
    story.exceeds("north", 0.7);
    story.tick();
    assert_eq!(story.shift("north").reason, ShiftReason::Predicted, "one tick suffices");

    // Without a curve it is asked of all what was written, and in as many ticks.
    let mut story = Story::begin();
    story.exceeds("north", 0.55);
    story.ticks(5);
    assert!(story.memory.shifts.is_empty());
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
