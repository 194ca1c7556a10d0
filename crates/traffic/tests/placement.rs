//! Users are where the weights say, stay there, and come back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use forefend_domain::CellId;
use support::{FakeCell, Http, TestDirector, until};

const USERS: usize = 1_500;

fn where_users_are(director: &TestDirector) -> BTreeMap<usize, String> {
    let mut http = Http::connect(director.listen);
    (0..USERS)
        .map(|n| {
            let answer = http.get(&format!("user-{n}"), "");
            assert_eq!(answer.status, 200, "{answer:?}");
            (n, answer.cell().to_owned())
        })
        .collect()
}

fn share(users: &BTreeMap<usize, String>, cell: &str) -> f64 {
    users.values().filter(|c| *c == cell).count() as f64 / users.len() as f64
}

#[test]
fn a_shift_moves_its_share_of_users_and_a_rollback_brings_exactly_them_home() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, mirror) = (FakeCell::start("a"), FakeCell::start("b"), FakeCell::start("mirror"));
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 0.6), ("south", &b, 0.4), ("south", &mirror, 0.0)]);
    director.until_up(&[&a, &b, &mirror]);
    let home = where_users_are(&director);
    assert!((share(&home, "a") - 0.6).abs() < 0.05);
    assert_eq!(share(&home, "mirror"), 0.0, "zero weight means no user");

    director.route(&[("north", &a, 0.5), ("south", &b, 0.4), ("south", &mirror, 0.1)]);
    let canary = where_users_are(&director);
    assert!((share(&canary, "mirror") - 0.1).abs() < 0.04, "{}", share(&canary, "mirror"));
    director.route(&[("north", &a, 0.2), ("south", &b, 0.4), ("south", &mirror, 0.4)]);
    let more = where_users_are(&director);
    assert!((share(&more, "mirror") - 0.4).abs() < 0.05);

    director.route(&[("north", &a, 0.6), ("south", &b, 0.4), ("south", &mirror, 0.0)]);
    let back = where_users_are(&director);
    assert_eq!(back, home);
    let report = director.report();
    assert_eq!(report.generation, 4);
    assert_eq!(report.effective[&support::service()].share(&CellId::new("mirror").unwrap()), 0.0);
    let requests: u64 = report.cells.values().map(|cell| cell.requests).sum();
    assert_eq!(requests, 4 * USERS as u64);
    assert!(report.cells.values().all(|cell| cell.errors == 0 && cell.in_flight == 0));
}

#[test]
fn requests_of_nobody_follow_the_weights_closely() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 0.95), ("south", &b, 0.05)]);
    let mut http = Http::connect(director.listen);
    let at_b = (0..1_000).filter(|_| http.send("GET", &[], b"").unwrap().cell() == "b").count();
    assert!((40..=60).contains(&at_b), "{at_b} of 1000 at 5%");
}

#[test]
fn a_director_that_starts_again_serves_at_once_with_every_user_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    // Two steps, so that the table has a history that plain weights could not give back.
    director.route(&[("north", &a, 0.3), ("south", &b, 0.7)]);
    director.route(&[("north", &a, 0.5), ("south", &b, 0.5)]);
    let before = where_users_are(&director);
    director.stop(false).unwrap();

    let listen = director.listen;
    let mut again = TestDirector::start_with(forefend_traffic::DirectorOptions::new(dir.path()), listen);
    assert_eq!(where_users_are(&again), before, "nobody told it anything");
    assert_eq!(again.report().generation, 2);
}

#[test]
fn a_broken_journal_is_moved_aside_and_the_engine_can_still_apply() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("journal.json"), b"{\"format\":1,").unwrap();
    let a = FakeCell::start("a");
    let mut director = TestDirector::start(dir.path());
    assert!(dir.path().join("journal.json.unusable").exists());
    director.route(&[("north", &a, 1.0)]);
    until("it serves", || Http::connect(director.listen).get("u", "").status == 200);
}
