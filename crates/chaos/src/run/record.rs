//! What is written down while a run goes on, for its report and its labels.

use std::collections::BTreeMap;

use forefend_domain::{Basis, CellId, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Seen, steady::ms};

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// Approval, readiness, steady state.
    Before,
    /// Traffic is moved away.
    Moving,
    /// Faults are in effect, or the region is held empty.
    During,
    /// Traffic goes home.
    Returning,
    /// Everything is undone.
    After,
}

/// What users got in a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Which phase.
    pub phase: PhaseName,
    /// When it began.
    pub from: Timestamp,
    /// When it was last seen.
    pub to: Timestamp,
    /// Requests answered; `None`: not seen.
    pub requests: Option<u64>,
    /// Of those, answered badly; `None`: not seen.
    pub failed: Option<u64>,
    /// The largest share of errors, from 0 to 1; `None`: not seen.
    pub worst_error_share: Option<f64>,
    /// The largest 99th percentile of latency in milliseconds; `None`: not seen.
    pub worst_p99_ms: Option<f64>,
}

/// What was seen of a target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// The first alarm since the beginning: a prediction, not from a prior, at or above the policy's `shift_at`.
    pub first_alarm: Option<Timestamp>,
    /// When it began to break its objective for so long that it failed.
    pub failed_since: Option<Timestamp>,
    /// When its traffic was first read back as wholly away.
    pub emptied: Option<Timestamp>,
    /// Its share of the service's traffic whenever it changed, from 0 to 1; at most 256 of them.
    pub steps: Vec<(Timestamp, f64)>,
}

const MOST_STEPS: usize = 256;

/// The record of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) phases: Vec<PhaseRecord>,
    pub(crate) cells: BTreeMap<CellId, CellRecord>,
    /// The largest lag of data at cells that took traffic over, in seconds, when the traffic was away.
    pub(crate) data_lag_s: Option<f64>,
}

impl Record {
    pub(crate) fn look(
        &mut self,
        phase: PhaseName,
        service: &ServiceId,
        targets: &[CellId],
        began: Option<Timestamp>,
        seen: &Seen<'_>,
        now: Timestamp,
    ) {
        self.phase(phase, service, seen, now);
        let Some(view) = seen.view(service) else { return };
        let alarm_at = view.service.policy.trigger.shift_at;
        for id in targets {
            let record = self.cells.entry(id.clone()).or_default();
            if let Some(effective) = &view.effective {
                let share = effective.share(id);
                let last = record.steps.last().map(|(_, share)| *share);
                if last.is_none_or(|last| (last - share).abs() > 1e-9) && record.steps.len() < MOST_STEPS {
                    record.steps.push((now, share));
                }
                if share == 0.0 && began.is_some() {
                    record.emptied.get_or_insert(now);
                }
            }
            let Some(began) = began else { continue };
            let alarm = seen.predictions.get(id);
            let alarm =
                alarm.filter(|p| p.basis != Basis::Prior && p.probability >= alarm_at && p.at >= began);
            if let Some(alarm) = alarm {
                record.first_alarm.get_or_insert(alarm.at);
            }
            if let Some(forefend_domain::ObjectiveState::Failed { since }) =
                view.cells.get(id).map(|cell| cell.objective)
            {
                record.failed_since.get_or_insert(since);
            }
        }
    }

    fn phase(&mut self, phase: PhaseName, service: &ServiceId, seen: &Seen<'_>, now: Timestamp) {
        if self.phases.last().is_none_or(|last| last.phase != phase) {
            if let Some(last) = self.phases.last_mut() {
                last.to = now;
            }
            self.phases.push(PhaseRecord {
                phase,
                from: now,
                to: now,
                requests: None,
                failed: None,
                worst_error_share: None,
                worst_p99_ms: None,
            });
        }
        let Some(record) = self.phases.last_mut() else { return };
        record.to = now;
        let Some(users) = seen.services.get(service) else { return };
        let add = |sum: &mut Option<u64>, n: Option<u64>| {
            if let Some(n) = n {
                *sum = Some(sum.unwrap_or(0).saturating_add(n));
            }
        };
        let worst = |worst: &mut Option<f64>, x: Option<f64>| {
            if let Some(x) = x {
                *worst = Some(worst.map_or(x, |w| w.max(x)));
            }
        };
        add(&mut record.requests, users.requests);
        add(&mut record.failed, users.failed);
        worst(&mut record.worst_error_share, users.error_share);
        worst(&mut record.worst_p99_ms, users.p99.map(ms));
    }

    /// Notes how far the data of the cells that carry the traffic now are behind.
    pub(crate) fn data_point(&mut self, service: &ServiceId, targets: &[CellId], seen: &Seen<'_>) {
        let Some(view) = seen.view(service) else { return };
        let carrying = view.cells.values().filter(|c| {
            !targets.contains(&c.cell.id)
                && view.effective.as_ref().is_some_and(|e| e.share(&c.cell.id) > view.home.share(&c.cell.id))
        });
        let lag = carrying.filter_map(|c| c.data.lag).max().map(|lag| lag.as_secs_f64());
        self.data_lag_s = match (self.data_lag_s, lag) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (one, other) => one.or(other),
        };
    }
}
