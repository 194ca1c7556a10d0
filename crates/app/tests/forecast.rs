//! Outlooks from days of the past: a real engine on a prepared history, before and after SIGKILL, and the command line.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use forefend_domain::{CellId, Family, MetricKind, MetricName, ServiceId, Timestamp};
use forefend_telemetry::history::{CellHistory, History, RecordedSeries, write_parquet};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{PATIENCE, Served, free_address, processes, wait_for};

const DAY_S: f64 = 86_400.0;
const PAST_DAYS: u64 = 10;
const STEP_S: u64 = 600;
const LIMIT: f64 = 100_000.0;
/// What the disk holds at the end of the prepared past, and what comes on top of it in a day: it is full in five.
const USED: f64 = 80_000.0;
const A_DAY: f64 = 4_000.0;

/// A cell whose disk stands as the past leaves it.
fn cell() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let mut stream = stream;
                while lines.by_ref().any(|line| line.is_empty()) {
                    let body = format!("disk_used {USED}\ntemp_used 30000\n");
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

/// Ten days up to now: a disk that fills by day and rests by night, and one that goes up and down.
fn write_past(state_dir: &Path, to: &Path) {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / STEP_S * STEP_S;
    let begin_s = now_s - PAST_DAYS * 86_400;
    let series = |value: &dyn Fn(f64) -> f64, family, kind, limit| RecordedSeries {
        family,
        kind,
        unit: "bytes".into(),
        limits: vec![(Timestamp::from_unix_ms(begin_s * 1_000), limit)],
        samples: (begin_s..=now_s)
            .step_by(STEP_S as usize)
            .map(|s| (Timestamp::from_unix_ms(s * 1_000), value((s as f64 - now_s as f64) / DAY_S)))
            .collect(),
    };
    let round = |day: f64| (day * std::f64::consts::TAU).sin();
    let full = (Family::Saturation, MetricKind::Exhaustible, Some(LIMIT));
    let filling = series(&|day| USED + A_DAY * day + 2_000.0 * round(day), full.0, full.1, full.2);
    let steady = series(&|day| 30_000.0 + 5_000.0 * round(day), full.0, full.1, full.2);
    let load = series(&|day| 200.0 + 100.0 * round(day), Family::Traffic, MetricKind::Unbounded, None);
    let cells = ["disk-a", "disk-b"].map(|id| {
        let series = BTreeMap::from([
            (MetricName::new("disk_used"), filling.clone()),
            (MetricName::new("temp_used"), steady.clone()),
            (MetricName::new("requests_per_second"), load.clone()),
        ]);
        (CellId::new(id).unwrap(), CellHistory { service: ServiceId::new("store").unwrap(), series })
    });
    let history = History { step: Duration::from_secs(STEP_S), cells: BTreeMap::from(cells) };
    std::fs::create_dir_all(state_dir.join("history")).unwrap();
    let file = format!("history-{}-{}.parquet", begin_s * 1_000, now_s * 1_000);
    for folder in [state_dir.join("history"), to.to_owned()] {
        write_parquet(folder.join(&file), &history).unwrap();
    }
}

fn configuration(state_dir: &Path, api: SocketAddr, cell: SocketAddr, more: &str) -> String {
    let (state_dir, listen) = (state_dir.display(), free_address());
    format!(
        r#"version: 1
engine:
  state_dir: {state_dir}
  tick: 200ms
  window: {{ step: 1s, length: 1m }}
  api: {{ listen: "{api}" }}
  history: {{ keep: 30d }}
{more}
director: {{ workers: 1 }}
regions:
  here: {{ zones: [zone-a] }}
services:
  store:
    objective: {{ latency: 1s, failed_for: 5s }}
    listen: "{listen}"
    telemetry:
      interval: 400ms
      timeout: 300ms
      metrics:
        - {{ name: disk_used, family: saturation, kind: exhaustible, unit: bytes, limit: {LIMIT} }}
        - {{ name: temp_used, family: saturation, kind: exhaustible, unit: bytes, limit: {LIMIT} }}
    policy: {{ mode: observe, horizon: 2m, stale_after: 20s }}
    cells:
      - {{ id: disk-a, zone: zone-a, address: "{cell}" }}
"#
    )
}

fn outlooks(snapshot: &Value) -> Vec<Value> {
    snapshot["predictions"]["disk-a"]["outlooks"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_disk_that_fills_over_days_is_told_also_after_a_kill() {
    let (cell, aside) = (cell(), support::temporary_dir());
    let mut served = Served::start(&[], |state_dir, api| {
        write_past(state_dir, aside.path());
        configuration(state_dir, api, cell, "")
    });
    let seen = served.wait("an outlook comes", PATIENCE, |snapshot| !outlooks(snapshot).is_empty());
    let told = outlooks(&seen);
    assert_eq!(told.len(), 1, "what goes up and down is not told: {told:?}");
    assert_eq!(told[0]["metric"], "disk_used");
    let days = |q: &str| told[0]["reaches"][q]["secs"].as_f64().unwrap() / DAY_S;
    assert!(days("p10") < 5.5 && days("p90") > 4.0 && (days("p50") - 5.0).abs() < 1.0, "{told:?}");
    // It is days away: nothing of it is in the horizon, and nothing moves.
    let prediction = &seen["predictions"]["disk-a"];
    assert_eq!(prediction["basis"], "prior");
    assert!(prediction["probability"].as_f64().unwrap() < 0.01, "{prediction}");
    let words = served.told(&["explain", "disk-a"]);
    assert!(words.contains("Outlook") && words.contains("disk_used") && words.contains("p90"), "{words}");

    let old = wait_for("an engine runs", PATIENCE, || served.engine_pid());
    // The past is gone, what was made of it is not.
    std::fs::remove_dir_all(served.state_dir().join("history")).unwrap();
    processes::signal(old, Signal::SIGKILL);
    wait_for("an engine comes back by itself", PATIENCE, || served.engine_pid().filter(|new| *new != old));
    served.wait("the outlook is told again", PATIENCE, |snapshot| {
        snapshot["tick"].as_u64().is_some_and(|tick| tick < 60) && !outlooks(snapshot).is_empty()
    });

    // The command line tells the same of any past.
    let source = aside.path().display().to_string();
    let forecast = |more: &[&str]| served.told(&[&["forecast"], more, &["--history", &source]].concat());
    let of_disk = forecast(&["disk-a", "disk_used", "--ahead", "6d"]);
    for part in ["disk_used of disk-a", "trend: +", "day: −", "Its limit of", "reached in", "│"] {
        assert!(of_disk.contains(part), "{part} is missing in\n{of_disk}");
    }
    let load: Value = serde_json::from_str(&forecast(&["store", "--json"])).unwrap();
    // Two cells of 100 to 300 requests each.
    let ahead: Vec<f64> =
        load["ahead"].as_array().unwrap().iter().map(|a| a["value"].as_f64().unwrap()).collect();
    let (least, most) =
        (ahead.iter().copied().fold(f64::MAX, f64::min), ahead.iter().copied().fold(0.0, f64::max));
    assert!((least - 200.0).abs() < 40.0 && (most - 600.0).abs() < 40.0, "{least} to {most}");
    assert_eq!((&load["limit"], load["seasons"][0]["name"].as_str()), (&Value::Null, Some("day")));
}

#[test]
fn without_a_past_or_switched_off_nothing_is_said() {
    let cell = cell();
    for more in ["  forecast: { enabled: false }", ""] {
        let aside = support::temporary_dir();
        let served = Served::start(&[], |state_dir, api| {
            if !more.is_empty() {
                write_past(state_dir, aside.path());
            }
            configuration(state_dir, api, cell, more)
        });
        // An engine that forecasts has told its outlooks long before.
        let seen = served.wait("it looks at the cell", PATIENCE, |snapshot| {
            snapshot["tick"].as_u64().is_some_and(|tick| tick > 40)
                && snapshot["predictions"]["disk-a"].is_object()
        });
        assert_eq!(outlooks(&seen), Vec::<Value>::new());
        assert_eq!(seen["degraded"], serde_json::json!([]), "{}", seen["degraded"]);
    }
}
