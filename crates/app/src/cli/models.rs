//! `forefend models` and `forefend incident`: who serves, who would like to, and what failed that nobody noticed.

use clap::{Args, Subcommand};
use forefend_domain::CellId;
use forefend_learn::{evaluate::Estimate, levels::Intervals, practice::Status};
use serde_json::{Value, json};

use super::{
    Failure, Output, Remote,
    remote::{client, post},
};
use crate::models::{ModelView, ModelsView};

#[derive(Debug, Args)]
pub(super) struct ModelsArguments {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Lists models, who serves, who is tried in the shadow, and how trainings went.
    List(Remote),
    /// Shows a model: what it saw, how it did, what the gate says, how it does in the shadow.
    Show {
        /// Which.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lets a model serve that has passed the gate.
    Promote {
        /// Which.
        id: String,
        /// Although the gate has not let it pass; the ledger keeps why it had not.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lets the model serve again that served before.
    Rollback(Remote),
    /// Trains a model now, from what the engine has recorded.
    Train(Remote),
}

#[derive(Debug, Args)]
pub(super) struct IncidentArguments {
    /// Which cell failed.
    cell: CellId,
    /// When, in milliseconds since 1970.
    #[arg(long)]
    began_ms: u64,
    /// When it was well again, in milliseconds since 1970.
    #[arg(long)]
    ended_ms: Option<u64>,
    /// What sort of failure: `memory leak`.
    #[arg(long, default_value = "")]
    kind: String,
    /// What it shares with failures of other cells: `region eu lost power`.
    #[arg(long, default_value = "")]
    event: String,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(arguments: &ModelsArguments) -> Result<(), Failure> {
    match &arguments.command {
        ModelsCommand::List(remote) => list(remote),
        ModelsCommand::Show { id, remote } => show(id, remote),
        ModelsCommand::Promote { id, force, remote } => {
            post(remote, &format!("/api/v1/models/{id}/promote"), &json!({ "force": force }))
        }
        ModelsCommand::Rollback(remote) => post(remote, "/api/v1/models/rollback", &json!({})),
        ModelsCommand::Train(remote) => post(remote, "/api/v1/models/train", &json!({})),
    }
}

pub(super) fn incident(arguments: &IncidentArguments) -> Result<(), Failure> {
    let IncidentArguments { cell, began_ms, ended_ms, kind, event, remote } = arguments;
    let mut body = json!({ "began_ms": began_ms, "kind": kind, "event": event });
    if let Some(ended_ms) = ended_ms {
        body["ended_ms"] = (*ended_ms).into();
    }
    post(remote, &format!("/api/v1/cells/{cell}/incident"), &body)
}

fn list(remote: &Remote) -> Result<(), Failure> {
    let answer: Value = client(remote)?.get_blocking("/api/v1/models")?;
    if remote.output == Output::Json {
        println!("{answer}");
        return Ok(());
    }
    let view: ModelsView = serde_json::from_value(answer)?;
    match &view.champion {
        Some(id) => println!("model {id} serves"),
        None => println!("nothing learned serves: predictions rest on limits and trends"),
    }
    if !view.models.is_empty() {
        println!(
            "\n{:<14} {:<12} {:<10} {:>9} {:>7} {:>9}",
            "model", "does", "rung", "failures", "auc", "skill"
        );
    }
    for model in &view.models {
        let card = &model.card;
        let figure = |value: Option<f64>| value.map_or_else(|| "—".to_owned(), |v| format!("{v:.3}"));
        println!(
            "{:<14} {:<12} {:<10} {:>9} {:>7} {:>9}",
            card.id,
            word(model.status),
            word(Some(card.rung)),
            card.data.incidents.values().sum::<usize>(),
            figure(card.scores.auc),
            figure(card.scores.skill)
        );
    }
    for trial in &view.trials {
        let id = trial.id.as_deref().unwrap_or("of the first day");
        println!(
            "\nmodel {id} is asked beside {} ({}): {} looks are settled",
            trial.against,
            word(Some(trial.role)),
            trial.looks
        );
        for check in &trial.verdict.checks {
            println!("  {} {:<10} {}", if check.passed { "✓" } else { "✗" }, check.name, check.detail);
        }
    }
    for drift in view.drift.iter().take(5) {
        println!(
            "\n{} has drifted from what the champion learned from (stability index {:.2})",
            drift.feature, drift.psi
        );
    }
    println!("\n{}", view.training);
    for trouble in &view.trouble {
        println!("trouble: {trouble}");
    }
    Ok(())
}

fn word<T: serde::Serialize>(value: Option<T>) -> String {
    let value = value.and_then(|value| serde_json::to_value(value).ok());
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_else(|| "nothing".to_owned())
}

/// How the intervals of a model hold.
fn interval_words(of: &str, intervals: &Intervals) -> String {
    let share = |held: Option<Estimate>| {
        held.map_or_else(
            || "an unknown share".to_owned(),
            |held| {
                format!("{:.0}% ({:.0}% to {:.0}%)", 100.0 * held.value, 100.0 * held.low, 100.0 * held.high)
            },
        )
    };
    let (asked, plain) = (100.0 * intervals.promised, share(intervals.plain));
    match intervals.levels {
        None => format!(
            "{of} of the time to failure are read plainly ({}); they held {plain} of {asked:.0}%",
            intervals.why
        ),
        Some(levels) => format!(
            "{of} of the time to failure are read at {:.1}% and {:.1}% of the curve, from {} events that failed: held out, {} of {asked:.0}%, where the plain ones held {plain}",
            100.0 * levels.low(),
            100.0 * levels.high(),
            intervals.failures,
            share(intervals.calibrated),
        ),
    }
}

fn show(id: &str, remote: &Remote) -> Result<(), Failure> {
    let answer: Value = client(remote)?.get_blocking(&format!("/api/v1/models/{id}"))?;
    if remote.output == Output::Json {
        println!("{answer}");
        return Ok(());
    }
    let ModelView { status, why, card } = serde_json::from_value(answer)?;
    println!("model {} ({}), looks {} s ahead", card.id, word::<Status>(status), card.horizon_s);
    if let Some(why) = why {
        println!("refused: {why}");
    }
    println!(
        "data {}: {} looks at {} cells, {} times hidden",
        &card.data.hash[..12.min(card.data.hash.len())],
        card.data.looks,
        card.data.cells,
        card.data.hidden
    );
    for (kind, count) in &card.data.kinds {
        println!("  {count:>5} × {}", if kind.is_empty() { "failure of no named kind" } else { kind });
    }
    print!("\n{}", super::train::ladder(&card));
    println!("\n{:>10} {:>10} {:>20} {:>7}", "told", "came", "(95%)", "looks");
    for bin in &card.reliability {
        println!(
            "{:>9.2}% {:>9.2}% {:>8.2}% to {:>6.2}% {:>8}",
            100.0 * bin.expected,
            100.0 * bin.observed.value,
            100.0 * bin.observed.low,
            100.0 * bin.observed.high,
            bin.rows
        );
    }
    if let Some(intervals) = &card.intervals {
        println!("\n{}", interval_words("intervals", intervals));
    }
    if let Some(suspects) = &card.suspects {
        println!("{}", interval_words("intervals of suspects", suspects));
    }
    println!("\nthe gate, on what was recorded:");
    for check in &card.gate.checks {
        println!("  {} {:<10} {}", if check.passed { "✓" } else { "✗" }, check.name, check.detail);
    }
    Ok(())
}
