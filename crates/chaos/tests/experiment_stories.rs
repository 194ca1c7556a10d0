//! Runs of experiments, told as an operator would.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

mod experiment_support;

use std::time::Duration;

use experiment_support::{Machine, NOON, Scene, Story, experiment, faults, id, shop};
use forefend_chaos::{
    drill::{Foreseen, Report},
    label::labels_of_run,
    run::{Action, InjectionState, OtherRun, choose, dry_run},
};
use forefend_domain::{CellHealth, ObjectiveState, ShiftRequest, Weight};

fn report(story: &Story) -> Report {
    match &story.machine {
        Machine::Run(run) => Report::of_run(run),
        Machine::Drill(drill) => Report::of_drill(drill),
    }
}

#[test]
fn a_leak_builds_up_is_undone_and_nobody_notices() {
    let leak =
        "[{ fault: { memory-leak: { bytes: 64MiB } }, ramp: { linear: 4s }, intensity: 80%, lasts: 6s }]";
    let mut story = Story::of(faults(leak));
    assert_eq!(story.goes_on(5).says(), "steady before");
    assert_eq!(story.goes_on(1).says(), "injecting");
    assert_eq!(story.goes_on(6).says(), "recovering");
    assert_eq!(story.goes_on(10).says(), "finished, upheld");
    let log = story.log();
    let wanted = [
        "+0 apply memory-leak to n1 at 0.00",
        "+1 set n1 to 0.20",
        "+2 set n1 to 0.40",
        "+3 set n1 to 0.60",
        "+4 set n1 to 0.80",
        "+6 undo n1",
        "+6 end all",
    ];
    assert_eq!(log, wanted);
    assert!(story.scene.injections.is_empty());
}

#[test]
fn a_second_fault_starts_later_and_each_ends_by_itself() {
    let two = "[{ fault: kill, lasts: 2s }, { fault: { resets: { share: 20% } }, after: 1s, lasts: 3s }]";
    let mut story = Story::of(faults(two));
    story.goes_on(30);
    let wanted = [
        "+0 apply kill to n1 at 1.00",
        "+1 apply resets to n1 at 1.00",
        "+2 undo n1",
        "+4 undo n1",
        "+4 end all",
    ];
    assert_eq!(story.log(), wanted);
}

#[test]
fn errors_beyond_the_bound_end_it_in_the_very_step() {
    let mut story = Story::of(faults("[{ fault: { error-rate: {} }, lasts: 60s }]"));
    assert_eq!(story.goes_on(10).says(), "injecting");
    story.scene.users(0.08, 60);
    let actions: Vec<String> = story.step().iter().map(experiment_support::words).collect();
    assert_eq!(actions, ["undo n1", "end all"]);
    let why = "8.00% of the answers of `shop` were errors (limit 5.00%)";
    assert!(story.says().starts_with(&format!("stopped: {why}; refuted: {why}")), "{}", story.says());
    assert!(story.goes_on(5).log().len() == 3, "nothing more is asked for");
}

#[test]
fn whatever_else_goes_wrong_ends_it_in_one_step_too() {
    type Wrong = fn(&mut Scene);
    let cases: [(&str, Wrong); 8] = [
        ("p99 of `shop` was 900 ms (limit 500 ms)", |s| s.users(0.0, 900)),
        ("1 cells of `shop` that are no targets have failed (limit 0)", |s| {
            s.cell("n2").objective = ObjectiveState::Failed { since: NOON };
        }),
        ("cell `s1`, no target, fails soon with probability 70%", |s| s.foresee("s1", 0.7)),
        ("everything was frozen", |s| s.world.frozen = true),
        ("ana asked for it", |s| s.end_asked_by = Some("ana".into())),
        ("the fault could not be done to `n1`: no such process", |s| {
            for state in s.injections.values_mut() {
                *state = InjectionState::Refused { why: "no such process".into() };
            }
        }),
        ("a block window began (lunch)", |s| s.pass(Duration::from_secs(3600))),
        ("nothing fresh was seen of `shop` for 11 s", |s| {
            s.sighted = false;
            s.pass(Duration::from_secs(11));
        }),
    ];
    for (why, wrong) in cases {
        let mut story = Story::of(experiment(
            "target: { service: shop, cells: [n1] }\nfaults: [{ fault: stop, lasts: 50m }]\nstop_conditions: { p99: 500ms }\nblock_windows: [{ why: lunch, from: \"13:00\", to: \"14:00\" }]",
        ));
        assert_eq!(story.goes_on(10).says(), "injecting", "{why}");
        wrong(&mut story.scene);
        let actions = story.step();
        assert!(actions.iter().any(|a| matches!(a, Action::Undo { .. })), "{why}: {actions:?}");
        assert!(matches!(actions.last(), Some(Action::EndAll { .. })), "{why}: {actions:?}");
        assert!(story.says().starts_with(&format!("stopped: {why}")), "{why}: {}", story.says());
    }
}

