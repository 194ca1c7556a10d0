//! Commands that show what a running engine sees.

use forefend_domain::CellId;
use serde::Deserialize;
use serde_json::Value;

use super::{Failure, Output, Remote, remote::client};

#[derive(Debug, Deserialize)]
struct Status {
    headline: String,
    #[serde(default)]
    degraded: Vec<String>,
    summaries: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: CellId,
    zone: String,
    role: String,
    life: String,
    parked: bool,
    risk: String,
    probability: Option<f64>,
    health: Option<f64>,
    time_to_failure: Option<forefend_domain::TimeToFailure>,
    weights: Weights,
    next: String,
}

#[derive(Debug, Deserialize)]
struct Weights {
    effective_bp: Option<u32>,
    observed_bp: Option<u32>,
}

fn raw(remote: &Remote, path: &str) -> Result<Value, Failure> {
    Ok(client(remote)?.get_blocking(path)?)
}

pub(super) fn status(remote: &Remote) -> Result<(), Failure> {
    let answer = raw(remote, "/api/v1/snapshot")?;
    if remote.output == Output::Json {
        println!("{answer}");
        return Ok(());
    }
    let status: Status = serde_json::from_value(answer)?;
    println!("{}", status.headline);
    for problem in &status.degraded {
        println!("! {problem}");
    }
    let widest = status.summaries.iter().map(|r| r.id.as_str().len()).max().unwrap_or(4).max(4);
    println!(
        "\n{:widest$}  {:10} {:9} {:9} {:7} {:>6} {:>6} {:>16} {:>9} {:>9}  NEXT",
        "CELL", "ZONE", "ROLE", "LIFE", "RISK", "P", "HEALTH", "FAILS IN", "WEIGHT", "OBSERVED"
    );
    for row in &status.summaries {
        let life = if row.parked { format!("{}*", row.life) } else { row.life.clone() };
        println!(
            "{:widest$}  {:10} {:9} {:9} {:7} {:>6} {:>6} {:>16} {:>9} {:>9}  {}",
            row.id,
            row.zone,
            row.role,
            life,
            row.risk,
            row.probability.map_or("–".to_owned(), |p| format!("{:.0}%", p * 100.0)),
            row.health.map_or("–".to_owned(), |h| format!("{h:.0}")),
            fails_in(row.time_to_failure),
            share(row.weights.effective_bp),
            share(row.weights.observed_bp),
            row.next
        );
    }
    if status.summaries.iter().any(|r| r.parked) {
        println!("\n* frozen");
    }
    Ok(())
}

fn share(bp: Option<u32>) -> String {
    bp.map_or("–".to_owned(), |bp| format!("{:.2}%", f64::from(bp) / 100.0))
}

/// The interval that holds eight of ten outcomes.
fn fails_in(time: Option<forefend_domain::TimeToFailure>) -> String {
    let Some(time) = time else { return "–".to_owned() };
    let words =
        |t: Option<std::time::Duration>| t.map_or("…".to_owned(), |t| format!("{:.0}s", t.as_secs_f64()));
    if time.p10.is_none() {
        return "beyond horizon".to_owned();
    }
    format!("{}–{}", words(time.p10), words(time.p90))
}

pub(super) fn explain(cell: &CellId, remote: &Remote) -> Result<(), Failure> {
    let answer = raw(remote, &format!("/api/v1/cells/{cell}/explanation"))?;
    match remote.output {
        Output::Table => print!("{}", super::explained::text(&serde_json::from_value(answer)?)),
        Output::Json => println!("{answer}"),
    }
    Ok(())
}

pub(super) fn ledger(limit: usize, remote: &Remote) -> Result<(), Failure> {
    let answer = raw(remote, &format!("/api/v1/ledger?limit={limit}"))?;
    if remote.output == Output::Json {
        println!("{answer}");
        return Ok(());
    }
    let entries =
        answer.get("entries").or(Some(&answer)).and_then(Value::as_array).cloned().unwrap_or_default();
    for entry in entries.iter().rev() {
        println!("{}", line(entry));
    }
    Ok(())
}

/// What a decision without explanations does: the small steps of a return, a cell put to rest.
fn effects(entry: &Value) -> String {
    let all = entry.get("effects").and_then(Value::as_array).cloned().unwrap_or_default();
    let words = all.iter().map(|effect| {
        let name = effect.get("effect").and_then(Value::as_str).unwrap_or("?");
        let weights = effect.get("weights").cloned().and_then(|w| serde_json::from_value(w).ok());
        let weights: Option<forefend_domain::ServiceWeights> = weights;
        match (weights, effect.get("cell")) {
            (Some(weights), _) => {
                let shares = weights.shares().into_iter().filter(|(_, share)| *share > 0.0);
                let shares: Vec<String> =
                    shares.map(|((_, cell), share)| format!("{cell} {:.1}%", share * 100.0)).collect();
                format!("weights: {}", shares.join(", "))
            }
            (None, Some(Value::String(cell))) => format!("{name} {cell}"),
            (None, Some(cell)) => format!("{name} {}", cell.get("id").and_then(Value::as_str).unwrap_or("?")),
            (None, None) => name.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join("; ")
}

/// One entry in one line, or a few for a decision with several reasons.
fn line(entry: &Value) -> String {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let seq = entry.get("seq").and_then(Value::as_u64).unwrap_or_default();
    let at = entry.get("at").and_then(Value::as_u64).unwrap_or_default();
    let clock = format!("{:02}:{:02}:{:02}Z", at / 3_600_000 % 24, at / 60_000 % 60, at / 1_000 % 60);
    let kind = text("kind");
    let detail = match kind.as_str() {
        "decision" => entry
            .get("explanations")
            .and_then(Value::as_array)
            .map(|all| {
                all.iter()
                    .map(|e| {
                        let part = |k: &str| e.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
                        format!("{} {}: {}", part("cell"), part("what"), part("why"))
                    })
                    .collect::<Vec<_>>()
                    .join("\n                         ")
            })
            .filter(|words| !words.is_empty())
            .unwrap_or_else(|| effects(entry)),
        "engine" => text("what"),
        "operator" => format!("{} {}", text("who"), text("what")),
        "shift-began" => format!("{} ({})", text("cell"), text("reason")),
        "judged" => format!("{}: {}", text("cell"), text("verdict")),
        "refused" => text("why"),
        "invariant-broken" => format!("{}: {}", text("invariant"), text("detail")),
        "failure" => match entry.get("lead_time_s").and_then(Value::as_f64) {
            Some(lead) => format!("{} failed, {lead:.1} s after its traffic was gone", text("cell")),
            None => format!("{} failed", text("cell")),
        },
        "rejected" => {
            let of = |key: &str| entry["evidence"][key].as_u64().unwrap_or_default();
            let (requests, bad) = (of("requests"), of("bad"));
            format!("{} answered {bad} of {requests} requests of {} badly", text("cell"), text("from"))
        }
        "shift-done" => {
            format!(
                "{} in {:.1} s",
                text("cell"),
                entry.get("took_s").and_then(Value::as_f64).unwrap_or_default()
            )
        }
        _ => text("cell"),
    };
    format!("{seq:>6} {clock} {kind:12} {detail}")
}
