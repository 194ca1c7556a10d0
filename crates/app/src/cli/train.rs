//! `forefend train`: learns from recorded telemetry and incidents, and puts what was learned before the gate.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use forefend_domain::{Timestamp, Weight};
use forefend_learn::{
    lstm::{DeviceChoice, TrainedOn},
    practice::{
        Away, Card, Outcomes, Registry, Stored, Study,
        gate::Verdict,
        ladder::{LeftOut, Rung},
    },
};
use forefend_predict::learned::Model;
use forefend_telemetry::history;
use serde_json::json;

use super::{Failure, Output, past::PastArguments};
use crate::models;

#[derive(Debug, Args)]
pub(super) struct TrainArguments {
    #[command(flatten)]
    past: PastArguments,
    /// Past incidents, as JSON lines or CSV: cell, began, and if known ended, kind, event. Left out: those that an engine recorded with its history.
    #[arg(long)]
    incidents: Option<PathBuf>,
    /// The configuration: its state directory keeps the models, its policies say how far ahead to look, its window what is looked at.
    #[arg(short, long, required_unless_present = "models")]
    config: Option<PathBuf>,
    /// Where models are kept, instead of the configuration's state directory.
    #[arg(long)]
    models: Option<PathBuf>,
    /// How far ahead to look, instead of the longest horizon of the configuration's policies; in seconds.
    #[arg(long, value_name = "SECONDS")]
    horizon_s: Option<f64>,
    /// Steps of a window, instead of the configuration's.
    #[arg(long)]
    window: Option<usize>,
    /// Where networks learn.
    #[arg(long, value_enum, default_value_t = Device::Auto, env = "FOREFEND_DEVICE")]
    device: Device,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// What became of cells, as a running engine writes it down.
    #[arg(long, hide = true, conflicts_with = "incidents")]
    outcomes: Option<PathBuf>,
    /// One line about what came of it, and no error for having too little to learn from.
    #[arg(long, hide = true)]
    one_line: bool,
}

/// Where networks learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Device {
    /// On a GPU where there is one and the networks are large enough for it to be faster.
    Auto,
    /// On the CPU.
    Cpu,
    /// On a GPU where there is one.
    Gpu,
}

impl From<Device> for DeviceChoice {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => Self::Auto,
            Device::Cpu => Self::Cpu,
            Device::Gpu => Self::Gpu,
        }
    }
}

/// Looks at past failures that are kept to explain predictions by.
const PAST_FAILURES: usize = 5_000;

