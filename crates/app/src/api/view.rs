use forefend_control::{PreTestView, ShiftView, Snapshot};
use forefend_domain::{
    Cell, CellHealth, CellId, CellView, DataGateView, DataPolicy, Effect, LifeState, Mode, ObjectiveState,
    Prediction, ServiceView, TimeToFailure, Timestamp, Weight,
};
use serde::Serialize;

use super::explain;

/// A snapshot with what is said about each cell: what the dashboard shows.
#[derive(Debug, Serialize)]
pub struct SnapshotView<'a> {
    /// As the engine published it.
    #[serde(flatten)]
    pub snapshot: &'a Snapshot,
    /// The whole state in one sentence.
    pub headline: String,
    /// Every cell, by service.
    pub summaries: Vec<CellSummary>,
}

impl<'a> SnapshotView<'a> {
    /// The view of a snapshot.
    #[must_use]
    pub fn of(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, headline: explain::headline(snapshot), summaries: summaries(snapshot) }
    }
}

/// A cell's share of its service's traffic in basis points, on the four levels that are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CellWeights {
    /// In normal times.
    pub home_bp: u32,
    /// What the engine wants now: what this tick sets, else what applies. `None`: neither is known.
    pub configured_bp: Option<u32>,
    /// What the data plane says it applies. `None`: it did not answer.
    pub effective_bp: Option<u32>,
    /// The share of requests really seen. `None`: not measured.
    pub observed_bp: Option<u32>,
}

/// One cell in short.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellSummary {
    /// Identity and place.
    #[serde(flatten)]
    pub cell: Cell,
    /// Where it stands in its life.
    pub life: LifeState,
    /// Whether it is frozen.
    pub parked: bool,
    /// What the data plane says of it.
    pub reachable: CellHealth,
    /// Whether it keeps its objective.
    pub objective: ObjectiveState,
    /// Share of the service's traffic.
    pub weights: CellWeights,
    /// That it fails within the horizon; `None`: no prediction.
    pub probability: Option<f64>,
    /// The horizon in seconds.
    pub horizon_s: Option<f64>,
    /// When; `None`: no prediction.
    pub time_to_failure: Option<TimeToFailure>,
    /// 0 to 100; `None`: no prediction.
    pub health: Option<f64>,
    /// `calm`, `watch` (a standby is made ready), `danger` (traffic moves), `failed`, or `unknown`.
    pub risk: &'static str,
    /// Seconds left until a shift must begin, if the cell is endangered.
    pub race_margin_s: Option<f64>,
    /// Whether an operator's approval is asked for.
    pub approval_asked: bool,
    /// What will happen next, in words.
    pub next: String,
}

/// One cell in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellDetail {
    /// In short.
    #[serde(flatten)]
    pub summary: CellSummary,
    /// When the engine saw this.
    pub at: Timestamp,
    /// What is foreseen, with drivers and curve.
    pub prediction: Option<Prediction>,
    /// Traffic of this cell that is away, and traffic of others that it carries.
    pub shifts: Vec<ShiftView>,
    /// What limits the weight that this cell may get or lose.
    pub bounds: Vec<WeightBound>,
    /// Everything above in words.
    pub words: String,
}

/// One bound of the weight contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightBound {
    /// `capacity`, `data`, `budget`, `evidence`, `readiness`, `approval` or `freeze`.
    pub bound: &'static str,
    /// Whether a shift of or to this cell is held by it now.
    pub binding: bool,
    /// In words and numbers.
    pub words: String,
}

/// The cell with its service.
pub(super) fn find<'a>(snapshot: &'a Snapshot, id: &CellId) -> Option<(&'a ServiceView, &'a CellView)> {
    snapshot.world.services.values().find_map(|service| Some((service, service.cells.get(id)?)))
}

/// Every cell in short, by service and id.
pub(super) fn summaries(snapshot: &Snapshot) -> Vec<CellSummary> {
    let services = snapshot.world.services.values();
    services.flat_map(|s| s.cells.values().map(move |c| summary(snapshot, s, c))).collect()
}

/// One cell in full; `None` when there is no such cell.
pub(super) fn detail(snapshot: &Snapshot, id: &CellId) -> Option<CellDetail> {
    let (service, cell) = find(snapshot, id)?;
    Some(CellDetail {
        summary: summary(snapshot, service, cell),
        at: snapshot.world.now,
        prediction: snapshot.predictions.get(id).cloned(),
        shifts: shifts_of(snapshot, id).cloned().collect(),
        bounds: bounds(snapshot, service, cell),
        words: explain::words(snapshot, id)?,
    })
}

/// Shifts from or to the cell.
pub(super) fn shifts_of<'a>(snapshot: &'a Snapshot, id: &'a CellId) -> impl Iterator<Item = &'a ShiftView> {
    snapshot.shifts.iter().filter(move |shift| shift.from == *id || shift.to.contains(id))
}

/// Pre-tests with traffic of the cell, or of it as the mirror.
pub(super) fn pre_tests_of<'a>(
    snapshot: &'a Snapshot,
    id: &'a CellId,
) -> impl Iterator<Item = &'a PreTestView> {
    snapshot.pre_tests.iter().filter(move |test| test.from == *id || test.to == *id)
}

