//! Models in an engine, without the engine: windows are shown, cells fail, time passes.

use std::collections::BTreeMap;

use forefend_domain::{CellId, Family, MetricKind, MetricName, MetricWindow, Sample, ServiceId, Windows};
use forefend_learn::practice::{Card, Status};
use forefend_predict::{
    Predictor as _,
    learned::{Calibration, Hazard, Learned, Linear, Scorer, Stacked, feature_names},
};

use super::*;

const HORIZON_S: u64 = 160;
const CELLS: u64 = 6;
/// Each cell fails once in this time.
const PERIOD_S: u64 = 2_000;

/// A model whose log odds are `base` and so much more for each deviation that errors are unlike themselves.
fn model(base: f64, for_each: f32) -> Model {
    let names = feature_names();
    let of = |name: &String| if name == "errors.unlikeness.max" { for_each } else { 0.0 };
    let mut weights: Vec<f32> = names.iter().map(of).collect();
    weights.push(0.0);
    let (centre, scale) = (vec![0.0; weights.len()], vec![1.0; weights.len()]);
    let linear = Linear::new(base as f32, weights, centre, scale).unwrap();
    let edges = vec![HORIZON_S as f64 / 2.0, HORIZON_S as f64];
    let hazard = Hazard::new(edges, names, Scorer::Linear(linear), Calibration::Identity).unwrap();
    Model::Stacked(Box::new(Stacked { learned: Learned { hazard }, share: 1.0, levels: None, beyond: None }))
}

fn card() -> Card {
    let nothing = serde_json::json!({
        "id": "", "made": 0, "horizon_s": HORIZON_S as f64, "rung": "linear", "ladder": [],
        "data": { "hash": "", "cells": 0, "looks": 0, "span": null, "incidents": {}, "kinds": {}, "hidden": 0 },
        "scores": { "events": 0, "looks": 0, "brier": null, "skill": null, "auc": null, "slope": null, "top": null },
        "reliability": [],
        "gate": { "passed": true, "checks": [], "champion": null, "challenger": null, "gain": null, "events": 0, "looks": 0 },
        "operating": [], "spread": { "deciles": {}, "unknown": {} },
    });
    serde_json::from_value(nothing).unwrap()
}

fn at(s: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_000 * s)
}

/// Fails at the end of each period, a little later for each cell.
fn left_s(n: u64, s: u64) -> u64 {
    PERIOD_S - (s + 311 * n) % PERIOD_S
}

fn windows(n: u64, s: u64, shows: bool) -> Windows {
    let name = MetricName::new("errors");
    let samples = (0..40u64)
        .map(|k| {
            let s = (s + 5 * k).saturating_sub(195);
            let wobble = (s / 5 * 2_654_435_761 % 97) as f64 / 97.0;
            // Errors show for a hundred seconds.
            let soon = shows && left_s(n, s) <= 100;
            Sample { at: at(s), value: Some(0.01 + 0.002 * wobble + if soon { 0.05 } else { 0.0 }) }
        })
        .collect();
    let metric = MetricWindow {
        name: name.clone(),
        family: Family::Errors,
        kind: MetricKind::Unbounded,
        unit: "ratio".into(),
        limit: None,
        samples,
    };
    let cell = CellId::new(&format!("c{n}")).unwrap();
    Windows { cell, at: at(s), step: Duration::from_secs(5), metrics: BTreeMap::from([(name, metric)]) }
}

struct Stage {
    models: Models,
    _folder: tempfile::TempDir,
    s: u64,
    told: Vec<String>,
}

impl Stage {
    fn new(config: LearningConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Places { config: "none".into(), state_dir: folder.path().to_owned() };
        let models = Models::open(places, config, true, at(10_000)).unwrap();
        Self { models, _folder: folder, s: 10_000, told: Vec::new() }
    }

    fn add(&self, model: Model) -> String {
        self.models.registry.add(card(), model).unwrap()
    }

    /// Time passes, in steps of five seconds; cells fail when they do if `fail`, and show it before if `shows`.
    fn pass(&mut self, periods: u64, shows: bool, fail: bool) {
        let end = self.s + periods * PERIOD_S;
        let service = ServiceId::new("shop").unwrap();
        while self.s < end {
            self.s += 5;
            let now = at(self.s);
            let fates: Vec<Fate> = (0..CELLS)
                .map(|n| {
                    // Broken for the first minute of a period.
                    let since = PERIOD_S - left_s(n, self.s);
                    let failed = (fail && since < 60).then(|| at(self.s - since));
                    let cell = CellId::new(&format!("c{n}")).unwrap();
                    Fate { cell, service: service.clone(), failed, emptied: None, is_well: failed.is_none() }
                })
                .collect();
            for n in 0..CELLS {
                self.models
                    .serving
                    .predict(&windows(n, self.s, shows), Duration::from_secs(HORIZON_S))
                    .unwrap();
            }
            let mut wishes = self.models.see(now, &fates);
            let judged = self.models.judging.all_done();
            wishes.extend(self.models.act_on(judged, now));
            for wish in wishes {
                self.told.push(wish.words());
                self.models.grant(&wish, now).unwrap();
            }
        }
    }

