//! How the trying of a mirror ends, who decides about it, and what it never does, told as an operator would tell it.
//!
//! Every tick of every story is also checked against every invariant (see `support`).

use std::time::Duration;

use forefend_decide::Memory;
use forefend_domain::{CellHealth, CellRole, Effect, Evidence, Mode, ObjectiveState, Weight};

use crate::{
    pre_test::{RISING, close, rises, tried, trying},
    support::{SOON_S, Story, bp, id, per_second},
};

// ── end ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn it_ends_at_exactly_zero_when_the_risk_has_been_low_for_long_enough() {
    let mut story = trying();
    rises(&mut story, "north", RISING);
    story.seconds(2);
    rises(&mut story, "north", 0.11);
    story.seconds(10);
    assert_eq!(tried(&story, "north"), bp(50), "a falling risk moves nobody");
    rises(&mut story, "north", 0.09);
    story.ticks(8);
    assert_eq!(tried(&story, "north"), bp(50), "not before the policy's two seconds");
    story.ticks(2);
    assert_eq!((story.share("north"), story.share("spare")), (0.5, 0.0));
    assert!(story.memory.pre_tests.is_empty());
    assert_eq!(story.times_said("north", "pre-test-ends"), 1);
    rises(&mut story, "north", RISING);
    story.tick();
    assert_eq!(tried(&story, "north"), bp(50), "the next one need not wait");
}

#[test]
fn noise_around_the_threshold_does_not_flap() {
    let mut story = trying();
    for i in 0..240 {
        rises(&mut story, "north", if i % 2 == 0 { 0.13 } else { 0.07 });
        story.tick();
    }
    assert_eq!(story.times_said("north", "pre-test-begins"), 1);
    assert_eq!(story.moves(), 1);
}

#[test]
fn absent_telemetry_neither_begins_nor_ends_nor_grows_it() {
    let mut story = trying().with_policy(|policy| policy.give_back.healthy_for = Duration::from_secs(4));
    story.blind.push("north");
    story.seconds(3);
    rises(&mut story, "north", RISING);
    story.seconds(3);
    assert_eq!(story.moves(), 0, "what is foreseen rests on nothing");
    story.blind.clear();
    story.seconds(1);
    assert_eq!(tried(&story, "north"), bp(50));
    rises(&mut story, "north", 0.05);
    story.tick();
    story.blind.push("north");
    story.seconds(3);
    rises(&mut story, "north", 0.59);
    story.seconds(30);
    assert_eq!(tried(&story, "north"), bp(50));
}

#[test]
fn a_mirror_that_loses_its_fitness_is_let_go_at_once_and_not_tried_again_soon() {
    for loss in ["papers", "gate", "health", "objective", "risk", "gone"] {
        let mut story = trying().without_blueprint();
        story.at("south").health = CellHealth::Down;
        rises(&mut story, "north", RISING);
        story.seconds(1);
        assert!(story.share("spare") > 0.0);
        let since = story.world.now;
        let before = story.at("spare").clone();
        match loss {
            "papers" => story.at("spare").passport = None,
            "gate" => story.at("spare").data.open = false,
            "health" => story.at("spare").health = CellHealth::Down,
            "objective" => story.at("spare").objective = ObjectiveState::Breaking { since },
            "risk" => rises(&mut story, "spare", 0.3),
            _ => drop(story.service().cells.remove("spare")),
        }
        story.tick();
        assert_eq!(story.share("spare"), 0.0, "{loss}");
        assert!(close(story.share("north"), 0.5), "{loss}");
        assert_eq!(story.times_said("north", "pre-test-ends"), 1, "{loss}");
        story.nothing_is_foreseen("spare");
        story.service().cells.insert(id("spare"), before);
        if loss == "gone" {
            continue;
        }
        story.seconds(9);
        assert_eq!(story.share("spare"), 0.0, "{loss}: a flapping mirror must not make users flap");
        story.seconds(2);
        assert!(story.share("spare") > 0.0, "{loss}: but it is tried again");
    }
}

