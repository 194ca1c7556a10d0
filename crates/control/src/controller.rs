use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forefend_decide::{
    Decision, Guards, decide,
    invariants::{self, Case},
};
use forefend_domain::{
    CellId, Effect, EntryKind, Plan, Prediction, ServiceId, ServiceView, ServiceWeights, Timestamp, World,
    ports::{
        CellCommand, CellDriver, CellObservation, Clock, DataGate, DataPlane, DataPlaneReport, Store,
        TelemetrySource,
    },
};
use forefend_predict::Predictor;

use crate::{
    OperatorCommand, OperatorRefusal, Snapshot, Topology,
    entries::{ByService, concerns, decisions_by_service, note_lead_times, remember_where},
    foresee::{Foreseen, Foresight},
    observe::{self, Observer, Told},
    persisted::Persisted,
    request::{self, Asked},
    routing::{Router, Seen},
    views,
};

/// The memory is written at least this often even when the ledger has nothing new; what is lost by a kill in between is evidence, and
/// losing evidence errs on the safe side.
const COMMIT_AT_LEAST_EVERY: Duration = Duration::from_secs(2);

/// Everything the loop talks to in a tick.
pub struct Ports<'a> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// Windows and probes.
    pub telemetry: &'a mut dyn TelemetrySource,
    /// Weights.
    pub data_plane: &'a mut dyn DataPlane,
    /// Cells.
    pub cells: &'a mut dyn CellDriver,
    /// What the data allows.
    pub gate: &'a mut dyn DataGate,
    /// Ledger and memory.
    pub store: &'a mut dyn Store,
}

/// The loop can't start.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The store can't be read.
    #[error("the memory of earlier decisions can't be read")]
    Store(#[from] forefend_domain::ports::PortError),
    /// The memory is not understood.
    #[error(
        "the memory of earlier decisions is not understood: {0}; start the version that wrote it, or move the store away to begin anew"
    )]
    Memory(String),
}

/// The control loop.
#[derive(Debug)]
pub struct Controller<P> {
    predictor: P,
    guards: Guards,
    topology: Topology,
    observer: Observer,
    kept: Persisted,
    committed_at: Option<Timestamp>,
    router: Router,
    /// Entries that wait for the next commit: refusals of effects, and what the engine did.
    pending: Vec<(Option<ServiceId>, EntryKind)>,
    tick: u64,
    foresight: Foresight,
}

/// Entries that wait for a store that refuses are bounded; the oldest go, and that is said.
const MOST_PENDING: usize = 1_000;

impl<P: Predictor> Controller<P> {
    /// Takes up where the store's memory ends.
    ///
    /// # Errors
    /// When the memory can't be read or understood.
    pub fn new(
        predictor: P,
        topology: Topology,
        probe: (Duration, Duration),
        store: &mut dyn Store,
    ) -> Result<Self, ControllerError> {
        let kept = match store.memory()? {
            Some(bytes) => Persisted::from_bytes(&bytes).map_err(ControllerError::Memory)?,
            None => Persisted::default(),
        };
        let foresight = Foresight::new(&kept);
        Ok(Self {
            predictor,
            foresight,
            guards: Guards::ALL,
            topology,
            observer: Observer::new(probe.0, probe.1),
            kept,
            committed_at: None,
            router: Router::default(),
            pending: vec![(None, EntryKind::Engine { what: "started".to_owned() })],
            tick: 0,
        })
    }

    /// The same with rules taken out, for proofs that the simulator notices.
    #[must_use]
    pub fn with_guards(mut self, guards: Guards) -> Self {
        self.guards = guards;
        self
    }

    /// Takes over a changed configuration.
    pub fn set_topology(&mut self, topology: Topology, what: String) {
        self.topology = topology;
        self.note(None, EntryKind::Engine { what });
    }