#[test]
fn the_target_itself_may_fail_and_fall_silent() {
    let mut story = Story::of(faults("[{ fault: kill, lasts: 20s }]"));
    story.goes_on(8);
    let target = story.scene.cell("n1");
    target.objective = ObjectiveState::Failed { since: NOON };
    target.health = CellHealth::Down;
    story.scene.foresee("n1", 1.0);
    for _ in 0..12 {
        story.step();
        story.scene.cell("n1").telemetry_at = None;
    }
    assert_eq!(story.says(), "injecting");
}

#[test]
fn a_short_gap_in_the_view_is_borne() {
    let mut story = Story::of(faults("[{ fault: kill, lasts: 60s }]"));
    story.goes_on(8);
    story.scene.sighted = false;
    assert_eq!(story.goes_on(8).says(), "injecting");
    story.scene.sighted = true;
    assert_eq!(story.goes_on(20).says(), "injecting");
}

#[test]
fn what_speaks_against_beginning_is_told_with_what_would_help() {
    type Wrong = fn(&mut Scene);
    let cases: [(&str, &str, Wrong); 12] = [
        ("everything is frozen", "take the freeze back", |s| s.world.frozen = true),
        ("cell `s1` fails soon with probability 30% (limit 20%)", "forefend explain s1", |s| {
            s.foresee("s1", 0.3)
        }),
        ("cell `n2` breaks its objective already", "mend `n2`", |s| {
            s.cell("n2").objective = ObjectiveState::Breaking { since: NOON };
        }),
        ("without the targets 320 requests/s could be carried, but 400/s come", "add capacity for 80", |s| {
            s.cell("n2").capacity = Some(experiment_support::per_second(300.0));
            s.cell("s1").capacity = Some(experiment_support::per_second(100.0));
        }),
        ("what `s1` can carry is not known", "capacity_per_cell", |s| {
            s.cell("s1").capacity = None;
            s.cell("n2").capacity = Some(experiment_support::per_second(300.0));
        }),
        ("how many requests `shop` gets is not known", "data plane", |s| {
            s.services.get_mut(&shop()).unwrap().rate = None;
        }),
        ("traffic of `s1` is away from home or on its way", "back at home", |s| {
            s.shifting.insert(id("s1"));
        }),
        ("traffic of `n2` is away from home or on its way", "back at home", |s| {
            s.world.requested.insert(id("n2"), ShiftRequest::of_operator(Weight::FULL));
        }),
        ("`other` is running", "wait until `other`", |s| s.others.push(other("other", None))),
        ("the last run at the service ended 600 s ago; 3600 s must pass", "in 3000 s", |s| {
            s.others.push(other("before", Some(NOON - Duration::from_secs(600))));
        }),
        ("nothing fresh is seen of `shop`", "data plane", |s| {
            s.sighted = false;
            s.pass(Duration::from_secs(30));
        }),
        ("the target `n1` does not run any more", "start the run again", |s| {
            s.cell("n1").life = forefend_domain::LifeState::Retired;
        }),
    ];
    for (what, remedy, wrong) in cases {
        let mut story = Story::of(faults("[{ fault: kill }]"));
        wrong(&mut story.scene);
        story.step();
        assert_eq!(story.says(), format!("refused: {what}"));
        assert!(story.log().is_empty(), "{what}: nothing may be done");
        let findings = report(&story).findings;
        assert!(findings[0].remedy.contains(remedy), "{what}: {:?}", findings[0]);
    }
}

