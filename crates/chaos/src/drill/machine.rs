use std::time::Duration;

use forefend_domain::{CellHealth, CellId, ObjectiveState, Timestamp, Weight};

use super::phase::{DrillPhase, Times};
use crate::{
    experiment::{Experiment, FaultEntry, Outage},
    run::{
        Action, Breach, Done, Ended, Gate, Hypothesised, Injections, Passed, PhaseName, ROUNDING, Record,
        Seen, Sight, Steady, Stop, Targets, Waiting, approvals_needed, has_residue, judge, residue, stop_now,
    },
};

/// The simulated outage of a region for one service: a pure state machine. Feed it what is seen, do what it asks for.
///
/// What it wants is renewed every third of a lease, so that traffic goes home by itself when nobody drives the drill any
/// more. It is over only when the weights were read back as being at home, however it ends.
#[derive(Debug, Clone)]
pub struct Drill {
    id: String,
    experiment: Experiment,
    outage: Outage,
    targets: Targets,
    phase: DrillPhase,
    gate: Gate,
    steady: Steady,
    sight: Sight,
    injections: Option<Injections>,
    began: Option<Timestamp>,
    emptied: Option<Timestamp>,
    steady_without: Option<Timestamp>,
    home: Option<Timestamp>,
    recovered: Option<Timestamp>,
    breach: Option<Breach>,
    stopped: Option<Stop>,
    /// When wishes were last told.
    told: Option<Timestamp>,
    record: Record,
}

impl Drill {
    /// A drill of the experiment's outage at cells that [`crate::run::choose`] chose; `None` when it has no outage. `id` is unique
    /// over all runs.
    #[must_use]
    pub fn new(id: &str, experiment: Experiment, targets: Targets) -> Option<Self> {
        let outage = experiment.outage.clone()?;
        Some(Self {
            id: id.to_owned(),
            phase: match approvals_needed(&experiment, &targets) {
                0 => DrillPhase::CheckingReadiness,
                needed => DrillPhase::WaitingForApproval { needed },
            },
            experiment,
            outage,
            targets,
            gate: Gate::default(),
            steady: Steady::default(),
            sight: Sight::default(),
            injections: None,
            began: None,
            emptied: None,
            steady_without: None,
            home: None,
            recovered: None,
            breach: None,
            stopped: None,
            told: None,
            record: Record::default(),
        })
    }

