//! What does not work with a Prometheus at the moment, in words.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::history::PrometheusUrl;

/// Problems that are told at once; of more it is told how many there are.
const TOLD: usize = 4;

/// Where something does not work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The server itself: then nothing else is told.
    Server,
    /// Its clock.
    Clock,
    /// How long it takes.
    Pace,
    /// One of the metrics.
    Metric(String),
    /// The limits of one of the metrics.
    Limit(String),
    /// What one of the metrics was before.
    Past(String),
}

/// Told in the log when it begins and when it ends; read by whoever wants to show it.
#[derive(Debug, Clone)]
pub(super) struct Health {
    url: PrometheusUrl,
    problems: Arc<Mutex<BTreeMap<Place, String>>>,
}

impl Health {
    pub(super) fn new(url: PrometheusUrl) -> Self {
        Self { url, problems: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what does not work at a place, or that it works.
    pub(super) fn note(&self, place: Place, what: Option<String>) {
        let mut problems = self.lock();
        match what {
            Some(what) => {
                let begins = !problems.contains_key(&place);
                if begins {
                    tracing::warn!("{}", self.words(&place, &what));
                }
                problems.insert(place, what);
            }
            None => {
                if let Some(what) = problems.remove(&place) {
                    tracing::info!("over: {}", self.words(&place, &what));
                }
            }
        }
    }

    /// All problems, the worst first.
    pub(super) fn problems(&self) -> Vec<String> {
        let problems = self.lock();
        // A server that does not answer has no other problem.
        if let Some(what) = problems.get(&Place::Server) {
            return vec![self.words(&Place::Server, what)];
        }
        let mut told: Vec<String> =
            problems.iter().take(TOLD).map(|(place, what)| self.words(place, what)).collect();
        if problems.len() > TOLD {
            told.push(format!(
                "Prometheus {}: {} problems more of this kind",
                self.url,
                problems.len() - TOLD
            ));
        }
        told
    }

    fn words(&self, place: &Place, what: &str) -> String {
        let url = &self.url;
        match place {
            Place::Server => format!("no telemetry from Prometheus {url}, its metrics are gaps: {what}"),
            Place::Clock | Place::Pace => format!("Prometheus {url}: {what}"),
            Place::Metric(metric) => format!("Prometheus {url}: `{metric}`: {what}"),
            Place::Past(metric) => format!("Prometheus {url}: the past of `{metric}`: {what}"),
            Place::Limit(metric) => format!("Prometheus {url}: the limit of `{metric}`: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_answer_has_one_problem_and_many_small_ones_are_counted() {
        let health = Health::new("http://host:9090".parse().unwrap());
        assert_eq!(health.problems(), [""; 0]);
        for n in 0..6 {
            health.note(Place::Metric(format!("m{n}")), Some("odd; mend it".into()));
        }
        health.note(Place::Clock, Some("late".into()));
        let told = health.problems();
        assert_eq!(told.len(), TOLD + 1);
        assert_eq!(told[0], "Prometheus http://host:9090: late");
        assert_eq!(told[1], "Prometheus http://host:9090: `m0`: odd; mend it");
        assert_eq!(told[TOLD], "Prometheus http://host:9090: 3 problems more of this kind");
        health.note(Place::Server, Some("down; start it".into()));
        let server = "no telemetry from Prometheus http://host:9090, its metrics are gaps: down; start it";
        assert_eq!(health.problems(), [server]);
        health.note(Place::Server, None);
        assert_eq!(health.problems(), told);
    }
}
