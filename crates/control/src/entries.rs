//! What goes into the ledger, and what is learned from it.

use std::{collections::BTreeMap, time::Duration};

use forefend_decide::Decision;
use forefend_domain::{
    CellId, Effect, EntryKind, Explanation, LedgerSeq, Plan, Prediction, ServiceId, ServiceView, Stage,
    Weight, World,
};

use crate::persisted::Persisted;

/// Whether an effect is one of this service's.
pub(crate) fn concerns(effect: &Effect, id: &ServiceId, service: &ServiceView) -> bool {
    match effect {
        Effect::SetWeights { service, .. } => service == id,
        Effect::Create { cell, .. } => cell.service == *id,
        Effect::Recreate { cell }
        | Effect::Park { cell }
        | Effect::Unpark { cell }
        | Effect::Rewarm { cell }
        | Effect::Retire { cell }
        | Effect::AskApproval { cell } => service.cells.contains_key(cell),
    }
}

/// Effects and explanations by the service that they are of, each in the order of the plan.
pub(crate) struct ByService {
    pub(crate) effects: BTreeMap<ServiceId, Vec<Effect>>,
    explanations: BTreeMap<ServiceId, Vec<Explanation>>,
}

impl ByService {
    /// Goes through the plan once, however many services there are.
    pub(crate) fn of(world: &World, plan: &Plan) -> Self {
        let mut effects: BTreeMap<ServiceId, Vec<Effect>> = BTreeMap::new();
        let mut explanations: BTreeMap<ServiceId, Vec<Explanation>> = BTreeMap::new();
        if plan.is_empty() {
            return Self { effects, explanations };
        }
        let cells = world.services.iter().flat_map(|(id, s)| s.cells.keys().map(move |cell| (cell, id)));
        let mut owners: BTreeMap<&CellId, &ServiceId> = cells.collect();
        for effect in &plan.effects {
            if let Some(service) = owner(effect, &owners) {
                effects.entry(service.clone()).or_default().push(effect.clone());
            }
        }
        // Of cells that are yet to be made there is something to tell too.
        for effect in &plan.effects {
            if let Effect::Create { cell, .. } = effect {
                owners.entry(&cell.id).or_insert(&cell.service);
            }
        }
        for explanation in &plan.explanations {
            if let Some(service) = owners.get(&explanation.cell) {
                explanations.entry((*service).clone()).or_default().push(explanation.clone());
            }
        }
        Self { effects, explanations }
    }
}

fn owner<'a>(effect: &'a Effect, owners: &BTreeMap<&CellId, &'a ServiceId>) -> Option<&'a ServiceId> {
    match effect {
        Effect::SetWeights { service, .. } => Some(service),
        Effect::Create { cell, .. } => Some(&cell.service),
        Effect::Recreate { cell }
        | Effect::Park { cell }
        | Effect::Unpark { cell }
        | Effect::Rewarm { cell }
        | Effect::Retire { cell }
        | Effect::AskApproval { cell } => owners.get(cell).copied(),
    }
}

/// One `Decision` entry per service that has anything, with the predictions of the cells it is about.
pub(crate) fn decisions_by_service(
    world: &World,
    predictions: &BTreeMap<CellId, Prediction>,
    decision: &Decision,
) -> Vec<(Option<ServiceId>, EntryKind)> {
    let ByService { mut effects, mut explanations } = ByService::of(world, &decision.plan);
    world
        .services
        .iter()
        .filter_map(|(id, service)| {
            let effects = effects.remove(id).unwrap_or_default();
            let explanations = explanations.remove(id).unwrap_or_default();
            if effects.is_empty() && explanations.is_empty() {
                return None;
            }
            let is_told = |cell: &CellId| {
                decision.memory.shifts.contains_key(cell) || explanations.iter().any(|e| e.cell == *cell)
            };
            let about: Vec<Prediction> = service
                .cells
                .keys()
                .filter(|cell| is_told(cell))
                .filter_map(|cell| predictions.get(cell).cloned())
                .collect();
            Some((Some(id.clone()), EntryKind::Decision { effects, explanations, predictions: about }))
        })
        .collect()
}

/// Fills in where the ledger tells of shifts that began.
pub(crate) fn remember_where(
    entries: &[(Option<ServiceId>, EntryKind)],
    seqs: &[LedgerSeq],
    kept: &mut Persisted,
) {
    for ((_, kind), seq) in entries.iter().zip(seqs) {
        if let EntryKind::ShiftBegan { cell, .. } = kind
            && let Some(shift) = kept.memory.shifts.get_mut(cell)
        {
            shift.began_seq = Some(*seq);
        }
    }
}

/// Learns how long earning and propagating took from the shifts that moved in this tick.
pub(crate) fn note_lead_times(
    before: &forefend_decide::Memory,
    decision: &Decision,
    lead_times: &mut BTreeMap<ServiceId, forefend_domain::LeadTimeProfile>,
) {
    for (id, shift) in &decision.memory.shifts {
        let was = before.shifts.get(id);
        let profile = lead_times.entry(shift.service.clone()).or_default();
        let done_now = shift.done_at.is_some() && was.is_some_and(|w| w.done_at.is_none());
        if let (true, Some(first), Some(done)) = (done_now, shift.first_moved_at, shift.done_at) {
            profile.record(Stage::Earn, done.since(first));
        }
        // The first weight was asked for when the target rose from zero and counts once it was read back.
        let moved_now = shift.moved > Weight::ZERO && was.is_some_and(|w| w.moved == Weight::ZERO);
        if let (true, Some(asked)) = (moved_now, was.and_then(|w| w.asked_at)) {
            let read_back = shift.first_moved_at.map_or(Duration::ZERO, |at| at.since(asked));
            profile.record(Stage::Propagate, read_back);
        }
    }
}
