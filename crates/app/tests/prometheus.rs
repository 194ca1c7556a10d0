//! A real Prometheus as the only source of metrics of a running `forefend serve`: from its past at the start, through its end, to its return.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use forefend::api::client::Client;
use serde_json::Value;
use support::{
    PATIENCE, Served, free_address, has_entry, row,
    senders::{self, App},
    settled, temporary_dir, wait_for,
};

/// How long a Prometheus may take to begin to scrape, or to be asked again after it was away.
const LONG_PATIENCE: Duration = Duration::from_secs(90);

/// The newest value of a metric, and when it was, in milliseconds since 1970.
fn newest(served: &Served, cell: &str, metric: &str) -> Option<(f64, u64)> {
    let all = served.get(&format!("/api/v1/cells/{cell}/metrics"))?;
    let found = all.as_array()?.iter().find(|one| one["name"] == metric)?.clone();
    Some((found["value"].as_f64()?, found["at"].as_u64()?))
}

/// The course of the metric that speaks for a failure of the cell: when (seconds ago, negative) and what.
fn course(served: &Served, cell: &str) -> Option<Vec<(f64, Option<f64>)>> {
    let explanation = served.get(&format!("/api/v1/cells/{cell}/explanation"))?;
    let all = explanation["contributions"].as_array()?.clone();
    let pool = all.into_iter().find(|one| one["metric"] == "pool_used")?;
    serde_json::from_value(pool["course"]["values"].clone()).ok()
}

fn now_ms(snapshot: &Value) -> u64 {
    snapshot["world"]["now"].as_u64().unwrap()
}

/// A service that only looks, whose telemetry is asked of a Prometheus; sections as they stand in the file.
fn serve(window: &str, prometheus: &str, cells: &str) -> Served {
    Served::start(&[], |state, api| {
        format!(
            r#"version: 1
engine:
  state_dir: {}
  tick: 200ms
  window: {{ step: 500ms, length: {window} }}
  api: {{ listen: "{api}" }}
  prometheus:{prometheus}
regions:
  here: {{ zones: [a, b] }}
services:
  web:
    objective: {{ latency: 1s }}
    listen: "{}"
    policy: {{ mode: observe, horizon: 10m }}
    cells:{cells}
"#,
            state.display(),
            free_address(),
        )
    })
}

#[test]
fn a_prometheus_fills_windows_from_the_first_tick_on_and_its_end_is_a_gap_and_no_failure() {
    if !senders::is_there(&senders::prometheus(), "install prometheus") {
        return;
    }
    let (one, two) = (App::start(), App::start());
    let dir = temporary_dir();
    let listen = free_address();
    let start = || senders::start_prometheus_at(dir.path(), &[one.address, two.address], listen);
    let prometheus = start();
    let asked = Client::new(&format!("http://{listen}"), None).unwrap();
    wait_for("Prometheus has a past", LONG_PATIENCE, || {
        let path = "/api/v1/query?query=min(count_over_time(pool_used%5B1m%5D))";
        let answer: Value = asked.get_blocking(path).ok()?;
        let count: f64 = answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()?;
        (count >= 40.0).then_some(())
    });

    let began = Instant::now();
    let section = format!(
        r#"
    url: http://{listen}
    interval: 500ms
    overlap: 2s
    fresh_for: 2s
    metrics:
      pool_used: {{ query: pool_used, family: saturation, unit: slots, limit_query: 4 * pool_max }}
      pool_left: {{ query: 4 * pool_max - pool_used, family: custom, kind: depletable, unit: slots, limit: 0 }}
      jobs: {{ query: "rate(jobs_total[2s])", family: traffic, unit: 1/s }}"#
    );
    let cells = format!(
        r#"
      - {{ id: web-a, zone: a, address: "{}" }}
      - {{ id: web-b, zone: b, address: "{}", known_as: {{ instance: "{}" }} }}"#,
        one.address, two.address, two.address,
    );
    let served = serve("2m", &section, &cells);
    let first = served.wait("a first tick", PATIENCE, |s| row(s, "web-a").is_some());
    // On a machine that is too busy to answer in time the tick does not wait, and the log has it.
    let foreseen = first["predictions"]["web-a"]["drivers"].to_string().contains("pool_used");
    assert!(foreseen || served.log().contains("is still being read"), "{}", served.story());
    let past = wait_for("the course of the pool", PATIENCE, || course(&served, "web-a"));
    let age = began.elapsed().as_secs_f64();
    let before = past.iter().filter(|(at, value)| *at < -age && value.is_some()).count();
    assert!(before >= 6, "{before} values from before the start, {age} s ago: {past:?}");

    served.wait("both cells are known and serve", PATIENCE, settled);
    for cell in ["web-a", "web-b"] {
        let (jobs, _) = wait_for("jobs", PATIENCE, || newest(&served, cell, "jobs"));
        assert!((10.0..30.0).contains(&jobs), "{jobs} jobs a second of {cell}");
        let all = served.get(&format!("/api/v1/cells/{cell}/metrics")).unwrap();
        let pool = all.as_array().unwrap().iter().find(|one| one["name"] == "pool_used").unwrap().clone();
        assert_eq!((&pool["limit"], &pool["kind"]), (&4_000.0.into(), &"exhaustible".into()), "{pool}");
    }
    let seen = served.wait("what is left is foreseen to run out", PATIENCE, |s| {
        let drivers = s["predictions"]["web-a"]["drivers"].as_array();
        let left = drivers.into_iter().flatten().find(|driver| driver["metric"] == "pool_left");
        left.is_some_and(|left| left["detail"].to_string().contains("slots left, must stay above 0.0 slots"))
    });
    assert_eq!(seen["degraded"], Value::Array(Vec::new()), "{}", served.log());

    // It is killed. That is told, values end, and nothing is made of it.
    drop(prometheus);
    let killed = now_ms(&served.snapshot().unwrap());
    let told = served.wait("the gap is told", PATIENCE, |s| s["degraded"] != Value::Array(Vec::new()));
    let words = format!("no telemetry from Prometheus http://{listen}, its metrics are gaps: ");
    assert!(told["degraded"][0].as_str().unwrap().starts_with(&words), "{}", told["degraded"]);
    assert_eq!(told["degraded"].as_array().unwrap().len(), 1);
    served.wait("some seconds without", PATIENCE, |s| now_ms(s) > killed + 6_000);
    let (_, last) = newest(&served, "web-a", "pool_used").unwrap();
    assert!(last <= killed + 1_000, "{last} is after {killed}, when it was killed");
    let during = served.snapshot().unwrap();
    assert!(settled(&during), "cells are as well as before: {}", served.story());
    let ledger = served.ledger();
    assert!(!has_entry(&ledger, "decision", &["\"failed\""]), "{ledger:?}");
    assert_eq!(served.log().matches(&words).count(), 1, "{}", served.log());

    // It comes back with what it has stored, and the time without it stays a gap.
    let back = now_ms(&served.snapshot().unwrap());
    let prometheus = start();
    served.wait("it is asked again", LONG_PATIENCE, |s| s["degraded"] == Value::Array(Vec::new()));
    wait_for("values come again", LONG_PATIENCE, || {
        newest(&served, "web-a", "pool_used").filter(|(_, at)| *at > back)
    });
    let after = wait_for("the course of the pool", PATIENCE, || course(&served, "web-a"));
    let now = now_ms(&served.snapshot().unwrap());
    // What was there when it was killed is shown for two seconds, and the clock of the course is a tick or so behind.
    let (from, to) = (killed as f64 + 4_000.0 - now as f64, back as f64 - 1_000.0 - now as f64);
    let without = after.iter().filter(|(at, _)| (from..to).contains(&(at * 1_000.0)));
    assert!(without.clone().count() >= 1 && without.clone().all(|(_, value)| value.is_none()), "{after:?}");
    assert!(served.log().contains("over: no telemetry from Prometheus"), "{}", served.log());
    drop(prometheus);
}