    /// Goes on by what is seen now, and says what is to be done.
    pub fn step(&mut self, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        self.look(seen, now);
        let mut actions = match &mut self.injections {
            Some(injections) => injections.look(seen.injections, now),
            None => residue(seen.injections, |_| false),
        };
        match self.phase.clone() {
            DrillPhase::WaitingForApproval { .. }
            | DrillPhase::CheckingReadiness
            | DrillPhase::SteadyBefore { .. } => actions.extend(self.before(seen, now)),
            DrillPhase::MovingAway { weight, asked } => {
                actions.extend(self.moving(weight, asked, seen, now));
            }
            DrillPhase::Holding { since } => actions.extend(self.holding(since, seen, now)),
            DrillPhase::Mending { since } => actions.extend(self.mending(since, seen, now)),
            DrillPhase::GivingBack { .. } => actions.extend(self.giving_back(seen, now)),
            DrillPhase::Recovering { since } => self.recover(since, seen, now),
            DrillPhase::Over(_) => {}
        }
        actions
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> &DrillPhase {
        &self.phase
    }

    /// How it ended; `None`: it goes on.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        if let DrillPhase::Over(ended) = &self.phase { Some(ended) } else { None }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The experiment.
    #[must_use]
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// The region's cells.
    #[must_use]
    pub fn targets(&self) -> &[CellId] {
        &self.targets.cells
    }

    pub(crate) fn share(&self) -> f64 {
        self.targets.share
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn injections(&self) -> Option<&Injections> {
        self.injections.as_ref()
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            began: self.began,
            emptied: self.emptied,
            steady_without: self.steady_without,
            home: self.home,
            recovered: self.recovered,
        }
    }

    fn look(&mut self, seen: &Seen<'_>, now: Timestamp) {
        let phase = match &self.phase {
            DrillPhase::WaitingForApproval { .. }
            | DrillPhase::CheckingReadiness
            | DrillPhase::SteadyBefore { .. } => PhaseName::Before,
            DrillPhase::MovingAway { .. } => PhaseName::Moving,
            DrillPhase::Holding { .. } | DrillPhase::Mending { .. } => PhaseName::During,
            DrillPhase::GivingBack { .. } => PhaseName::Returning,
            DrillPhase::Recovering { .. } => PhaseName::After,
            DrillPhase::Over(_) => return,
        };
        let service = self.experiment.service();
        self.record.look(phase, service, &self.targets.cells, self.began, seen, now);
        self.sight.look(&self.experiment, &self.targets.cells, seen, now);
    }

    fn before(&mut self, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        match self.gate.step(&self.experiment, &self.targets, &self.id, &mut self.steady, seen, now) {
            Passed::Not(Waiting::Approval { needed }) => {
                self.phase = DrillPhase::WaitingForApproval { needed };
                Vec::new()
            }
            Passed::Not(Waiting::Steady { since }) => {
                self.phase = DrillPhase::SteadyBefore { since };
                Vec::new()
            }
            Passed::Refused(reasons) => {
                self.phase = DrillPhase::Over(Ended::Refused { reasons });
                Vec::new()
            }
            // Nothing has been done, so there is nothing to give back.
            Passed::Stopped(why) => {
                let hypothesis = Hypothesised::after(&why);
                self.phase = DrillPhase::Over(Ended::Stopped { why, hypothesis });
                Vec::new()
            }
            Passed::Yes => {
                self.began = Some(now);
                self.phase = DrillPhase::MovingAway { weight: self.outage.step, asked: now };
                self.moving(self.outage.step, now, seen, now)
            }
        }
    }

    /// Stop conditions, and what is noted at every step in which something is done.
    fn watch(&mut self, seen: &Seen<'_>, now: Timestamp) -> Option<Stop> {
        if let Some(why) = stop_now(&self.experiment, &self.targets.cells, &self.sight, seen, now) {
            return Some(why);
        }
        if let Some(breach) = self.steady.look(&self.experiment, seen, now) {
            self.breach.get_or_insert(breach);
        }
        None
    }

    fn moving(&mut self, weight: Weight, asked: Timestamp, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        if let Some(why) = self.watch(seen, now) {
            return self.stop(why, now);
        }
        let late = self.targets.cells.iter().find(|cell| !self.is_away(cell, weight, seen));
        match late {
            None if weight == Weight::FULL => {
                self.emptied = Some(now);
                self.phase = DrillPhase::Holding { since: now };
                self.begin_fault(now);
                return self.holding(now, seen, now);
            }
            // A step waits until users are well with the one before.
            None if now.since(asked) >= self.outage.step_every && self.steady.since.is_some() => {
                let weight = weight.saturating_add(self.outage.step);
                self.phase = DrillPhase::MovingAway { weight, asked: now };
                self.told = None;
                return self.keep_away(weight, now);
            }
            None => {}
            Some(cell) => {
                let began = self.began.unwrap_or(now);
                if now.since(began) > self.outage.moves_within {
                    let cell = cell.clone();
                    return self.stop(Stop::TooSlow { cell }, now);
                }
            }
        }
        self.keep_away(weight, now)
    }

    /// Whether so much of the cell's traffic was read back as being away. Nothing less than nothing counts as empty.
    fn is_away(&self, cell: &CellId, weight: Weight, seen: &Seen<'_>) -> bool {
        let service = self.experiment.service();
        let Some(view) = seen.view(service) else { return false };
        let Some(effective) = &view.effective else { return false };
        let (share, home) = (effective.share(cell), view.home.share(cell));
        if weight == Weight::FULL { share == 0.0 } else { share <= home * (1.0 - weight.share()) + ROUNDING }
    }

    fn begin_fault(&mut self, now: Timestamp) {
        let Some(fault) = &self.outage.fault else { return };
        let entry = FaultEntry {
            fault: fault.fault.clone(),
            ramp: fault.ramp,
            intensity: fault.intensity,
            after: Duration::ZERO,
            lasts: self.outage.hold,
        };
        self.injections = Some(Injections::new(vec![entry], self.targets.cells.clone(), now));
    }

    fn holding(&mut self, since: Timestamp, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        if now > since
            && let Some(why) = self.watch(seen, now)
        {
            return self.stop(why, now);
        }
        let service = self.experiment.service().clone();
        let back =
            self.targets.cells.iter().find(|cell| seen.away(&service, cell).is_some_and(|away| away < 1.0));
        if let Some(cell) = back {
            let cell = cell.clone();
            return self.stop(Stop::NotEmpty { cell }, now);
        }
        self.record.data_point(&service, &self.targets.cells, seen);
        self.steady_without = self.steady_without.or(self.steady.since.map(|steady| steady.max(since)));
        let mut actions = self.injections.as_mut().map(|i| i.step(now)).unwrap_or_default();
        if now.since(since) >= self.outage.hold {
            actions.extend(self.end_fault("the outage is over", now));
            if self.injections.is_none() {
                actions.extend(self.give_back(now));
                return actions;
            }
            self.phase = DrillPhase::Mending { since: now };
        }
        actions.extend(self.keep_away(Weight::FULL, now));
        actions
    }

    fn mending(&mut self, since: Timestamp, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        if let Some(why) = self.watch(seen, now) {
            return self.stop(why, now);
        }
        let view = seen.view(self.experiment.service());
        let well = self.targets.cells.iter().all(|cell| {
            view.and_then(|view| view.cells.get(cell)).is_some_and(|cell| {
                cell.health == CellHealth::Up
                    && !matches!(
                        cell.objective,
                        ObjectiveState::Failed { .. } | ObjectiveState::Breaking { .. }
                    )
            })
        });
        // Whoever carries out the giving back sends nothing to a sick cell either; waiting longer helps nobody.
        let enough = now.since(since) > self.experiment.hypothesis.recovers_within;
        if (well && !has_residue(seen)) || enough {
            return self.give_back(now);
        }
        self.keep_away(Weight::FULL, now)
    }

    fn giving_back(&mut self, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        self.steady.look(&self.experiment, seen, now);
        let service = self.experiment.service();
        // The wish itself must be gone, too: a small one is less than what a pre-test may borrow.
        let wanted = |cell| seen.world.request(cell).is_some_and(|request| request.drill);
        let home = self.targets.cells.iter().all(|cell| seen.is_home(service, cell) && !wanted(cell));
        if !home || has_residue(seen) {
            return self.tell(now, |cell| Action::GiveBack { cell });
        }
        self.home = Some(now);
        self.phase = match self.stopped.clone() {
            Some(why) => {
                let hypothesis = Hypothesised::after(&why);
                DrillPhase::Over(Ended::Stopped { why, hypothesis })
            }
            None => DrillPhase::Recovering { since: now },
        };
        Vec::new()
    }

    fn recover(&mut self, since: Timestamp, seen: &Seen<'_>, now: Timestamp) {
        self.steady.look(&self.experiment, seen, now);
        let done = Done {
            ended: since,
            tested: self.emptied.is_some(),
            residue: has_residue(seen),
            breach: self.breach.as_ref(),
        };
        if let Some((hypothesis, recovered)) = judge(&self.experiment, &self.steady, &done, now) {
            self.recovered = recovered;
            self.phase = DrillPhase::Over(Ended::Finished { hypothesis });
        }
    }

    fn stop(&mut self, why: Stop, now: Timestamp) -> Vec<Action> {
        let mut actions = self.end_fault(&why.to_string(), now);
        self.stopped = Some(why);
        actions.extend(self.give_back(now));
        actions
    }

    fn end_fault(&mut self, why: &str, now: Timestamp) -> Vec<Action> {
        let Some(injections) = &mut self.injections else { return Vec::new() };
        let mut actions = injections.end_all(now);
        actions.push(Action::EndAll { why: why.to_owned() });
        actions
    }

    fn give_back(&mut self, now: Timestamp) -> Vec<Action> {
        self.phase = DrillPhase::GivingBack { since: now };
        self.told = None;
        self.tell(now, |cell| Action::GiveBack { cell })
    }

    fn keep_away(&mut self, weight: Weight, now: Timestamp) -> Vec<Action> {
        let lease = self.outage.lease;
        self.tell(now, |cell| Action::MoveAway { cell, weight, lease })
    }

    /// The wish for every cell, when it is new or a third of the lease has gone by.
    fn tell(&mut self, now: Timestamp, wish: impl Fn(CellId) -> Action) -> Vec<Action> {
        if self.told.is_some_and(|told| now.since(told) < self.outage.lease / 3) {
            return Vec::new();
        }
        self.told = Some(now);
        self.targets.cells.iter().cloned().map(wish).collect()
    }
}
