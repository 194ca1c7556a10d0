//! A small world behind the ports: three cells that somebody else runs, a data plane that applies at once, the store that
//! tests use, and a log of what was written and done in which order.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use forefend_control::{
    CellSpec, Controller, ControllerError, OperatorCommand, OperatorRefusal, Ports, ServiceSpec, Snapshot,
    Topology,
};
use forefend_domain::{
    Basis, BlueprintName, Cell, CellHealth, CellId, CellRole, DataGateView, DataPolicy, Effect, EntryKind,
    Family, HealthScore, LedgerEntry, LedgerSeq, MetricKind, MetricName, MetricWindow, Mode, Objective,
    Policy, Prediction, Probability, Rate, RegionId, Sample, Service, ServiceId, ServiceWeights, Stage, Tier,
    TimeToFailure, Timestamp, Weight, Windows, ZoneId,
    ports::{
        CellCommand, CellDriver, CellObservation, CellReport, Clock, DataGate, DataPlane, DataPlaneReport,
        PortError, ProbeOutcome, Routing, Store, TelemetrySource,
    },
};
use forefend_predict::Predictor;
use forefend_store::MemoryStore;

pub(crate) const TICK: Duration = Duration::from_millis(250);

pub(crate) fn id(name: &str) -> CellId {
    CellId::new(name).unwrap()
}

pub(crate) fn shop() -> ServiceId {
    ServiceId::new("shop").unwrap()
}

/// Something that was written or done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happening {
    Written(EntryKind),
    Applied(ServiceWeights),
    Commanded(CellCommand),
}

/// Predicts what the one metric says: the probability of failing, soon.
#[derive(Debug)]
pub(crate) struct AsTold;

impl Predictor for AsTold {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        let metric = windows.metrics.values().next()?;
        let (_, risk) = metric.latest()?;
        let probability = Probability::clamped(risk, Probability::ZERO);
        let p10 = (risk > 0.5).then_some(Duration::from_secs(1));
        Some(Prediction {
            cell: windows.cell.clone(),
            at: windows.at,
            horizon,
            probability,
            time_to_failure: TimeToFailure { p10, p50: None, p90: None },
            interval: forefend_domain::Interval::Plain,
            outlooks: Vec::new(),
            exceeds: false,
            health: HealthScore::from_failure(probability),
            anomaly: 0.0,
            anomalies: Vec::new(),
            drivers: Vec::new(),
            basis: Basis::Calibrated,
            // So that tests see which limit it was given.
            curve: vec![(metric.limit.unwrap_or(0.0), 0.0)],
        })
    }
}

pub(crate) struct State {
    pub(crate) now: Timestamp,
    pub(crate) risk: BTreeMap<CellId, f64>,
    /// Cells that answer nothing.
    pub(crate) failing: BTreeSet<CellId>,
    pub(crate) data_plane_answers: bool,
    pub(crate) log: Vec<Happening>,
    pub(crate) applied: Routing,
    totals: BTreeMap<CellId, f64>,
    errors: BTreeMap<CellId, f64>,
}

#[derive(Clone)]
struct World(Rc<RefCell<State>>);

/// The store that tests use, with a log.
struct Logged(MemoryStore, Rc<RefCell<State>>);

/// The world and the loop on it.
pub(crate) struct Setup {
    pub(crate) state: Rc<RefCell<State>>,
    pub(crate) store: MemoryStore,
    pub(crate) topology: Topology,
    pub(crate) controller: Controller<AsTold>,
}

impl Setup {
    pub(crate) fn new(mode: Mode) -> Self {
        let topology = topology(mode);
        let state = State {
            now: Timestamp::from_unix_ms(1_700_000_000_000),
            risk: BTreeMap::new(),
            failing: BTreeSet::new(),
            data_plane_answers: true,
            log: Vec::new(),
            applied: Routing::default(),
            totals: BTreeMap::new(),
            errors: BTreeMap::new(),
        };
        let mut store = MemoryStore::default();
        let controller = start(&topology, &mut store).expect("an empty store");
        Self { state: Rc::new(RefCell::new(state)), store, topology, controller }
    }

    /// The engine is killed and started again on what the store has.
    pub(crate) fn restart(&mut self) {
        self.controller = start(&self.topology, &mut self.store).expect("its own memory");
    }

    pub(crate) fn tick(&mut self) -> Snapshot {
        self.state.borrow_mut().pass(TICK);
        self.with_ports(|controller, ports| controller.tick(ports))
    }

    pub(crate) fn ticks(&mut self, n: u32) {
        (0..n).for_each(|_| drop(self.tick()));
    }

