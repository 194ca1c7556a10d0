//! Backtest: what would have happened, had Forefend watched a recorded past?
//!
//! The production loop ([`forefend_control::Controller`]) runs over recorded telemetry, tick by tick, and sees at each tick what was known then and
//! nothing more. What it can't be shown is assumed, and said: the cells that would have taken the traffic were never there, so they are taken to
//! be well, with a stated capacity, made and warmed up in the lead times of the policy; and after a preventive shift nothing is
//! assumed of the cell it relieved but that its telemetry goes on, and its incidents come, as recorded. A real shift takes load off a cell and may spare it the
//! failure, so what is told here of failures is the worse case.
//!
//! Services share nothing in a decision, so each is replayed by a loop of its own. All that comes out is one value, the [`Report`].
//!
//! Start from [`plan`], which makes the topology that is replayed, and [`run`].

mod alarms;
mod contender;
mod judge;
mod options;
mod plan;
mod record;
mod replay;
mod report;
mod standby;
mod summary;
mod trace;
mod world;

pub use contender::Contender;
pub use options::{Options, Outlooks};
pub use plan::{BacktestError, Planned, Protect, plan};
pub use report::{
    Course, Fate, Figures, Followed, IncidentReport, KindRow, Operating, OperatingPoint, PolicyLine,
    Recorded, Reliability, Report, ShiftReport, Warning,
};

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use forefend_domain::ServiceId;
use forefend_predict::Predictor;
use forefend_telemetry::history::{History, Incident};

use crate::backtest::{summary::summarise, trace::Trace};

/// Replays the whole past with the model and with everything it is compared with, and tells how each would have done. `progress` is told how many of
/// how many replays are done.
///
/// Deterministic: the same arguments give the same report, whatever the number of threads.
///
/// # Errors
/// [`BacktestError::Loop`] when the loop can't be started, which would be a bug.
pub fn run(
    history: &History,
    incidents: &[Incident],
    planned: &Planned,
    model: &(dyn Predictor + Sync),
    options: &Options,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Report, BacktestError> {
    let services: Vec<&ServiceId> = planned.topology.services.keys().collect();
    let jobs: Vec<(Contender, &ServiceId)> =
        Contender::REPLAYED.into_iter().flat_map(|c| services.iter().map(move |s| (c, *s))).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut traces = Vec::new();
        while let Some((contender, service)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let trace = replay::service(history, incidents, planned, service, *contender, model, options);
            traces.push((*contender, (*service).clone(), trace));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
        }
        traces
    };
    let mut traces: BTreeMap<(Contender, ServiceId), Trace> = BTreeMap::new();
    let found: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    for (contender, service, trace) in found {
        traces.insert((contender, service), trace?);
    }
    if traces.len() < jobs.len() {
        return Err(BacktestError::Loop("a replay broke off".to_owned()));
    }
    Ok(summarise(history, planned, &traces, options))
}
