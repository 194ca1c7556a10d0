//! Each invariant can fail: a plan that breaks it, and nothing else, is caught under its name.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

use std::{collections::BTreeMap, time::Duration};

use crate::support::{Story, bp, id, per_second, prediction, shop, weights};
use forefend_decide::{
    Memory, PreTestMemory, ShiftMemory,
    invariants::{self, Case, Violation},
};
use forefend_domain::{
    Basis, CellHealth, CellId, Effect, Evidence, LifeState, Mode, ObjectiveState, Plan, Prediction,
    ServiceWeights, ShiftReason, ShiftRequest, Weight, World,
};

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
            head_start: Weight::ZERO,
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

/// Nothing is shifted; 1% of the traffic of `north` is at `spare` for a pre-test, and the plan makes it 2%, which is the cap.
fn tried(s: &mut Scene) {
    s.memory.shifts.clear();
    let test = PreTestMemory {
        service: shop(),
        mirror: id("spare"),
        began: s.world.now - Duration::from_secs(5),
        evidence: Evidence { requests: 10_000, bad: 0 },
        wanted: bp(200),
        share: bp(200),
        below_since: None,
    };
    s.memory.pre_tests.insert(id("north"), test);
    s.service().service.policy.pre_test.cap = bp(200);
    s.effective(&[("north", 0.495), ("south", 0.5), ("spare", 0.005)]);
    s.wants(&[("north", 0.49), ("south", 0.5), ("spare", 0.01)]);
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
            s.world.requested.insert(id("north"), ShiftRequest::of_operator(Weight::FULL));
        }),
        "nothing",
        "an operator may"
    );
    assert_eq!(
        caught(|s| {
            s.service().service.policy.mode = Mode::Observe;
            let until = Some(s.world.now);
            s.world.requested.insert(id("north"), ShiftRequest { weight: Weight::FULL, until, drill: true });
        }),
        "observe_moves_nothing",
        "not on a lease that has run out"
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
fn a_pre_test_stays_under_its_cap() {
    let name = "a_pre_test_stays_under_its_cap";
    assert_eq!(caught(tried), "nothing");
    assert_eq!(
        caught(|s| {
            tried(s);
            s.wants(&[("north", 0.489), ("south", 0.5), ("spare", 0.011)]);
        }),
        name,
        "2.2% of half of the traffic"
    );
    assert_eq!(
        caught(|s| {
            tried(s);
            s.memory.pre_tests.clear();
            s.effective(&[("north", 0.49), ("south", 0.5), ("spare", 0.01)]);
        }),
        name,
        "weight that is away for nothing must not stay there"
    );
    assert_eq!(
        caught(|s| {
            tried(s);
            s.service().service.policy.mode = Mode::Approve;
        }),
        name,
        "nothing moves by itself in mode approve"
    );
    assert_eq!(
        caught(|s| {
            tried(s);
            s.wants(&[("north", 0.49), ("south", 0.49), ("spare", 0.02)]);
        }),
        name,
        "nor traffic of a cell that has no pre-test"
    );
    assert_eq!(
        caught(|s| {
            tried(s);
            let test = s.memory.pre_tests.get_mut("north").unwrap();
            test.evidence = Evidence { requests: 10_000, bad: 9_000 };
            s.service().service.policy.canary.first = bp(100);
            s.service().service.policy.canary.tolerated_harm = 0.005;
        }),
        "evidence_earned",
        "it earns its weight like a shift's mirror"
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
    let is_tried_now = |s: &mut Scene| {
        tried(s);
        s.memory.pre_tests.get_mut("north").unwrap().began = s.world.now;
    };
    assert_eq!(
        caught(|s| {
            is_tried_now(s);
            s.predictions.get_mut("north").unwrap().basis = Basis::Prior;
        }),
        "nothing",
        "a pre-test may rest on a prior"
    );
    assert_eq!(
        caught(|s| {
            is_tried_now(s);
            s.at("north").telemetry_at = None;
        }),
        name
    );
    assert_eq!(
        caught(|s| {
            is_tried_now(s);
            s.predictions.get_mut("north").unwrap().probability = crate::support::p(0.09);
        }),
        name
    );
    assert_eq!(
        caught(|s| {
            is_tried_now(s);
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
    assert_eq!(
        caught(|s| {
            s.service().service.policy.budgets.max_weight_in_motion = bp(80);
            tried(s);
        }),
        name,
        "what is away for a pre-test is away"
    );
    let budget_of_none = |s: &mut Scene, head_start: u32| {
        s.service().service.policy.budgets.max_cells_in_motion = 0;
        s.shift().head_start = bp(head_start);
        s.shift().moved = bp(100);
        s.effective(&[("north", 0.495), ("south", 0.5), ("spare", 0.005)]);
        s.wants(&[("north", 0.49), ("south", 0.5), ("spare", 0.01)]);
    };
    assert_eq!(caught(|s| budget_of_none(s, 200)), "nothing", "what a pre-test had there is not in motion");
    assert_eq!(caught(|s| budget_of_none(s, 100)), name);
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
