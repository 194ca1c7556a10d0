//! The loop keeps its promises towards the store, the data plane and the operator.

mod support;

use std::time::Duration;

use forefend_control::{ControllerError, OperatorCommand, OperatorRefusal};
use forefend_domain::{
    EntryKind, Mode, ObjectiveState, ShiftReason, Timestamp, Verdict, Weight, ports::Store,
};
use forefend_store::{CommitFault, MemoryStore};
use support::{Happening, Setup, id, start, topology, wanted_weights};

/// In auto mode, at home, and with nothing foreseen.
fn at_home() -> Setup {
    let mut setup = Setup::new(Mode::Auto);
    setup.until("it is at home", |s, _| s.share("north") == 0.5 && s.share("south") == 0.5);
    setup
}

#[test]
fn a_shift_goes_from_prediction_to_read_back_and_home_again() {
    let mut setup = at_home();
    setup.at_risk("north", 0.9);
    setup.until("all of it is away", |s, _| s.share("north") == 0.0);
    let snapshot = setup.tick();
    assert_eq!(snapshot.shifts[0].moved, Weight::FULL, "as read back");
    assert!(snapshot.degraded.is_empty(), "{:?}", snapshot.degraded);
    setup.at_risk("north", 0.0);
    for _ in 0..4 {
        setup.ticks(200);
    }
    setup.until("it is home", |s, snapshot| s.share("north") == 0.5 && snapshot.shifts.is_empty());
    let kinds: Vec<_> = setup.entries().into_iter().map(|e| e.kind).collect();
    let place = |is: &dyn Fn(&EntryKind) -> bool| kinds.iter().position(is);
    let began = place(&|k| matches!(k, EntryKind::ShiftBegan { reason: ShiftReason::Predicted, .. }));
    let done = place(&|k| matches!(k, EntryKind::ShiftDone { .. }));
    let returned = place(&|k| matches!(k, EntryKind::Returned { .. }));
    let judged = place(&|k| matches!(k, EntryKind::Judged { .. }));
    assert!(began.is_some() && began < done && done < returned && returned < judged, "{kinds:#?}");
}

#[test]
fn everything_is_in_the_ledger_before_it_is_done() {
    let mut setup = at_home();
    setup.at_risk("north", 0.9);
    setup.until("all of it is away", |s, _| s.share("north") == 0.0);
    let mut written = Vec::new();
    let mut applied = 0;
    for happening in setup.log() {
        match happening {
            Happening::Written(entry) => written.extend(wanted_weights(&entry).cloned()),
            Happening::Applied(weights) => {
                applied += 1;
                // The newest decision that was written, not just any.
                assert_eq!(written.last(), Some(&weights));
            }
            Happening::Commanded(command) => panic!("nobody asked for {command:?}"),
        }
    }
    assert!(applied >= 4, "home and the steps: {applied}");
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let mut setup = at_home();
    setup.at_risk("north", 0.9);
    let deeds = setup.deeds();
    setup.store.set_unreachable(true);
    // Once there is something to write it says so, and goes on saying so.
    let says_so = |s: &forefend_control::Snapshot| s.degraded.iter().any(|d| d.contains("nothing was done"));
    setup.until("it says so", |_, snapshot| says_so(snapshot));
    for _ in 0..20 {
        let snapshot = setup.tick();
        assert!(says_so(&snapshot), "{:?}", snapshot.degraded);
    }
    assert_eq!(setup.deeds(), deeds);
    assert_eq!(setup.share("north"), 0.5);
    setup.store.set_unreachable(false);
    setup.until("then it is done", |s, _| s.share("north") == 0.0);
}

#[test]
fn a_commit_whose_answer_was_lost_does_no_harm() {
    let mut setup = at_home();
    setup.at_risk("north", 0.9);
    for _ in 0..6 {
        setup.store.fail_next_commit(CommitFault::After);
        setup.ticks(2);
    }
    setup.until("all of it is away", |s, _| s.share("north") == 0.0);
    assert!((setup.share("spare") - 0.5).abs() < 1e-9);
}

#[test]
fn without_the_data_plane_it_holds_and_says_so() {
    let mut setup = at_home();
    setup.at_risk("north", 0.9);
    setup.until("the canary is out", |s, _| s.share("spare") > 0.0);
    let before = (setup.deeds(), setup.share("spare"));
    setup.state.borrow_mut().data_plane_answers = false;
    for _ in 0..20 {
        let snapshot = setup.tick();
        assert!(snapshot.degraded.iter().any(|d| d.contains("data plane")), "{:?}", snapshot.degraded);
        assert!(snapshot.world.services["shop"].effective.is_none(), "not seen is not zero");
    }
    assert_eq!((setup.deeds(), setup.share("spare")), before);
    setup.state.borrow_mut().data_plane_answers = true;
    setup.until("it goes on", |s, _| s.share("north") == 0.0);
}

