//! A real Prometheus as a source of histories; and one that is busy.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use forefend_domain::{Family, MetricKind, MetricName, Timestamp};
use forefend_telemetry::history::{
    HistoryError, HistorySource, LoadOptions, RecordedSeries, load,
    prometheus::{Mapping, MappingError},
};

use crate::server::{Answer, Server};

/// 2025-11-21T10:00:00Z.
const BEGAN_S: u64 = 1_763_719_200;
const STEP_S: u64 = 15;
/// Two days and more: above what may be asked for at once.
const SAMPLES: u64 = 12_000;
/// Longer than the five minutes for which Prometheus shows a value that is not renewed.
const GAP: std::ops::Range<u64> = 400..480;

fn is_there() -> bool {
    if Path::new("/usr/bin/prometheus").exists() && Path::new("/usr/bin/promtool").exists() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "install the package prometheus");
    eprintln!("SKIPPED: no prometheus");
    false
}

/// A real one, with a past.
pub(crate) struct Prometheus {
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Prometheus {
    fn start(folder: &Path) -> Self {
        let mut text = String::from("# TYPE leak gauge\n");
        for n in (0..SAMPLES).filter(|n| !GAP.contains(n)) {
            writeln!(text, "leak{{pod=\"p1\"}} {} {}", n * 10, BEGAN_S + n * STEP_S).unwrap();
        }
        text.push_str("# TYPE limit gauge\n");
        for n in 0..SAMPLES {
            let limit = if n < 6_000 { 100_000 } else { 200_000 };
            writeln!(text, "limit{{pod=\"p1\"}} {limit} {}", BEGAN_S + n * STEP_S).unwrap();
        }
        text.push_str("# TYPE requests counter\n");
        for n in 0..SAMPLES {
            writeln!(text, "requests_total{{pod=\"p1\"}} {} {}", n * 30, BEGAN_S + n * STEP_S).unwrap();
        }
        text.push_str("# TYPE twice gauge\n");
        for pod in ["p1", "p2"] {
            writeln!(text, "twice{{pod=\"{pod}\"}} 1 {BEGAN_S}").unwrap();
        }
        text.push_str("# EOF\n");
        Self::with_past(folder, &text)
    }

    /// With this past, as an OpenMetrics exposition with times.
    pub(crate) fn with_past(folder: &Path, text: &str) -> Self {
        let (input, data) = (folder.join("input"), folder.join("data"));
        fs::write(&input, text).unwrap();
        let made = Command::new("/usr/bin/promtool")
            .args(["tsdb", "create-blocks-from", "--quiet", "--max-block-duration=240h", "openmetrics"])
            .args([&input, &data])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        fs::write(folder.join("prometheus.yml"), "global: {}\n").unwrap();
        let process = Command::new("/usr/bin/prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .args(["--storage.tsdb.retention.time=100y", "--log.level=error"])
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self { address, process };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "prometheus does not listen");
            std::thread::yield_now();
        }
        prometheus
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn source(address: SocketAddr) -> HistorySource {
    format!("prometheus:http://{address}").parse().unwrap()
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_unix_ms(second * 1_000)
}

fn options(folder: &Path, mapping: &str) -> LoadOptions {
    let path = folder.join("mapping.yaml");
    fs::write(&path, mapping).unwrap();
    LoadOptions {
        from: Some(at(BEGAN_S)),
        to: Some(at(BEGAN_S + (SAMPLES - 1) * STEP_S)),
        mapping: Some(path),
        ..LoadOptions::default()
    }
}

const MAPPING: &str = r#"
metrics:
  leak:
    query: leak{pod="$pod"}
    family: saturation
    kind: exhaustible
    unit: bytes
    limit_query: limit{pod="$pod"}
  nothing: { query: 'missing{pod=~"$pod$"}' }
cells:
  shop-a:
    service: shop
    labels: { pod: p1 }
    metrics:
      requests: { query: 'rate(requests_total{pod="$pod"}[1m])', family: traffic, unit: requests/s }
"#;

#[test]
fn a_real_prometheus_is_read_in_parts_and_its_gaps_stay_gaps() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(folder.path());
    let history = load(&source(prometheus.address), &options(folder.path(), MAPPING)).unwrap();
    assert_eq!(history.step, Duration::from_secs(15), "the default");
    let cell = &history.cells["shop-a"];
    assert_eq!((cell.service.as_str(), cell.series.len()), ("shop", 2), "what yields nothing is no metric");
    let leak: &RecordedSeries = &cell.series[&MetricName::new("leak")];
    assert_eq!(
        (leak.family, leak.kind, leak.unit.as_str()),
        (Family::Saturation, MetricKind::Exhaustible, "bytes")
    );
    assert_eq!(
        leak.limits,
        [(at(BEGAN_S), Some(100_000.0)), (at(BEGAN_S + 6_000 * STEP_S), Some(200_000.0))]
    );
    // A value is shown for less than five minutes more, and the gap is longer.
    let shown = 300 / STEP_S - 1;
    let missing = |n: &u64| GAP.contains(n) && *n > GAP.start + shown;
    let expected: Vec<u64> = (0..SAMPLES).filter(|n| !missing(n)).map(|n| BEGAN_S + n * STEP_S).collect();
    let found: Vec<u64> = leak.samples.iter().map(|(at, _)| at.unix_ms() / 1_000).collect();
    let apart = expected.len().abs_diff(found.len());
    assert!(apart <= 1, "{} of {} samples", found.len(), expected.len());
    let value = |n: u64| leak.samples.iter().find(|(of, _)| *of == at(BEGAN_S + n * STEP_S)).map(|s| s.1);
    assert_eq!(
        (value(0), value(9_999), value(10_000), value(11_999)),
        (Some(0.0), Some(99_990.0), Some(100_000.0), Some(119_990.0))
    );
    assert_eq!((value(GAP.start + 25), value(GAP.end)), (None, Some(4_800.0)));
    let rate = cell.series[&MetricName::new("requests")].samples[100].1;
    assert!((rate - 2.0).abs() < 1e-9, "{rate}");

    let wrong = |query: &str| {
        let mapping = format!("cells: {{ a: {{ metrics: {{ m: {{ query: '{query}' }} }} }} }}");
        let error = load(&source(prometheus.address), &options(folder.path(), &mapping)).unwrap_err();
        assert!(matches!(error, HistoryError::Query { .. }), "{error}");
        error.to_string().split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(
        wrong("twice"),
        "`twice`: it yields 2 series where one is wanted; name the labels of the one, or bring them together with sum or max"
    );
    let bad = wrong("leak{");
    assert!(bad.starts_with("`leak{`: ") && bad.contains("parse error"), "{bad}");
    let few = LoadOptions { max_rows: 100, ..options(folder.path(), MAPPING) };
    let error = load(&source(prometheus.address), &few).unwrap_err();
    assert!(matches!(error, HistoryError::TooMuch { max_rows: 100, .. }), "{error}");
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_wrong_one_is_not() {
    let series = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1000,"1"],[1015,"2"]]}]}}"#;
    let server = Server::start(Answer::Whole(503, "text/plain", "busy".into())).await;
    let folder = tempfile::tempdir().unwrap();
    let mapping = "cells: { a: { metrics: { m: { query: up } } } }";
    let asked = LoadOptions { from: Some(at(1_000)), to: Some(at(1_030)), ..options(folder.path(), mapping) };
    let reading = {
        let (source, asked) = (source(server.address), asked.clone());
        tokio::task::spawn_blocking(move || load(&source, &asked))
    };
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    server.answer(Answer::Whole(200, "application/json", series.into()));
    let history = reading.await.unwrap().unwrap();
    assert_eq!(
        history.cells["a"].series[&MetricName::new("m")].samples,
        [(at(1_000), 1.0), (at(1_015), 2.0)]
    );
    let request = server.last_request();
    assert!(
        request.starts_with("GET /api/v1/query_range?query=up&start=1005.000&end=1020.000&step=15.000 "),
        "{request}"
    );

    server.answer(Answer::Whole(404, "text/html", "<html>".into()));
    let before = server.requests();
    let (of, options) = (source(server.address), asked.clone());
    let error =
        tokio::task::spawn_blocking(move || load(&of, &options)).await.unwrap().unwrap_err().to_string();
    assert!(
        error.ends_with("`up`: it answers with status 404; see whether the address is that of its API"),
        "{error}"
    );
    assert_eq!(server.requests(), before + 1);

    let incomplete = [
        LoadOptions { from: None, ..asked.clone() },
        LoadOptions { to: None, ..asked.clone() },
        LoadOptions { mapping: None, ..asked },
    ];
    for options in incomplete {
        let error = load(&source(server.address), &options).unwrap_err();
        assert!(matches!(error, HistoryError::NoSource { .. }), "{error}");
    }
}

