//! A forecast and a limit: when is it there, and what does that change of a prediction.

use std::time::Duration;

use forefend_domain::{
    Basis, Driver, Family, HealthScore, Interval, MetricKind, MetricName, Outlook, Prediction, Probability,
    TimeToFailure, Timestamp, Windows,
};
use serde::{Deserialize, Serialize};

use super::{FitError, Forecast, Settings};
use crate::{Curve, day_zero::quantity};

/// A metric that has a limit, and its past.
#[derive(Debug, Clone, Copy)]
pub struct Limited<'a> {
    /// Which.
    pub metric: &'a MetricName,
    /// What it tells.
    pub family: Family,
    /// What reaching the limit means; only of what fails a forecast is worth anything ([`MetricKind::fails`]).
    pub kind: MetricKind,
    /// Of its values.
    pub unit: &'a str,
    /// What it must not reach.
    pub limit: f64,
    /// Instants, ascending, and values.
    pub past: &'a [(Timestamp, f64)],
}

/// What a forecast says of a limit: everything that is needed to serve it, and nothing that grows with the past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitForecast {
    metric: MetricName,
    family: Family,
    /// Forecasts were of what rises alone, and did not say so.
    #[serde(default = "rises")]
    kind: MetricKind,
    unit: String,
    limit: f64,
    /// When the newest value was.
    at: Timestamp,
    /// How long the past was, in seconds.
    seen_s: f64,
    /// Seconds after `at`, and how likely the limit was reached by then; ascending in both.
    reached: Vec<(f64, f64)>,
    /// Seconds after `at`, and below what the value is another than was forecast, upwards being towards the limit.
    floor: Vec<(f64, f64)>,
}

/// Values that a forecast is made from, at most; of more, medians of neighbours are taken. Ten minutes apart these are four weeks.
const MOST_VALUES: usize = 4_096;
/// Nothing is said of a limit that is less likely than this to be reached in all the time that is looked at: the earliest quantile that is told.
const LEAST_LIKELY: f64 = 0.1;
/// It looks ahead as far as it has seen back, and no further than this.
const FARTHEST_S: f64 = 30.0 * 86_400.0;
/// Ways on that are drawn.
const PATHS: usize = 400;
/// A forecast that is older says nothing.
const MOST_AGE: Duration = Duration::from_secs(86_400);
/// Instants of the floor.
const FLOOR: usize = 24;
/// A limit that should have been reached by now with this probability was not: the forecast was wrong.
const OVERDUE: f64 = 0.95;
/// Values that lie so much of the limit (of what depletes: of what is left, if that is more) below what was forecast 99 times in 100 tell that somebody made room: less is within what a level may be off.
const ROOM: f64 = 0.05;
/// A driver below this share is not worth a line.
const LEAST_CONTRIBUTION: f64 = 0.01;

fn rises() -> MetricKind {
    MetricKind::Exhaustible
}

/// At most so many points: medians of neighbours in even parts of the time.
#[must_use]
pub fn thinned(past: &[(Timestamp, f64)]) -> Vec<(f64, f64)> {
    let seconds = |at: Timestamp| at.unix_ms() as f64 / 1_000.0;
    let (Some(first), Some(last)) = (past.first(), past.last()) else { return Vec::new() };
    let part_s = (seconds(last.0) - seconds(first.0)) / MOST_VALUES as f64;
    let part =
        |at: Timestamp| if part_s > 0.0 { ((seconds(at) - seconds(first.0)) / part_s) as usize } else { 0 };
    let all: Vec<(Timestamp, f64)> = past.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let median = |neighbours: &[(Timestamp, f64)]| {
        let mut values: Vec<f64> = neighbours.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        (seconds(neighbours[neighbours.len() / 2].0), values[values.len() / 2])
    };
    let parts = all.chunk_by(|a, b| part(a.0) == part(b.0));
    let mut points: Vec<(f64, f64)> = if all.len() > MOST_VALUES {
        parts.map(median).collect()
    } else {
        all.iter().map(|(at, value)| (seconds(*at), *value)).collect()
    };
    points.dedup_by(|b, a| b.0 <= a.0);
    points
}

