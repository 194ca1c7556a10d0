//! What goes into the ledger, and what is learned from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forefend_decide::Decision;
use forefend_domain::{
    CellId, Effect, EntryKind, LedgerSeq, Prediction, ServiceId, ServiceView, Stage, Weight, World,
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

/// One `Decision` entry per service that has anything, with the predictions of the cells it is about.
pub(crate) fn decisions_by_service(
    world: &World,
    predictions: &BTreeMap<CellId, Prediction>,
    decision: &Decision,
) -> Vec<(Option<ServiceId>, EntryKind)> {
    world
        .services
        .iter()
        .filter_map(|(id, service)| {
            let is_ours = |cell: &CellId| service.cells.contains_key(cell);
            let effects: Vec<Effect> =
                decision.plan.effects.iter().filter(|e| concerns(e, id, service)).cloned().collect();
            let created: BTreeSet<&CellId> = effects
                .iter()
                .filter_map(|e| if let Effect::Create { cell, .. } = e { Some(&cell.id) } else { None })
                .collect();
            let explanations: Vec<_> = decision
                .plan
                .explanations
                .iter()
                .filter(|e| is_ours(&e.cell) || created.contains(&e.cell))
                .cloned()
                .collect();
            if effects.is_empty() && explanations.is_empty() {
                return None;
            }
            let about: Vec<Prediction> = predictions
                .iter()
                .filter(|(cell, _)| {
                    is_ours(cell)
                        && (decision.memory.shifts.contains_key(*cell)
                            || explanations.iter().any(|e| e.cell == **cell))
                })
                .map(|(_, prediction)| prediction.clone())
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
