//! What becomes of what was pushed, sample by sample.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use forefend_domain::{
    CellId, Family, MetricKind, MetricName, MetricWindow, Timestamp, ports::TelemetrySource,
};
use forefend_telemetry::{
    Collector, CollectorOptions, Identity, Intake, LogOptions, LogTarget, MetricSelector, PushTarget, Source,
    StoreOptions, Target,
    pushed::{Buckets, CountsAs, Labels, Nature, PushedLog, PushedPoint, PushedSeries, Severity},
};
use tokio::runtime::Handle;

/// A steady time to begin at: in the middle of a step.
const START: u64 = 1_700_000_000_500;

struct World {
    now: Arc<AtomicU64>,
    collector: Collector,
    intake: Intake,
}

fn cell(name: &str) -> CellId {
    CellId::new(name).unwrap()
}

fn world(metrics: Vec<MetricSelector>) -> World {
    let now = Arc::new(AtomicU64::new(START));
    let clock = Arc::clone(&now);
    let store = StoreOptions { step: Duration::from_secs(1), length: 20, ..StoreOptions::default() };
    let clock = Arc::new(move || Timestamp::from_unix_ms(clock.load(Ordering::Relaxed)));
    let options = CollectorOptions { store, default_series: 3, ..CollectorOptions::new(clock) };
    let mut collector = Collector::new(options, Handle::current());
    let target = |name: &str, port: u16| Target {
        cell: cell(name),
        scrape: None,
        probe: None,
        host: None,
        logs: None,
        push: PushTarget {
            addresses: vec![([127, 0, 0, 1], port).into()],
            metrics: metrics.clone(),
            known_as: Vec::new(),
        },
        paused: false,
    };
    let parked = Target { paused: true, ..target("parked", 9003) };
    collector.set_targets(vec![target("shop-1", 9001), target("shop-2", 9002), parked]);
    let identity = Identity {
        cell_labels: ["forefend_cell", "service.instance.id", "instance"].map(String::from).to_vec(),
        ignored_labels: vec!["job".to_owned()],
    };
    let intake = collector.intake(identity);
    World { now, collector, intake }
}

impl World {
    fn window(&mut self, of: &str, metric: &str) -> Option<MetricWindow> {
        let now = Timestamp::from_unix_ms(self.now.load(Ordering::Relaxed));
        let windows = self.collector.windows(now).into_iter().find(|windows| windows.cell == cell(of))?;
        windows.metrics.get(&MetricName::new(metric)).cloned()
    }

    fn values(&mut self, metric: &str) -> Vec<f64> {
        let window = self.window("shop-1", metric);
        window.iter().flat_map(|w| &w.samples).filter_map(|sample| sample.value).collect()
    }

    fn after(&self, seconds: u64) {
        self.now.store(START + seconds * 1_000, Ordering::Relaxed);
    }
}

