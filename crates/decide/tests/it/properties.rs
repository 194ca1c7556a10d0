//! What holds in any world, however little sense it makes.
//!
//! The worlds are wilder than real ones: cells change their life, health, papers and prospects from one look to the
//! next, the data plane falls silent, operators freeze and approve at random.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

use std::{collections::BTreeMap, time::Duration};

use crate::support::{Story, bp, cell, p, passport, per_second, policy, prediction, weights};
use forefend_decide::{
    Decision, Guards, Memory, decide,
    invariants::{self, Case},
};
use forefend_domain::{
    Basis, BlueprintName, CellHealth, CellId, CellRole, CellView, Effect, Evidence, LifeState, Mode,
    ObjectiveState, Policy, Prediction, ReliefPolicy, ServiceWeights, ShiftRequest, Weight, World,
};
use proptest::prelude::*;

/// What is seen of one cell in one look.
#[derive(Debug, Clone)]
struct CellLook {
    life: LifeState,
    parked: bool,
    health: CellHealth,
    /// Which state, and for how many milliseconds.
    objective: (u8, u64),
    telemetry_age_ms: Option<u64>,
    utilisation: Option<f64>,
    foreseen: Option<(f64, Option<u64>, Basis)>,
    done: Option<(u64, f64)>,
    rate: Option<f64>,
    capacity: Option<f64>,
    papers_age_s: Option<u64>,
    gate_open: bool,
}

/// What happens between two looks, and what is seen at the second.
#[derive(Debug, Clone)]
struct Look {
    after_ms: u64,
    cells: Vec<CellLook>,
    frozen: bool,
    /// Whether the data plane applied what it was told last, and whether it answers now.
    applied: bool,
    answers: bool,
    /// Whether cells do at once what is asked of them.
    obeyed: bool,
    approved: Vec<bool>,
    /// How much, for how many milliseconds more (or for good), and whether for a drill.
    requested: Vec<Option<(u32, Option<u64>, bool)>>,
}

fn often<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    others: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    prop_oneof![6 => Just(usual), 2 => others].boxed()
}

fn cell_look() -> impl Strategy<Value = CellLook> {
    let life = often(
        LifeState::Serving,
        prop::sample::select(vec![
            LifeState::Planned,
            LifeState::Creating,
            LifeState::Warming,
            LifeState::Idle,
            LifeState::Canary,
            LifeState::Draining,
            LifeState::Failed,
            LifeState::Retired,
        ]),
    );
    let health = often(CellHealth::Up, prop::sample::select(vec![CellHealth::Down, CellHealth::Unknown]));
    let basis = prop::sample::select(vec![Basis::Prior, Basis::FirstPassage, Basis::Calibrated]);
    let foreseen =
        prop::option::of((prop_oneof![Just(0.001), 0.0..1.0], prop::option::of(0u64..20_000), basis));
    (
        (life, often(false, any::<bool>()), health, (0u8..5, 0u64..20_000)),
        (often(Some(0), prop::option::of(0u64..5_000)), prop::option::of(0.0f64..1.5), foreseen),
        (
            often(Some((500, 0.0)), prop::option::of((0u64..5_000, 0.0..1.0))),
            often(Some(300.0), prop::option::of(0.0..3_000.0)),
            often(None, prop::option::of(0.0..3_000.0)),
        ),
        (often(Some(1), prop::option::of(0u64..200)), often(true, any::<bool>())),
    )
        .prop_map(
            |(
                (life, parked, health, objective),
                (telemetry_age_ms, utilisation, foreseen),
                (done, rate, capacity),
                (papers_age_s, gate_open),
            )| CellLook {
                life,
                parked,
                health,
                objective,
                telemetry_age_ms,
                utilisation,
                foreseen,
                done,
                rate,
                capacity,
                papers_age_s,
                gate_open,
            },
        )
}

fn request() -> impl Strategy<Value = (u32, Option<u64>, bool)> {
    (0u32..=10_000, prop::option::of(0u64..2_000), any::<bool>())
}

