//! `forefend forecast`: what a metric of a cell, or the load of a service, will be, from its recorded past.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use forefend_domain::{CellId, Family, MetricName, Timestamp};
use forefend_predict::forecast::{Event, Forecast, LimitForecast, Limited, Settings, load_of, thinned};
use forefend_telemetry::history::{self, CellHistory, History, HistorySource, LoadOptions, RecordedSeries};
use serde::Serialize;

use super::{
    Failure, forecast_words,
    past::{AccessArguments, duration},
};
use crate::outlooks;

#[derive(Debug, Args)]
pub(super) struct ForecastArguments {
    /// A cell, or a service: then its cells are added up.
    #[arg(required_unless_present = "for_engine")]
    target: Option<String>,
    /// Which metric.
    #[arg(default_value = "requests_per_second")]
    metric: String,
    /// How far ahead.
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "24h")]
    ahead: Duration,
    /// The recorded telemetry: a Parquet or CSV file, a folder of such files, or `prometheus:http://HOST:9090`. Left out: what the engine of `--config` recorded.
    #[arg(long, value_name = "SRC", required_unless_present = "config")]
    history: Option<HistorySource>,
    /// The configuration whose engine recorded the past.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Nothing before this instant: RFC 3339, or milliseconds since 1970. A Prometheus needs it.
    #[arg(long, value_parser = history::instant, value_name = "WHEN")]
    from: Option<Timestamp>,
    /// Nothing after this instant. A Prometheus needs it.
    #[arg(long, value_parser = history::instant, value_name = "WHEN")]
    to: Option<Timestamp>,
    /// Which queries give the metrics of which cells: a Prometheus needs it.
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArguments,
    /// A holiday, a sale, a nightly backup: `NAME=FROM/TO`, as often as it was and will be. What it added before is expected again.
    #[arg(long = "event", value_parser = event, value_name = "NAME=FROM/TO")]
    events: Vec<(String, Timestamp, Timestamp)>,
    /// One JSON object instead of words.
    #[arg(long)]
    json: bool,
    /// Makes the outlooks of a running engine.
    #[arg(long, hide = true, requires = "config", conflicts_with = "target")]
    for_engine: bool,
}

/// The share of what comes that intervals hold.
const COVERAGE: f64 = 0.8;
/// Instants that are told.
const INSTANTS: usize = 48;
/// The farthest that is told.
const FARTHEST: Duration = Duration::from_secs(366 * 86_400);
/// Values of a service's load, at most.
const STRETCHES: u64 = 4_096;

pub(super) fn run(arguments: &ForecastArguments) -> Result<(), Failure> {
    let config = arguments.config.as_deref().map(forefend_config::load).transpose()?;
    if let (true, Some(config)) = (arguments.for_engine, &config) {
        println!("{}", outlooks::make(config, now())?);
        return Ok(());
    }
    let Some(target) = &arguments.target else { return Err("name a cell or a service".into()) };
    let source = match (&arguments.history, &config) {
        (Some(source), _) => source.clone(),
        (None, Some(config)) => HistorySource::Files(config.engine.state_dir.join("history")),
        (None, None) => return Err("name a history, or a configuration".into()),
    };
    let (from, to, mapping) = (arguments.from, arguments.to, arguments.mapping.clone());
    let access = arguments.access.read()?;
    let options = LoadOptions { from, to, mapping, access, ..LoadOptions::default() };
    let history = history::load(&source, &options)?;
    let told = tell(&history, target, arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&told)?);
    } else {
        print!("{}", forecast_words::text(&told));
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn event(text: &str) -> Result<(String, Timestamp, Timestamp), String> {
    let wrong =
        || format!("`{text}` is no event: write it like `sale=2026-11-27T00:00:00Z/2026-11-28T00:00:00Z`");
    let (name, window) = text.split_once('=').ok_or_else(wrong)?;
    let (from, to) = window.split_once('/').ok_or_else(wrong)?;
    let (from, to) = (history::instant(from)?, history::instant(to)?);
    if name.is_empty() || from >= to { Err(wrong()) } else { Ok((name.to_owned(), from, to)) }
}

/// A forecast as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Told {
    pub(super) target: String,
    pub(super) metric: String,
    pub(super) unit: String,
    /// Values that it was made from, and when the first and the last of them were.
    pub(super) values: usize,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// How much the trend rises in a day now.
    pub(super) trend_per_day: f64,
    pub(super) changes: Vec<ToldChange>,
    pub(super) seasons: Vec<ToldSeason>,
    pub(super) events: Vec<ToldEvent>,
    /// The share of what comes that `low` to `high` holds.
    pub(super) coverage: f64,
    pub(super) ahead: Vec<Ahead>,
    /// What it was at as many instants before.
    pub(super) before: Vec<(Timestamp, f64)>,
    pub(super) limit: Option<ToldLimit>,
}

