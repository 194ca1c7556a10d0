//! `forefend backtest`: reads, replays, writes the report.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use forefend_domain::{MetricName, Objective, OperatingCurve, Service, ServiceId, Tier};
use forefend_learn::practice::Registry;
use forefend_predict::{
    DayZero, Predictor,
    learned::{Learned, Stacked},
};
use forefend_sim::backtest::{self, Contender, Options, Outlooks, Protect, Report};
use forefend_telemetry::history::{History, read_incidents};

use super::{
    Failure,
    past::{PastArguments, duration},
};
use crate::engine::assemble;

#[derive(Debug, Args)]
pub(super) struct BacktestArguments {
    #[command(flatten)]
    past: PastArguments,
    /// When cells failed: JSON lines or CSV.
    #[arg(long, value_name = "FILE")]
    incidents: PathBuf,
    /// The configuration whose services and policies are replayed. Left out: every service of the history by the defaults of tier standard, as cells that
    /// share no state.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Protect cells of services that the configuration does not name as this one of its services.
    #[arg(long = "as", value_name = "SERVICE", requires = "config")]
    otherwise: Option<ServiceId>,
    /// A model that was trained on failures: its file in `models/` of a state directory. Left out: the model of the first day.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Where the report goes, one file of HTML that needs nothing else.
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// Print the whole report as JSON instead of a summary.
    #[arg(long)]
    json: bool,
    /// Replay the modes `observe` and `approve`, and pinned data, as they stand; otherwise everything is replayed as in mode `auto`.
    #[arg(long)]
    as_it_stands: bool,
    /// From one decision to the next. Left out: the configuration's tick, or 1s, and never more than the distance between values.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    tick: Option<Duration>,
    /// The metric that tells the requests per second of a cell.
    #[arg(long, value_name = "METRIC", default_value = "requests_per_second")]
    traffic: String,
    /// Requests per second of a cell that has no such metric.
    #[arg(long, value_name = "RATE", default_value_t = 100.0)]
    requests_per_s: f64,
    /// Requests per second that a standby can carry. Left out: all of its service's.
    #[arg(long, value_name = "RATE")]
    standby_capacity: Option<f64>,
    /// How long an incident lasted of which no end is recorded.
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "5m")]
    unended: Duration,
}

pub(super) fn run(arguments: &BacktestArguments) -> Result<(), Failure> {
    let history = arguments.past.load()?;
    let incidents = read_incidents(&arguments.incidents)?;
    let config = arguments.config.as_deref().map(forefend_config::load).transpose();
    let config = config.map_err(|problems| problems.to_string())?;
    let (model, curve) = arguments.model.as_deref().map_or_else(|| Ok((day_zero(), None)), model)?;
    let options = options(arguments, config.as_ref(), &history);
    let (protect, moved) = protect(arguments, config.as_ref(), curve.as_ref())?;
    let mut planned = backtest::plan(&history, &incidents, &protect, &options)?;
    planned.assumed.extend(moved.into_iter().map(|what| format!("{what}.")));
    let shows = std::io::stderr().is_terminal();
    let progress = |done: usize, all: usize| {
        if shows {
            // Nothing is lost when nobody reads it.
            let _ = write!(std::io::stderr(), "\r{done} of {all} replays");
        }
    };
    let report = backtest::run(&history, &incidents, &planned, &*model, &options, &progress)?;
    if shows {
        eprintln!();
    }
    let page = crate::backtest::page(&report);
    std::fs::write(&arguments.report, page)
        .map_err(|e| format!("the report can't be written to {}: {e}", arguments.report.display()))?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        summary(&report, &arguments.report);
    }
    Ok(())
}

type Model = Box<dyn Predictor + Sync>;

fn day_zero() -> Model {
    Box::new(DayZero::default())
}

/// How a model did at every threshold on what it had not learned from, and how far ahead it looks.
type Curve = (OperatingCurve, Duration);

fn model(path: &Path) -> Result<(Model, Option<Curve>), Failure> {
    // As the registry keeps it, with its card.
    let id =
        path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".model.json"));
    if let (Some(id), Some(folder)) = (id, path.parent()) {
        let stored = Registry::open(folder)?.load(id)?;
        let reach = stored.card.reach();
        return Ok((Box::new(stored.model), Some((stored.card.operating, reach))));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("the model {}: {e}", path.display()))?;
    let wrong = |e: serde_json::Error| {
        format!("the model {} is not understood: {e}; give a file that training wrote", path.display())
    };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(wrong)?;
    // One that is pooled with the model of the first day says how much it counts.
    let model: Model = if value.get("share").is_some() {
        Box::new(serde_json::from_value::<Stacked>(value).map_err(wrong)?)
    } else {
        Box::new(serde_json::from_value::<Learned>(value).map_err(wrong)?)
    };
    Ok((model, None))
}