fn look() -> impl Strategy<Value = Look> {
    (
        // No two ticks are at the same instant.
        1u64..4_000,
        prop::collection::vec(cell_look(), 6),
        (prop::bool::weighted(0.1), Just(true), prop::bool::weighted(0.9), any::<bool>()),
        prop::collection::vec(any::<bool>(), 6),
        prop::collection::vec(prop_oneof![5 => Just(None), 1 => request().prop_map(Some)], 6),
    )
        .prop_map(|(after_ms, cells, (frozen, applied, answers, obeyed), approved, requested)| Look {
            after_ms,
            cells,
            frozen,
            applied,
            answers,
            obeyed,
            approved,
            requested,
        })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (
        prop::sample::select(vec![Mode::Auto, Mode::Auto, Mode::Auto, Mode::Approve, Mode::Observe]),
        (1u32..3, 1u32..1_500, 0.001f64..0.1),
        (0u32..4, 0u32..3, any::<bool>(), any::<bool>(), any::<bool>()),
        (0u32..4, 0u32..=10_000, 0.0f64..0.9),
        (1u32..10_000, 0u64..5_000, 0u64..10_000),
        (0u32..=1_000, 0.0f64..0.6),
    )
        .prop_map(
            |(mode, (hits, first, harm), (max, min, freeze, relief, declared), budgets, give_back, tests)| {
                let mut policy = policy();
                policy.mode = mode;
                policy.trigger.hits = hits;
                policy.trigger.of_ticks = hits + 1;
                policy.canary.first = bp(first);
                policy.canary.steps = vec![bp(2_500), bp(5_000), Weight::FULL];
                policy.canary.tolerated_harm = harm;
                (policy.standby.max, policy.standby.min) = (max, min.min(max));
                policy.standby.freeze_when_idle = freeze;
                policy.standby.retire_after = Duration::from_secs(10);
                policy.standby.passport_valid_for = Duration::from_secs(100);
                policy.relief = relief.then(|| ReliefPolicy { above: 0.85, below: 0.6, at_most: bp(3_000) });
                policy.capacity_per_cell = declared.then(|| per_second(1_500.0));
                policy.budgets.max_cells_in_motion = budgets.0;
                policy.budgets.max_weight_in_motion = bp(budgets.1);
                policy.budgets.headroom = budgets.2;
                policy.give_back.bp_per_second = give_back.0;
                policy.give_back.healthy_for = Duration::from_millis(give_back.1);
                policy.budgets.refractory = Duration::from_millis(give_back.2);
                (policy.pre_test.cap, policy.pre_test.from) = (bp(tests.0), p(tests.1));
                policy.check().expect("drawn policies are legal");
                policy
            },
        )
}

/// A world that looks happen to.
struct Wild {
    world: World,
    memory: Memory,
    applied: ServiceWeights,
    /// What the data plane was told last.
    told: Option<ServiceWeights>,
    predictions: BTreeMap<CellId, Prediction>,
}

impl Wild {
    fn new(policy: Policy, shares: [f64; 4], managed: bool) -> Self {
        let mut story = Story::begin()
            .with_standby("spare-2", "south", "south-b")
            .with_cell("second-1", "north", "north-b", CellRole::Secondary)
            .with_cell("second-2", "south", "south-a", CellRole::Secondary);
        *story.service() = {
            let mut service = story.service().clone();
            service.service.policy = policy;
            if managed {
                for cell in service.cells.values_mut() {
                    cell.cell.blueprint = Some(BlueprintName::new("shop").unwrap());
                }
            }
            service
        };
        let names = ["north", "south", "second-1", "second-2"];
        let home: Vec<(&str, f64)> = names.into_iter().zip(shares).collect();
        let applied = weights(&story.service().cells, &home);
        story.service().home = applied.clone();
        Self {
            world: story.world,
            memory: Memory::default(),
            applied,
            told: None,
            predictions: BTreeMap::new(),
        }
    }

