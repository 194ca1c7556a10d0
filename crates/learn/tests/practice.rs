//! Learning in production, from telemetry as it is recorded to a model that may serve: good challengers and planted bad ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use forefend_domain::{CellId, Family, Interval, MetricKind, MetricName, ServiceId, Timestamp};
use forefend_learn::practice::{
    Away, Outcomes, Registry, RegistryError, Said, Status, Stored, Study, Trial, gate, gate::Papers, judge,
    landmarks,
};
use forefend_predict::{Predictor as _, learned::Model};
use forefend_telemetry::history::{CellHistory, History, Incident, IncidentSource, RecordedSeries};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const STEP: Duration = Duration::from_secs(5);
const HORIZON: Duration = Duration::from_secs(300);
const LENGTH: usize = 60;
const CELLS: usize = 8;
const BEGIN_S: u64 = 1_700_000_000;

fn at(s: u64) -> Timestamp {
    Timestamp::from_unix_ms(s * 1_000)
}

fn study() -> Study {
    let mut study = Study { every: Duration::from_secs(30), ..Study::new(HORIZON, STEP, LENGTH) };
    study.gate.every = study.every;
    study
}

/// Hours of eight cells. Errors of a cell creep up for four minutes before it fails, and have no limit that anybody declared, so the
/// model of the first day sees nothing; in the quiet they come in bursts, as they do.
fn made_up(seed: u64, hours: u64, creep: f64) -> (History, Vec<Incident>) {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let (mut cells, mut incidents) = (BTreeMap::new(), Vec::new());
    let end_s = BEGIN_S + hours * 3_600;
    for n in 0..CELLS {
        let cell = CellId::new(&format!("shop-{n}")).unwrap();
        let mut failures = Vec::new();
        let mut next = BEGIN_S + chance.random_range(1_200..7_200);
        while next < end_s - 600 {
            failures.push(next);
            next += chance.random_range(3_600..9_000);
        }
        let (mut errors, mut cpu) = (Vec::new(), Vec::new());
        for s in (BEGIN_S..end_s).step_by(STEP.as_secs() as usize) {
            let to_failure = failures.iter().filter(|f| **f >= s).map(|f| f - s).min();
            let broken = failures.iter().any(|f| (*f..*f + 120).contains(&s));
            let mut rate = 0.01 + 0.004 * chance.random::<f64>();
            if let Some(left) = to_failure.filter(|left| *left < 240) {
                rate += creep * (1.0 - left as f64 / 240.0);
            }
            if chance.random::<f64>() < 0.01 {
                rate += 0.02;
            }
            errors.push((at(s), if broken { 0.5 } else { rate }));
            cpu.push((at(s), 0.4 + 0.2 * chance.random::<f64>()));
        }
        for began in failures {
            incidents.push(Incident {
                cell: cell.clone(),
                began: at(began),
                ended: Some(at(began + 120)),
                kind: "errors-creep".into(),
                event: String::new(),
                source: IncidentSource::Imported,
            });
        }
        let series = |family, kind, limit: Option<f64>, samples| RecordedSeries {
            family,
            kind,
            unit: "ratio".into(),
            limits: vec![(at(0), limit)],
            samples,
        };
        let series = BTreeMap::from([
            (MetricName::new("errors"), series(Family::Errors, MetricKind::Unbounded, None, errors)),
            (MetricName::new("cpu"), series(Family::Saturation, MetricKind::Saturable, Some(1.0), cpu)),
        ]);
        cells.insert(cell, CellHistory { service: ServiceId::new("shop").unwrap(), series });
    }
    (History { step: STEP, cells }, incidents)
}

/// A history, its incidents, and what was learned from them: made once for all who only look.
static BASE: LazyLock<(History, Vec<Incident>, Stored)> = LazyLock::new(|| {
    let (history, incidents) = made_up(1, 8, 0.06);
    let stored = learned(&history, &incidents);
    (history, incidents, stored)
});

