//! Each invariant can fail: a plan that breaks it, and nothing else, is caught under its name.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

#[expect(dead_code, reason = "each test binary uses a part of it")]
mod support;

use std::{collections::BTreeMap, time::Duration};

use forefend_decide::{
    Memory, ShiftMemory,
    invariants::{self, Case, Violation},
};
use forefend_domain::{
    Basis, CellHealth, CellId, Effect, Evidence, LifeState, Mode, ObjectiveState, Plan, Prediction,
    ServiceWeights, ShiftReason, Weight, World,
};
use support::{Story, bp, id, per_second, prediction, shop, weights};

/// A shift of `north` to `spare` with all the evidence one could wish for; each test spoils one thing.
struct Scene {
    world: World,
    predictions: BTreeMap<CellId, Prediction>,
    plan: Plan,
    memory: Memory,
}

impl Scene {
    /// Half of the traffic of `north` is at `spare`, and the plan moves the rest.
    fn good() -> Self {
        let mut story = Story::begin();
        story.tick();
        let service = story.service();
        let at = |shares: &[(&str, f64)]| weights(&service.cells, shares);
        let now = at(&[("north", 0.25), ("south", 0.5), ("spare", 0.25)]);
        let wanted = at(&[("north", 0.0), ("south", 0.5), ("spare", 0.5)]);
        service.effective = Some(now);
        for cell in service.cells.values_mut() {
            cell.traffic.rate = Some(per_second(1_000.0 / 3.0));
        }
        let began = story.world.now - Duration::from_secs(5);
        let shift = ShiftMemory {
            service: shop(),
            reason: ShiftReason::Predicted,
            began_as: ShiftReason::Predicted,
            began,
            began_seq: None,
            mirrors: BTreeMap::from([(id("spare"), Evidence { requests: 10_000, bad: 0 })]),
            carriers: [id("spare")].into(),
            rejected: Default::default(),
            outbound: true,
            moved_changed_at: None,
            moved: bp(5_000),
            most_moved: bp(5_000),
            target: Weight::FULL,
            bound_by: "none".into(),
            asked_at: Some(began),
            first_moved_at: Some(began),
            done_at: None,
            failed_since: None,
        };
        story.memory.shifts.insert(id("north"), shift);
        let foreseen =
            prediction(&id("north"), story.world.now, 0.9, Some(Duration::from_secs(2)), Basis::FirstPassage);
        let plan = Plan {
            effects: vec![Effect::SetWeights { service: shop(), weights: wanted }],
            ..Plan::default()
        };
        Self {
            world: story.world,
            predictions: BTreeMap::from([(id("north"), foreseen)]),
            plan,
            memory: story.memory,
        }
    }

    fn check(&self) -> Result<(), Violation> {
        invariants::check_all(Case {
            world: &self.world,
            predictions: &self.predictions,
            plan: &self.plan,
            memory: &self.memory,
        })
    }

    fn service(&mut self) -> &mut forefend_domain::ServiceView {
        self.world.services.get_mut("shop").unwrap()
    }

    fn at(&mut self, name: &str) -> &mut forefend_domain::CellView {
        self.service().cells.get_mut(name).unwrap()
    }

    fn shift(&mut self) -> &mut ShiftMemory {
        self.memory.shifts.get_mut("north").unwrap()
    }

    fn wants(&mut self, shares: &[(&str, f64)]) {
        let weights = weights(&self.world.services["shop"].cells, shares);
        self.plan.effects = vec![Effect::SetWeights { service: shop(), weights }];
    }

    fn effective(&mut self, shares: &[(&str, f64)]) {
        let now = weights(&self.world.services["shop"].cells, shares);
        self.service().effective = Some(now);
    }
}

/// Spoils the good scene and says which invariant noticed.
fn caught(spoil: impl FnOnce(&mut Scene)) -> &'static str {
    let mut scene = Scene::good();
    spoil(&mut scene);
    match scene.check() {
        Ok(()) => "nothing",
        Err(violation) => violation.invariant,
    }
}

#[test]
fn a_good_plan_passes() {
    assert_eq!(Scene::good().check(), Ok(()));
}

#[test]
fn weights_add_up() {
    // Weights that don't add up can't be made by their constructor, but they can be read from a file.
    let text = r#"{"regions": {"north": 10000}, "cells": {"north": {"north": 9000}}}"#;
    let broken: ServiceWeights = serde_json::from_str(text).unwrap();
    let plan = vec![Effect::SetWeights { service: shop(), weights: broken }];
    assert_eq!(caught(|s| s.plan.effects = plan), "weights_add_up");
    assert_eq!(
        caught(|s| {
            s.service().cells.remove("spare");
        }),
        "weights_add_up",
        "a cell that does not exist"
    );
    assert_eq!(
        caught(|s| {
            s.world.services.clear();
        }),
        "weights_add_up",
        "a service that does not exist"
    );
}

#[test]
fn frozen_holds() {
    assert_eq!(caught(|s| s.world.frozen = true), "frozen_holds");
    assert_eq!(
        caught(|s| {
            s.world.frozen = true;
            s.plan.effects = vec![Effect::Retire { cell: id("spare") }];
        }),
        "frozen_holds",
        "not even a removal"
    );
}

