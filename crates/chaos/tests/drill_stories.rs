//! Drills, told as an operator would.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod experiment_support;

use std::time::Duration;

use experiment_support::{Machine, NOON, Scene, Story, experiment, id, shop, words};
use forefend_chaos::{
    drill::{DataPoint, Report},
    experiment::Experiment,
    label::{Source, labels_of_drill},
    run::{Action, Targets, choose, dry_run},
};
use forefend_domain::{ObjectiveState, Weight};

/// The south has one cell with half of the traffic.
fn outage(more: &str) -> Experiment {
    experiment(&format!(
        "outage: {{ service: shop, region: south, step: 50%, step_every: 4s, hold: 10s, lease: 9s{more} }}"
    ))
}

fn report(story: &Story) -> Report {
    match &story.machine {
        Machine::Drill(drill) => Report::of_drill(drill),
        Machine::Run(run) => Report::of_run(run),
    }
}

#[test]
fn a_region_is_emptied_in_steps_held_and_given_back() {
    let mut story = Story::of(outage(""));
    assert_eq!(story.goes_on(5).says(), "steady before");
    assert_eq!(story.goes_on(1).says(), "moving away 50.00%");
    assert_eq!(story.goes_on(4).says(), "moving away 100.00%");
    assert_eq!(story.goes_on(1).says(), "holding");
    assert_eq!(story.goes_on(10).says(), "giving back");
    assert_eq!(story.goes_on(1).says(), "recovering");
    assert_eq!(story.goes_on(10).says(), "finished, upheld");
    let wanted = [
        "+0 move 50.00% of s1 away",
        "+3 move 50.00% of s1 away",
        "+4 move 100.00% of s1 away",
        "+7 move 100.00% of s1 away",
        "+10 move 100.00% of s1 away",
        "+13 move 100.00% of s1 away",
        "+15 give s1 back",
    ];
    assert_eq!(story.log(), wanted);
    let report = report(&story);
    assert_eq!(report.recovery_s, Some(5.0), "from the first step until empty and steady");
    assert_eq!(report.recovery_after_end_s, Some(0.0));
    assert_eq!(report.data_point, DataPoint::NotMeasured);
    let shares: Vec<f64> = report.cells[0].steps.iter().map(|(_, share)| *share).collect();
    assert_eq!(shares, [0.5, 0.25, 0.0, 0.5]);
    let text = report.markdown();
    for part in ["**upheld**", "| moving away |", "| going home |", "not measured", "+5.0 s 0.0%"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_step_waits_until_the_one_before_was_read_back_and_users_are_well() {
    let mut story = Story::of(outage(""));
    story.scene.obedient = false;
    assert_eq!(story.goes_on(30).says(), "moving away 50.00%");
    story.scene.obedient = true;
    assert_eq!(story.goes_on(6).says(), "holding");
    let mut unwell = Story::of(outage(""));
    unwell.goes_on(7);
    unwell.scene.users(0.02, 50);
    assert_eq!(unwell.goes_on(20).says(), "moving away 50.00%");
    unwell.scene.users(0.0, 50);
    assert_eq!(unwell.goes_on(2).says(), "holding");
}

#[test]
fn a_lost_read_back_is_not_emptiness() {
    let mut story = Story::of(outage(", fault: { fault: partition }"));
    assert_eq!(story.goes_on(10).says(), "moving away 100.00%");
    story.scene.view().effective = None;
    story.step();
    assert_eq!(story.says(), "moving away 100.00%");
    assert!(!story.log().iter().any(|line| line.contains("apply")));
}

#[test]
fn the_fault_begins_at_exactly_zero_and_ends_before_anything_comes_back() {
    let mut story = Story::of(outage(", fault: { fault: partition }"));
    assert_eq!(story.goes_on(11).says(), "holding");
    story.scene.cell("s1").objective = ObjectiveState::Failed { since: NOON };
    assert_eq!(story.goes_on(10).says(), "mending");
    assert_eq!(story.goes_on(5).says(), "mending", "a cell that is ill gets nothing");
    let now = story.scene.now();
    story.scene.cell("s1").objective = ObjectiveState::Met { since: now };
    assert_eq!(story.goes_on(1).says(), "giving back");
    story.goes_on(10);
    assert_eq!(story.says(), "finished, upheld");
    let log: Vec<String> = story.log().into_iter().filter(|line| !line.contains("move")).collect();
    assert_eq!(log, ["+5 apply partition to s1 at 1.00", "+15 undo s1", "+15 end all", "+21 give s1 back"]);
    let Machine::Drill(drill) = &story.machine else { panic!("a drill") };
    let labels = labels_of_drill(drill);
    assert_eq!((labels.len(), labels[0].source, labels[0].cell.as_str()), (1, Source::Drill, "s1"));
    assert!(labels[0].emptied.unwrap() <= labels[0].begun && labels[0].undone.is_some());
}

#[test]
fn no_stray_share_counts_as_empty() {
    let mut story = Story::of(outage(", fault: { fault: kill }"));
    story.goes_on(9);
    // One basis point of weight is left, and a fault would hit the users who have it.
    let stray = story.scene.world.services[&shop()].clone();
    let mut shares = stray.home.shares();
    for ((_, cell), share) in &mut shares {
        *share = if *cell == id("s1") { 0.0001 } else { 0.49995 };
    }
    for _ in 0..5 {
        story.scene.view().effective = forefend_domain::ServiceWeights::from_shares(&shares);
        story.step();
        assert_eq!(story.says(), "moving away 100.00%");
    }
    assert!(!story.log().iter().any(|line| line.contains("apply")));
}

#[test]
fn traffic_at_a_broken_region_ends_the_drill() {
    let mut story = Story::of(outage(", fault: { fault: partition }"));
    story.goes_on(12);
    story.scene.obey(&[Action::GiveBack { cell: id("s1") }]);
    story.scene.pass(Duration::ZERO);
    let actions: Vec<String> = story.step().iter().map(words).collect();
    assert_eq!(actions, ["undo s1", "end all", "give s1 back"]);
    story.goes_on(3);
    assert!(
        story.says().starts_with("stopped: `s1` got traffic while it was to be empty"),
        "{}",
        story.says()
    );
}

#[test]
fn whatever_goes_wrong_gives_the_traffic_back_in_one_step_and_it_is_over_when_it_is_home() {
    type Wrong = fn(&mut Scene);
    let cases: [(&str, Wrong); 5] = [
        ("7.00% of the answers of `shop` were errors (limit 5.00%)", |s| s.users(0.07, 50)),
        ("1 cells of `shop` that are no targets have failed (limit 0)", |s| {
            s.cell("n2").objective = ObjectiveState::Failed { since: NOON };
        }),
        ("the remaining cells can't be trusted to carry the traffic: without the targets 160", |s| {
            for name in ["n1", "n2"] {
                s.cell(name).capacity = Some(experiment_support::per_second(100.0));
            }
        }),
        ("cell `n1`, no target, fails soon", |s| s.foresee("n1", 0.9)),
        ("everything was frozen", |s| s.world.frozen = true),
    ];
    for seconds in [7, 13] {
        for (why, wrong) in &cases {
            let mut story = Story::of(outage(""));
            story.goes_on(seconds);
            wrong(&mut story.scene);
            story.scene.obedient = false;
            let actions: Vec<String> = story.step().iter().map(words).collect();
            assert_eq!(actions, ["give s1 back"], "{why}");
            assert_eq!(story.goes_on(20).says(), "giving back", "{why}: not over while traffic is away");
            story.scene.obedient = true;
            story.goes_on(6);
            assert!(story.says().starts_with(&format!("stopped: {why}")), "{why}: {}", story.says());
        }
    }
}

#[test]
fn a_move_that_takes_too_long_is_given_up() {
    let mut story = Story::of(outage(", moves_within: 20s"));
    story.scene.obedient = false;
    story.goes_on(26);
    assert_eq!(story.says(), "moving away 50.00%");
    story.goes_on(3);
    assert!(
        story.says().starts_with("stopped: the traffic of `s1` was not away in time"),
        "{}",
        story.says()
    );
}

#[test]
fn what_speaks_against_a_drill_is_told_with_what_would_help() {
    type Wrong = fn(&mut Scene);
    let cases: [(&str, &str, Wrong); 3] = [
        (
            "the policy lets 2 cells and 30% of the traffic be in motion, the drill needs 1 and 50%",
            "max_weight_in_motion",
            |s| s.view().service.policy.budgets.max_weight_in_motion = Weight::from_share(0.3),
        ),
        ("no cell outside the region could take the traffic of `shop`", "make a standby ready", |s| {
            for name in ["n1", "n2"] {
                s.cell(name).data.open = false;
            }
        }),
        (
            "without the targets 160 requests/s could be carried, but 400/s come",
            "add capacity for 240",
            |s| {
                for name in ["n1", "n2"] {
                    s.cell(name).capacity = Some(experiment_support::per_second(100.0));
                }
            },
        ),
    ];
    for (what, remedy, wrong) in cases {
        let mut story = Story::of(outage(""));
        wrong(&mut story.scene);
        story.step();
        assert_eq!(story.says(), format!("refused: {what}"));
        assert!(story.log().is_empty());
        assert!(report(&story).findings[0].remedy.contains(remedy), "{:?}", report(&story).findings);
    }
}

#[test]
fn a_drill_asked_to_end_before_it_began_is_over_at_once() {
    let mut story = Story::of(outage(""));
    story.goes_on(2);
    story.scene.end_asked_by = Some("ana".into());
    story.step();
    assert!(story.says().starts_with("stopped: ana asked for it"));
    assert!(story.log().is_empty());
}

#[test]
fn a_region_that_is_home_to_too_much_is_never_chosen() {
    let scene = Scene::calm();
    let refusals = choose(&outage(", max_share: 49%"), &scene.world, 1).unwrap_err();
    assert!(refusals[0].to_string().starts_with("50.0% of the service's traffic"), "{refusals:?}");
    let Targets { cells, share } = choose(&outage(""), &scene.world, 1).unwrap();
    assert_eq!((cells, share), (vec![id("s1")], 0.5));
}

#[test]
fn a_measured_lag_is_the_recovery_point() {
    let mut story = Story::of(outage(""));
    story.scene.cell("n2").data.lag = Some(Duration::from_millis(1_500));
    story.goes_on(40);
    assert_eq!(report(&story).data_point, DataPoint::Behind { lag_s: 1.5 });
}

#[test]
fn a_dry_run_tells_the_steps() {
    let scene = Scene::calm();
    let dry = dry_run(&outage(", fault: { fault: partition }"), &scene.seen(), 0, scene.now());
    for line in [
        "cells: s1 (50% of the traffic of `shop`)",
        "+0s: 50% of the traffic of s1 is moved away",
        "+4s: 100% of the traffic of s1 is moved away",
        "+4s: partition begins at s1",
        "+14s: undone at s1",
        "+14s: the traffic of s1 is given back",
        "nothing would refuse it now",
    ] {
        assert!(dry.text.contains(line), "{line} is not in\n{}", dry.text);
    }
}

#[test]
fn what_nobody_renews_goes_home_by_itself() {
    let mut story = Story::of(outage(""));
    assert_eq!(story.goes_on(12).says(), "holding");
    assert_eq!(story.scene.view().effective.as_ref().unwrap().share(&id("s1")), 0.0);
    // Whoever drove the drill is dead.
    story.scene.pass(Duration::from_secs(10));
    assert_eq!(story.scene.view().effective.as_ref().unwrap().share(&id("s1")), 0.5);
}

#[test]
fn a_drill_is_not_over_while_its_wish_still_stands() {
    // A wish so small that a pre-test might have borrowed as much.
    let small = experiment("outage: { service: shop, region: south, step: 1%, step_every: 1s }");
    let mut story = Story::of(small);
    assert_eq!(story.goes_on(6).says(), "moving away 1.00%");
    story.scene.end_asked_by = Some("ana".into());
    for _ in 0..10 {
        let forgotten = story.scene.world.requested.clone();
        story.step();
        story.scene.world.requested = forgotten;
        assert_eq!(story.says(), "giving back");
    }
    story.goes_on(8);
    assert!(story.says().starts_with("stopped: ana asked for it"), "{}", story.says());
}