/// A change of the slope.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ToldChange {
    pub(super) at: Timestamp,
    pub(super) by_per_day: f64,
}

/// What a season does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ToldSeason {
    pub(super) name: &'static str,
    pub(super) period_s: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    /// When it is at its highest next.
    pub(super) highest: Timestamp,
}

/// What an event adds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ToldEvent {
    pub(super) name: String,
    pub(super) adds: f64,
}

/// What is expected at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ahead {
    pub(super) at: Timestamp,
    pub(super) low: f64,
    pub(super) value: f64,
    pub(super) high: f64,
}

/// When a limit is reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ToldLimit {
    pub(super) limit: f64,
    /// `None`: hardly, as far ahead as the past reaches back.
    pub(super) outlook: Option<forefend_domain::Outlook>,
}

/// What is forecast of, with its past.
struct Subject<'a> {
    unit: &'a str,
    past: Vec<(f64, f64)>,
    limited: Option<(&'a RecordedSeries, f64)>,
}

fn tell(history: &History, target: &str, arguments: &ForecastArguments) -> Result<Told, Failure> {
    let metric = MetricName::new(&arguments.metric);
    let subject = subject(history, target, &metric)?;
    let mut events: Vec<Event> = Vec::new();
    for (name, from, to) in &arguments.events {
        let window = (seconds(*from), seconds(*to));
        match events.iter_mut().find(|event| event.name == *name) {
            Some(known) => known.windows_s.push(window),
            None => events.push(Event { name: name.clone(), windows_s: vec![window] }),
        }
    }
    let settings = Settings { events: events.clone(), ..Settings::default() };
    let forecast = Forecast::fit(&subject.past, &settings).map_err(|error| error.to_string())?;
    let (begin, end) = (subject.past[0].0, forecast.newest_s());
    let reach_s = arguments.ahead.min(FARTHEST).as_secs_f64();
    let ahead = |n: usize| {
        let at_s = end + reach_s * n as f64 / INSTANTS as f64;
        let (low, high) = forecast.interval(at_s, COVERAGE);
        Ahead { at: instant(at_s), low, value: forecast.at(at_s), high }
    };
    let known = |event: &Event| {
        let within = event.windows_s.iter().map(|(from, to)| f64::midpoint(*from, *to));
        let adds = within
            .map(|at| forecast.events(at))
            .fold(0.0, |most: f64, a| if a.abs() > most.abs() { a } else { most });
        ToldEvent { name: event.name.clone(), adds }
    };
    Ok(Told {
        target: target.to_owned(),
        metric: arguments.metric.clone(),
        unit: subject.unit.to_owned(),
        values: subject.past.len(),
        from: instant(begin),
        to: instant(end),
        trend_per_day: forecast.slope_per_s(end) * 86_400.0,
        changes: forecast
            .changes()
            .into_iter()
            .map(|change| ToldChange { at: instant(change.at_s), by_per_day: change.by_per_s * 86_400.0 })
            .collect(),
        seasons: forecast.seasons_s().into_iter().map(|period| season(&forecast, period)).collect(),
        events: events.iter().map(known).collect(),
        coverage: COVERAGE,
        ahead: (1..=INSTANTS).map(ahead).collect(),
        before: before(&subject.past, end, reach_s),
        limit: subject
            .limited
            .map(|(series, limit)| ToldLimit { limit, outlook: outlook(&metric, series, limit) }),
    })
}

fn seconds(at: Timestamp) -> f64 {
    at.unix_ms() as f64 / 1_000.0
}

