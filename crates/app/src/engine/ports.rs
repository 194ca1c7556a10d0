//! The real drivers behind the loop's ports.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use forefend_cells::SandboxDriver;
use forefend_config::Config;
use forefend_control::Ports;
use forefend_domain::{
    CellId, ServiceId, Timestamp, Windows,
    ports::{
        CellCommand, CellDriver, CellObservation, CellReport, Clock, DataPlane, DataPlaneReport, PortError,
        ProbeOutcome, Routing, TelemetrySource,
    },
};
use forefend_store::RedbStore;
use forefend_telemetry::{Collector, catalogue};
use forefend_traffic::DirectorClient;

use super::{clock::SteadyClock, gate::DeclaredGate, targets};

/// The collector, shared by the port that is read and the one that feeds it. One thread owns both.
pub(crate) type SharedCollector = Rc<RefCell<Collector>>;

/// Everything outside of the loop, whose effects it has.
pub(super) struct Outside {
    pub(super) clock: SteadyClock,
    pub(super) store: RedbStore,
    pub(super) collector: SharedCollector,
    pub(super) director: Director,
    pub(super) cells: Cells,
    pub(super) gate: DeclaredGate,
}

impl Outside {
    /// What is measured, as it is.
    pub(super) fn telemetry(&self) -> Telemetry {
        Telemetry(Rc::clone(&self.collector))
    }

    /// As the loop wants it, with `telemetry` between it and the collector.
    pub(super) fn ports<'a>(&'a mut self, telemetry: &'a mut dyn TelemetrySource) -> Ports<'a> {
        Ports {
            clock: &self.clock,
            telemetry,
            data_plane: &mut self.director,
            cells: &mut self.cells,
            gate: &mut self.gate,
            store: &mut self.store,
        }
    }
}

/// The loop's telemetry.
pub(crate) struct Telemetry(pub(crate) SharedCollector);

impl TelemetrySource for Telemetry {
    fn windows(&mut self, now: Timestamp) -> Vec<Windows> {
        self.0.borrow_mut().windows(now)
    }

    fn each_windows(&mut self, now: Timestamp, look: &mut dyn FnMut(&mut Windows)) {
        self.0.borrow_mut().each_windows(now, look);
    }

    fn probes(&mut self) -> Vec<ProbeOutcome> {
        self.0.borrow_mut().probes()
    }
}

/// The director, whose view of each cell also becomes telemetry.
pub(crate) struct Director {
    pub(crate) client: DirectorClient,
    pub(crate) collector: SharedCollector,
    pub(crate) clock: SteadyClock,
    /// By service: latency objective in milliseconds and tolerated share of errors.
    pub(crate) objectives: BTreeMap<ServiceId, (f64, f64)>,
    last: Option<(Timestamp, DataPlaneReport)>,
    services: BTreeMap<CellId, ServiceId>,
}

impl Director {
    pub(crate) fn new(client: DirectorClient, collector: SharedCollector, clock: SteadyClock) -> Self {
        Self { client, collector, clock, objectives: BTreeMap::new(), last: None, services: BTreeMap::new() }
    }

    pub(crate) fn take_objectives(&mut self, config: &Config) {
        self.objectives = config
            .services()
            .into_iter()
            .map(|s| (s.id, (s.objective.latency.as_secs_f64() * 1_000.0, s.objective.error_share)))
            .collect();
    }

    fn feed(&mut self, report: &DataPlaneReport) {
        let now = self.clock.now();
        let same = self.last.as_ref().filter(|(_, last)| last.incarnation == report.incarnation);
        for (cell, seen) in &report.cells {
            let before = same.and_then(|(at, last)| last.cells.get(cell).map(|c| (*at, c)));
            let objective = self.services.get(cell).and_then(|s| self.objectives.get(s)).copied();
            feed_cell(&self.collector.borrow(), cell, now, seen, before, objective);
        }
        self.last = Some((now, report.clone()));
    }
}

fn feed_cell(
    collector: &Collector,
    cell: &CellId,
    now: Timestamp,
    seen: &CellReport,
    before: Option<(Timestamp, &CellReport)>,
    objective: Option<(f64, f64)>,
) {
    let millis = |d: Option<Duration>| d.map(|d| d.as_secs_f64() * 1_000.0);
    let latency_limit = objective.map(|o| o.0);
    let (rate, errors) = match before {
        Some((at, before)) => {
            let requests = seen.requests.saturating_sub(before.requests) as f64;
            let errors = seen.errors.saturating_sub(before.errors) as f64;
            let seconds = now.since(at).as_secs_f64();
            (
                (seconds > 0.0).then(|| requests / seconds),
                // No request says nothing about errors.
                (requests > 0.0).then(|| errors / requests),
            )
        }
        None => (None, None),
    };
    let readings = [
        (catalogue::LATENCY_P99.spec(latency_limit), millis(seen.p99)),
        (catalogue::LATENCY_P50.spec(latency_limit), millis(seen.p50)),
        (catalogue::ERROR_RATIO.spec(objective.map(|o| o.1)), errors),
        (catalogue::REQUESTS_PER_SECOND.spec(None), rate),
    ];
    for (spec, value) in readings {
        // A refusal for too many series is in the collector's own counts.
        let _ = collector.feed(cell, &spec, now, value);
    }
}

impl DataPlane for Director {
    fn report(&mut self) -> Result<DataPlaneReport, PortError> {
        let report = self.client.report()?;
        self.feed(&report);
        Ok(report)
    }

    fn apply(&mut self, routing: &Routing) -> Result<(), PortError> {
        self.services = routing
            .services
            .iter()
            .flat_map(|(id, s)| s.cells.iter().map(move |route| (route.cell.clone(), id.clone())))
            .collect();
        self.client.apply(routing)
    }
}

/// The sandbox driver, or none where the file has no blueprints.
pub(crate) struct Cells {
    pub(crate) driver: Option<SandboxDriver>,
    pub(crate) collector: SharedCollector,
    pub(crate) config: Rc<RefCell<Config>>,
    pub(crate) told: Vec<forefend_telemetry::Target>,
}

impl CellDriver for Cells {
    fn observe(&mut self) -> Vec<CellObservation> {
        let observations = self.driver.as_mut().map(|d| d.observe()).unwrap_or_default();
        let targets = targets::targets(&self.config.borrow(), &observations, self.driver.as_ref());
        if targets != self.told {
            self.collector.borrow_mut().set_targets(targets.clone());
            self.told = targets;
        }
        observations
    }

    fn request(&mut self, command: CellCommand) -> Result<(), PortError> {
        match &mut self.driver {
            Some(driver) => driver.request(command),
            None => Err(PortError::Refused {
                port: "cell driver",
                why: "the configuration names no blueprints, so there is nothing to make cells of".to_owned(),
            }),
        }
    }
}