#[test]
fn a_mirror_that_answers_badly_is_found_out_and_no_shift_chooses_it() {
    let mut story = trying();
    story.answers_badly("spare", 1.0);
    rises(&mut story, "north", 0.59);
    story.until("it is found out", |s| s.times_said("north", "pre-test-failed") > 0);
    let why = story.last.plan.explanations.iter().find(|e| e.what == "pre-test-failed").unwrap();
    assert!(why.why.contains("spare answered") && why.why.contains("surely above 2.0%"), "{}", why.why);
    assert_eq!(story.rejected("spare", "north"), 1);
    story.tick();
    assert_eq!(story.share("spare"), 0.0);
    assert_eq!(story.memory.pre_tests["north"].mirror, id("south"), "the next best is tried");
    story.failure_is_foreseen("north", SOON_S);
    story.until("all of it is away", |s| s.share("north") == 0.0);
    assert_eq!(story.share("spare"), 0.0, "the shift knows");
    assert_eq!(story.times_said("north", "mirror-rejected"), 0, "and had not to find out by itself");
}

#[test]
fn for_a_cell_that_has_failed_a_mirror_that_was_found_out_is_better_than_none() {
    let mut story = trying().without_blueprint();
    story.at("south").health = CellHealth::Down;
    story.answers_badly("spare", 0.4);
    rises(&mut story, "north", 0.59);
    story.until("it is found out", |s| s.times_said("north", "pre-test-failed") > 0);
    story.failure_is_foreseen("north", SOON_S);
    for _ in 0..12 {
        story.tick();
        assert_eq!(story.share("spare"), 0.0, "on a prediction nobody goes there");
    }
    assert_eq!(story.shift("north").bound_by, "readiness");
    story.fails("north");
    story.ticks(2);
    assert_eq!(story.share("north"), 0.0);
}

#[test]
fn another_standby_is_made_when_the_one_there_was_found_out() {
    let mut story = trying();
    story.at("south").capacity = Some(per_second(100.0));
    story.answers_badly("spare", 1.0);
    rises(&mut story, "north", 0.59);
    story.until("it is found out", |s| s.times_said("north", "pre-test-failed") > 0);
    story.ticks(2);
    assert_eq!(story.created().len(), 1, "{:?}", story.said);
}

#[test]
fn a_mirror_that_was_good_for_long_is_found_out_all_the_same() {
    let mut story = trying();
    rises(&mut story, "north", 0.59);
    story.seconds(3_000);
    let remembered = story.memory.pre_tests["north"].evidence;
    // Fifty minutes of it are some 13 500 requests; 300 earn a full weight.
    assert!((300..=1_200).contains(&remembered.requests), "{remembered:?}");
    story.answers_badly("spare", 1.0);
    let before = story.tick;
    story.until("it is found out", |s| s.times_said("north", "pre-test-failed") > 0);
    assert!(story.tick - before < 60, "after {} ticks", story.tick - before);
}

#[test]
fn a_mirror_that_a_shift_needs_is_let_go() {
    let mut story = trying().without_blueprint();
    rises(&mut story, "south", RISING);
    story.tick();
    assert_eq!(story.memory.pre_tests["south"].mirror, id("spare"));
    story.fails("north");
    story.ticks(2);
    assert!(close(story.share("spare"), 0.5), "{}", story.share("spare"));
    assert!(close(story.share("south"), 0.5));
    assert!(story.memory.pre_tests.is_empty());
}

#[test]
fn nobody_is_tried_who_carries_or_is_carried() {
    let mut story = trying().without_blueprint().with_policy(|policy| policy.budgets.max_cells_in_motion = 3);
    story.at("spare").health = CellHealth::Down;
    story.fails("north");
    story.ticks(2);
    assert!(close(story.share("south"), 1.0));
    story.at("spare").health = CellHealth::Up;
    rises(&mut story, "south", 0.15);
    story.seconds(3);
    assert_eq!(story.times_said("south", "pre-test-begins"), 0, "{:?}", story.said);

    // Two cells that could try each other: one of them does.
    let mut story = trying().without_blueprint();
    story.at("spare").health = CellHealth::Down;
    for name in ["north", "south"] {
        rises(&mut story, name, 0.15);
    }
    story.seconds(3);
    let pairs: Vec<_> =
        story.memory.pre_tests.iter().map(|(from, t)| (from.as_str(), t.mirror.as_str())).collect();
    assert_eq!(pairs, [("north", "south")]);
}