fn learned(history: &History, incidents: &[Incident]) -> Stored {
    let outcomes = Outcomes::of_incidents(incidents.to_vec());
    study().challenger(history, &outcomes, &Model::FirstDay, None, at(BEGIN_S)).unwrap()
}

#[test]
fn a_model_that_learned_from_real_outcomes_passes_and_says_what_it_saw() {
    let (history, incidents, Stored { card, model }) = &*BASE;
    assert!(card.gate.passed, "{}", card.gate.why_not());
    assert!(card.scores.auc.unwrap() > 0.8, "{:?}", card.scores);
    assert!(card.scores.skill.unwrap() > 0.3, "{:?}", card.scores);
    assert_eq!(card.data.incidents[&IncidentSource::Imported], incidents.len());
    assert_eq!(card.data.cells, CELLS);
    assert!(!card.reliability.is_empty());
    assert!(card.ladder.iter().filter(|climbed| climbed.taken).count() == 1);
    // A build without the ML framework says that it has left a rung out.
    let left_out: Vec<_> = card.left_out.iter().filter(|left| left.why.contains("this build")).collect();
    assert_eq!(left_out.len(), usize::from(!cfg!(feature = "lstm")));
    // Judged by what came later than all that was learned from.
    assert!(card.data.span.unwrap().1 < incidents.iter().map(|i| i.began).max().unwrap());
    // What it says is explained by the metric that it is about.
    let failing = &incidents[incidents.len() / 2];
    let before = Timestamp::from_unix_ms(failing.began.unix_ms() - 30_000);
    let windows = history.windows(&failing.cell, before, LENGTH).unwrap();
    let said = model.predict(&windows, HORIZON).unwrap();
    assert!(said.probability.get() > 0.5, "{:?}", said.probability);
    assert_eq!(said.drivers[0].metric.as_str(), "errors");
    // Its card and its predictions say how its intervals were found.
    let intervals = card.intervals.as_ref().unwrap();
    let Model::Stacked(stacked) = model else { panic!("{:?} was taken", card.rung) };
    assert_eq!((stacked.levels, intervals.levels.is_none()), (intervals.levels, !intervals.why.is_empty()));
    assert_eq!(said.interval == Interval::Calibrated, intervals.levels.is_some());
    assert!(intervals.failures > 5 && intervals.plain.is_some(), "{intervals:?}");
    // The same again is the same.
    let again = learned(history, incidents);
    assert_eq!((&again.card.data, &again.model), (&card.data, model));
}

#[test]
fn what_cells_that_stay_well_never_hold_is_learned_beside_and_a_failure_that_is_over_sets_no_mark() {
    let (mut history, incidents) = made_up(5, 8, 0.06);
    // Now somebody has declared how many errors are too many. Half of that is held for two minutes by each cell that is broken.
    for cell in history.cells.values_mut() {
        let errors = cell.series.get_mut(&MetricName::new("errors")).unwrap();
        errors.limits = vec![(at(BEGIN_S), Some(0.1))];
    }
    let Stored { card, model } = learned(&history, &incidents);
    let tried = card.beyond.unwrap();
    assert!(tried.taken && tried.failed > 5 && tried.failed <= tried.witnesses, "{tried:?}");
    let Model::Stacked(stacked) = &model else { panic!("{:?} was taken", card.rung) };
    let most = stacked.beyond.as_ref().unwrap().parts().most[&Family::Errors];
    assert!((0.1..0.5).contains(&most), "{most}");
    let late = incidents.iter().max_by_key(|incident| incident.began).unwrap();
    let said = |before_s: u64| {
        let when = Timestamp::from_unix_ms(late.began.unix_ms() - 1_000 * before_s);
        model.predict(&history.windows(&late.cell, when, LENGTH).unwrap(), HORIZON).unwrap()
    };
    assert!(said(10).exceeds && !said(600).exceeds);
}