#[test]
fn one_behind_tls_that_wants_a_password_is_asked_live_and_for_its_past() {
    if !senders::is_there(&senders::prometheus(), "install prometheus") {
        return;
    }
    let app = App::start();
    let dir = temporary_dir();
    let listen = free_address();
    let prometheus = senders::start_prometheus_behind_tls(dir.path(), &[app.address], listen);
    let (user, password) = senders::USER;
    let (ca, secret) = (dir.path().join("ca.pem"), dir.path().join("password"));
    std::fs::write(&secret, format!("{password}\n")).unwrap();
    let section = format!(
        r#"
    url: https://{listen}
    user: {user}
    password: {{ file: {} }}
    ca: {}
    interval: 500ms
    metrics:
      pool_used: {{ query: pool_used, family: saturation, unit: slots, limit: 1000 }}"#,
        secret.display(),
        ca.display(),
    );
    let cells = format!("\n      - {{ id: web-a, zone: a, address: \"{}\" }}", app.address);
    let served = serve("30s", &section, &cells);
    wait_for("the pool", LONG_PATIENCE, || newest(&served, "web-a", "pool_used"));
    assert!(!served.log().contains(password), "secrets are not told");
    drop(served);

    // Its past is read with the same access, and with nothing less.
    let mapping = dir.path().join("mapping.yaml");
    let expression = format!(r#"pool_used{{instance="{}"}}"#, app.address);
    let text = format!("metrics: {{ pool_used: {{ query: '{expression}' }} }}\ncells: {{ web-a: {{}} }}\n");
    std::fs::write(&mapping, text).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let asked = |command: &[&str], more: &[&str]| {
        let mut asking = Command::new(support::FOREFEND);
        asking.args(command).arg(format!("--history=prometheus:https://{listen}")).arg("--mapping");
        asking.arg(&mapping).arg(format!("--from={}", now - 60_000)).arg(format!("--to={now}")).args(more);
        let done = asking.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
    };
    let (incidents, report) = (dir.path().join("incidents.csv"), dir.path().join("report.html"));
    std::fs::write(&incidents, "cell,began\n").unwrap();
    let other = dir.path().join("other");
    std::fs::write(&other, "close sesame").unwrap();
    let [ca, secret, other] = [&ca, &secret, &other].map(|path| path.to_str().unwrap());
    let [incidents, report] = [&incidents, &report].map(|path| path.to_str().unwrap());
    let backtest = ["backtest", "--step=500ms", "--incidents", incidents, "--report", report];
    let forecast = ["forecast", "web-a", "pool_used"];
    let known = ["--prometheus-ca", ca, "--prometheus-user", user, "--prometheus-password", secret];
    let said = asked(&backtest, &known);
    assert!(std::fs::exists(report).unwrap(), "{said}");
    for (command, wrong) in [
        (&backtest[..], &known[..2]),
        (&forecast[..], &known[..2]),
        (&forecast[..], &[&known[..5], &[other]].concat()[..]),
    ] {
        let said = asked(command, wrong);
        assert!(said.contains("status 401"), "{said}");
    }
    let said = asked(&forecast, &["--prometheus-token", secret]);
    assert!(said.contains("no secure connection") || said.contains("trusts no authority"), "{said}");
    drop(prometheus);
}
