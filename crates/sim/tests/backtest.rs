//! Small pasts of which the right answer is known by hand, and what must hold of every past.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{
    CellId, Family, MetricKind, MetricName, Mode, Objective, Policy, Probability, Service, ShiftReason, Tier,
    Timestamp, Weight,
};
use forefend_predict::DayZero;
use forefend_sim::backtest::{self, BacktestError, Contender, Fate, Options, Protect, Report, Warning};
use forefend_telemetry::history::{CellHistory, History, Incident, IncidentSource, RecordedSeries};
use proptest::prelude::*;

const STEP_S: u64 = 5;
const START_S: u64 = 1_700_000_000;

fn at(s: u64) -> Timestamp {
    Timestamp::from_unix_ms((START_S + s) * 1_000)
}

/// A cell whose memory, of 100, is what the function says, at each step until the end.
fn memory(until_s: u64, value: impl Fn(f64) -> f64) -> CellHistory {
    let samples = (1..=until_s / STEP_S).map(|n| {
        let s = n * STEP_S;
        // A little noise, the same each time.
        let noise = ((n * 2_654_435_761 % 97) as f64 / 97.0 - 0.5) * 0.4;
        (at(s), value(s as f64) + noise)
    });
    let series = RecordedSeries {
        family: Family::Saturation,
        kind: MetricKind::Exhaustible,
        unit: "bytes".to_owned(),
        limits: vec![(at(0), Some(100.0))],
        samples: samples.collect(),
    };
    let series = BTreeMap::from([(MetricName::new("memory"), series)]);
    CellHistory { service: "shop".parse().unwrap(), series }
}

fn history(cells: Vec<(&str, CellHistory)>) -> History {
    let cells = cells.into_iter().map(|(id, cell)| (id.parse().unwrap(), cell)).collect();
    History { step: Duration::from_secs(STEP_S), cells }
}

fn incident(cell: &str, began_s: u64, ended_s: Option<u64>, kind: &str) -> Incident {
    Incident {
        cell: cell.parse().unwrap(),
        began: at(began_s),
        ended: ended_s.map(at),
        kind: kind.to_owned(),
        event: String::new(),
        source: IncidentSource::Imported,
    }
}

fn service() -> Service {
    let mut policy = Policy { mode: Mode::Observe, horizon: Duration::from_secs(600), ..Policy::default() };
    policy.budgets.max_weight_in_motion = Weight::FULL;
    Service {
        id: "shop".parse().unwrap(),
        tier: Tier::Standard,
        objective: Objective {
            latency: Duration::from_millis(250),
            slow_share: 0.01,
            error_share: 0.01,
            failed_for: Duration::from_secs(10),
        },
        policy,
        mirror_blueprint: None,
        mirror_zones: Vec::new(),
    }
}

fn replay_as(history: &History, incidents: &[Incident], as_it_stands: bool, threads: usize) -> Report {
    let protect = Protect {
        topology: Default::default(),
        otherwise: Some(service()),
        as_it_stands,
        by_curve: Default::default(),
    };
    let options = Options { tick: Duration::from_secs(STEP_S), threads, ..Options::default() };
    let planned = backtest::plan(history, incidents, &protect, &options).unwrap();
    backtest::run(history, incidents, &planned, &DayZero::default(), &options, &|_, _| {}).unwrap()
}

fn replay(history: &History, incidents: &[Incident]) -> Report {
    replay_as(history, incidents, false, 1)
}

/// A leak that is full after an hour, a climb that stops, a kill out of nothing, and a cell that is well.
fn story() -> (History, Vec<Incident>) {
    let leak = memory(7_200, |s| if s < 3_600.0 { 20.0 + 80.0 * s / 3_600.0 } else { 20.0 });
    let climb = memory(7_200, |s| match s {
        s if s < 4_600.0 => 30.0,
        s if s < 5_400.0 => 30.0 + 67.0 * (s - 4_600.0) / 800.0,
        _ => 30.0,
    });
    let killed = memory(7_200, |_| 40.0);
    let well = memory(7_200, |_| 50.0);
    let incidents = vec![
        incident("leaks", 3_600, Some(3_900), "memory leak"),
        incident("killed", 6_600, Some(6_900), "kill"),
    ];
    (history(vec![("leaks", leak), ("climbs", climb), ("killed", killed), ("well", well)]), incidents)
}

