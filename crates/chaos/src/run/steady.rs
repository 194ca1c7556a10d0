use std::{fmt, time::Duration};

use forefend_domain::{ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Seen, ServiceSeen};
use crate::experiment::{Experiment, Objectives};

/// What is measured of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The share of answers that are errors, from 0 to 1.
    ErrorShare,
    /// The 99th percentile of latency in milliseconds.
    P99Ms,
    /// Requests per second.
    RatePerS,
    /// Cells that failed and are no targets.
    FailedCells,
}

/// An objective that is not kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// Of which service.
    pub service: ServiceId,
    /// What.
    pub measure: Measure,
    /// What was seen, in the measure's unit; `None`: nothing, which is neither kept nor broken.
    pub seen: Option<f64>,
    /// What is allowed, in the measure's unit.
    pub limit: f64,
    /// When.
    pub at: Timestamp,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = &self.service;
        let Some(seen) = self.seen else { return write!(f, "{} of `{service}` was not seen", self.measure) };
        let limit = self.limit;
        match self.measure {
            Measure::ErrorShare => {
                write!(
                    f,
                    "{:.2}% of the answers of `{service}` were errors (limit {:.2}%)",
                    seen * 100.0,
                    limit * 100.0
                )
            }
            Measure::P99Ms => write!(f, "p99 of `{service}` was {seen:.0} ms (limit {limit:.0} ms)"),
            Measure::RatePerS => write!(f, "`{service}` got {seen:.1} requests/s (at least {limit:.1}/s)"),
            Measure::FailedCells => {
                write!(f, "{seen:.0} cells of `{service}` that are no targets have failed (limit {limit:.0})")
            }
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ErrorShare => "the share of errors",
            Self::P99Ms => "p99",
            Self::RatePerS => "the rate",
            Self::FailedCells => "the number of failed cells",
        })
    }
}

/// What is not kept, worst first; `None`: everything is.
fn breach_of(
    service: &ServiceId,
    kept: &Objectives,
    seen: Option<&ServiceSeen>,
    at: Timestamp,
) -> Option<Breach> {
    let breach = |measure, seen, limit| Some(Breach { service: service.clone(), measure, seen, limit, at });
    let rate = seen.and_then(|s| s.rate).map(|r| r.get());
    let least = kept.min_rate.get();
    if rate.is_none_or(|rate| rate < least) {
        return breach(Measure::RatePerS, rate, least);
    }
    let (errors, allowed) = (seen.and_then(|s| s.error_share), kept.error_share.get());
    if !errors.is_some_and(|share| share <= allowed) {
        return breach(Measure::ErrorShare, errors, allowed);
    }
    let allowed = kept.p99?;
    let p99 = seen.and_then(|s| s.p99);
    if p99.is_none_or(|p99| p99 > allowed) {
        return breach(Measure::P99Ms, p99.map(ms), ms(allowed));
    }
    None
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// For how long the steady state has held without a break.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Steady {
    pub(crate) since: Option<Timestamp>,
    pub(crate) last_breach: Option<Breach>,
}

impl Steady {
    /// Looks, and says what is not kept at this instant.
    pub(crate) fn look(
        &mut self,
        experiment: &Experiment,
        seen: &Seen<'_>,
        now: Timestamp,
    ) -> Option<Breach> {
        let all = experiment.steady_state();
        let broken = all.iter().find_map(|(service, kept)| {
            // Numbers of a view that is lost are old, whatever they say.
            let fresh = seen
                .services
                .get(service)
                .filter(|s| s.at.is_some_and(|at| now.since(at) <= experiment.stop_conditions.blind_for));
            breach_of(service, kept, fresh, now)
        });
        match &broken {
            Some(breach) => {
                self.since = None;
                self.last_breach = Some(breach.clone());
            }
            None => self.since = self.since.or(Some(now)),
        }
        broken
    }

    pub(crate) fn held_for(&self, now: Timestamp) -> Option<Duration> {
        self.since.map(|since| now.since(since))
    }
}