#[test]
fn a_restarted_engine_goes_on_without_moving_anybody() {
    let mut setup = at_home();
    setup.at_risk("north", 0.9);
    setup.until("half is away", |s, _| s.share("north") <= 0.25 && s.share("north") > 0.0);
    let weights = setup.state.borrow().applied.services["shop"].weights.clone();
    let began =
        |s: &mut Setup| s.entries().iter().filter(|e| matches!(e.kind, EntryKind::ShiftBegan { .. })).count();
    assert_eq!(began(&mut setup), 1);
    setup.restart();
    let snapshot = setup.tick();
    assert_eq!(setup.state.borrow().applied.services["shop"].weights, weights, "nobody was moved");
    assert_eq!(snapshot.shifts.len(), 1, "it knows of the shift");
    assert!(snapshot.shifts[0].outbound);
    assert!(snapshot.shifts[0].evidence.requests > 0, "and what the mirror has earned");
    let mut least = setup.share("north");
    setup.until("it is finished", |s, _| s.share("north") == 0.0);
    least = least.min(setup.share("north"));
    assert_eq!(least, 0.0);
    assert_eq!(began(&mut setup), 1, "it was not begun a second time");
}

#[test]
fn a_freeze_outlives_the_engine() {
    let mut setup = at_home();
    setup.command(OperatorCommand::Freeze).unwrap();
    setup.restart();
    assert!(setup.controller.is_frozen());
    setup.at_risk("north", 0.9);
    let deeds = setup.deeds();
    setup.ticks(20);
    // The first tick after a start may tell the data plane again what it has; nothing else may happen.
    assert!(setup.deeds() <= deeds + 1);
    assert_eq!(setup.share("north"), 0.5);
    setup.command(OperatorCommand::Unfreeze).unwrap();
    setup.until("it goes on", |s, _| s.share("north") == 0.0);
}

#[test]
fn a_memory_of_another_format_is_refused_with_a_remedy() {
    let mut setup = at_home();
    setup.ticks(10);
    let memory = String::from_utf8(setup.store.memory().unwrap().unwrap()).unwrap();
    assert!(memory.contains("\"format\":1"), "{memory}");
    for (bytes, expected) in [
        (memory.replace("\"format\":1", "\"format\":2"), "format 2"),
        ("{\"format\":1}".to_owned(), "missing field"),
        ("not at all".to_owned(), "expected"),
        (String::new(), "EOF"),
    ] {
        let mut store = MemoryStore::default();
        store.commit(Timestamp::from_unix_ms(1), &[], bytes.as_bytes()).unwrap();
        let refused = start(&topology(Mode::Auto), &mut store).expect_err("it was taken");
        assert!(matches!(refused, ControllerError::Memory(_)));
        let text = refused.to_string();
        assert!(text.contains(expected) && text.contains("start the version that wrote it"), "{text}");
    }
}

#[test]
fn a_store_that_cannot_be_read_is_refused() {
    let mut store = MemoryStore::default();
    store.set_unreachable(true);
    assert!(matches!(start(&topology(Mode::Auto), &mut store), Err(ControllerError::Store(_))));
}

// ── operators ───────────────────────────────────────────────────────────────────────────────────────────────────────

fn shift_of(cell: &forefend_domain::CellId, weight: Weight) -> OperatorCommand {
    OperatorCommand::Shift { cell: cell.clone(), weight, lease: None, drill: false }
}

#[test]
fn commands_that_make_no_sense_are_refused_and_change_nothing() {
    let mut setup = at_home();
    let before = (setup.entries().len(), setup.store.memory().unwrap());
    let weight = Weight::FULL;
    let nobody = id("nobody");
    assert_eq!(setup.command(shift_of(&nobody, weight)), Err(OperatorRefusal::NoSuchCell(nobody.clone())));
    assert_eq!(
        setup.command(OperatorCommand::EndShift { cell: nobody.clone() }),
        Err(OperatorRefusal::NoSuchCell(nobody.clone()))
    );
    assert_eq!(
        setup.command(OperatorCommand::Approve { cell: nobody.clone() }),
        Err(OperatorRefusal::NoSuchCell(nobody))
    );
    let spare = id("spare");
    assert_eq!(setup.command(shift_of(&spare, weight)), Err(OperatorRefusal::NothingToMove(spare)));
    let north = id("north");
    assert_eq!(
        setup.command(OperatorCommand::Approve { cell: north.clone() }),
        Err(OperatorRefusal::NotAsked(north))
    );
    assert_eq!((setup.entries().len(), setup.store.memory().unwrap()), before);
}

