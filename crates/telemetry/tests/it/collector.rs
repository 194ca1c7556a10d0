use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use forefend_domain::{
    CellId, MetricName, MetricWindow, Timestamp,
    ports::{ProbeOutcome, TelemetrySource},
};
use forefend_telemetry::{
    Collector, CollectorOptions, HostTarget, LogOptions, LogTarget, ProbeTarget, PushTarget, ScrapeTarget,
    Source, StoreOptions, Target, catalogue,
    host::cgroup::CgroupDirs,
    probe::probe,
    scrape::{ScrapeError, Scraper},
};
use tokio::runtime::Handle;

use crate::server::{Answer, Server};

const STEP: Duration = Duration::from_millis(50);

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_unix_ms(since.as_millis() as u64)
}

fn options() -> CollectorOptions {
    let store = StoreOptions { step: STEP, length: 40, ..StoreOptions::default() };
    CollectorOptions { store, ..CollectorOptions::new(Arc::new(now)) }
}

fn collector() -> Collector {
    Collector::new(options(), Handle::current())
}

fn cell() -> CellId {
    CellId::new("shop-1").unwrap()
}

fn target() -> Target {
    let push = PushTarget::default();
    Target { cell: cell(), scrape: None, probe: None, host: None, logs: None, push, paused: false }
}

fn scrape_of(server: &Server) -> ScrapeTarget {
    ScrapeTarget {
        address: server.address,
        path: "/metrics".into(),
        interval: STEP,
        timeout: Duration::from_millis(200),
        metrics: Vec::new(),
    }
}

fn probe_of(server: &Server, path: Option<&str>) -> ProbeTarget {
    ProbeTarget {
        address: server.address,
        path: path.map(str::to_owned),
        interval: STEP,
        timeout: Duration::from_millis(200),
        expect: ProbeTarget::EXPECT,
        objective: Some(Duration::from_millis(150)),
    }
}

fn window(collector: &mut Collector, metric: &str) -> Option<MetricWindow> {
    let windows = collector.windows(now()).into_iter().find(|windows| windows.cell == cell())?;
    windows.metrics.get(&MetricName::new(metric)).cloned()
}

fn values(collector: &mut Collector, metric: &str) -> Vec<f64> {
    let window = window(collector, metric);
    window.iter().flat_map(|w| &w.samples).filter_map(|sample| sample.value).collect()
}