fn options(
    arguments: &BacktestArguments,
    config: Option<&forefend_config::Config>,
    history: &History,
) -> Options {
    let engine = config.map(|c| &c.engine);
    let tick = engine.map_or(Duration::from_secs(1), |e| e.tick).min(history.step);
    let window = engine.map_or(Duration::from_secs(30 * 60), |e| e.window.length);
    let steps = window.as_secs_f64() / history.step.as_secs_f64();
    let outlooks = match engine.map(|e| &e.forecast) {
        None => Some(Outlooks::default()),
        Some(forecast) => {
            forecast.enabled.then_some(Outlooks { every: forecast.every, least: forecast.least })
        }
    };
    Options {
        outlooks,
        tick: arguments.tick.unwrap_or(tick),
        window_steps: (steps.ceil() as usize).clamp(12, if config.is_some() { 4_096 } else { 360 }),
        requests_per_s: arguments.requests_per_s,
        traffic: MetricName::new(&arguments.traffic),
        standby_capacity_per_s: arguments.standby_capacity,
        unended: arguments.unended,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }
}

/// What is replayed, and in words where thresholds follow from the model's operating curve, as they do where it serves.
fn protect(
    arguments: &BacktestArguments,
    config: Option<&forefend_config::Config>,
    curve: Option<&Curve>,
) -> Result<(Protect, Vec<String>), Failure> {
    let as_it_stands = arguments.as_it_stands;
    let (mut by_curve, mut moved) = (BTreeMap::new(), Vec::new());
    let Some(config) = config else {
        let otherwise = Some(standard()?);
        let topology = forefend_control::Topology::default();
        return Ok((Protect { topology, otherwise, as_it_stands, by_curve }, moved));
    };
    let topology = assemble::topology(config);
    if let Some((curve, reach)) = curve {
        let (of_curve, words) = assemble::topology_by(config, curve, *reach);
        moved = words;
        let policies = of_curve.services.into_iter().map(|(id, spec)| (id, spec.service.policy));
        by_curve = policies
            .filter(|(id, policy)| {
                topology.services.get(id).is_some_and(|spec| spec.service.policy != *policy)
            })
            .collect();
    }
    let otherwise = match &arguments.otherwise {
        None => None,
        Some(name) => match topology.services.get(name) {
            Some(spec) => Some(spec.service.clone()),
            None => {
                let all: Vec<String> = topology.services.keys().map(ToString::to_string).collect();
                return Err(backtest::BacktestError::NoSuchService(name.clone(), all.join(", ")).into());
            }
        },
    };
    Ok((Protect { topology, otherwise, as_it_stands, by_curve }, moved))
}

/// What a service is when nothing is written about it.
pub(super) fn standard() -> Result<Service, Failure> {
    let mut policy = forefend_config::default_policy(Tier::Standard);
    policy.data = forefend_domain::DataPolicy::Stateless;
    policy.budgets.max_weight_in_motion = forefend_domain::Weight::FULL;
    Ok(Service {
        id: ServiceId::new("recorded")?,
        tier: Tier::Standard,
        objective: Objective {
            latency: Duration::from_millis(250),
            slow_share: 0.01,
            error_share: 0.01,
            failed_for: Duration::from_secs(10),
        },
        policy,
        mirror_blueprint: None,
        mirror_zones: Vec::new(),
    })
}

/// The figures, a line for each of those compared.
fn summary(report: &Report, path: &Path) {
    let percent = |share: Option<f64>| share.map_or("–".to_owned(), |s| format!("{:.0}%", s * 100.0));
    println!(
        "{} incidents, {} shifts, {:.3} cell-weeks watched",
        report.incidents.len(),
        report.shifts.len(),
        report.recorded.cell_weeks
    );
    println!(
        "\n{:16} {:>9} {:>8} {:>13} {:>12} {:>14} {:>13}",
        "", "IN TIME", "WARNED", "FALSE ALARMS", "/CELL-WEEK", "FAILURE MIN", "STANDBY H"
    );
    for f in &report.figures {
        println!(
            "{:16} {:>9} {:>8} {:>13} {:>12} {:>14.2} {:>13.2}",
            word(f.contender),
            percent(f.recall.map(|r| r.value)),
            percent(f.recall_any.map(|r| r.value)),
            f.false_alarms,
            f.false_per_cell_week.map_or("–".to_owned(), |r| format!("{:.2}", r.value)),
            f.failure_minutes,
            f.standby_hours,
        );
    }
    for broken in &report.broken {
        println!("! {broken}");
    }
    println!("\nthe report is {}", path.display());
}

fn word(who: Contender) -> &'static str {
    match who {
        Contender::Forefend => "forefend",
        Contender::Reactive => "reactive",
        Contender::Nothing => "nothing",
        Contender::StaticThreshold => "static-threshold",
        Contender::PredictLinear => "predict-linear",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5_400)));
        for wrong in ["5", "s", "5 s", "-1s", "0s", "1e9s", "99999999999999999999999d", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
