//! Experiments and drills on the demo's two regions: real cells, real traffic, real faults.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use support::{
    PATIENCE, Served, effective_bp, free_address,
    load::{self, Load, Users},
    processes, rewritten, settled, wait_for, weights_of,
};

/// The demo's stage, with drills allowed, and users on it.
struct Stage {
    served: Served,
    load: Load,
}

impl Stage {
    fn set(changes: &[(&str, &str)]) -> Self {
        let shop = free_address();
        let served = Served::start(&["--accept-missing-protections"], |state, api| {
            let text = forefend::demo::configuration(state, api, shop, free_address());
            let text = rewritten(&text, &[("  tick: 250ms", "  tick: 250ms\n  drills: { allowed: true }")]);
            rewritten(&text, changes)
        });
        served.wait("the shop serves", PATIENCE, settled);
        let load = Load::start(Users { target: shop, path: "/item/7", posts: true, per_s: 200, people: 400 });
        load.next(300).all_well();
        served.wait("the shop serves its users", PATIENCE, settled);
        Self { served, load }
    }

    /// Begins a run; its id.
    fn begin(&self, experiment: &str) -> String {
        let file = self.served.dir.path().join("experiment.yaml");
        std::fs::write(&file, experiment).unwrap();
        let told = self.served.told(&["drill", "run", file.to_str().unwrap()]);
        told.split(':').next().unwrap().to_owned()
    }

    /// Where a run stands, in words.
    fn state(&self, id: &str) -> String {
        let list = self.served.told(&["drill", "list"]);
        list.lines()
            .find(|line| line.starts_with(id))
            .unwrap_or_else(|| panic!("{id} is not in:\n{list}"))
            .to_owned()
    }