    fn status(&self, id: &str) -> Option<Status> {
        Registry::status(&self.models.registry.state().unwrap(), id)
    }
}

fn config() -> LearningConfig {
    LearningConfig {
        train: false,
        promotion: Promotion::Auto,
        shadow: Duration::from_secs(2 * PERIOD_S),
        false_alarms_per_1000_cell_weeks: 1_000_000,
        hour: 3,
        after_failure: Duration::from_secs(60),
        least_failures: 5,
    }
}

#[test]
fn a_better_one_is_promoted_after_its_time_in_the_shadow_and_a_bad_one_is_not() {
    let mut stage = Stage::new(config());
    let knows_nothing = stage.add(model(0.5, 0.0));
    stage.models.registry.shadow(&knows_nothing).unwrap();
    stage.pass(3, true, true);
    assert_eq!(stage.status(&knows_nothing), Some(Status::Shadow), "{:?}", stage.told);
    let good = stage.add(model(-6.0, 0.6));
    stage.models.registry.shadow(&good).unwrap();
    stage.pass(1, true, true);
    assert_eq!(stage.status(&good), Some(Status::Shadow), "not before its time: {:?}", stage.told);
    stage.pass(2, true, true);
    assert_eq!(stage.status(&good), Some(Status::Champion), "{:#?}", stage.models.view().trials);
    assert!(stage.told[0].contains("serves from now on: in the shadow it was better"), "{:?}", stage.told);
    // It is as good as ever: the one before it, which stands guard, does not take over.
    stage.pass(3, true, true);
    assert_eq!((stage.status(&good), stage.told.len()), (Some(Status::Champion), 1), "{:?}", stage.told);
}

#[test]
fn with_approval_nothing_is_promoted_by_itself() {
    let mut stage = Stage::new(LearningConfig { promotion: Promotion::Approve, ..config() });
    let good = stage.add(model(-6.0, 0.6));
    stage.models.registry.shadow(&good).unwrap();
    stage.pass(4, true, true);
    assert_eq!(stage.status(&good), Some(Status::Shadow));
    let trials = stage.models.view().trials;
    assert!(trials[0].verdict.passed, "{:?}", trials[0].verdict);
    let wish =
        stage.models.command(&ModelCommand::Promote { id: good.clone(), force: false }, at(stage.s)).unwrap();
    stage.models.grant(&wish, at(stage.s)).unwrap();
    assert_eq!(stage.status(&good), Some(Status::Champion));
}

#[test]
fn a_champion_that_turns_bad_goes_back_by_itself() {
    let mut stage = Stage::new(LearningConfig { promotion: Promotion::Approve, ..config() });
    let good = stage.add(model(-6.0, 0.6));
    stage.models.registry.promote(&good).unwrap();
    stage.pass(3, true, true);
    assert_eq!(stage.status(&good), Some(Status::Champion), "{:?}", stage.told);
    // Errors come as before, and nothing fails of them any more.
    stage.pass(8, true, false);
    assert_eq!(stage.status(&good), Some(Status::Refused), "{:#?}", stage.models.view().trials);
    assert!(stage.told[0].contains("had turned bad"), "{:?}", stage.told);
    let said =
        stage.models.serving.predict(&windows(0, stage.s, true), Duration::from_secs(HORIZON_S)).unwrap();
    assert_ne!(said.basis, forefend_domain::Basis::Calibrated);
}

#[test]
fn a_trial_goes_on_after_a_restart_and_a_damaged_champion_is_not_served() {
    let mut stage = Stage::new(config());
    let good = stage.add(model(-6.0, 0.6));
    stage.models.registry.shadow(&good).unwrap();
    stage.pass(1, true, true);
    let looks = stage.models.view().trials[0].looks;
    assert!(looks > 0);
    drop(std::mem::replace(&mut stage.models.judging, Judging::begin()));
    let mut again = Models::open(stage.models.places.clone(), config(), true, at(stage.s)).unwrap();
    let judged = again.judging.all_done();
    assert!(again.act_on(judged, at(stage.s)).is_empty());
    let taken_up = again.view().trials[0].looks;
    // What was not yet written down is lost.
    assert!(taken_up > 0 && taken_up <= looks, "{taken_up} of {looks}");
    stage.models.registry.promote(&good).unwrap();
    std::fs::write(stage.models.places.models().join(format!("{good}.model.json")), "{").unwrap();
    let damaged = Models::open(stage.models.places.clone(), config(), true, at(stage.s)).unwrap();
    assert!(damaged.view().trouble.iter().any(|t| t.contains("model of the first day serves")));
    let said = damaged.serving().predict(&windows(0, stage.s, true), Duration::from_secs(HORIZON_S)).unwrap();
    assert_ne!(said.basis, forefend_domain::Basis::Calibrated);
}

