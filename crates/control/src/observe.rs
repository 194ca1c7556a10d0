//! From what the ports tell to the world as seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use forefend_domain::{
    Cell, CellHealth, CellId, CellView, DataGateView, LeadTimeProfile, LifeState, ObjectiveState, Policy,
    ServiceId, ServiceView, ServiceWeights, Timestamp, TrafficView, Windows,
    ports::{CellObservation, DataGate, DataPlaneReport, DriverStage, ProbeOutcome},
};
use forefend_telemetry::objective::{ObjectiveTracker, ProbeTiming, TrafficDelta};

use crate::{
    life::{self, Seen},
    rates::{Rates, fill_observed_shares},
    topology::ServiceSpec,
};

/// The metric that tells how much of its CPU a cell uses, as the telemetry crate's readers name it.
const CPU_METRIC: &str = "cpu_utilisation_ratio";

/// What the loop remembers between ticks to make sense of what it sees. Nothing of it needs to outlive the process.
#[derive(Debug)]
pub(crate) struct Observer {
    rates: Rates,
    tracker: ObjectiveTracker,
    lives: BTreeMap<CellId, LifeState>,
    used_at: BTreeMap<CellId, Timestamp>,
}

/// What the ports told in this tick.
pub(crate) struct Told<'a> {
    pub(crate) now: Timestamp,
    pub(crate) observations: &'a BTreeMap<CellId, CellObservation>,
    /// The same by service.
    pub(crate) managed: &'a BTreeMap<&'a ServiceId, Vec<&'a CellObservation>>,
    pub(crate) report: Option<&'a DataPlaneReport>,
    pub(crate) lead_times: &'a BTreeMap<ServiceId, LeadTimeProfile>,
}

/// What one data-plane report says of each cell.
pub(crate) type Traffic = BTreeMap<CellId, (TrafficView, TrafficDelta)>;

impl Observer {
    pub(crate) fn new(probe_interval: Duration, probe_timeout: Duration) -> Self {
        let timing = ProbeTiming { interval: probe_interval, timeout: probe_timeout };
        Self {
            rates: Rates::default(),
            tracker: ObjectiveTracker::new(timing),
            lives: BTreeMap::new(),
            used_at: BTreeMap::new(),
        }
    }

    /// Takes probes and the report of the tick; to be called once, before [`Observer::service`].
    pub(crate) fn take(
        &mut self,
        now: Timestamp,
        probes: &[ProbeOutcome],
        report: Option<&DataPlaneReport>,
    ) -> Traffic {
        for probe in probes {
            self.tracker.probe(probe);
        }
        let traffic = report.map(|report| self.rates.take(now, report)).unwrap_or_default();
        for (cell, (_, delta)) in &traffic {
            self.tracker.traffic(cell, now, *delta);
        }
        traffic
    }

    /// Forgets cells that are no more.
    pub(crate) fn keep_only(&mut self, known: &BTreeSet<CellId>) {
        let gone: Vec<CellId> = self.lives.keys().filter(|c| !known.contains(*c)).cloned().collect();
        for cell in gone {
            self.tracker.forget(&cell);
            self.lives.remove(&cell);
            self.used_at.remove(&cell);
        }
    }

    /// One service as seen now.
    pub(crate) fn service(&mut self, spec: &ServiceSpec, told: &Told<'_>, traffic: &Traffic) -> ServiceView {
        let id = &spec.service.id;
        let effective = told
            .report
            .map(|report| report.effective.get(id).cloned().unwrap_or_else(ServiceWeights::default));
        let mut known: BTreeMap<CellId, Cell> =
            spec.cells.values().map(|c| (c.cell.id.clone(), c.cell.clone())).collect();
        for observed in told.managed.get(id).into_iter().flatten() {
            known.entry(observed.cell.id.clone()).or_insert_with(|| observed.cell.clone());
        }
        let mut cells: BTreeMap<CellId, CellView> = known
            .into_values()
            .map(|cell| (cell.id.clone(), self.cell(spec, cell, told, traffic, effective.as_ref())))
            .collect();
        fill_observed_shares(cells.values_mut().map(|c| &mut c.traffic));
        ServiceView {
            service: spec.service.clone(),
            home: spec.home.clone(),
            effective,
            cells,
            lead_times: told.lead_times.get(id).cloned().unwrap_or_default(),
        }
    }

