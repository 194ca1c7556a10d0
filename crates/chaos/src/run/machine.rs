use forefend_domain::{CellId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Action, Ended, Hypothesised, PhaseName, Seen, Stop, Targets,
    gate::{Gate, Passed, Waiting},
    inject::{Injections, residue},
    judge::{Done, has_residue, judge},
    record::Record,
    steady::{Breach, Steady},
    stop::{Sight, stop_now},
};
use crate::experiment::Experiment;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum RunPhase {
    /// It waits for somebody's word.
    WaitingForApproval {
        /// How many words are needed.
        needed: u32,
    },
    /// It looks whether it may begin.
    CheckingReadiness,
    /// It waits until the steady state has held.
    SteadyBefore {
        /// Since when it holds; `None`: it does not.
        since: Option<Timestamp>,
    },
    /// Faults are in effect, or about to be.
    Injecting {
        /// Since when.
        began: Timestamp,
    },
    /// Everything is undone; it waits until the steady state has held again.
    Recovering {
        /// Since when everything is to be undone.
        ended: Timestamp,
    },
    /// It is over.
    Over(Ended),
}

/// One run of an experiment's faults: a pure state machine. Feed it what is seen, do what it asks for.
///
/// Whatever happens, each `Apply` is followed by an `Undo` of the same injection; a stop is acted on in the step in which it
/// is seen. Calling on after the end is right: what the injector still reports is undone again.
#[derive(Debug, Clone)]
pub struct Run {
    id: String,
    experiment: Experiment,
    targets: Targets,
    seed: u64,
    phase: RunPhase,
    gate: Gate,
    steady: Steady,
    sight: Sight,
    injections: Option<Injections>,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    recovered: Option<Timestamp>,
    /// The first breach while the faults lasted.
    breach: Option<Breach>,
    record: Record,
}

impl Run {
    /// A run of `experiment` at cells that [`super::choose`] chose with this seed; `id` is unique over all runs.
    #[must_use]
    pub fn new(id: &str, experiment: Experiment, targets: Targets, seed: u64) -> Self {
        let needed = super::approvals_needed(&experiment, &targets);
        Self {
            id: id.to_owned(),
            gate: Gate::default(),
            phase: match needed {
                0 => RunPhase::CheckingReadiness,
                needed => RunPhase::WaitingForApproval { needed },
            },
            experiment,
            targets,
            seed,
            steady: Steady::default(),
            sight: Sight::default(),
            injections: None,
            began: None,
            ended: None,
            recovered: None,
            breach: None,
            record: Record::default(),
        }
    }

    /// Goes on by what is seen now, and says what is to be done.
    pub fn step(&mut self, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        self.look(seen, now);
        let mut actions = match &mut self.injections {
            Some(injections) => injections.look(seen.injections, now),
            None => residue(seen.injections, |_| false),
        };
        match &self.phase {
            RunPhase::WaitingForApproval { .. }
            | RunPhase::CheckingReadiness
            | RunPhase::SteadyBefore { .. } => {
                match self.gate.step(&self.experiment, &self.targets, &self.id, &mut self.steady, seen, now) {
                    Passed::Not(Waiting::Approval { needed }) => {
                        self.phase = RunPhase::WaitingForApproval { needed };
                    }
                    Passed::Not(Waiting::Steady { since }) => self.phase = RunPhase::SteadyBefore { since },
                    Passed::Refused(reasons) => self.phase = RunPhase::Over(Ended::Refused { reasons }),
                    Passed::Stopped(why) => actions.extend(self.stop(why, now)),
                    Passed::Yes => {
                        self.began = Some(now);
                        self.phase = RunPhase::Injecting { began: now };
                        self.injections = Some(Injections::new(
                            self.experiment.faults.clone(),
                            self.targets.cells.clone(),
                            now,
                        ));
                        actions.extend(self.inject(seen, now));
                    }
                }
            }
            RunPhase::Injecting { .. } => actions.extend(self.inject(seen, now)),
            RunPhase::Recovering { ended } => {
                let ended = *ended;
                self.recover(ended, seen, now);
            }
            RunPhase::Over(_) => {}
        }
        actions
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> &RunPhase {
        &self.phase
    }

    /// How it ended; `None`: it goes on.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        match &self.phase {
            RunPhase::Over(ended) => Some(ended),
            RunPhase::WaitingForApproval { .. }
            | RunPhase::CheckingReadiness
            | RunPhase::SteadyBefore { .. }
            | RunPhase::Injecting { .. }
            | RunPhase::Recovering { .. } => None,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is run.
    #[must_use]
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// What it is done to.
    #[must_use]
    pub fn targets(&self) -> &[CellId] {
        &self.targets.cells
    }

    /// The share of the service's traffic at home in the targets, from 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.targets.share
    }

    /// The seed that chose the targets.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// When the first fault may have begun and when everything was to be undone.
    #[must_use]
    pub fn span(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.began, self.ended)
    }

    pub(crate) fn recovered(&self) -> Option<Timestamp> {
        self.recovered
    }

    /// Since when the steady state holds without a break.
    pub(crate) fn steady_since(&self) -> Option<Timestamp> {
        self.steady.since
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn injections(&self) -> Option<&Injections> {
        self.injections.as_ref()
    }

    fn look(&mut self, seen: &Seen<'_>, now: Timestamp) {
        let phase = match &self.phase {
            RunPhase::WaitingForApproval { .. }
            | RunPhase::CheckingReadiness
            | RunPhase::SteadyBefore { .. } => PhaseName::Before,
            RunPhase::Injecting { .. } => PhaseName::During,
            RunPhase::Recovering { .. } => PhaseName::After,
            // Nothing more belongs to the run.
            RunPhase::Over(_) => return,
        };
        let service = self.experiment.service();
        self.record.look(phase, service, &self.targets.cells, self.began, seen, now);
        self.sight.look(&self.experiment, &self.targets.cells, seen, now);
    }

    fn inject(&mut self, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        if let Some(why) = stop_now(&self.experiment, &self.targets.cells, &self.sight, seen, now) {
            return self.stop(why, now);
        }
        if let Some(breach) = self.steady.look(&self.experiment, seen, now) {
            self.breach.get_or_insert(breach);
        }
        let Some(injections) = &mut self.injections else { return Vec::new() };
        let mut actions = injections.step(now);
        if injections.is_over(now) {
            actions.extend(injections.end_all(now));
            actions.push(Action::EndAll { why: "the faults' time is over".into() });
            self.ended = Some(now);
            self.phase = RunPhase::Recovering { ended: now };
        }
        actions
    }

    fn stop(&mut self, why: Stop, now: Timestamp) -> Vec<Action> {
        let mut actions = self.injections.as_mut().map(|i| i.end_all(now)).unwrap_or_default();
        if self.injections.is_some() {
            actions.push(Action::EndAll { why: why.to_string() });
        }
        self.ended = self.began.map(|_| now);
        let hypothesis = Hypothesised::after(&why);
        self.phase = RunPhase::Over(Ended::Stopped { why, hypothesis });
        actions
    }

    fn recover(&mut self, ended: Timestamp, seen: &Seen<'_>, now: Timestamp) {
        self.steady.look(&self.experiment, seen, now);
        let done = Done {
            ended,
            tested: self.injections.as_ref().is_some_and(Injections::any),
            residue: has_residue(seen),
            breach: self.breach.as_ref(),
        };
        if let Some((hypothesis, recovered)) = judge(&self.experiment, &self.steady, &done, now) {
            self.recovered = recovered;
            self.phase = RunPhase::Over(Ended::Finished { hypothesis });
        }
    }
}