#[test]
fn a_command_that_cannot_be_written_down_does_not_count() {
    let mut setup = at_home();
    setup.store.set_unreachable(true);
    assert!(matches!(setup.command(OperatorCommand::Freeze), Err(OperatorRefusal::NotWritten(_))));
    assert!(!setup.controller.is_frozen());
    setup.store.set_unreachable(false);
    setup.command(OperatorCommand::Freeze).unwrap();
    assert!(setup.controller.is_frozen());
    let last = setup.entries().pop().unwrap();
    assert_eq!(last.kind, EntryKind::Operator { who: "ada".into(), what: "froze everything".into() });
}

#[test]
fn an_operators_shift_moves_holds_and_ends() {
    let mut setup = at_home();
    let north = id("north");
    let weight = Weight::from_bp(2_000).unwrap();
    setup.command(shift_of(&north, weight)).unwrap();
    setup.until("a fifth is away", |s, _| (s.share("north") - 0.4).abs() < 1e-9);
    setup.ticks(20);
    assert!((setup.share("north") - 0.4).abs() < 1e-9);
    setup.command(OperatorCommand::EndShift { cell: north }).unwrap();
    setup.until("it is home", |s, snapshot| s.share("north") == 0.5 && snapshot.shifts.is_empty());
}

#[test]
fn an_approval_is_waited_for_and_counts_once() {
    let mut setup = Setup::new(Mode::Approve);
    setup.until("it is at home", |s, _| s.share("north") == 0.5);
    setup.at_risk("north", 0.9);
    setup.ticks(20);
    assert_eq!(setup.share("north"), 0.5);
    let snapshot = setup.tick();
    assert_eq!(snapshot.shifts[0].bound_by, "approval");
    setup.command(OperatorCommand::Approve { cell: id("north") }).unwrap();
    setup.until("all of it is away", |s, _| s.share("north") == 0.0);
    setup.at_risk("north", 0.0);
    for _ in 0..4 {
        setup.ticks(200);
    }
    setup.until("it is home", |s, snapshot| s.share("north") == 0.5 && snapshot.shifts.is_empty());
    setup.ticks(1_300);
    setup.at_risk("north", 0.9);
    setup.ticks(20);
    assert_eq!(setup.share("north"), 0.5, "the next shift needs an approval of its own");
}

