use forefend_chaos::{
    drill::{Drill, DrillPhase, Report},
    experiment::Experiment,
    run::{Action, Ended, Hypothesised, Run, RunPhase, Seen},
};
use forefend_domain::{CellId, Timestamp};

/// What goes on in a run, of either kind.
#[derive(Debug)]
pub(super) enum Machine {
    Faults(Box<Run>),
    Outage(Box<Drill>),
}

impl Machine {
    pub(super) fn step(&mut self, seen: &Seen<'_>, now: Timestamp) -> Vec<Action> {
        match self {
            Self::Faults(run) => run.step(seen, now),
            Self::Outage(drill) => drill.step(seen, now),
        }
    }

    pub(super) fn ended(&self) -> Option<&Ended> {
        match self {
            Self::Faults(run) => run.ended(),
            Self::Outage(drill) => drill.ended(),
        }
    }

    pub(super) fn experiment(&self) -> &Experiment {
        match self {
            Self::Faults(run) => run.experiment(),
            Self::Outage(drill) => drill.experiment(),
        }
    }

    pub(super) fn cells(&self) -> &[CellId] {
        match self {
            Self::Faults(run) => run.targets(),
            Self::Outage(drill) => drill.targets(),
        }
    }

    pub(super) fn report(&self) -> Report {
        match self {
            Self::Faults(run) => Report::of_run(run),
            Self::Outage(drill) => Report::of_drill(drill),
        }
    }

    pub(super) fn needs_approvals(&self) -> u32 {
        match self {
            Self::Faults(run) => match run.phase() {
                RunPhase::WaitingForApproval { needed } => *needed,
                _ => 0,
            },
            Self::Outage(drill) => match drill.phase() {
                DrillPhase::WaitingForApproval { needed } => *needed,
                _ => 0,
            },
        }
    }

    pub(super) fn state(&self) -> String {
        match self {
            Self::Faults(run) => match run.phase() {
                RunPhase::WaitingForApproval { needed } => waits_for(*needed),
                RunPhase::CheckingReadiness => "checks whether it may begin".to_owned(),
                RunPhase::SteadyBefore { .. } => "waits for the steady state".to_owned(),
                RunPhase::Injecting { .. } => "faults are in effect".to_owned(),
                RunPhase::Recovering { .. } => "everything is undone; waits for the steady state".to_owned(),
                RunPhase::Over(ended) => outcome(ended),
            },
            Self::Outage(drill) => match drill.phase() {
                DrillPhase::WaitingForApproval { needed } => waits_for(*needed),
                DrillPhase::CheckingReadiness => "checks whether it may begin".to_owned(),
                DrillPhase::SteadyBefore { .. } => "waits for the steady state".to_owned(),
                DrillPhase::MovingAway { weight, .. } => format!("moves {weight} of the traffic away"),
                DrillPhase::Holding { .. } => "the region is empty".to_owned(),
                DrillPhase::Mending { .. } => {
                    "the fault is undone; waits until the cells are well".to_owned()
                }
                DrillPhase::GivingBack { .. } => "gives the traffic back".to_owned(),
                DrillPhase::Recovering { .. } => "the traffic is home; waits for the steady state".to_owned(),
                DrillPhase::Over(ended) => outcome(ended),
            },
        }
    }
}

fn waits_for(needed: u32) -> String {
    format!("waits for {needed} to approve")
}

fn outcome(ended: &Ended) -> String {
    match ended {
        Ended::Refused { reasons } => {
            format!("refused: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        Ended::Stopped { why, .. } => format!("stopped: {why}"),
        Ended::Finished { hypothesis } => match hypothesis {
            Hypothesised::Upheld => "finished: the hypothesis was upheld".to_owned(),
            Hypothesised::Refuted { breach } => format!("finished: the hypothesis was refuted: {breach}"),
            Hypothesised::NotTested { why } => format!("finished: the hypothesis was not tested: {why}"),
        },
    }
}
