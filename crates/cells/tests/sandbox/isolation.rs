//! What the sandbox keeps a cell from, seen on the real kernel. Each test names the protections it needs and says openly
//! when the machine lacks one.

use std::{net::TcpListener, time::Duration, time::Instant};

use forefend_cells::{Protection as P, conformance::retire};

use crate::world::{Sandbox, ask, good};

fn status_field(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn a_cell_has_no_privileges_and_can_gain_none() {
    let mut sandbox = Sandbox::new();
    if !sandbox.offers(&[P::NoCapabilities, P::Seccomp]) {
        return;
    }
    let (cell, address) = sandbox.make("unprivileged", "good");
    let pid = sandbox.sandbox().usage(&cell).unwrap().pid.unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status_field(pid, set), 16), Ok(0), "{set} is empty");
    }
    assert_eq!(status_field(pid, "NoNewPrivs"), "1");
    assert_eq!(status_field(pid, "Seccomp"), "2");
    let (status, why) = ask(address, "/unshare");
    assert_eq!(status, 403, "a user namespace would give capabilities: {why}");
    if sandbox.offers(&[P::OwnUser]) {
        let uids = status_field(pid, "Uid");
        assert!(uids.split_whitespace().all(|uid| uid.parse::<u32>().unwrap() >= 60_000), "{uids}");
    }
    retire(&mut sandbox, &cell);
}

#[test]
fn a_cell_writes_to_its_data_and_temporary_directories_only() {
    let mut sandbox = Sandbox::new();
    if !sandbox.offers(&[P::MountNamespace, P::LandlockFiles]) {
        return;
    }
    let (cell, address) = sandbox.make("writer", "good");
    assert_eq!(ask(address, "/write?/data/mine").0, 200);
    assert_eq!(ask(address, "/write?/tmp/mine").0, 200);
    assert_eq!(std::fs::read_to_string(sandbox.sandbox().data_dir(&cell).join("mine")).unwrap(), "written");
    assert!(!std::path::Path::new("/tmp/mine").exists(), "its /tmp is its own");
    for path in [
        "/usr/x",
        "/x",
        "/etc/x",
        "/dev/x",
        "/proc/self/oom_score_adj",
        "/proc/sys/kernel/hostname",
        PROBE_DIR,
    ] {
        let (status, why) = ask(address, &format!("/write?{path}"));
        assert_eq!(status, 403, "{path} must not be writable: {why}");
    }
    // Nothing of the host shows but programs and libraries.
    for hidden in ["/root", "/home", "/var", "/etc/shadow", &sandbox.dir().display().to_string()] {
        assert_ne!(ask(address, &format!("/list?{hidden}")).0, 200, "{hidden} is hidden");
        assert_ne!(ask(address, &format!("/read?{hidden}")).0, 200, "{hidden} is hidden");
    }
    assert_eq!(ask(address, "/list?/usr").0, 200);
    retire(&mut sandbox, &cell);
}

const PROBE_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

#[test]
fn a_cell_sees_no_other_process_and_not_the_engines_environment() {
    let mut sandbox = Sandbox::new();
    if !sandbox.offers(&[P::PidNamespace, P::MountNamespace]) {
        return;
    }
    let (cell, address) = sandbox.make("alone", "good");
    let (status, names) = ask(address, "/list?/proc");
    assert_eq!(status, 200, "{names}");
    let pids: Vec<&str> = names.split(' ').filter(|name| name.parse::<u32>().is_ok()).collect();
    assert_eq!(pids, ["1"], "it is process 1 and alone");
    let (_, env) = ask(address, "/env");
    let mut variables: Vec<&str> = env.lines().filter_map(|line| line.split('=').next()).collect();
    variables.sort_unstable();
    assert_eq!(variables, ["HOME", "PATH", "TMPDIR"]);
    retire(&mut sandbox, &cell);
}