    fn wait_for_state(&self, id: &str, words: &str, patience: Duration) -> String {
        let begun = std::time::Instant::now();
        loop {
            let state = self.state(id);
            if state.contains(words) {
                return state;
            }
            assert!(begun.elapsed() < patience, "never `{words}`: {state}\n{}", self.served.story());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn report(&self, id: &str) -> serde_json::Value {
        let path = self.served.state_dir().join(format!("drills/reports/{id}.json"));
        wait_for("the report is written", PATIENCE, || {
            serde_json::from_slice(&std::fs::read(&path).ok()?).ok()
        })
    }

    /// Nothing of any fault is left.
    fn is_clean(&self) -> bool {
        let leases = self.served.state_dir().join("drills/leases");
        let leases = std::fs::read_dir(leases).map_or(0, |dir| {
            dir.flatten().filter(|e| e.path().extension().is_some_and(|e| e == "lease")).count()
        });
        leases == 0
    }
}

const LONG: Duration = Duration::from_secs(120);

/// However busy the machine that tests and however slow its cells for a moment: what is no test of risk is not refused for it.
const OUTAGE: &str = "
version: 1
name: south-is-lost
hypothesis:
  says: Nobody notices that the south is gone.
  steady_state: { shop: { error_share: 0.5%, min_rate: 20/s } }
  holds_for: 2s
  recovers_within: 1m
  throughout: true
outage:
  service: shop
  region: south
  max_share: 50%
  step: 25%
  step_every: 1s
  moves_within: 1m
  hold: 5s
  fault: { fault: partition }
guard_rails: { pause: 1h, risk_at: 100% }
";

/// The region's traffic goes in steps, the empty region is really cut off, and the traffic comes back: no request fails.
#[test]
fn a_region_is_emptied_and_filled_again_without_a_failed_request() {
    if !can_inject() {
        return;
    }
    let stage = Stage::set(&[]);
    let file = stage.served.dir.path().join("plan.yaml");
    std::fs::write(&file, OUTAGE).unwrap();
    let plan = stage.served.told(&["drill", "plan", file.to_str().unwrap()]);
    assert!(plan.contains("shop-south-a") && !plan.contains("refused"), "{plan}");
    assert_eq!(
        effective_bp(&stage.served.snapshot().unwrap(), "shop-south-a"),
        Some(5_000),
        "a plan did something"
    );

    stage.load.take();
    let id = stage.begin(OUTAGE);
    stage.wait_for_state(&id, "the region is empty", LONG);
    let empty = stage.served.snapshot().unwrap();
    assert!(!weights_of(&empty, "shop").contains_key("shop-south-a"), "{:?}", weights_of(&empty, "shop"));
    let state = stage.wait_for_state(&id, "finished", LONG);
    assert!(state.contains("upheld"), "{state}\n{}", stage.served.story());
    stage.served.wait("all traffic is at home", PATIENCE, settled);
    stage.load.take().all_well();

    let report = stage.report(&id);
    let phases = report["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().map(|p| p["phase"].as_str().unwrap()).collect();
    assert_eq!(names, ["before", "moving", "during", "returning", "after"], "{report:#}");
    for phase in phases {
        assert_eq!(phase["failed"], 0, "{phase:#}");
        assert!(phase["requests"].as_u64() > Some(0), "{phase:#}");
    }
    assert!(report["recovery_s"].as_f64().is_some(), "{report:#}");
    let text = stage.served.told(&["drill", "report", &id]);
    assert!(text.contains("not measured"), "where there is no lag, no data point is claimed: {text}");
    assert!(stage.is_clean());
    let labels = std::fs::read(stage.served.state_dir().join("drills/labels.jsonl")).unwrap();
    let labels = forefend_chaos::label::read(&labels).unwrap();
    assert_eq!(labels.len(), 1);
    assert_eq!((labels[0].fault.kind(), labels[0].cell.as_str()), ("partition", "shop-south-a"));
    let ledger = stage.served.ledger();
    assert!(
        ledger.iter().any(|e| e["kind"] == "shift-began" && e["reason"] == "drill"),
        "the ledger must name the drill"
    );

    // Once is enough for an hour.
    let again = stage.begin(OUTAGE);
    let state = stage.wait_for_state(&again, "refused", PATIENCE);
    assert!(state.contains("south-is-lost"), "{state}");
}

/// What must keep a drill from beginning keeps it from beginning, and says what would help.
#[test]
fn a_drill_is_refused_in_every_forbidden_situation() {
    let stage = Stage::set(&[
        ("capacity_per_cell: 700/s", "capacity_per_cell: 200/s"),
        ("standby: { min: 0, max: 1,", "standby: { min: 0, max: 0,"),
    ]);
    let refused = |experiment: &str, words: &str| {
        let id = stage.begin(experiment);
        let state = stage.wait_for_state(&id, "refused", PATIENCE);
        assert!(state.contains(words), "{state}");
        assert!(stage.state(&id).contains("refused"));
    };
    // One cell of 200/s less a fifth can't carry what two carry now.
    refused(OUTAGE, "could be carried");
    let everywhere =
        OUTAGE.to_owned() + "block_windows: [{ why: the fair, days: [mon, tue, wed, thu, fri, sat, sun] }]\n";
    refused(&everywhere, "the fair");
    stage.served.told(&["freeze"]);
    refused(OUTAGE, "frozen");
    stage.served.told(&["unfreeze"]);
    stage.served.told(&["shift", "shop-north-a", "1%"]);
    stage.served.wait("a shift runs", PATIENCE, |s| s["shifts"].as_array().is_some_and(|s| !s.is_empty()));
    refused(OUTAGE, "shop-north-a");
    stage.served.told(&["shift", "shop-north-a", "0%"]);
    stage.served.wait("it is over", PATIENCE, settled);

    // What waits for approval does nothing, and can be ended.
    let asks = OUTAGE.to_owned() + "approvals: { required: 1, by: [ana] }\n";
    let id = stage.begin(&asks);
    stage.wait_for_state(&id, "waits for 1 to approve", PATIENCE);
    let wrong = stage.served.command(&["drill", "approve", &id]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("ana"), "somebody else's word counted");
    stage.served.told(&["drill", "end", &id]);
    stage.wait_for_state(&id, "stopped", PATIENCE);

    // More of the traffic than the file allows, and an engine that allows no drills.
    let file = stage.served.dir.path().join("small.yaml");
    std::fs::write(&file, OUTAGE.replace("max_share: 50%", "max_share: 10%")).unwrap();
    let output = stage.served.command(&["drill", "run", file.to_str().unwrap()]);
    assert!(!output.status.success());
    let config = std::fs::read_to_string(&stage.served.config).unwrap();
    std::fs::write(
        &stage.served.config,
        config.replace("drills: { allowed: true }", "drills: { allowed: false }"),
    )
    .unwrap();
    let words = wait_for("the change counts", PATIENCE, || {
        let output = stage.served.command(&["drill", "run", file.to_str().unwrap()]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        words.contains("this engine does no drills").then_some(words)
    });
    assert!(words.contains("drills: { allowed: true }"), "{words}");
    stage.load.take().all_well();
}

/// Nothing is tried while something else is tried, nor while a cell is about to fail by itself.
#[test]
fn a_drill_is_refused_while_another_runs_and_while_a_cell_is_at_risk() {
    if !can_inject() {
        return;
    }
    let stage = Stage::set(&[("      mode: auto", "      mode: observe")]);
    let drill = OUTAGE.replace("pause: 1h, risk_at: 100%", "pause: 0s, risk_at: 20%");
    let squeezed = squeezed();
    let other = stage.begin(&squeezed);
    stage.wait_for_state(&other, "faults are in effect", LONG);
    let id = stage.begin(&drill);
    let state = stage.wait_for_state(&id, "refused", PATIENCE);
    assert!(state.contains(&format!("`{other}` is running")), "{state}");
    stage.served.told(&["drill", "end", &other]);
    stage.wait_for_state(&other, "stopped", PATIENCE);
    stage.served.wait("steady again", PATIENCE, settled);

    // Half a minute to its limit, and nobody but the engine to see it.
    let leak = serde_json::json!({ "leak_bytes_per_s": 3 << 20 });
    let cell = stage.served.cell_address("shop-north-a");
    load::post(cell, "/fault", &[("x-control-token", "demo-control-token")], &leak);
    let foreseen = |s: &serde_json::Value| {
        let p = s["predictions"]["shop-north-a"]["probability"].as_f64();
        p > Some(0.9)
    };
    stage.served.wait("its failure is foreseen", PATIENCE, foreseen);
    let id = stage.begin(&drill);
    let state = stage.wait_for_state(&id, "refused", PATIENCE);
    assert!(state.contains("cell `shop-north-a` fails soon"), "{state}");
    stage.load.take().all_well();
}

const SLOW: &str = "
version: 1
name: slow-north
hypothesis:
  says: The shop stays fast when a cell gets slow.
  steady_state: { shop: { error_share: 1%, p99: 200ms, min_rate: 20/s } }
  holds_for: 1s
  recovers_within: 30s
target: { service: shop, cells: [shop-north-a], blast_radius: { max_cells: 1, max_share: 50% } }
faults:
  - fault: { latency: { add: 400ms } }
    lasts: 1m
stop_conditions: { error_share: 50%, p99: 300ms }
guard_rails: { pause: 0s, risk_at: 100% }
";

/// The objective breaks, the experiment ends in the tick that sees it, and everybody is served fast again.
#[test]
fn a_stop_condition_ends_an_experiment_in_the_tick_that_sees_it() {
    if !can_inject() {
        return;
    }
    // The engine only looks on, so that it is the experiment that ends the harm.
    let stage = Stage::set(&[("      mode: auto", "      mode: observe")]);
    let id = stage.begin(SLOW);
    stage.wait_for_state(&id, "stopped", LONG);
    let report = stage.report(&id);
    let during =
        report["phases"].as_array().unwrap().iter().find(|p| p["phase"] == "during").unwrap().clone();
    assert!(during["worst_p99_ms"].as_f64() > Some(300.0), "{report:#}");
    let ended = &report["ended"];
    assert_eq!(ended["hypothesis"]["verdict"], "refuted", "{ended:#}");
    // The tick that saw the objective broken is the one in which everything was ended.
    assert_eq!(ended["why"]["breach"]["at"], during["to"], "{report:#}");
    wait_for("nothing of the fault is left", PATIENCE, || stage.is_clean().then_some(()));
    stage.served.wait("steady again", PATIENCE, settled);
    stage.load.next(200).all_well();
}

/// Cells that the engine makes can have a clock that goes wrong and is set right again.
#[test]
fn the_clock_of_a_cell_goes_wrong_and_right_again() {
    if !can_inject() {
        return;
    }
    let stage = Stage::set(&[
        ("      mode: auto", "      mode: observe"),
        ("    network: { port: 8080 }", "    network: { port: 8080 }\n    adjustable_clock: true"),
    ]);
    let cell = stage.served.cell_address("shop-north-a");
    let month = || {
        let date = load::date(cell, "/healthz");
        date.split(' ').nth(2).map(str::to_owned).unwrap_or_else(|| panic!("{date}"))
    };
    let now = month();
    // A hundred days.
    let skewed = squeezed().replace("cpu-quota: { cores: 20% }", "clock-skew: { by: 2400h }");
    let id = stage.begin(&skewed);
    stage.wait_for_state(&id, "faults are in effect", LONG);
    wait_for("its clock is far ahead", PATIENCE, || (month() != now).then_some(()));
    let file = stage.served.state_dir().join("cells/shop-north-a/clock");
    assert_ne!(std::fs::read(&file).unwrap(), [0; 8]);
    stage.served.told(&["drill", "end", &id]);
    stage.wait_for_state(&id, "stopped", PATIENCE);
    wait_for("nothing of the fault is left", PATIENCE, || stage.is_clean().then_some(()));
    assert_eq!(std::fs::read(&file).unwrap(), [0; 8]);
    stage.load.take().all_well();
}

/// The engine is killed with a fault in effect: the watchdog undoes it, and the next engine says that the run was cut short.
#[test]
fn an_engine_that_is_killed_leaves_no_fault_behind() {
    if !can_inject() {
        return;
    }
    let mut stage = Stage::set(&[("      mode: auto", "      mode: observe")]);
    let id = stage.begin(&squeezed());
    stage.wait_for_state(&id, "faults are in effect", PATIENCE);
    wait_for("the lease is taken", PATIENCE, || (!stage.is_clean()).then_some(()));
    let engine = stage.served.engine_pid().unwrap();
    processes::signal(engine, Signal::SIGKILL);
    wait_for("the watchdog undoes it", PATIENCE, || stage.is_clean().then_some(()));
    stage.served.wait("an engine comes back", PATIENCE, settled);
    let state = stage.wait_for_state(&id, "interrupted", PATIENCE);
    assert!(state.contains("undone"), "{state}");
    stage.load.next(200).all_well();
}

/// A fault that spoils no answer at this load.
fn squeezed() -> String {
    SLOW.replace("latency: { add: 400ms }", "cpu-quota: { cores: 20% }").replace(", p99: 300ms }", " }")
}

/// Faults need root and control groups. `false`: not root, which is said; with `CI=true` that is a failure.
fn can_inject() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must run as root");
        println!("SKIPPED: faults on real processes need root");
    }
    root
}
