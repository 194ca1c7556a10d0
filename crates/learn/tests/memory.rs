//! The rung of the ladder that remembers: taken where only an order tells a failure from what looks like it, and not where less is enough.

#![cfg(feature = "lstm")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use forefend_domain::{CellId, Family, Interval, MetricKind, MetricName, ServiceId, Timestamp, Windows};
use forefend_learn::practice::{Outcomes, Registry, Stored, Study, ladder::Rung};
use forefend_predict::{Predictor as _, learned::Model};
use forefend_telemetry::history::{CellHistory, History, Incident, IncidentSource, RecordedSeries};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const STEP: Duration = Duration::from_secs(5);
const STEP_S: u64 = 5;
const HORIZON: Duration = Duration::from_secs(120);
const LENGTH: usize = 60;
const CELLS: usize = 6;
const BEGIN_S: u64 = 1_700_000_000;

fn at(s: u64) -> Timestamp {
    Timestamp::from_unix_ms(s * 1_000)
}

fn study() -> Study {
    let mut study = Study { every: Duration::from_secs(30), ..Study::new(HORIZON, STEP, LENGTH) };
    study.gate.every = study.every;
    study
}

/// A mark of errors and one of logs, and when the cell fails for it, if it does.
struct Pattern {
    errors: u64,
    logs: u64,
    fails: Option<u64>,
}

/// Errors before logs end in a failure, two hundred seconds later; logs before errors end in nothing.
fn patterns(chance: &mut ChaCha8Rng, end_s: u64) -> Vec<Pattern> {
    let mut all = Vec::new();
    let mut next = BEGIN_S + chance.random_range(400..700);
    while next + 500 < end_s {
        let first = next / STEP_S * STEP_S;
        let second = first + STEP_S * chance.random_range(6..12);
        let (errors, logs) = if chance.random() { (first, second) } else { (second, first) };
        let fails = (errors < logs).then(|| second + STEP_S * chance.random_range(36..42));
        all.push(Pattern { errors, logs, fails });
        next = second + chance.random_range(420..640);
    }
    all
}

/// Some hours of cells with three metrics of errors and three of logs, any of which may bear a mark of a single step.
fn history(seed: u64, hours: u64, creep: f64) -> (History, Vec<Incident>) {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let (mut cells, mut incidents) = (BTreeMap::new(), Vec::new());
    let end_s = BEGIN_S + hours * 3_600;
    for n in 0..CELLS {
        let cell = CellId::new(&format!("shop-{n}")).unwrap();
        let patterns = patterns(&mut chance, end_s);
        let failures: Vec<u64> = patterns.iter().filter_map(|p| p.fails).collect();
        let broken = |s: u64| failures.iter().any(|f| (*f..*f + 60).contains(&s));
        let soon = |s: u64| failures.iter().filter(|f| **f >= s && **f - s < 150).map(|f| f - s).min();
        let mut series = BTreeMap::new();
        for (family, name) in [(Family::Errors, "errors"), (Family::Logs, "logs")] {
            let marks: BTreeMap<u64, usize> = patterns
                .iter()
                .map(|p| {
                    (if family == Family::Errors { p.errors } else { p.logs }, chance.random_range(0..3))
                })
                .collect();
            for k in 0..3 {
                let value = |s: u64| {
                    let mark = marks.get(&s).is_some_and(|of| *of == k && creep == 0.0);
                    let climb = soon(s).map_or(0.0, |left| creep * (1.0 - left as f64 / 150.0));
                    let usual = 10.0 + chance.random_range(-1.0..1.0) + climb;
                    if broken(s) {
                        30.0
                    } else if mark {
                        18.0
                    } else {
                        usual
                    }
                };
                let mut value = value;
                let samples = (BEGIN_S..end_s).step_by(STEP_S as usize).map(|s| (at(s), value(s))).collect();
                let (kind, unit) = (MetricKind::Unbounded, "1".to_owned());
                let recorded = RecordedSeries { family, kind, unit, limits: vec![(at(0), None)], samples };
                series.insert(MetricName::new(&format!("{name}_{k}")), recorded);
            }
        }
        for began in failures {
            let (kind, event) = ("planted".to_owned(), String::new());
            let source = IncidentSource::Imported;
            let ended = Some(at(began + 60));
            incidents.push(Incident { cell: cell.clone(), began: at(began), ended, kind, event, source });
        }
        cells.insert(cell, CellHistory { service: ServiceId::new("shop").unwrap(), series });
    }
    (History { step: STEP, cells }, incidents)
}