    /// Ticks until `done` holds, for at most a minute.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self, &Snapshot) -> bool) -> Snapshot {
        let mut last = None;
        for _ in 0..240 {
            let snapshot = self.tick();
            if done(self, &snapshot) {
                return snapshot;
            }
            last = Some(snapshot);
        }
        panic!("not within a minute: {what}; {last:#?}");
    }

    pub(crate) fn command(&mut self, command: OperatorCommand) -> Result<(), OperatorRefusal> {
        self.with_ports(|controller, ports| controller.command("ada", &command, ports))
    }

    pub(crate) fn at_risk(&mut self, cell: &str, probability: f64) {
        self.state.borrow_mut().risk.insert(id(cell), probability);
    }

    pub(crate) fn share(&self, cell: &str) -> f64 {
        self.state.borrow().applied.services.get("shop").map_or(0.0, |s| s.weights.share(&id(cell)))
    }

    pub(crate) fn entries(&mut self) -> Vec<LedgerEntry> {
        let mut entries = self.store.entries(None, 1_000).unwrap();
        entries.reverse();
        entries
    }

    pub(crate) fn log(&self) -> Vec<Happening> {
        self.state.borrow().log.clone()
    }

    /// How often anything was done in the world.
    pub(crate) fn deeds(&self) -> usize {
        self.state.borrow().log.iter().filter(|h| !matches!(h, Happening::Written(_))).count()
    }

    fn with_ports<T>(&mut self, f: impl FnOnce(&mut Controller<AsTold>, &mut Ports<'_>) -> T) -> T {
        let [clock, mut telemetry, mut data_plane, mut cells, mut gate] =
            std::array::from_fn(|_| World(Rc::clone(&self.state)));
        let mut store = Logged(self.store.clone(), Rc::clone(&self.state));
        let mut ports = Ports {
            clock: &clock,
            telemetry: &mut telemetry,
            data_plane: &mut data_plane,
            cells: &mut cells,
            gate: &mut gate,
            store: &mut store,
        };
        f(&mut self.controller, &mut ports)
    }
}

pub(crate) fn start(
    topology: &Topology,
    store: &mut dyn Store,
) -> Result<Controller<AsTold>, ControllerError> {
    Controller::new(AsTold, topology.clone(), (TICK, TICK), store)
}

/// `north` and `south` carry half of the traffic each, `spare` stands beside them.
pub(crate) fn topology(mode: Mode) -> Topology {
    let p = |v| Probability::new(v).unwrap();
    let bp = |v| Weight::from_bp(v).unwrap();
    let mut policy = Policy { mode, horizon: Duration::from_secs(20), ..Policy::default() };
    (policy.trigger.hits, policy.trigger.of_ticks) = (2, 3);
    policy.trigger.clear_below = p(0.1);
    policy.canary.first = bp(500);
    policy.canary.steps = vec![bp(500), bp(2_500), bp(5_000), Weight::FULL];
    policy.canary.tolerated_harm = 0.01;
    policy.give_back.bp_per_second = 1_000;
    policy.budgets.max_weight_in_motion = Weight::FULL;
    policy.data = DataPolicy::Stateless;
    policy.capacity_per_cell = Some(Rate::per_second(5_000.0).unwrap());
    policy.lead_time_priors = Stage::ALL.into_iter().map(|s| (s, TICK)).collect();
    policy.stale_after = Duration::from_secs(2);
    let mut cells = BTreeMap::new();
    let mut shares = BTreeMap::new();
    let places = [
        ("north", "north", "north-a", CellRole::Primary, 0.5),
        ("south", "south", "south-a", CellRole::Primary, 0.5),
        ("spare", "north", "north-b", CellRole::Secondary, 0.0),
    ];
    for (i, (name, region, zone, role, share)) in places.into_iter().enumerate() {
        let cell = Cell {
            id: id(name),
            service: shop(),
            region: RegionId::new(region).unwrap(),
            zone: ZoneId::new(zone).unwrap(),
            role,
            home_weight: Weight::ZERO,
            blueprint: None,
        };
        shares.insert((cell.region.clone(), cell.id.clone()), share);
        let port = 8_000 + u16::try_from(i).unwrap();
        let address = Some(SocketAddr::from(([127, 0, 0, 1], port)));
        cells.insert(cell.id.clone(), CellSpec { cell, address });
    }
    let service = Service {
        id: shop(),
        tier: Tier::Standard,
        objective: Objective {
            latency: Duration::from_millis(250),
            slow_share: 0.01,
            error_share: 0.01,
            failed_for: Duration::from_secs(1),
        },
        policy,
        mirror_blueprint: None::<BlueprintName>,
        mirror_zones: Vec::new(),
    };
    let home = ServiceWeights::from_shares(&shares).unwrap();
    Topology { services: BTreeMap::from([(shop(), ServiceSpec { service, home, cells })]) }
}

