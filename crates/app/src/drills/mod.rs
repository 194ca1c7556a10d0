//! Runs experiments and drills beside the loop: after every tick each run sees what the loop saw and says what it wants; faults are
//! done by a thread of their own, traffic is moved by the loop like for an operator, with a lease.

mod hands;
mod machine;
mod past;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use forefend_chaos::{
    Target,
    drill::Drill,
    experiment::{self, Due, Experiment, Past},
    label,
    run::{self, Action, DryRun, Ended, OtherRun, Run, Seen, ServiceSeen},
};
use forefend_control::{OperatorCommand, Snapshot};
use forefend_domain::{CellId, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

use hands::{Hands, Order};
use machine::Machine;
use past::Archive;
pub(crate) use past::PastRun;

/// What somebody asks of the drills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "drill", rename_all = "kebab-case")]
pub enum DrillCommand {
    /// Say what a run would do now, and do nothing.
    Plan {
        /// The experiment's file, as text.
        experiment: String,
        /// Chooses the cells where there is a choice.
        seed: u64,
    },
    /// Begin a run.
    Run {
        /// The experiment's file, as text.
        experiment: String,
        /// Chooses the cells where there is a choice.
        seed: u64,
    },
    /// Agree to a run that waits for it.
    Approve {
        /// Which.
        id: String,
    },
    /// End a run now: faults are undone, traffic goes home.
    End {
        /// Which.
        id: String,
    },
    /// The report of a run that is over, as Markdown.
    Report {
        /// Which.
        id: String,
    },
}

/// A run, as the API tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillView {
    /// Its id.
    pub id: String,
    /// The experiment.
    pub experiment: String,
    /// Which service it is done to.
    pub service: ServiceId,
    /// When it was begun.
    pub began: Timestamp,
    /// When it was over; `None`: it goes on.
    pub ended: Option<Timestamp>,
    /// Where it stands or how it ended, in a few words.
    pub state: String,
    /// The cells that it is done to; empty once it is over.
    pub cells: Vec<CellId>,
    /// How many must approve of it before it begins; 0: it waits for nobody.
    pub needs_approvals: u32,
}

#[derive(Debug)]
struct Running {
    id: String,
    machine: Machine,
    began: Timestamp,
    approvals: BTreeSet<String>,
    end_asked_by: Option<String>,
    /// Whether its end is in the archive; it is kept a little longer, until nothing of it is in effect.
    told: bool,
}

/// The drills of one engine.
#[derive(Debug)]
pub(crate) struct Drills {
    archive: Archive,
    hands: Hands,
    /// Those that begin by themselves.
    scheduled: Vec<Experiment>,
    running: Vec<Running>,
    /// Whether faults and drills are allowed at all.
    allowed: bool,
    begun: u64,
}

/// What the loop lends the drills in a tick.
pub(crate) struct Look<'a> {
    /// What the loop saw and decided.
    pub(crate) snapshot: &'a Snapshot,
    /// How a cell is reached by faults, or why it is not.
    pub(crate) target: &'a dyn Fn(&CellId) -> Result<Target, String>,
}

