use std::collections::BTreeMap;

use forefend_domain::{
    CellId, CellView, Effect, EntryKind, Explanation, LifeState, Mode, Plan, Prediction, ServiceId,
    ServiceView, ShiftReason, TriggerPolicy, Weight, World,
};

use crate::{Guards, Memory, ShiftMemory, cell, pre_test, race::race, shift, standby, weigh};

/// What was decided in one tick.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// What shall be done.
    pub plan: Plan,
    /// What must be remembered. Stored in the same transaction as the ledger's entries.
    pub memory: Memory,
    /// What happened, for the ledger, beside the decision itself.
    pub events: Vec<(ServiceId, EntryKind)>,
}

impl Decision {
    pub(crate) fn explain(&mut self, cell: &CellId, what: &str, why: impl Into<String>) {
        self.plan.explanations.push(Explanation {
            cell: cell.clone(),
            what: what.to_owned(),
            why: why.into(),
        });
    }

    /// Adds what was decided of a service.
    fn take(&mut self, own: Self) {
        let Self { plan, memory, events } = own;
        self.plan.effects.extend(plan.effects);
        self.plan.explanations.extend(plan.explanations);
        self.plan.race_margin_s.extend(plan.race_margin_s);
        self.events.extend(events);
        self.memory.cells.extend(memory.cells);
        self.memory.shifts.extend(memory.shifts);
        self.memory.pre_tests.extend(memory.pre_tests);
        self.memory.asked.extend(memory.asked);
    }
}

/// Everything that the rules of one service look at.
pub(crate) struct Scene<'a> {
    pub(crate) world: &'a World,
    pub(crate) service: &'a ServiceView,
    /// Only predictions that rest on fresh telemetry.
    pub(crate) predictions: &'a BTreeMap<CellId, &'a Prediction>,
    pub(crate) guards: Guards,
}

impl Scene<'_> {
    pub(crate) fn policy(&self) -> &forefend_domain::Policy {
        &self.service.service.policy
    }

    pub(crate) fn home_share(&self, cell: &CellId) -> f64 {
        self.service.home.share(cell)
    }

    /// Cells of the service with traffic of their own in normal times.
    pub(crate) fn home_cells(&self) -> impl Iterator<Item = &CellView> {
        self.service.cells.values().filter(|c| self.home_share(&c.cell.id) > 0.0)
    }

    pub(crate) fn has_failed(&self, cell: &CellView) -> bool {
        cell.objective.is_failed() || cell.life == LifeState::Failed
    }
}

/// Decides what shall be done now.
///
/// Pure: the same arguments give the same decision. Deciding again on a world in which the plan has come about asks for
/// nothing more.
#[must_use]
pub fn decide(
    world: &World,
    predictions: &BTreeMap<CellId, Prediction>,
    memory: &Memory,
    guards: Guards,
) -> Decision {
    let mut decision = Decision::default();
    for service in world.services.values() {
        // Services share no cells: each is decided on with what is remembered of its own, so that a fleet of ten times as many costs ten
        // times as much and not a hundred.
        let mut own = Decision { memory: memory.of_cells(service), ..Decision::default() };
        let fresh: BTreeMap<CellId, &Prediction> = service
            .cells
            .values()
            .filter(|c| cell::telemetry_is_fresh(c, &service.service.policy, world.now))
            .filter_map(|c| predictions.get(&c.cell.id).map(|p| (c.cell.id.clone(), p)))
            .collect();
        let scene = Scene { world, service, predictions: &fresh, guards };
        remember(&scene, &mut own);
        open_shifts(&scene, &mut own);
        weigh::weigh(&scene, &mut own);
        standby::tend(&scene, &mut own);
        decision.take(own);
    }
    if world.frozen && guards.freeze {
        decision.plan.effects.clear();
    }
    decision
}