#[test]
fn without_forecasts_no_champion_is_asked() {
    let mut stage = Stage::new(config());
    let good = stage.add(model(-6.0, 0.6));
    stage.models.registry.promote(&good).unwrap();
    stage.models.look(at(stage.s));
    let blind = Models::open(stage.models.places.clone(), config(), false, at(stage.s)).unwrap();
    let said = |models: &Models| {
        models.serving().predict(&windows(0, 11_950, true), Duration::from_secs(HORIZON_S)).unwrap().basis
    };
    assert_eq!(
        (said(&stage.models), said(&blind)),
        (forefend_domain::Basis::Calibrated, forefend_domain::Basis::Prior)
    );
}

#[test]
fn telemetry_that_has_drifted_is_told_once_and_begins_a_training() {
    let mut stage = Stage::new(LearningConfig { train: true, ..config() });
    // What it learned from: errors that are hardly there, with their wobble.
    let reach = Duration::from_secs(HORIZON_S);
    let row = |n: u64, s: u64, factor: f64| {
        let mut windows = windows(n, s, true);
        windows
            .metrics
            .values_mut()
            .flat_map(|m| &mut m.samples)
            .for_each(|s| s.value = s.value.map(|v| v * factor));
        forefend_predict::learned::features(&windows, reach).unwrap().values
    };
    let usual: Vec<Vec<f32>> = (0..400).map(|k| row(k % CELLS, 10_000 + 41 * k, 1.0)).collect();
    let card = Card { spread: Spread::of(&usual), ..card() };
    let good = stage.models.registry.add(card, model(-6.0, 0.6)).unwrap();
    stage.models.registry.promote(&good).unwrap();
    stage.pass(3, true, true);
    assert_eq!(stage.models.view().drift, [], "{:?}", stage.told);
    assert!(stage.told.is_empty(), "{:?}", stage.told);
    // From now on errors are never seen to creep.
    stage.pass(4, false, true);
    assert!(!stage.models.view().drift.is_empty());
    let drifted: Vec<&String> = stage.told.iter().filter(|t| t.contains("have drifted")).collect();
    assert_eq!(drifted.len(), 1, "{:?}", stage.told);
    assert!(stage.models.view().training.contains("the next begins"), "{}", stage.models.view().training);
}

#[test]
fn an_operator_can_not_promote_what_has_not_had_its_time_or_was_seen_to_be_worse() {
    let mut stage = Stage::new(LearningConfig { promotion: Promotion::Approve, ..config() });
    let promote = |stage: &mut Stage, id: &str, force: bool| {
        stage
            .models
            .command(&ModelCommand::Promote { id: id.to_owned(), force }, at(stage.s))
            .map(|w| w.words())
    };
    let good = stage.add(model(-6.0, 0.6));
    assert!(promote(&mut stage, &good, false).unwrap_err().contains("not in the shadow"));
    stage.models.registry.shadow(&good).unwrap();
    stage.pass(1, false, false);
    assert!(promote(&mut stage, &good, false).unwrap_err().contains("of 4000 s"));
    assert!(promote(&mut stage, &good, true).unwrap().contains("against the gate"));
    // Nothing fails: the history, in which it had passed, decides.
    stage.pass(2, false, false);
    assert!(promote(&mut stage, &good, false).unwrap().contains("on what was recorded"));
    // One that cries wolf is seen through in quiet.
    let wolf = stage.add(model(1.0, 0.0));
    stage.models.registry.shadow(&wolf).unwrap();
    stage.pass(3, false, false);
    assert!(promote(&mut stage, &wolf, false).unwrap_err().contains("worse"));
}

#[test]
fn a_promotion_that_fails_is_told_and_not_wished_for_again() {
    let mut stage = Stage::new(config());
    let good = stage.add(model(-6.0, 0.6));
    stage.models.registry.shadow(&good).unwrap();
    stage.pass(1, true, true);
    let lock = std::fs::File::create(stage.models.places.models().join("lock")).unwrap();
    lock.lock().unwrap();
    let wish = Wish::Promote { id: good.clone(), why: "a test".into() };
    let refused = stage.models.grant(&wish, at(stage.s)).unwrap_err();
    assert!(refused.contains("held by another process"), "{refused}");
    stage.pass(3, true, true);
    assert!(stage.told.is_empty(), "{:?}", stage.told);
    assert_eq!(stage.status(&good), Some(Status::Shadow));
    assert!(stage.models.view().trouble[0].contains("could not be changed"));
}

#[test]
fn a_new_shadow_is_no_reason_to_tell_of_the_same_drift_again() {
    let mut stage = Stage::new(config());
    let champion = stage.add(model(-6.0, 0.6));
    stage.models.registry.promote(&champion).unwrap();
    stage.pass(1, true, true);
    stage.models.drift_told = true;
    let next = stage.add(model(-5.0, 0.5));
    stage.models.registry.shadow(&next).unwrap();
    stage.models.look(at(stage.s));
    assert!(stage.models.drift_told);
    assert_eq!(stage.models.view().trials.len(), 2);
}

#[test]
fn nights_come_once_a_day() {
    let day = 86_400;
    assert_eq!(outcomes::next_night(at(2 * day), 3), at(2 * day + 3 * 3_600));
    assert_eq!(outcomes::next_night(at(2 * day + 3 * 3_600), 3), at(3 * day + 3 * 3_600));
    assert_eq!(outcomes::next_night(at(2 * day + 86_399), 0), at(3 * day));
}