fn other(id: &str, ended: Option<forefend_domain::Timestamp>) -> OtherRun {
    OtherRun { id: id.into(), service: shop(), began: NOON - Duration::from_secs(900), ended }
}

#[test]
fn guard_rails_hold_until_the_first_fault() {
    let mut story = Story::of(faults("[{ fault: kill }]"));
    assert_eq!(story.goes_on(4).says(), "steady before");
    story.scene.foresee("n2", 0.5);
    story.step();
    assert!(story.says().starts_with("refused: cell `n2`"), "{}", story.says());
    assert!(story.log().is_empty());
}

#[test]
fn a_run_that_would_reach_into_a_block_window_is_refused() {
    let mut story = Story::of(experiment(
        "target: { service: shop, cells: [n1] }\nfaults: [{ fault: kill, lasts: 1h }]\nblock_windows: [{ why: lunch, from: \"13:00\", to: \"14:00\" }]",
    ));
    story.step();
    let wanted = "refused: it would reach into a block window that begins 2026-11-17 13:00:00 UTC (lunch)";
    assert_eq!(story.says(), wanted);
}

#[test]
fn who_must_agree_is_waited_for_and_only_their_word_counts() {
    let text = "target: { service: shop, cells: [n1] }\nfaults: [{ fault: kill }]\napprovals: { required: 2, by: [ana, ben, eve], within: 1m }";
    let mut story = Story::of(experiment(text));
    assert_eq!(story.goes_on(3).says(), "waits for 2 approvals");
    story.scene.approvals.extend(["ana".to_owned(), "mallory".to_owned()]);
    assert_eq!(story.goes_on(3).says(), "waits for 2 approvals");
    story.scene.approvals.insert("eve".to_owned());
    assert_eq!(story.goes_on(10).says(), "injecting");
    let mut late = Story::of(experiment(text));
    assert_eq!(late.goes_on(70).says(), "refused: 0 of 2 approvals came in time");
}

#[test]
fn much_traffic_needs_a_word_even_where_none_is_required() {
    let text = "target: { service: shop, whole: region, regions: [south], blast_radius: { max_share: 60% } }\nfaults: [{ fault: kill }]\napprovals: { above: 40% }";
    assert_eq!(Story::of(experiment(text)).goes_on(3).says(), "waits for 1 approvals");
    assert_eq!(Story::of(faults("[{ fault: kill }]")).goes_on(3).says(), "steady before");
}

#[test]
fn without_a_steady_state_nothing_begins() {
    let mut story = Story::of(faults("[{ fault: kill }]"));
    story.scene.users(0.02, 50);
    assert_eq!(story.goes_on(15).says(), "steady before");
    story.goes_on(10);
    assert!(story.says().starts_with("refused: the steady state did not hold before the beginning: 2.00%"));
    let mut unseen = Story::of(faults("[{ fault: kill }]"));
    unseen.scene.services.get_mut(&shop()).unwrap().error_share = None;
    unseen.goes_on(30);
    assert!(unseen.says().ends_with("the share of errors of `shop` was not seen"), "{}", unseen.says());
    assert!(unseen.log().is_empty());
}

#[test]
fn a_break_in_the_steady_state_starts_the_waiting_anew() {
    let mut story = Story::of(faults("[{ fault: kill }]"));
    story.goes_on(4);
    story.scene.users(0.02, 50);
    story.step();
    story.scene.users(0.0, 50);
    assert_eq!(story.goes_on(5).says(), "steady before");
    assert_eq!(story.goes_on(2).says(), "injecting");
}

