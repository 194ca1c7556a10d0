//! What survives a SIGKILL: the engine's at any instant, also half-way through a shift, and the director's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    PATIENCE, Served, contiguous, effective_bp, free_address,
    load::{self, Load, Users},
    processes, settled,
    shop::Shop,
    wait_for, weights_of,
};

/// Rounds in which a settled engine is killed, and in which one that has just begun is.
const ROUNDS: u64 = 8;

/// The director must serve again within this time; what is measured is printed.
const DIRECTOR_BACK_WITHIN: Duration = Duration::from_secs(5);

/// A sequence that is the same for the same seed (SplitMix64, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    /// A new one; `FOREFEND_TEST_SEED` repeats an old one.
    fn new(story: &str) -> Self {
        let given = std::env::var("FOREFEND_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |now| u64::from(now.subsec_nanos()))
        });
        eprintln!("{story}: FOREFEND_TEST_SEED={seed} repeats these instants");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    /// Lets a random time pass: the instant of a kill is what is being drawn.
    fn wait_up_to(&mut self, most_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.below(most_ms + 1)));
    }
}

fn shop() -> (Served, Users) {
    let target = free_address();
    let served = Served::start(&["--accept-missing-protections"], |state_dir, api| {
        Shop { state_dir, api, shop: target, inventory: free_address(), mode: "auto" }.configuration()
    });
    served.wait("the shop serves", PATIENCE, settled);
    (served, Users { target, path: "/item/7", posts: true, per_s: 150, people: 120 })
}

/// Kills the engine and returns the pid of the one that came instead.
fn kill_engine(served: &mut Served) -> i32 {
    let old = wait_for("an engine runs", PATIENCE, || served.engine_pid());
    processes::signal(old, Signal::SIGKILL);
    wait_for("an engine comes back by itself", PATIENCE, || served.engine_pid().filter(|new| *new != old))
}

/// What the ledger's last decision says the service's weights are, in the form of the world's.
fn last_decided(ledger: &[Value], service: &str) -> Value {
    let effects = ledger.iter().rev().filter_map(|entry| entry["effects"].as_array()).flatten();
    // Entries come newest first; within one there is at most one of these for a service.
    let mut set = effects.filter(|e| e["effect"] == "set-weights" && e["service"] == service);
    set.next().expect("a decision on weights")["weights"].clone()
}

/// Without cells that have no weight: whether a zero is written down makes no difference to anybody.
fn without_zeros(weights: &Value) -> BTreeMap<String, u64> {
    let regions = weights["cells"].as_object().unwrap().values();
    let cells = regions.filter_map(Value::as_object).flatten();
    cells.filter_map(|(cell, bp)| Some((cell.clone(), bp.as_u64().filter(|bp| *bp > 0)?))).collect()
}

#[test]
fn the_engine_is_killed_at_any_instant() {
    let mut dice = Dice::new("engine");
    let (mut served, users) = shop();
    let cells = served.cell_pids();
    let director = served.director_pid().unwrap();
    let home = load::homes(users);
    let load = Load::start(users);
    load.next(100).all_well();
    let mut known = contiguous(served.ledger());
    let first = known.len();
    let before = served.wait("it is settled", PATIENCE, settled);

    for round in 0..ROUNDS {
        if round % 2 == 0 {
            dice.wait_up_to(600);
        }
        kill_engine(&mut served);
        if round % 2 == 1 {
            // The successor is still reading what its predecessor left.
            dice.wait_up_to(150);
            continue;
        }
        served.wait("the new engine sees the shop as it is", PATIENCE, settled);
        let ledger = contiguous(served.ledger());
        assert!(ledger.starts_with(&known), "round {round}: entries were lost or changed");
        known = ledger;
    }
    let after = served.wait("the last engine sees the shop as it is", PATIENCE, settled);
    let ledger = contiguous(served.ledger());
    assert!(ledger.starts_with(&known), "entries were lost or changed");
    // None found a reason to move anything.
    let moves: Vec<&Value> = ledger[first..].iter().filter(|e| e["kind"] == "shift-began").collect();
    assert!(moves.is_empty(), "{moves:?}");
    assert_eq!(
        after["world"]["services"]["shop"]["effective"],
        before["world"]["services"]["shop"]["effective"]
    );
    assert_eq!(served.cell_pids(), cells, "cells were made again");
    assert_eq!(served.director_pid(), Some(director), "the director was replaced");
    assert_eq!(load::homes(users), home, "users were moved");
    load.take().all_well();
}

