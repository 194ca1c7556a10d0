//! Incidents as files: a JSON object a line, or comma-separated values with a header.

use std::path::Path;

use forefend_domain::{CellId, Timestamp};
use serde::{Deserialize, Deserializer, de};

use super::{
    error::{Complaint, HistoryError},
    file::csv,
    incident::{Incident, IncidentSource},
    load::load_outcomes,
    rows::name_complaint,
    source::HistorySource,
    words,
};

const COLUMNS: [&str; 6] = ["cell", "began", "ended", "kind", "event", "source"];
const NEEDED: [&str; 2] = ["cell", "began"];

/// Larger files are refused: a file of incidents is written by people and their tools, a few hundred bytes each.
const MAX_BYTES: u64 = 256 * 1_024 * 1_024;

/// The files that hold incidents beside recorded telemetry.
const IN_FOLDERS: [&str; 2] = ["incidents.jsonl", "incidents.csv"];

/// Reads incidents from a file of JSON lines or of CSV, told apart by whether it begins with `{`; from a folder, those of its `incidents.jsonl` and
/// `incidents.csv` and those that an engine recorded there. Oldest first.
///
/// # Errors
/// [`HistoryError`] names the file, the row and the column, and what to do.
pub fn read_incidents(path: impl AsRef<Path>) -> Result<Vec<Incident>, HistoryError> {
    let path = path.as_ref();
    if path.is_dir() {
        let mut all = load_outcomes(&HistorySource::Files(path.to_owned()))?.incidents;
        for file in IN_FOLDERS.map(|name| path.join(name)).into_iter().filter(|file| file.exists()) {
            all.extend(read_incidents(file)?);
        }
        sort(&mut all);
        return Ok(all);
    }
    let size = path.metadata().map_err(HistoryError::read(path))?.len();
    if size > MAX_BYTES {
        let what = format!("{size} bytes are too many");
        let remedy = format!("keep files of incidents below {MAX_BYTES} bytes");
        return Err(Complaint::new("file", what, remedy).of(path));
    }
    let bytes = std::fs::read(path).map_err(HistoryError::read(path))?;
    parse_incidents(&bytes).map_err(|complaint| complaint.of(path))
}

/// Reads incidents from the bytes of such a file.
///
/// # Errors
/// [`Complaint`] names the row and the column, and what to do.
pub fn parse_incidents(bytes: &[u8]) -> Result<Vec<Incident>, Complaint> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let row = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Complaint::new(format!("row {row}"), "it is not UTF-8", "write the file as UTF-8")
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let mut incidents = if text.trim_start().starts_with('{') { json_lines(text) } else { table(text) }?;
    sort(&mut incidents);
    Ok(incidents)
}

fn sort(incidents: &mut [Incident]) {
    incidents.sort_by(|a, b| (a.began, &a.cell).cmp(&(b.began, &b.cell)));
}

/// As in a file: instants may be RFC 3339 too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    cell: CellId,
    #[serde(deserialize_with = "instant")]
    began: Timestamp,
    #[serde(default, deserialize_with = "maybe_instant")]
    ended: Option<Timestamp>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    source: IncidentSource,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "an instant: whole milliseconds since 1970, or RFC 3339 text")]
enum Written {
    Ms(u64),
    Text(String),
}

impl Written {
    fn instant<E: de::Error>(self) -> Result<Timestamp, E> {
        match self {
            Self::Ms(ms) => Ok(Timestamp::from_unix_ms(ms)),
            Self::Text(text) => words::instant(&text).map_err(E::custom),
        }
    }
}

fn instant<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    Written::deserialize(from)?.instant()
}

fn maybe_instant<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    Option::<Written>::deserialize(from)?.map(Written::instant).transpose()
}

fn json_lines(text: &str) -> Result<Vec<Incident>, Complaint> {
    let mut incidents = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row = n as u64 + 1;
        let Line { cell, began, ended, kind, event, source } =
            serde_json::from_str(line).map_err(|error| {
                // Its own line number is always 1 here.
                let (column, what) = (error.column(), error.to_string());
                let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
                Complaint::new(
                    format!("row {row}, character {column}"),
                    what,
                    "write one object a line, as {\"cell\":\"a-1\",\"began\":\"2026-11-21T10:00:00Z\"}",
                )
            })?;
        incidents.push(checked(Incident { cell, began, ended, kind, event, source }, row)?);
    }
    Ok(incidents)
}

fn table(text: &str) -> Result<Vec<Incident>, Complaint> {
    let mut incidents = Vec::new();
    csv::records(text.as_bytes(), COLUMNS, &NEEDED, |_, header, record| {
        let cell =
            CellId::new(header.must(record, "cell")?).map_err(|error| name_complaint("cell", &error))?;
        let instant = |text: &str, column: &str| {
            words::instant(text).map_err(|what| {
                Complaint::new(format!("column {column}"), what, words::HOW_INSTANTS_ARE_WRITTEN)
            })
        };
        let words = |column| header.text(record, column).unwrap_or_default().to_owned();
        let incident = Incident {
            cell,
            began: instant(header.must(record, "began")?, "began")?,
            ended: header.text(record, "ended").map(|text| instant(text, "ended")).transpose()?,
            kind: words("kind"),
            event: words("event"),
            source: header.text(record, "source").map(source_of).transpose()?.unwrap_or_default(),
        };
        check_order(&incident)?;
        incidents.push(incident);
        Ok(())
    })?;
    Ok(incidents)
}

fn source_of(word: &str) -> Result<IncidentSource, Complaint> {
    let word = de::value::StrDeserializer::<de::value::Error>::new(word);
    IncidentSource::deserialize(word)
        .map_err(|error| Complaint::new("column source", error.to_string(), "leave it empty for `imported`"))
}

fn checked(incident: Incident, row: u64) -> Result<Incident, Complaint> {
    check_order(&incident).map_err(|complaint| complaint.in_row(row))?;
    Ok(incident)
}

fn check_order(incident: &Incident) -> Result<(), Complaint> {
    match incident.ended.filter(|ended| *ended < incident.began) {
        None => Ok(()),
        Some(ended) => Err(Complaint::new(
            "column ended",
            format!("it ended at {}, before it began", words::instant_word(ended)),
            "exchange the two, or leave `ended` out where it is not known",
        )),
    }
}
