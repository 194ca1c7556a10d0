//! The recorded past behind the ports.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use forefend_control::ServiceSpec;
use forefend_domain::{
    Cell, CellHealth, CellId, DataGateView, DataPolicy, DomainError, EntryKind, LedgerEntry, LedgerSeq, Rate,
    ServiceId, ServiceWeights, Stage, Timestamp, Windows,
    ports::{
        CellCommand, CellDriver, CellObservation, CellReport, Clock, DataGate, DataPlane, DataPlaneReport,
        PortError, ProbeOutcome, Routing, ServiceRouting, Store, TelemetrySource,
    },
};
use forefend_telemetry::history::History;

use super::{Options, standby::Standbys, trace::Known};

/// One handle plays every port.
#[derive(Clone)]
pub(crate) struct World<'h>(pub(crate) Rc<RefCell<State<'h>>>);

/// What happens to the recorded cells, whatever is done.
pub(crate) struct State<'h> {
    pub(crate) now: Timestamp,
    history: &'h History,
    service: ServiceId,
    recorded: Vec<Recording>,
    incidents: BTreeMap<CellId, Vec<Known>>,
    window_steps: usize,
    shown: Option<(Timestamp, Vec<Windows>)>,
    pub(crate) standbys: Standbys,
    applied: Routing,
    applying: VecDeque<(Timestamp, Routing)>,
    propagate: Duration,
    totals: BTreeMap<CellId, (f64, f64)>,
    pub(crate) ledger: Vec<LedgerEntry>,
    seq: u64,
    memory: Option<Vec<u8>>,
}

/// What is recorded of a cell, in short.
struct Recording {
    cell: CellId,
    first: Timestamp,
    last: Timestamp,
    traffic: Vec<(Timestamp, f64)>,
    assumed_rate: f64,
}

impl<'h> State<'h> {
    pub(crate) fn new(
        history: &'h History,
        spec: &ServiceSpec,
        incidents: &[Known],
        options: &Options,
    ) -> Result<Self, DomainError> {
        let recorded: Vec<Recording> = spec
            .cells
            .keys()
            .filter_map(|id| {
                let series = &history.cells.get(id)?.series;
                let first = series.values().filter_map(|s| s.samples.first()).map(|(at, _)| *at).min()?;
                let last = series.values().filter_map(|s| s.samples.last()).map(|(at, _)| *at).max()?;
                let traffic = series.get(&options.traffic).map(|s| s.samples.clone()).unwrap_or_default();
                let at_home = spec.home.share(id) > 0.0;
                let assumed_rate = if at_home { options.requests_per_s } else { 0.0 };
                Some(Recording { cell: id.clone(), first, last, traffic, assumed_rate })
            })
            .collect();
        let most = recorded.iter().map(Recording::most).sum::<f64>();
        // Twice what was ever seen leaves the headroom of any policy.
        let capacity = options.standby_capacity_per_s.unwrap_or(most.max(1.0) * 2.0);
        let policy = &spec.service.policy;
        let capacity = Rate::per_second(capacity / (1.0 - policy.budgets.headroom)).ok();
        let mut by_cell: BTreeMap<CellId, Vec<Known>> = BTreeMap::new();
        for incident in incidents {
            by_cell.entry(incident.cell.clone()).or_default().push(incident.clone());
        }
        let home = ServiceRouting { cells: Vec::new(), weights: spec.home.clone() };
        Ok(Self {
            now: Timestamp::default(),
            history,
            service: spec.service.id.clone(),
            recorded,
            incidents: by_cell,
            window_steps: options.window_steps,
            shown: None,
            standbys: Standbys::new(policy, capacity)?,
            applied: Routing { generation: 1, services: BTreeMap::from([(spec.service.id.clone(), home)]) },
            applying: VecDeque::new(),
            propagate: policy.lead_time_prior(Stage::Propagate).max(options.tick),
            totals: BTreeMap::new(),
            ledger: Vec::new(),
            seq: 0,
            memory: None,
        })
    }