fn instant(at_s: f64) -> Timestamp {
    Timestamp::from_unix_ms((at_s * 1_000.0).max(0.0) as u64)
}

/// The same rule by which an engine tells outlooks, for any length of the past.
fn outlook(metric: &MetricName, series: &RecordedSeries, limit: f64) -> Option<forefend_domain::Outlook> {
    let (family, kind, unit) = (series.family, series.kind, series.unit.as_str());
    let limited = Limited { metric, family, kind, unit, limit, past: &series.samples };
    let found = LimitForecast::of(&limited, Duration::ZERO, 1).ok().flatten()?;
    found.told(series.samples.last()?.0)
}

fn subject<'a>(history: &'a History, target: &str, metric: &MetricName) -> Result<Subject<'a>, Failure> {
    let cell = target.parse::<CellId>().ok().and_then(|cell| history.cells.get(&cell));
    let cells: Vec<&CellHistory> = match cell {
        Some(cell) => vec![cell],
        None => history.cells.values().filter(|cell| cell.service.as_str() == target).collect(),
    };
    if cells.is_empty() {
        return Err(format!(
            "nothing is recorded of a cell or a service `{target}`; there are {}",
            named(history)
        )
        .into());
    }
    let series: Vec<&RecordedSeries> = cells.iter().filter_map(|cell| cell.series.get(metric)).collect();
    let Some(first) = series.first() else {
        let known: std::collections::BTreeSet<&str> =
            cells.iter().flat_map(|cell| cell.series.keys()).map(MetricName::as_str).collect();
        let known: Vec<&str> = known.into_iter().take(40).collect();
        return Err(
            format!("no metric `{metric}` is recorded of {target}; there are {}", known.join(", ")).into()
        );
    };
    if cell.is_some() {
        let limit = first.samples.last().and_then(|(at, _)| first.limit_at(*at));
        let limited = limit.map(|limit| (*first, limit));
        return Ok(Subject { unit: &first.unit, past: thinned(&first.samples), limited });
    }
    if !matches!(first.family, Family::Traffic | Family::Custom) {
        return Err(format!("`{metric}` of several cells does not add up; name a cell of {target}").into());
    }
    let span = history.span().map_or(Duration::ZERO, |(first, last)| last.since(first));
    let every = history
        .step
        .max(Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX) / STRETCHES));
    let samples: Vec<&[(Timestamp, f64)]> = series.iter().map(|series| series.samples.as_slice()).collect();
    Ok(Subject { unit: &first.unit, past: load_of(&samples, every), limited: None })
}

fn named(history: &History) -> String {
    let services: std::collections::BTreeSet<&str> =
        history.cells.values().map(|cell| cell.service.as_str()).collect();
    let cells = history.cells.keys().map(CellId::as_str);
    services.into_iter().chain(cells).take(40).collect::<Vec<_>>().join(", ")
}

fn season(forecast: &Forecast, period_s: f64) -> ToldSeason {
    const LOOKS: usize = 288;
    let end = forecast.newest_s();
    let looks = (0..LOOKS).map(|n| end + period_s * n as f64 / LOOKS as f64);
    let at: Vec<(f64, f64)> = looks.map(|at| (at, forecast.season_of(period_s, at))).collect();
    let least = at.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let most = at
        .iter()
        .copied()
        .fold((end, f64::NEG_INFINITY), |most, look| if look.1 > most.1 { look } else { most });
    let name = match period_s {
        p if p <= 86_400.0 => "day",
        p if p <= 7.0 * 86_400.0 => "week",
        _ => "year",
    };
    ToldSeason { name, period_s, least, most: most.1, highest: instant(most.0) }
}

/// The newest value before each of as many instants as are told ahead, over as long a time.
fn before(past: &[(f64, f64)], end: f64, reach_s: f64) -> Vec<(Timestamp, f64)> {
    let at = |n: usize| {
        let at_s = end - reach_s * (INSTANTS - n) as f64 / INSTANTS as f64;
        let known = past.partition_point(|(t, _)| *t <= at_s);
        known.checked_sub(1).map(|i| (instant(at_s), past[i].1))
    };
    (1..=INSTANTS).filter_map(at).collect()
}
