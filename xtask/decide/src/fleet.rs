//! A made-up fleet: what its cells would tell, a pure function of cell, metric and step.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use forefend_control::{CellSpec, ServiceSpec, Topology};
use forefend_domain::{
    Cell, CellId, CellRole, DataPolicy, Family, MetricKind, MetricName, Mode, Objective, Policy, Rate,
    RegionId, Service, ServiceId, ServiceWeights, Tier, Timestamp, Weight, ZoneId,
};
use forefend_telemetry::MetricSpec;

/// From one tick to the next, and from one sample to the next.
pub(crate) const TICK: Duration = Duration::from_secs(10);
/// Samples in a window: twenty minutes.
pub(crate) const LENGTH: usize = 120;
/// Cells of a service.
const PER_SERVICE: usize = 10;
/// One cell in so many leaks memory.
const LEAKS: usize = 100;
/// Steps from the beginning of a leak until the cell is killed.
const LEAK_STEPS: u64 = 150;
/// Step 0, so that a whole window lies after 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// How a metric behaves.
#[derive(Clone, Copy)]
struct Habit {
    name: &'static str,
    family: Family,
    kind: MetricKind,
    unit: &'static str,
    limit: Option<f64>,
    /// Its usual level, and how far it trembles around it.
    level: f64,
    noise: f64,
    /// Whether it goes with the time of day.
    daily: bool,
    counter: bool,
}

const fn limited(name: &'static str, family: Family, unit: &'static str, limit: f64, level: f64) -> Habit {
    let (kind, noise) = (MetricKind::Exhaustible, 0.03 * level);
    Habit { name, family, kind, unit, limit: Some(limit), level, noise, daily: false, counter: false }
}

const fn saturable(name: &'static str, limit: f64, level: f64) -> Habit {
    let kind = MetricKind::Saturable;
    let habit = limited(name, Family::Saturation, "ratio", limit, level);
    Habit { kind, daily: true, noise: 0.1 * level, ..habit }
}

const fn free(name: &'static str, family: Family, level: f64, counter: bool) -> Habit {
    let (kind, unit, noise) = (MetricKind::Unbounded, "per second", 0.1 * level);
    Habit { name, family, kind, unit, limit: None, level, noise, daily: true, counter }
}

const MEMORY: usize = 1;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

const HABITS: [Habit; 30] = [
    saturable("cpu_utilisation_ratio", 1.0, 0.4),
    limited("memory_working_set_bytes", Family::Saturation, "bytes", 2.0 * GIB, 0.9 * GIB),
    limited("disk_used_ratio", Family::Saturation, "ratio", 1.0, 0.55),
    limited("open_fds", Family::Saturation, "files", 1_024.0, 300.0),
    limited("threads", Family::Saturation, "threads", 512.0, 120.0),
    saturable("pool_in_use_ratio", 1.0, 0.3),
    saturable("disk_io_ratio", 1.0, 0.2),
    saturable("memory_pressure_ratio", 1.0, 0.02),
    limited("latency_p99_ms", Family::Latency, "ms", 250.0, 60.0),
    limited("latency_p50_ms", Family::Latency, "ms", 250.0, 12.0),
    limited("inter_zone_latency_ms", Family::Latency, "ms", 40.0, 8.0),
    limited("error_ratio", Family::Errors, "ratio", 0.05, 0.002),
    free("requests_per_second", Family::Traffic, 120.0, false),
    free("http_requests_total", Family::Traffic, 120.0, true),
    free("network_received_bytes_total", Family::Traffic, 2.5e6, true),
    free("network_sent_bytes_total", Family::Traffic, 9.0e6, true),
    free("disk_read_bytes_total", Family::Custom, 3.0e5, true),
    free("disk_written_bytes_total", Family::Custom, 8.0e5, true),
    free("gc_cycles_total", Family::Custom, 0.4, true),
    free("gc_pause_seconds_total", Family::Custom, 0.01, true),
    free("log_lines_total{template=\"request served\"}", Family::Logs, 120.0, true),
    free("log_lines_total{template=\"cache miss\"}", Family::Logs, 12.0, true),
    free("log_lines_total{template=\"slow query\"}", Family::Logs, 0.5, true),
    free("log_lines_total{template=\"retrying\"}", Family::Logs, 0.2, true),
    free("log_lines_total{template=\"connection reset\"}", Family::Logs, 0.1, true),
    free("log_lines_total{template=\"pool exhausted\"}", Family::Logs, 0.01, true),
    free("restarts_total", Family::Restarts, 0.0, true),
    limited("orders_waiting", Family::Custom, "orders", 5_000.0, 400.0),
    free("cache_entries", Family::Custom, 5.0e4, false),
    free("sessions", Family::Custom, 900.0, false),
];

/// The metrics of every cell.
pub(crate) fn specs() -> Vec<MetricSpec> {
    HABITS
        .iter()
        .map(|habit| MetricSpec {
            name: MetricName::new(habit.name),
            family: habit.family,
            kind: habit.kind,
            unit: habit.unit.to_owned(),
            limit: habit.limit,
            counter: habit.counter,
        })
        .collect()
}

/// The end of a step.
pub(crate) fn instant(step: u64) -> Timestamp {
    Timestamp::from_unix_ms(BEGIN_MS + step * TICK.as_millis() as u64)
}

