//! The made-up world behind the ports.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, rc::Rc, time::Duration};

use forefend_domain::{
    BlueprintHash, Cell, DataGateView, DataPolicy, Effect, EntryKind, Family, LedgerEntry, LedgerSeq,
    MetricKind, MetricName, MetricWindow, Passport, ServiceId, Timestamp, Windows,
    ports::{
        CellCommand, CellDriver, CellObservation, Clock, DataGate, DataPlane, DataPlaneReport, DriverStage,
        PortError, ProbeOutcome, Routing, Store, TelemetrySource,
    },
};

use crate::{
    state::{Making, SimCell, State},
    topology::{LATENCY_OBJECTIVE_MS, MEMORY_LIMIT, TICK, rate},
};

/// One handle plays every port.
#[derive(Debug, Clone)]
pub(crate) struct World(pub(crate) Rc<RefCell<State>>);

fn unreachable(port: &'static str) -> PortError {
    PortError::Unreachable { port, why: "made-up outage".to_owned() }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.0.borrow().now
    }
}

impl TelemetrySource for World {
    fn windows(&mut self, now: Timestamp) -> Vec<Windows> {
        let state = self.0.borrow();
        state
            .cells
            .values()
            .map(|cell| {
                let metrics = cell.metrics.iter().map(|(name, samples)| {
                    let (family, kind, unit, limit) = match *name {
                        "memory_working_set_bytes" => {
                            (Family::Saturation, MetricKind::Exhaustible, "bytes", Some(MEMORY_LIMIT))
                        }
                        "latency_p99_ms" => {
                            (Family::Latency, MetricKind::Exhaustible, "ms", Some(LATENCY_OBJECTIVE_MS))
                        }
                        _ => (Family::Saturation, MetricKind::Saturable, "ratio", Some(1.0)),
                    };
                    let name = MetricName::new(name);
                    let samples = samples.iter().copied().collect();
                    (name.clone(), MetricWindow { name, family, kind, unit: unit.to_owned(), limit, samples })
                });
                Windows { cell: cell.cell.id.clone(), at: now, step: TICK, metrics: metrics.collect() }
            })
            .collect()
    }

    fn probes(&mut self) -> Vec<ProbeOutcome> {
        let state = self.0.borrow();
        let probed =
            state.cells.values().filter(|c| !matches!(c.making, Making::Parked | Making::Creating { .. }));
        probed
            .filter(|c| state.now >= c.blind_until)
            .map(|cell| ProbeOutcome {
                cell: cell.cell.id.clone(),
                at: state.now,
                ok: cell.answers(),
                took: Duration::from_secs_f64(cell.latency_ms / 1_000.0),
            })
            .collect()
    }
}

impl DataPlane for World {
    fn report(&mut self) -> Result<DataPlaneReport, PortError> {
        let state = self.0.borrow();
        if state.now < state.outages.data_plane {
            return Err(unreachable("data plane"));
        }
        Ok(DataPlaneReport {
            incarnation: state.incarnation,
            generation: state.applied.generation,
            effective: state.applied.services.iter().map(|(id, s)| (id.clone(), s.weights.clone())).collect(),
            cells: state.reports(),
        })
    }

    fn apply(&mut self, routing: &Routing) -> Result<(), PortError> {
        let mut state = self.0.borrow_mut();
        state.judge_weights(routing);
        if state.now < state.outages.data_plane {
            return Err(unreachable("data plane"));
        }
        if state.now < state.outages.applies_lost {
            return Ok(());
        }
        let delay = Duration::from_millis(state.random.pick(0, 600));
        let due = state.now + delay;
        state.applying.push_back((due, routing.clone()));
        Ok(())
    }
}

impl CellDriver for World {
    fn observe(&mut self) -> Vec<CellObservation> {
        let mut state = self.0.borrow_mut();
        let now = state.now;
        state
            .cells
            .values_mut()
            .filter(|c| c.managed)
            .map(|cell| CellObservation {
                cell: cell.cell.clone(),
                stage: match cell.making {
                    Making::Creating { .. } => DriverStage::Creating,
                    Making::Warming { .. } => DriverStage::Warming,
                    Making::Ready => DriverStage::Ready,
                    Making::Parked => DriverStage::Parked,
                    Making::Failed => DriverStage::Failed { why: "made-up".to_owned() },
                },
                address: (!matches!(cell.making, Making::Creating { .. })).then_some(cell.address),
                passport: cell.warmed_at.map(|warmed_at| Passport {
                    blueprint: hash(),
                    current: true,
                    warmed_at: warmed_at.min(now),
                    warm_requests: 40,
                    warm_ok: cell.warm_ok,
                    measured_capacity: Some(rate(1_200.0)),
                }),
                took: std::mem::take(&mut cell.took),
            })
            .collect()
    }

