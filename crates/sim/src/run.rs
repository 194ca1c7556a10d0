use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use forefend_control::{Controller, OperatorCommand, Ports, Snapshot, Topology};
use forefend_decide::Guards;
use forefend_domain::{CellRole, ServiceWeights, Timestamp, ports::Routing};
use forefend_predict::DayZero;

use crate::{
    faults::{self, Fault, Later, Operation},
    ports::{World, existing},
    random::Random,
    state::{Outages, State},
    topology,
};

/// The world settles before the first fault.
const SETTLING: Duration = Duration::from_secs(8);

/// Faults fall into this long.
const TROUBLE: Duration = Duration::from_secs(60);

/// Then everything must come home within this long: the slowest return, the longest backoff and the latest refractory
/// that the drawn policies permit, with room.
const RECOVERY: Duration = Duration::from_secs(120);

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Rules in force; anything but all is for proofs that the run notices.
    pub guards: Guards,
    /// Whether anything is forecast; without, the same world is served by the reactive floor alone.
    pub forecast: bool,
    /// Prints every tick in a line.
    pub trace: bool,
}

impl Options {
    /// Production rules, forecasts on.
    #[must_use]
    pub fn seed(seed: u64) -> Self {
        Self { seed, guards: Guards::ALL, forecast: true, trace: false }
    }
}

/// Something that must never be, found in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Seconds after the start of the run.
    pub at_s: u64,
    /// `invariant: detail`.
    pub what: String,
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What must never be and was, first things first, at most 20.
    pub findings: Vec<Finding>,
    /// Requests of users.
    pub requests: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Of those that did not fail, slow.
    pub slow: u64,
    /// Shifts that began.
    pub shifts: u64,
    /// Pre-tests that began.
    pub pre_tests: u64,
    /// Entries of the ledger.
    pub ledger: usize,
    /// A hash of everything decided, to compare two runs of one seed.
    pub fingerprint: u64,
}

/// Runs one seed.
#[must_use]
pub fn run(options: Options) -> Outcome {
    Run::new(options).into_outcome()
}

struct Run {
    options: Options,
    world: World,
    topology: Topology,
    controller: Controller<DayZero>,
    faults: Vec<(Timestamp, Fault)>,
    later: Vec<(Timestamp, Later)>,
    start: Timestamp,
    outcome: Outcome,
    /// Cells that are still relieved because their load is still high: not a failure to come home.
    relieved: bool,
}

impl Run {
    fn new(options: Options) -> Self {
        let mut random = Random::from_seed(options.seed);
        let topology = topology::draw(&mut random);
        let start = Timestamp::from_unix_ms(1_700_000_000_000);
        let trouble_from = start + SETTLING;
        let faults = faults::draw(&mut random, trouble_from, trouble_from + TROUBLE);
        let cells = existing(&topology, &mut random);
        let users_per_s = random.between(150.0, 700.0);
        let state = State {
            random,
            now: start,
            users_per_s,
            spike: 1.0,
            spike_until: start,
            cells,
            applied: Routing::default(),
            incarnation: 1,
            applying: std::collections::VecDeque::new(),
            outages: Outages::default(),
            ledger: Vec::new(),
            memory: None,
            authorised: Vec::new(),
            frozen: false,
            findings: Vec::new(),
            requests: 0,
            failed: 0,
            slow: 0,
            next_port: 9_000,
            vanished: BTreeSet::new(),
        };
        let world = World(Rc::new(RefCell::new(state)));
        let controller = engine(options, &topology, &world);
        let outcome = Outcome::default();
        Self {
            options,
            world,
            topology,
            controller,
            faults,
            later: Vec::new(),
            start,
            outcome,
            relieved: false,
        }
    }

    fn into_outcome(mut self) -> Outcome {
        let end = self.start + SETTLING + TROUBLE + RECOVERY;
        while self.world.0.borrow().now < end && self.outcome.findings.len() < 20 {
            self.world.0.borrow_mut().advance();
            self.let_happen();
            let snapshot = self.turn();
            self.note(&snapshot);
        }
        if self.outcome.findings.is_empty() && !self.relieved {
            self.everything_is_home();
        }
        let state = self.world.0.borrow();
        let mut outcome = self.outcome;
        outcome.requests = state.requests;
        outcome.failed = state.failed;
        outcome.slow = state.slow;
        outcome.ledger = state.ledger.len();
        outcome.shifts = state
            .ledger
            .iter()
            .filter(|e| matches!(e.kind, forefend_domain::EntryKind::ShiftBegan { .. }))
            .count() as u64;
        outcome.pre_tests = said(&state.ledger, "pre-test-begins");
        outcome.fingerprint = fingerprint(&state.ledger);
        outcome
    }

