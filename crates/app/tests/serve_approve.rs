//! Mode `approve`: the engine asks, and nothing moves until an operator says yes.

mod support;

use serde_json::json;
use support::{
    PATIENCE, Served, contiguous, effective_bp, free_address,
    load::{self, Load, Users},
    row, settled,
    shop::{Shop, TOKEN},
    weights_of,
};

#[test]
fn nothing_moves_unasked() {
    let shop = free_address();
    let served = Served::start(&["--accept-missing-protections"], |state_dir, api| {
        Shop { state_dir, api, shop, inventory: free_address(), mode: "approve" }.configuration()
    });
    served.wait("the shop serves", PATIENCE, settled);
    let load = Load::start(Users { target: shop, path: "/item/7", posts: true, per_s: 200, people: 400 });
    load.next(300).all_well();

    let unasked = served.command(&["approve", "shop-a"]);
    assert_eq!(unasked.status.code(), Some(1));
    let words = String::from_utf8_lossy(&unasked.stderr).into_owned();
    assert!(words.contains("no shift of `shop-a` waits for approval"), "{words}");

    // Some thirteen seconds to the limit: the engine asks, and waits.
    fault(&served, json!({ "leak_bytes_per_s": 6 << 20 }));
    let asked = served.wait("the engine asks", PATIENCE, |s| {
        row(s, "shop-a").is_some_and(|row| row["approval_asked"] == true)
    });
    let tick = asked["tick"].as_u64().expect("a tick");
    let waiting = served.wait("some ticks pass", PATIENCE, |s| s["tick"].as_u64() >= Some(tick + 4));
    assert_eq!(weights_of(&waiting, "shop"), weights_of(&asked, "shop"), "something moved unasked");
    assert_eq!(effective_bp(&waiting, "shop-a"), Some(5_000));
    assert!(served.told(&["explain", "shop-a"]).contains("approv"));

    served.told(&["approve", "shop-a"]);
    served.wait("traffic moves", PATIENCE, |s| effective_bp(s, "shop-a").is_some_and(|bp| bp < 5_000));
    fault(&served, json!({ "release": true }));
    served.wait("it is well and home again", PATIENCE, settled);
    load.take().all_well();

    let ledger = contiguous(served.ledger());
    let place = |what: &str, fits: &dyn Fn(&serde_json::Value) -> bool| {
        ledger.iter().position(fits).unwrap_or_else(|| panic!("the ledger does not tell: {what}"))
    };
    let question = place("asked", &|e| e.to_string().contains("ask-approval"));
    let yes = place("approved", &|e| e["kind"] == "operator" && e.to_string().contains("approved"));
    let began = place("began", &|e| e["kind"] == "shift-began");
    assert!(question < yes && yes <= began, "asked {question}, approved {yes}, began {began}");
    assert_eq!(ledger[began]["reason"], "predicted", "{}", ledger[began]);
}

fn fault(served: &Served, fault: serde_json::Value) {
    load::post(served.cell_address("shop-a"), "/fault", &[("x-control-token", TOKEN)], &fault);
}