impl LimitForecast {
    /// A forecast of a metric with a limit. `None`: its past is shorter than `least`, or the limit is hardly reached in the time that can be
    /// spoken for. The seed is of the ways on that are drawn.
    ///
    /// # Errors
    /// [`FitError`] where instants do not ascend, or values are few.
    pub fn of(limited: &Limited<'_>, least: Duration, seed: u64) -> Result<Option<Self>, FitError> {
        // Upwards is towards the limit.
        let sign = limited.kind.sign();
        let mut points = thinned(limited.past);
        points.iter_mut().for_each(|(_, value)| *value *= sign);
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(None) };
        let seen_s = last.0 - first.0;
        if seen_s < least.as_secs_f64() || !limited.limit.is_finite() {
            return Ok(None);
        }
        let within_s = seen_s.min(FARTHEST_S);
        let forecast = Forecast::fit(&points, &Settings::default())?;
        let reached = forecast.crossing(sign * limited.limit, true, within_s, PATHS, seed).crossed;
        if reached.last().is_none_or(|(_, share)| *share < LEAST_LIKELY) {
            return Ok(None);
        }
        let size = limited.kind.length(limited.limit, last.1);
        let floor = (0..=FLOOR).map(|n| MOST_AGE.as_secs_f64() * n as f64 / FLOOR as f64);
        Ok(Some(Self {
            metric: limited.metric.clone(),
            family: limited.family,
            kind: limited.kind,
            unit: limited.unit.to_owned(),
            limit: limited.limit,
            at: Timestamp::from_unix_ms((last.0 * 1_000.0) as u64),
            seen_s,
            reached,
            floor: floor
                .map(|ahead| (ahead, forecast.quantile(last.0 + ahead, 0.01) - ROOM * size))
                .collect(),
        }))
    }

    /// The metric that it is of.
    #[must_use]
    pub fn metric(&self) -> &MetricName {
        &self.metric
    }

    /// How likely the limit is reached within `ahead_s` seconds from `now` on, if it was not so far.
    #[must_use]
    pub fn within(&self, now: Timestamp, ahead_s: f64) -> f64 {
        let gone_s = now.since(self.at).as_secs_f64();
        let before = read(&self.reached, gone_s);
        let after = read(&self.reached, gone_s + ahead_s.max(0.0));
        if before < 1.0 { ((after - before) / (1.0 - before)).clamp(0.0, 1.0) } else { 1.0 }
    }

    /// What people are told at `now`; `None` where too much time has passed for it to hold.
    #[must_use]
    pub fn told(&self, now: Timestamp) -> Option<Outlook> {
        let gone_s = now.since(self.at).as_secs_f64();
        let end_s = self.reached.last()?.0;
        let before = read(&self.reached, gone_s);
        if now.since(self.at) > MOST_AGE || before >= OVERDUE || gone_s >= end_s {
            return None;
        }
        let quantile = |p: f64| {
            let at_s = when(&self.reached, before + p * (1.0 - before))?;
            Some(Duration::from_secs_f64((at_s - gone_s).max(0.0)))
        };
        let within = Duration::from_secs_f64(end_s - gone_s);
        Some(Outlook {
            metric: self.metric.clone(),
            unit: self.unit.clone(),
            limit: self.limit,
            reaches: TimeToFailure { p10: quantile(0.1), p50: quantile(0.5), p90: quantile(0.9) },
            probability: Probability::clamped(self.within(now, within.as_secs_f64()), Probability::ZERO),
            within,
            seen: Duration::from_secs_f64(self.seen_s),
        })
    }

    /// Whether it still holds of what windows show: the limit is the same, and the newest value is not far below what was forecast, as after
    /// somebody made room. A value that is missing speaks neither for nor against.
    fn holds(&self, windows: &Windows) -> bool {
        let Some(metric) = windows.metrics.get(&self.metric) else { return false };
        let same = metric.limit.is_some_and(|limit| (limit - self.limit).abs() <= 1e-9 * self.limit.abs());
        let gone_s = windows.at.since(self.at).as_secs_f64();
        let floor = self.floor.iter().take_while(|(ahead, _)| *ahead <= gone_s).last();
        let least = floor.or(self.floor.first()).map_or(f64::NEG_INFINITY, |(_, least)| *least);
        let same = same && metric.kind == self.kind;
        same && metric.latest().is_none_or(|(_, newest)| self.kind.sign() * newest >= least)
    }
}