    fn turn(&mut self) -> Snapshot {
        self.world.0.borrow_mut().authorised.clear();
        let [clock, mut telemetry, mut data_plane, mut cells, mut gate, mut store] =
            std::array::from_fn(|_| self.world.clone());
        let mut ports = Ports {
            clock: &clock,
            telemetry: &mut telemetry,
            data_plane: &mut data_plane,
            cells: &mut cells,
            gate: &mut gate,
            store: &mut store,
        };
        self.controller.tick(&mut ports)
    }

    fn command(&mut self, command: &OperatorCommand) {
        let [clock, mut telemetry, mut data_plane, mut cells, mut gate, mut store] =
            std::array::from_fn(|_| self.world.clone());
        let mut ports = Ports {
            clock: &clock,
            telemetry: &mut telemetry,
            data_plane: &mut data_plane,
            cells: &mut cells,
            gate: &mut gate,
            store: &mut store,
        };
        // A store that refuses makes the command not count; the operator tries again.
        if self.controller.command("simulated operator", command, &mut ports).is_err() {
            let retry = self.world.0.borrow().now + Duration::from_secs(1);
            if matches!(command, OperatorCommand::Unfreeze | OperatorCommand::EndShift { .. }) {
                self.later.push((retry, Later::Command(command.clone())));
            }
        }
        self.world.0.borrow_mut().frozen = self.controller.is_frozen();
    }

    fn let_happen(&mut self) {
        let now = self.world.0.borrow().now;
        let due: Vec<Fault> =
            self.faults.iter().filter(|(at, _)| *at <= now).map(|(_, f)| f.clone()).collect();
        self.faults.retain(|(at, _)| *at > now);
        for fault in due {
            if self.options.trace {
                println!("{:>7.2}s  FAULT {fault:?}", now.since(self.start).as_secs_f64());
            }
            let undo = self.world.0.borrow_mut().suffer(&fault);
            self.later.extend(undo);
            match fault {
                Fault::EngineKilled => {
                    self.controller = engine(self.options, &self.topology, &self.world);
                    self.world.0.borrow_mut().frozen = self.controller.is_frozen();
                }
                Fault::Operator(operation) => self.operate(operation, now),
                _ => {}
            }
        }
        let due: Vec<Later> =
            self.later.iter().filter(|(at, _)| *at <= now).map(|(_, l)| l.clone()).collect();
        self.later.retain(|(at, _)| *at > now);
        for later in due {
            self.world.0.borrow_mut().undo(&later);
            if let Later::Command(command) = later {
                self.command(&command);
            }
        }
    }

    fn operate(&mut self, operation: Operation, now: Timestamp) {
        let homes: Vec<_> = self
            .topology
            .services
            .values()
            .flat_map(|s| s.cells.keys().filter(|c| s.home.share(c) > 0.0))
            .cloned()
            .collect();
        match operation {
            Operation::Freeze { lasts } => {
                self.command(&OperatorCommand::Freeze);
                self.later.push((now + lasts, Later::Command(OperatorCommand::Unfreeze)));
            }
            Operation::Shift { weight, lasts } => {
                let cell = homes[0].clone();
                let shift = OperatorCommand::Shift { cell: cell.clone(), weight, lease: None, drill: false };
                self.command(&shift);
                self.later.push((now + lasts, Later::Command(OperatorCommand::EndShift { cell })));
            }
            Operation::Drill { weight, lease } => {
                // Nobody renews it and nobody takes it back: its runner was killed.
                let cell = homes[homes.len() - 1].clone();
                self.command(&OperatorCommand::Shift { cell, weight, lease: Some(lease), drill: true });
            }
            Operation::Approve => {
                for cell in homes {
                    self.command(&OperatorCommand::Approve { cell });
                }
            }
        }
    }