fn figure(report: &Report, who: Contender) -> &backtest::Figures {
    report.figures.iter().find(|f| f.contender == who).unwrap()
}

#[test]
fn a_leak_is_left_in_time_a_climb_that_stops_is_a_false_alarm_and_a_kill_is_met_by_the_floor() {
    let (history, incidents) = story();
    let report = replay(&history, &incidents);
    assert_eq!(report.broken, Vec::<String>::new());

    let [leak, kill] = report.incidents.as_slice() else { panic!("{:?}", report.incidents) };
    assert_eq!((leak.cell.as_str(), leak.warning), ("leaks", Warning::InTime), "{leak:?}");
    // The race is due when p10 of time to failure falls below 107 s of lead time and 30 s of margin; p10 is earlier than the truth.
    let warned = leak.warned_s.unwrap();
    assert!((100.0..600.0).contains(&warned), "{warned}");
    let away = leak.away_s.unwrap();
    assert!(away > 0.0 && away < warned, "{away} of {warned}");
    assert_eq!(leak.failure_minutes[&Contender::Forefend], 0.0);
    assert_eq!((kill.warning, kill.warned_s), (Warning::Missed, None));
    // Nothing spoke for it; what has a limit is shown all the same.
    assert!(kill.course.as_ref().unwrap().metric.is_some());

    // Each lasted five minutes, all of it met by all of the cell's traffic where nobody moves any.
    assert!((figure(&report, Contender::Nothing).failure_minutes - 10.0).abs() < 1e-6);
    let ours = figure(&report, Contender::Forefend);
    let reactive = figure(&report, Contender::Reactive);
    let (kill_ours, kill_reactive) =
        (kill.failure_minutes[&Contender::Forefend], kill.failure_minutes[&Contender::Reactive]);
    assert!(kill_ours > 0.1 && kill_ours < 3.0, "{kill_ours}");
    assert!((kill_ours - kill_reactive).abs() < 0.3, "{kill_ours} and {kill_reactive}");
    assert!((ours.failure_minutes - kill_ours).abs() < 1e-9);
    assert!(reactive.failure_minutes > ours.failure_minutes + 0.1);

    assert_eq!((ours.incidents, ours.in_time, ours.warned), (2, 1, 1));
    assert_eq!(ours.false_alarms, 1, "{:?}", report.shifts);
    let false_alarm = report.shifts.iter().find(|s| s.fate == Fate::FalseAlarm).unwrap();
    assert_eq!(false_alarm.cell.as_str(), "climbs");
    assert!(at(4_600) < false_alarm.began && false_alarm.began < at(5_400), "{false_alarm:?}");
    assert!(ours.moved_for_nothing > 0.0 && ours.moved_for_nothing < 0.1);
    // Four cells for two hours, less ten minutes of incidents and what can't be foreseen from a handful of values.
    let hours = report.recorded.cell_weeks * 7.0 * 24.0;
    assert!((7.5..8.0).contains(&hours), "{hours}");
    assert!(ours.standby_hours > 0.0);

    assert_eq!((reactive.false_alarms, reactive.warned, reactive.in_time), (0, 0, 0));
    let reactions = report.shifts.iter().filter(|s| s.reason == ShiftReason::Failed).count();
    assert_eq!(reactions, 1, "only the kill was left to the floor");
    let kinds: Vec<&str> = report.kinds.iter().map(|k| k.kind.as_str()).collect();
    assert_eq!(kinds, ["kill", "memory leak"]);
    let course = leak.course.as_ref().unwrap();
    assert_eq!(course.metric.as_ref().unwrap().limit, Some(100.0));
    assert!(course.probability.iter().any(|(t, p)| *t < 0.0 && p.is_some_and(|p| p > 0.6)));
}

#[test]
fn operating_curves_trade_recall_for_false_alarms() {
    let (history, incidents) = story();
    let report = replay(&history, &incidents);
    for curve in &report.operating {
        let any: Vec<f64> = curve.points.iter().map(|p| p.recall_any.unwrap().value).collect();
        assert!(any.windows(2).all(|w| w[0] >= w[1] - 1e-9), "{:?}: {any:?}", curve.contender);
        for point in &curve.points {
            assert!(point.recall_in_time.unwrap().value <= point.recall_any.unwrap().value);
        }
    }
    // At half of the limit every cell that passes it warns; at all of it almost nobody in time.
    let threshold = &report.operating[1].points;
    assert!(threshold.iter().any(|p| p.threshold == 0.5 && p.false_alarms >= 1));
    assert!(report.reliability.looks > 100 && !report.reliability.bins.is_empty());
}