/// Asks again and again, for at most 20 s, until there is an answer.
async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn text_and_open_metrics_are_scraped_over_one_kept_connection() {
    let server = Server::start(Answer::text("depth 7\n")).await;
    let mut collector = collector();
    collector.set_targets(vec![Target { scrape: Some(scrape_of(&server)), ..target() }]);
    eventually("a text value", || values(&mut collector, "depth").contains(&7.0).then_some(())).await;
    assert!(server.last_request().contains("accept: application/openmetrics-text;version=1.0.0,text/plain"));

    let body = "# TYPE depth gauge\n# UNIT depth items\ndepth 9\n# EOF\n".into();
    server.answer(Answer::Whole(200, "application/openmetrics-text; version=1.0.0", body));
    eventually("an OpenMetrics value", || values(&mut collector, "depth").contains(&9.0).then_some(())).await;
    assert_eq!(window(&mut collector, "depth").unwrap().unit, "items");
    assert_eq!((collector.problems(), server.connections()), (vec![], 1));
    assert!(collector.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_server_that_hangs_or_dies_is_a_problem_and_gaps_until_it_answers_again() {
    let server = Server::start(Answer::text("depth 7\n")).await;
    let mut collector = collector();
    collector.set_targets(vec![Target { scrape: Some(scrape_of(&server)), ..target() }]);
    eventually("a value", || values(&mut collector, "depth").contains(&7.0).then_some(())).await;
    server.answer(Answer::Never);
    let problem = eventually("a problem", || collector.problems().pop()).await;
    assert_eq!((problem.cell, problem.source), (cell(), Source::Scrape));
    assert!(problem.what.contains("within 200ms"), "{}", problem.what);
    eventually("gaps", || {
        let window = window(&mut collector, "depth")?;
        window.samples.iter().rev().take(5).all(|sample| sample.value.is_none()).then_some(())
    })
    .await;
    server.answer(Answer::text("depth 8\n"));
    eventually("the end of the problem", || collector.problems().is_empty().then_some(())).await;
    eventually("a new value", || values(&mut collector, "depth").contains(&8.0).then_some(())).await;
    drop(server);
    let refused = |p: &forefend_telemetry::Problem| p.what.contains("can't connect");
    eventually("a dead server", || collector.problems().iter().any(refused).then_some(())).await;
    eventually("gaps again", || {
        let window = window(&mut collector, "depth")?;
        window.samples.iter().rev().take(5).all(|sample| sample.value.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_exposition_is_named() {
    let server = Server::start(Answer::text("<html>\n")).await;
    let mut collector = collector();
    collector.set_targets(vec![Target { scrape: Some(scrape_of(&server)), ..target() }]);
    let expectations = [
        (Answer::text("<html>\n"), "line 1, column 1: a name can't begin with `<`"),
        (Answer::text("good 1\nbad x\n"), "1 lines were skipped; the first: line 2, column 5"),
        (Answer::Whole(200, "application/openmetrics-text", "a 1\n".into()), "without `# EOF`"),
        (Answer::Whole(404, "text/plain", String::new()), "status 404"),
        (Answer::Raw("ICY 200 OK\r\n\r\n"), "broke the exchange"),
        (Answer::text(""), "none of the metrics"),
    ];
    for (answer, expected) in expectations {
        server.answer(answer);
        eventually(expected, || {
            collector.problems().iter().any(|problem| problem.what.contains(expected)).then_some(())
        })
        .await;
    }
    assert_eq!(values(&mut collector, "bad"), Vec::<f64>::new());
    assert!(!values(&mut collector, "good").is_empty(), "the sound line was lost");
}

/// A server may close an idle connection at any time; that is no failure of the cell.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_opened_anew() {
    let server = Server::start(Answer::ThenClosed("depth 1\n")).await;
    let mut scraper = Scraper::new(&scrape_of(&server), 1_000, Default::default());
    for scrapes in 1..=5 {
        assert_eq!(scraper.scrape().await.unwrap().len(), 1);
        assert_eq!(server.connections(), scrapes);
    }
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused() {
    let server = Server::start(Answer::text(&"depth 1\n".repeat(1_000))).await;
    let mut scraper = Scraper::new(&scrape_of(&server), 1_000, Default::default());
    let error = scraper.scrape().await.unwrap_err();
    assert!(matches!(error, ScrapeError::Fetch(_)) && error.to_string().contains("larger than 1000 bytes"));
}

#[tokio::test]
async fn a_counter_that_begins_anew_never_shows_a_negative_rate() {
    let body = |total: u64| Answer::text(&format!("# TYPE jobs_total counter\njobs_total {total}\n"));
    let server = Server::start(body(0)).await;
    let mut collector = collector();
    collector.set_targets(vec![Target { scrape: Some(scrape_of(&server)), ..target() }]);
    eventually("a rate of zero", || (!values(&mut collector, "jobs_total").is_empty()).then_some(())).await;
    server.answer(body(1_000));
    let peak = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    eventually("a rate", || (peak(&values(&mut collector, "jobs_total")) > 0.0).then_some(())).await;
    server.answer(body(5));
    let requests = server.requests();
    eventually("scrapes after the reset", || (server.requests() > requests + 5).then_some(())).await;
    let seen = values(&mut collector, "jobs_total");
    assert!(seen.iter().all(|rate| *rate >= 0.0), "{seen:?}");
}

async fn outcome(
    collector: &mut Collector,
    what: &str,
    wanted: impl Fn(&ProbeOutcome) -> bool,
) -> ProbeOutcome {
    eventually(what, || collector.probes().into_iter().find(|outcome| wanted(outcome))).await
}

#[tokio::test]
async fn probes_tell_well_from_wrong_from_hanging_from_dead_without_any_traffic() {
    let server = Server::start(Answer::text("fine")).await;
    let mut collector = collector();
    collector.set_targets(vec![Target { probe: Some(probe_of(&server, Some("/healthz"))), ..target() }]);
    outcome(&mut collector, "a good probe", |o| o.ok && o.cell == cell()).await;
    assert!(server.last_request().starts_with("GET /healthz "));
    eventually("its latency", || values(&mut collector, "probe_latency_ms").pop()).await;
    let limit = window(&mut collector, "probe_latency_ms").and_then(|w| w.limit);
    assert_eq!(limit, Some(150.0), "the objective, which is shorter than the timeout");

    server.answer(Answer::Whole(503, "text/plain", String::new()));
    outcome(&mut collector, "a wrong status", |o| !o.ok && o.took < Duration::from_millis(200)).await;
    server.answer(Answer::Never);
    outcome(&mut collector, "a hanging probe", |o| !o.ok && o.took >= Duration::from_millis(200)).await;
    // Probes that hang don't hold up those after them: outcomes come less than a timeout apart.
    let mut hanging: Vec<Timestamp> = Vec::new();
    eventually("two close together", || {
        hanging.extend(collector.probes().into_iter().filter(|o| !o.ok).map(|o| o.at));
        hanging.windows(2).any(|pair| pair[1].since(pair[0]) < Duration::from_millis(150)).then_some(())
    })
    .await;
    drop(server);
    let refused = |collector: &Collector| {
        collector.problems().iter().any(|p| p.source == Source::Probe && p.what.contains("can't connect"))
    };
    eventually("refused connections", || refused(&collector).then_some(())).await;
    eventually("its failure", || values(&mut collector, "probe_failed").contains(&1.0).then_some(())).await;
}

#[tokio::test]
async fn a_tcp_probe_asks_for_a_connection_only() {
    let server = Server::start(Answer::Never).await;
    let target = probe_of(&server, None);
    assert!(probe(&target).await.outcome.is_ok());
    drop(server);
    eventually("the end of the listener", || std::net::TcpStream::connect(target.address).err()).await;
    assert!(probe(&target).await.outcome.unwrap_err().to_string().contains("can't connect"));
}

#[tokio::test]
async fn parked_cells_are_left_alone_and_removed_cells_are_forgotten() {
    let server = Server::start(Answer::text("depth 7\n")).await;
    let mut collector = collector();
    let full =
        Target { scrape: Some(scrape_of(&server)), probe: Some(probe_of(&server, Some("/"))), ..target() };
    collector.set_targets(vec![full.clone()]);
    eventually("a value", || values(&mut collector, "depth").contains(&7.0).then_some(())).await;
    collector.set_targets(vec![Target { paused: true, ..full.clone() }]);
    eventually("the end of both tasks", || (alive() == server_tasks(&server)).then_some(())).await;
    assert!(values(&mut collector, "depth").contains(&7.0), "a parked cell's past was lost");
    collector.set_targets(vec![full]);
    let requests = server.requests();
    eventually("requests again", || (server.requests() > requests + 3).then_some(())).await;

    collector.set_targets(vec![]);
    assert!(collector.windows(now()).is_empty() && collector.problems().is_empty());
    eventually("the end of all tasks", || (alive() == server_tasks(&server)).then_some(())).await;
    let requests = server.requests();
    // A beacon through the same runtime: had a task been left, it would have asked in these 10 intervals.
    let mut beats = tokio::time::interval(STEP);
    for _ in 0..10 {
        beats.tick().await;
    }
    assert_eq!(server.requests(), requests);
    assert!(collector.windows(now()).is_empty());
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// The server's own: its acceptor. Its connections end when the collector's do.
fn server_tasks(_: &Server) -> usize {
    1
}

#[tokio::test]
async fn unchanged_targets_go_on_and_dropping_leaves_nothing_behind() {
    let server = Server::start(Answer::text("depth 7\n")).await;
    let mut collector = collector();
    let full = Target { scrape: Some(scrape_of(&server)), ..target() };
    collector.set_targets(vec![full.clone()]);
    eventually("a value", || values(&mut collector, "depth").contains(&7.0).then_some(())).await;
    for _ in 0..20 {
        collector.set_targets(vec![full.clone()]);
    }
    let requests = server.requests();
    eventually("more scrapes", || (server.requests() > requests + 3).then_some(())).await;
    assert_eq!(server.connections(), 1, "the kept connection was given up");
    drop(collector);
    eventually("the end of all tasks", || (alive() == server_tasks(&server)).then_some(())).await;
}

#[tokio::test]
async fn this_process_is_read_through_the_kernel() {
    let mut collector = collector();
    let host = HostTarget {
        proc_root: "/proc".into(),
        pid: Some(std::process::id()),
        cgroup: CgroupDirs::default(),
        memory_limit: Some(1 << 33),
        interval: STEP,
    };
    collector.set_targets(vec![Target { host: Some(host.clone()), paused: true, ..target() }]);
    eventually("memory", || values(&mut collector, "memory_working_set_bytes").pop().filter(|v| *v > 1e5))
        .await;
    assert_eq!(window(&mut collector, "memory_working_set_bytes").unwrap().limit, Some(8_589_934_592.0));
    eventually("CPU", || values(&mut collector, "cpu_utilisation_ratio").pop()).await;
    eventually("descriptors", || values(&mut collector, "open_fds").pop().filter(|v| *v >= 3.0)).await;
    assert!(window(&mut collector, "open_fds").unwrap().limit.is_some());
    assert_eq!(collector.problems(), vec![]);
    // A number that no process can have.
    collector
        .set_targets(vec![Target { host: Some(HostTarget { pid: Some(u32::MAX), ..host }), ..target() }]);
    let problem = eventually("a problem", || collector.problems().pop()).await;
    assert!(problem.what.contains("/proc/4294967295/stat"), "{}", problem.what);
}

#[tokio::test]
async fn what_others_measured_is_fed_in_and_what_nobody_takes_is_bounded() {
    let server = Server::start(Answer::text("fine")).await;
    let mut collector =
        Collector::new(CollectorOptions { max_probes_waiting: 3, ..options() }, Handle::current());
    let spec = catalogue::LATENCY_P99.spec(Some(250.0));
    collector.feed(&cell(), &spec, now(), Some(12.5)).unwrap();
    eventually("the fed value", || values(&mut collector, "latency_p99_ms").contains(&12.5).then_some(()))
        .await;
    assert_eq!(window(&mut collector, "latency_p99_ms").unwrap().limit, Some(250.0));

    collector.set_targets(vec![Target { probe: Some(probe_of(&server, None)), ..target() }]);
    eventually("dropped probes", || (collector.counts().dropped_probes > 0).then_some(())).await;
    assert!(collector.probes().len() <= 3);
}

#[tokio::test]
async fn logs_are_read_across_rotation_and_lines_can_be_pushed() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.log");
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let mut collector = collector();
    assert!(!collector.logs().line(&cell(), now(), None, "nobody asked for it"));
    let logs = LogTarget { paths: vec![path.clone()], interval: STEP, options: LogOptions::default() };
    let with_logs = Target { logs: Some(logs), ..target() };
    collector.set_targets(vec![with_logs.clone()]);
    let missing = eventually("the missing log is told", || collector.problems().pop()).await;
    assert!(missing.source == Source::Logs && missing.what.contains("shop.log"), "{}", missing.what);

    append("ERROR: connection to 10.0.0.1 refused\n");
    let name = "log.template{connection to <*> refused}";
    eventually("its rate is told", || values(&mut collector, name).into_iter().find(|rate| *rate > 0.0))
        .await;
    assert_eq!(collector.problems(), []);
    std::fs::rename(&path, dir.path().join("shop.log.1")).unwrap();
    append("ERROR: the disk is full\n");
    let name = "log.template{the disk is full}";
    eventually("it is read after it was rotated", || {
        values(&mut collector, name).into_iter().find(|rate| *rate > 0.0)
    })
    .await;
    assert!(collector.logs().line(&cell(), now(), None, "WARN: pushed from afar"));
    let name = "log.template{pushed from afar}";
    eventually("a pushed line is told", || values(&mut collector, name).into_iter().find(|rate| *rate > 0.0))
        .await;
    assert_eq!(collector.logs().counts(&cell()).map(|counts| (counts.lines, counts.restarts)), Some((3, 1)));
    let newest = collector.newest().of(&cell());
    assert!(newest.iter().any(|(spec, value)| spec.name.as_str() == "log.lines" && value.is_some()));

    collector.set_targets(vec![target()]);
    assert!(!collector.logs().line(&cell(), now(), None, "nobody asks any more"));
    assert!(collector.shutdown(Duration::from_secs(5)).await);
}