// ── who decides ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn nothing_is_tried_unless_the_service_moves_by_itself() {
    for mode in [Mode::Observe, Mode::Approve] {
        let mut story = trying().with_policy(|policy| policy.mode = mode);
        rises(&mut story, "north", RISING);
        story.seconds(5);
        assert_eq!((story.moves(), story.said.len()), (0, 0), "{mode:?}");
    }
    let forbid: [fn(&mut forefend_domain::Policy); 3] = [
        |policy| policy.pre_test.cap = Weight::ZERO,
        |policy| policy.budgets.max_cells_in_motion = 0,
        |policy| policy.budgets.max_weight_in_motion = Weight::ZERO,
    ];
    for (i, forbid) in forbid.into_iter().enumerate() {
        let mut story = trying().with_policy(forbid);
        rises(&mut story, "north", RISING);
        story.seconds(5);
        assert_eq!(story.moves(), 0, "{i}");
        let mut story = trying();
        rises(&mut story, "north", RISING);
        story.seconds(1);
        assert!(story.share("spare") > 0.0);
        story = story.with_policy(forbid);
        story.tick();
        assert_eq!(story.share("spare"), 0.0, "{i}: changed while it runs");
    }
}

#[test]
fn a_freeze_begins_none_and_ends_none() {
    let mut story = trying();
    story.world.frozen = true;
    rises(&mut story, "north", RISING);
    story.seconds(5);
    assert!(story.memory.pre_tests.is_empty() && story.done.is_empty());
    story.world.frozen = false;
    story.seconds(1);
    assert_eq!(tried(&story, "north"), bp(50));
    let before = story.applied().clone();
    story.world.frozen = true;
    rises(&mut story, "north", 0.59);
    story.seconds(3);
    story.nothing_is_foreseen("north");
    story.at("spare").data.open = false;
    story.seconds(5);
    assert_eq!(*story.applied(), before);
    assert_eq!(tried(&story, "north"), bp(50));
    story.world.frozen = false;
    story.tick();
    assert_eq!(story.share("spare"), 0.0);
}

#[test]
fn a_cell_that_rests_is_not_tried() {
    let mut story = trying().without_blueprint().with_policy(|policy| policy.pre_test.cap = Weight::ZERO);
    story.at("south").health = CellHealth::Down;
    story.answers_badly("spare", 0.3);
    story.failure_is_foreseen("north", SOON_S);
    story.until("it is rolled back", |s| s.times_said("north", "rolled-back") > 0);
    story = story.with_policy(|policy| policy.pre_test.cap = bp(100));
    story.answers_badly("spare", 0.0);
    rises(&mut story, "north", RISING);
    story.seconds(9);
    assert_eq!(story.share("spare"), 0.0);
    story.seconds(2);
    assert!(story.share("spare") > 0.0, "after the 10 s of the policy");
}

#[test]
fn it_takes_no_more_than_the_shifts_leave_of_the_budget() {
    let mut story = trying()
        .with_standby("spare-2", "south", "south-b")
        .with_policy(|policy| policy.budgets.max_weight_in_motion = bp(2_520));
    rises(&mut story, "south", 0.6);
    story.seconds(1);
    assert_eq!(tried(&story, "south"), bp(100));
    story.failure_is_foreseen("north", SOON_S);
    story.until("the shift has all it may have", |s| s.share("north") <= 0.25 + 1e-9);
    story.seconds(1);
    // 0.2520 less 0.25 and less the rounding of the weights, of half of the traffic.
    assert_eq!(tried(&story, "south"), bp(30));
    let away = 1.0 - story.share("north") - story.share("south");
    assert!(away <= 0.252 + 1e-4, "{away}");
}

#[test]
fn a_standby_that_is_tried_is_neither_frozen_nor_removed() {
    let mut story = trying().with_policy(|policy| policy.standby.retire_after = Duration::ZERO);
    rises(&mut story, "north", 0.15);
    // The first weight is late: meanwhile the standby looks idle.
    story.data_plane_answers = true;
    story.tick();
    story.service().service.policy.standby.freeze_when_idle = true;
    story.seconds(3);
    assert!(story.share("spare") > 0.0);
    let rested = |s: &Story| {
        s.done.iter().filter(|(_, e)| matches!(e, Effect::Park { .. } | Effect::Retire { .. })).count()
    };
    assert_eq!(rested(&story), 0, "{:?}", story.done);
    story.nothing_is_foreseen("north");
    story.seconds(4);
    assert_eq!(rested(&story), 1, "when it is over it rests");
}