#[test]
fn an_alarm_that_the_recording_ends_upon_is_undecided_and_an_incident_without_telemetry_is_not_watched() {
    let leak = memory(3_300, |s| 20.0 + 80.0 * s / 3_600.0);
    let incidents = [incident("leaks", 5_000, None, "later")];
    let report = replay(&history(vec![("leaks", leak)]), &incidents);
    assert_eq!(report.incidents[0].warning, Warning::NotWatched, "{:?}", report.incidents[0]);
    assert!(report.incidents[0].end_is_assumed);
    assert_eq!(figure(&report, Contender::Forefend).incidents, 0);
    assert_eq!(report.recorded.unwatched_incidents, 1);
    assert!(report.shifts.iter().all(|s| s.fate != Fate::FalseAlarm), "{:?}", report.shifts);
    let leak = memory(3_500, |s| 20.0 + 80.0 * s / 3_600.0);
    let report = replay(&history(vec![("leaks", leak)]), &[]);
    assert_eq!(report.shifts.iter().map(|s| s.fate).collect::<Vec<_>>(), [Fate::Undecided]);
}

#[test]
fn a_policy_that_only_observes_moves_nothing_as_it_stands() {
    let (history, incidents) = story();
    let report = replay_as(&history, &incidents, true, 1);
    assert_eq!(report.shifts, []);
    let ours = figure(&report, Contender::Forefend);
    assert!((ours.failure_minutes - 10.0).abs() < 1e-6);
}

#[test]
fn thresholds_that_follow_from_the_model_are_its_own() {
    let (history, incidents) = story();
    let mut strict = service().policy;
    strict.trigger.shift_at = Probability::ONE;
    let by_curve = BTreeMap::from([(service().id, strict)]);
    let otherwise = Some(service());
    let protect = Protect { topology: Default::default(), otherwise, as_it_stands: false, by_curve };
    let options = Options { tick: Duration::from_secs(STEP_S), ..Options::default() };
    let planned = backtest::plan(&history, &incidents, &protect, &options).unwrap();
    let model = DayZero::default();
    let strict = backtest::run(&history, &incidents, &planned, &model, &options, &|_, _| {}).unwrap();
    let plain = replay(&history, &incidents);
    assert_eq!(strict.policies[0].shift_at, 1.0);
    assert_eq!(
        (figure(&plain, Contender::Forefend).in_time, figure(&strict, Contender::Forefend).in_time),
        (1, 0)
    );
    for peer in [Contender::Reactive, Contender::StaticThreshold, Contender::PredictLinear] {
        assert_eq!(figure(&plain, peer), figure(&strict, peer));
    }
}

#[test]
fn a_past_that_can_t_be_replayed_is_refused_with_the_remedy() {
    let (past, incidents) = story();
    let options = Options::default();
    let nobody = Protect {
        topology: Default::default(),
        otherwise: None,
        as_it_stands: false,
        by_curve: Default::default(),
    };
    let refused = |history: &History, incidents: &[Incident], protect: &Protect, options: &Options| {
        backtest::plan(history, incidents, protect, options).unwrap_err().to_string()
    };
    let said = refused(&past, &incidents, &nobody, &options);
    assert!(said.contains("`shop`") && said.contains("climbs, killed") && said.contains("--as"), "{said}");
    let all = Protect { otherwise: Some(service()), ..nobody };
    let said = refused(&history(vec![]), &incidents, &all, &options);
    assert!(said.contains("no value"), "{said}");
    let said = refused(&past, &[incident("other", 1, None, "")], &all, &options);
    assert!(said.contains("none of the 1 incidents") && said.contains("climbs"), "{said}");
    let said = refused(&past, &incidents, &all, &Options { tick: Duration::ZERO, ..options.clone() });
    assert!(said.contains("the tick must be"), "{said}");
    let said = refused(&past, &incidents, &all, &Options { window_steps: 3, ..options.clone() });
    assert!(said.contains("from 12"), "{said}");
    let said = refused(&past, &incidents, &all, &Options { requests_per_s: f64::NAN, ..options });
    assert!(said.contains("requests per second"), "{said}");
    assert!(matches!(
        backtest::plan(&history(vec![]), &[], &all, &Options::default()),
        Err(BacktestError::NoHistory)
    ));
}