#[test]
fn observe_moves_nothing() {
    assert_eq!(caught(|s| s.service().service.policy.mode = Mode::Observe), "observe_moves_nothing");
    assert_eq!(
        caught(|s| {
            s.service().service.policy.mode = Mode::Observe;
            s.world.requested.insert(id("north"), Weight::FULL);
        }),
        "nothing",
        "an operator may"
    );
}

#[test]
fn only_ready_cells_get_weight() {
    let name = "only_ready_cells_get_weight";
    assert_eq!(caught(|s| s.at("spare").life = LifeState::Warming), name);
    assert_eq!(caught(|s| s.at("spare").parked = true), name);
    assert_eq!(caught(|s| s.at("spare").health = CellHealth::Down), name);
    let since = Scene::good().world.now;
    assert_eq!(caught(|s| s.at("spare").objective = ObjectiveState::Failed { since }), name);
    assert_eq!(caught(|s| s.at("spare").objective = ObjectiveState::Breaking { since }), name);
    // A newcomer needs papers; one that carries already proves itself by what it answers.
    assert_eq!(caught(|s| s.at("spare").passport = None), "nothing");
    assert_eq!(
        caught(|s| {
            s.at("spare").passport = None;
            s.effective(&[("north", 0.5), ("south", 0.5), ("spare", 0.0)]);
        }),
        name
    );
}

#[test]
fn evidence_earned() {
    assert_eq!(
        caught(|s| {
            s.shift().mirrors.insert(id("spare"), Evidence { requests: 50, bad: 0 });
        }),
        "evidence_earned"
    );
    assert_eq!(
        caught(|s| {
            s.shift().mirrors.insert(id("spare"), Evidence { requests: 10_000, bad: 1_000 });
        }),
        "evidence_earned",
        "bad answers earn nothing"
    );
    assert_eq!(
        caught(|s| {
            s.shift().mirrors.insert(id("spare"), Evidence::default());
            s.shift().reason = ShiftReason::Failed;
        }),
        "nothing",
        "a failover does not wait"
    );
}

#[test]
fn weight_within_contract() {
    assert_eq!(
        caught(|s| {
            s.at("spare").passport.as_mut().unwrap().measured_capacity = Some(per_second(600.0));
        }),
        "weight_within_contract",
        "500/s wanted, 480/s usable"
    );
    assert_eq!(
        caught(|s| {
            s.at("spare").passport.as_mut().unwrap().measured_capacity = None;
            s.service().service.policy.capacity_per_cell = None;
        }),
        "weight_within_contract",
        "more than a canary for a mirror of unknown capacity"
    );
}

#[test]
fn data_gate_respected() {
    assert_eq!(caught(|s| s.at("spare").data.open = false), "data_gate_respected");
}

#[test]
fn absent_telemetry_holds() {
    let begins_now = |s: &mut Scene| s.shift().began = s.world.now;
    assert_eq!(caught(begins_now), "nothing");
    let name = "absent_telemetry_holds";
    assert_eq!(
        caught(|s| {
            begins_now(s);
            s.at("north").telemetry_at = None;
        }),
        name
    );
    assert_eq!(
        caught(|s| {
            begins_now(s);
            s.world.now = s.world.now + Duration::from_secs(3);
            begins_now(s);
        }),
        name,
        "stale is absent"
    );
    assert_eq!(
        caught(|s| {
            begins_now(s);
            s.predictions.get_mut("north").unwrap().basis = Basis::Prior;
        }),
        name
    );
    assert_eq!(
        caught(|s| {
            begins_now(s);
            s.predictions.clear();
        }),
        name
    );
}

#[test]
fn blast_radius_bounded() {
    let name = "blast_radius_bounded";
    assert_eq!(caught(|s| s.service().service.policy.budgets.max_weight_in_motion = bp(4_000)), name);
    assert_eq!(caught(|s| s.service().service.policy.budgets.max_cells_in_motion = 0), name);
    assert_eq!(
        caught(|s| {
            s.service().service.policy.budgets.max_weight_in_motion = bp(4_000);
            s.shift().reason = ShiftReason::Failed;
        }),
        "nothing",
        "a cell that has failed is already down"
    );
}

#[test]
fn no_return_to_the_sick() {
    let goes_home = |s: &mut Scene| {
        s.wants(&[("north", 0.4), ("south", 0.5), ("spare", 0.1)]);
        s.shift().outbound = false;
    };
    assert_eq!(caught(goes_home), "nothing");
    let since = Scene::good().world.now;
    let name = "no_return_to_the_sick";
    assert_eq!(
        caught(|s| {
            goes_home(s);
            s.at("north").objective = ObjectiveState::Failed { since };
            s.at("north").health = CellHealth::Unknown;
        }),
        name
    );
    assert_eq!(
        caught(|s| {
            goes_home(s);
            s.at("north").life = LifeState::Failed;
            s.at("north").health = CellHealth::Down;
        }),
        name
    );
}