// ── deciding anew ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn when_it_has_come_about_nothing_more_is_asked_for() {
    let mut story = trying();
    for i in 0..200 {
        let probability = 0.05 + 0.5 * f64::from(i) / 200.0;
        rises(&mut story, "north", probability);
        story.tick();
        assert_eq!(story.decide_again().plan.effects, [], "tick {i}");
    }
}

#[test]
fn without_a_read_back_it_is_held() {
    let mut story = trying();
    rises(&mut story, "north", RISING);
    story.seconds(1);
    let before = story.memory.pre_tests.clone();
    story.data_plane_answers = false;
    story.seconds(5);
    assert_eq!(story.memory.pre_tests, before);
}

#[test]
fn a_memory_from_before_there_were_pre_tests_is_read() {
    let mut story = trying();
    story.failure_is_foreseen("north", SOON_S);
    story.until("half is away", |s| s.share("north") <= 0.25);
    let mut older = serde_json::to_value(&story.memory).unwrap();
    older.as_object_mut().unwrap().remove("pre_tests").unwrap();
    older["shifts"]["north"].as_object_mut().unwrap().remove("head_start").unwrap();
    for cell in older["cells"].as_object_mut().unwrap().values_mut() {
        cell.as_object_mut().unwrap().remove("untested_until").unwrap();
        cell.as_object_mut().unwrap().remove("distrusted_until").unwrap();
    }
    let read: Memory = serde_json::from_value(older).unwrap();
    story.memory.shifts.get_mut("north").unwrap().head_start = Weight::ZERO;
    assert_eq!(read, story.memory);
}

#[test]
fn what_was_earned_survives_being_written_down() {
    let mut story = trying();
    rises(&mut story, "north", RISING);
    story.seconds(5);
    assert!(story.memory.pre_tests["north"].evidence != Evidence::default());
    let text = serde_json::to_string(&story.memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), story.memory);
}

#[test]
fn a_primary_can_be_the_mirror_and_its_own_users_stay() {
    let mut story = trying().with_cell("second", "north", "north-b", CellRole::Secondary).without_blueprint();
    story.service().cells.remove("spare");
    story.service().cells.remove("second");
    rises(&mut story, "north", 0.6);
    story.seconds(1);
    assert!(close(story.share("south"), 0.505) && close(story.share("north"), 0.495));
}

#[test]
fn a_standby_that_becomes_ready_is_tried_in_place_of_a_busy_primary() {
    let mut story = trying();
    story.at("spare").parked = true;
    rises(&mut story, "north", RISING);
    story.tick();
    assert_eq!(story.memory.pre_tests["north"].mirror, id("south"), "the one that can be tried at once");
    story.at("spare").parked = false;
    story.until("the standby is tried", |s| s.memory.pre_tests["north"].mirror == id("spare"));
    assert!(
        close(story.share("south"), 0.5),
        "nobody's users are left at the primary: {}",
        story.share("south")
    );
    assert!(story.share("spare") > 0.0);
    // Once: the standby is not left again for another.
    story.seconds(10);
    assert_eq!(story.memory.pre_tests["north"].mirror, id("spare"));
    assert_eq!(story.times_said("north", "pre-test-begins"), 2);
}

#[test]
fn however_much_was_earned_a_shift_goes_step_by_step() {
    let mut story = trying();
    rises(&mut story, "north", 0.59);
    story.seconds(60);
    let earned = story.memory.pre_tests["north"].evidence.requests;
    assert!(earned > 150, "enough for half of the service, which is all that it has: {earned}");
    story.failure_is_foreseen("north", SOON_S);
    let steps: Vec<Weight> = story.world.services["shop"].service.policy.canary.steps.clone();
    let mut targets: Vec<Weight> = Vec::new();
    story.until("all of it is away", |s| {
        targets.extend(s.memory.shifts.get(&id("north")).map(|shift| shift.target));
        s.share("north") == 0.0
    });
    targets.dedup();
    targets.retain(|target| *target > bp(100));
    let wanted: Vec<Weight> = steps.into_iter().filter(|step| *step > bp(100)).collect();
    assert_eq!(targets, wanted, "each step is seen before the next");
}