    /// From the first to the last sample of the service's cells, and to the end of their incidents.
    pub(crate) fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let first = self.recorded.iter().map(|r| r.first).min()?;
        let last = self.recorded.iter().map(|r| r.last).max()?;
        let over = self.incidents.values().flatten().map(|i| i.ended).max();
        Some((first, over.unwrap_or(last).max(last)))
    }

    /// When the recording of a cell begins and ends.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = (&CellId, Timestamp, Timestamp)> {
        self.recorded.iter().map(|r| (&r.cell, r.first, r.last))
    }

    pub(crate) fn weights(&self) -> Option<&ServiceWeights> {
        self.applied.services.get(&self.service).map(|s| &s.weights)
    }

    pub(crate) fn in_incident(&self, cell: &CellId) -> bool {
        self.incidents
            .get(cell)
            .is_some_and(|all| all.iter().any(|i| i.began <= self.now && self.now < i.ended))
    }

    /// Goes on to `now`: weights and cells that were asked for come about.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.now = now;
        while self.applying.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, routing)) = self.applying.pop_front() {
                self.applied = routing;
            }
        }
        self.standbys.advance(now);
    }

    /// Requests per second of all users of the service, as recorded; of a cell in an incident, as before it.
    pub(crate) fn requests_per_s(&self) -> f64 {
        let at = |recording: &Recording| {
            let began = self.incidents.get(&recording.cell).and_then(|all| {
                all.iter().find(|i| i.began <= self.now && self.now < i.ended).map(|i| i.began)
            });
            recording.rate(began.unwrap_or(self.now), self.history.step)
        };
        self.recorded.iter().map(at).sum()
    }

    /// Lets users come for `time` from now on.
    pub(crate) fn serve(&mut self, time: Duration) {
        let requests = self.requests_per_s() * time.as_secs_f64();
        let Some(weights) = self.weights().cloned() else { return };
        for ((_, cell), share) in weights.shares() {
            let failing = self.in_incident(&cell);
            let totals = self.totals.entry(cell).or_default();
            totals.0 += requests * share;
            totals.1 += if failing { requests * share } else { 0.0 };
        }
    }

    /// The windows as of now, made anew when a step has passed.
    pub(crate) fn windows(&mut self) -> &[Windows] {
        let step_ms = u64::try_from(self.history.step.as_millis()).unwrap_or(u64::MAX).max(1);
        let end = Timestamp::from_unix_ms(self.now.unix_ms() / step_ms * step_ms);
        if self.shown.as_ref().is_none_or(|(at, _)| *at != end) {
            let reach = self.history.step * u32::try_from(self.window_steps).unwrap_or(u32::MAX);
            let is_on = |r: &&Recording| r.first <= self.now && end <= r.last + reach;
            let windows = self.recorded.iter().filter(is_on);
            let windows = windows.filter_map(|r| self.history.windows(&r.cell, self.now, self.window_steps));
            self.shown = Some((end, windows.collect()));
        }
        self.shown.as_ref().map_or(&[], |(_, windows)| windows)
    }
}

impl Recording {
    /// The newest known rate that is no older than a few steps; else what is assumed.
    fn rate(&self, at: Timestamp, step: Duration) -> f64 {
        let known = self.traffic.partition_point(|(t, _)| *t <= at);
        let newest = self.traffic[..known].iter().rev().find(|(_, v)| v.is_finite() && *v >= 0.0);
        match newest {
            Some((t, rate)) if at.since(*t) <= step * 3 => *rate,
            _ if at < self.first => 0.0,
            _ if self.traffic.is_empty() => self.assumed_rate,
            Some((_, rate)) => *rate,
            None => self.assumed_rate,
        }
    }

    fn most(&self) -> f64 {
        let finite = self.traffic.iter().map(|(_, v)| *v).filter(|v| v.is_finite());
        finite.fold(self.assumed_rate, f64::max)
    }
}

impl Clock for World<'_> {
    fn now(&self) -> Timestamp {
        self.0.borrow().now
    }
}

