//! An engine that is killed with SIGKILL at any instant leaves nothing that the next one can't adopt, finish or remove.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use forefend_cells::conformance::{answers, cell};

const PROBE: &str = env!("CARGO_BIN_EXE_forefend-cell-probe");

const BLUEPRINT: &str = r#"{
    "name": "good",
    "command": ["{exe}", "service", "{address}"],
    "resources": {"memory": "64MiB", "pids_max": 64},
    "stop_grace": "50ms",
    "warm_up": {"connect": 2, "replay": [{"path": "/?{n}", "count": 20, "concurrency": 4}]}
}"#;

fn engine(state_dir: &Path, commands: &[&str]) -> Command {
    let cell = serde_json::to_string(&cell("survivor")).unwrap();
    let mut engine = Command::new(PROBE);
    engine.arg("engine").arg(state_dir).arg(BLUEPRINT).arg(cell).args(commands).stdout(Stdio::piped());
    engine
}

/// Retires the cell at the end of a test, so that a failed one leaves nothing running.
struct Tidy<'a>(&'a Path);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = engine(self.0, &["retire", "retire"]).output();
        }
    }
}

/// Runs an engine to its end and returns what it said.
fn run(mut engine: Command) -> String {
    let mut child = engine.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            panic!("the engine does not come to an end: {}", rest(&mut child));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    rest(&mut child)
}

fn rest(child: &mut Child) -> String {
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

fn last_stage(said: &str) -> &str {
    said.lines().rfind(|line| line.starts_with("stage") || *line == "gone").unwrap_or_default()
}

/// What an engine with this state directory still has in the kernel.
fn groups_left(state_dir: &Path) -> Vec<String> {
    let key = blake3_of(state_dir);
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mountinfo.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
    mounts
        .filter_map(|mount| std::fs::read_dir(Path::new(mount).join("forefend")).ok())
        .flat_map(|entries| entries.flatten())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(&key))
        .collect()
}

fn blake3_of(state_dir: &Path) -> String {
    let path = state_dir.canonicalize().unwrap();
    blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex()[..8].to_owned()
}

#[test]
fn a_cell_outlives_its_killed_engine_and_is_adopted_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let _tidy = Tidy(dir.path());
    let mut first = engine(dir.path(), &["hold"]).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    let ready = lines.find_map(|line| line.ok().filter(|l| l.contains("\"ready\""))).unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let address = ready.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(answers(address, Duration::from_secs(5)), "it answers while no engine runs");
    let said = run(engine(dir.path(), &["park"]));
    assert!(said.contains("ready") && said.contains("parked"), "{said}");
    assert!(!said.contains("creating") && !said.contains("warming"), "it was not made again: {said}");
    let said = run(engine(dir.path(), &["unpark"]));
    assert!(!said.contains("creating") && last_stage(&said).contains("ready"), "{said}");
    assert!(answers(address, Duration::from_secs(5)));
    let said = run(engine(dir.path(), &["retire"]));
    assert_eq!(last_stage(&said), "gone", "{said}");
    assert_eq!(groups_left(dir.path()), Vec::<String>::new());
}

const INSTANTS: u64 = 40;

#[test]
fn killed_at_any_instant_the_next_engine_finishes_or_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let _tidy = Tidy(dir.path());
    // From the first instruction to well after the cell is ready, parked and retired; each engine meets what the killed one
    // before it left behind.
    for step in 0..INSTANTS {
        let mut child = engine(dir.path(), &["park", "unpark", "retire"]).spawn().unwrap();
        let at = Instant::now() + Duration::from_millis(4 * step);
        while Instant::now() < at && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        child.wait().unwrap();
    }
    let said = run(engine(dir.path(), &[]));
    assert!(last_stage(&said).contains("ready") || last_stage(&said).contains("parked"), "{said}");
    let said = run(engine(dir.path(), &["retire"]));
    assert_eq!(last_stage(&said), "gone", "{said}");
    assert_eq!(groups_left(dir.path()), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(dir.path().join("cells")).unwrap().count(), 0);
    let key = dir.path().display().to_string();
    let left: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(&key) || (line.contains("cell-init") && line.contains("survivor")))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "no process is left");
}

#[test]
fn without_root_it_says_what_is_missing_and_goes_on() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: the other tests run without root already");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    const SOMEBODY: u32 = 60_990;
    std::os::unix::fs::chown(dir.path(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    // The probe may lie where only root can look.
    let program = dir.path().join("probe");
    std::fs::copy(PROBE, &program).unwrap();
    let unprivileged = |commands: &[&str]| {
        let cell = serde_json::to_string(&cell("nobody")).unwrap();
        let mut engine = Command::new(&program);
        engine.arg("engine").arg(dir.path().join("state")).arg(BLUEPRINT).arg(cell).args(commands);
        engine.stdout(Stdio::piped()).current_dir(dir.path()).uid(SOMEBODY).gid(SOMEBODY);
        engine
    };
    let said = run(unprivileged(&["park", "unpark"]));
    println!("{said}");
    assert!(said.contains("own-user           MISSING: the engine does not run as root"), "{said}");
    assert!(last_stage(&said).contains("ready"), "{said}");
    let address = last_stage(&said).rsplit(' ').next().unwrap().parse().unwrap();
    assert!(answers(address, Duration::from_secs(5)));
    let said = run(unprivileged(&["retire"]));
    assert_eq!(last_stage(&said), "gone", "{said}");
}