fn labels(of: &[(&str, &str)]) -> Labels {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Points at seconds after the start.
fn series(name: &str, of: &[(&str, &str)], nature: Nature, points: &[(u64, f64)]) -> PushedSeries {
    let point = |(second, value): &(u64, f64)| PushedPoint {
        at: Timestamp::from_unix_ms(START + second * 1_000),
        value: Some(*value),
        began: None,
    };
    PushedSeries {
        name: name.into(),
        labels: labels(of),
        source: Arc::default(),
        nature,
        by_default: true,
        unit: "By".into(),
        counts_as: CountsAs::Sample,
        points: points.iter().map(point).collect(),
        quantile: None,
    }
}

const OURS: &[(&str, &str)] = &[("instance", "127.0.0.1:9001"), ("job", "shop")];

fn selector(name: &str) -> MetricSelector {
    MetricSelector {
        name: name.into(),
        labels: Vec::new(),
        rename: Some("pool".into()),
        family: Family::Saturation,
        kind: MetricKind::Exhaustible,
        unit: "count".into(),
        limit: None,
        limit_metric: Some("pool_max".into()),
        counter: false,
    }
}

#[tokio::test]
async fn a_cell_is_known_by_name_or_address_and_the_first_label_decides() {
    let mut world = world(Vec::new());
    let sent = [
        &[("forefend_cell", "shop-2"), ("instance", "127.0.0.1:9001")][..],
        &[("instance", "localhost:9001")],
        &[("service.instance.id", "shop-1"), ("path", "/")],
        &[("instance", "10.0.0.9:80")],
        &[("forefend_cell", "shop-9"), ("instance", "127.0.0.1:9001")],
        &[("job", "shop")],
    ];
    let sent = sent.iter().map(|of| series("depth", of, Nature::Level, &[(0, 4.0)])).collect();
    let report = world.intake.push(sent);
    assert_eq!((report.kept.samples, report.unknown.samples), (3, 3));
    assert_eq!(report.stranger.unwrap(), "instance=\"10.0.0.9:80\" names no cell, nor an address of one");
    world.after(1);
    for (of, metric) in [("shop-2", "depth"), ("shop-1", "depth"), ("shop-1", "depth{path=\"/\"}")] {
        let window = world.window(of, metric).unwrap_or_else(|| panic!("{of} {metric}"));
        assert_eq!((window.latest(), window.unit.as_str(), window.limit), (Some((0, 4.0)), "By", None));
        assert_eq!((window.family, window.kind), (Family::Custom, MetricKind::Unbounded));
    }
    assert_eq!(world.collector.counts().pushed_unknown, 3);
}

#[tokio::test]
async fn selectors_say_what_is_taken_and_a_limit_may_be_pushed_too() {
    let mut world = world(vec![selector("pool_used")]);
    let report = world.intake.push(vec![
        series("pool_max", OURS, Nature::Level, &[(0, 100.0)]),
        series("pool_used", OURS, Nature::Level, &[(0, 7.0)]),
        series("other", OURS, Nature::Level, &[(0, 1.0)]),
    ]);
    assert_eq!((report.kept.samples, report.ignored.samples), (1, 2));
    world.after(1);
    let pool = world.window("shop-1", "pool").unwrap();
    assert_eq!(
        (pool.limit, pool.kind, pool.latest()),
        (Some(100.0), MetricKind::Exhaustible, Some((0, 7.0)))
    );
    assert!(world.window("shop-1", "other").is_none());
}

#[tokio::test]
async fn what_nobody_selected_is_kept_up_to_a_bound_and_the_rest_is_a_problem() {
    let mut world = world(Vec::new());
    let many = |at| (0..5).map(|i| series(&format!("m{i}"), OURS, Nature::Level, &[(at, 1.0)])).collect();
    let report = world.intake.push(many(0));
    assert_eq!((report.kept.samples, report.ignored.samples), (3, 2));
    let problems = world.collector.problems();
    assert_eq!((problems.len(), problems[0].source), (1, Source::Push));
    assert!(problems[0].what.contains("`m3` was left out, for 3 series"), "{}", problems[0].what);
    assert_eq!(world.intake.push(many(0)).kept.samples, 3, "the same three");
    // Those that ended make room, and a minute without a problem is the end of it.
    world.after(90);
    let others = (7..9).map(|i| series(&format!("m{i}"), OURS, Nature::Level, &[(90, 1.0)])).collect();
    assert_eq!(world.intake.push(others).kept.samples, 2);
    assert_eq!(world.collector.problems(), vec![]);
    world.after(91);
    assert!(world.window("shop-1", "m8").is_some());
}

#[tokio::test]
async fn late_duplicate_out_of_order_early_and_stale_samples_each_have_their_meaning() {
    let mut world = world(Vec::new());
    world.after(10);
    let push = |points: &[(u64, f64)]| world.intake.push(vec![series("depth", OURS, Nature::Level, points)]);
    assert_eq!(push(&[(10, 10.0)]).kept.samples, 1);
    assert_eq!(push(&[(8, 8.0), (9, 9.0)]).kept.samples, 2, "out of order, but within the window");
    assert_eq!(push(&[(9, 90.0)]).kept.samples, 1, "of two at one instant the later told counts");
    let ahead = push(&[(30, 5.0)]);
    assert_eq!(ahead.kept.samples, 1, "a little ahead counts as measured now");
    let refused = push(&[(300, 5.0)]);
    assert_eq!((refused.kept.samples, refused.refused.tally.samples), (0, 1));
    assert!(refused.refused.first.unwrap().contains("after now; set the clocks"));
    assert!(world.collector.problems()[0].what.contains("set the clocks"));
    world.after(11);
    assert_eq!(world.values("depth"), [8.0, 90.0, 5.0]);

    world.after(100);
    assert!(world.values("depth").is_empty(), "the loop asks at every tick");
    let report = world.intake.push(vec![
        series("depth", OURS, Nature::Level, &[(100, 1.0)]),
        series("depth", OURS, Nature::Level, &[(20, 1.0)]),
    ]);
    assert_eq!((report.kept.samples, report.refused.tally.samples), (1, 1), "older than a window");
    let mut gap = series("depth", OURS, Nature::Level, &[(101, 0.0), (102, f64::NAN)]);
    gap.points[0].value = None;
    world.after(103);
    assert_eq!(world.intake.push(vec![gap]).kept.samples, 2, "gaps are told, so they are kept");
    assert_eq!(world.values("depth"), [1.0]);
}

#[tokio::test]
async fn a_counter_that_began_anew_is_known_by_its_beginning() {
    let mut world = world(Vec::new());
    world.after(6);
    let mut hits =
        series("hits_total", OURS, Nature::Total, &[(0, 100.0), (2, 104.0), (4, 900.0), (5, 901.0)]);
    for point in &mut hits.points[..2] {
        point.began = Some(Timestamp::from_unix_ms(START - 60_000));
    }
    for point in &mut hits.points[2..] {
        point.began = Some(Timestamp::from_unix_ms(START + 3_000));
    }
    world.intake.push(vec![hits]);
    assert_eq!(world.values("hits_total"), [2.0, 900.0, 1.0], "900 in the second since it began");
    // Without a beginning only a fall tells.
    let fell = series("falls_total", OURS, Nature::Total, &[(1, 50.0), (2, 60.0), (3, 5.0), (4, 6.0)]);
    world.intake.push(vec![fell]);
    assert_eq!(world.values("falls_total"), [10.0, 1.0]);
    assert_eq!(world.window("shop-1", "hits_total").unwrap().unit, "By/s");
}

#[tokio::test]
async fn deltas_are_rates_whatever_the_selector_says() {
    let counter = MetricSelector { counter: true, limit_metric: None, ..selector("hits") };
    let mut world = world(vec![counter]);
    world.after(2);
    world.intake.push(vec![series("hits", OURS, Nature::PerSecond, &[(0, 4.0), (1, 3.0)])]);
    assert_eq!(world.values("pool"), [4.0, 3.0]);
}

#[tokio::test]
async fn quantiles_are_of_what_was_added_since_the_point_before() {
    let p50 = MetricSelector { limit_metric: None, limit: Some(100.0), ..selector("took_p50") };
    let mut world = world(vec![p50]);
    world.after(6);
    let took = |second, counts: [u64; 3], began| {
        let mut took = series("took_p50", OURS, Nature::Level, &[(second, 0.0)]);
        took.points[0].value = None;
        took.points[0].began = Some(Timestamp::from_unix_ms(START + began));
        let buckets = Buckets { bounds: vec![10.0, 20.0], counts: counts.to_vec(), cumulative: true };
        took.quantile = Some((0.5, Arc::new(buckets)));
        took
    };
    world.intake.push(vec![took(1, [100, 0, 0], 0)]);
    assert!(world.values("pool").is_empty(), "nothing to compare with");
    world.intake.push(vec![took(2, [100, 10, 0], 0)]);
    assert_eq!(world.values("pool"), [15.0]);
    world.intake.push(vec![took(4, [200, 10, 0], 3_500), took(5, [210, 10, 0], 3_500)]);
    assert_eq!(world.values("pool"), [15.0, 5.0], "another life begins without a value");
}

#[tokio::test]
async fn a_cell_that_is_parked_or_gone_is_not_heard() {
    let mut world = world(Vec::new());
    let of = |name| series("depth", &[("forefend_cell", name)], Nature::Level, &[(0, 4.0)]);
    let report = world.intake.push(vec![of("parked"), of("shop-1")]);
    assert_eq!((report.kept.samples, report.ignored.samples), (1, 1));
    world.collector.set_targets(Vec::new());
    assert_eq!(world.intake.push(vec![of("shop-1")]).unknown.samples, 1);
    assert!(world.window("shop-1", "depth").is_none(), "all of it is forgotten");
}

#[tokio::test]
async fn records_of_logs_are_counted_by_severity() {
    let mut world = world(Vec::new());
    let record = |severity| PushedLog {
        source: Arc::new(labels(&[("service.instance.id", "shop-1")])),
        at: Some(Timestamp::from_unix_ms(START)),
        severity,
        body: "the pool is empty".into(),
    };
    world.intake.push_logs(vec![record(Severity::Info)]);
    world.after(2);
    let mut burst = vec![record(Severity::Error); 6];
    burst.push(PushedLog { source: Arc::default(), ..record(Severity::Error) });
    let report = world.intake.push_logs(burst);
    assert_eq!((report.kept.samples, report.unknown.samples), (6, 1));
    world.after(3);
    assert_eq!(world.values("log.records{severity=\"error\"}"), [3.0], "6 in 2 s, from the first");
    assert_eq!(world.values("log.records{severity=\"info\"}"), [0.0]);
    let window = world.window("shop-1", "log.records{severity=\"error\"}").unwrap();
    assert_eq!((window.family, window.kind), (Family::Logs, MetricKind::Unbounded));
}

#[tokio::test]
async fn records_of_a_cell_whose_logs_are_wanted_become_templates() {
    let mut world = world(Vec::new());
    let interval = Duration::from_secs(1);
    let logs = Some(LogTarget { paths: Vec::new(), interval, options: LogOptions::default() });
    let target = Target {
        cell: cell("shop-1"),
        scrape: None,
        probe: None,
        host: None,
        logs,
        push: PushTarget::default(),
        paused: false,
    };
    world.collector.set_targets(vec![target]);
    while world.collector.logs().counts(&cell("shop-1")).is_none() {
        tokio::task::yield_now().await;
    }
    let record = |n: u32| PushedLog {
        source: Arc::new(labels(&[("forefend_cell", "shop-1")])),
        at: Some(Timestamp::from_unix_ms(START)),
        severity: Severity::Error,
        body: format!("connection {n} to 10.0.0.{n} refused"),
    };
    let report = world.intake.push_logs((0..5).map(record).collect());
    assert_eq!(report.kept.samples, 5);
    let counts = world.collector.logs().counts(&cell("shop-1")).unwrap();
    assert_eq!((counts.lines, counts.templates), (5, 1), "{counts:?}");
    world.after(3);
    assert!(world.window("shop-1", "log.records{severity=\"error\"}").is_none(), "counted once, not twice");
}
