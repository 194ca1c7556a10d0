//! What was recorded of telemetry outlives a SIGKILL of the engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use forefend_domain::MetricName;
use forefend_telemetry::history::{HistorySource, LoadOptions, load};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{PATIENCE, Served, free_address, processes, wait_for};

/// A forecast needs eight samples a second apart, and a tick takes at least a fifth of one: before this tick no engine has them of its own.
const TICKS_BEFORE_EIGHT_SAMPLES: u64 = 30;

/// A cell that fills up: 100 a second of 10 000, from the middle on. It answers as long as the test runs.
fn leaky() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let began = Instant::now();
        for stream in listener.incoming().filter_map(Result::ok) {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let mut stream = stream;
                // The first line of a request, then its headers up to an empty one.
                while lines.by_ref().any(|line| line.is_empty()) {
                    let used = 5_000.0 + began.elapsed().as_secs_f64() * 100.0;
                    let body = format!("leak_bytes {used}\n");
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length";
                    if write!(stream, "{head}: {}\r\n\r\n{body}", body.len()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn forecast(snapshot: &Value) -> bool {
    snapshot["predictions"]["leaky-a"]["basis"] == "first-passage"
}

#[test]
fn after_a_kill_a_prediction_stands_on_what_was_recorded() {
    let cell = leaky();
    let listen = free_address();
    let mut served = Served::start(&[], |state_dir, api| {
        let state_dir = state_dir.display();
        format!(
            r#"version: 1
engine:
  state_dir: {state_dir}
  tick: 200ms
  window: {{ step: 1s, length: 1m }}
  api: {{ listen: "{api}" }}
director: {{ workers: 1 }}
regions:
  here: {{ zones: [zone-a] }}
services:
  leaky:
    objective: {{ latency: 1s, failed_for: 5s }}
    listen: "{listen}"
    telemetry:
      interval: 400ms
      timeout: 300ms
      metrics:
        - {{ name: leak_bytes, family: saturation, kind: exhaustible, unit: bytes, limit: 10000 }}
    policy: {{ mode: observe, horizon: 2m, stale_after: 20s }}
    cells:
      - {{ id: leaky-a, zone: zone-a, address: "{cell}" }}
"#
        )
    });
    let first = served.wait("it is foreseen that the cell fills up", PATIENCE, forecast);
    assert!(first["tick"].as_u64().unwrap() > TICKS_BEFORE_EIGHT_SAMPLES, "it took eight samples: {first}");

    let old = wait_for("an engine runs", PATIENCE, || served.engine_pid());
    processes::signal(old, Signal::SIGKILL);
    wait_for("an engine comes back by itself", PATIENCE, || served.engine_pid().filter(|new| *new != old));
    let second = served.wait("the new engine foresees it", PATIENCE, forecast);
    let tick = second["tick"].as_u64().unwrap();
    eprintln!("first forecast at tick {}, after the kill at tick {tick}", first["tick"]);
    assert!(
        tick < TICKS_BEFORE_EIGHT_SAMPLES,
        "tick {tick} is too late to rest on the past\n{}",
        served.story()
    );

    // The folder is a source like any other while the engine writes it.
    let source = HistorySource::Files(served.state_dir().join("history"));
    let samples = || {
        let history = load(&source, &LoadOptions::default()).unwrap();
        assert_eq!(history.step, Duration::from_secs(1));
        history.cells["leaky-a"].series[&MetricName::new("leak_bytes")].clone()
    };
    let killed = second["predictions"]["leaky-a"]["at"].as_u64().unwrap();
    let all = wait_for("what came after the kill is there too", PATIENCE, || {
        Some(samples()).filter(|series| series.samples.last().is_some_and(|(at, _)| at.unix_ms() > killed))
    });
    assert!(all.samples.len() >= 8 && all.samples.windows(2).all(|pair| pair[0].1 < pair[1].1), "{all:?}");
    assert_eq!((all.unit.as_str(), all.limits.len(), all.limits[0].1), ("bytes", 1, Some(10_000.0)));
}
