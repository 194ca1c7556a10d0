//! `forefend demo` as a person runs it, and that it leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{FOREFEND, PATIENCE, free_address, processes, temporary_dir, wait_for};
use tempfile::TempDir;

/// The short act takes some ten seconds, starting and ending included.
const AT_MOST: Duration = Duration::from_secs(60);

/// A demo whose temporary files are in a directory of its own.
struct Demo {
    process: Child,
    tmp: TempDir,
}

/// What a demo has made while it ran.
#[derive(Default)]
struct Made {
    pids: Vec<i32>,
    groups: Vec<PathBuf>,
}

impl Demo {
    fn start(program: &mut Command, tmp: TempDir) -> Self {
        let process = program
            .args(["demo", "--headless", "--json", "--acts", "c", "--predictive-only"])
            .args(["--api-port", &free_address().port().to_string()])
            .env("TMPDIR", tmp.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(tmp.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { process, tmp }
    }

    fn words(&self) -> String {
        std::fs::read_to_string(self.tmp.path().join("stderr")).unwrap()
    }

    /// Waits until the act is played, and takes note of every process and group there is then.
    fn playing(&mut self) -> Made {
        let words = || self.words();
        wait_for("the act begins", PATIENCE, || words().contains("act c").then_some(()));
        let mut made = Made { pids: self.processes(), ..Made::default() };
        for record in records(self.tmp.path(), "process.json") {
            made.pids.push(i32::try_from(record["pid"].as_i64().unwrap()).unwrap());
        }
        for record in records(self.tmp.path(), "cell.json") {
            groups(&record["groups"], &mut made.groups);
        }
        assert!(made.pids.len() >= 7, "engine, director and five cells: {:?}", made.pids);
        made
    }

    /// Processes that name our directory: engine and director.
    fn processes(&self) -> Vec<i32> {
        let ours = self.tmp.path().to_str().unwrap().to_owned();
        processes::find(|argv| argv.iter().any(|a| a.contains(&ours)))
    }

    /// Waits for the end; exit code and what it printed.
    fn end(&mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + AT_MOST;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the demo did not end within {AT_MOST:?}:\n{}", self.words());
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut out = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (status.code(), out)
    }

    /// Nothing of it is left, at once after its end.
    fn left_nothing(&self, made: &Made) {
        let left = self.left(made);
        assert!(left.is_empty(), "this is left: {left:?}");
    }

    /// Processes, control groups and files that are left of it.
    fn left(&self, made: &Made) -> Vec<String> {
        let alive = made.pids.iter().copied().filter(|pid| processes::lives(*pid));
        let processes = alive.chain(self.processes()).map(|pid| format!("process {pid}"));
        let groups = made.groups.iter().filter(|group| group.exists()).map(|group| format!("{group:?}"));
        let files = std::fs::read_dir(self.tmp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "stderr" && name != "forefend");
        processes.chain(groups).chain(files).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        // It ends what it has started, if it is let.
        processes::signal(i32::try_from(self.process.id()).unwrap(), Signal::SIGINT);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Every cell's record of this name.
fn records(tmp: &Path, name: &str) -> Vec<Value> {
    let demo = std::fs::read_dir(tmp).unwrap().find_map(|entry| {
        let entry = entry.unwrap();
        entry.file_name().to_str().unwrap().starts_with("forefend-demo-").then(|| entry.path())
    });
    let cells = demo.unwrap().join("predictive/state/cells");
    let records = std::fs::read_dir(cells).unwrap().filter_map(|cell| {
        serde_json::from_str(&std::fs::read_to_string(cell.unwrap().path().join(name)).ok()?).ok()
    });
    records.collect()
}

fn groups(value: &Value, found: &mut Vec<PathBuf>) {
    match value {
        Value::String(text) if text.contains("/forefend/") => found.push(text.into()),
        Value::Array(all) => all.iter().for_each(|v| groups(v, found)),
        Value::Object(all) => all.values().for_each(|v| groups(v, found)),
        _ => {}
    }
}

/// The last line is the report, in the published shape; nobody noticed the spike, and nothing moved.
fn is_the_report(out: &str) {
    let report: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let acts = report["acts"].as_array().unwrap();
    assert_eq!(acts.len(), 1);
    assert_eq!(acts[0]["name"], "load-spike");
    assert!(acts[0]["reactive"].is_null());
    let figures = acts[0]["predictive"].as_object().unwrap();
    let names: Vec<&str> = figures.keys().map(String::as_str).collect();
    for name in [
        "requests",
        "failed",
        "slow",
        "executed_twice",
        "p99_ms",
        "lead_time_s",
        "pre_tested",
        "pre_test_bp",
        "shifted",
        "returned",
        "final_weight_bp",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert_eq!(names.len(), 11, "{names:?}");
    assert!(figures["requests"].as_u64().unwrap() > 1_000, "{figures:?}");
    assert_eq!((figures["failed"].as_u64(), figures["executed_twice"].as_u64()), (Some(0), Some(0)));
    assert_eq!((figures["shifted"].as_bool(), figures["final_weight_bp"].as_u64()), (Some(false), Some(0)));
    assert!(figures["p99_ms"].as_f64().unwrap() > 0.0 && figures["lead_time_s"].is_null());
}

#[test]
fn the_short_act_and_nothing_is_left() {
    let mut demo = Demo::start(&mut Command::new(FOREFEND), temporary_dir());
    let made = demo.playing();
    let (code, out) = demo.end();
    assert_eq!(code, Some(0), "{}", demo.words());
    is_the_report(&out);
    demo.left_nothing(&made);
}

#[test]
fn interrupted_it_leaves_nothing_either() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut demo = Demo::start(&mut Command::new(FOREFEND), temporary_dir());
        let made = demo.playing();
        processes::signal(i32::try_from(demo.process.id()).unwrap(), signal);
        let (code, out) = demo.end();
        assert_eq!((code, out.as_str()), (Some(1), ""), "{signal}");
        assert!(demo.words().contains("interrupted"), "{}", demo.words());
        demo.left_nothing(&made);
    }
}

#[test]
fn killed_it_leaves_nothing_soon_after() {
    let mut demo = Demo::start(&mut Command::new(FOREFEND), temporary_dir());
    let made = demo.playing();
    demo.process.kill().unwrap();
    demo.process.wait().unwrap();
    // In what order it does so is its own affair.
    wait_for("the caretaker has cleared up", AT_MOST, || demo.left(&made).is_empty().then_some(()));
}

#[test]
fn without_root_it_says_what_is_missing_and_goes_on() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: not root, so the other stories tell this one");
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let tmp = temporary_dir();
    std::fs::set_permissions(tmp.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // Where the checkout is, another user may not look.
    let program = tmp.path().join("forefend");
    std::fs::copy(FOREFEND, &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
    let mut demo = Demo::start(Command::new("setpriv").args(nobody).arg(&program), tmp);
    let made = demo.playing();
    let words = demo.words();
    assert!(words.contains("this host lacks own-user"), "{words}");
    let (code, out) = demo.end();
    assert_eq!(code, Some(0), "{}", demo.words());
    is_the_report(&out);
    demo.left_nothing(&made);
}