impl Drills {
    /// Takes up what is in `dir`; undoes what an engine before left there.
    pub(crate) fn open(dir: &Path, allowed: bool, now: Timestamp) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let leases: PathBuf = dir.join("leases");
        for what in hands::sweep(&leases, &program) {
            tracing::warn!("{what}");
        }
        Ok(Self {
            archive: Archive::open(dir, now)?,
            hands: Hands::start(leases, program)?,
            scheduled: Vec::new(),
            running: Vec::new(),
            allowed,
            begun: 0,
        })
    }

    /// Takes over which experiments begin by themselves, and whether any may.
    pub(crate) fn set(&mut self, scheduled: Vec<Experiment>, allowed: bool) {
        self.scheduled = scheduled;
        self.allowed = allowed;
    }

    /// Every run that is known, newest first.
    pub(crate) fn views(&self) -> Vec<DrillView> {
        let going = self.running.iter().rev().map(|running| DrillView {
            id: running.id.clone(),
            experiment: running.machine.experiment().name.as_str().to_owned(),
            service: running.machine.experiment().service().clone(),
            began: running.began,
            ended: None,
            state: running.machine.state(),
            cells: running.machine.cells().to_vec(),
            needs_approvals: running.machine.needs_approvals(),
        });
        let known = |run: &&PastRun| !self.running.iter().any(|r| r.id == run.id);
        let past = self.archive.runs().iter().rev().filter(known).map(|run| DrillView {
            id: run.id.clone(),
            experiment: run.experiment.clone(),
            service: run.service.clone(),
            began: run.began,
            ended: run.ended,
            state: run.outcome.clone(),
            cells: Vec::new(),
            needs_approvals: 0,
        });
        going.chain(past).collect()
    }

    /// Takes a command; the answer is in words.
    ///
    /// # Errors
    /// Why not, and what would help.
    pub(crate) fn obey(
        &mut self,
        who: &str,
        command: &DrillCommand,
        snapshot: &Snapshot,
    ) -> Result<String, String> {
        match command {
            DrillCommand::Plan { experiment, seed } => {
                let experiment = read(experiment)?;
                Ok(self.plan(&experiment, snapshot, *seed).text)
            }
            DrillCommand::Run { experiment, seed } => self.begin(read(experiment)?, snapshot, *seed),
            DrillCommand::Approve { id } => {
                let running = self.find(id)?;
                let by = &running.machine.experiment().approvals.by;
                if !by.is_empty() && !by.iter().any(|name| name == who) {
                    return Err(format!(
                        "`{who}` may not approve it: the experiment names {}",
                        by.join(", ")
                    ));
                }
                running.approvals.insert(who.to_owned());
                Ok(format!("{who} has approved {id}"))
            }
            DrillCommand::End { id } => {
                self.find(id)?.end_asked_by = Some(who.to_owned());
                Ok(format!("{id} ends with the next tick"))
            }
            DrillCommand::Report { id } => self.archive.reported(id).map_err(|e| e.to_string()),
        }
    }

    fn find(&mut self, id: &str) -> Result<&mut Running, String> {
        let found = self.running.iter_mut().find(|r| r.id == id && !r.told);
        found.ok_or_else(|| format!("no run `{id}` goes on; `forefend drill list` names them"))
    }

    fn begin(&mut self, experiment: Experiment, snapshot: &Snapshot, seed: u64) -> Result<String, String> {
        if !self.allowed {
            return Err(
                "this engine does no drills: set `drills: { allowed: true }` in its configuration".to_owned()
            );
        }
        let now = snapshot.world.now;
        let targets = run::choose(&experiment, &snapshot.world, seed)
            .map_err(|refusals| refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        self.begun += 1;
        let id = format!("{}-{}-{}", experiment.name.as_str(), now.unix_ms(), self.begun);
        let machine = if experiment.is_drill() {
            let drill = Drill::new(&id, experiment, targets).ok_or("the experiment has no outage")?;
            Machine::Outage(Box::new(drill))
        } else {
            Machine::Faults(Box::new(Run::new(&id, experiment, targets, seed)))
        };
        let running = Running {
            id: id.clone(),
            machine,
            began: now,
            approvals: BTreeSet::new(),
            end_asked_by: None,
            told: false,
        };
        // Written before anything is done: an engine that is killed now knows afterwards that it ran.
        self.archive.note(past_of(&running, None)).map_err(|e| format!("it can't be written down: {e}"))?;
        let state = running.machine.state();
        self.running.push(running);
        Ok(format!("{id}: {state}"))
    }

    /// What a run would do now.
    fn plan(&self, experiment: &Experiment, snapshot: &Snapshot, seed: u64) -> DryRun {
        let services = services_of(snapshot);
        let shifting = shifting_in(snapshot);
        let others = self.archive.others("");
        let seen = Seen {
            world: &snapshot.world,
            predictions: &snapshot.predictions,
            services: &services,
            shifting: &shifting,
            others: &others,
            approvals: &BTreeSet::new(),
            injections: &BTreeMap::new(),
            end_asked_by: None,
        };
        run::dry_run(experiment, &seen, seed, snapshot.world.now)
    }

    /// Lets every run go on by what the loop saw. What comes back is to be commanded to the loop, with who asks.
    pub(crate) fn step(&mut self, look: &Look<'_>) -> Vec<(String, OperatorCommand)> {
        self.hands.give(Order::Beat);
        self.begin_what_is_due(look.snapshot);
        if self.running.is_empty() {
            return Vec::new();
        }
        let snapshot = look.snapshot;
        let now = snapshot.world.now;
        let services = services_of(snapshot);
        let shifting = shifting_in(snapshot);
        let mut commands = Vec::new();
        for running in &mut self.running {
            let injections = self.hands.states(&running.id);
            let others: Vec<OtherRun> = self.archive.others(&running.id);
            let seen = Seen {
                world: &snapshot.world,
                predictions: &snapshot.predictions,
                services: &services,
                shifting: &shifting,
                others: &others,
                approvals: &running.approvals,
                injections: &injections,
                end_asked_by: running.end_asked_by.as_deref(),
            };
            let before = running.machine.state();
            for action in running.machine.step(&seen, now) {
                commands.extend(carry_out(&self.hands, running, action, look));
            }
            let after = running.machine.state();
            if before != after {
                tracing::info!(run = running.id, "{after}");
            }
        }
        self.file_what_is_over(now);
        commands
    }

    fn begin_what_is_due(&mut self, snapshot: &Snapshot) {
        let now = snapshot.world.now;
        if !self.allowed {
            return;
        }
        for experiment in self.scheduled.clone() {
            let name = experiment.name.as_str().to_owned();
            let service = experiment.service().clone();
            let Ok(since) = self.archive.in_force_since(&name, now) else { continue };
            let last = self.archive.runs().iter().filter(|r| r.experiment == name).map(|r| r.began).max();
            let due = experiment.schedule.next(last, since);
            if due == Due::ByHand {
                continue;
            }
            let others = self.archive.others("");
            let past: Vec<Past> = others.iter().map(|o| Past { began: o.began, ended: o.ended }).collect();
            if !experiment.schedule.may_begin(due, &past, now) {
                continue;
            }
            // The time is the seed: another run another choice, and it is in the id.
            match self.begin(experiment, snapshot, now.unix_ms()) {
                Ok(said) => tracing::info!("a scheduled run begins: {said}"),
                Err(why) => {
                    tracing::warn!(experiment = name, why, "a scheduled run can't begin");
                    // Counts as a run that was refused, so that it is tried again when it is due again.
                    let run = PastRun {
                        id: format!("{name}-{}-refused", now.unix_ms()),
                        experiment: name,
                        service,
                        began: now,
                        ended: Some(now),
                        outcome: format!("refused: {why}"),
                        did: false,
                    };
                    if let Err(error) = self.archive.note(run) {
                        tracing::error!(%error, "a refused run can't be written down");
                    }
                }
            }
        }
    }

    /// Reports and labels of what has ended, once nothing of it is in effect any more.
    fn file_what_is_over(&mut self, now: Timestamp) {
        for running in &mut self.running {
            if running.machine.ended().is_none() || !self.hands.states(&running.id).is_empty() || running.told
            {
                continue;
            }
            running.told = true;
            let labels = match &running.machine {
                Machine::Faults(run) => label::labels_of_run(run),
                Machine::Outage(drill) => label::labels_of_drill(drill),
            };
            let filed = self
                .archive
                .report(&running.machine.report())
                .and_then(|()| self.archive.label(&labels))
                .and_then(|()| self.archive.note(past_of(running, Some(now))));
            if let Err(error) = filed {
                tracing::error!(run = running.id, %error, "report or labels can't be written");
            }
        }
        self.running.retain(|running| !running.told);
    }
}