fn learned(history: &History, incidents: &[Incident]) -> Stored {
    let outcomes = Outcomes::of_incidents(incidents.to_vec());
    study().challenger(history, &outcomes, &Model::FirstDay, None, at(BEGIN_S)).unwrap()
}

/// Learned once for all who only look.
static ORDER: LazyLock<(History, Vec<Incident>, Stored)> = LazyLock::new(|| {
    let (history, incidents) = history(1, 4, 0.0);
    let stored = learned(&history, &incidents);
    (history, incidents, stored)
});

fn p(model: &Model, windows: &Windows) -> f64 {
    model.predict(windows, HORIZON).unwrap().probability.get()
}

/// Windows a minute before each failure of the newest third, and as many in the quiet after the other order.
fn before_failures() -> Vec<Windows> {
    let (history, incidents, _) = &*ORDER;
    let newest = incidents.iter().filter(|i| i.began > at(BEGIN_S + 4 * 3_600 * 7 / 10));
    let before = |i: &Incident| Timestamp::from_unix_ms(i.began.unix_ms() - 60_000);
    newest.filter_map(|i| history.windows(&i.cell, before(i), LENGTH)).collect()
}

#[test]
fn where_only_an_order_tells_the_memory_is_taken_and_says_so() {
    let (_, _, Stored { card, model }) = &*ORDER;
    eprintln!("{:#?}\n{:?}", card.ladder, card.scores);
    assert_eq!((card.rung, card.left_out.len()), (Rung::Lstm, 0));
    let of = |rung: Rung| card.ladder.iter().find(|climbed| climbed.rung == rung).unwrap();
    let (trees, memory) = (of(Rung::Trees), of(Rung::Lstm));
    assert!(memory.taken && memory.gain.unwrap().low > 0.0);
    assert!(memory.brier < 0.75 * trees.brier, "{} after {}", memory.brier, trees.brier);
    assert!((0.0..=1.0).contains(&memory.asked.unwrap()));
    assert!(card.gate.passed, "{}", card.gate.why_not());
    assert!(card.scores.auc.unwrap() > 0.9, "{:?}", card.scores);
    // Of those it is asked about, intervals hold what they promise, on failures that gave no levels; and they are told as such.
    let suspects = card.suspects.as_ref().unwrap();
    eprintln!("{suspects:?}");
    assert!(suspects.failures >= 18 && suspects.levels.is_some(), "{suspects:?}");
    let held = suspects.calibrated.unwrap();
    assert!(held.low <= suspects.promised + 0.1 && held.high >= suspects.promised - 0.02, "{held:?}");
    let told: Vec<_> = before_failures().iter().map(|w| model.predict(w, HORIZON).unwrap()).collect();
    assert!(told.iter().any(|said| said.interval == Interval::Calibrated));
    // It is told by the metrics that bore the marks.
    let said = model.predict(&before_failures()[0], HORIZON).unwrap();
    assert!(said.drivers.iter().any(|driver| driver.metric.as_str().starts_with("errors")));
}

