//! The verdict on a hypothesis once everything is undone.

use forefend_domain::Timestamp;

use super::{Breach, Hypothesised, InjectionState, Seen, steady::Steady};
use crate::experiment::Experiment;

/// What was done.
pub(crate) struct Done<'a> {
    /// Since when it is to be undone.
    pub(crate) ended: Timestamp,
    /// Whether it really was done.
    pub(crate) tested: bool,
    /// Whether some of it is still in effect.
    pub(crate) residue: bool,
    /// The first breach while it lasted.
    pub(crate) breach: Option<&'a Breach>,
}

/// Whether the injector still reports something of the run.
pub(crate) fn has_residue(seen: &Seen<'_>) -> bool {
    seen.injections.values().any(|state| *state == InjectionState::Active)
}

/// The verdict, and since when the steady state holds again; `None`: it can't be known yet. While something is still in
/// effect there is none.
pub(crate) fn judge(
    experiment: &Experiment,
    steady: &Steady,
    done: &Done<'_>,
    now: Timestamp,
) -> Option<(Hypothesised, Option<Timestamp>)> {
    if done.residue {
        return None;
    }
    let hypothesis = &experiment.hypothesis;
    let deadline = done.ended + hypothesis.recovers_within;
    let since = steady.since.map(|since| since.max(done.ended)).filter(|since| *since <= deadline);
    let Some(since) = since else {
        return (now > deadline).then(|| (broken(steady.last_breach.as_ref()), None));
    };
    if now.since(since) < hypothesis.holds_for {
        return None;
    }
    let verdict = match done.breach.filter(|_| hypothesis.throughout) {
        Some(breach) => broken(Some(breach)),
        None if done.tested => Hypothesised::Upheld,
        None => Hypothesised::NotTested { why: "nothing of it ever took effect".into() },
    };
    Some((verdict, Some(since)))
}

/// What was seen to be broken refutes; what was not seen does not.
fn broken(breach: Option<&Breach>) -> Hypothesised {
    match breach {
        Some(breach) if breach.seen.is_some() => Hypothesised::Refuted { breach: breach.clone() },
        Some(breach) => Hypothesised::NotTested { why: breach.to_string() },
        None => Hypothesised::NotTested { why: "the service was not seen".into() },
    }
}