#[test]
fn a_limit_that_nobody_declared_is_learned_from_two_failures_and_outlives_the_engine() {
    let mut setup = at_home();
    let limit_given = |snapshot: &forefend_control::Snapshot| snapshot.predictions["south"].curve[0].0;
    setup.at_risk("north", 0.2);
    setup.ticks(40);
    for _ in 0..2 {
        let before = setup.tick();
        assert_eq!(limit_given(&before), 0.0, "one failure may be a coincidence");
        setup.at_risk("north", 0.45);
        setup.ticks(4);
        setup.state.borrow_mut().failing.insert(id("north"));
        setup.until("north has failed", |_, s| s.world.services["shop"].cells["north"].objective.is_failed());
        setup.state.borrow_mut().failing.clear();
        setup.at_risk("north", 0.2);
        setup.until("north is well again", |_, s| {
            matches!(s.world.services["shop"].cells["north"].objective, ObjectiveState::Met { .. })
        });
    }
    let after = setup.tick();
    assert_eq!(limit_given(&after), 0.45, "the cells of a service have the same limit");
    let told: Vec<String> = setup
        .entries()
        .into_iter()
        .filter_map(|e| match e.kind {
            EntryKind::Engine { what } if what.starts_with("learned") => Some(what),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        ["learned that risk must not reach 0.45: cells failed when it stood at 0.45 and 0.45"],
        "once, in words"
    );
    setup.restart();
    assert_eq!(limit_given(&setup.tick()), 0.45);
}

// ── pre-tests ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn at_the_moment_the_shift_begins_its_mirror_has_served_real_users() {
    let mut setup = at_home();
    setup.at_risk("north", 0.45);
    let snapshot = setup.until("the mirror is tried", |s, _| s.share("spare") > 0.0);
    let [test] = &snapshot.pre_tests[..] else { panic!("{:?}", snapshot.pre_tests) };
    assert_eq!((test.from.as_str(), test.to.as_str(), test.share.bp()), ("north", "spare", 70));
    assert!(snapshot.shifts.is_empty());
    setup.ticks(40);
    let earned = setup.tick().pre_tests[0].evidence.requests;
    assert!(earned >= 60, "seven of 2 000 requests per second for ten seconds: {earned}");

    setup.at_risk("north", 0.9);
    let begins = setup.until("the shift begins", |_, snapshot| !snapshot.shifts.is_empty());
    assert!(begins.pre_tests.is_empty());
    assert!(begins.shifts[0].evidence.requests >= earned, "{:?}", begins.shifts[0].evidence);
    assert!(begins.shifts[0].moved.bp() >= 60, "{}", begins.shifts[0].moved);
    // Every step from here on is covered by what the mirror had shown before it, and none goes back.
    let mut seen = begins.shifts[0].evidence.requests;
    let mut share = setup.share("spare");
    while setup.share("north") > 0.0 {
        let now = setup.share("spare");
        assert!(now >= share - 1e-9, "from {share} back to {now}");
        let harm = now * (1.0 - 0.05f64.powf(1.0 / seen as f64));
        assert!(now <= 0.025 + 1e-9 || harm <= 0.01 + 0.000_3, "{now} after {seen} requests");
        share = now;
        seen = setup.tick().shifts[0].evidence.requests;
    }
    setup.tick();
    let said = words(&mut setup);
    let place = |word: &str| said.iter().position(|w| w == word);
    assert!(place("pre-test-begins").is_some() && place("pre-test-begins") < place("pre-test-ends"));
    assert!(place("pre-test-ends") <= place("shift-begins") && place("shift-begins") < place("shift-done"));
}

#[test]
fn a_pre_test_that_was_not_needed_leaves_neither_shift_nor_verdict_nor_weight() {
    let mut setup = at_home();
    setup.at_risk("north", 0.45);
    setup.until("the mirror is tried", |s, _| s.share("spare") > 0.0);
    setup.at_risk("north", 0.0);
    // The policy wants the cell to be well for two minutes.
    setup.ticks(470);
    assert!(setup.share("spare") > 0.0);
    setup.ticks(20);
    assert_eq!((setup.share("north"), setup.share("spare")), (0.5, 0.0));
    assert_eq!(words(&mut setup), ["pre-test-begins", "pre-test-ends"]);
    let kinds: Vec<_> = setup.entries().into_iter().map(|e| e.kind).collect();
    assert!(
        !kinds.iter().any(|k| matches!(
            k,
            EntryKind::ShiftBegan { .. } | EntryKind::Judged { .. } | EntryKind::Returned { .. }
        )),
        "{kinds:#?}"
    );
}

#[test]
fn a_restarted_engine_keeps_the_pre_test_going() {
    let mut setup = at_home();
    setup.at_risk("north", 0.45);
    setup.until("the mirror is tried", |s, _| s.share("spare") > 0.0);
    setup.ticks(40);
    let before = (setup.tick().pre_tests, setup.state.borrow().applied.services["shop"].weights.clone());
    setup.restart();
    for _ in 0..40 {
        let snapshot = setup.tick();
        assert_eq!(setup.state.borrow().applied.services["shop"].weights, before.1, "nobody was moved");
        let [test] = &snapshot.pre_tests[..] else { panic!("{:?}", snapshot.pre_tests) };
        assert_eq!((test.since, &test.to), (before.0[0].since, &before.0[0].to));
    }
    assert!(setup.tick().pre_tests[0].evidence.requests > before.0[0].evidence.requests);
    assert_eq!(words(&mut setup), ["pre-test-begins"], "it was not begun a second time");
}

/// What was explained, in order.
fn words(setup: &mut Setup) -> Vec<String> {
    let explained = setup.entries().into_iter().filter_map(|e| match e.kind {
        EntryKind::Decision { explanations, .. } => Some(explanations),
        _ => None,
    });
    explained.flatten().map(|e| e.what).collect()
}

// ── leases and drills ───────────────────────────────────────────────────────────────────────────────────────────────

fn leased(bp: u32, lease_s: u64, drill: bool) -> OperatorCommand {
    OperatorCommand::Shift {
        cell: id("north"),
        weight: Weight::from_bp(bp).unwrap_or(Weight::FULL),
        lease: Some(Duration::from_secs(lease_s)),
        drill,
    }
}