/// Carries hysteresis on: how often the trigger held, since when a cell is well, which failures are known.
fn remember(scene: &Scene<'_>, decision: &mut Decision) {
    let (now, policy) = (scene.world.now, scene.policy());
    for cell in scene.service.cells.values() {
        let id = &cell.cell.id;
        let prediction = scene.predictions.get(id);
        let mut mem = decision.memory.cells.get(id).cloned().unwrap_or_default();
        if let Some(prediction) = prediction {
            // Most failures are beyond what the model speaks for: there is no race then, and nobody asks who could stand in.
            let race = prediction.time_to_failure.p10.map(|_| {
                let mirror_ready = standby::has_ready_mirror(scene, &decision.memory, cell);
                race(prediction, policy, &scene.service.lead_times, mirror_ready)
            });
            if let Some(margin) = race.and_then(|race| race.margin_s) {
                decision.plan.race_margin_s.insert(id.clone(), margin);
            }
            let hit = is_likely_enough(prediction, &policy.trigger)
                && prediction.basis != forefend_domain::Basis::Prior
                && race.is_some_and(|race| race.is_due());
            mem.hits = mem.hits << 1 | u64::from(hit);
        }
        let well = prediction.is_some_and(|p| p.probability < policy.trigger.clear_below)
            && matches!(cell.objective, forefend_domain::ObjectiveState::Met { .. })
            && cell.health != forefend_domain::CellHealth::Down
            && cell.life != LifeState::Failed;
        mem.well_since = if well { mem.well_since.or(Some(now)) } else { None };
        if is_well_again(scene, mem.well_since) {
            mem.recreations = 0;
        }
        let blind = prediction.is_none() && scene.home_share(id) > 0.0 && cell.life != LifeState::Failed;
        if blind && !mem.held && decision.memory.cells.contains_key(id) {
            decision.explain(
                id,
                "held-stale",
                "no fresh telemetry: neither health nor failure is concluded from that",
            );
        }
        mem.held = blind;
        // A dead process is a failure at once; otherwise the objective must have been broken for as long as the policy
        // says. One failure is one entry, until the cell was well again.
        if let Some(since) = failed_since(scene, cell) {
            if !mem.failure_noted {
                mem.failure_noted = true;
                let done = decision.memory.shifts.get(id).and_then(|shift| shift.done_at);
                let lead_time_s = done.map(|done| (since.unix_ms() as f64 - done.unix_ms() as f64) / 1000.0);
                decision.events.push((
                    scene.service.service.id.clone(),
                    EntryKind::Failure { cell: id.clone(), since, lead_time_s },
                ));
                if let Some(shift) = decision.memory.shifts.get_mut(id) {
                    shift.failed_since.get_or_insert(since);
                }
            }
        } else if well {
            mem.failure_noted = false;
        }
        decision.memory.cells.insert(id.clone(), mem);
    }
}

/// Since when the cell has failed, if it has.
fn failed_since(scene: &Scene<'_>, cell: &CellView) -> Option<forefend_domain::Timestamp> {
    match cell.objective {
        forefend_domain::ObjectiveState::Failed { since } => Some(since),
        forefend_domain::ObjectiveState::Breaking { since } if cell.life == LifeState::Failed => Some(since),
        _ if cell.life == LifeState::Failed => Some(scene.world.now),
        _ => None,
    }
}

pub(crate) fn is_well_again(scene: &Scene<'_>, well_since: Option<forefend_domain::Timestamp>) -> bool {
    well_since.is_some_and(|since| scene.world.now.since(since) >= scene.policy().give_back.healthy_for)
}

/// Whether it is likely enough to act on.
fn is_likely_enough(prediction: &Prediction, trigger: &TriggerPolicy) -> bool {
    let exceeds = prediction.exceeds && trigger.exceeding_at.is_some_and(|at| prediction.probability >= at);
    exceeds || prediction.probability >= trigger.shift_at
}

/// Whether the trigger of the policy holds: in `hits` of the last `of_ticks` predictions.
pub(crate) fn trigger_holds(scene: &Scene<'_>, memory: &Memory, cell: &CellId) -> bool {
    let trigger = &scene.policy().trigger;
    let window = if trigger.of_ticks >= 64 { u64::MAX } else { (1u64 << trigger.of_ticks) - 1 };
    memory.cells.get(cell).is_some_and(|mem| (mem.hits & window).count_ones() >= trigger.hits)
}

