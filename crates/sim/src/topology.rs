//! The made-up service: two regions, a few cells, a policy drawn from the seed.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use forefend_control::{CellSpec, ServiceSpec, Topology};
use forefend_domain::{
    BlueprintName, Cell, CellId, CellRole, DataPolicy, Mode, Objective, Policy, Probability, Rate, RegionId,
    ReliefPolicy, Service, ServiceId, ServiceWeights, Stage, Tier, Weight, ZoneId,
};

use crate::random::Random;

/// The loop's tick and the step of telemetry.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// What cells must keep.
pub(crate) const LATENCY_OBJECTIVE_MS: f64 = 250.0;

/// Bytes at which a cell is killed.
pub(crate) const MEMORY_LIMIT: f64 = 96.0 * 1024.0 * 1024.0;

pub(crate) fn draw(random: &mut Random) -> Topology {
    let bp = |v: u32| Weight::from_bp(v).unwrap_or(Weight::FULL);
    let p = |v: f64| Probability::clamped(v, Probability::ZERO);
    let regions = [("north", ["north-a", "north-b"]), ("south", ["south-a", "south-b"])];
    let service = name(ServiceId::new("shop"));
    let managed = random.chance(0.7);
    let mut cells = BTreeMap::new();
    let mut shares = BTreeMap::new();
    for (i, (region, zones)) in regions.iter().enumerate() {
        for (j, zone) in zones.iter().enumerate().take(1 + usize::from(random.chance(0.4))) {
            let id = name(CellId::new(&format!("shop-{zone}")));
            let role = if j == 0 { CellRole::Primary } else { CellRole::Secondary };
            let share = if j == 0 { random.between(0.5, 1.0) } else { *random.one_of(&[0.0, 0.2, 0.4]) };
            let cell = Cell {
                id: id.clone(),
                service: service.clone(),
                region: name(RegionId::new(region)),
                zone: name(ZoneId::new(zone)),
                role,
                home_weight: Weight::ZERO,
                blueprint: managed.then(|| name(BlueprintName::new("shop"))),
            };
            shares.insert((cell.region.clone(), id.clone()), share);
            let port = u16::try_from(8_000 + i * 10 + j).unwrap_or(8_000);
            let address = (!managed).then(|| SocketAddr::from(([127, 0, 0, 1], port)));
            cells.insert(id, CellSpec { cell, address });
        }
    }
    let home = ServiceWeights::from_shares(&shares).unwrap_or_default();
    let healthy_for = Duration::from_millis(random.pick(1_000, 5_000));
    let policy = Policy {
        mode: *random.one_of(&[Mode::Auto, Mode::Auto, Mode::Auto, Mode::Auto, Mode::Approve, Mode::Observe]),
        horizon: Duration::from_secs(random.pick(10, 30)),
        trigger: forefend_domain::TriggerPolicy {
            prepare_at: p(random.between(0.1, 0.3)),
            shift_at: p(random.between(0.4, 0.7)),
            clear_below: p(0.1),
            hits: 2,
            of_ticks: 3,
            exceeding_at: None,
            margin: Duration::from_millis(random.pick(500, 3_000)),
        },
        canary: forefend_domain::CanaryPolicy {
            first: bp(u32::try_from(random.pick(100, 1_000)).unwrap_or(500)),
            steps: [1_000, 2_500, 5_000, 10_000].map(bp).to_vec(),
            tolerated_harm: random.between(0.003, 0.02),
            warm_requests: 20,
        },
        pre_test: forefend_domain::PreTestPolicy {
            cap: bp(u32::try_from(*random.one_of(&[0, 50, 100, 500, 1_000])).unwrap_or(100)),
            from: p(random.between(0.05, 0.3)),
        },
        give_back: forefend_domain::ReturnPolicy {
            healthy_for,
            bp_per_second: u32::try_from(random.pick(500, 5_000)).unwrap_or(1_000),
        },
        relief: random.chance(0.5).then(|| ReliefPolicy { above: 0.85, below: 0.6, at_most: bp(3_000) }),
        standby: forefend_domain::StandbyPolicy {
            min: u32::try_from(random.pick(0, 2)).unwrap_or(0),
            max: u32::try_from(random.pick(1, 4)).unwrap_or(2),
            freeze_when_idle: random.chance(0.7),
            retire_after: Duration::from_secs(random.pick(10, 60)),
            passport_valid_for: Duration::from_secs(random.pick(15, 120)),
        },
        budgets: forefend_domain::Budgets {
            max_cells_in_motion: u32::try_from(random.pick(1, 3)).unwrap_or(1),
            max_weight_in_motion: bp(u32::try_from(random.pick(3_000, 10_001)).unwrap_or(10_000)),
            refractory: Duration::from_secs(random.pick(2, 8)),
            headroom: 0.2,
        },
        data: if random.chance(0.9) { DataPolicy::Stateless } else { DataPolicy::Pinned },
        capacity_per_cell: random.chance(0.9).then(|| rate(random.between(300.0, 1_500.0))),
        lead_time_priors: Stage::ALL.into_iter().map(|s| (s, Duration::from_millis(500))).collect(),
        stale_after: Duration::from_secs(2),
    };
    let spec = ServiceSpec {
        service: Service {
            id: service.clone(),
            tier: Tier::Standard,
            objective: Objective {
                latency: Duration::from_secs_f64(LATENCY_OBJECTIVE_MS / 1_000.0),
                slow_share: 0.01,
                error_share: 0.01,
                failed_for: Duration::from_millis(random.pick(300, 1_500)),
            },
            policy,
            mirror_blueprint: Some(name(BlueprintName::new("shop"))),
            mirror_zones: regions
                .iter()
                .flat_map(|(region, zones)| {
                    zones.map(|z| (name(RegionId::new(region)), name(ZoneId::new(z))))
                })
                .collect(),
        },
        home,
        cells,
    };
    Topology { services: BTreeMap::from([(service, spec)]) }
}

pub(crate) fn rate(per_second: f64) -> Rate {
    Rate::per_second(per_second).unwrap_or(Rate::ZERO)
}

/// The names above are literals that are legal.
#[expect(clippy::expect_used, reason = "names in this file are literals")]
fn name<T>(checked: Result<T, forefend_domain::DomainError>) -> T {
    checked.expect("a legal name")
}
