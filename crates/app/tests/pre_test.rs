//! The mirror is tried with real users before it is needed, on the demo's stage: a leak that ends in the kernel's kill.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    PATIENCE, Served, free_address,
    load::{self, Load, Users},
    settled, wait_for,
};

const VICTIM: &str = "shop-north-a";

/// The demo's policy: of all requests at most this share may be spoilt by a step, and the first cohort is free.
const TOLERATED_HARM: f64 = 0.01;
const FIRST_BP: u64 = 1_000;
/// The policy's default.
const CAP_BP: u64 = 100;

#[test]
fn the_step_that_matters_is_never_the_mirrors_first() {
    let shop = free_address();
    let served = Served::start(&["--accept-missing-protections"], |state, api| {
        forefend::demo::configuration(state, api, shop, free_address())
    });
    served.wait("the shop serves", PATIENCE, settled);
    let load = Load::start(Users { target: shop, path: "/item/7", posts: true, per_s: 300, people: 400 });
    load.next(600).all_well();

    // Some forty seconds to the limit: time enough also for a machine that is busy with other tests.
    let leak = json!({ "leak_bytes_per_s": 2 << 20 });
    load::post(served.cell_address(VICTIM), "/fault", &[("x-control-token", "demo-control-token")], &leak);
    let mut pre_tests: Vec<Value> = Vec::new();
    let mut shifts: Vec<Value> = Vec::new();
    wait_for("it fails", Duration::from_secs(90), || {
        let s = served.snapshot()?;
        let of = |list: &Value| list.as_array().into_iter().flatten().find(|x| x["from"] == VICTIM).cloned();
        pre_tests.extend(of(&s["pre_tests"]));
        shifts.extend(of(&s["shifts"]));
        let ledger = served.ledger();
        ledger.iter().any(|e| e["kind"] == "failure" && e["cell"] == VICTIM).then_some(())
    });
    load.take().all_well();

    // It was tried first, with a little, and real users were served there.
    assert!(!pre_tests.is_empty(), "nothing was tried\n{}", served.story());
    for test in &pre_tests {
        let share = test["share"].as_u64().unwrap_or(u64::MAX);
        assert!(share <= CAP_BP, "a pre-test is at most the cap: {test}");
    }
    let tried = pre_tests.iter().filter_map(|t| t["evidence"]["requests"].as_u64()).max();
    assert!(tried > Some(0), "{pre_tests:?}");
    let tried_at: Vec<&Value> = pre_tests.iter().map(|t| &t["to"]).collect();
    let last = tried_at.last().copied().cloned().unwrap_or_default();

    // The shift then went there, in steps that were earned, each seen before the next, and was done before the failure.
    let outbound: Vec<&Value> =
        shifts.iter().filter(|s| s["outbound"] == true && s["reason"] == "predicted").collect();
    assert!(
        outbound.iter().any(|s| s["to"].as_array().is_some_and(|to| to.contains(&last))),
        "{last}: {outbound:?}"
    );
    let mut reached = 0;
    for shift in &outbound {
        let (moved, target) = (shift["moved"].as_u64().unwrap_or(0), shift["target"].as_u64().unwrap_or(0));
        reached = reached.max(moved);
        let (requests, bad) = (&shift["evidence"]["requests"], &shift["evidence"]["bad"]);
        let requests = requests.as_u64().unwrap_or(0);
        assert_eq!(bad, 0, "{shift}");
        if target > FIRST_BP {
            assert!(requests > 0, "a step without evidence: {shift}");
            // Clopper and Pearson's bound for no bad answer, one-sided at 95%; half of the service is at home in the victim.
            let bound = 1.0 - 0.05f64.powf(1.0 / requests as f64);
            let harm = target as f64 / 10_000.0 * 0.5 * bound;
            assert!(harm <= TOLERATED_HARM * 1.001, "{harm} may be spoilt by {shift}");
        }
    }
    assert_eq!(reached, 10_000, "all of it was away before the failure\n{}", served.story());
    let mut steps: Vec<u64> = outbound.iter().filter_map(|s| s["target"].as_u64()).collect();
    steps.dedup();
    assert!(steps.windows(2).all(|w| w[0] < w[1]), "it never stepped back: {steps:?}");
    served.wait("it is well and home again", Duration::from_secs(60), settled);
    load.take().all_well();
}
