use std::time::Duration;

use forefend_domain::{CellId, Family, MetricKind, MetricName, MetricWindow, Timestamp};
use forefend_telemetry::{
    SeriesStore, StoreOptions,
    logs::{CellLogs, Counted, LogLimit, LogOptions, Pattern, Severity},
};
use proptest::prelude::*;

/// Logs of a cell that are looked at once a second, and what is kept of them.
struct Watch {
    logs: CellLogs,
    store: SeriesStore,
    now_s: u64,
}

fn cell() -> CellId {
    CellId::new("shop-1").unwrap()
}

fn limit(line: &str, per_second: f64) -> LogLimit {
    LogLimit { of: Counted::Lines(Pattern::new(line).unwrap()), per_second }
}

impl Watch {
    fn new(options: LogOptions) -> Self {
        let store = SeriesStore::new(StoreOptions { length: 30, ..StoreOptions::default() });
        Self { logs: CellLogs::new(options), store, now_s: 1_800_000_000 }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.now_s * 1_000)
    }

    /// A second passes in which these lines come.
    fn second(&mut self, lines: &[String], present: bool) {
        self.now_s += 1;
        for line in lines {
            self.logs.line(self.now(), None, line);
        }
        for (spec, at, value) in self.logs.sample(self.now(), present) {
            self.store.record(&cell(), &spec, at, value).unwrap();
        }
    }

    fn seconds(&mut self, seconds: u64, lines: &[String]) {
        (0..seconds).for_each(|_| self.second(lines, true));
    }

    fn window(&mut self, name: &str) -> Option<MetricWindow> {
        let windows = self.store.windows(self.now()).pop()?;
        windows.metrics.get(&MetricName::new(name)).cloned()
    }

    /// The last `n` values of a metric.
    fn last(&mut self, name: &str, n: usize) -> Vec<Option<f64>> {
        let values: Vec<_> =
            self.window(name).map_or_else(Vec::new, |w| w.samples.iter().map(|s| s.value).collect());
        values[values.len().saturating_sub(n)..].to_vec()
    }
}