    fn note(&mut self, snapshot: &Snapshot) {
        let mut state = self.world.0.borrow_mut();
        let at_s = state.now.since(self.start).as_secs();
        let found: Vec<String> = state.findings.drain(..).collect();
        self.outcome.findings.extend(found.into_iter().map(|what| Finding { at_s, what }));
        self.relieved =
            snapshot.shifts.iter().any(|s| s.reason == forefend_domain::ShiftReason::Relief && s.outbound);
        if self.options.trace {
            trace(&state, snapshot, self.start);
        }
    }

    /// After the last fault: every request goes where it goes in normal times, and no standby has any.
    fn everything_is_home(&mut self) {
        let state = self.world.0.borrow();
        let at_s = state.now.since(self.start).as_secs();
        for (id, spec) in &self.topology.services {
            let applied = state.weights(id).cloned().unwrap_or_else(ServiceWeights::default);
            for ((_, cell), share) in applied.shares() {
                let home = spec.home.share(&cell);
                if (share - home).abs() > 0.000_3 {
                    let what = format!(
                        "everything_comes_home: {cell} has {share:.4} of {id} long after the last fault, at home it is {home:.4}"
                    );
                    self.outcome.findings.push(Finding { at_s, what });
                }
            }
            if applied.regions().is_empty() {
                let what = format!("everything_comes_home: {id} never got any weights");
                self.outcome.findings.push(Finding { at_s, what });
            }
        }
        let standing = state.cells.values().filter(|c| c.cell.role == CellRole::Synthetic).count();
        let most =
            self.topology.services.values().map(|s| s.service.policy.standby.max as usize).sum::<usize>();
        if standing > most {
            let what = format!("standby_bounded: {standing} synthetic cells, at most {most} are allowed");
            self.outcome.findings.push(Finding { at_s, what });
        }
    }
}

#[expect(clippy::expect_used, reason = "a made-up memory that can't be read is a bug of the simulator")]
fn engine(options: Options, topology: &Topology, world: &World) -> Controller<DayZero> {
    let predictor = DayZero { forecast: options.forecast, ..DayZero::default() };
    let probe = (topology::TICK, topology::TICK);
    Controller::new(predictor, topology.clone(), probe, &mut world.clone())
        .expect("the made-up store reads back what was written")
        .with_guards(options.guards)
}

fn trace(state: &State, snapshot: &Snapshot, start: Timestamp) {
    let at = state.now.since(start).as_secs_f64();
    let shifts: Vec<String> = snapshot
        .shifts
        .iter()
        .map(|s| {
            format!(
                "{}→{:?} {:?} {} moved {} target {} by {} n={} bad={}",
                s.from,
                s.to,
                s.reason,
                if s.outbound { "out" } else { "home" },
                s.moved,
                s.target,
                s.bound_by,
                s.evidence.requests,
                s.evidence.bad
            )
        })
        .collect();
    let cells: Vec<String> = snapshot
        .world
        .services
        .values()
        .flat_map(|s| s.cells.values().map(move |c| (s, c)))
        .map(|(s, c)| {
            let p = snapshot.predictions.get(&c.cell.id).map_or(f64::NAN, |p| p.probability.get());
            let share = s.effective.as_ref().map_or(f64::NAN, |w| w.share(&c.cell.id));
            format!(
                "{}:{:?}{} {share:.2} P={p:.2} {:?}",
                c.cell.id,
                c.life,
                if c.parked { "*" } else { "" },
                c.objective
            )
        })
        .collect();
    println!("{at:>7.2}s  {}", cells.join(" | "));
    for line in shifts {
        println!("          shift {line}");
    }
    for e in &snapshot.plan.explanations {
        println!("          {} {}: {}", e.cell, e.what, e.why);
    }
    for d in &snapshot.degraded {
        println!("          DEGRADED {d}");
    }
}

/// How often a word was said in the ledger.
fn said(ledger: &[forefend_domain::LedgerEntry], word: &str) -> u64 {
    let explanations = ledger.iter().filter_map(|e| match &e.kind {
        forefend_domain::EntryKind::Decision { explanations, .. } => Some(explanations),
        _ => None,
    });
    explanations.flatten().filter(|e| e.what == word).count() as u64
}

/// FNV-1a over the ledger's text: the same decisions at the same times give the same number.
fn fingerprint(ledger: &[forefend_domain::LedgerEntry]) -> u64 {
    ledger
        .iter()
        .flat_map(|entry| format!("{entry:?}").into_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