    /// Whether everything is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.kept.frozen
    }

    /// Takes an operator's command: writes it to the ledger, then counts from the next tick on.
    ///
    /// # Errors
    /// [`OperatorRefusal`] says why it was not taken and what would be.
    pub fn command(
        &mut self,
        who: &str,
        command: &OperatorCommand,
        ports: &mut Ports<'_>,
    ) -> Result<(), OperatorRefusal> {
        let mut kept = self.kept.clone();
        let what = match command {
            OperatorCommand::Freeze => {
                kept.frozen = true;
                "froze everything".to_owned()
            }
            OperatorCommand::Unfreeze => {
                kept.frozen = false;
                "ended the freeze".to_owned()
            }
            OperatorCommand::Shift { cell, weight, lease, drill } => {
                self.home_cell(cell)?;
                let asked = Asked { cell, weight: *weight, lease: *lease, drill: *drill };
                match asked.put(ports.clock.now(), &mut kept)? {
                    Some(what) => what,
                    // A renewal every few seconds is not worth an entry each.
                    None => return self.keep(kept, &[], ports),
                }
            }
            OperatorCommand::EndShift { cell } => {
                self.home_cell(cell)?;
                kept.requested.remove(cell);
                format!("ended the shift of {cell}")
            }
            OperatorCommand::Approve { cell } => {
                self.home_cell(cell)?;
                if !kept.memory.asked.contains(cell) {
                    return Err(OperatorRefusal::NotAsked(cell.clone()));
                }
                kept.approved.insert(cell.clone());
                format!("approved the shift of {cell}")
            }
        };
        self.keep(kept, &[(None, EntryKind::Operator { who: who.to_owned(), what })], ports)
    }

    /// Writes down what is about to be done beside the loop: it may be done once this returns.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn remember(&mut self, entry: EntryKind, ports: &mut Ports<'_>) -> Result<(), OperatorRefusal> {
        self.keep(self.kept.clone(), &[(None, entry)], ports)
    }

    /// What a command has changed counts once it is written down.
    fn keep(
        &mut self,
        kept: Persisted,
        entries: &[(Option<ServiceId>, EntryKind)],
        ports: &mut Ports<'_>,
    ) -> Result<(), OperatorRefusal> {
        let bytes = kept.to_bytes().map_err(|e| OperatorRefusal::NotWritten(e.to_string()))?;
        let now = ports.clock.now();
        ports.store.commit(now, entries, &bytes).map_err(|e| OperatorRefusal::NotWritten(e.to_string()))?;
        self.kept = kept;
        Ok(())
    }

    fn home_cell(&self, cell: &CellId) -> Result<(), OperatorRefusal> {
        let spec = self.topology.services.values().find(|s| s.cells.contains_key(cell));
        match spec {
            None => Err(OperatorRefusal::NoSuchCell(cell.clone())),
            Some(spec) if spec.home.share(cell) == 0.0 => Err(OperatorRefusal::NothingToMove(cell.clone())),
            Some(_) => Ok(()),
        }
    }

    /// One turn of the loop.
    pub fn tick(&mut self, ports: &mut Ports<'_>) -> Snapshot {
        self.tick += 1;
        let now = ports.clock.now();
        let mut degraded = Vec::new();
        let observations: BTreeMap<CellId, CellObservation> =
            ports.cells.observe().into_iter().map(|o| (o.cell.id.clone(), o)).collect();
        let report = ports.data_plane.report().map_err(|e| degraded.push(e.to_string())).ok();
        let (world, predictions) = self.look(now, &observations, report.as_ref(), ports);

        let decision = decide(&world, &predictions, &self.kept.memory, self.guards);
        let decision = self.keep_promises(&world, &predictions, decision, &mut degraded);
        match self.commit(now, &world, &predictions, &decision, ports) {
            Ok(()) => self.act(&world, &decision, &observations, report.as_ref(), ports, &mut degraded),
            Err(e) => degraded.push(format!("nothing was done, because it could not be written down: {e}")),
        }
        let (shifts, pre_tests) = (
            views::shifts(&self.topology, &self.kept, self.committed_at),
            views::pre_tests(&self.kept.memory),
        );
        Snapshot { tick: self.tick, world, predictions, plan: decision.plan, shifts, pre_tests, degraded }
    }

    fn look(
        &mut self,
        now: Timestamp,
        observations: &BTreeMap<CellId, CellObservation>,
        report: Option<&DataPlaneReport>,
        ports: &mut Ports<'_>,
    ) -> (World, BTreeMap<CellId, Prediction>) {
        let probes = ports.telemetry.probes();
        for observation in observations.values() {
            for (stage, took) in &observation.took {
                let profile = self.kept.lead_times.entry(observation.cell.service.clone()).or_default();
                profile.record(*stage, *took);
            }
        }
        let traffic = self.observer.take(now, &probes, report);
        let lead_times = self.kept.lead_times.clone();
        let managed = observe::by_service(observations);
        let told = Told { now, observations, managed: &managed, report, lead_times: &lead_times };
        let mut services = BTreeMap::new();
        for (id, spec) in &self.topology.services {
            services.insert(id.clone(), self.observer.service(spec, &told, &traffic));
        }
        let known: BTreeSet<CellId> =
            services.values().flat_map(|s: &ServiceView| s.cells.keys().cloned()).collect();
        self.observer.keep_only(&known);
        self.foresight.keep_only(&known);
        let mut foreseen = Foreseen::of(now, &mut services);
        self.foresight.look(&self.predictor, &mut foreseen, ports.telemetry, ports.gate, &mut self.kept);
        let (predictions, learned) = foreseen.done();
        for (service, what) in learned {
            self.note(Some(service), EntryKind::Engine { what });
        }
        let world = World {
            now,
            frozen: self.kept.frozen,
            services,
            approved: self.kept.approved.clone(),
            requested: self.kept.requested.clone(),
        };
        (world, predictions)
    }

    /// Drops what would break an invariant, service by service: the others are not held up by it.
    fn keep_promises(
        &mut self,
        world: &World,
        predictions: &BTreeMap<CellId, Prediction>,
        mut decision: Decision,
        degraded: &mut Vec<String>,
    ) -> Decision {
        let mut effects = ByService::of(world, &decision.plan).effects;
        let mut memories = decision.memory.by_service();
        for (id, service) in &world.services {
            let plan = Plan { effects: effects.remove(id).unwrap_or_default(), ..Plan::default() };
            let memory = memories.remove(id).unwrap_or_default();
            let case = Case { world, predictions, plan: &plan, memory: &memory };
            let Err(violation) = invariants::check_all(case) else { continue };
            degraded.push(format!("invariant {} broken: {}", violation.invariant, violation.detail));
            let (invariant, detail) = (violation.invariant.to_owned(), violation.detail);
            self.note(Some(id.clone()), EntryKind::InvariantBroken { invariant, detail });
            decision.plan.effects.retain(|e| !concerns(e, id, service));
            decision.plan.explanations.retain(|e| !service.cells.contains_key(&e.cell));
            decision.events.retain(|(of, _)| of != id);
            decision.memory.forget_decisions(&self.kept.memory, service.cells.keys());
        }
        decision
    }

    /// Writes the decision down, with what it rests on. Only then may anything be done.
    fn commit(
        &mut self,
        now: Timestamp,
        world: &World,
        predictions: &BTreeMap<CellId, Prediction>,
        decision: &Decision,
        ports: &mut Ports<'_>,
    ) -> Result<(), forefend_domain::ports::PortError> {
        let mut kept = self.kept.with(decision.memory.clone(), self.foresight.hazards());
        note_lead_times(&self.kept.memory, decision, &mut kept.lead_times);
        let over: Vec<CellId> = kept
            .approved
            .iter()
            .filter(|cell| !kept.memory.shifts.contains_key(*cell) && !kept.memory.asked.contains(*cell))
            .cloned()
            .collect();
        over.iter().for_each(|cell| {
            kept.approved.remove(cell);
        });
        let mut entries = self.pending.clone();
        entries.extend(request::run_out(now, &mut kept));
        entries.extend(decision.events.iter().map(|(service, kind)| (Some(service.clone()), kind.clone())));
        entries.extend(decisions_by_service(world, predictions, decision));
        let due = self.committed_at.is_none_or(|at| now.since(at) >= COMMIT_AT_LEAST_EVERY);
        if entries.is_empty() && !due {
            self.kept = kept;
            return Ok(());
        }
        let bytes = kept
            .to_bytes()
            .map_err(|e| forefend_domain::ports::PortError::Refused { port: "store", why: e.to_string() })?;
        let seqs = ports.store.commit(now, &entries, &bytes)?;
        remember_where(&entries, &seqs, &mut kept);
        self.kept = kept;
        self.committed_at = Some(now);
        self.pending.clear();
        Ok(())
    }

    /// Hands the effects to the ports.
    fn act(
        &mut self,
        world: &World,
        decision: &Decision,
        observations: &BTreeMap<CellId, CellObservation>,
        report: Option<&DataPlaneReport>,
        ports: &mut Ports<'_>,
        degraded: &mut Vec<String>,
    ) {
        let mut weights: BTreeMap<ServiceId, ServiceWeights> = BTreeMap::new();
        for effect in &decision.plan.effects {
            let command = match effect.clone() {
                Effect::SetWeights { service, weights: wanted } => {
                    weights.insert(service, wanted);
                    continue;
                }
                Effect::AskApproval { .. } => continue,
                Effect::Create { cell, blueprint } => CellCommand::Create { cell, blueprint },
                Effect::Recreate { cell } => CellCommand::Recreate { cell },
                Effect::Park { cell } => CellCommand::Park { cell },
                Effect::Unpark { cell } => CellCommand::Unpark { cell },
                Effect::Rewarm { cell } => CellCommand::Rewarm { cell },
                Effect::Retire { cell } => CellCommand::Retire { cell },
            };
            if let Err(e) = ports.cells.request(command) {
                degraded.push(e.to_string());
                self.note(None, EntryKind::Refused { effect: effect.clone(), why: e.to_string() });
            }
        }
        if let Some(report) = report {
            let seen = Seen { topology: &self.topology, world, observations, report };
            self.router.tell(&seen, weights, ports.data_plane, degraded);
        }
    }

    fn note(&mut self, service: Option<ServiceId>, kind: EntryKind) {
        if self.pending.len() >= MOST_PENDING {
            self.pending.remove(0);
        }
        // The same refusal every tick is one entry until it is written.
        if !self.pending.iter().any(|(s, k)| *s == service && *k == kind) {
            self.pending.push((service, kind));
        }
    }
}