impl State {
    /// Time goes on, and 2 000 requests per second go where the weights send them.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if let Some(routing) = self.applied.services.get("shop") {
            for cell in &routing.cells {
                let share = routing.weights.share(&cell.cell);
                let requests = share * 2_000.0 * time.as_secs_f64();
                *self.totals.entry(cell.cell.clone()).or_default() += requests;
                if self.failing.contains(&cell.cell) {
                    *self.errors.entry(cell.cell.clone()).or_default() += requests;
                }
            }
        }
    }
}

fn unreachable(port: &'static str) -> PortError {
    PortError::Unreachable { port, why: "as the test says".into() }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.0.borrow().now
    }
}

impl TelemetrySource for World {
    fn windows(&mut self, now: Timestamp) -> Vec<Windows> {
        let state = self.0.borrow();
        ["north", "south", "spare"]
            .into_iter()
            .map(|cell| {
                let name = MetricName::new("risk");
                let value = Some(state.risk.get(cell).copied().unwrap_or(0.0));
                let window = MetricWindow {
                    name: name.clone(),
                    family: Family::Custom,
                    kind: MetricKind::Unbounded,
                    unit: "ratio".into(),
                    limit: None,
                    samples: vec![Sample { at: now, value }],
                };
                Windows { cell: id(cell), at: now, step: TICK, metrics: BTreeMap::from([(name, window)]) }
            })
            .collect()
    }

    fn probes(&mut self) -> Vec<ProbeOutcome> {
        let state = self.0.borrow();
        let took = Duration::from_millis(2);
        ["north", "south", "spare"]
            .map(|c| ProbeOutcome { cell: id(c), at: state.now, ok: !state.failing.contains(&id(c)), took })
            .into()
    }
}

impl DataPlane for World {
    fn report(&mut self) -> Result<DataPlaneReport, PortError> {
        let state = self.0.borrow();
        if !state.data_plane_answers {
            return Err(unreachable("data plane"));
        }
        let cells = ["north", "south", "spare"].into_iter().map(|cell| {
            let report = CellReport {
                requests: state.totals.get(cell).map_or(0, |n| *n as u64),
                errors: state.errors.get(cell).map_or(0, |n| *n as u64),
                slow: 0,
                in_flight: 0,
                p50: None,
                p99: None,
                health: CellHealth::Up,
                why: String::new(),
            };
            (id(cell), report)
        });
        Ok(DataPlaneReport {
            incarnation: 1,
            generation: state.applied.generation,
            effective: state.applied.services.iter().map(|(id, s)| (id.clone(), s.weights.clone())).collect(),
            cells: cells.collect(),
        })
    }

    fn apply(&mut self, routing: &Routing) -> Result<(), PortError> {
        let mut state = self.0.borrow_mut();
        assert!(state.data_plane_answers, "what does not answer is not told anything");
        assert!(routing.generation > state.applied.generation, "generations grow");
        state.log.push(Happening::Applied(routing.services["shop"].weights.clone()));
        state.applied = routing.clone();
        Ok(())
    }
}

impl CellDriver for World {
    fn observe(&mut self) -> Vec<CellObservation> {
        Vec::new()
    }

    fn request(&mut self, command: CellCommand) -> Result<(), PortError> {
        self.0.borrow_mut().log.push(Happening::Commanded(command));
        Ok(())
    }
}

impl DataGate for World {
    fn gate(&mut self, _cell: &Cell, policy: &DataPolicy, _windows: Option<&Windows>) -> DataGateView {
        DataGateView { open: *policy == DataPolicy::Stateless, lag: None, why: String::new() }
    }
}

impl Store for Logged {
    fn commit(
        &mut self,
        at: Timestamp,
        entries: &[(Option<ServiceId>, EntryKind)],
        memory: &[u8],
    ) -> Result<Vec<LedgerSeq>, PortError> {
        let places = self.0.commit(at, entries, memory)?;
        let written = entries.iter().map(|(_, kind)| Happening::Written(kind.clone()));
        self.1.borrow_mut().log.extend(written);
        Ok(places)
    }

    fn memory(&mut self) -> Result<Option<Vec<u8>>, PortError> {
        self.0.memory()
    }

    fn entries(&mut self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, PortError> {
        self.0.entries(before, limit)
    }
}

/// The weights that a written decision asks for.
pub(crate) fn wanted_weights(entry: &EntryKind) -> Option<&ServiceWeights> {
    let EntryKind::Decision { effects, .. } = entry else { return None };
    effects.iter().find_map(|e| if let Effect::SetWeights { weights, .. } = e { Some(weights) } else { None })
}
