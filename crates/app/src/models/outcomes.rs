use std::{io::Write as _, path::Path};

use forefend_chaos::label::{self, Source};
use forefend_domain::{LedgerSeq, Timestamp};
use forefend_learn::practice::{Away, Outcomes};
use forefend_predict::learned::Episode;
use forefend_store::LedgerReader;
use forefend_telemetry::history::{Incident, IncidentSource, parse_incidents};

/// Failures that operators told of.
const OPERATORS: &str = "incidents.jsonl";

/// How past failures looked before they came, one look a line, in the state directory.
pub(crate) const PAST_FAILURES: &str = "past-failures.jsonl";

/// Writes looks at past failures, in the place of those that are there. The engine reads them when it starts.
///
/// # Errors
/// When they can't be written.
pub(crate) fn write_past(state_dir: &Path, episodes: &[Episode]) -> std::io::Result<()> {
    std::fs::create_dir_all(state_dir)?;
    let (path, beside) = (state_dir.join(PAST_FAILURES), state_dir.join("past-failures.new"));
    let mut text = String::new();
    for episode in episodes {
        text.push_str(&serde_json::to_string(episode).map_err(std::io::Error::other)?);
        text.push('\n');
    }
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, &path)
}

/// Entries of the ledger that are looked at, the newest.
const ENTRIES: usize = 1_000_000;
const PAGE: usize = 1_000;

/// Appends a failure that an operator tells of.
///
/// # Errors
/// When it can't be written.
pub(crate) fn append_incident(state_dir: &Path, incident: &Incident) -> std::io::Result<()> {
    let line = serde_json::to_string(incident).map_err(std::io::Error::other)? + "\n";
    let mut file = std::fs::File::options().create(true).append(true).open(state_dir.join(OPERATORS))?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

/// Failures that operators told of.
///
/// # Errors
/// Names the file and the line.
pub(crate) fn of_operators(state_dir: &Path) -> Result<Outcomes, String> {
    let path = state_dir.join(OPERATORS);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Outcomes::default()),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(Outcomes::default());
    }
    parse_incidents(&bytes).map(Outcomes::of_incidents).map_err(|e| format!("{}: {e}", path.display()))
}

/// Failures that drills and faults caused. A cell whose traffic they took away counts as lost sight of from then on.
///
/// # Errors
/// Names the file and the line.
pub(crate) fn of_drills(state_dir: &Path) -> Result<Outcomes, String> {
    let path = state_dir.join("drills").join("labels.jsonl");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Outcomes::default()),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let labels = label::read(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut incidents = Vec::new();
    for label in labels {
        // One that was ill before tells nothing of the fault.
        let Some(broke) = label.broke.filter(|broke| *broke >= label.begun) else { continue };
        incidents.push(Incident {
            cell: label.cell,
            began: broke,
            ended: label.undone.or(label.ended).filter(|ended| *ended > broke),
            kind: label.fault.kind().to_owned(),
            event: label.run,
            source: match label.source {
                Source::Fault => IncidentSource::Fault,
                Source::Drill => IncidentSource::Drill,
            },
        });
    }
    Ok(Outcomes::of_incidents(incidents))
}

/// What the ledger tells.
///
/// # Errors
/// When it can't be read.
pub(crate) fn of_ledger(ledger: &LedgerReader) -> Result<Outcomes, String> {
    let mut entries = Vec::new();
    let mut before: Option<LedgerSeq> = None;
    while entries.len() < ENTRIES {
        let page = ledger.page(before, PAGE).map_err(|e| e.to_string())?;
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        let done = page.len() < PAGE;
        entries.extend(page);
        if done {
            break;
        }
    }
    Ok(Outcomes::of_ledger(&entries))
}

/// All that is known of what became of cells, as one file for a training.
///
/// # Errors
/// When something can't be read or written, in words.
pub(super) fn write_all(state_dir: &Path, ledger: &LedgerReader, to: &Path) -> Result<usize, String> {
    let outcomes = of_ledger(ledger)?.and(of_drills(state_dir)?).and(of_operators(state_dir)?);
    let text = serde_json::to_string(&(&outcomes.incidents, &outcomes.away)).map_err(|e| e.to_string())?;
    std::fs::write(to, text).map_err(|e| format!("{}: {e}", to.display()))?;
    Ok(outcomes.incidents.len())
}

/// Reads what [`write_all`] wrote.
///
/// # Errors
/// When it can't be read, in words.
pub(crate) fn read_all(path: &Path) -> Result<Outcomes, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (incidents, away): (Vec<Incident>, Vec<Away>) =
        serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Outcomes { incidents, away })
}

/// When it is the same hour of the next day.
pub(super) fn next_night(now: Timestamp, hour: u32) -> Timestamp {
    const DAY_MS: u64 = 86_400_000;
    let today = now.unix_ms() / DAY_MS * DAY_MS + u64::from(hour % 24) * 3_600_000;
    Timestamp::from_unix_ms(if today > now.unix_ms() { today } else { today + DAY_MS })
}
