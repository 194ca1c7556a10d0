//! The files of the store: their names, how journals become Parquet, and how old ones go.
//!
//! `history-FIRST.journal`, `history-FIRST-LAST.parquet` and `history-FIRST-LAST.outcomes.jsonl`, with the instants of the first and last sample
//! in milliseconds since 1970, padded to 16 digits: so the order of names is that of time.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use forefend_domain::Timestamp;

use super::{
    journal::{self, JournalEnd},
    outcome::Outcome,
};
use crate::history::{
    error::{Complaint, HistoryError},
    file::parquet_write::{unfinished_suffix, write_rows, write_whole},
    rows::{Gathered, Row, rows_of},
};

const PREFIX: &str = "history-";
const JOURNAL: &str = "journal";
const OUTCOMES: &str = ".outcomes.jsonl";
/// Larger ones are none of ours: segments end at some megabytes.
const MAX_JOURNAL_BYTES: u64 = 1_024 * 1_024 * 1_024;
/// A line is some hundred bytes.
const MAX_OUTCOMES_BYTES: u64 = 256 * 1_024 * 1_024;

pub(super) fn journal_path(folder: &Path, first: Timestamp) -> PathBuf {
    folder.join(format!("{PREFIX}{:016}.{JOURNAL}", first.unix_ms()))
}

/// The instants that the name of a sealed file tells.
pub(in crate::history) fn span(path: &Path) -> Option<(Timestamp, Timestamp)> {
    let name = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let (first, rest) = name.split_once('-')?;
    let last = rest.split('.').next()?;
    let instant = |digits: &str| digits.parse().ok().map(Timestamp::from_unix_ms);
    Some((instant(first)?, instant(last)?))
}

pub(in crate::history) fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == JOURNAL)
}

fn is_outcomes(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(OUTCOMES))
}

/// Reads a journal; says in the log when its end is torn.
pub(in crate::history) fn read_journal(
    path: &Path,
    each: impl FnMut(&Row<'_>) -> Result<(), Complaint>,
) -> Result<JournalEnd, HistoryError> {
    let bytes = bounded(path, MAX_JOURNAL_BYTES)?;
    let end = journal::rows(&bytes, each).map_err(|complaint| complaint.of(path))?;
    if end.torn_bytes > 0 {
        tracing::debug!(path = %path.display(), end.torn_bytes, "the end of a journal is not whole; what came before counts");
    }
    Ok(end)
}

fn bounded(path: &Path, max: u64) -> Result<Vec<u8>, HistoryError> {
    let bytes = path.metadata().map_err(HistoryError::read(path))?.len();
    if bytes > max {
        let what = format!("{bytes} bytes are too many");
        return Err(Complaint::new("file", what, "move it away if it was not written by forefend").of(path));
    }
    fs::read(path).map_err(HistoryError::read(path))
}

/// The outcomes that a folder holds, in journals and sealed.
pub(in crate::history) fn outcomes(folder: &Path) -> Result<Vec<Outcome>, HistoryError> {
    let mut all = Vec::new();
    for path in files(folder).map_err(HistoryError::read(folder))? {
        if is_journal(&path) {
            all.extend(read_journal(&path, |_| Ok(()))?.outcomes);
        } else if is_outcomes(&path) {
            let text = bounded(&path, MAX_OUTCOMES_BYTES)?;
            for (n, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, l)| !l.is_empty()) {
                let wrong = |error: serde_json::Error| {
                    let place = format!("row {}", n + 1);
                    Complaint::new(place, error.to_string(), "move the file away").of(&path)
                };
                all.push(serde_json::from_slice(line).map_err(wrong)?);
            }
        }
    }
    Ok(all)
}

/// The files of the store in the order of their names.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Seals every journal but `but`, and removes what an earlier writer left unfinished.
pub(super) fn seal_all(folder: &Path, but: Option<&Path>) -> Result<(), HistoryError> {
    for path in files(folder).map_err(HistoryError::read(folder))? {
        if path.to_str().is_some_and(|name| name.ends_with(unfinished_suffix())) {
            fs::remove_file(&path).map_err(HistoryError::write(&path))?;
        } else if is_journal(&path) && but != Some(path.as_path()) {
            seal(folder, &path)?;
        }
    }
    Ok(())
}

fn seal(folder: &Path, path: &Path) -> Result<(), HistoryError> {
    let mut gathered = Gathered::default();
    let end = match read_journal(path, |row| gathered.add(row)) {
        Ok(end) => end,
        Err(HistoryError::Wrong { place, what, .. }) => {
            let aside = path.with_extension("damaged");
            tracing::error!(path = %aside.display(), place, what, "a journal of the history can't be read and is put aside");
            return fs::rename(path, &aside).map_err(HistoryError::write(&aside));
        }
        Err(other) => return Err(other),
    };
    if end.torn_bytes > 0 {
        tracing::warn!(path = %path.display(), bytes = end.torn_bytes, "the end of a journal was not whole and is left out; its writer was killed, or the disk was full");
    }
    let history = gathered.finish(end.step);
    let span = history.as_ref().and_then(|history| history.span());
    let times = end.outcomes.iter().map(|outcome| outcome.at);
    let first = times.clone().min().into_iter().chain(span.map(|s| s.0)).min();
    let last = times.max().into_iter().chain(span.map(|s| s.1)).max();
    if let (Some(first), Some(last)) = (first, last) {
        let base = format!("{PREFIX}{:016}-{:016}", first.unix_ms(), last.unix_ms());
        if !end.outcomes.is_empty() {
            write_whole(&folder.join(format!("{base}{OUTCOMES}")), |mut file| {
                for outcome in &end.outcomes {
                    serde_json::to_writer(&mut file, outcome)
                        .map_err(|error| parquet::errors::ParquetError::External(error.into()))?;
                    file.write_all(b"\n")?;
                }
                Ok(file)
            })?;
        }
        if let Some(history) = history.filter(|_| span.is_some()) {
            write_whole(&folder.join(format!("{base}.parquet")), |file| {
                write_rows(file, history.step, rows_of(&history))
            })?;
        }
    }
    fs::remove_file(path).map_err(HistoryError::write(path))
}

/// Drops sealed files that are wholly older than `keep`, then the oldest until all together are within `max_bytes`. The present journal
/// stays.
pub(super) fn drop_old(
    folder: &Path,
    now: Timestamp,
    keep: Duration,
    max_bytes: u64,
    present: Option<&Path>,
) -> Result<(), HistoryError> {
    let mut held = Vec::new();
    for path in files(folder).map_err(HistoryError::read(folder))? {
        let bytes = path.metadata().map_or(0, |m| m.len());
        let old = span(&path).is_some_and(|(_, last)| now.since(last) > keep);
        if old {
            fs::remove_file(&path).map_err(HistoryError::write(&path))?;
        } else {
            held.push((path, bytes));
        }
    }
    let mut all: u64 = held.iter().map(|(_, bytes)| bytes).sum();
    for (path, bytes) in held {
        if all <= max_bytes {
            break;
        }
        if Some(path.as_path()) != present {
            fs::remove_file(&path).map_err(HistoryError::write(&path))?;
            all -= bytes;
        }
    }
    Ok(())
}