#[test]
fn not_recovering_in_time_refutes_and_recovering_in_time_does_not() {
    let mut story = Story::of(faults("[{ fault: kill, lasts: 5s }]"));
    story.goes_on(8);
    story.scene.users(0.03, 80);
    assert_eq!(story.goes_on(20).says(), "recovering");
    story.goes_on(20);
    assert!(story.says().starts_with("finished, refuted: 3.00% of the answers"), "{}", story.says());
    assert_eq!(report(&story).recovery_s, None);

    let mut story = Story::of(faults("[{ fault: kill, lasts: 5s }]"));
    story.goes_on(8);
    story.scene.users(0.03, 80);
    story.goes_on(20);
    story.scene.users(0.0, 50);
    assert_eq!(story.goes_on(10).says(), "finished, upheld");
    let report = report(&story);
    // It began at second 5; the bad answers were over at second 28, 18 s after the end.
    assert_eq!((report.recovery_s, report.recovery_after_end_s), (Some(23.0), Some(18.0)));
}

#[test]
fn who_believes_that_nobody_notices_can_be_refuted_while_it_lasts() {
    for (throughout, wanted) in [(false, "finished, upheld"), (true, "finished, refuted: 3.00%")] {
        let text = format!(
            "version: 1\nname: try\nhypothesis: {{ says: x, holds_for: 5s, throughout: {throughout} }}\ntarget: {{ service: shop, cells: [n1] }}\nfaults: [{{ fault: kill, lasts: 10s }}]\n"
        );
        let mut story = Story::of(forefend_chaos::experiment::parse(&text, "t.yaml").unwrap());
        story.goes_on(8);
        story.scene.users(0.03, 80);
        story.goes_on(2);
        story.scene.users(0.0, 50);
        story.goes_on(20);
        assert!(story.says().starts_with(wanted), "{}", story.says());
    }
}

#[test]
fn what_is_left_behind_is_undone_again_and_nothing_is_over_before() {
    let mut story = Story::of(faults("[{ fault: kill, lasts: 5s }]"));
    story.goes_on(9);
    let left = story.scene.injections.clone();
    assert_eq!(story.goes_on(2).says(), "recovering");
    for _ in 0..20 {
        story.scene.injections = left.clone();
        let actions: Vec<String> = story.step().iter().map(experiment_support::words).collect();
        assert_eq!(actions, ["undo n1"]);
        assert_eq!(story.says(), "recovering");
    }
    assert_eq!(story.goes_on(2).says(), "finished, upheld");
}

#[test]
fn a_foreseen_failure_and_a_missed_one_are_told_apart() {
    let leak = "[{ fault: { memory-leak: { bytes: 64MiB } }, ramp: { linear: 20s }, lasts: 30s }]";
    let run = |alarm: bool, fault: &str| {
        let mut story = Story::of(faults(fault));
        story.goes_on(10);
        if alarm {
            story.scene.foresee("n1", 0.8);
        }
        story.goes_on(12);
        let now = story.scene.now();
        story.scene.cell("n1").objective = ObjectiveState::Failed { since: now };
        story.goes_on(30);
        let report = report(&story);
        let Machine::Run(run) = &story.machine else { panic!("a run") };
        (report.cells[0].foreseen, labels_of_run(run).remove(0), report)
    };
    let (foreseen, label, report) = run(true, leak);
    assert_eq!(foreseen, Foreseen::Before { lead_s: 12.0 });
    assert_eq!(label.broke.unwrap().since(label.begun), Duration::from_secs(17));
    assert_eq!(label.ended.unwrap().since(label.begun), Duration::from_secs(30));
    assert!(label.undone.is_some() && label.peak_level == 1.0 && (label.mean_level - 0.66).abs() < 0.03);
    let text = report.markdown();
    for part in ["12.0 s before", "**upheld", "| during |", "not measured", "Nothing."] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (missed, _, report) = run(false, leak);
    assert_eq!(missed, Foreseen::Missed);
    assert!(report.findings.iter().any(|f| f.what.contains("could have been foreseen")));
    assert_eq!(run(false, "[{ fault: kill, lasts: 30s }]").0, Foreseen::NotForeseeable);
}