#[test]
fn a_cell_connects_only_where_its_blueprint_says() {
    let mut sandbox = Sandbox::new();
    if !sandbox.offers(&[P::LandlockNetwork]) {
        return;
    }
    let allowed = TcpListener::bind("127.0.0.1:0").unwrap();
    let forbidden = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut blueprint = good();
    blueprint["name"] = "caller".into();
    blueprint["dependencies"] = serde_json::json!({"friend": {"address": allowed.local_addr().unwrap()}});
    blueprint["env"] = serde_json::json!({"FRIEND": "{dependency:friend}"});
    sandbox.put(blueprint);
    let (cell, address) = sandbox.make("caller", "caller");
    assert!(ask(address, "/env").1.contains(&format!("FRIEND={}", allowed.local_addr().unwrap())));
    assert_eq!(ask(address, &format!("/connect?{}", allowed.local_addr().unwrap())).0, 200);
    let (status, why) = ask(address, &format!("/connect?{}", forbidden.local_addr().unwrap()));
    assert_eq!(status, 403, "{why}");
    let (status, why) = ask(address, "/bind?127.0.0.1:8099");
    assert_eq!(status, 403, "{why}");
    retire(&mut sandbox, &cell);
}

#[test]
fn a_leak_ends_in_the_kernels_oom_kill_and_is_reported_as_that() {
    let mut sandbox = Sandbox::new();
    if !sandbox.offers(&[P::CgroupMemory]) {
        return;
    }
    let (cell, address) = sandbox.make("leaky", "good");
    let usage = sandbox.sandbox().usage(&cell).unwrap();
    assert_eq!(usage.memory_limit_bytes, Some(64 << 20));
    assert_eq!(usage.oom_kills, Some(0));
    assert!(usage.memory_bytes.unwrap() < 32 << 20, "{usage:?}");
    assert!(usage.cpu_usage_ns.unwrap() > 0 && usage.pids.unwrap() >= 1, "{usage:?}");
    ask(address, "/leak");
    let why = sandbox.failure(&cell);
    assert!(why.starts_with("out of memory"), "{why}");
    retire(&mut sandbox, &cell);
}

#[test]
fn how_a_cell_ended_is_told() {
    let mut sandbox = Sandbox::new();
    let (cell, address) = sandbox.make("exits", "good");
    // The answer never comes: the process ends while it is asked.
    let _ = std::net::TcpStream::connect(address)
        .map(|mut s| std::io::Write::write_all(&mut s, b"GET /exit?42 HTTP/1.1\r\n\r\n"));
    let why = sandbox.failure(&cell);
    assert!(why.contains("status 42"), "{why}");
    retire(&mut sandbox, &cell);
    let (cell, _) = sandbox.make("killed", "good");
    forefend_cells::conformance::Harness::crash(&mut sandbox, &cell);
    let why = sandbox.failure(&cell);
    assert!(why.contains("signal 9"), "{why}");
    retire(&mut sandbox, &cell);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let mut sandbox = Sandbox::new();
    let mut blueprint = good();
    blueprint["name"] = "missing".into();
    blueprint["command"] = serde_json::json!(["/usr/bin/no-such-program"]);
    sandbox.put(blueprint);
    let cell = forefend_cells::conformance::cell("missing");
    let id = cell.id.clone();
    let command = forefend_domain::ports::CellCommand::Create { cell, blueprint: "missing".parse().unwrap() };
    forefend_cells::conformance::Harness::driver(&mut sandbox).request(command).unwrap();
    let why = sandbox.failure(&id);
    assert!(why.contains("/usr/bin/no-such-program"), "{why}");
    retire(&mut sandbox, &id);
}

