use std::collections::BTreeMap;

use forefend_domain::{Basis, CellId, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    InjectionState, Refusal, Seen,
    ready::capacity_refusals,
    steady::{Breach, Measure, ms},
};
use crate::experiment::Experiment;

/// Why a run ended before its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Stop {
    /// A stop condition.
    #[error("{breach}")]
    Objective {
        /// Which.
        breach: Breach,
    },
    /// A cell that is no target is about to fail.
    #[error("cell `{cell}`, no target, fails soon with probability {:.0}%", probability * 100.0)]
    Alarm {
        /// Which.
        cell: CellId,
        /// From 0 to 1.
        probability: f64,
    },
    /// What happens can't be seen any more.
    #[error("nothing fresh was seen of `{service}` for {for_s} s")]
    Blind {
        /// Which service.
        service: ServiceId,
        /// Seconds.
        for_s: u64,
    },
    /// The one switch.
    #[error("everything was frozen")]
    Frozen,
    /// A block window began.
    #[error("a block window began{}", if why.is_empty() { String::new() } else { format!(" ({why})") })]
    Blocked {
        /// What for.
        why: String,
    },
    /// Somebody said so.
    #[error("{by} asked for it")]
    Asked {
        /// Who.
        by: String,
    },
    /// A fault could not be injected.
    #[error("the fault could not be done to `{cell}`: {why}")]
    NotInjected {
        /// To which cell.
        cell: CellId,
        /// Why, in words.
        why: String,
    },
    /// What is left could not carry the traffic any more.
    #[error("the remaining cells can't be trusted to carry the traffic: {why}")]
    Capacity {
        /// Why, in words.
        why: String,
    },
    /// Traffic was not moved in time.
    #[error("the traffic of `{cell}` was not away in time")]
    TooSlow {
        /// Whose.
        cell: CellId,
    },
    /// Traffic came back while the region was to be empty.
    #[error("`{cell}` got traffic while it was to be empty")]
    NotEmpty {
        /// Which.
        cell: CellId,
    },
}

/// When each watched service was last seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sight(BTreeMap<ServiceId, Timestamp>);

impl Sight {
    /// Notes what is seen now; a service never seen counts as seen when the looking began.
    pub(crate) fn look(
        &mut self,
        experiment: &Experiment,
        targets: &[CellId],
        seen: &Seen<'_>,
        now: Timestamp,
    ) {
        for service in experiment.steady_state().into_keys() {
            let fresh = seen.fresh_at(&service, targets);
            let last = self.0.entry(service).or_insert(now);
            // No later than now: a source whose clock is ahead must not look fresh for long.
            *last = (*last).max(fresh.unwrap_or(*last).min(now));
        }
    }
}

/// What ends the run now, if anything does.
pub(crate) fn stop_now(
    experiment: &Experiment,
    targets: &[CellId],
    sight: &Sight,
    seen: &Seen<'_>,
    now: Timestamp,
) -> Option<Stop> {
    if let Some(by) = seen.end_asked_by {
        return Some(Stop::Asked { by: by.to_owned() });
    }
    if seen.world.frozen {
        return Some(Stop::Frozen);
    }
    if let Some(window) = experiment.block_windows.iter().find(|window| window.blocks(now)) {
        return Some(Stop::Blocked { why: window.why.clone() });
    }
    for (id, state) in seen.injections {
        if let InjectionState::Refused { why } = state {
            return Some(Stop::NotInjected { cell: id.cell.clone(), why: why.clone() });
        }
    }
    let limits = &experiment.stop_conditions;
    for service in experiment.steady_state().keys() {
        let unseen = now.since(sight.0.get(service).copied().unwrap_or(now));
        if unseen > limits.blind_for {
            return Some(Stop::Blind { service: service.clone(), for_s: unseen.as_secs() });
        }
        if let Some(breach) = broken(experiment, service, targets, seen, now) {
            return Some(Stop::Objective { breach });
        }
        let Some(view) = seen.view(service) else { continue };
        for cell in view.cells.keys().filter(|cell| !targets.contains(cell)) {
            // A prior rests on nothing that was seen; it is no alarm.
            let alarm = seen.predictions.get(cell).filter(|p| p.basis != Basis::Prior);
            if let Some(p) = alarm.filter(|p| p.probability >= limits.alarm_at) {
                return Some(Stop::Alarm { cell: cell.clone(), probability: p.probability.get() });
            }
        }
    }
    if experiment.is_drill() && experiment.guard_rails.capacity {
        // What is unknown for a moment is a matter of the lost view; only what is known to be short ends it at once.
        let short = capacity_refusals(experiment.service(), targets, seen, now)
            .into_iter()
            .find(|refusal| matches!(refusal, Refusal::CapacityShort { .. }));
        return short.map(|refusal| Stop::Capacity { why: refusal.to_string() });
    }
    None
}

fn broken(
    experiment: &Experiment,
    service: &ServiceId,
    targets: &[CellId],
    seen: &Seen<'_>,
    now: Timestamp,
) -> Option<Breach> {
    let limits = &experiment.stop_conditions;
    let breach =
        |measure, seen, limit| Breach { service: service.clone(), measure, seen: Some(seen), limit, at: now };
    if let Some(users) = seen.services.get(service) {
        if let Some(share) = users.error_share.filter(|share| *share > limits.error_share.get()) {
            return Some(breach(Measure::ErrorShare, share, limits.error_share.get()));
        }
        if let (Some(p99), Some(limit)) = (users.p99, limits.p99)
            && p99 > limit
        {
            return Some(breach(Measure::P99Ms, ms(p99), ms(limit)));
        }
    }
    let others = seen.view(service)?.cells.values().filter(|c| !targets.contains(&c.cell.id));
    let failed = others.filter(|c| c.objective.is_failed()).count();
    let allowed = limits.failed_cells as usize;
    (failed > allowed).then(|| breach(Measure::FailedCells, failed as f64, allowed as f64))
}