#[test]
fn a_dry_run_says_it_all_and_does_nothing() {
    let mut scene = Scene::calm();
    scene.foresee("s1", 0.5);
    let dry = dry_run(
        &faults("[{ fault: { memory-leak: { bytes: 64MiB } }, after: 2s, lasts: 10s }]"),
        &scene.seen(),
        7,
        scene.now(),
    );
    assert_eq!(
        dry.text,
        "try: nobody notices\n\
         cells: n1 (25% of the traffic of `shop`)\n\
         begins: 2026-11-17 12:00:05 UTC, once the steady state has held for 5s\n\
         \x20 +2s: memory-leak begins at n1\n\
         \x20 +12s: undone at n1\n\
         ends: 2026-11-17 12:00:17 UTC at the latest\n\
         would be refused: cell `s1` fails soon with probability 50% (limit 20%)\n\
         \x20 help: see `forefend explain s1` and wait until the risk is gone, or raise `guard_rails.risk_at`\n"
    );
    assert_eq!(scene.now(), NOON);
}

#[test]
fn more_cells_than_the_blast_radius_are_refused_not_left_out() {
    let of = |max: u32| {
        experiment(&format!(
            "target: {{ service: shop, percent: 100%, blast_radius: {{ max_cells: {max}, max_share: 100% }} }}\nfaults: [{{ fault: kill }}]"
        ))
    };
    let refusals = choose(&of(2), &Scene::calm().world, 3).unwrap_err();
    assert_eq!(refusals[0].to_string(), "3 cells would be hit, more than the blast radius of 2");
    assert!(refusals[0].remedy().contains("`target.blast_radius.max_cells` to 3"));
    assert_eq!(choose(&of(3), &Scene::calm().world, 3).unwrap().cells.len(), 3);
}

#[test]
fn seeds_reach_every_cell_and_whole_zones_stay_whole() {
    let world = Scene::calm().world;
    let one = experiment("target: { service: shop }\nfaults: [{ fault: kill }]");
    let zone = experiment(
        "target: { service: shop, whole: region, blast_radius: { max_cells: 2 } }\nfaults: [{ fault: kill }]",
    );
    let mut cells = std::collections::BTreeSet::new();
    let mut regions = std::collections::BTreeSet::new();
    for seed in 0..64 {
        cells.extend(choose(&one, &world, seed).unwrap().cells);
        regions.insert(choose(&zone, &world, seed).unwrap().cells);
    }
    assert_eq!(cells.len(), 3);
    assert_eq!(regions, [vec![id("n1"), id("n2")], vec![id("s1")]].into());
}

#[test]
fn old_numbers_of_a_lost_view_are_no_recovery() {
    let mut story = Story::of(faults("[{ fault: kill, lasts: 5s }]"));
    assert_eq!(story.goes_on(11).says(), "recovering");
    story.scene.sighted = false;
    story.goes_on(60);
    assert_eq!(story.says(), "finished, upheld", "it had recovered while it was still seen");

    let mut story = Story::of(faults("[{ fault: kill, lasts: 5s }]"));
    story.goes_on(9);
    story.scene.users(0.03, 80);
    assert_eq!(story.goes_on(3).says(), "recovering");
    story.scene.sighted = false;
    story.scene.pass(Duration::from_secs(12));
    // What is still remembered looks well, but it is old.
    let seen = story.scene.services.get_mut(&shop()).unwrap();
    seen.error_share = Some(0.0);
    story.goes_on(40);
    assert_eq!(story.says(), "finished, not tested: the rate of `shop` was not seen");
}

#[test]
fn recovery_seen_too_late_is_too_late_even_when_nobody_looked_between() {
    let mut story = Story::of(faults("[{ fault: kill, lasts: 5s }]"));
    story.goes_on(9);
    story.scene.users(0.03, 80);
    assert_eq!(story.goes_on(3).says(), "recovering");
    story.scene.pass(Duration::from_secs(60));
    story.scene.users(0.0, 50);
    story.goes_on(10);
    assert!(story.says().starts_with("finished, refuted: 3.00%"), "{}", story.says());
}
