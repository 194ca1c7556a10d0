//! An existing Prometheus as a live source: asked at every interval for what is new, one question a metric for all cells together.
//!
//! [`crate::Collector::follow_prometheus`] begins it. At first the past is read as far as windows reach, later what came since, with some of the time before it
//! again for samples that were late. What it could not be asked for is a gap, and is asked for again while windows reach it.

pub(crate) mod api;
mod clock;
mod driver;
mod health;
pub(crate) mod question;
mod trouble;

use std::time::Duration;

use forefend_domain::{Family, MetricKind, MetricName};
use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

use self::{driver::Driver, health::Health};
use crate::{
    access::Access,
    collector::Pulled,
    history::{PrometheusUrl, prometheus::MappedMetric},
    series::MetricSpec,
};

/// How many values the answer to a range query holds, as it is read here.
///
/// # Errors
/// In words, what is wrong with it.
pub fn values_in(answer: &[u8]) -> Result<usize, String> {
    let answered = api::series(answer).map_err(|unanswered| unanswered.to_string())?;
    Ok(answered.series.iter().map(|series| series.points.len()).sum())
}

/// How a Prometheus is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct PrometheusOptions {
    /// Where it answers.
    pub url: PrometheusUrl,
    /// What it wants to be shown, and who vouches for it.
    pub access: Access,
    /// From one question to the next, and between the values that are asked for.
    pub interval: Duration,
    /// For one answer, connecting included.
    pub timeout: Duration,
    /// How far back is read at the start and after a time without answers; never further than windows reach.
    pub look_back: Duration,
    /// How much of what was seen is asked for again.
    pub overlap: Duration,
    /// How long it may show a value that was not scraped again.
    pub fresh_for: Duration,
    /// Labels of series that name the cell, in the order they are looked at.
    pub cell_labels: Vec<String>,
    /// What is asked for.
    pub metrics: Vec<AskedMetric>,
    /// Bound of an answer's body in bytes.
    pub max_answer_bytes: usize,
}

impl PrometheusOptions {
    /// The bound of an answer that is used where nobody says another: some 80 000 series of one value.
    pub const MAX_ANSWER_BYTES: usize = 16 * 1_024 * 1_024;
}

/// A metric of every cell. Unlike in a mapping, its expression yields a series for each cell.
#[derive(Debug, Clone, PartialEq)]
pub struct AskedMetric {
    /// What it is called.
    pub name: MetricName,
    /// What is asked, and what it is.
    pub what: MappedMetric,
    /// Whether it only grows and its rate is wanted.
    pub counter: bool,
}

impl AskedMetric {
    /// What it is as a series, with the limit that all cells have.
    fn spec(&self) -> MetricSpec {
        let limited = self.what.limit.is_some() || self.what.limit_query.is_some();
        let by_default = if limited { MetricKind::Exhaustible } else { MetricKind::Unbounded };
        MetricSpec {
            name: self.name.clone(),
            family: self.what.family.unwrap_or(Family::Custom),
            kind: self.what.kind.unwrap_or(by_default),
            unit: self.what.unit.clone().unwrap_or_default(),
            limit: self.what.limit,
            counter: self.counter,
        }
    }
}

/// A Prometheus that is being asked. It is asked no more once this is dropped.
#[derive(Debug)]
pub struct Follower {
    health: Health,
    rounds: watch::Receiver<u64>,
    task: AbortHandle,
}

impl Follower {
    pub(crate) fn start(options: PrometheusOptions, into: Pulled, runtime: &Handle) -> Self {
        let health = Health::new(options.url.clone());
        let (sender, rounds) = watch::channel(0);
        let driver = Driver::new(options, into, health.clone());
        let task = runtime.spawn(driver.run(sender)).abort_handle();
        Self { health, rounds, task }
    }

    /// What does not work at the moment, each with the server's URL and what to do; empty: all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.health.problems()
    }

    /// How often everything was asked for, all that is missing of the past too, or it was found that it can't be.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        *self.rounds.borrow()
    }

    /// Waits until the past was read, or can't be; for at most `patience`, and `false` when that was not enough.
    pub async fn first_round(&self, patience: Duration) -> bool {
        let mut rounds = self.rounds.clone();
        let first = rounds.wait_for(|rounds| *rounds > 0);
        tokio::time::timeout(patience, first).await.is_ok_and(|ended| ended.is_ok())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}
