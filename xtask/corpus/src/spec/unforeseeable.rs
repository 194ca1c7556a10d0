//! What comes at once: no metric shows anything before.

use forefend_chaos::{Fault, Ramp};

use super::{
    Cause, Kind, Subject, What,
    draw::{Draft, Recipe},
};

/// The ways to make an episode of an unforeseeable kind.
pub(super) fn recipes(kind: Kind) -> Vec<Recipe> {
    const ALL: [Subject; 4] = [Subject::Nginx, Subject::Postgres, Subject::Redis, Subject::Shop];
    match kind {
        Kind::Kill => ALL.map(|subject| (subject, kill as fn(&mut Draft))).to_vec(),
        Kind::Cut => {
            let stopped = ALL.map(|subject| (subject, stop as fn(&mut Draft)));
            let unreachable = ALL.map(|subject| (subject, partition as fn(&mut Draft)));
            [stopped, unreachable].concat()
        }
        Kind::Step => vec![
            (Subject::Nginx, poisoned),
            (Subject::Postgres, starved),
            (Subject::Redis, poisoned),
            (Subject::Shop, slowed),
            (Subject::Nginx, dependency),
            (Subject::Postgres, poisoned),
            (Subject::Redis, starved),
            (Subject::Shop, dependency),
        ],
        kind => unreachable!("{kind:?} can be foreseen"),
    }
}

fn at_once(draft: &mut Draft, what: What) {
    // Anywhere, so that nothing can be learned from when it comes.
    let onset_s = draft.random.between(12.0, 42.0);
    draft.cause(Cause::new(what, Ramp::Step, onset_s));
}

fn kill(draft: &mut Draft) {
    at_once(draft, What::Kill);
}

fn stop(draft: &mut Draft) {
    at_once(draft, What::Stop);
}

fn partition(draft: &mut Draft) {
    at_once(draft, What::Fault { fault: Fault::Partition });
}

fn poisoned(draft: &mut Draft) {
    let share = draft.random.between(0.5, 0.9);
    at_once(draft, What::Poison { share });
}

fn starved(draft: &mut Draft) {
    let cores = draft.random.between(0.001, 0.0015);
    at_once(draft, What::CpuQuota { cores });
}

fn slowed(draft: &mut Draft) {
    let ms = draft.random.between(250.0, 500.0);
    at_once(draft, What::OwnDelay { ms });
}

fn dependency(draft: &mut Draft) {
    let ms = draft.random.between(300.0, 600.0);
    at_once(draft, What::DependencyDelay { ms });
}