/// Begins shifts that are called for, and raises running ones when their cell has failed.
fn open_shifts(scene: &Scene<'_>, decision: &mut Decision) {
    let (now, policy) = (scene.world.now, scene.policy());
    for cell in scene.home_cells() {
        let id = &cell.cell.id;
        let resting =
            decision.memory.cells.get(id).and_then(|m| m.refractory_until).is_some_and(|until| now < until);
        // Hits are remembered; what is begun on them must rest on something that is foreseen now.
        let grounded = scene.predictions.get(id).is_some_and(|p| p.basis != forefend_domain::Basis::Prior);
        // What a cell carries for others leaves it first; then how much of its own traffic is where can be seen.
        let carries = decision.memory.shifts.iter().any(|(from, s)| from != id && s.carriers.contains(id));
        let reason = if scene.has_failed(cell) {
            Some(ShiftReason::Failed)
        } else if carries && !decision.memory.shifts.contains_key(id) {
            None
        } else if let Some(request) = scene.world.request(id).filter(|r| r.weight > Weight::ZERO) {
            Some(request.reason())
        } else if grounded && trigger_holds(scene, &decision.memory, id) && !resting {
            Some(ShiftReason::Predicted)
        } else if shift::needs_relief(scene, cell) && !resting {
            Some(ShiftReason::Relief)
        } else {
            None
        };
        let Some(reason) = reason else {
            decision.memory.asked.remove(id);
            continue;
        };
        if let Some(running) = decision.memory.shifts.get_mut(id) {
            if is_allowed(scene, id, reason) {
                raise(running, reason, id, &mut decision.plan);
            }
            continue;
        }
        if scene.world.frozen && scene.guards.freeze {
            continue;
        }
        if !is_allowed(scene, id, reason) {
            if decision.memory.asked.insert(id.clone()) {
                if policy.mode == Mode::Approve {
                    decision.explain(id, "approval-asked", why(scene, cell, reason));
                    decision.plan.effects.push(Effect::AskApproval { cell: id.clone() });
                } else {
                    decision.explain(id, "would-shift", why(scene, cell, reason));
                }
            }
            continue;
        }
        let mut begun = ShiftMemory::new(scene.service.service.id.clone(), reason, now);
        begun.failed_since = failed_since(scene, cell);
        pre_test::hand_over(id, &mut begun, decision);
        decision.memory.shifts.insert(id.clone(), begun);
        decision.explain(id, "shift-begins", why(scene, cell, reason));
        decision
            .events
            .push((scene.service.service.id.clone(), EntryKind::ShiftBegan { cell: id.clone(), reason }));
    }
}

/// Whether the service's mode lets a shift of this kind go on by itself.
fn is_allowed(scene: &Scene<'_>, id: &CellId, reason: ShiftReason) -> bool {
    match (scene.policy().mode, reason) {
        (_, ShiftReason::Operator | ShiftReason::Drill)
        | (Mode::Auto, _)
        | (Mode::Approve, ShiftReason::Failed) => true,
        (Mode::Approve, ShiftReason::Predicted | ShiftReason::Relief) => scene.world.approved.contains(id),
        (Mode::Observe, ShiftReason::Predicted | ShiftReason::Relief | ShiftReason::Failed) => false,
    }
}

/// A running shift whose cell calls again: a failure turns any shift into a failover; a trigger during the way home turns it round.
fn raise(running: &mut ShiftMemory, reason: ShiftReason, id: &CellId, plan: &mut Plan) {
    let mut say = |what: &str, why: &str| {
        plan.explanations.push(Explanation { cell: id.clone(), what: what.to_owned(), why: why.to_owned() });
    };
    if reason == ShiftReason::Failed && running.reason != ShiftReason::Failed {
        running.reason = ShiftReason::Failed;
        running.outbound = true;
        say("failover-completes", "the cell has failed: the rest of its traffic moves at once");
    } else if !running.outbound && matches!(reason, ShiftReason::Failed | ShiftReason::Predicted) {
        running.reason = reason;
        running.outbound = true;
        say("return-stopped", "the cell is in trouble again while its traffic was going home");
    } else if reason == ShiftReason::Operator && running.reason == ShiftReason::Drill {
        running.reason = reason;
        say(
            "drill-taken-over",
            "an operator wants the traffic of the cell away, whatever becomes of the drill",
        );
    }
}

pub(crate) fn why(scene: &Scene<'_>, cell: &CellView, reason: ShiftReason) -> String {
    match reason {
        ShiftReason::Failed => "the cell broke its objective for as long as the policy tolerates".to_owned(),
        ShiftReason::Operator => "an operator asked for it".to_owned(),
        ShiftReason::Drill => "a drill asked for it".to_owned(),
        ShiftReason::Relief => {
            format!("utilisation is {:.0}%", cell.utilisation.unwrap_or(f64::NAN) * 100.0)
        }
        ShiftReason::Predicted => match scene.predictions.get(&cell.cell.id) {
            Some(p) => {
                let seconds = |t: Option<std::time::Duration>| {
                    t.map_or_else(|| "beyond the horizon".to_owned(), |t| format!("{:.1} s", t.as_secs_f64()))
                };
                let driver =
                    p.drivers.first().map_or_else(String::new, |d| format!("; {}: {}", d.metric, d.detail));
                format!(
                    "P(fail within {:.0} s) = {:.2}, p10 of time to failure {}{driver}",
                    p.horizon.as_secs_f64(),
                    p.probability.get(),
                    seconds(p.time_to_failure.p10),
                )
            }
            None => "the trigger held in enough of the last ticks".to_owned(),
        },
    }
}