#[test]
fn where_nothing_can_be_foreseen_no_cell_is_told_from_another() {
    // No creep: failures come out of the blue. How often they come is learned, and that is all.
    let (history, incidents) = made_up(3, 8, 0.0);
    let Stored { card, model } = learned(&history, &incidents);
    assert!(card.scores.auc.unwrap() < 0.7, "{:?}", card.scores);
    assert!(card.gate.challenger.unwrap().recall.unwrap() < 0.25, "{:?}", card.gate);
    let said = history.cells.keys().map(|cell| {
        let windows = history.windows(cell, history.span().unwrap().1, LENGTH).unwrap();
        model.predict(&windows, HORIZON).unwrap().probability.get()
    });
    assert!(said.fold(0.0, f64::max) < 0.5);
}

#[test]
fn shuffled_labels_are_refused() {
    let (history, incidents) = made_up(4, 8, 0.06);
    // Every failure is told of another cell.
    let shuffled: Vec<Incident> = incidents
        .iter()
        .enumerate()
        .map(|(n, i)| Incident {
            cell: CellId::new(&format!("shop-{}", (n * 5 + 3) % CELLS)).unwrap(),
            ..i.clone()
        })
        .filter(|i| {
            !incidents
                .iter()
                .any(|j| j.cell == i.cell && j.began.since(i.began).max(i.began.since(j.began)) < HORIZON * 2)
        })
        .collect();
    assert!(shuffled.len() > 12);
    let bad = learned(&history, &shuffled);
    // It is judged by what really happened.
    assert!(!verdict(&history, &incidents, &Model::FirstDay, &bad.model).passed);
}

/// Asks the gate of the newest third, as production would.
fn verdict(history: &History, incidents: &[Incident], champion: &Model, challenger: &Model) -> gate::Verdict {
    let study = study();
    let outcomes = Outcomes::of_incidents(incidents.to_vec());
    let grid = forefend_learn::practice::Grid {
        horizon: HORIZON,
        length: LENGTH,
        every: study.every,
        most: usize::MAX,
    };
    let (first, last) = history.span().unwrap();
    let from = first + (last.since(first) * 2) / 3;
    let marks: Vec<_> = landmarks(history, &outcomes, &grid).into_iter().filter(|m| m.at > from).collect();
    let judged = judge(history, &marks, &grid, champion, challenger);
    let papers = Papers { unknown_features: challenger.unknown_features(), ..Papers::default() };
    gate::gate(&judged, &papers, &study.gate)
}

#[test]
fn what_leaked_into_a_history_is_not_there_when_it_serves() {
    let (history, incidents) = made_up(5, 8, 0.0);
    // Somebody filled in afterwards, from the list of incidents, a metric that shows each of them five minutes before.
    let mut leaky = history.clone();
    for (cell, recorded) in &mut leaky.cells {
        let failures: Vec<Timestamp> =
            incidents.iter().filter(|i| i.cell == *cell).map(|i| i.began).collect();
        let clock = recorded.series[&MetricName::new("cpu")].samples.clone();
        let near = |s: Timestamp| failures.iter().any(|f| *f >= s && f.since(s) <= HORIZON);
        let samples = clock.iter().map(|(s, _)| (*s, if near(*s) { 1.0 } else { 0.0 })).collect();
        let cpu = recorded.series[&MetricName::new("cpu")].clone();
        let flag = RecordedSeries { family: Family::Custom, kind: MetricKind::Unbounded, samples, ..cpu };
        recorded.series.insert(MetricName::new("incident"), flag);
    }
    let bad = learned(&leaky, &incidents);
    assert!(bad.card.gate.passed, "on the history that leaks it looks splendid: {}", bad.card.gate.why_not());
    // Live, in the shadow, the metric is 0 until somebody fills it in.
    let mut live = leaky.clone();
    for recorded in live.cells.values_mut() {
        recorded
            .series
            .get_mut(&MetricName::new("incident"))
            .unwrap()
            .samples
            .iter_mut()
            .for_each(|s| s.1 = 0.0);
    }
    let shadow = shadowed(&live, &incidents, &Model::FirstDay, &bad.model);
    assert!(!shadow.passed && shadow.fails("brier"), "{shadow:?}");
    // A feature of its own that no window can give does not even get that far.
    let mut foreign = serde_json::to_value(&bad.model).unwrap();
    foreign["learned"]["features"][0] = "seconds_until_the_incident".into();
    let foreign: Model = serde_json::from_value(foreign).unwrap();
    assert!(verdict(&leaky, &incidents, &Model::FirstDay, &foreign).fails("features"));
}