#[test]
fn threads_change_nothing() {
    let (history, incidents) = story();
    let one = serde_json::to_string(&replay_as(&history, &incidents, false, 1)).unwrap();
    assert_eq!(serde_json::to_string(&replay_as(&history, &incidents, false, 3)).unwrap(), one);
}

/// Two cells that climb, stop or fail as drawn.
fn drawn(slopes: [f64; 2], turn_s: f64, fails_s: Option<u64>) -> (History, Vec<Incident>) {
    let cell = |slope: f64| memory(1_800, move |s| 30.0 + slope * if s < turn_s { s } else { 0.0 });
    let cells = vec![("a", cell(slopes[0])), ("b", cell(slopes[1]))];
    let incidents = fails_s.map(|s| incident("a", s, Some(s + 120), "drawn"));
    (history(cells), incidents.into_iter().collect())
}

/// Of which cell, when and why a shift began, when it was done and when it was over.
type Decided = (CellId, Timestamp, String, Option<Timestamp>, Option<Timestamp>);

/// What is decided until an instant.
fn until(report: &Report, limit: Timestamp) -> Vec<Decided> {
    let early = |t: Option<Timestamp>| t.filter(|t| *t <= limit);
    let begun = report.shifts.iter().filter(|s| s.began <= limit);
    begun.map(|s| (s.cell.clone(), s.began, s.why.clone(), early(s.done), early(s.over))).collect()
}

/// The past, moved.
fn moved(history: &History, incidents: &[Incident], by: Duration) -> (History, Vec<Incident>) {
    let mut later = history.clone();
    for series in later.cells.values_mut().flat_map(|c| c.series.values_mut()) {
        series.samples.iter_mut().for_each(|(at, _)| *at = *at + by);
        series.limits.iter_mut().for_each(|(at, _)| *at = *at + by);
    }
    let incidents = incidents.iter().cloned().map(|i| Incident {
        began: i.began + by,
        ended: i.ended.map(|at| at + by),
        ..i
    });
    (later, incidents.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn what_comes_later_changes_nothing_before(
        slopes in [0.0f64..0.08, 0.0f64..0.08],
        turn_s in 600.0f64..1_800.0,
        fails_s in proptest::option::of(400u64..1_700),
        cut in 300u64..1_700,
        garbage in -50.0f64..300.0,
    ) {
        let (past, incidents) = drawn(slopes, turn_s, fails_s);
        let whole = replay(&past, &incidents);
        let mut other = past.clone();
        for series in other.cells.values_mut().flat_map(|c| c.series.values_mut()) {
            for (when, value) in &mut series.samples {
                if *when > at(cut) { *value = garbage; }
            }
        }
        let mut known: Vec<Incident> = incidents.iter().filter(|i| i.began <= at(cut)).cloned().collect();
        for i in &mut known {
            if i.ended.is_some_and(|ended| ended > at(cut)) { i.ended = Some(at(cut + 700)); }
        }
        known.push(incident("b", cut + 1, Some(cut + 60), "made up"));
        let changed = replay(&other, &known);
        prop_assert_eq!(until(&whole, at(cut)), until(&changed, at(cut)));
    }

    #[test]
    fn the_same_past_at_another_time_gives_the_same(
        slopes in [0.0f64..0.08, 0.0f64..0.08],
        turn_s in 600.0f64..1_800.0,
        fails_s in proptest::option::of(400u64..1_700),
        steps in 1u64..10_000_000,
    ) {
        let (past, incidents) = drawn(slopes, turn_s, fails_s);
        let by = Duration::from_secs(steps * STEP_S);
        let (later, known) = moved(&past, &incidents, by);
        let (one, other) = (replay(&past, &incidents), replay(&later, &known));
        prop_assert_eq!(&one.figures, &other.figures);
        prop_assert_eq!(&one.operating, &other.operating);
        prop_assert_eq!(&one.reliability, &other.reliability);
        let relative = |r: &Report, by: Duration| -> Vec<_> {
            r.shifts.iter().map(|s| (s.cell.clone(), s.began - by, s.why.clone(), s.fate)).collect()
        };
        prop_assert_eq!(relative(&one, Duration::ZERO), relative(&other, by));
    }
}
