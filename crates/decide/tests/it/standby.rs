//! Overload and standbys: when they are made, warmed, frozen and removed, told as an operator would tell it.
//!
//! Every tick of every story is also checked against every invariant (see `support`).

use std::time::Duration;

use crate::support::{SOON_S, Story, bp, close, id, per_second};
use forefend_domain::{Basis, BlueprintName, CellHealth, CellRole, Effect, LifeState, ReliefPolicy, Weight};

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