/// What the shadow sees of two models while time passes.
fn trial(history: &History, incidents: &[Incident], champion: &Model, other: &Model) -> Trial {
    let study = study();
    let (first, last) = history.span().unwrap();
    let mut trial = Trial::new("champion".into(), "other".into(), first, HORIZON, study.every);
    let service = ServiceId::new("shop").unwrap();
    let mut now = first + STEP * 20;
    while now < last {
        for incident in incidents.iter().filter(|i| i.began <= now && now.since(i.began) < STEP * 6) {
            trial.failed(&incident.cell, incident.began, &incident.kind);
        }
        for cell in history.cells.keys() {
            let broken =
                incidents.iter().any(|i| i.cell == *cell && i.began <= now && now.since(i.began) < STEP * 24);
            if broken || !trial.is_due(cell, now) {
                continue;
            }
            let windows = history.windows(cell, now, LENGTH).unwrap();
            let say = |model: &Model| model.predict(&windows, HORIZON).unwrap();
            let (champion, other) = (say(champion), say(other));
            let said = Said {
                champion: champion.probability.get(),
                other: other.probability.get(),
                champion_exceeds: champion.exceeds,
                other_exceeds: other.exceeds,
            };
            trial.note(cell, &service, now, said);
        }
        trial.pass(now);
        now = now + STEP * 6;
    }
    trial
}

fn shadowed(history: &History, incidents: &[Incident], champion: &Model, other: &Model) -> gate::Verdict {
    let judged = trial(history, incidents, champion, other).judged();
    let papers = Papers { unknown_features: other.unknown_features(), ..Papers::default() };
    gate::gate(&judged, &papers, &study().gate)
}

#[test]
fn stale_data_are_refused_though_they_were_right_once() {
    let (_, _, stale) = &*BASE;
    // The service has changed: errors are always as high as they once were just before a failure, and what creeps now is smaller.
    let (mut new, incidents) = made_up(7, 8, 0.02);
    for recorded in new.cells.values_mut() {
        let errors = &mut recorded.series.get_mut(&MetricName::new("errors")).unwrap().samples;
        let mut chance = ChaCha8Rng::seed_from_u64(8);
        errors.iter_mut().for_each(|s| s.1 += 0.04 * chance.random::<f64>());
    }
    let fresh = learned(&new, &incidents);
    let papers = Papers {
        champion_until: fresh.card.data.span.map(|s| s.1),
        challenger_until: stale.card.data.span.map(|s| s.1),
        ..Papers::default()
    };
    let judged = trial(&new, &incidents, &fresh.model, &stale.model).judged();
    let verdict = gate::gate(&judged, &papers, &study().gate);
    assert!(verdict.fails("brier"), "{}", verdict.why_not());
}