#[test]
fn a_drill_whose_runner_is_killed_leaves_no_traffic_away_even_when_the_engine_is_killed_too() {
    let mut setup = at_home();
    setup.command(leased(2_000, 10, true)).unwrap();
    setup.until("a fifth is away", |s, _| (s.share("north") - 0.4).abs() < 1e-9);
    let before = setup.entries().len();
    for _ in 0..5 {
        setup.ticks(24);
        setup.command(leased(2_000, 10, true)).unwrap();
    }
    assert!((setup.share("north") - 0.4).abs() < 1e-9, "thirty seconds on leases of ten");
    assert_eq!(setup.entries().len(), before, "a renewal is not worth an entry");
    setup.restart();
    setup.ticks(20);
    assert!((setup.share("north") - 0.4).abs() < 1e-9, "the new engine knows of the lease");
    setup.until("it is home", |s, snapshot| s.share("north") == 0.5 && snapshot.shifts.is_empty());
    let kinds: Vec<_> = setup.entries().into_iter().map(|e| e.kind).collect();
    let began = |k: &&EntryKind| matches!(k, EntryKind::ShiftBegan { reason: ShiftReason::Drill, .. });
    assert_eq!(kinds.iter().filter(began).count(), 1);
    let told =
        EntryKind::Engine { what: "let the drill's shift of north end: its lease was not renewed".into() };
    assert_eq!(kinds.iter().filter(|k| **k == told).count(), 1, "{kinds:#?}");
    assert!(kinds.iter().any(|k| matches!(k, EntryKind::Judged { verdict: Verdict::Neutral, .. })));
    let snapshot = setup.tick();
    assert!(snapshot.world.requested.is_empty());
}

#[test]
fn what_a_drill_may_not_is_refused_and_changes_nothing() {
    let mut setup = at_home();
    let north = id("north");
    let endless =
        OperatorCommand::Shift { cell: north.clone(), weight: Weight::FULL, lease: None, drill: true };
    let refused = |setup: &mut Setup, command: OperatorCommand, why: OperatorRefusal| {
        let before = (setup.entries().len(), setup.store.memory().unwrap());
        assert_eq!(setup.command(command), Err(why));
        assert_eq!((setup.entries().len(), setup.store.memory().unwrap()), before);
    };
    refused(&mut setup, endless, OperatorRefusal::BadLease);
    refused(&mut setup, leased(100, 0, false), OperatorRefusal::BadLease);
    refused(&mut setup, leased(100, 100_000, true), OperatorRefusal::BadLease);
    setup.command(OperatorCommand::Freeze).unwrap();
    refused(&mut setup, leased(100, 10, true), OperatorRefusal::Frozen);
    setup.command(OperatorCommand::Unfreeze).unwrap();
    setup.command(shift_of(&north, Weight::FULL)).unwrap();
    refused(&mut setup, leased(100, 10, true), OperatorRefusal::OperatorsOwn(north.clone()));
    setup.command(OperatorCommand::EndShift { cell: north }).unwrap();
    setup.command(leased(100, 10, true)).unwrap();
}

#[test]
fn an_operator_may_take_a_drills_shift_for_good() {
    let mut setup = at_home();
    setup.command(leased(2_000, 5, true)).unwrap();
    setup.until("a fifth is away", |s, _| (s.share("north") - 0.4).abs() < 1e-9);
    setup.command(shift_of(&id("north"), Weight::from_bp(2_000).unwrap())).unwrap();
    setup.ticks(80);
    assert!((setup.share("north") - 0.4).abs() < 1e-9);
}

#[test]
fn a_command_and_a_memory_from_before_there_were_leases_are_read() {
    let older = r#"{"command": "shift", "cell": "north", "weight": 2000}"#;
    let read: OperatorCommand = serde_json::from_str(older).unwrap();
    assert_eq!(read, shift_of(&id("north"), Weight::from_bp(2_000).unwrap()));

    let mut setup = at_home();
    setup.command(read).unwrap();
    let memory = String::from_utf8(setup.store.memory().unwrap().unwrap()).unwrap();
    let now = r#"{"weight":2000,"until":null,"drill":false}"#;
    assert!(memory.contains(now), "{memory}");
    let older = memory.replace(now, "2000");
    setup.store.commit(Timestamp::from_unix_ms(1), &[], older.as_bytes()).unwrap();
    setup.restart();
    setup.until("a fifth is away", |s, _| (s.share("north") - 0.4).abs() < 1e-9);
}
