//! From a recorded past and a policy to the topology that is replayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use forefend_control::{CellSpec, ServiceSpec, Topology};
use forefend_domain::{
    BlueprintName, Cell, CellId, CellRole, DataPolicy, DomainError, Mode, Policy, RegionId, Service,
    ServiceId, ServiceWeights, Stage, Weight, ZoneId,
};
use forefend_telemetry::history::{History, Incident};

use super::Options;

/// Why a past can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// There is nothing in it.
    #[error(
        "the history holds no value of any cell: check its source, and the range of time that was asked for"
    )]
    NoHistory,
    /// The history has cells that nobody says how to protect.
    #[error(
        "the history has cells of `{service}` that the policy does not name ({cells}): add them to the file, or say with `--as SERVICE` as which of its services they are to be protected"
    )]
    NotProtected {
        /// Their service.
        service: ServiceId,
        /// The first of them.
        cells: String,
    },
    /// There is no such service.
    #[error("the policy has no service `{0}`; it has {1}")]
    NoSuchService(ServiceId, String),
    /// The history has cells but the incidents are of others.
    #[error(
        "none of the {incidents} incidents is of a cell in the history ({cells}): the names must agree; `cell` of an incident is compared with `cell` of the history"
    )]
    NoCommonCell {
        /// How many there are.
        incidents: usize,
        /// The first cells of the history.
        cells: String,
    },
    /// A number is out of range.
    #[error("{what} must be {range}, not {got}")]
    Range {
        /// Which.
        what: &'static str,
        /// What is legal.
        range: &'static str,
        /// What was asked for.
        got: String,
    },
    /// A name can't be made.
    #[error(transparent)]
    Name(#[from] DomainError),
    /// The loop could not be started.
    #[error("the loop could not be replayed: {0}")]
    Loop(String),
}

/// How services are protected.
#[derive(Debug, Clone, PartialEq)]
pub struct Protect {
    /// What the configuration says there is.
    pub topology: Topology,
    /// Cells of services that it does not name are protected as this one.
    pub otherwise: Option<Service>,
    /// Replay the modes `observe` and `approve`, and pinned data, as they stand; otherwise all services run as in `auto`, or nothing would ever move.
    pub as_it_stands: bool,
    /// How a service triggers where its thresholds follow from the model that is put to the test, and of that alone: trigger and pre-test.
    pub by_curve: BTreeMap<ServiceId, Policy>,
}

/// What is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// All services with recorded cells.
    pub topology: Topology,
    /// Policies with thresholds that follow from the model, for the replay of the model alone.
    pub by_curve: BTreeMap<ServiceId, Policy>,
    /// What is assumed, in words, for the report.
    pub assumed: Vec<String>,
    /// Incidents that nothing can be said of, because their cell was not recorded around their beginning.
    pub unwatched: usize,
}

const MOST_NAMED: usize = 5;

/// Says what is replayed and how.
///
/// # Errors
/// When the history is empty, has cells that nobody protects, shares no cell with the incidents, or an option is out of range.
pub fn plan(
    history: &History,
    incidents: &[Incident],
    protect: &Protect,
    options: &Options,
) -> Result<Planned, BacktestError> {
    check(options)?;
    let (first, last) = history.span().ok_or(BacktestError::NoHistory)?;
    let watched = incidents.iter().filter(|i| history.cells.contains_key(&i.cell)).count();
    if watched == 0 && !incidents.is_empty() {
        let cells = named(history.cells.keys());
        return Err(BacktestError::NoCommonCell { incidents: incidents.len(), cells });
    }
    // A cell that the policy names is of the service that it says, whatever the recording calls it.
    let services: BTreeMap<&CellId, &ServiceId> = protect
        .topology
        .services
        .iter()
        .flat_map(|(service, spec)| spec.cells.keys().map(move |cell| (cell, service)))
        .collect();
    let mut by_service: BTreeMap<&ServiceId, Vec<&CellId>> = BTreeMap::new();
    for (id, cell) in &history.cells {
        by_service.entry(services.get(id).copied().unwrap_or(&cell.service)).or_default().push(id);
    }
    let mut planned = Planned {
        topology: Topology::default(),
        by_curve: BTreeMap::new(),
        assumed: Vec::new(),
        unwatched: 0,
    };
    let mut said = BTreeSet::new();
    for (service, cells) in by_service {
        let known = protect.topology.services.get(service);
        let spec = match (known, &protect.otherwise) {
            (Some(spec), _) if cells.iter().all(|c| spec.cells.contains_key(*c)) => spec.clone(),
            (None, Some(otherwise)) => made_up(service, &cells, otherwise)?,
            (known, _) => {
                let unknown = cells.iter().filter(|c| known.is_none_or(|spec| !spec.cells.contains_key(**c)));
                let cells = named(unknown.copied());
                return Err(BacktestError::NotProtected { service: service.clone(), cells });
            }
        };
        let named = known.map(|_| service).or(protect.otherwise.as_ref().map(|otherwise| &otherwise.id));
        let by_curve = named.and_then(|name| protect.by_curve.get(name));
        let spec = assume(spec, protect.as_it_stands, history.step, &mut said)?;
        if let Some(Policy { trigger, pre_test, .. }) = by_curve {
            let (trigger, pre_test) = (trigger.clone(), pre_test.clone());
            let policy = Policy { trigger, pre_test, ..spec.service.policy.clone() };
            planned.by_curve.insert(service.clone(), policy);
        }
        planned.topology.services.insert(service.clone(), spec);
    }
    let is_out = |i: &&Incident| {
        !history.cells.contains_key(&i.cell) || i.began < first || i.began > last + history.step * 2
    };
    planned.unwatched = incidents.iter().filter(is_out).count();
    planned.assumed.extend(said);
    Ok(planned)
}