/// Even in [-1, 1], other for every metric, cell and step.
fn noise(cell: usize, metric: usize, step: u64) -> f64 {
    let mut x = (cell as u64) << 40 ^ (metric as u64) << 32 ^ step;
    for by in [0xbf58_476d_1ce4_e5b9u64, 0x94d0_49bb_1331_11eb] {
        x = (x ^ x >> 30).wrapping_mul(by);
    }
    (x ^ x >> 31) as f64 / u64::MAX as f64 * 2.0 - 1.0
}

/// How far on the way to its end the leak of a cell is; `None`: it does not leak.
fn leaked(cell: usize, step: u64) -> Option<f64> {
    let phase = (cell as u64 * 37 + step) % LEAK_STEPS;
    cell.is_multiple_of(LEAKS).then(|| phase as f64 / LEAK_STEPS as f64)
}

/// Steps until a cell that leaks is killed.
pub(crate) fn left(cell: usize, step: u64) -> Option<u64> {
    cell.is_multiple_of(LEAKS).then(|| LEAK_STEPS - (cell as u64 * 37 + step) % LEAK_STEPS)
}

/// What a metric of a cell shows in a step; of a counter, how much it grows per second.
fn level(cell: usize, metric: usize, step: u64) -> f64 {
    let habit = &HABITS[metric];
    let tremble = habit.noise * noise(cell, metric, step);
    let hours = step as f64 * TICK.as_secs_f64() / 3_600.0;
    let wave = if habit.daily { 1.0 + 0.3 * (hours / 24.0 * std::f64::consts::TAU).sin() } else { 1.0 };
    let base = habit.level * wave + tremble;
    match (metric, leaked(cell, step), habit.limit) {
        (MEMORY, Some(share), Some(limit)) => base + (limit - habit.level) * share,
        _ => base.max(0.0),
    }
}

/// What a cell exposes, metric by metric; `totals` carries its counters on.
pub(crate) fn values(cell: usize, step: u64, totals: &mut [f64], out: &mut Vec<f64>) {
    out.clear();
    let mut counter = 0;
    for (metric, habit) in HABITS.iter().enumerate() {
        let now = level(cell, metric, step);
        if habit.counter {
            totals[counter] += now * TICK.as_secs_f64();
            out.push(totals[counter]);
            counter += 1;
        } else {
            out.push(now);
        }
    }
}

/// How many of the metrics are counters.
pub(crate) fn counters() -> usize {
    HABITS.iter().filter(|habit| habit.counter).count()
}

/// The same as a scrape's body.
pub(crate) fn body(values: &[f64]) -> String {
    HABITS.iter().zip(values).map(|(habit, value)| format!("{} {value}\n", habit.name)).collect()
}

/// The name of a cell.
pub(crate) fn cell_id(cell: usize) -> Result<CellId> {
    Ok(CellId::new(&format!("s{:05}-c{}", cell / PER_SERVICE, cell % PER_SERVICE))?)
}

/// As many services as hold these cells: eight primaries in two regions, and a secondary in each.
pub(crate) fn topology(cells: usize) -> Result<Topology> {
    let mut services = BTreeMap::new();
    for first in (0..cells).step_by(PER_SERVICE) {
        let spec = service(first, PER_SERVICE.min(cells - first))?;
        services.insert(spec.service.id.clone(), spec);
    }
    Ok(Topology { services })
}

fn service(first: usize, size: usize) -> Result<ServiceSpec> {
    let id = ServiceId::new(&format!("s{:05}", first / PER_SERVICE))?;
    let mut cells = BTreeMap::new();
    let mut shares = BTreeMap::new();
    for n in 0..size {
        let region = ["north", "south"][n % 2];
        let secondary = n >= 8;
        let cell = Cell {
            id: cell_id(first + n)?,
            service: id.clone(),
            region: RegionId::new(region)?,
            zone: ZoneId::new(&format!("{region}-{}", ["a", "b"][n / 2 % 2]))?,
            role: if secondary { CellRole::Secondary } else { CellRole::Primary },
            home_weight: Weight::ZERO,
            blueprint: None,
        };
        shares.insert((cell.region.clone(), cell.id.clone()), if secondary { 0.0 } else { 1.0 });
        let address = SocketAddr::from(([10, 0, (first >> 8) as u8, first as u8], 8_000 + n as u16));
        cells.insert(cell.id.clone(), CellSpec { cell, address: Some(address) });
    }
    let policy = Policy {
        mode: Mode::Auto,
        horizon: Duration::from_secs(900),
        data: DataPolicy::Stateless,
        capacity_per_cell: Some(Rate::per_second(400.0)?),
        stale_after: Duration::from_secs(60),
        ..Policy::default()
    };
    let service = Service {
        id,
        tier: Tier::Standard,
        objective: Objective {
            latency: Duration::from_millis(250),
            slow_share: 0.01,
            error_share: 0.01,
            failed_for: Duration::from_secs(30),
        },
        policy,
        mirror_blueprint: None,
        mirror_zones: Vec::new(),
    };
    let home = ServiceWeights::from_shares(&shares).context("no region has a share")?;
    Ok(ServiceSpec { service, home, cells })
}
