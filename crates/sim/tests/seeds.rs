//! The control loop keeps its promises in made-up worlds, and the worlds notice when it would not.

use forefend_decide::Guards;
use forefend_sim::{Options, run};

#[test]
fn no_invariant_breaks_in_the_first_seeds() {
    for seed in 0..60 {
        let outcome = run(Options::seed(seed));
        assert!(outcome.findings.is_empty(), "seed {seed}: {:#?}", outcome.findings);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 14, 15] {
        assert_eq!(run(Options::seed(seed)), run(Options::seed(seed)));
    }
    assert_ne!(run(Options::seed(3)).fingerprint, run(Options::seed(14)).fingerprint);
}

fn noticed_without(guards: Guards, invariant: &str) {
    let found = (0..400).any(|seed| {
        let outcome = run(Options { guards, ..Options::seed(seed) });
        outcome.findings.iter().any(|finding| finding.what.starts_with(invariant))
    });
    assert!(found, "the simulator did not notice that {invariant} is gone");
}

#[test]
fn it_notices_when_the_readiness_guard_is_gone() {
    noticed_without(Guards { readiness: false, ..Guards::ALL }, "only_ready_cells_get_weight");
}

#[test]
fn it_notices_when_the_evidence_rule_is_gone() {
    noticed_without(Guards { evidence: false, ..Guards::ALL }, "evidence_earned");
}

#[test]
fn it_notices_when_the_freeze_is_gone() {
    noticed_without(Guards { freeze: false, ..Guards::ALL }, "frozen_holds");
}

#[test]
fn it_notices_when_the_cap_of_pre_tests_is_gone() {
    noticed_without(Guards { pre_test_cap: false, ..Guards::ALL }, "a_pre_test_stays_under_its_cap");
}

#[test]
fn mirrors_are_tried_in_many_of_the_worlds() {
    let tried = (0..60).filter(|seed| run(Options::seed(*seed)).pre_tests > 0).count();
    assert!(tried >= 15, "only in {tried} of 60");
}

#[test]
fn prediction_only_adds() {
    // Over many worlds, not in each: a single canary at a bad mirror costs something that a single lucky failure doesn't.
    let (mut with, mut without) = (0, 0);
    for seed in 0..60 {
        let foretold = run(Options::seed(seed));
        let reactive = run(Options { forecast: false, ..Options::seed(seed) });
        with += foretold.failed + foretold.slow;
        without += reactive.failed + reactive.slow;
    }
    assert!(with < without, "spoilt with prediction: {with}, without: {without}");
}
