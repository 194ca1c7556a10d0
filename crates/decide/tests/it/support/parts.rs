//! Cells, policies, papers and predictions to begin with.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{
    Basis, BlueprintHash, BlueprintName, Budgets, CanaryPolicy, Cell, CellHealth, CellId, CellRole, CellView,
    DataGateView, DataPolicy, HealthScore, LifeState, Mode, ObjectiveState, Passport, Policy, PreTestPolicy,
    Prediction, Probability, Rate, RegionId, ReturnPolicy, ServiceId, ServiceWeights, Stage, StandbyPolicy,
    TimeToFailure, Timestamp, TrafficView, TriggerPolicy, Weight, ZoneId,
};

/// One turn of the loop.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Nearer than a shift to a ready mirror takes: the race is due.
pub(crate) const SOON_S: f64 = 2.0;

/// Shares that differ by no more than the rounding of weights.
pub(crate) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.000_3
}

pub(crate) fn bp(bp: u32) -> Weight {
    Weight::from_bp(bp).unwrap()
}

pub(crate) fn p(p: f64) -> Probability {
    Probability::new(p).unwrap()
}

pub(crate) fn id(name: &str) -> CellId {
    CellId::new(name).unwrap()
}

pub(crate) fn shop() -> ServiceId {
    ServiceId::new("shop").unwrap()
}

pub(crate) fn per_second(rate: f64) -> Rate {
    Rate::per_second(rate).unwrap()
}

/// A policy whose times are short, so that stories are.
pub(crate) fn policy() -> Policy {
    Policy {
        mode: Mode::Auto,
        horizon: Duration::from_secs(20),
        trigger: TriggerPolicy {
            prepare_at: p(0.2),
            shift_at: p(0.6),
            clear_below: p(0.1),
            hits: 2,
            of_ticks: 3,
            exceeding_at: None,
            margin: Duration::from_secs(1),
        },
        canary: CanaryPolicy {
            first: bp(500),
            steps: vec![bp(500), bp(2_500), bp(5_000), Weight::FULL],
            tolerated_harm: 0.01,
            warm_requests: 20,
        },
        // Stories of pre-tests switch them on; in the others what moves is a shift.
        pre_test: PreTestPolicy { cap: Weight::ZERO, from: p(0.1) },
        give_back: ReturnPolicy { healthy_for: Duration::from_secs(2), bp_per_second: 2_000 },
        relief: None,
        standby: StandbyPolicy {
            min: 0,
            max: 3,
            freeze_when_idle: false,
            retire_after: Duration::from_secs(3_600),
            passport_valid_for: Duration::from_secs(3_600),
        },
        budgets: Budgets {
            max_cells_in_motion: 2,
            max_weight_in_motion: Weight::FULL,
            refractory: Duration::from_secs(10),
            headroom: 0.2,
        },
        data: DataPolicy::Stateless,
        capacity_per_cell: Some(per_second(2_000.0)),
        lead_time_priors: Stage::ALL.into_iter().map(|s| (s, Duration::from_millis(500))).collect(),
        stale_after: Duration::from_secs(2),
    }
}

/// A cell that is well, seen and without traffic.
pub(crate) fn cell(name: &str, region: &str, zone: &str, role: CellRole, now: Timestamp) -> CellView {
    let synthetic = role == CellRole::Synthetic;
    CellView {
        cell: Cell {
            id: id(name),
            service: shop(),
            region: RegionId::new(region).unwrap(),
            zone: ZoneId::new(zone).unwrap(),
            role,
            home_weight: Weight::ZERO,
            blueprint: synthetic.then(|| BlueprintName::new("shop").unwrap()),
        },
        life: LifeState::Idle,
        parked: false,
        health: CellHealth::Up,
        objective: ObjectiveState::Met { since: now },
        traffic: TrafficView::default(),
        telemetry_at: Some(now),
        utilisation: None,
        capacity: None,
        passport: synthetic.then(|| passport(now)),
        data: DataGateView { open: true, lag: None, why: "stateless".into() },
        used_at: Some(now),
    }
}

pub(crate) fn passport(warmed_at: Timestamp) -> Passport {
    Passport {
        blueprint: BlueprintHash::new("b1").unwrap(),
        current: true,
        warmed_at,
        warm_requests: 40,
        warm_ok: 40,
        measured_capacity: Some(per_second(2_000.0)),
    }
}

/// What a model says that foresees a failure with this probability, and with a p10 so far away.
pub(crate) fn prediction(
    cell: &CellId,
    now: Timestamp,
    probability: f64,
    p10: Option<Duration>,
    basis: Basis,
) -> Prediction {
    Prediction {
        cell: cell.clone(),
        at: now,
        horizon: Duration::from_secs(20),
        probability: p(probability),
        time_to_failure: TimeToFailure { p10, p50: p10.map(|t| t * 2), p90: p10.map(|t| t * 4) },
        interval: forefend_domain::Interval::Plain,
        outlooks: Vec::new(),
        exceeds: false,
        health: HealthScore::from_failure(p(probability)),
        anomaly: 0.0,
        anomalies: Vec::new(),
        drivers: Vec::new(),
        basis,
        curve: Vec::new(),
    }
}

/// Two-level weights from shares of the whole service.
pub(crate) fn weights(world_cells: &BTreeMap<CellId, CellView>, shares: &[(&str, f64)]) -> ServiceWeights {
    let located =
        shares.iter().map(|(name, share)| ((world_cells[*name].cell.region.clone(), id(name)), *share));
    ServiceWeights::from_shares(&located.collect()).unwrap()
}