/// Whether the loop waits for an operator to approve a shift of the cell's traffic.
pub(super) fn approval_asked(snapshot: &Snapshot, id: &CellId) -> bool {
    let asked_now =
        snapshot.plan.effects.iter().any(|e| matches!(e, Effect::AskApproval { cell } if cell == id));
    let waits = snapshot.shifts.iter().any(|s| s.from == *id && s.bound_by == "approval");
    (asked_now || waits) && !snapshot.world.approved.contains(id)
}

/// A cell's share on the four levels.
pub(super) fn weights(snapshot: &Snapshot, service: &ServiceView, cell: &CellView) -> CellWeights {
    let id = &cell.cell.id;
    let bp = |share: f64| Weight::from_share(share).bp();
    let wanted = snapshot.plan.effects.iter().rev().find_map(|effect| match effect {
        Effect::SetWeights { service: of, weights } if *of == service.service.id => Some(weights),
        _ => None,
    });
    let effective = service.effective.as_ref();
    CellWeights {
        home_bp: bp(service.home.share(id)),
        configured_bp: wanted.or(effective).map(|w| bp(w.share(id))),
        effective_bp: effective.map(|w| bp(w.share(id))),
        observed_bp: cell.traffic.observed_share.map(bp),
    }
}

fn summary(snapshot: &Snapshot, service: &ServiceView, cell: &CellView) -> CellSummary {
    let id = &cell.cell.id;
    let prediction = snapshot.predictions.get(id);
    CellSummary {
        cell: cell.cell.clone(),
        life: cell.life,
        parked: cell.parked,
        reachable: cell.health,
        objective: cell.objective,
        weights: weights(snapshot, service, cell),
        probability: prediction.map(|p| p.probability.get()),
        horizon_s: prediction.map(|p| p.horizon.as_secs_f64()),
        time_to_failure: prediction.map(|p| p.time_to_failure),
        health: prediction.map(|p| p.health.get()),
        risk: risk(service, cell, prediction),
        race_margin_s: snapshot.plan.race_margin_s.get(id).copied(),
        approval_asked: approval_asked(snapshot, id),
        next: explain::next(snapshot, service, cell),
    }
}

/// How endangered the cell is, by the thresholds of its service's policy.
pub(super) fn risk(service: &ServiceView, cell: &CellView, prediction: Option<&Prediction>) -> &'static str {
    let trigger = &service.service.policy.trigger;
    if cell.objective.is_failed() || cell.life == LifeState::Failed {
        return "failed";
    }
    match prediction.map(|p| p.probability) {
        None => "unknown",
        Some(p) if p >= trigger.shift_at => "danger",
        Some(p) if p >= trigger.prepare_at => "watch",
        Some(_) => "calm",
    }
}

fn bounds(snapshot: &Snapshot, service: &ServiceView, cell: &CellView) -> Vec<WeightBound> {
    let policy = &service.service.policy;
    let id = &cell.cell.id;
    let held_by: Vec<&str> = shifts_of(snapshot, id).map(|s| s.bound_by.as_str()).collect();
    let bound =
        |bound: &'static str, words: String| WeightBound { bound, binding: held_by.contains(&bound), words };
    let evidence = shifts_of(snapshot, id).next().map(|s| s.evidence);
    let canary = &policy.canary;
    vec![
        bound("readiness", explain::readiness(snapshot.world.now, service, cell)),
        bound("capacity", explain::capacity(service, cell)),
        bound("data", data_gate(&cell.data, &policy.data)),
        bound(
            "evidence",
            match evidence {
                Some(seen) => format!(
                    "{} requests answered by the mirror since the shift began, {} of them badly; a step may spoil at \
                     most {} of the service's requests",
                    seen.requests,
                    seen.bad,
                    explain::percent(canary.tolerated_harm)
                ),
                None => {
                    format!(
                        "a mirror begins with {} and earns more by answering well",
                        explain::whole(canary.first)
                    )
                }
            },
        ),
        bound(
            "budget",
            format!(
                "at most {} of the service's traffic and {} of its cells in motion at once",
                explain::whole(policy.budgets.max_weight_in_motion),
                policy.budgets.max_cells_in_motion
            ),
        ),
        bound(
            "approval",
            match policy.mode {
                Mode::Observe => "mode observe: nothing is moved, only said".into(),
                Mode::Approve if snapshot.world.approved.contains(id) => "an operator has approved".into(),
                Mode::Approve => "mode approve: an operator must approve each shift".into(),
                Mode::Auto => "mode auto: no approval needed".into(),
            },
        ),
        bound(
            "freeze",
            if snapshot.world.frozen { "frozen: no standby's weight grows" } else { "not frozen" }.into(),
        ),
    ]
}

fn data_gate(gate: &DataGateView, policy: &DataPolicy) -> String {
    let lag = match (gate.lag, policy) {
        (Some(lag), DataPolicy::Lag { rpo, .. }) => {
            format!(", lag {} of at most {}", explain::seconds(lag), explain::seconds(*rpo))
        }
        (None, DataPolicy::Lag { .. }) => ", lag unknown".into(),
        (_, DataPolicy::Stateless | DataPolicy::Pinned) => String::new(),
    };
    format!("{}{lag}: {}", if gate.open { "open" } else { "closed" }, gate.why)
}
