//! A prediction in full: its curve, the recent course of every metric behind it with limit and forecast, how much each counts, and the past failures
//! that looked like it. Pure; `explain` puts the same into sentences.

use std::time::Duration;

use forefend_control::Snapshot;
use forefend_domain::{
    Anomaly, CellId, Family, Interval, MetricKind, MetricName, MetricWindow, Outlook, Prediction,
    TimeToFailure, Timestamp, Windows,
};
use forefend_predict::{
    estimate,
    learned::{Episode, Neighbour, nearest},
};
use serde::Serialize;

use super::view;

/// Points of a course; more are thinned out evenly.
const POINTS: usize = 120;
/// Past failures that are told.
const NEAREST: usize = 3;
/// Beyond so many horizons a straight line tells nothing.
const FAR: f64 = 10.0;

/// A prediction in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellExplanation {
    /// Which cell.
    pub cell: CellId,
    /// When the engine saw this.
    pub at: Timestamp,
    /// What is known, foreseen and done, in sentences.
    pub words: String,
    /// The horizon of the probability, in seconds; `None`, as all that follows from it: nothing is foreseen.
    pub horizon_s: Option<f64>,
    /// Of failure within the horizon.
    pub probability: Option<f64>,
    /// When.
    pub time_to_failure: Option<TimeToFailure>,
    /// How the ends of that were found.
    pub interval: Option<Interval>,
    /// Seconds from now, and the probability of having failed by then.
    pub curve: Vec<(f64, f64)>,
    /// What it rests on, largest first; the shares add up to 1. Empty while nothing speaks for a failure.
    pub contributions: Vec<Contribution>,
    /// Metrics that behave unlike their past.
    pub anomalies: Vec<Anomaly>,
    /// Metrics that will be at their limits in days, the soonest first.
    pub outlooks: Vec<Outlook>,
    /// Past failures that looked most like now, nearest first.
    pub nearest: Vec<Neighbour>,
    /// How many past looks were compared.
    pub past: usize,
}

/// A metric behind the prediction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contribution {
    /// Its name.
    pub metric: MetricName,
    /// What it tells.
    pub family: Family,
    /// Its share of what speaks for a failure, 0 to 1.
    pub share: f64,
    /// Where it stands, in words.
    pub detail: String,
    /// Its recent course; `None`: not to be had.
    pub course: Option<MetricCourse>,
}

/// The recent course of a metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricCourse {
    /// Of its values.
    pub unit: String,
    /// What reaching its limit means.
    pub kind: MetricKind,
    /// What it must not reach.
    pub limit: Option<f64>,
    /// Seconds from now (negative: ago) and value; `null` where nothing was measured.
    pub values: Vec<(f64, Option<f64>)>,
    /// Where its most likely trend leads.
    pub forecast: Option<Forecast>,
}

/// Where a trend leads, if it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// The level now, noise taken away.
    pub level: f64,
    /// Units per second.
    pub drift_per_s: f64,
    /// How likely it is that there is such a trend at all.
    pub belief: f64,
    /// The level at the horizon.
    pub at_horizon: f64,
    /// Seconds until the limit; `None`: it does not lead there, or only long after the horizon.
    pub reaches_limit_s: Option<f64>,
}

/// Explains a cell. `windows`: its telemetry as predictions saw it; `None` where it is not to be had. `None`: there is no such cell.
#[must_use]
pub fn explanation(
    snapshot: &Snapshot,
    id: &CellId,
    windows: Option<&Windows>,
    past: &[Episode],
) -> Option<CellExplanation> {
    let detail = view::detail(snapshot, id)?;
    let prediction = detail.prediction.as_ref();
    let service = &view::find(snapshot, id)?.0.service;
    let horizon = service.policy.horizon;
    let of_service = || past.iter().filter(|e| e.service == service.id);
    // Failures of the same service tell more; those of others are better than none.
    let own: Vec<Episode> = of_service().cloned().collect();
    let past = if own.is_empty() { past } else { &own };
    Some(CellExplanation {
        cell: id.clone(),
        at: detail.at,
        horizon_s: prediction.map(|p| p.horizon.as_secs_f64()),
        probability: prediction.map(|p| p.probability.get()),
        time_to_failure: prediction.map(|p| p.time_to_failure),
        interval: prediction.map(|p| p.interval),
        curve: prediction.map(|p| p.curve.clone()).unwrap_or_default(),
        contributions: prediction.map(|p| contributions(p, windows)).unwrap_or_default(),
        anomalies: prediction.map(|p| p.anomalies.clone()).unwrap_or_default(),
        outlooks: prediction.map(|p| p.outlooks.clone()).unwrap_or_default(),
        nearest: windows.map(|w| nearest(w, horizon, past, NEAREST)).unwrap_or_default(),
        past: past.len(),
        words: detail.words,
    })
}

fn contributions(prediction: &Prediction, windows: Option<&Windows>) -> Vec<Contribution> {
    let total: f64 = prediction.drivers.iter().map(|d| d.contribution).sum();
    let contribution = |driver: &forefend_domain::Driver| Contribution {
        metric: driver.metric.clone(),
        family: driver.family,
        share: if total > 0.0 { driver.contribution / total } else { 0.0 },
        detail: driver.detail.clone(),
        course: windows.and_then(|w| w.metrics.get(&driver.metric)).map(|m| course(m, prediction.horizon)),
    };
    prediction.drivers.iter().map(contribution).collect()
}

fn course(metric: &MetricWindow, horizon: Duration) -> MetricCourse {
    let end = metric.samples.last().map(|s| s.at).unwrap_or_default();
    let ago = |at: Timestamp| -end.since(at).as_secs_f64();
    let every = metric.samples.len().div_ceil(POINTS).max(1);
    let last = metric.samples.len().saturating_sub(1);
    let values = metric.samples.iter().enumerate().filter(|(i, _)| (last - i).is_multiple_of(every));
    MetricCourse {
        unit: metric.unit.clone(),
        kind: metric.kind,
        limit: metric.limit,
        values: values.map(|(_, s)| (ago(s.at), s.value.filter(|v| v.is_finite()))).collect(),
        forecast: forecast(metric, horizon),
    }
}

/// The same trend that the model of the first day rests on.
fn forecast(metric: &MetricWindow, horizon: Duration) -> Option<Forecast> {
    let end = metric.samples.last()?.at;
    let samples: Vec<(f64, f64)> = metric
        .samples
        .iter()
        .filter_map(|s| s.value.filter(|v| v.is_finite()).map(|v| (-end.since(s.at).as_secs_f64(), v)))
        .collect();
    let limit = metric.limit.filter(|l| l.is_finite());
    let (_, newest) = samples.last()?;
    let scale = limit.map_or(f64::MAX, |limit| metric.kind.length(limit, *newest));
    let mixture = estimate(&samples, scale)?;
    let horizon_s = horizon.as_secs_f64();
    let trend = mixture.trends.iter().max_by(|a, b| a.weight.total_cmp(&b.weight));
    let (level, drift) = trend.map_or((mixture.level, 0.0), |t| (t.level, t.drift));
    let left = limit.map(|limit| (limit - level) / drift).filter(|s| *s >= 0.0 && s.is_finite());
    Some(Forecast {
        level,
        drift_per_s: drift,
        belief: mixture.trends.iter().map(|t| t.weight).sum::<f64>().clamp(0.0, 1.0),
        at_horizon: level + drift * horizon_s,
        reaches_limit_s: left.filter(|s| *s <= horizon_s * FAR),
    })
}