    fn suffer(&mut self, look: &Look) {
        self.world.now = self.world.now + Duration::from_millis(look.after_ms);
        let now = self.world.now;
        if look.applied
            && let Some(told) = self.told.take()
        {
            self.applied = told;
        }
        self.world.frozen = look.frozen;
        self.predictions.clear();
        self.world.approved.clear();
        self.world.requested.clear();
        let service = self.world.services.get_mut("shop").unwrap();
        service.effective = look.answers.then(|| self.applied.clone());
        for (i, (id, view)) in service.cells.iter_mut().enumerate() {
            let seen = &look.cells[i % look.cells.len()];
            see(view, seen, now);
            if let Some((probability, p10_ms, basis)) = seen.foreseen {
                let p10 = p10_ms.map(Duration::from_millis);
                self.predictions.insert(id.clone(), prediction(id, now, probability, p10, basis));
            }
            if look.approved[i % look.approved.len()] {
                self.world.approved.insert(id.clone());
            }
            if let Some((weight, left_ms, drill)) = look.requested[i % look.requested.len()] {
                let until = left_ms.map(|ms| now + Duration::from_millis(ms));
                self.world.requested.insert(id.clone(), ShiftRequest { weight: bp(weight), until, drill });
            }
        }
    }

    fn decide(&self) -> Decision {
        decide(&self.world, &self.predictions, &self.memory, Guards::ALL)
    }

    fn check(&self, decision: &Decision) -> Result<(), TestCaseError> {
        let case = Case {
            world: &self.world,
            predictions: &self.predictions,
            plan: &decision.plan,
            memory: &decision.memory,
        };
        invariants::check_all(case).map_err(|v| {
            TestCaseError::fail(format!("{v:?}\nplan {:#?}\nmemory {:#?}", decision.plan, decision.memory))
        })
    }

    /// What the plan asks for, except what the data plane applies.
    fn obey(&mut self, decision: &Decision) {
        let now = self.world.now;
        let service = self.world.services.get_mut("shop").unwrap();
        for effect in &decision.plan.effects {
            match effect {
                Effect::SetWeights { weights, .. } => self.told = Some(weights.clone()),
                Effect::Create { cell: wanted, .. } => {
                    let view = service.cells.entry(wanted.id.clone()).or_insert_with(|| {
                        let mut made =
                            cell(wanted.id.as_str(), wanted.region.as_str(), "x", wanted.role, now);
                        made.cell = wanted.clone();
                        made
                    });
                    view.life = LifeState::Creating;
                }
                Effect::Recreate { cell } => service.cells.get_mut(cell).unwrap().life = LifeState::Creating,
                Effect::Park { cell } => service.cells.get_mut(cell).unwrap().parked = true,
                Effect::Unpark { cell } => service.cells.get_mut(cell).unwrap().parked = false,
                Effect::Rewarm { cell } => {
                    let cell = service.cells.get_mut(cell).unwrap();
                    (cell.life, cell.passport) = (LifeState::Idle, Some(passport(now)));
                }
                Effect::Retire { cell } => {
                    service.cells.remove(cell);
                }
                Effect::AskApproval { .. } => {}
            }
        }
    }
}

fn see(view: &mut CellView, seen: &CellLook, now: forefend_domain::Timestamp) {
    let ago = |ms: u64| now - Duration::from_millis(ms);
    let since = ago(seen.objective.1);
    view.life = seen.life;
    view.parked = seen.parked;
    view.health = seen.health;
    view.objective = match seen.objective.0 {
        0 => ObjectiveState::Unknown,
        1 => ObjectiveState::Breaking { since },
        2 => ObjectiveState::Failed { since },
        _ => ObjectiveState::Met { since },
    };
    view.telemetry_at = seen.telemetry_age_ms.map(ago);
    view.utilisation = seen.utilisation;
    view.capacity = seen.capacity.map(per_second);
    view.traffic.rate = seen.rate.map(per_second);
    view.traffic.in_flight = Some(0);
    view.traffic.since_last =
        seen.done.map(|(n, share)| Evidence { requests: n, bad: (n as f64 * share) as u64 });
    if view.cell.role == CellRole::Synthetic {
        view.passport = seen.papers_age_s.map(|s| {
            let mut papers = passport(ago(s * 1_000));
            // Every other paper says nothing of what the cell can carry.
            papers.measured_capacity = papers.measured_capacity.filter(|_| s % 2 == 1);
            papers
        });
    }
    view.data.open = seen.gate_open;
}

