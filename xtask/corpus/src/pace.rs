//! What requests cost on this machine, and limits of CPU time to match.
//!
//! Limits are drawn in cores, so that an episode whose server was to get along with three quarters of its limit would be over it on a
//! machine half as fast: the same machine was found to take 1.4 and 2.2 ms for a request to PostgreSQL on two occasions. So each
//! recording first measures what a request costs, and scales limits by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::{
    cause::Faults,
    episode::{Recording, record},
    score::median,
    spec::{self, EpisodeSpec, Subject},
};

/// By how much limits of CPU time are multiplied.
pub(crate) type Scales = BTreeMap<Subject, f64>;

/// Steps that are looked at after a server's first ones.
const FROM_STEP: u32 = 2;
/// A measurement beyond these is of something else.
const SCALES: (f64, f64) = (0.5, 4.0);

/// What a request cost, in milliseconds of CPU time, where limits were drawn up: the median over the first ten seconds of the
/// episodes of a reduced corpus, twenty at once.
fn drawn_for_ms(subject: Subject) -> f64 {
    match subject {
        Subject::Nginx => 0.137,
        Subject::Postgres => 1.42,
        Subject::Redis => 0.133,
        Subject::Shop => 0.255,
    }
}

/// Between the first starts of two episodes.
pub(crate) fn stagger(jobs: u8) -> Duration {
    Duration::from_millis(60_000 / u64::from(jobs)).min(Duration::from_secs(2))
}

/// Episodes that nobody keeps. First a short one of each server: the first start of a program reads it from the disk, and would be
/// slower than all that follow. Then as many ordinary ones at once as will be recorded at once, to see what requests cost.
///
/// # Errors
/// When a server can't be had.
pub(crate) async fn rehearse(specs: &[EpisodeSpec], faults: &Faults, jobs: u8) -> Result<Scales> {
    let subjects: Vec<Subject> =
        specs.iter().map(|spec| spec.subject).collect::<BTreeSet<_>>().into_iter().collect();
    for subject in &subjects {
        let short = EpisodeSpec { length_s: 3.0, ..spec::rehearsal(*subject, 0) };
        record(&short, 1.0, 1, faults).await.context("the rehearsal failed")?;
    }
    let mut tasks = JoinSet::new();
    for (slot, subject) in (1..=jobs.max(subjects.len() as u8)).zip(subjects.iter().cycle()) {
        let (subject, faults) = (*subject, faults.clone());
        tasks.spawn_local(async move {
            let spec = spec::rehearsal(subject, u64::from(slot));
            tokio::time::sleep(Duration::from_millis(150) * u32::from(slot)).await;
            record(&spec, 1.0, slot, &faults).await
        });
    }
    let mut costs: BTreeMap<Subject, Vec<f64>> = BTreeMap::new();
    while let Some(ended) = tasks.join_next().await {
        let recording = ended.context("the rehearsal panicked")?.context("the rehearsal failed")?;
        costs.entry(recording.spec.subject).or_default().extend(ms_per_request(&recording));
    }
    Ok(costs.into_iter().filter_map(|(subject, costs)| Some((subject, scale(subject, costs)?))).collect())
}

fn scale(subject: Subject, costs_ms: Vec<f64>) -> Option<f64> {
    Some((median(costs_ms)? / drawn_for_ms(subject)).clamp(SCALES.0, SCALES.1))
}

/// Milliseconds of CPU time per request over an episode.
fn ms_per_request(recording: &Recording) -> Option<f64> {
    let mean = |name: &str| {
        let series = recording.series.iter().find(|series| series.spec.name.as_str() == name)?;
        let values: Vec<f64> =
            series.values.iter().filter(|(step, _)| *step >= FROM_STEP).map(|(_, v)| f64::from(*v)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let cores = mean("cpu_utilisation_ratio")? * recording.spec.limits.cpu_cores * recording.cpu_scale;
    let per_s = mean("requests_per_second").filter(|rate| *rate > 0.0)?;
    Some(cores / per_s * 1e3)
}

#[cfg(test)]
mod tests {
    use forefend_domain::Family;

    use super::*;
    use crate::{sample::Series, subject::gauge};

    fn recording(utilisation: f32, per_s: f32) -> Recording {
        let series = |name, value| {
            let (spec, _) = gauge(name, Family::Saturation, "", 0.0);
            // The first steps are a start's and count for nothing.
            Series { spec, values: vec![(0, 99.0), (2, value), (3, value)] }
        };
        let spec = spec::rehearsal(Subject::Shop, 1);
        let series = vec![series("cpu_utilisation_ratio", utilisation), series("requests_per_second", per_s)];
        Recording { spec, cpu_scale: 2.0, steps: 4, failed_step: None, series, trouble: None }
    }

    #[test]
    fn a_request_costs_what_the_server_used_for_it() {
        // A tenth of 2 × 0.15 cores for 30 requests a second: a millisecond each.
        let cost = ms_per_request(&recording(0.1, 30.0)).unwrap();
        assert!((cost - 1.0).abs() < 1e-6, "{cost}");
        assert_eq!(ms_per_request(&recording(0.1, 0.0)), None);
    }

    #[test]
    fn limits_follow_the_cost_within_bounds() {
        let scale = |ms: f64| scale(Subject::Shop, vec![ms * 0.9, ms, ms * 7.0]).unwrap();
        assert!((scale(0.255) - 1.0).abs() < 1e-9);
        assert!((scale(0.51) - 2.0).abs() < 1e-9);
        assert!((scale(90.0) - SCALES.1).abs() < 1e-9);
    }

    #[test]
    fn nothing_happens_in_a_rehearsal() {
        let spec = spec::rehearsal(Subject::Postgres, 3);
        assert!(spec.causes.is_empty());
        assert_eq!(spec.subject, Subject::Postgres);
    }
}