/// Takes forecasts into a prediction of the cell: all that hold are told, and what they say becomes part of its curve where windows say nothing.
///
/// Where windows foresee a time, they stand: they are nearer. Else forecasts count beyond what windows can show, which is as far ahead as
/// they reach back, and where a prediction rests on more than the prior, not within its horizon at all. So a forecast alone can have a mirror tried and made ready, but never
/// moves traffic: within the horizon it meets priors only, and leaves them priors.
#[must_use]
pub fn with_forecasts(prediction: Prediction, forecasts: &[LimitForecast], windows: &Windows) -> Prediction {
    let mut holding: Vec<(&LimitForecast, Outlook)> = forecasts
        .iter()
        .filter(|forecast| forecast.holds(windows))
        .filter_map(|forecast| Some((forecast, forecast.told(windows.at)?)))
        .collect();
    holding.sort_by_key(|(_, outlook)| outlook.reaches.p10.unwrap_or(Duration::MAX));
    let outlooks: Vec<Outlook> = holding.iter().map(|(_, outlook)| outlook.clone()).collect();
    let mut prediction = Prediction { outlooks, ..prediction };
    // Over a long horizon the prior alone comes to a tenth: that is no time that windows foresee.
    let foreseen = prediction.basis != Basis::Prior && prediction.time_to_failure.p10.is_some();
    if holding.is_empty() || foreseen {
        return prediction;
    }
    let horizon_s = prediction.horizon.as_secs_f64();
    let shown_s = shown_s(windows);
    let from_s = if prediction.basis == Basis::Prior { shown_s } else { shown_s.max(horizon_s) };
    let points = std::mem::take(&mut prediction.curve);
    // From a point of the curve on, so that nothing before it is touched.
    let Some(from_s) = points.iter().map(|(t, _)| *t).find(|t| *t >= from_s) else {
        prediction.curve = points;
        return prediction;
    };
    let hazard = |p: f64| -(-p.min(1.0 - 1e-12)).ln_1p();
    let added = |forecast: &LimitForecast, t: f64| {
        let of = |t: f64| hazard(forecast.within(windows.at, t));
        (of(t) - of(from_s)).max(0.0)
    };
    let start = hazard(Curve::at(&points, from_s));
    let most = |t: f64| holding.iter().map(|(forecast, _)| added(forecast, t)).fold(0.0, f64::max);
    let curve = Curve::new(prediction.horizon).with_probabilities(|t| {
        let before = Curve::at(&points, t);
        if t <= from_s { before } else { before.max(-(-(start + most(t))).exp_m1()) }
    });
    prediction.curve = curve.points();
    prediction.time_to_failure = curve.time_to_failure();
    prediction.interval = Interval::Plain;
    if from_s < horizon_s {
        let before = hazard(Curve::at(&points, horizon_s));
        prediction.probability = curve.probability_within(prediction.horizon);
        prediction.health = HealthScore::from_failure(prediction.probability);
        let after = hazard(prediction.probability.get());
        let share = if after > before { (after - before) / after } else { 0.0 };
        let foremost = holding
            .iter()
            .max_by(|(a, _), (b, _)| added(a, horizon_s).total_cmp(&added(b, horizon_s)))
            .filter(|_| share >= LEAST_CONTRIBUTION);
        if let Some((forecast, outlook)) = foremost {
            drive(&mut prediction, forecast, outlook, share);
        }
    }
    prediction
}

/// Names the metric of a forecast among the drivers, with this share of the hazard; they add up to 1 as before.
fn drive(prediction: &mut Prediction, forecast: &LimitForecast, outlook: &Outlook, share: f64) {
    let share = if prediction.drivers.is_empty() { 1.0 } else { share };
    prediction.drivers.iter_mut().for_each(|driver| driver.contribution *= 1.0 - share);
    match prediction.drivers.iter_mut().find(|driver| driver.metric == forecast.metric) {
        Some(known) => known.contribution += share,
        None => prediction.drivers.push(Driver {
            metric: forecast.metric.clone(),
            family: forecast.family,
            contribution: share,
            detail: format!(
                "a forecast from {:.1} days of its past has it at {} soon",
                outlook.seen.as_secs_f64() / 86_400.0,
                quantity(forecast.limit, &forecast.unit)
            ),
        }),
    }
    prediction
        .drivers
        .sort_by(|a, b| b.contribution.total_cmp(&a.contribution).then_with(|| a.metric.cmp(&b.metric)));
}

/// For how long windows show anything, in seconds: as far ahead their trends are believed.
fn shown_s(windows: &Windows) -> f64 {
    let shown = |metric: &forefend_domain::MetricWindow| {
        let measured = || metric.samples.iter().filter(|sample| sample.value.is_some());
        let (first, last) = (measured().next()?, measured().next_back()?);
        Some(last.at.since(first.at).as_secs_f64())
    };
    windows.metrics.values().filter_map(shown).fold(0.0, f64::max)
}

/// The line through points, from (0, 0) on; after the last it stays.
fn read(points: &[(f64, f64)], at: f64) -> f64 {
    let i = points.partition_point(|(t, _)| *t < at);
    let before = i.checked_sub(1).map_or((0.0, 0.0), |i| points[i]);
    match points.get(i) {
        Some(after) if after.0 > before.0 => {
            before.1 + (after.1 - before.1) * ((at - before.0) / (after.0 - before.0)).clamp(0.0, 1.0)
        }
        _ => before.1,
    }
}

/// Where that line is first at `level`.
fn when(points: &[(f64, f64)], level: f64) -> Option<f64> {
    let i = points.iter().position(|(_, share)| *share >= level)?;
    let before = i.checked_sub(1).map_or((0.0, 0.0), |i| points[i]);
    let after = points[i];
    let rise = after.1 - before.1;
    let share = if rise > 0.0 { ((level - before.1) / rise).clamp(0.0, 1.0) } else { 1.0 };
    Some(before.0 + share * (after.0 - before.0))
}

#[cfg(test)]
mod tests;
