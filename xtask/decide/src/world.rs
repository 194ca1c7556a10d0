//! The ports of the loop: a real store of series behind, a data plane that applies at once, nobody who makes cells.

use std::collections::BTreeMap;

use forefend_domain::{
    Cell, CellHealth, CellId, DataGateView, DataPolicy, ServiceId, Timestamp, Windows,
    ports::{
        CellCommand, CellDriver, CellObservation, CellReport, Clock, DataGate, DataPlane, DataPlaneReport,
        PortError, ProbeOutcome, Routing, TelemetrySource,
    },
};
use forefend_telemetry::SeriesStore;

use crate::fleet::TICK;

/// The time of the tick.
pub(crate) struct Now(pub(crate) Timestamp);

impl Clock for Now {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// The real store, and a probe of each cell each tick.
pub(crate) struct Telemetry {
    pub(crate) store: SeriesStore,
    pub(crate) cells: Vec<CellId>,
    pub(crate) now: Timestamp,
}

impl TelemetrySource for Telemetry {
    fn windows(&mut self, now: Timestamp) -> Vec<Windows> {
        self.store.windows(now)
    }

    fn each_windows(&mut self, now: Timestamp, look: &mut dyn FnMut(&mut Windows)) {
        self.store.each_windows(now, look);
    }

    fn probes(&mut self) -> Vec<ProbeOutcome> {
        let (at, took) = (self.now, std::time::Duration::from_millis(3));
        self.cells.iter().map(|cell| ProbeOutcome { cell: cell.clone(), at, ok: true, took }).collect()
    }
}

/// Applies what it is told, and sees the same traffic at every cell.
#[derive(Default)]
pub(crate) struct Plane {
    pub(crate) cells: Vec<CellId>,
    pub(crate) ticks: u64,
    pub(crate) applied: Routing,
}

impl DataPlane for Plane {
    fn report(&mut self) -> Result<DataPlaneReport, PortError> {
        self.ticks += 1;
        let requests = self.ticks * 120 * TICK.as_secs();
        let millis = |ms| Some(std::time::Duration::from_millis(ms));
        let report = || CellReport {
            requests,
            errors: requests / 1_000,
            slow: 0,
            in_flight: 3,
            p50: millis(12),
            p99: millis(60),
            health: CellHealth::Up,
            why: String::new(),
        };
        let effective: BTreeMap<ServiceId, _> =
            self.applied.services.iter().map(|(id, s)| (id.clone(), s.weights.clone())).collect();
        Ok(DataPlaneReport {
            incarnation: 1,
            generation: self.applied.generation,
            effective,
            cells: self.cells.iter().map(|cell| (cell.clone(), report())).collect(),
        })
    }

    fn apply(&mut self, routing: &Routing) -> Result<(), PortError> {
        self.applied = routing.clone();
        Ok(())
    }
}

/// Makes no cells.
pub(crate) struct NoDriver;

impl CellDriver for NoDriver {
    fn observe(&mut self) -> Vec<CellObservation> {
        Vec::new()
    }

    fn request(&mut self, _: CellCommand) -> Result<(), PortError> {
        Err(PortError::Refused { port: "cell driver", why: "nobody makes cells here".to_owned() })
    }
}

/// The data lets traffic go anywhere.
pub(crate) struct Open;

impl DataGate for Open {
    fn gate(&mut self, _: &Cell, _: &DataPolicy, _: Option<&Windows>) -> DataGateView {
        DataGateView { open: true, lag: None, why: String::new() }
    }
}
