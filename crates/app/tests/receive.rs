//! Pushed telemetry on its way through a running `forefend serve`, from the senders that people have: a Prometheus, and
//! services instrumented with OpenTelemetry.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use support::{
    PATIENCE, Served, free_address, row,
    senders::{self, App, post},
    temporary_dir,
};

const TOKEN: &str = "the-token-of-the-test";

/// How long a metric may take to be known well enough to be a reason.
const FORESEEN_WITHIN: Duration = Duration::from_secs(60);

/// A service of two cells whose telemetry is pushed, and the address where that is taken.
fn serve(cells: &[&App], metrics: &str) -> (Served, SocketAddr) {
    let receiver = free_address();
    let cells: String = cells
        .iter()
        .zip(["a", "b"])
        .map(|(app, zone)| {
            format!("      - {{ id: web-{zone}, zone: {zone}, address: \"{}\" }}\n", app.address)
        })
        .collect();
    let served = Served::start(&[], |state, api| {
        let token = state.with_file_name("token");
        std::fs::write(&token, TOKEN).unwrap();
        format!(
            r#"version: 1
engine:
  state_dir: {}
  tick: 200ms
  window: {{ step: 500ms, length: 30s }}
  api: {{ listen: "{api}" }}
  receive:
    listen: "{receiver}"
    token: {{ file: {} }}
    max_body: 1MiB
    ignore_labels: [job, prometheus]
regions:
  here: {{ zones: [a, b] }}
services:
  web:
    objective: {{ latency: 1s }}
    listen: "{}"
    telemetry:
      scrape: false
      metrics: [{metrics}]
    policy: {{ mode: observe, horizon: 2m }}
    cells:
{cells}"#,
            state.display(),
            token.display(),
            free_address(),
        )
    });
    served.wait("the engine runs", PATIENCE, |s| row(s, "web-a").is_some());
    (served, receiver)
}

/// What the prediction of a cell says of a metric: as a driver, or as an anomaly.
fn told(snapshot: &Value, cell: &str, list: &str, metric: &str) -> Option<Value> {
    let all = snapshot["predictions"][cell][list].as_array()?;
    all.iter().find(|one| one["metric"] == metric).cloned()
}

#[test]
fn what_a_prometheus_writes_drives_a_prediction() {
    if !senders::is_there(&senders::prometheus(), "install prometheus") {
        return;
    }
    let (app, other) = (App::start(), App::start());
    let metrics = "{ name: pool_used, kind: exhaustible, limit_metric: pool_max, unit: slots }, \
                   { name: jobs_total, rename: jobs, family: traffic, kind: exhaustible, limit: 30, counter: true, unit: 1/s }";
    let (served, receiver) = serve(&[&app, &other], metrics);
    let dir = temporary_dir();
    let prometheus = senders::start_prometheus(dir.path(), app.address, receiver, TOKEN);
    let rising = |s: &Value| {
        let driver = told(s, "web-a", "drivers", "pool_used")?;
        let detail = driver["detail"].as_str()?.to_owned();
        detail.contains("of 1000.0 slots, +").then_some(detail)
    };
    let seen = served.wait("the pool is foreseen to be full", FORESEEN_WITHIN, |s| {
        rising(s).is_some() && s["predictions"]["web-a"]["probability"].as_f64().is_some_and(|p| p > 0.3)
    });
    assert_eq!(seen["predictions"]["web-a"]["basis"], "first-passage");
    assert!(told(&seen, "web-b", "drivers", "pool_used").is_none(), "nobody scraped the other");
    assert!(served.told(&["explain", "web-a"]).contains("pool_used"));
    assert_eq!(seen["degraded"], Value::Array(Vec::new()), "{}", served.log());

    // What is not there any more is a gap: with the service gone, Prometheus says so at once by its marker.
    drop(app);
    let gone = served
        .wait("the reason is gone", FORESEEN_WITHIN, |s| told(s, "web-a", "drivers", "pool_used").is_none());
    assert_eq!(gone["degraded"], Value::Array(Vec::new()), "a gap is nothing wrong");
    drop(prometheus);
    let said = std::fs::read_to_string(dir.path().join("prometheus.log")).unwrap();
    assert!(!said.contains("level=error"), "{said}");
}