#[test]
fn it_is_kept_in_a_file_and_says_the_same_after_a_restart() {
    let (_, _, Stored { card, model }) = &*ORDER;
    let folder = tempfile::tempdir().unwrap();
    let id = Registry::open(folder.path()).unwrap().add(card.clone(), model.clone()).unwrap();
    let again = Registry::open(folder.path()).unwrap();
    again.promote(&id).unwrap();
    let stored = again.load(&id).unwrap();
    assert_eq!((&stored.model, stored.card.rung), (model, Rung::Lstm));
    for windows in before_failures() {
        assert_eq!(stored.model.predict(&windows, HORIZON), model.predict(&windows, HORIZON));
    }
    let path = folder.path().join(format!("{id}.model.json"));
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size < 2_000_000, "{size} bytes");
    let damaged = std::fs::read_to_string(&path).unwrap().replacen("suspect_from", "suspect_frog", 1);
    std::fs::write(&path, damaged).unwrap();
    assert!(again.load(&id).unwrap_err().to_string().contains("hash"));
}

#[test]
fn missing_telemetry_does_not_change_its_mind() {
    let (history, _, Stored { model, .. }) = &*ORDER;
    let failing = before_failures();
    let quiet: Vec<Windows> =
        history.cells.keys().map(|cell| history.windows(cell, at(BEGIN_S + 380), LENGTH).unwrap()).collect();
    // What is surer than one in a hundred either way is as good as sure.
    let odds = |p: f64| (p.clamp(0.01, 0.99) / (1.0 - p.clamp(0.01, 0.99))).ln();
    let mut before = 0.0;
    for (windows, is_failing) in failing.iter().map(|w| (w, true)).chain(quiet.iter().map(|w| (w, false))) {
        let whole = p(model, windows);
        before += if is_failing { whole / failing.len() as f64 } else { 0.0 };
        for name in windows.metrics.keys() {
            // A metric stops two steps ago; one that bore no mark is gone altogether.
            let mut stopped = windows.clone();
            let samples = &mut stopped.metrics.get_mut(name).unwrap().samples;
            samples.iter_mut().rev().take(2).for_each(|sample| sample.value = None);
            let mut gone = windows.clone();
            let bore_a_mark = gone.metrics.remove(name).unwrap().samples.iter().any(|s| s.value > Some(15.0));
            let moved = |changed: &Windows| (odds(p(model, changed)) - odds(whole)).abs();
            assert!(moved(&stopped) < 1.5, "{name} stopped: {whole} became {}", p(model, &stopped));
            if !bore_a_mark {
                assert!(moved(&gone) < 2.5, "without {name}: {whole} became {}", p(model, &gone));
            }
        }
        if !is_failing {
            assert!(whole < 0.1, "{whole}");
        }
    }
    assert!(before > 0.5, "a minute before failures it says {before}");
}

#[test]
fn where_less_is_enough_the_memory_is_not_taken() {
    let (history, incidents) = history(2, 4, 12.0);
    let Stored { card, .. } = learned(&history, &incidents);
    eprintln!("{:#?}", card.ladder);
    let memory = card.ladder.iter().find(|climbed| climbed.rung == Rung::Lstm).unwrap();
    assert!(!memory.taken && matches!(card.rung, Rung::Linear | Rung::Trees), "{:?}", card.ladder);
}

#[test]
fn too_few_failures_and_short_windows_leave_it_out_with_the_reason() {
    let (whole, incidents) = history(3, 3, 12.0);
    // Seven failures of each half are enough for the rungs below.
    let few: Vec<Incident> = incidents.iter().step_by(incidents.len() / 12).take(12).cloned().collect();
    let left_out = learned(&whole, &few).card.left_out;
    assert_eq!(left_out[0].rung, Rung::Lstm);
    assert!(left_out[0].why.contains("too few for a memory"), "{left_out:?}");
    let short = Study { length: 9, ..study() };
    let outcomes = Outcomes::of_incidents(incidents);
    let card = short.challenger(&whole, &outcomes, &Model::FirstDay, None, at(BEGIN_S)).unwrap().card;
    assert!(card.left_out[0].why.contains("long enough"), "{:?}", card.left_out);
}

#[test]
fn the_same_history_makes_the_same_model() {
    let (history, incidents, Stored { model, .. }) = &*ORDER;
    assert_eq!(learned(history, incidents).model, *model);
}
