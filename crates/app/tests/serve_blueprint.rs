//! The story of examples/blueprint.yaml: a cell that Forefend makes itself, and that outlives the engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use support::{
    PATIENCE, Served, contiguous, effective_bp, free_address, has_entry, load,
    processes::{self, status},
    repository_file, rewritten, settled, wait_for,
};

const CELL: &str = "files-1";
const STAND_IN: &str = "files-home-b-s1";

#[test]
fn a_cell_made_from_a_blueprint() {
    let clients = free_address();
    let example = std::fs::read_to_string(repository_file("examples/blueprint.yaml")).unwrap();
    let root = nix::unistd::geteuid().is_root();
    // The file's own words on what to do without root.
    let accepted = "accept_missing_protections: [own-user, cgroup-memory, cgroup-cpu, cgroup-pids, freezer]";
    assert!(example.contains(&format!("# {accepted}")));
    let mut served = Served::start(&[], |state, api| {
        let text = rewritten(
            &example,
            &[
                (
                    "state_dir: ./forefend-state",
                    &format!("state_dir: {}\n  api: {{ listen: \"{api}\" }}", state.display()),
                ),
                ("listen: 127.0.0.1:8090", &format!("listen: {clients}")),
            ],
        );
        if root {
            text
        } else {
            rewritten(&text, &[("\n    accept_missing_protections: []", &format!("\n    {accepted}"))])
        }
    });
    served.wait("the cell serves", PATIENCE, settled);
    let pid = served.cell_pids()[CELL];
    assert!(answers(clients));
    is_confined(pid, root);

    // The engine is killed: the cell goes on, and an engine comes back that takes it over as it is.
    let engine = served.engine_pid().unwrap();
    processes::signal(engine, Signal::SIGKILL);
    let next =
        wait_for("an engine comes back", PATIENCE, || served.engine_pid().filter(|pid| *pid != engine));
    assert_ne!(next, engine);
    served.wait("the new engine knows the cell", PATIENCE, settled);
    assert_eq!(served.cell_pids()[CELL], pid, "the cell was made again");
    assert!(answers(clients));

    // The engine is ended: director and cell go on. A person starts it again.
    served.end_engine();
    assert!(answers(clients), "the director went with the engine");
    let director = served.director_pid().unwrap();
    served.serve_again();
    served.wait("the next engine knows the cell", PATIENCE, settled);
    assert_eq!((served.cell_pids()[CELL], served.director_pid()), (pid, Some(director)));

    // The cell dies. A stand-in is made in the other zone and takes all, the cell is made again, and gets its traffic back; the last
    // part sooner than the example says, by a change of the file that counts at once.
    let patient = std::fs::read_to_string(&served.config).unwrap();
    let quick = ("give_back: { healthy_for: 1m, rate: 1%/s }", "give_back: { healthy_for: 1s, rate: 50%/s }");
    std::fs::write(&served.config, rewritten(&patient, &[quick])).unwrap();
    served.wait("the change is taken over", PATIENCE, |_| {
        has_entry(&served.ledger(), "engine", &["taken over"])
    });
    processes::signal(pid, Signal::SIGKILL);
    served.wait("the stand-in has it all", PATIENCE, |s| effective_bp(s, STAND_IN) == Some(10_000));
    assert!(answers(clients));
    served.wait("its traffic is back", PATIENCE, settled);
    let again = served.cell_pids()[CELL];
    assert!(again != pid && processes::lives(again));
    assert!(answers(clients));
    contiguous(served.ledger());
    assert!(has_entry(&served.ledger(), "decision", &["recreate", CELL]), "the ledger does not tell of it");

    // `stop` refuses while the engine runs, and then leaves nothing.
    let config = served.config.to_str().unwrap().to_owned();
    let refused = served.command(&["stop", "--cells", "--config", &config]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the engine still runs"));
    let groups = groups_of(&served);
    assert!(!root || !groups.is_empty(), "a cell of root has control groups: {}", served.cell_record(CELL));
    served.end_engine();
    let told = served.told(&["stop", "--cells", "--config", &config]);
    assert!(told.contains("2 cells were stopped"), "{told}");
    assert!(!processes::lives(again));
    assert!(!answers(clients));
    assert_eq!(served.director_pid(), None);
    assert!(!served.state_dir().join("cells").join(CELL).exists());
    for group in groups {
        assert!(!std::path::Path::new(&group).exists(), "{group} is left");
    }
}

fn answers(clients: std::net::SocketAddr) -> bool {
    load::answers(clients, "/", Duration::from_secs(3))
}

fn is_confined(pid: i32, root: bool) {
    assert_eq!(status(pid, "NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(status(pid, "Seccomp").as_deref(), Some("2"));
    let capabilities = status(pid, "CapEff").unwrap();
    assert_eq!(u64::from_str_radix(&capabilities, 16), Ok(0), "it has capabilities: {capabilities}");
    if root {
        let users = status(pid, "Uid").unwrap();
        assert!(users.split_whitespace().all(|uid| uid != "0"), "it runs as root: {users}");
    }
}

/// Every directory of a control group that the cell's record names.
fn groups_of(served: &Served) -> Vec<String> {
    fn walk(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) if text.contains("/forefend/") => found.push(text.clone()),
            serde_json::Value::Array(all) => all.iter().for_each(|v| walk(v, found)),
            serde_json::Value::Object(all) => all.values().for_each(|v| walk(v, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&served.cell_record(CELL)["groups"], &mut found);
    found
}