#[test]
fn what_the_sdk_of_opentelemetry_pushes_drives_predictions() {
    if !senders::is_there(&senders::python(), "run `cargo xtask test`, which installs the SDK") {
        return;
    }
    let (one, two) = (App::start(), App::start());
    let metrics = "{ name: app.queue.depth, kind: exhaustible, limit: 1000, unit: jobs }, \
                   { name: app.tokens.left, kind: depletable, limit: 0 }, \
                   { name: app.request.duration_p99, rename: p99, family: latency, kind: exhaustible, limit: 900, unit: ms }";
    let (served, receiver) = serve(&[&one, &two], metrics);
    let dir = temporary_dir();
    let mut http = senders::start_sdk(dir.path(), "http", receiver, "web-a", TOKEN);
    let mut grpc = senders::start_sdk(dir.path(), "grpc", receiver, "web-b", TOKEN);
    let depth = "app.queue.depth{queue=\"orders\"}";
    let all_told = |s: &Value, cell: &str| {
        [depth, "p99", "app.tokens.left"].iter().all(|metric| told(s, cell, "drivers", metric).is_some())
    };
    served.wait("both are foreseen, whichever way they push", FORESEEN_WITHIN, |s| {
        all_told(s, "web-a") && all_told(s, "web-b")
    });
    // By now there is a past without errors to compare with.
    http.turn_bad();
    grpc.turn_bad();
    served.wait("the logs of both turned bad", FORESEEN_WITHIN, |s| {
        ["web-a", "web-b"].iter().all(|cell| {
            let errors = told(s, cell, "anomalies", "log.records{severity=\"error\"}");
            errors.is_some_and(|anomaly| anomaly["z"].as_f64().is_some_and(|z| z > 3.0))
        })
    });
    for protocol in ["http", "grpc"] {
        let said = std::fs::read_to_string(dir.path().join(format!("push-{protocol}.log"))).unwrap();
        assert!(!said.contains("Failed") && !said.contains("Traceback"), "{protocol}: {said}");
    }
}

/// A path, headers and a body, and the status and some words of the answer.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], &'a str, &'a str);

#[test]
fn what_cant_be_taken_is_answered_so_that_nobody_repeats_it_in_vain() {
    let (one, two) = (App::start(), App::start());
    let (served, to) = serve(&[&one, &two], "{ name: depth }");
    let bearer = format!("Bearer {TOKEN}");
    let auth = ("authorization", bearer.as_str());
    let (protobuf, json) = (("content-type", "application/x-protobuf"), ("content-type", "application/json"));
    let (snappy, gzip) = (("content-encoding", "snappy"), ("content-encoding", "gzip"));
    let status = |answer: &str| answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let write = "/api/v1/write";
    let cases: &[Case<'_>] = &[
        (write, &[protobuf, snappy], b"", "401", "engine.receive.token"),
        (write, &[("authorization", "Bearer wrong"), protobuf, snappy], b"", "401", "Bearer"),
        (write, &[auth, json, snappy], b"", "415", "is no remote write"),
        (write, &[auth, protobuf, gzip], b"", "415", "snappy"),
        (write, &[auth, protobuf, snappy], b"\xff\xff\xff\xff\x0f", "413", "more than 1048576 bytes"),
        (write, &[auth, protobuf, snappy], b"\x03\x08\x0a\x32\x01", "400", "byte 2"),
        (write, &[auth, protobuf, snappy], b"\x00", "204", "samples-written: 0"),
        ("/v1/metrics", &[auth, ("content-type", "text/plain")], b"", "415", "application/json"),
        ("/v1/metrics", &[auth, protobuf, ("content-encoding", "br")], b"", "415", "can't be decompressed"),
        ("/v1/metrics", &[auth, protobuf, gzip], b"no gzip", "400", "no gzip"),
        ("/v1/logs", &[auth, json], b"{", "400", "line 1, column 1"),
        ("/v1/logs", &[auth, json], b"{}", "200", "{}"),
        ("/v1/traces", &[auth, json], b"{}", "404", "/v1/metrics"),
    ];
    for (path, headers, body, wanted, words) in cases {
        let answer = post(to, path, headers, body);
        assert_eq!(status(&answer), *wanted, "{path} {headers:?}: {answer}");
        assert!(answer.contains(words), "{path} {headers:?}: {answer}");
    }
    assert_eq!(status(&post(to, write, &[auth, protobuf, snappy], &vec![0; 2 << 20])), "413");

    // One point good, one of nobody known, one from the future: each gets its own answer, and the good one is kept.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let point = |cell: &str, at: u128| {
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"service.instance.id","value":{{"stringValue":"{cell}"}}}}]}},
            "scopeMetrics":[{{"metrics":[{{"name":"depth","gauge":{{"dataPoints":[{{"timeUnixNano":"{at}","asInt":"5"}}]}}}}]}}]}}"#
        )
    };
    let resources =
        [point("web-a", now), point("web-9", now), point("web-b", now + 3_600_000_000_000)].join(",");
    let body = format!(r#"{{"resourceMetrics":[{resources}]}}"#);
    let answer = post(to, "/v1/metrics", &[auth, json], body.as_bytes());
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.contains(r#""rejectedDataPoints":"2""#) && answer.contains("set the clocks"), "{answer}");
    let seen = served.wait("the problem is told", PATIENCE, |s| s["degraded"].to_string().contains("web-b"));
    assert!(
        seen["degraded"].to_string().contains("pushed telemetry of web-b: `depth` of web-b was measured")
    );
    assert!(served.log().contains(r#"service.instance.id="web-9" names no cell"#), "{}", served.log());
}
