use std::time::Duration;

use forefend_domain::MetricName;

/// How the past is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// From one decision to the next, at least 1 ms; in production the engine's tick. Reactions can't be told finer than this.
    pub tick: Duration,
    /// The length of the windows that predictions see, in steps of the history, at least 12.
    pub window_steps: usize,
    /// Requests per second of a cell of whom no traffic is recorded; mirrors earn their weight by answered requests.
    pub requests_per_s: f64,
    /// Which metric tells the requests per second of a cell.
    pub traffic: MetricName,
    /// Requests per second that each assumed standby can carry; `None`: all of its service's.
    pub standby_capacity_per_s: Option<f64>,
    /// How long an incident is taken to have lasted of which no end is recorded.
    pub unended: Duration,
    /// How forecasts from days of the past are made; `None`: none are.
    pub outlooks: Option<Outlooks>,
    /// Replays at once, at least 1. Changes nothing but the time it takes.
    pub threads: usize,
}

/// How forecasts from days of the past are made, as an engine makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlooks {
    /// From one to the next, above 0.
    pub every: Duration,
    /// The shortest past that a metric is forecast from.
    pub least: Duration,
}

impl Default for Outlooks {
    /// Every three hours, from three days on.
    fn default() -> Self {
        Self { every: Duration::from_secs(3 * 3_600), least: Duration::from_secs(3 * 86_400) }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(1),
            window_steps: 120,
            requests_per_s: 100.0,
            traffic: MetricName::new("requests_per_second"),
            standby_capacity_per_s: None,
            unended: Duration::from_secs(300),
            outlooks: Some(Outlooks::default()),
            threads: 1,
        }
    }
}
