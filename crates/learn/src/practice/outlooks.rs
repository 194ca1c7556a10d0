use std::time::Duration;

use forefend_domain::{MetricName, Timestamp};
use forefend_predict::forecast::{FitError, LimitForecast, Limited};
use forefend_telemetry::history::CellHistory;

/// A metric of which nothing was seen for so long is not forecast: its cell is gone, or nobody measures it any more.
const LATEST: Duration = Duration::from_secs(3_600);
/// Of the ways on that are drawn: the same past gives the same forecast.
const SEED: u64 = 1;

/// What is forecast of a cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outlooked {
    /// Of metrics that may reach their limit.
    pub forecasts: Vec<LimitForecast>,
    /// How many metrics have a limit and a past that is long enough.
    pub looked_at: usize,
    /// Metrics whose past can't be fitted.
    pub unfit: Vec<(MetricName, FitError)>,
}

/// Forecasts every metric of a cell whose limit is a failure, from what was recorded of it up to `now`, if that is `least` or more.
#[must_use]
pub fn outlooks(recorded: &CellHistory, now: Timestamp, least: Duration) -> Outlooked {
    let mut told = Outlooked::default();
    for (metric, series) in recorded.series.iter().filter(|(_, series)| series.kind.fails()) {
        let past = &series.samples[..series.samples.partition_point(|(at, _)| *at <= now)];
        let (Some((first, _)), Some((last, _))) = (past.first(), past.last()) else { continue };
        let Some(limit) = series.limit_at(*last) else { continue };
        if now.since(*last) > LATEST || last.since(*first) < least {
            continue;
        }
        told.looked_at += 1;
        let (family, kind, unit) = (series.family, series.kind, series.unit.as_str());
        match LimitForecast::of(&Limited { metric, family, kind, unit, limit, past }, least, SEED) {
            Ok(found) => told.forecasts.extend(found),
            Err(error) => told.unfit.push((metric.clone(), error)),
        }
    }
    told
}
