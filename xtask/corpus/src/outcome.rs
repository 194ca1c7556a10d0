//! Did it fail, and when? Judged by the product's own tracker from what users saw, and from nothing else: so failures label
//! themselves.

use std::time::Duration;

use forefend_domain::{CellId, Objective, ObjectiveState, Timestamp, ports::ProbeOutcome};
use forefend_telemetry::{ObjectiveTracker, ProbeTiming, TrafficDelta};

/// From one sample to the next.
pub(crate) const STEP: Duration = Duration::from_millis(500);
/// An answer that takes longer is slow. Far above what any of the servers takes when well.
pub(crate) const SLOW_FROM: Duration = Duration::from_millis(150);
/// Users wait no longer than this for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The objective of every episode.
pub(crate) fn objective() -> Objective {
    Objective { latency: SLOW_FROM, slow_share: 0.1, error_share: 0.1, failed_for: Duration::from_secs(3) }
}

/// How probes are made.
pub(crate) const PROBES: ProbeTiming = ProbeTiming { interval: STEP, timeout: STEP };

/// The time that an episode's step stands for: made-up, the same for all, so that windows align.
pub(crate) fn instant(step: u32) -> Timestamp {
    const BEGINNING: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);
    BEGINNING + STEP * step
}

/// Judges one episode while it happens.
pub(crate) struct Judge {
    tracker: ObjectiveTracker,
    objective: Objective,
    cell: CellId,
}

impl Judge {
    pub(crate) fn new(cell: CellId) -> Self {
        Self { tracker: ObjectiveTracker::new(PROBES), objective: objective(), cell }
    }

    /// Takes what became of a probe.
    pub(crate) fn probe(&mut self, step: u32, ok: bool, took: Duration) {
        self.tracker.probe(&ProbeOutcome { cell: self.cell.clone(), at: instant(step), ok, took });
    }

    /// Takes a step's traffic; tells the step in which the failure began, once it counts as one.
    pub(crate) fn step(&mut self, step: u32, traffic: TrafficDelta) -> Option<u32> {
        let now = instant(step);
        self.tracker.traffic(&self.cell, now, traffic);
        match self.tracker.judge(&self.cell, &self.objective, now) {
            ObjectiveState::Failed { since } => {
                Some((since.since(instant(0)).as_millis() / STEP.as_millis()) as u32)
            }
            ObjectiveState::Unknown | ObjectiveState::Met { .. } | ObjectiveState::Breaking { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(errors: impl Fn(u32) -> u64) -> Option<(u32, u32)> {
        let mut judge = Judge::new(CellId::new("a").expect("a name"));
        (0..60).find_map(|step| {
            let traffic = TrafficDelta { requests: 20, errors: errors(step), slow: 0 };
            judge.step(step, traffic).map(|since| (since, step))
        })
    }

    #[test]
    fn a_breach_that_lasts_is_a_failure_since_it_began() {
        assert_eq!(judge(|step| if step >= 30 { 20 } else { 0 }), Some((30, 36)));
    }

    #[test]
    fn a_breach_that_passes_is_none() {
        assert_eq!(judge(|step| if (30..32).contains(&step) { 20 } else { 0 }), None);
        assert_eq!(judge(|_| 1), None, "within the objective");
    }
}