fn past_of(running: &Running, ended: Option<Timestamp>) -> PastRun {
    PastRun {
        id: running.id.clone(),
        experiment: running.machine.experiment().name.as_str().to_owned(),
        service: running.machine.experiment().service().clone(),
        began: running.began,
        ended,
        outcome: running.machine.state(),
        did: !matches!(running.machine.ended(), Some(Ended::Refused { .. })),
    }
}

fn read(text: &str) -> Result<Experiment, String> {
    experiment::parse(text, "experiment").map_err(|e| e.to_string())
}

fn services_of(snapshot: &Snapshot) -> BTreeMap<ServiceId, ServiceSeen> {
    let world = &snapshot.world;
    world.services.iter().map(|(id, view)| (id.clone(), ServiceSeen::of(view, world.now))).collect()
}

/// Cells whose traffic is in motion.
fn shifting_in(snapshot: &Snapshot) -> BTreeSet<CellId> {
    snapshot.shifts.iter().map(|shift| shift.from.clone()).collect()
}

fn carry_out(
    hands: &Hands,
    running: &Running,
    action: Action,
    look: &Look<'_>,
) -> Option<(String, OperatorCommand)> {
    let who = format!("drill {}", running.id);
    let key = |injection| (running.id.clone(), injection);
    match action {
        Action::Apply { injection, fault, level, at_most } => {
            let target = (look.target)(&injection.cell);
            hands.give(Order::Apply { key: key(injection), fault, level, at_most, target });
        }
        Action::SetLevel { injection, level } => hands.give(Order::SetLevel { key: key(injection), level }),
        Action::Undo { injection } => hands.give(Order::Undo { key: key(injection) }),
        Action::EndAll { .. } => hands.give(Order::EndAll { run: running.id.clone() }),
        Action::MoveAway { cell, weight, lease } => {
            return Some((who, OperatorCommand::Shift { cell, weight, lease: Some(lease), drill: true }));
        }
        // Not what an operator has asked for since.
        Action::GiveBack { cell }
            if look.snapshot.world.request(&cell).is_some_and(|request| request.drill) =>
        {
            return Some((who, OperatorCommand::EndShift { cell }));
        }
        Action::GiveBack { .. } => {}
    }
    None
}
