use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{CellId, Family, HealthScore, MetricName, Probability, Timestamp};

/// When a cell is expected to fail: quantiles of the time from now. `None` is *beyond the horizon that the model
/// can speak for*, never "does not fail".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeToFailure {
    /// One time in ten it fails sooner.
    pub p10: Option<Duration>,
    /// As likely sooner as later.
    pub p50: Option<Duration>,
    /// Nine times in ten it fails sooner.
    pub p90: Option<Duration>,
}

impl TimeToFailure {
    /// Whether the quantiles are in order, with "beyond" after every duration.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        let key = |q: Option<Duration>| q.unwrap_or(Duration::MAX);
        key(self.p10) <= key(self.p50) && key(self.p50) <= key(self.p90)
    }
}

/// How the ends of a time to failure were found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interval {
    /// Where the curve itself is at one tenth and at nine tenths; how often that holds was not checked.
    #[default]
    Plain,
    /// Where, before failures that were held out, one in ten came sooner and one in ten later.
    Calibrated,
}

/// What a prediction rests on. It decides what may be done on its strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Too little was seen: the base rate, nothing more. Never moves traffic by itself.
    Prior,
    /// A metric with a limit is on its way there.
    FirstPassage,
    /// A learned model whose probabilities were checked on held-out failures.
    Calibrated,
}

/// A metric that the prediction rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// Which metric.
    pub metric: MetricName,
    /// What it tells.
    pub family: Family,
    /// Its share of the cumulative hazard at the horizon; over all drivers of a prediction these add up to 1.
    pub contribution: f64,
    /// In words and numbers, for people: `93.1 MiB of 96 MiB, +6.0 MiB/s`.
    pub detail: String,
}

/// A metric that is unlike its own past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    /// Which metric.
    pub metric: MetricName,
    /// Its robust z-score: distance from its median in units of its scaled median absolute deviation; signed.
    pub z: f64,
}

/// When a metric is expected at its limit, by a forecast from days of its past: told even where that lies beyond the survival curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Which metric.
    pub metric: MetricName,
    /// Of its values.
    pub unit: String,
    /// What it must not reach.
    pub limit: f64,
    /// When it does, from the instant of the prediction on.
    pub reaches: TimeToFailure,
    /// That it does within `within`.
    pub probability: Probability,
    /// How far ahead the forecast speaks.
    pub within: Duration,
    /// How long a past it was made from.
    pub seen: Duration,
}

/// What is foreseen for one cell. Every figure is read off one survival curve, so they can't contradict each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Whose.
    pub cell: CellId,
    /// When it was made.
    pub at: Timestamp,
    /// The horizon of `probability`.
    pub horizon: Duration,
    /// That the cell fails within the horizon.
    pub probability: Probability,
    /// When.
    pub time_to_failure: TimeToFailure,
    /// How the ends of that were found.
    #[serde(default)]
    pub interval: Interval,
    /// `100 · (1 − probability)`.
    pub health: HealthScore,
    /// How unlike its own past the cell behaves: the largest robust z-score of its metrics. 0 is usual, above 6 is rare.
    pub anomaly: f64,
    /// The metrics behind `anomaly`, most unusual first; only those above 3.
    pub anomalies: Vec<Anomaly>,
    /// Most important first.
    pub drivers: Vec<Driver>,
    /// What it rests on.
    pub basis: Basis,
    /// Whether the cell holds more of a limit than any that stayed well ever held, by a model that counted what became of those that did.
    #[serde(default)]
    pub exceeds: bool,
    /// Metrics that will be at their limits, by forecasts from days of their past; the soonest first.
    #[serde(default)]
    pub outlooks: Vec<Outlook>,
    /// Points `(seconds from now, P(fail by then))` of the curve, for plots: increasing in both.
    pub curve: Vec<(f64, f64)>,
}
