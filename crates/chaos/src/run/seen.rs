use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forefend_domain::{
    CellHealth, CellId, CellRole, CellView, LifeState, ObjectiveState, Prediction, Rate, ServiceId,
    ServiceView, Timestamp, World,
};
use serde::{Deserialize, Serialize};

/// What a run sees in one step. What was not seen is absent, never zero.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The world as last seen.
    pub world: &'a World,
    /// What is foreseen, by cell.
    pub predictions: &'a BTreeMap<CellId, Prediction>,
    /// What users of each service get; [`ServiceSeen::of`] makes it from the world.
    pub services: &'a BTreeMap<ServiceId, ServiceSeen>,
    /// Cells whose traffic is being moved, is away, or is coming back, whoever decided it.
    pub shifting: &'a BTreeSet<CellId>,
    /// Other runs that go on or have ended.
    pub others: &'a [OtherRun],
    /// Who has approved this run.
    pub approvals: &'a BTreeSet<String>,
    /// What the injector says of this run's injections; what it does not name is not in effect.
    pub injections: &'a BTreeMap<InjectionId, InjectionState>,
    /// Who asked that it end now.
    pub end_asked_by: Option<&'a str>,
}

/// What users of a service get.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceSeen {
    /// When the data plane last reported; `None`: never.
    pub at: Option<Timestamp>,
    /// The share of answers that were errors, from 0 to 1, in the last interval.
    pub error_share: Option<f64>,
    /// 99th percentile of latency in the last interval.
    pub p99: Option<Duration>,
    /// Requests per second.
    pub rate: Option<Rate>,
    /// Requests answered since the step before.
    pub requests: Option<u64>,
    /// Of those, answered badly: errors and, where the source tells them together, answers over the latency objective.
    pub failed: Option<u64>,
}

impl ServiceSeen {
    /// From what the world shows of its cells. The p99 is that of the worst cell: never too good.
    #[must_use]
    pub fn of(view: &ServiceView, now: Timestamp) -> Self {
        let Some(effective) = &view.effective else { return Self::default() };
        let carrying: Vec<&CellView> = view
            .cells
            .values()
            .filter(|c| effective.share(&c.cell.id) > 0.0 || c.traffic.rate.is_some())
            .collect();
        let rates: Option<Vec<f64>> = carrying.iter().map(|c| c.traffic.rate.map(Rate::get)).collect();
        let total = rates.filter(|rates| !rates.is_empty()).map(|rates| rates.iter().sum::<f64>());
        // A cell with a small share of the traffic may have ended no request in an interval: that says nothing of errors, and
        // the others speak for the service.
        let answered = carrying.iter().filter_map(|c| Some((c.traffic.rate?.get(), c.traffic.error_share?)));
        let (ended, bad) =
            answered.fold((0.0, 0.0), |(ended, bad), (rate, share)| (ended + rate, bad + share * rate));
        let counts: Vec<_> = view.cells.values().filter_map(|c| c.traffic.since_last).collect();
        Self {
            at: Some(now),
            error_share: (total.is_some() && ended > 0.0).then(|| bad / ended),
            p99: carrying.iter().filter_map(|c| c.traffic.p99).max(),
            rate: total.and_then(|total| Rate::per_second(total).ok()),
            requests: (!counts.is_empty()).then(|| counts.iter().map(|c| c.requests).sum()),
            failed: (!counts.is_empty()).then(|| counts.iter().map(|c| c.bad).sum()),
        }
    }
}

/// Another experiment or drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherRun {
    /// Its id.
    pub id: String,
    /// The service that it is done to.
    pub service: ServiceId,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; `None`: it goes on.
    pub ended: Option<Timestamp>,
}

/// One fault of a run at one cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InjectionId {
    /// The place of the fault in the experiment's list, from 0.
    pub fault: usize,
    /// The cell.
    pub cell: CellId,
}

/// What the injector says of an injection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum InjectionState {
    /// It is in effect, in part or wholly, or not wholly undone.
    Active,
    /// It could not be done; nothing of it is in effect.
    Refused {
        /// Why, in words.
        why: String,
    },
}

impl<'a> Seen<'a> {
    pub(crate) fn view(&self, service: &ServiceId) -> Option<&'a ServiceView> {
        self.world.services.get(service)
    }

    /// When the service was last really seen: the data plane reported, and so did telemetry of a cell that is no target.
    pub(crate) fn fresh_at(&self, service: &ServiceId, targets: &[CellId]) -> Option<Timestamp> {
        let view = self.view(service)?;
        let reported = self.services.get(service)?.at?.min(self.world.now);
        // A target may well fall silent: that is what is tried.
        let others = view.cells.values().filter(|c| !targets.contains(&c.cell.id));
        match others.filter_map(|c| c.telemetry_at).max() {
            Some(heard) => Some(reported.min(heard)),
            None => Some(reported),
        }
    }

    /// The share of the cell's home traffic that is away, from 0 to 1; `None` when the data plane did not say.
    pub(crate) fn away(&self, service: &ServiceId, cell: &CellId) -> Option<f64> {
        let view = self.view(service)?;
        let (home, now) = (view.home.share(cell), view.effective.as_ref()?.share(cell));
        Some(if home > 0.0 { (1.0 - now / home).clamp(0.0, 1.0) } else { 0.0 })
    }

    /// Whether the cell's traffic was read back as being at home, but for what a pre-test may borrow.
    pub(crate) fn is_home(&self, service: &ServiceId, cell: &CellId) -> bool {
        let Some(view) = self.view(service) else { return false };
        let Some(effective) = &view.effective else { return false };
        let borrowed = view.service.policy.pre_test.cap.share();
        effective.share(cell) >= view.home.share(cell) * (1.0 - borrowed) - ROUNDING
    }
}

/// Weights of two levels are whole basis points each, so shares are off by up to this.
pub(crate) const ROUNDING: f64 = 0.000_5;

/// Whether a cell can take traffic of others now, or after being thawed.
pub(crate) fn is_fit(cell: &CellView, view: &ServiceView, now: Timestamp) -> bool {
    let policy = &view.service.policy;
    let running =
        matches!(cell.life, LifeState::Idle | LifeState::Canary | LifeState::Serving | LifeState::Draining);
    let well = !matches!(cell.objective, ObjectiveState::Failed { .. } | ObjectiveState::Breaking { .. });
    let papers = match cell.cell.role {
        CellRole::Primary | CellRole::Secondary => cell.health == CellHealth::Up,
        CellRole::Synthetic => {
            cell.health != CellHealth::Down
                && cell.passport.as_ref().is_some_and(|p| {
                    p.current
                        && now.since(p.warmed_at) <= policy.standby.passport_valid_for
                        && p.warm_requests >= policy.canary.warm_requests
                        && p.warm_ok == p.warm_requests
                })
        }
    };
    running && well && papers && (cell.data.open || view.home.share(&cell.cell.id) > 0.0)
}

/// What a cell may carry, its capacity less the policy's headroom, in requests per second; `None` when nobody knows.
pub(crate) fn usable_per_s(cell: &CellView, view: &ServiceView) -> Option<f64> {
    let policy = &view.service.policy;
    let measured = cell.passport.as_ref().and_then(|p| p.measured_capacity);
    let declared = cell.capacity.or(policy.capacity_per_cell);
    let capacity = match (declared, measured) {
        (Some(a), Some(b)) => Some(a.get().min(b.get())),
        (one, other) => one.or(other).map(Rate::get),
    };
    capacity.map(|c| c * (1.0 - policy.budgets.headroom))
}