#[test]
fn processes_and_cpu_are_limited_and_output_is_bounded() {
    let mut sandbox = Sandbox::new();
    if !sandbox.offers(&[P::CgroupPids, P::CgroupCpu]) {
        return;
    }
    let mut blueprint = good();
    blueprint["name"] = "small".into();
    blueprint["resources"] = serde_json::json!({"memory": "64MiB", "pids_max": 16, "cpu_share": 0.5});
    sandbox.put(blueprint);
    let (cell, address) = sandbox.make("small", "small");
    assert_eq!(sandbox.sandbox().usage(&cell).unwrap().cpu_quota, Some(0.5));
    let spawned: u32 = ask(address, "/threads?100").1.parse().unwrap();
    assert!(spawned < 16, "{spawned} threads were started under a limit of 16");
    retire(&mut sandbox, &cell);

    let (cell, address) = sandbox.make("loud", "good");
    for _ in 0..5 {
        ask(address, "/print?600000");
    }
    let log = sandbox.sandbox().log_path(&cell);
    let older = log.with_extension("log.1");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !older.exists() {
        assert!(Instant::now() < deadline, "the log is rotated");
        std::thread::sleep(Duration::from_millis(1));
    }
    for piece in [&log, &older] {
        assert!(std::fs::metadata(piece).map_or(0, |m| m.len()) <= 1 << 20, "{} is bounded", piece.display());
    }
    retire(&mut sandbox, &cell);
}

#[test]
fn retired_cells_leave_nothing_behind() {
    let mut sandbox = Sandbox::new();
    let (cell, _) = sandbox.make("tidy", "good");
    let usage = sandbox.sandbox().usage(&cell).unwrap();
    retire(&mut sandbox, &cell);
    for dir in &usage.cgroup_dirs {
        assert!(!dir.exists(), "{} is left", dir.display());
    }
    assert_eq!(std::fs::read_dir(sandbox.dir().join("cells")).unwrap().count(), 0);
    assert!(!std::path::Path::new(&format!("/proc/{}", usage.pid.unwrap())).exists());
}

#[test]
fn a_dependency_by_service_is_the_cell_of_the_same_zone() {
    use forefend_cells::conformance::{Harness, cell, until_stage};
    use forefend_domain::{Cell, ports::CellCommand, ports::DriverStage};
    let mut sandbox = Sandbox::new();
    let mut blueprint = good();
    blueprint["name"] = "dependent".into();
    blueprint["dependencies"] = serde_json::json!({"stock": {"service": "stock"}});
    blueprint["env"] = serde_json::json!({"STOCK": "{dependency:stock}"});
    sandbox.put(blueprint);
    let dependent = cell("dependent");
    let id = dependent.id.clone();
    let create =
        |cell: Cell, blueprint: &str| CellCommand::Create { cell, blueprint: blueprint.parse().unwrap() };
    // Asked for before there is anything to depend on: it waits for that.
    sandbox.driver().request(create(dependent, "dependent")).unwrap();
    // That of its own zone first: what it waits for may be seen as soon as it is there.
    for (name, zone) in [("stock-b", "north-1"), ("stock-a", "north-0")] {
        let service = "stock".parse().unwrap();
        let stock = Cell { service, zone: zone.parse().unwrap(), ..cell(name) };
        sandbox.driver().request(create(stock, "good")).unwrap();
    }
    let address = until_stage(&mut sandbox, &id, &DriverStage::Ready).address.unwrap();
    let expected = sandbox.sandbox().address(&"stock-b".parse().unwrap()).unwrap();
    let (_, env) = ask(address, "/env");
    assert!(env.contains(&format!("STOCK={expected}")), "{env}");
    assert_eq!(ask(address, &format!("/connect?{expected}")).0, 200);
    // With both there the choice is not that of who came first, or of the name.
    until_stage(&mut sandbox, &"stock-a".parse().unwrap(), &DriverStage::Ready);
    let later = cell("dependent-2");
    let id = later.id.clone();
    sandbox.driver().request(create(later, "dependent")).unwrap();
    let address = until_stage(&mut sandbox, &id, &DriverStage::Ready).address.unwrap();
    let (_, env) = ask(address, "/env");
    assert!(env.contains(&format!("STOCK={expected}")), "{env}");
}