pub(super) fn train(arguments: &TrainArguments) -> Result<(), Failure> {
    super::log_to_stderr();
    match learn(arguments) {
        Ok((id, stored, passed_on)) => {
            if arguments.one_line {
                println!("{}", one_line(&id, &stored, passed_on));
            } else if arguments.output == Output::Json {
                println!("{}", json!({ "id": id, "in_shadow": passed_on, "card": stored.card }));
            } else {
                print!("{}", table(&id, &stored, passed_on));
            }
            Ok(())
        }
        Err(error) if arguments.one_line => {
            println!("nothing was trained: {error}");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn learn(arguments: &TrainArguments) -> Result<(String, Stored, bool), Failure> {
    let config = arguments.config.as_deref().map(forefend_config::load).transpose()?;
    let folder = match (&arguments.models, &config) {
        (Some(folder), _) => folder.clone(),
        (None, Some(config)) => config.engine.state_dir.join("models"),
        (None, None) => return Err("name a configuration, or a folder for models".into()),
    };
    let horizon = horizon(arguments, config.as_ref())?;
    let history = arguments.past.load()?;
    let outcomes = outcomes(arguments)?;
    let length = arguments.window.unwrap_or_else(|| {
        let window = config.as_ref().map(|config| &config.engine.window);
        window.map_or(120, |w| (w.length.as_secs_f64() / w.step.as_secs_f64()).ceil() as usize)
    });
    let mut study = Study::new(horizon, history.step, length.clamp(12, 4_096));
    study.device = arguments.device.into();
    if let Some(learning) = config.as_ref().map(|config| &config.engine.learning) {
        study.least_events = learning.least_failures as usize;
        study.gate.least_events = study.least_events;
        study.gate.false_alarms_per_cell_week =
            f64::from(learning.false_alarms_per_1000_cell_weeks) / 1_000.0;
    }
    if let Some(config) = &config {
        models::write_past(
            &config.engine.state_dir,
            &study.past_failures(&history, &outcomes, PAST_FAILURES),
        )?;
    }
    let registry = Registry::open(&folder)?;
    let state = registry.state()?;
    let champion = state.champion.as_deref().map(|id| registry.load(id)).transpose()?;
    let until = champion.as_ref().and_then(|stored| stored.card.data.span).map(|(_, last)| last);
    let champion = champion.map_or(Model::FirstDay, |stored| stored.model);
    let stored = study.challenger(&history, &outcomes, &champion, until, now())?;
    log_devices(&stored.card.trained_on, arguments.device);
    let id = registry.add(stored.card.clone(), stored.model.clone())?;
    let goes_on = may_be_tried(&stored.card.gate);
    if goes_on {
        registry.shadow(&id)?;
    } else {
        registry.refuse(&id, &stored.card.gate.why_not())?;
    }
    Ok((id, stored, goes_on))
}

/// Whoever asked for a GPU is told where there was none, and everybody where one failed.
fn log_devices(trained_on: &[TrainedOn], asked: Device) {
    for TrainedOn { device, why, failed, trainings } in trained_on {
        let is_other = asked == Device::Gpu && device == "cpu";
        if *failed || is_other {
            tracing::warn!(trainings, "networks learned on {device}: {why}");
        } else {
            tracing::info!(trainings, "networks learned on {device}: {why}");
        }
    }
}

/// What has passed goes into the shadow, and what was only too little to judge: there it can show itself.
fn may_be_tried(verdict: &Verdict) -> bool {
    let only_evidence = verdict.checks.iter().all(|check| check.passed || check.name == "evidence");
    verdict.passed || (only_evidence && verdict.fails("evidence"))
}

fn horizon(
    arguments: &TrainArguments,
    config: Option<&forefend_config::Config>,
) -> Result<Duration, Failure> {
    const ALLOWED: &str = "a horizon is from 1 s to 7 days (604800 s)";
    if let Some(seconds) = arguments.horizon_s {
        let horizon = Duration::try_from_secs_f64(seconds).map_err(|_| ALLOWED)?;
        let ok = (Duration::from_secs(1)..=Duration::from_secs(7 * 86_400)).contains(&horizon);
        return if ok { Ok(horizon) } else { Err(ALLOWED.into()) };
    }
    let config = config.ok_or("without a configuration, say how far ahead to look: `--horizon-s 600`")?;
    let horizons = config.services.values().map(|service| service.policy().horizon);
    horizons.max().ok_or_else(|| "the configuration has no service".into())
}

fn outcomes(arguments: &TrainArguments) -> Result<Outcomes, Failure> {
    match (&arguments.incidents, &arguments.outcomes) {
        (Some(path), _) => Ok(Outcomes::of_incidents(history::read_incidents(path)?)),
        (None, Some(path)) => Ok(models::read_outcomes(Path::new(path))?),
        (None, None) => {
            let recorded = history::load_outcomes(&arguments.past.history)?;
            let away = recorded.absences.into_iter().filter(|absence| absence.most == Weight::FULL);
            let away = away.map(|a| Away { cell: a.cell, from: a.began, until: a.ended }).collect();
            Ok(Outcomes { incidents: recorded.incidents, away })
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn one_line(id: &str, stored: &Stored, goes_on: bool) -> String {
    let data = &stored.card.data;
    let what = if goes_on { "goes into the shadow" } else { "was refused" };
    let why = if goes_on { String::new() } else { format!(": {}", stored.card.gate.why_not()) };
    let on: Vec<&str> = stored.card.trained_on.iter().map(|on| on.device.as_str()).collect();
    let on = if on.is_empty() { String::new() } else { format!(", its networks on {},", on.join(" and ")) };
    format!("model {id} learned from {} looks at {} cells{on} and {what}{why}", data.looks, data.cells)
}

fn name(rung: Rung) -> String {
    serde_json::to_value(rung).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// How each rung did, which were left out, and where networks learned.
pub(super) fn ladder(card: &Card) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = writeln!(text, "{:<12} {:>9} {:>6}  gain over the rung below (95%)", "rung", "brier", "share");
    for climbed in &card.ladder {
        let gain = climbed.gain.map(|g| format!("{:+.5} ({:+.5} to {:+.5})", g.value, g.low, g.high));
        let asked = climbed.asked.map(|share| format!("  asked about {:.1}% of looks", 100.0 * share));
        let _ = writeln!(
            text,
            "{:<12} {:>9.5} {:>6.2}  {}{}{}",
            name(climbed.rung),
            climbed.brier,
            climbed.share,
            gain.unwrap_or_default(),
            asked.unwrap_or_default(),
            if climbed.taken { "  taken" } else { "" }
        );
    }
    if let Some(beyond) = &card.beyond {
        let gain = beyond.gain.map(|g| format!("{:+.5} ({:+.5} to {:+.5})", g.value, g.low, g.high));
        let _ = writeln!(
            text,
            "{:<12} {:>9.5}         {}{}",
            "held",
            beyond.brier,
            gain.unwrap_or_default(),
            if beyond.taken { "  taken" } else { "" }
        );
        let _ = writeln!(
            text,
            "{:<12} of {} that held more of a limit than any that stayed well, {} failed within the horizon",
            "", beyond.witnesses, beyond.failed
        );
    }
    for LeftOut { rung, why } in &card.left_out {
        let _ = writeln!(text, "{:<12} left out: {why}", name(*rung));
    }
    for TrainedOn { device, why, trainings, .. } in &card.trained_on {
        let _ = writeln!(text, "networks, trained {trainings} times on {device}: {why}");
    }
    text
}

fn table(id: &str, stored: &Stored, goes_on: bool) -> String {
    use std::fmt::Write as _;
    let card = &stored.card;
    let mut text = String::new();
    let incidents: usize = card.data.incidents.values().sum();
    let _ = writeln!(
        text,
        "learned from {} looks at {} cells, {incidents} incidents; looks {} s ahead\n",
        card.data.looks, card.data.cells, card.horizon_s
    );
    text.push_str(&ladder(card));
    let figure = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |v| format!("{v:.4}"));
    let scores = &card.scores;
    let _ = writeln!(
        text,
        "\non {} looks and {} failures that it had not learned from:\n  brier {}  skill {}  auc {}  slope {}  top 5% seen/expected {}",
        scores.looks,
        scores.events,
        figure(scores.brier),
        figure(scores.skill),
        figure(scores.auc),
        figure(scores.slope),
        figure(scores.top)
    );
    let _ = writeln!(text, "\nthe gate, against the one that serves:");
    for check in &card.gate.checks {
        let _ =
            writeln!(text, "  {} {:<10} {}", if check.passed { "✓" } else { "✗" }, check.name, check.detail);
    }
    let next = if goes_on {
        "goes into the shadow: `forefend models show` tells how it does there"
    } else {
        "was refused and serves nothing"
    };
    let _ = writeln!(text, "\nmodel {id} {next}");
    text
}