    fn request(&mut self, command: CellCommand) -> Result<(), PortError> {
        let mut state = self.0.borrow_mut();
        let effect = match command.clone() {
            CellCommand::Create { cell, blueprint } => Effect::Create { cell, blueprint },
            CellCommand::Recreate { cell } => Effect::Recreate { cell },
            CellCommand::Park { cell } => Effect::Park { cell },
            CellCommand::Unpark { cell } => Effect::Unpark { cell },
            CellCommand::Rewarm { cell } => Effect::Rewarm { cell },
            CellCommand::Retire { cell } => Effect::Retire { cell },
        };
        state.take_authorisation(&effect);
        if state.frozen {
            state.findings.push(format!("frozen_holds: {effect:?} during a freeze"));
        }
        if state.now < state.outages.driver {
            return Err(unreachable("cell driver"));
        }
        state.obey(command)
    }
}

impl State {
    fn obey(&mut self, command: CellCommand) -> Result<(), PortError> {
        let now = self.now;
        let made_at = now + Duration::from_millis(self.random.pick(250, 1_500));
        let warm_at = now + Duration::from_millis(self.random.pick(250, 1_500));
        let no_such = || PortError::Refused { port: "cell driver", why: "no such cell".to_owned() };
        match command {
            CellCommand::Create { cell, .. } => self.create(cell, made_at),
            CellCommand::Recreate { cell } => {
                let cell = self.cells.get_mut(&cell).ok_or_else(no_such)?;
                if cell.making == Making::Failed {
                    cell.making = Making::Creating { until: made_at };
                    cell.warmed_at = None;
                    cell.bad_share = 0.0;
                }
            }
            CellCommand::Park { cell } => {
                let share = self.applied.services.values().map(|s| s.weights.share(&cell)).sum::<f64>();
                if share > 0.0 {
                    self.findings.push(format!("parked_while_serving: {cell} has {share:.4} of the traffic"));
                }
                let cell = self.cells.get_mut(&cell).ok_or_else(no_such)?;
                if cell.making == Making::Ready {
                    cell.making = Making::Parked;
                }
            }
            CellCommand::Unpark { cell } => {
                let cell = self.cells.get_mut(&cell).ok_or_else(no_such)?;
                if cell.making == Making::Parked {
                    cell.making = Making::Ready;
                }
            }
            CellCommand::Rewarm { cell } => {
                let cell = self.cells.get_mut(&cell).ok_or_else(no_such)?;
                if cell.making == Making::Ready {
                    cell.making = Making::Warming { until: warm_at };
                }
            }
            CellCommand::Retire { cell } => {
                let share = self.applied.services.values().map(|s| s.weights.share(&cell)).sum::<f64>();
                if share > 0.0 {
                    self.findings
                        .push(format!("retired_while_serving: {cell} has {share:.4} of the traffic"));
                }
                self.cells.remove(&cell).ok_or_else(no_such)?;
                self.vanished.insert(cell);
            }
        }
        Ok(())
    }

    fn create(&mut self, cell: Cell, until: Timestamp) {
        if self.cells.contains_key(&cell.id) {
            return;
        }
        self.next_port += 1;
        let address = SocketAddr::from(([127, 0, 0, 2], self.next_port));
        let mut made =
            SimCell::new(cell.clone(), address, true, Making::Creating { until }, &mut self.random);
        if cell.role == forefend_domain::CellRole::Synthetic && self.random.chance(0.15) {
            made.bad_share = self.random.between(0.05, 0.6);
        }
        self.cells.insert(cell.id, made);
    }
}

#[expect(clippy::expect_used, reason = "a literal")]
fn hash() -> BlueprintHash {
    BlueprintHash::new("b1").expect("a legal name")
}

impl DataGate for World {
    fn gate(&mut self, _cell: &Cell, policy: &DataPolicy, _windows: Option<&Windows>) -> DataGateView {
        let open = matches!(policy, DataPolicy::Stateless);
        DataGateView { open, lag: None, why: format!("{policy:?}") }
    }
}

impl Store for World {
    fn commit(
        &mut self,
        at: Timestamp,
        entries: &[(Option<ServiceId>, EntryKind)],
        memory: &[u8],
    ) -> Result<Vec<LedgerSeq>, PortError> {
        let mut state = self.0.borrow_mut();
        if state.now < state.outages.store {
            return Err(unreachable("store"));
        }
        Ok(state.write(entries, at, memory))
    }

    fn memory(&mut self) -> Result<Option<Vec<u8>>, PortError> {
        Ok(self.0.borrow().memory.clone())
    }

    fn entries(&mut self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, PortError> {
        let state = self.0.borrow();
        let before = before.map_or(u64::MAX, |seq| seq.0);
        Ok(state.ledger.iter().rev().filter(|e| e.seq.0 < before).take(limit).cloned().collect())
    }
}

/// Cells that exist when the run begins: those that somebody else runs.
pub(crate) fn existing(
    topology: &forefend_control::Topology,
    random: &mut crate::random::Random,
) -> BTreeMap<forefend_domain::CellId, SimCell> {
    topology
        .services
        .values()
        .flat_map(|s| s.cells.values())
        .filter_map(|spec| {
            let address = spec.address?;
            Some((
                spec.cell.id.clone(),
                SimCell::new(spec.cell.clone(), address, false, Making::Ready, random),
            ))
        })
        .collect()
}