#[test]
fn the_engine_is_killed_half_way_through_a_shift() {
    let mut dice = Dice::new("shift");
    let (mut served, users) = shop();
    let cells = served.cell_pids();
    let home = load::homes(users);
    let load = Load::start(users);
    load.next(100).all_well();
    for round in 0..3 {
        served.told(&["shift", "shop-a", "40%"]);
        dice.wait_up_to(1_500);
        kill_engine(&mut served);
        served.wait("what was asked for came about", PATIENCE, |s| effective_bp(s, "shop-a") == Some(3_000));
        served.told(&["shift", "shop-a", "0%"]);
        dice.wait_up_to(1_500);
        kill_engine(&mut served);
        let end = served.wait("everything is home", PATIENCE, settled);
        let at_home = BTreeMap::from([("shop-a".to_owned(), 5_000), ("shop-b".to_owned(), 5_000)]);
        assert_eq!(weights_of(&end, "shop"), at_home, "round {round}");
        let decided = last_decided(&contiguous(served.ledger()), "shop");
        assert_eq!(
            without_zeros(&decided),
            without_zeros(&end["world"]["services"]["shop"]["effective"]),
            "what applies is what the ledger says was decided"
        );
    }
    same_cells(&served, &cells);
    assert_eq!(load::homes(users), home, "every user is where they were");
    load.take().all_well();
}

#[test]
fn the_director_is_killed() {
    let mut dice = Dice::new("director");
    let (mut served, users) = shop();
    {
        // Some are away from home, so that it matters that the journal knows who.
        let load = Load::start(users);
        served.told(&["shift", "shop-a", "40%"]);
        served.wait("40% are away", PATIENCE, |s| effective_bp(s, "shop-a") == Some(3_000));
        load.take().all_well();
    }
    let (cells, engine) = (served.cell_pids(), served.engine_pid());
    let placed = load::homes(users);
    let mut times = Vec::new();
    for _ in 0..4 {
        dice.wait_up_to(300);
        let director = served.director_pid().unwrap();
        let killed = Instant::now();
        processes::signal(director, Signal::SIGKILL);
        serves_again(users.target, killed);
        times.push(killed.elapsed());
        let now = load::homes(users);
        let moved: Vec<_> = placed.iter().filter(|(who, at)| now[who] != **at).collect();
        assert!(moved.is_empty(), "users were moved: {moved:?}\n{}", served.story());
        same_cells(&served, &cells);
        assert_eq!(served.engine_pid(), engine);
        served.wait("the engine talks to the new director", PATIENCE, |s| {
            s["degraded"].as_array().is_some_and(Vec::is_empty) && effective_bp(s, "shop-a") == Some(3_000)
        });
    }
    eprintln!("director killed: served again after {times:?}");
    // The new director watches the engine as the old one did.
    kill_engine(&mut served);
    served.wait("the new engine knows of the shift", PATIENCE, |s| effective_bp(s, "shop-a") == Some(3_000));
}

/// Every cell there was is the process it was; others may have been made since.
fn same_cells(served: &Served, before: &BTreeMap<String, i32>) {
    let now = served.cell_pids();
    for (cell, pid) in before {
        assert_eq!(now.get(cell), Some(pid), "{cell} was made again\n{}", served.story());
    }
}

fn serves_again(target: SocketAddr, since: Instant) {
    while !load::answers(target, "/item/7", Duration::from_millis(500)) {
        assert!(since.elapsed() < DIRECTOR_BACK_WITHIN, "nobody serves {:?} after the kill", since.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
}
