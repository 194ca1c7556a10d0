//! What clients see when cells fail, with nobody steering.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use forefend_domain::{CellHealth, CellId};
use forefend_traffic::RetryBudget;
use support::{FAILING, FakeCell, Http, RESETTING, STALLED, TestDirector, until};

fn id(name: &str) -> CellId {
    CellId::new(name).unwrap()
}

/// Sends requests, a fifth of them POSTs, from several connections while `during` runs; statuses by method.
fn load(director: &TestDirector, during: impl FnOnce()) -> BTreeMap<(&'static str, u16), usize> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|client| {
                let (stop, listen) = (&stop, director.listen);
                scope.spawn(move || {
                    let mut http = Http::connect(listen);
                    let mut seen: BTreeMap<(&'static str, u16), usize> = BTreeMap::new();
                    let mut n = 0;
                    while !stop.load(Ordering::SeqCst) {
                        n += 1;
                        let (user, request) = (format!("user-{client}-{n}"), format!("{client}-{n}"));
                        let method = if n % 5 == 0 { "POST" } else { "GET" };
                        let body: &[u8] = if n % 5 == 0 { b"order" } else { b"" };
                        let headers = [("x-user", user.as_str()), ("x-id", request.as_str())];
                        let status = match http.send(method, &headers, body) {
                            Ok(answer) => answer.status,
                            Err(error) => panic!("the director broke a connection: {error}"),
                        };
                        *seen.entry((method, status)).or_default() += 1;
                    }
                    seen
                })
            })
            .collect();
        during();
        stop.store(true, Ordering::SeqCst);
        let mut all = BTreeMap::new();
        for client in clients {
            for (key, count) in client.join().unwrap() {
                *all.entry(key).or_default() += count;
            }
        }
        all
    })
}

fn failed(seen: &BTreeMap<(&'static str, u16), usize>, method: &str) -> usize {
    seen.iter().filter(|((m, status), _)| *m == method && *status != 200).map(|(_, n)| n).sum()
}

/// Every id was executed once at most.
fn nothing_executed_twice(cells: &[&FakeCell], method: &str) {
    let mut seen = BTreeMap::new();
    for executed in cells.iter().flat_map(|cell| cell.executed()) {
        *seen.entry(executed).or_insert(0) += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(id, n)| id.starts_with(method) && **n > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn a_cell_that_refuses_connections_costs_no_request_posts_included() {
    let dir = tempfile::tempdir().unwrap();
    let (a, mut b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    // No budget at all: refused connects must not need any.
    director.set(|settings| {
        settings.retry_budget = RetryBudget { percent: 0, min_per_second: 0 };
        settings.health.path = String::new();
    });
    b.kill();
    director.route(&[("north", &a, 0.5), ("south", &b, 0.5)]);
    let seen = load(&director, || until("enough was sent", || a.executed().len() > 300));
    assert_eq!(seen.keys().map(|(_, status)| *status).max(), Some(200), "{seen:?}");
    nothing_executed_twice(&[&a], "");
    let report = director.report();
    assert_eq!(report.cells[&id("b")].health, CellHealth::Down, "not ejected: {report:?}");
    assert!(report.cells[&id("b")].errors >= 5);
    assert_eq!(report.cells[&id("a")].errors, 0);
}

#[test]
fn a_cell_killed_under_load_fails_no_get_and_no_post_is_executed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (a, mut b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 0.1), ("south", &b, 0.9)]);
    director.until_up(&[&a, &b]);
    let seen = load(&director, || {
        until("it runs", || b.executed().len() > 300);
        b.kill();
        let so_far = a.executed().len();
        until("it goes on", || a.executed().len() > so_far + 300);
    });
    assert_eq!(failed(&seen, "GET"), 0, "{seen:?}");
    // At most what was in flight at that instant: one for each of six clients.
    assert!(failed(&seen, "POST") <= 6, "{seen:?}");
    nothing_executed_twice(&[&a, &b], "POST");
    until("the dead cell is down", || director.report().cells[&id("b")].health == CellHealth::Down);
}

#[test]
fn a_post_whose_bytes_were_sent_is_never_sent_again_and_a_get_is() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    director.set(|settings| settings.ejection.consecutive_failures = 0);
    director.route(&[("north", &a, 0.5), ("south", &b, 0.5)]);
    let mut http = Http::connect(director.listen);
    let at_a = (0..).map(|n| format!("user-{n}")).find(|user| http.get(user, "probe").cell() == "a").unwrap();
    a.behave(RESETTING);
    let post = http.send("POST", &[("x-user", &at_a), ("x-id", "p1")], b"order").unwrap();
    assert_eq!((post.status, post.cause()), (502, "reset"));
    let get = http.get(&at_a, "g1");
    assert_eq!((get.status, get.cell()), (200, "b"));
    let put = http.send("PUT", &[("x-user", &at_a), ("x-id", "u1")], b"all of it").unwrap();
    assert_eq!((put.status, put.cell(), put.body.as_slice()), (200, "b", &b"all of it"[..]));
    let count = |cell: &FakeCell, what: &str| cell.executed().iter().filter(|e| *e == what).count();
    assert_eq!((count(&a, "POST p1"), count(&b, "POST p1")), (1, 0));
    assert_eq!((count(&a, "GET g1"), count(&b, "GET g1")), (1, 1));
}