    fn cell(
        &mut self,
        spec: &ServiceSpec,
        cell: Cell,
        told: &Told<'_>,
        traffic: &Traffic,
        effective: Option<&ServiceWeights>,
    ) -> CellView {
        let id = &cell.id;
        let observed = told.observations.get(id);
        let stage = observed.map(|o| &o.stage);
        let managed = cell.blueprint.is_some();
        let share = effective.map_or(0.0, |w| w.share(id));
        let seen = traffic.get(id).map(|(view, _)| view.clone()).unwrap_or_default();
        let policy = &spec.service.policy;
        let life = life::follow(
            self.lives.get(id).copied().unwrap_or_else(|| life::first(managed)),
            Seen {
                stage,
                managed,
                share,
                canary: policy.canary.first,
                in_flight: seen.in_flight.unwrap_or(0),
            },
        );
        self.lives.insert(id.clone(), life);
        let parked = matches!(stage, Some(DriverStage::Parked));
        if parked {
            // Frozen cells answer no probes, and that says nothing of how they do when thawed.
            self.tracker.forget(id);
        }
        let objective = if parked {
            ObjectiveState::Unknown
        } else {
            self.tracker.judge(id, &spec.service.objective, told.now)
        };
        let reported = told.report.and_then(|r| r.cells.get(id));
        let passport = observed.and_then(|o| o.passport.clone());
        let warmed_at = passport.as_ref().map(|p| p.warmed_at);
        if share > 0.0 {
            self.used_at.insert(id.clone(), told.now);
        }
        let used_at = self.used_at.get(id).copied().max(warmed_at);
        let by_rate = match (seen.rate, policy.capacity_per_cell) {
            (Some(rate), Some(capacity)) if capacity.get() > 0.0 => Some(rate.get() / capacity.get()),
            _ => None,
        };
        CellView {
            life,
            parked,
            health: reported.map_or(CellHealth::Unknown, |r| r.health),
            objective,
            traffic: seen,
            telemetry_at: None,
            utilisation: by_rate,
            capacity: None,
            passport,
            data: DataGateView { open: false, lag: None, why: "not asked yet".to_owned() },
            used_at,
            cell,
        }
    }
}

/// What is seen of a cell through its windows; of one that has none too.
pub(crate) fn complete(
    view: &mut CellView,
    policy: &Policy,
    windows: Option<&Windows>,
    gate: &mut dyn DataGate,
) {
    view.telemetry_at = windows.and_then(newest);
    let by_cpu = windows.and_then(|w| recent_mean(w, CPU_METRIC));
    view.utilisation = [view.utilisation, by_cpu].into_iter().flatten().reduce(f64::max);
    view.data = gate.gate(&view.cell, &policy.data, windows);
}

/// When anything of the cell was last measured.
fn newest(windows: &Windows) -> Option<Timestamp> {
    windows
        .metrics
        .values()
        .filter_map(|m| m.samples.iter().rev().find(|s| s.value.is_some()).map(|s| s.at))
        .max()
}

/// The mean of a metric's last four values.
fn recent_mean(windows: &Windows, metric: &str) -> Option<f64> {
    let window = windows.metrics.values().find(|m| m.name.as_str() == metric)?;
    let newest: Vec<f64> = window.samples.iter().rev().take(4).filter_map(|s| s.value).collect();
    (!newest.is_empty()).then(|| newest.iter().sum::<f64>() / newest.len() as f64)
}

/// Cells that are ours to make, by service: gone through once, however many services there are.
pub(crate) fn by_service(
    observations: &BTreeMap<CellId, CellObservation>,
) -> BTreeMap<&ServiceId, Vec<&CellObservation>> {
    let mut all: BTreeMap<&ServiceId, Vec<&CellObservation>> = BTreeMap::new();
    for observed in observations.values() {
        all.entry(&observed.cell.service).or_default().push(observed);
    }
    all
}

/// Where every cell of the service listens that is known to listen; `managed` are those of its cells that are ours to make.
pub(crate) fn addresses(
    spec: &ServiceSpec,
    managed: &[&CellObservation],
) -> BTreeMap<CellId, (Cell, SocketAddr)> {
    let configured = spec.cells.values().filter_map(|c| c.address.map(|a| (c.cell.clone(), a)));
    let observed = managed.iter().filter_map(|o| o.address.map(|a| (o.cell.clone(), a)));
    configured.chain(observed).map(|(cell, address)| (cell.id.clone(), (cell, address))).collect()
}