impl TelemetrySource for World<'_> {
    fn windows(&mut self, _now: Timestamp) -> Vec<Windows> {
        self.0.borrow_mut().windows().to_vec()
    }

    /// An incident is all that is known of how users fared: within one, the objective is broken.
    fn probes(&mut self) -> Vec<ProbeOutcome> {
        let state = self.0.borrow();
        let outcome = |cell: &CellId, ok: bool| ProbeOutcome {
            cell: cell.clone(),
            at: state.now,
            ok,
            took: Duration::from_millis(1),
        };
        let recorded = state.recorded.iter().filter_map(|r| {
            let failing = state.in_incident(&r.cell);
            let known = failing || (r.first <= state.now && state.now <= r.last + state.history.step);
            known.then(|| outcome(&r.cell, !failing))
        });
        recorded.chain(state.standbys.answering().map(|cell| outcome(cell, true))).collect()
    }
}

impl DataPlane for World<'_> {
    fn report(&mut self) -> Result<DataPlaneReport, PortError> {
        let state = self.0.borrow();
        let of = |cell: &CellId| {
            let (requests, errors) = state.totals.get(cell).copied().unwrap_or_default();
            let report = CellReport {
                requests: requests as u64,
                errors: errors as u64,
                slow: 0,
                in_flight: 0,
                p50: None,
                p99: None,
                health: CellHealth::Up,
                why: String::new(),
            };
            (cell.clone(), report)
        };
        let recorded = state.recorded.iter().map(|r| of(&r.cell));
        let standbys = state.standbys.answering().map(of);
        Ok(DataPlaneReport {
            incarnation: 1,
            generation: state.applied.generation,
            effective: state.applied.services.iter().map(|(id, s)| (id.clone(), s.weights.clone())).collect(),
            cells: recorded.chain(standbys).collect(),
        })
    }

    fn apply(&mut self, routing: &Routing) -> Result<(), PortError> {
        let mut state = self.0.borrow_mut();
        let due = state.now + state.propagate;
        // The same weights asked for again, because they are not read back yet, are already on their way.
        match state.applying.back_mut() {
            Some((_, last)) if last.services == routing.services => last.generation = routing.generation,
            _ => state.applying.push_back((due, routing.clone())),
        }
        Ok(())
    }
}

impl CellDriver for World<'_> {
    fn observe(&mut self) -> Vec<CellObservation> {
        self.0.borrow_mut().standbys.observe()
    }

    fn request(&mut self, command: CellCommand) -> Result<(), PortError> {
        let mut state = self.0.borrow_mut();
        let now = state.now;
        state.standbys.request(now, command)
    }
}

impl DataGate for World<'_> {
    fn gate(&mut self, cell: &Cell, policy: &DataPolicy, windows: Option<&Windows>) -> DataGateView {
        let assumed = self.0.borrow().standbys.contains(&cell.id);
        let lag = |metric| windows.and_then(|w| w.metrics.get(metric)).and_then(|m| m.latest());
        let (open, why) = match policy {
            DataPolicy::Stateless => (true, "cells share no state"),
            DataPolicy::Pinned => (false, "the policy pins the data to its cell"),
            DataPolicy::Lag { .. } if assumed => (true, "assumed to be within its limit"),
            DataPolicy::Lag { metric, rpo } => {
                (lag(metric).is_some_and(|(_, s)| s <= rpo.as_secs_f64()), "as recorded")
            }
        };
        DataGateView { open, lag: None, why: why.to_owned() }
    }
}

impl Store for World<'_> {
    fn commit(
        &mut self,
        at: Timestamp,
        entries: &[(Option<ServiceId>, EntryKind)],
        memory: &[u8],
    ) -> Result<Vec<LedgerSeq>, PortError> {
        let mut state = self.0.borrow_mut();
        let mut seqs = Vec::new();
        for (service, kind) in entries {
            state.seq += 1;
            let seq = LedgerSeq(state.seq);
            seqs.push(seq);
            state.ledger.push(LedgerEntry { seq, at, service: service.clone(), kind: kind.clone() });
        }
        state.memory = Some(memory.to_vec());
        Ok(seqs)
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
