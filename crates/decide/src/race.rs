use std::time::Duration;

use forefend_domain::{LeadTimeProfile, Policy, Prediction, Stage};

/// The race between a failure and the shift away from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Race {
    /// How long the shift will take, at the 95th percentile of each stage it still needs.
    pub lead_time: Duration,
    /// `p10 of time to failure − lead time − margin` in seconds: at or below zero the shift must begin. `None`: the
    /// failure is beyond what the model speaks for.
    pub margin_s: Option<f64>,
}

impl Race {
    /// Whether the shift must begin now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.margin_s.is_some_and(|margin| margin <= 0.0)
    }
}

/// How the race stands for a cell. `mirror_ready` leaves out the stages that are already done.
///
/// Adding 95th percentiles overstates the 95th percentile of the sum, on the side of caution.
#[must_use]
pub fn race(prediction: &Prediction, policy: &Policy, profile: &LeadTimeProfile, mirror_ready: bool) -> Race {
    let lead_time = Stage::ALL
        .into_iter()
        .filter(|stage| !(mirror_ready && matches!(stage, Stage::Create | Stage::WarmUp)))
        .map(|stage| profile.p95(stage, policy.lead_time_prior(stage)))
        .sum::<Duration>();
    let needed = lead_time + policy.trigger.margin;
    let margin_s = prediction.time_to_failure.p10.map(|p10| p10.as_secs_f64() - needed.as_secs_f64());
    Race { lead_time, margin_s }
}
