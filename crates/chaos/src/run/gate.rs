//! What comes before anything is done: approval, readiness, steady state.

use forefend_domain::Timestamp;

use super::{
    Refusal, Seen, Stop, Targets, approvals_needed,
    ready::{approvals_given, refusals},
    steady::Steady,
};
use crate::experiment::Experiment;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Gate {
    asked: Option<Timestamp>,
    checked: Option<Timestamp>,
}

/// What a run waits for before it does anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Waiting {
    Approval { needed: u32 },
    Steady { since: Option<Timestamp> },
}

pub(crate) enum Passed {
    Yes,
    Not(Waiting),
    Refused(Vec<Refusal>),
    Stopped(Stop),
}

impl Gate {
    pub(crate) fn step(
        &mut self,
        experiment: &Experiment,
        targets: &Targets,
        id: &str,
        steady: &mut Steady,
        seen: &Seen<'_>,
        now: Timestamp,
    ) -> Passed {
        if let Some(by) = seen.end_asked_by {
            return Passed::Stopped(Stop::Asked { by: by.to_owned() });
        }
        let asked = *self.asked.get_or_insert(now);
        let (needed, have) = (approvals_needed(experiment, targets), approvals_given(experiment, seen));
        if have < needed {
            if now.since(asked) > experiment.approvals.within {
                return Passed::Refused(vec![Refusal::NotApproved { have, needed }]);
            }
            return Passed::Not(Waiting::Approval { needed });
        }
        // Asked at every step: what was fine when the waiting began may not be when it ends.
        let reasons = refusals(experiment, targets, id, seen, now);
        if !reasons.is_empty() {
            return Passed::Refused(reasons);
        }
        let checked = *self.checked.get_or_insert(now);
        steady.look(experiment, seen, now);
        let hypothesis = &experiment.hypothesis;
        if steady.held_for(now).is_some_and(|held| held >= hypothesis.holds_for) {
            return Passed::Yes;
        }
        if let (None, Some(breach)) = (steady.since, &steady.last_breach)
            && now.since(checked) > hypothesis.waits_at_most
        {
            return Passed::Refused(vec![Refusal::NotSteady { breach: breach.clone() }]);
        }
        Passed::Not(Waiting::Steady { since: steady.since })
    }
}