#[test]
fn a_better_one_is_promoted_and_one_that_turns_bad_is_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let (_, _, Stored { card, model }) = &*BASE;
    let id = registry.add(card.clone(), model.clone()).unwrap();
    registry.shadow(&id).unwrap();
    let stored = registry.load(&id).unwrap();
    let (live, live_incidents) = made_up(10, 8, 0.06);
    let verdict = shadowed(&live, &live_incidents, &Model::FirstDay, &stored.model);
    assert!(verdict.passed, "{}", verdict.why_not());
    let state = registry.promote(&id).unwrap();
    assert_eq!(Registry::status(&state, &id), Some(Status::Champion));
    assert_eq!(state.shadow, None);
    // Then the service changes: its errors creep up every hour, and nothing comes of it.
    let (mut changed, creeps) = made_up(11, 8, 0.06);
    let none: Vec<Incident> = Vec::new();
    for recorded in changed.cells.values_mut() {
        let errors = &mut recorded.series.get_mut(&MetricName::new("errors")).unwrap().samples;
        errors.iter_mut().filter(|s| s.1 > 0.3).for_each(|s| s.1 = 0.012);
    }
    assert!(!creeps.is_empty());
    let judged = trial(&changed, &none, &stored.model, &Model::FirstDay).judged();
    let bad = gate::has_turned_bad(&judged, &study().gate);
    assert!(bad.is_some_and(|gain| gain.low > 0.0), "{bad:?}");
    let state = registry.rollback("it cries wolf").unwrap();
    assert_eq!(state.champion, None);
    assert_eq!(Registry::status(&state, &id), Some(Status::Refused));
    assert!(matches!(registry.rollback("again"), Err(RegistryError::NothingBefore)));
    // While things are as they were, it is not bad.
    let judged = trial(&live, &live_incidents, &stored.model, &Model::FirstDay).judged();
    assert!(gate::has_turned_bad(&judged, &study().gate).is_none());
}

#[test]
fn what_a_shift_hid_is_censored_and_does_not_teach_that_all_was_well() {
    let (history, incidents) = made_up(12, 8, 0.06);
    // A shift two minutes before each failure of half of the cells, which then does not come.
    let saved = |i: &Incident| i.cell.as_str().ends_with(['1', '3', '5', '7']);
    let away: Vec<Away> = incidents
        .iter()
        .filter(|i| saved(i))
        .map(|i| Away {
            cell: i.cell.clone(),
            from: Timestamp::from_unix_ms(i.began.unix_ms() - 120_000),
            until: Some(i.began + Duration::from_secs(200)),
        })
        .collect();
    assert!(away.len() > 10);
    let rest: Vec<Incident> = incidents.iter().filter(|i| !saved(i)).cloned().collect();
    let with = Outcomes { incidents: rest.clone(), away };
    let without = Outcomes::of_incidents(rest);
    let probability = |outcomes: &Outcomes| {
        let stored = study().challenger(&history, outcomes, &Model::FirstDay, None, at(0)).unwrap();
        let mut sum = 0.0;
        for i in &incidents {
            let before = Timestamp::from_unix_ms(i.began.unix_ms() - 60_000);
            let windows = history.windows(&i.cell, before, LENGTH).unwrap();
            sum += stored.model.predict(&windows, HORIZON).unwrap().probability.get();
        }
        sum / incidents.len() as f64
    };
    let (with, without) = (probability(&with), probability(&without));
    assert!(with > without + 0.1, "with censoring {with}, taken for well {without}");
}

#[test]
fn damaged_files_and_strange_names_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    for id in ["../../etc/passwd", "m1", "m1-zzzzzzzz", "", "m1-00000000"] {
        assert!(matches!(registry.load(id), Err(RegistryError::Unknown(_))), "{id}");
    }
    let (_, _, Stored { card, model }) = &*BASE;
    let id = registry.add(card.clone(), model.clone()).unwrap();
    assert_eq!(registry.load(&id).unwrap().model, *model);
    let second = registry.add(card.clone(), model.clone()).unwrap();
    assert!(second.starts_with("m2-") && second[3..] == id[3..]);
    let path = folder.path().join(format!("{id}.model.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    for (damaged, told) in [
        (text.replacen("errors", "terrors", 1), "hash"),
        (text[..text.len() / 2].to_owned(), "damaged"),
        (text.replacen("\"v\":1", "\"v\":9", 1), "version 9"),
        (
            std::fs::read_to_string(folder.path().join(format!("{second}.model.json"))).unwrap(),
            "file of model",
        ),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let error = registry.promote(&id).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains(&id), "{error}");
    }
    let (cards, damaged) = registry.list().unwrap();
    assert_eq!((cards.len(), damaged.len()), (1, 1));
    std::fs::write(folder.path().join("state.json"), "{").unwrap();
    assert!(registry.state().unwrap_err().to_string().contains("damaged"));
}
