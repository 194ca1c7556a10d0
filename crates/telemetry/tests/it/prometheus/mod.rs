//! A Prometheus as a live source: one that does what each test wants.

mod figures;
mod trouble;
mod values;

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use forefend_domain::{CellId, MetricKind, MetricName, MetricWindow, Timestamp, ports::TelemetrySource as _};
use forefend_telemetry::{
    Access, Collector, CollectorOptions, PushTarget, StoreOptions, Target,
    history::prometheus::MappedMetric,
    prometheus::{AskedMetric, Follower, PrometheusOptions},
};
use tokio::runtime::Handle;

use crate::server::{Answer, Server};

pub(super) const STEP: Duration = Duration::from_millis(100);
pub(super) const LENGTH: usize = 60;

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_unix_ms(since.as_millis() as u64)
}

pub(super) fn cell(n: usize) -> CellId {
    CellId::new(&format!("shop-{n}")).unwrap()
}

pub(super) fn target(n: usize) -> Target {
    let push =
        PushTarget { addresses: vec![([127, 0, 0, 1], 1_000 + n as u16).into()], ..PushTarget::default() };
    Target { cell: cell(n), scrape: None, probe: None, host: None, logs: None, push, paused: false }
}

pub(super) fn collector(cells: usize) -> Collector {
    let store = StoreOptions { step: STEP, length: LENGTH, ..StoreOptions::default() };
    let options = CollectorOptions { store, ..CollectorOptions::new(Arc::new(now)) };
    let mut collector = Collector::new(options, Handle::current());
    collector.set_targets((0..cells).map(target).collect());
    collector
}

pub(super) fn asked(name: &str, query: &str) -> AskedMetric {
    let what = MappedMetric {
        query: query.into(),
        family: None,
        kind: None,
        unit: None,
        limit: None,
        limit_query: None,
    };
    AskedMetric { name: MetricName::new(name), what, counter: false }
}

pub(super) fn options(server: &Server, metrics: &[(&str, &str)]) -> PrometheusOptions {
    PrometheusOptions {
        url: format!("http://{}/prom", server.address).parse().unwrap(),
        access: Access::default(),
        interval: STEP,
        timeout: Duration::from_secs(2),
        look_back: Duration::from_secs(60),
        overlap: Duration::from_millis(500),
        fresh_for: Duration::from_secs(60),
        cell_labels: vec!["forefend_cell".into(), "instance".into()],
        metrics: metrics.iter().map(|(name, query)| asked(name, query)).collect(),
        max_answer_bytes: PrometheusOptions::MAX_ANSWER_BYTES,
    }
}

/// What is asked for, as a made-up Prometheus understands it.
pub(super) struct Question {
    pub(super) query: String,
    pub(super) instants: Vec<u64>,
}

/// `None`: what time it is.
pub(super) fn question(path: &str) -> Option<Question> {
    assert!(path.starts_with("/prom/api/v1/query"), "{path}");
    let value = |key: &str| {
        let (_, rest) = path.split_once(&format!("{key}="))?;
        rest.split('&').next()
    };
    let ms = |key: &str| (value(key)?.parse::<f64>().ok()? * 1_000.0).round().to_string().parse::<u64>().ok();
    let (start, end, step) = (ms("start")?, ms("end")?, ms("step")?);
    let query = value("query")?.replace("%20", " ");
    // A metric that is asked for by its name is bounded in how long it is shown.
    let query = query.split(' ').next()?.to_owned();
    Some(Question { query, instants: (start..=end).step_by(step as usize).collect() })
}

pub(super) fn time_is(at: Timestamp) -> Answer {
    let seconds = at.unix_ms() as f64 / 1_000.0;
    json(format!(
        r#"{{"status":"success","data":{{"resultType":"scalar","result":[{seconds},"{seconds}"]}}}}"#
    ))
}

pub(super) fn json(body: String) -> Answer {
    Answer::Whole(200, "application/json", body)
}

pub(super) type Sampled<'a> = &'a dyn Fn(u64) -> Option<f64>;

/// The answer to a range query: series by their labels, with what they are at each instant.
pub(super) fn matrix(question: &Question, series: &[(&str, Sampled<'_>)]) -> Answer {
    let mut result = Vec::new();
    for (labels, sampled) in series {
        let mut values = String::new();
        for at in &question.instants {
            if let Some(value) = sampled(*at) {
                let separator = if values.is_empty() { "" } else { "," };
                let _ = write!(values, "{separator}[{}.{:03},\"{value}\"]", at / 1_000, at % 1_000);
            }
        }
        if !values.is_empty() {
            result.push(format!(r#"{{"metric":{{{labels}}},"values":[{values}]}}"#));
        }
    }
    json(format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#,
        result.join(",")
    ))
}

pub(super) fn by(answer: impl Fn(Option<Question>) -> Answer + Send + Sync + 'static) -> Answer {
    Answer::Asked(Arc::new(move |path| answer(question(path))))
}

/// A gauge of shop-0 that tells the time: each value is its own instant in seconds.
pub(super) fn telling_time(asked: Option<Question>) -> Answer {
    match asked {
        None => time_is(now()),
        Some(asked) => matrix(&asked, &[(r#""forefend_cell":"shop-0""#, &|at| Some(at as f64 / 1_000.0))]),
    }
}

pub(super) fn window(collector: &mut Collector, n: usize, metric: &str) -> Option<MetricWindow> {
    let windows = collector.windows(now()).into_iter().find(|windows| windows.cell == cell(n))?;
    windows.metrics.get(&MetricName::new(metric)).cloned()
}

/// The values of a window with the ends of their steps.
pub(super) fn values(collector: &mut Collector, n: usize, metric: &str) -> Vec<(u64, f64)> {
    let window = window(collector, n, metric);
    let samples = window.iter().flat_map(|w| &w.samples);
    samples.filter_map(|sample| Some((sample.at.unix_ms(), sample.value?))).collect()
}

/// Looks again and again, for at most 20 s, until there is something.
pub(super) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn first_round(follower: &Follower) {
    assert!(follower.first_round(Duration::from_secs(20)).await);
}