fn shares() -> impl Strategy<Value = [f64; 4]> {
    let zero_or = |range: std::ops::Range<f64>| prop_oneof![Just(0.0), range];
    (0.1f64..1.0, 0.1f64..1.0, zero_or(0.05..1.0), zero_or(0.05..1.0)).prop_map(|(a, b, c, d)| [a, b, c, d])
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_world_brings_about_a_plan_that_breaks_an_invariant(
        policy in any_policy(), shares in shares(), managed in any::<bool>(),
        looks in prop::collection::vec(look(), 1..30),
    ) {
        let mut wild = Wild::new(policy, shares, managed);
        for look in &looks {
            wild.suffer(look);
            let decision = wild.decide();
            wild.check(&decision)?;
            prop_assert_eq!(&decision, &wild.decide(), "the same arguments give the same decision");
            wild.memory = decision.memory.clone();
            if look.obeyed {
                wild.obey(&decision);
            } else if let Some(Effect::SetWeights { weights, .. }) =
                decision.plan.effects.iter().find(|e| matches!(e, Effect::SetWeights { .. }))
            {
                wild.told = Some(weights.clone());
            }
        }
    }

    #[test]
    fn when_plans_come_about_the_asking_ends(
        policy in any_policy(), shares in shares(), managed in any::<bool>(),
        looks in prop::collection::vec(look(), 1..15),
    ) {
        let mut wild = Wild::new(policy, shares, managed);
        for look in &looks {
            wild.suffer(look);
            let decision = wild.decide();
            wild.memory = decision.memory.clone();
            wild.obey(&decision);
        }
        // From here on nothing new happens, and what is asked for comes about at once.
        let service = wild.world.services.get_mut("shop").unwrap();
        service.cells.values_mut().for_each(|c| c.traffic.since_last = Some(Evidence::default()));
        let mut rounds = 0;
        loop {
            if let Some(told) = wild.told.take() {
                wild.applied = told;
            }
            let service = wild.world.services.get_mut("shop").unwrap();
            service.effective = Some(wild.applied.clone());
            let decision = wild.decide();
            wild.check(&decision)?;
            wild.memory = decision.memory.clone();
            if !decision.plan.effects.iter().any(|e| asks_for_more(e, &wild.applied)) {
                break;
            }
            rounds += 1;
            prop_assert!(rounds <= ROUNDS, "still asks for {:?}", decision.plan.effects);
            wild.obey(&decision);
        }
    }
}

/// Readying one standby at a time, a plan may need a few rounds; a controller that chases itself needs ever more.
const ROUNDS: u32 = 6;

/// Whether an effect is more than the rounding of both levels of weights.
fn asks_for_more(effect: &Effect, applied: &ServiceWeights) -> bool {
    let Effect::SetWeights { weights, .. } = effect else { return true };
    let (new, old) = (weights.shares(), applied.shares());
    new.keys().chain(old.keys()).any(|(_, cell)| (weights.share(cell) - applied.share(cell)).abs() > 0.000_3)
}

#[test]
fn a_world_without_services_is_no_trouble() {
    let mut story = Story::begin();
    story.world.services.clear();
    let decision = decide(&story.world, &BTreeMap::new(), &Memory::default(), Guards::ALL);
    assert_eq!(decision, Decision::default());
}