fn check(options: &Options) -> Result<(), BacktestError> {
    let range = |what, range, got: String| Err(BacktestError::Range { what, range, got });
    if options.tick < Duration::from_millis(1) {
        return range("the tick", "at least 1 ms", format!("{:?}", options.tick));
    }
    if !(12..=4096).contains(&options.window_steps) {
        return range("the window", "from 12 to 4096 steps long", options.window_steps.to_string());
    }
    if !(options.requests_per_s.is_finite() && options.requests_per_s >= 0.0) {
        return range("requests per second", "a number from 0 on", options.requests_per_s.to_string());
    }
    match options.standby_capacity_per_s {
        Some(rate) if !(rate.is_finite() && rate > 0.0) => {
            range("the capacity of a standby", "a number above 0", rate.to_string())
        }
        _ => Ok(()),
    }
}

fn named<'a>(cells: impl Iterator<Item = &'a CellId>) -> String {
    let mut names: Vec<String> = cells.take(MOST_NAMED + 1).map(ToString::to_string).collect();
    if names.len() > MOST_NAMED {
        names[MOST_NAMED] = "…".to_owned();
    }
    names.join(", ")
}

/// A service of which only the cells are known: all primaries with the same weight, each in a zone of its own.
fn made_up(id: &ServiceId, cells: &[&CellId], otherwise: &Service) -> Result<ServiceSpec, BacktestError> {
    let region = RegionId::new("recorded")?;
    let mut specs = BTreeMap::new();
    let mut shares = BTreeMap::new();
    for cell in cells {
        let known = Cell {
            id: (*cell).clone(),
            service: id.clone(),
            region: region.clone(),
            zone: ZoneId::new(&format!("{:.40}", cell.as_str()))?,
            role: CellRole::Primary,
            home_weight: Weight::ZERO,
            blueprint: None,
        };
        shares.insert((region.clone(), known.id.clone()), 1.0);
        specs.insert(known.id.clone(), CellSpec { cell: known, address: None });
    }
    let home = ServiceWeights::from_shares(&shares).unwrap_or_default();
    let service = Service { id: id.clone(), ..otherwise.clone() };
    Ok(ServiceSpec { service, home, cells: specs })
}

/// Makes of a service as configured one that can be replayed, and says what is assumed by that.
fn assume(
    mut spec: ServiceSpec,
    as_it_stands: bool,
    step: Duration,
    said: &mut BTreeSet<String>,
) -> Result<ServiceSpec, BacktestError> {
    let policy = &mut spec.service.policy;
    if !as_it_stands && policy.mode != Mode::Auto {
        policy.mode = Mode::Auto;
        said.insert(
            "Services in mode observe or approve are replayed as in auto: what Forefend would have said or asked for, it did.".to_owned(),
        );
    }
    if policy.data == DataPolicy::Pinned && !as_it_stands {
        policy.data = DataPolicy::Stateless;
        said.insert("Services whose data is pinned are replayed as if it were not.".to_owned());
    }
    if matches!(policy.data, DataPolicy::Lag { .. }) {
        said.insert("The data of a standby is taken to be within its limit of lag.".to_owned());
    }
    if policy.stale_after < step * 3 {
        policy.stale_after = step * 3;
        said.insert(format!(
            "Telemetry counts as fresh for three steps of the recording ({:.0} s).",
            (step * 3).as_secs_f64()
        ));
    }
    if spec.service.mirror_blueprint.is_none() {
        spec.service.mirror_blueprint = Some(BlueprintName::new("assumed-standby")?);
        policy.standby.max = policy.standby.max.max(1);
        said.insert(
            "Services without a mirror are given one: what is shown is what a mirror would bring.".to_owned(),
        );
    }
    if spec.service.mirror_zones.is_empty() {
        let region = spec.cells.values().next().map(|c| c.cell.region.clone());
        let region = region.map_or_else(|| RegionId::new("recorded"), Ok)?;
        spec.service.mirror_zones = vec![(region, ZoneId::new("assumed-standby")?)];
    }
    let lead: f64 =
        [Stage::Create, Stage::WarmUp].iter().map(|s| policy.lead_time_prior(*s).as_secs_f64()).sum();
    said.insert(format!(
        "A standby is made and warm after {lead:.1} s, as the policy's lead times say, and stays well."
    ));
    for (port, cell) in (1..).zip(spec.cells.values_mut()) {
        // Who runs it is not known: it is watched, never made.
        cell.cell.blueprint = None;
        cell.address = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    Ok(spec)
}
