//! The story of examples/two-nginx.yaml: two real nginx, Forefend in front of them, and an operator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::{
    PATIENCE, Served, contiguous, effective_bp, free_address, has_entry,
    load::{self, Load, Users},
    nginx::{self, Nginx},
    repository_file, rewritten, row, settled, temporary_dir,
};

#[test]
fn two_nginx() {
    if !nginx::is_there() {
        return;
    }
    let sites = temporary_dir();
    let (mut one, two) = (Nginx::start(sites.path(), "web-1"), Nginx::start(sites.path(), "web-2"));
    let clients = free_address();
    let example = std::fs::read_to_string(repository_file("examples/two-nginx.yaml")).unwrap();
    let mut served = Served::start(&[], |state, api| {
        rewritten(
            &example,
            &[
                (
                    "state_dir: ./forefend-state",
                    &format!("state_dir: {}\n  api: {{ listen: \"{api}\" }}", state.display()),
                ),
                ("listen: 127.0.0.1:8080", &format!("listen: {clients}")),
                ("address: 127.0.0.1:8081", &format!("address: {}", one.address)),
                ("address: 127.0.0.1:8082", &format!("address: {}", two.address)),
            ],
        )
    });
    let users = Users { target: clients, path: "/", posts: false, per_s: 200, people: 400 };
    served.wait("both nginx serve", PATIENCE, settled);
    let load = Load::start(users);

    traffic_passes_and_is_told_of(&served, &load);
    let home = load::homes(users);
    a_wrong_file_is_refused_and_a_good_one_is_taken_over(&mut served);
    a_share_moves_and_comes_back(&served, &load, users, &home);
    a_freeze_holds_what_would_grow(&served);

    // One dies under load. Nobody who only reads may notice.
    load.take();
    one.kill();
    served.wait("the dead nginx is seen", PATIENCE, |s| row(s, "web-1").unwrap()["reachable"] != "up");
    let after = load.next(300);
    after.all_well();
    assert_eq!(
        after.by_cell.get("web-1"),
        None,
        "somebody was answered by a dead nginx: {:?}",
        after.by_cell
    );

    let ledger = contiguous(served.ledger());
    assert!(has_entry(&ledger, "operator", &["froze"]));
    assert!(has_entry(&ledger, "operator", &["30.00%", "web-1"]));
    let printed = served.told(&["ledger", "--limit", "200"]);
    assert!(printed.contains("asked to move 30.00% of the traffic of web-1 away"), "{printed}");
}

fn traffic_passes_and_is_told_of(served: &Served, load: &Load) {
    let met = load.next(300);
    met.all_well();
    assert!((0.35..=0.65).contains(&met.share("web-1")), "web-1 has half: {:?}", met.by_cell);
    let status = served.told(&["status"]);
    for part in ["web-1", "rack-a", "web-2", "rack-b", "50.00%", "serving"] {
        assert!(status.contains(part), "`status` does not say `{part}`:\n{status}");
    }
    let words = served.told(&["explain", "web-1"]);
    assert!(words.contains("web-1") && words.contains("home 50%"), "{words}");
    let unknown = served.command(&["explain", "web-9"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("web-9"));
}

fn a_wrong_file_is_refused_and_a_good_one_is_taken_over(served: &mut Served) {
    let engine = served.engine_pid().unwrap();
    let good = std::fs::read_to_string(&served.config).unwrap();
    std::fs::write(&served.config, rewritten(&good, &[("latency: 250ms", "latency: 250")])).unwrap();
    served.wait("the wrong file is refused", PATIENCE, |_| {
        has_entry(&served.ledger(), "engine", &["refused", "no unit"])
    });
    // With what was good before goes on what runs; then a good change counts without a restart.
    let faster = "give_back: { healthy_for: 1s, rate: 20%/s }\n      mode: observe # later";
    std::fs::write(&served.config, rewritten(&good, &[("mode: observe # later", faster)])).unwrap();
    served.wait("the good file is taken over", PATIENCE, |s| {
        s["world"]["services"]["web"]["service"]["policy"]["give_back"]["bp_per_second"] == 2_000
    });
    assert!(has_entry(&served.ledger(), "engine", &["taken over", "give_back"]));
    assert_eq!(served.engine_pid(), Some(engine), "it was restarted");
}

fn a_share_moves_and_comes_back(
    served: &Served,
    load: &Load,
    users: Users,
    home: &std::collections::BTreeMap<u64, String>,
) {
    let out = served.told(&["shift", "web-1", "30%"]);
    assert!(out.contains("next tick"), "{out}");
    served.wait("30% of web-1's half is away", PATIENCE, |s| {
        effective_bp(s, "web-1") == Some(3_500) && effective_bp(s, "web-2") == Some(6_500)
    });
    let met = load.next(600);
    met.all_well();
    assert!((0.28..=0.42).contains(&met.share("web-1")), "35% are served by web-1: {:?}", met.by_cell);
    let away = load::homes(users);
    let moved = home.iter().filter(|(who, at)| away[who] != **at).count();
    let strayed = home.iter().filter(|(who, at)| *at == "web-2" && away[who] != **at).count();
    assert_eq!(strayed, 0, "users of web-2 were moved");
    assert!(
        (0.10..=0.20).contains(&(moved as f64 / home.len() as f64)),
        "{moved} of {} users moved",
        home.len()
    );
    assert_eq!(away, load::homes(users), "users stay where they are while weights stay");

    served.told(&["shift", "web-1", "0%"]);
    let end = served.wait("everything is home", PATIENCE, settled);
    assert_eq!((effective_bp(&end, "web-1"), effective_bp(&end, "web-2")), (Some(5_000), Some(5_000)));
    assert_eq!(load::homes(users), *home, "every user is where they were");
    let bad = served.command(&["shift", "web-1", "30"]);
    assert!(
        String::from_utf8_lossy(&bad.stderr).contains("25%"),
        "a share without unit is refused with a remedy"
    );
}

fn a_freeze_holds_what_would_grow(served: &Served) {
    served.told(&["freeze"]);
    served.wait("everything is frozen", PATIENCE, |s| s["world"]["frozen"] == true);
    served.told(&["shift", "web-2", "20%"]);
    let asked = served.wait("the engine has heard of it", PATIENCE, |s| {
        s["world"]["requested"]["web-2"]["weight"] == 2_000
    });
    // Some ticks later nothing has moved.
    let tick = asked["tick"].as_u64().unwrap();
    let later = served.wait("ticks pass", PATIENCE, |s| s["tick"].as_u64().unwrap() >= tick + 3);
    assert_eq!(effective_bp(&later, "web-2"), Some(5_000), "it moved although frozen");
    served.told(&["unfreeze"]);
    served.wait("the shift goes on", PATIENCE, |s| effective_bp(s, "web-2") == Some(4_000));
    served.told(&["shift", "web-2", "0%"]);
    served.wait("everything is home again", PATIENCE + Duration::from_secs(10), settled);
}