#[test]
fn wrong_mappings_say_what_is_wrong() {
    let wrong = |text: &str| Mapping::parse(text).and_then(|m| m.queries()).unwrap_err();
    assert_eq!(wrong("cells: { a: {} }"), MappingError::Nothing);
    let two = wrong("cells: { a: { metrics: { m: { query: up, limit: 1, limit_query: up } } } }").to_string();
    assert_eq!(two, "metric m of cell a has both `limit` and `limit_query`; leave one of them out");
    let unknown = wrong("cells: { a: { metrics: { m: { query: 'up{a=\"$node\"}' } } } }").to_string();
    assert_eq!(
        unknown,
        "the expression `up{a=\"$node\"}` of cell a holds `$node`, and the cell has no such label; add it under `labels`"
    );
    for text in ["", "cells: [a]", "cells: { a: { metrics: { m: { qery: up } } } }", "cells: { 'a b': {} }"] {
        let error = wrong(text);
        assert!(matches!(error, MappingError::Text(_)), "{error}");
    }
    let json = r#"{"cells": {"a": {"labels": {"x": "q\"\\"}, "metrics": {"m": {"query": "up{a=\"$x\",b=~\"c$\",d=\"$cell\"}"}}}}}"#;
    let queries = Mapping::parse(json).unwrap().queries().unwrap();
    assert_eq!(queries[0].what.query, r#"up{a="q\"\\",b=~"c$",d="a"}"#);
}