fn lines(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn rates_are_told_by_severity_and_template() {
    let mut watch = Watch::new(LogOptions::default());
    watch.second(&[], true);
    watch.seconds(
        3,
        &lines(&["ERROR: connection to 10.0.0.1 refused", "INFO: served in 5 ms", "INFO: served in 7 ms"]),
    );
    assert_eq!(watch.last("log.lines", 2), [Some(3.0), Some(3.0)]);
    assert_eq!(watch.last("log.severity{error}", 2), [Some(1.0), Some(1.0)]);
    assert_eq!(watch.last("log.severity{info}", 1), [Some(2.0)]);
    assert_eq!(watch.last("log.severity{critical}", 1), [Some(0.0)]);
    assert_eq!(watch.last("log.template{connection to <*> refused}", 1), [Some(1.0)]);
    // Its first rate is told as well: the second before it there was none.
    assert_eq!(watch.last("log.template{served in <*> ms}", 3), [Some(2.0), Some(2.0), Some(2.0)]);
    let window = watch.window("log.template{served in <*> ms}").unwrap();
    assert_eq!((window.family, window.kind, window.limit), (Family::Logs, MetricKind::Unbounded, None));
    assert_eq!(window.unit, "lines/s");
}

#[test]
fn silence_is_zero_and_absence_is_a_gap() {
    let mut watch = Watch::new(LogOptions::default());
    watch.seconds(3, &[]);
    assert_eq!(watch.last("log.lines", 2), [Some(0.0), Some(0.0)]);
    assert_eq!(watch.last("log.severity{error}", 1), [Some(0.0)]);
    watch.second(&[], false);
    watch.second(&[], false);
    assert_eq!(watch.last("log.lines", 2), [None, None]);
    // What is there after two looks that found nothing was written since the second.
    watch.seconds(2, &lines(&["INFO: x"]));
    assert_eq!(watch.last("log.lines", 4), [None, None, Some(1.0), Some(1.0)]);
    assert_eq!(watch.last("log.template{x}", 4), [None, None, Some(1.0), Some(1.0)]);
    // One look that found nothing may have come between a file and the next.
    watch.second(&[], false);
    watch.seconds(2, &lines(&["INFO: x"]));
    assert_eq!(watch.last("log.lines", 3), [None, None, Some(1.0)]);
}

#[test]
fn lines_without_a_severity_are_not_taken_for_well() {
    let mut watch = Watch::new(LogOptions::default());
    watch.seconds(3, &lines(&["something happened"]));
    assert!(watch.window("log.severity{error}").is_none(), "nobody knows how bad these lines are");
    watch.second(&lines(&["ERROR: broken", "ERROR: broken"]), true);
    assert_eq!(watch.last("log.severity{error}", 1), [Some(2.0)]);
}

#[test]
fn a_declared_limit_makes_a_metric_that_is_always_told() {
    let error = LogLimit { of: Counted::AtLeast(Severity::Error), per_second: 9.0 };
    let options =
        LogOptions { limits: vec![limit("connection to <*> refused", 5.0), error], ..LogOptions::default() };
    let mut watch = Watch::new(options);
    watch.seconds(2, &[]);
    let name = "log.template{connection to <*> refused}";
    assert_eq!(watch.last(name, 1), [Some(0.0)]);
    watch.second(&lines(&["[error] connection to  10.0.0.1 refused", "[crit] out of disk"]), true);
    let window = watch.window(name).unwrap();
    assert_eq!((window.kind, window.limit), (MetricKind::Exhaustible, Some(5.0)));
    assert_eq!(watch.last(name, 1), [Some(1.0)], "its own template is not counted twice");
    assert_eq!(watch.last("log.severity{error or worse}", 1), [Some(2.0)]);
    assert_eq!(watch.last("log.severity{error}", 1), [Some(1.0)]);
    let names = watch.store.windows(watch.now()).pop().unwrap().metrics;
    assert_eq!(names.keys().filter(|n| n.as_str().contains("refused")).count(), 1);
}

#[test]
fn novelty_is_unknown_at_first_and_passes() {
    let novel_for = Duration::from_secs(10);
    let mut watch = Watch::new(LogOptions { novel_for, ..LogOptions::default() });
    watch.seconds(10, &lines(&["INFO: as ever"]));
    assert_eq!(watch.last("log.novel", 9), [None; 9], "everything is new to a log that is new itself");
    watch.seconds(2, &lines(&["INFO: as ever"]));
    assert_eq!(watch.last("log.novel", 1), [Some(0.0)]);
    watch.second(
        &lines(&["INFO: as ever", "INFO: never heard before of it", "INFO: never heard before of it"]),
        true,
    );
    assert_eq!(watch.last("log.novel", 1), [Some(2.0)]);
    watch.seconds(8, &lines(&["INFO: never heard before of it"]));
    assert_eq!(watch.last("log.novel", 1), [Some(1.0)]);
    watch.seconds(4, &lines(&["INFO: never heard before of it"]));
    assert_eq!(watch.last("log.novel", 1), [Some(0.0)], "by now it is known");
}

#[test]
fn a_template_takes_its_rate_along_when_its_text_changes() {
    let mut watch = Watch::new(LogOptions::default());
    watch.second(&[], true);
    watch.second(&lines(&["user alice logged in"]), true);
    watch.second(&lines(&["user bob logged in", "user carol logged in"]), true);
    assert_eq!(watch.last("log.template{user alice logged in}", 2), [Some(1.0), None]);
    assert_eq!(watch.last("log.template{user <*> logged in}", 1), [Some(2.0)]);
}

#[test]
fn what_is_bad_and_what_is_frequent_gets_a_name() {
    let mut watch = Watch::new(LogOptions { named: 2, ..LogOptions::default() });
    let often = ["INFO: one", "INFO: one", "INFO: two words", "INFO: two words"];
    watch.seconds(3, &lines(&often));
    assert_eq!(watch.last("log.template{one}", 1), [Some(2.0)]);
    watch.second(
        &lines(&["INFO: one", "INFO: two words", "INFO: rare are three", "WARN: this is bad indeed"]),
        true,
    );
    assert_eq!(watch.last("log.template{this is bad indeed}", 1), [Some(1.0)]);
    assert!(watch.window("log.template{rare are three}").is_none());
    let holds = |watch: &mut Watch, name| watch.last(name, 1) != [None];
    let (one, two) = (holds(&mut watch, "log.template{one}"), holds(&mut watch, "log.template{two words}"));
    assert!(one != two, "one of the two gave its name");
}

#[test]
fn lines_are_cleaned_counted_and_cut() {
    let mut logs = CellLogs::new(LogOptions { max_line_bytes: 40, ..LogOptions::default() });
    let at = Timestamp::from_unix_ms(1_800_000_000_000);
    logs.line(at, None, "\u{1b}[31mERROR\u{1b}[0m: it broke\r");
    logs.line(at, None, "");
    logs.line(at, None, " \t ");
    logs.bytes(at, b"caf\xff served well", false);
    logs.line(at, None, &"é".repeat(40));
    logs.line(at, None, "\tat com.example.Foo");
    logs.bytes(at, b"\0\0\0INFO: fine", false);
    let counts = logs.counts();
    assert_eq!((counts.lines, counts.truncated, counts.not_utf8), (5, 1, 1));
    let templates = logs.templates();
    assert_eq!(templates, ["it broke", "caf\u{fffd} served well", &"é".repeat(20), "fine"]);
}

#[test]
fn lines_that_are_pushed_make_a_log_of_their_own() {
    let mut watch = Watch::new(LogOptions::default());
    watch.now_s += 1;
    watch.logs.pushed(watch.now(), Some(Severity::Error), "it broke");
    for _ in 0..3 {
        watch.second(&[], false);
    }
    assert_eq!(watch.last("log.severity{error}", 1), [Some(0.0)]);
    watch.now_s += 61;
    watch.second(&[], false);
    assert_eq!(watch.last("log.lines", 1), [None], "whether the sender lives nobody knows");
}

proptest! {
    #[test]
    fn whatever_comes_memory_is_bounded_and_nothing_panics(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..60)
    ) {
        let options = LogOptions { max_line_bytes: 100, named: 3, limits: vec![limit("a <*> b", 1.0)], ..LogOptions::default() };
        let bound = options.drain.max_templates;
        let mut logs = CellLogs::new(options);
        let mut at = Timestamp::from_unix_ms(1_800_000_000_000);
        for line in &lines {
            at = at + Duration::from_millis(700);
            logs.bytes(at, line, false);
            let observed = logs.sample(at, line.len() % 7 != 0);
            // All lines, five severities, a limit, novelty, three templates; each at most twice.
            prop_assert!(observed.len() <= 2 * 11);
            prop_assert!(observed.iter().all(|(spec, ..)| spec.name.as_str().chars().count() < 120));
            prop_assert!(observed.iter().all(|(spec, ..)| !spec.name.as_str().contains(char::is_control)));
        }
        prop_assert!(logs.counts().templates <= bound);
        prop_assert!(logs.templates().iter().all(|text| text.len() <= 3 * 100 + 2 * 100));
        prop_assert!(logs.counts().lines <= lines.len() as u64);
    }

    #[test]
    fn no_line_is_lost_between_looks(counts in prop::collection::vec(0usize..5, 2..20)) {
        let mut watch = Watch::new(LogOptions::default());
        watch.second(&[], true);
        for count in &counts {
            watch.second(&vec!["WARN: slow".to_owned(); *count], true);
        }
        let told: f64 = watch.last("log.lines", counts.len()).into_iter().flatten().sum();
        prop_assert_eq!(told, counts.iter().sum::<usize>() as f64);
        let by_template: f64 = watch.last("log.template{slow}", counts.len()).into_iter().flatten().sum();
        prop_assert_eq!(by_template, told);
    }
}
