//! What the stories share: real processes of `forefend serve` on free loopback ports with all state in a temporary directory,
//! and an end for each of them whatever happens.

#![expect(dead_code, unreachable_pub, reason = "a module of several stories, of which each uses its part")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod load;
pub mod nginx;
pub mod processes;
pub mod senders;
pub mod shop;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use forefend::api::client::Client;
use serde_json::Value;
use tempfile::TempDir;

/// Starting and ending take well under this, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub const FOREFEND: &str = env!("CARGO_BIN_EXE_forefend");

/// Waits until `look` finds something, and fails with `what` after `patience`.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A loopback address that nobody listens at.
pub fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// A file of the repository.
pub fn repository_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// `text` with each of `changes` made; each must stand there exactly once.
pub fn rewritten(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "how often the file holds `{old}`");
        text.replace(old, new)
    })
}

/// A directory that cells under users of their own can reach.
pub fn temporary_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::Builder::new().prefix("forefend-test-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A running `forefend serve`. Dropped, it ends engine, director and cells.
pub struct Served {
    pub dir: TempDir,
    pub config: PathBuf,
    pub api: SocketAddr,
    client: Client,
    engine: Child,
    arguments: Vec<String>,
}

impl Served {
    /// Serves by the configuration that `write` makes of the API's address; its state directory must be `dir`/state.
    pub fn start(arguments: &[&str], write: impl FnOnce(&Path, SocketAddr) -> String) -> Self {
        let dir = temporary_dir();
        let api = free_address();
        let config = dir.path().join("forefend.yaml");
        std::fs::write(&config, write(&dir.path().join("state"), api)).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let engine = spawn_engine(&config, &arguments, dir.path());
        let client = Client::new(&format!("http://{api}"), None).unwrap();
        Self { dir, config, api, client, engine, arguments }
    }

    /// Starts the engine again as a person would, after it was ended.
    pub fn serve_again(&mut self) {
        self.engine = spawn_engine(&self.config, &self.arguments, self.dir.path());
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// What the engine wrote to its terminal.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("serve.log")).unwrap_or_default()
    }

    /// A command of an operator.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(FOREFEND)
            .args(arguments)
            .env("FOREFEND_API", format!("http://{}", self.api))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A command that must succeed; returns what it printed.
    pub fn told(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "forefend {arguments:?}: {words}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The engine's snapshot as the dashboard gets it; `None` while no engine answers.
    pub fn snapshot(&self) -> Option<Value> {
        self.client.get_blocking("/api/v1/snapshot").ok()
    }

    /// An answer of the API; `None` while no engine answers, or it is an error.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.client.get_blocking(path).ok()
    }

    /// Waits until a snapshot fits.
    pub fn wait(&self, what: &str, patience: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(seen) = self.snapshot() {
                if fits(&seen) {
                    return seen;
                }
                last = Some(seen);
            }
            if Instant::now() >= deadline {
                let seen = last.map_or("no engine".to_owned(), |s| brief(&s));
                panic!("waited {patience:?} in vain: {what}\nlast seen: {seen}\n{}", self.story());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What happened, for people who must find out why a test failed.
    pub fn story(&self) -> String {
        let now = self.snapshot().map_or("no engine answers".to_owned(), |s| brief(&s));
        let ledger = self.command(&["ledger", "--limit", "30"]);
        let director =
            std::fs::read_to_string(self.state_dir().join("director/director.log")).unwrap_or_default();
        format!(
            "now: {now}\nledger:\n{}\nengine:\n{}\ndirector:\n{director}",
            String::from_utf8_lossy(&ledger.stdout),
            self.log()
        )
    }

    /// The whole ledger, oldest first.
    pub fn ledger(&self) -> Vec<Value> {
        wait_for("the ledger can be read", PATIENCE, || self.try_ledger())
    }

    fn try_ledger(&self) -> Option<Vec<Value>> {
        let mut all: Vec<Value> = Vec::new();
        let mut before = String::new();
        loop {
            let page: Value = self.client.get_blocking(&format!("/api/v1/ledger?limit=500{before}")).ok()?;
            all.extend(page["entries"].as_array()?.iter().cloned());
            match page["next_before"].as_u64() {
                Some(next) => before = format!("&before={next}"),
                None => break,
            }
        }
        all.reverse();
        Some(all)
    }

    /// The running engine, whoever started it.
    pub fn engine_pid(&mut self) -> Option<i32> {
        // A killed engine that nobody has waited for is a zombie, not an engine.
        let _ = self.engine.try_wait();
        let config = self.config.to_str().unwrap().to_owned();
        processes::find(|argv| argv.get(1).is_some_and(|a| a == "serve") && argv.contains(&config))
            .first()
            .copied()
    }

    pub fn director_pid(&self) -> Option<i32> {
        let state = self.state_dir().to_str().unwrap().to_owned();
        let ours = |argv: &[String]| {
            argv.get(1).is_some_and(|a| a == "director") && argv.iter().any(|a| a.starts_with(&state))
        };
        processes::find(ours).first().copied()
    }

    /// The first process of each cell.
    pub fn cell_pids(&self) -> BTreeMap<String, i32> {
        let Ok(cells) = std::fs::read_dir(self.state_dir().join("cells")) else { return BTreeMap::new() };
        cells
            .filter_map(|cell| {
                let cell = cell.ok()?;
                let record = std::fs::read_to_string(cell.path().join("process.json")).ok()?;
                let record: Value = serde_json::from_str(&record).ok()?;
                let pid = i32::try_from(record["pid"].as_i64()?).ok()?;
                Some((cell.file_name().into_string().ok()?, pid))
            })
            .collect()
    }

    /// The record of a cell, as the driver keeps it.
    pub fn cell_record(&self, cell: &str) -> Value {
        let path = self.state_dir().join("cells").join(cell).join("cell.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Where a cell made by Forefend listens.
    pub fn cell_address(&self, cell: &str) -> SocketAddr {
        self.cell_record(cell)["address"].as_str().unwrap().parse().unwrap()
    }

    /// Ends the engine as Ctrl-C does, and waits for its end.
    pub fn end_engine(&mut self) {
        while let Some(pid) = self.engine_pid() {
            processes::signal(pid, nix::sys::signal::Signal::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.engine_pid() == Some(pid) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            if self.engine_pid() == Some(pid) {
                processes::signal(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

fn spawn_engine(config: &Path, arguments: &[String], dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("serve.log")).unwrap();
    Command::new(FOREFEND)
        .args(["serve", "--config"])
        .arg(config)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Served {
    fn drop(&mut self) {
        let cells = self.cell_pids();
        self.end_engine();
        let _ = self.engine.kill();
        let _ = self.engine.wait();
        // A test may have left a broken file; the sound part of it would not be found then.
        let stopped = Command::new(FOREFEND)
            .args(["stop", "--cells", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .output();
        if let Ok(output) = stopped
            && !output.status.success()
            && !std::thread::panicking()
        {
            eprintln!("stop: {}", String::from_utf8_lossy(&output.stderr));
        }
        if let Some(pid) = self.director_pid() {
            processes::signal(pid, nix::sys::signal::Signal::SIGKILL);
        }
        for pid in cells.into_values() {
            processes::signal(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// What of a snapshot tells most when a test fails.
pub fn brief(snapshot: &Value) -> String {
    let rows = snapshot["summaries"].as_array().cloned().unwrap_or_default();
    let rows: Vec<String> = rows
        .iter()
        .map(|r| format!("{} {} {} P {} {}", r["id"], r["life"], r["risk"], r["probability"], r["weights"]))
        .collect();
    format!(
        "{}\n{}\nshifts {}\ndegraded {}",
        snapshot["headline"],
        rows.join("\n"),
        snapshot["shifts"],
        snapshot["degraded"]
    )
}

/// The row of one cell.
pub fn row<'a>(snapshot: &'a Value, cell: &str) -> Option<&'a Value> {
    snapshot["summaries"].as_array()?.iter().find(|row| row["id"] == cell)
}

/// What the data plane says it applies to a cell, in basis points of its service.
pub fn effective_bp(snapshot: &Value, cell: &str) -> Option<u64> {
    row(snapshot, cell)?["weights"]["effective_bp"].as_u64()
}

/// What applies to every cell of a service that has any weight.
pub fn weights_of(snapshot: &Value, service: &str) -> BTreeMap<String, u64> {
    let rows = snapshot["summaries"].as_array().cloned().unwrap_or_default();
    rows.iter()
        .filter(|row| row["service"] == service)
        .filter_map(|row| {
            Some((
                row["id"].as_str()?.to_owned(),
                row["weights"]["effective_bp"].as_u64().filter(|bp| *bp > 0)?,
            ))
        })
        .collect()
}

/// Whether every cell with a weight of its own serves and keeps its objective, and nothing moves.
pub fn settled(snapshot: &Value) -> bool {
    let rows = snapshot["summaries"].as_array().cloned().unwrap_or_default();
    let home = |row: &Value| row["weights"]["home_bp"].as_u64().unwrap_or(0);
    !rows.is_empty()
        && snapshot["shifts"].as_array().is_some_and(Vec::is_empty)
        && rows.iter().filter(|row| home(row) > 0).all(|row| {
            row["life"] == "serving"
                && row["weights"]["effective_bp"].as_u64() == Some(home(row))
                && row["objective"]["state"] == "met"
        })
}

/// Asserts that the ledger goes 1, 2, 3, … and returns it.
pub fn contiguous(ledger: Vec<Value>) -> Vec<Value> {
    for (place, entry) in ledger.iter().enumerate() {
        assert_eq!(entry["seq"].as_u64(), Some(place as u64 + 1), "the ledger has a gap: {entry}");
    }
    ledger
}

/// Whether an entry of this kind has all of `parts` in its JSON.
pub fn has_entry(ledger: &[Value], kind: &str, parts: &[&str]) -> bool {
    ledger.iter().any(|entry| {
        let text = entry.to_string();
        entry["kind"] == kind && parts.iter().all(|part| text.contains(part))
    })
}
