//! A sandbox driver in a directory of its own, with blueprints of the probe service.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use forefend_cells::{
    AcceptMissing, Blueprint, InMemoryBlueprints, Protection, SandboxDriver, SandboxOptions,
    conformance::{self, Harness},
};
use forefend_domain::{
    BlueprintName, CellId,
    ports::{CellCommand, CellDriver, CellObservation, DriverStage},
};

pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_forefend-cell-probe");

pub(crate) struct Sandbox {
    driver: Option<SandboxDriver>,
    pub(crate) blueprints: Arc<InMemoryBlueprints>,
    dir: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let blueprints = Arc::new(InMemoryBlueprints::default());
        for json in [
            good().to_string(),
            r#"{"name":"ends","command":["{exe}","service","{address}","exit","7"]}"#.to_owned(),
            r#"{"name":"cold","command":["{exe}","service","{address}"],"warm_up":{"preload":["/bad"]}}"#
                .to_owned(),
        ] {
            blueprints.put(serde_json::from_str(&json).unwrap()).unwrap();
        }
        let mut sandbox = Self { driver: None, blueprints, dir: tempfile::tempdir().unwrap() };
        sandbox.driver = Some(sandbox.start());
        sandbox
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn start(&self) -> SandboxDriver {
        let mut options = SandboxOptions::new(self.dir.path());
        options.init_exe = Some(PROBE.into());
        options.accept_missing = AcceptMissing::All;
        SandboxDriver::new(options, self.blueprints.clone()).unwrap()
    }

    pub(crate) fn sandbox(&self) -> &SandboxDriver {
        self.driver.as_ref().unwrap()
    }

    /// Whether the machine offers all of these; says openly what is skipped when not.
    pub(crate) fn offers(&self, wanted: &[Protection]) -> bool {
        let missing = &self.sandbox().protections().missing;
        for protection in wanted {
            if let Some(why) = missing.get(protection) {
                println!("SKIPPED: {protection} is missing here: {why}");
                return false;
            }
        }
        true
    }

    /// Makes a cell and waits until it is ready.
    pub(crate) fn make(&mut self, name: &str, blueprint: &str) -> (CellId, SocketAddr) {
        let cell = conformance::cell(name);
        let id = cell.id.clone();
        let blueprint = BlueprintName::new(blueprint).unwrap();
        self.driver().request(CellCommand::Create { cell, blueprint }).unwrap();
        let ready = conformance::until_stage(self, &id, &DriverStage::Ready);
        (id, ready.address.unwrap())
    }

    pub(crate) fn put(&self, json: serde_json::Value) {
        self.blueprints.put(serde_json::from_value::<Blueprint>(json).unwrap()).unwrap();
    }

    pub(crate) fn failure(&mut self, cell: &CellId) -> String {
        let seen: CellObservation = conformance::until_failed(self, cell);
        match seen.stage {
            DriverStage::Failed { why } => why,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Sandbox {
    /// A failed test must leave no process behind.
    fn drop(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        for seen in driver.observe() {
            let _ = driver.request(CellCommand::Retire { cell: seen.cell.id });
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !driver.observe().is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Harness for Sandbox {
    fn driver(&mut self) -> &mut dyn CellDriver {
        self.driver.as_mut().unwrap()
    }

    fn restart(&mut self) {
        self.driver = None;
        self.driver = Some(self.start());
    }

    fn good(&self) -> BlueprintName {
        BlueprintName::new("good").unwrap()
    }

    fn ends_at_once(&self) -> BlueprintName {
        BlueprintName::new("ends").unwrap()
    }

    fn fails_warm_up(&self) -> BlueprintName {
        BlueprintName::new("cold").unwrap()
    }

    fn crash(&mut self, cell: &CellId) {
        let pid =
            self.sandbox().usage(cell).and_then(|usage| usage.pid).expect("a running cell has a process");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

pub(crate) fn good() -> serde_json::Value {
    serde_json::json!({
        "name": "good",
        "command": ["{exe}", "service", "{address}"],
        "resources": {"memory": "64MiB", "pids_max": 64},
        "stop_grace": "100ms",
        "warm_up": {"connect": 2, "preload": ["/"], "replay": [{"path": "/?{n}", "count": 20, "concurrency": 4}]}
    })
}

/// Asks the probe service; the answer's status and body.
pub(crate) fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