#[test]
fn a_write_that_no_second_try_may_follow_is_waited_for_and_a_read_goes_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    director.set(|settings| settings.health.path = String::new());
    director.route(&[("north", &a, 0.5), ("south", &b, 0.5)]);
    let mut http = Http::connect(director.listen);
    let at_a = (0..).map(|n| format!("user-{n}")).find(|user| http.get(user, "probe").cell() == "a").unwrap();
    // Twice the time of a try, a fifth of the request's.
    a.delay_ms.store(600, Ordering::SeqCst);
    let post = http.send("POST", &[("x-user", &at_a), ("x-id", "p1")], b"order").unwrap();
    assert_eq!((post.status, post.cell()), (200, "a"), "{post:?}");
    let get = http.get(&at_a, "g1");
    assert_eq!((get.status, get.cell()), (200, "b"), "{get:?}");
    let count = |cell: &FakeCell, what: &str| cell.executed().iter().filter(|e| *e == what).count();
    assert_eq!((count(&a, "POST p1"), count(&b, "POST p1")), (1, 0));
}

#[test]
fn a_stalled_cell_is_left_after_a_few_timeouts() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    director.set(|settings| {
        settings.health.path = String::new();
        settings.ejection.base_duration = Duration::from_secs(60);
    });
    director.route(&[("north", &a, 0.5), ("south", &b, 0.5)]);
    let seen = load(&director, || {
        until("it runs", || b.executed().len() > 100);
        b.behave(STALLED);
        let so_far = a.executed().len();
        until("it goes on", || a.executed().len() > so_far + 300);
    });
    assert_eq!(failed(&seen, "GET"), 0, "{seen:?}");
    nothing_executed_twice(&[&a, &b], "POST");
    let report = director.report();
    assert_eq!(report.cells[&id("b")].health, CellHealth::Down, "{report:?}");
    let mut http = Http::connect(director.listen);
    let begun = Instant::now();
    for n in 0..50 {
        assert_eq!(http.get(&format!("later-{n}"), "").cell(), "a");
    }
    assert!(begun.elapsed() < Duration::from_millis(250), "requests still wait for the stalled cell");
}

#[test]
fn retries_stop_when_the_budget_is_spent() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    director.set(|settings| {
        settings.retry_budget = RetryBudget { percent: 10, min_per_second: 0 };
        settings.ejection.consecutive_failures = 0;
    });
    director.route(&[("north", &a, 0.5), ("south", &b, 0.5)]);
    a.behave(RESETTING);
    let mut http = Http::connect(director.listen);
    let answers: Vec<_> = (0..200).map(|n| http.get(&format!("user-{n}"), "x").status).collect();
    let failed = answers.iter().filter(|status| **status == 502).count();
    let retried = a.executed().len() - failed;
    assert!(failed > 40, "{failed} failed");
    assert!((10..=20).contains(&retried), "{retried} of 200 were retried at 10%");
}

#[test]
fn when_all_are_ill_all_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (FakeCell::start("a"), FakeCell::start("b"));
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 0.5), ("south", &b, 0.5)]);
    director.until_up(&[&a, &b]);
    a.behave(FAILING);
    b.behave(FAILING);
    until("both are down", || director.report().cells.values().all(|c| c.health == CellHealth::Down));
    assert_eq!(Http::connect(director.listen).get("u", "").status, 500, "the cell's own answer");
}

#[test]
fn a_parked_cell_is_unknown_and_up_as_soon_as_it_thaws() {
    let dir = tempfile::tempdir().unwrap();
    let (a, parked) = (FakeCell::start("a"), FakeCell::start("parked"));
    parked.behave(STALLED);
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 1.0), ("north", &parked, 0.0)]);
    until("it was asked in vain", || {
        let report = director.report();
        let cell = &report.cells[&id("parked")];
        cell.health == CellHealth::Unknown && cell.why.contains("parked")
    });
    parked.behave(support::NORMAL);
    director.route(&[("north", &a, 0.9), ("north", &parked, 0.1)]);
    director.until_up(&[&parked]);
}

#[test]
fn cells_with_no_weight_get_nothing_even_when_the_others_are_dead() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, idle) = (FakeCell::start("a"), FakeCell::start("idle"));
    let mut director = TestDirector::start(dir.path());
    director.route(&[("north", &a, 1.0), ("north", &idle, 0.0)]);
    director.until_up(&[&a, &idle]);
    a.kill();
    let answer = Http::connect(director.listen).get("u", "x");
    assert_eq!((answer.status, answer.cause()), (503, "connect"));
    assert!(idle.executed().is_empty());
}
