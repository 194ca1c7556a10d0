//! The journal: an append-only file of records, each with its length and checksum.
//!
//! ```text
//! file    = "FFHIST1\n" record*
//! record  = length of payload: u32, XXH64 of payload: u64, payload         (little-endian)
//! payload = 0, step in ms                                                  (begins every journal)
//!         | 1, id, cell, service, metric, family, kind, unit, limit: f64   (what series `id` is from here on; NaN: no limit)
//!         | 2, at in ms, count, (id − id before, value: f64)*              (values of one instant)
//!         | 3, an outcome as JSON
//! ```
//! Whole numbers are LEB128, texts their length and UTF-8. A writer that is killed leaves at most one record that is not whole, at the end;
//! from the first such record on nothing is read.

use std::time::Duration;

use forefend_domain::Timestamp;
use twox_hash::XxHash64;

use super::outcome::Outcome;
use crate::history::{error::Complaint, rows::Row};

pub(super) const MAGIC: &[u8; 8] = b"FFHIST1\n";
const HEAD: usize = 12;
/// A longer record is damage: ticks of the largest fleets stay far below.
const MAX_PAYLOAD: usize = 256 * 1_024 * 1_024;

/// How the reading of a journal ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalEnd {
    /// The step that it tells; `None` when it was cut off before.
    pub step: Option<Duration>,
    /// What became of cells.
    pub outcomes: Vec<Outcome>,
    /// Bytes that count.
    pub whole_bytes: usize,
    /// Bytes after them, which were not whole.
    pub torn_bytes: usize,
}

/// What a series is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SeriesRecord<'a> {
    pub(super) cell: &'a str,
    pub(super) service: &'a str,
    pub(super) metric: &'a str,
    pub(super) family: &'a str,
    pub(super) kind: &'a str,
    pub(super) unit: &'a str,
    pub(super) limit: Option<f64>,
}

fn framed(into: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let head = into.len();
    into.extend([0; HEAD]);
    payload(into);
    let body = head + HEAD;
    let length = u32::try_from(into.len() - body).unwrap_or(u32::MAX);
    let sum = XxHash64::oneshot(0, &into[body..]);
    into[head..head + 4].copy_from_slice(&length.to_le_bytes());
    into[head + 4..body].copy_from_slice(&sum.to_le_bytes());
}

fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    put_number(into, text.len() as u64);
    into.extend(text.as_bytes());
}

pub(super) fn put_begin(into: &mut Vec<u8>, step_ms: u64) {
    into.extend(MAGIC);
    framed(into, |payload| {
        payload.push(0);
        put_number(payload, step_ms);
    });
}

pub(super) fn put_series(into: &mut Vec<u8>, id: u32, series: &SeriesRecord<'_>) {
    framed(into, |payload| {
        payload.push(1);
        put_number(payload, u64::from(id));
        let SeriesRecord { cell, service, metric, family, kind, unit, limit } = series;
        for text in [cell, service, metric, family, kind, unit] {
            put_text(payload, text);
        }
        payload.extend(limit.unwrap_or(f64::NAN).to_le_bytes());
    });
}

/// The ids must grow.
pub(super) fn put_values(into: &mut Vec<u8>, at_ms: u64, values: &[(u32, f64)]) {
    framed(into, |payload| {
        payload.push(2);
        put_number(payload, at_ms);
        put_number(payload, values.len() as u64);
        let mut before = 0;
        for (id, value) in values {
            put_number(payload, u64::from(id.saturating_sub(before)));
            payload.extend(value.to_le_bytes());
            before = *id;
        }
    });
}

pub(super) fn put_outcome(into: &mut Vec<u8>, outcome: &Outcome) {
    framed(into, |payload| {
        payload.push(3);
        // A name, a number and a word: nothing in them can't be JSON.
        if let Ok(json) = serde_json::to_vec(outcome) {
            payload.extend(json);
        }
    });
}

/// Reads the bytes of a journal. What follows its last whole record is told in the end, and is no error.
///
/// # Errors
/// When it is no journal, or `each` complains.
pub fn read_journal(
    bytes: &[u8],
    mut each: impl FnMut(&Sampled<'_>) -> Result<(), Complaint>,
) -> Result<JournalEnd, Complaint> {
    rows(bytes, |row| each(&Sampled { cell: row.cell, metric: row.metric, at: row.at, value: row.value }))
}

/// One value of a journal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled<'a> {
    /// Of which cell.
    pub cell: &'a str,
    /// Of which metric.
    pub metric: &'a str,
    /// When.
    pub at: Timestamp,
    /// What was measured.
    pub value: Option<f64>,
}

pub(in crate::history) fn rows(
    bytes: &[u8],
    mut each: impl FnMut(&Row<'_>) -> Result<(), Complaint>,
) -> Result<JournalEnd, Complaint> {
    let mut end = JournalEnd::default();
    if !bytes.starts_with(MAGIC) {
        if MAGIC.starts_with(bytes) {
            // Its writer was killed before the first record.
            return Ok(JournalEnd { torn_bytes: bytes.len(), ..end });
        }
        let remedy = "move it away if it was not written by forefend";
        return Err(Complaint::new("byte 0", "it is no journal of a history", remedy));
    }
    end.whole_bytes = MAGIC.len();
    let mut known: Vec<Option<SeriesRecord<'_>>> = Vec::new();
    while let Some((payload, next)) = payload(bytes, end.whole_bytes) {
        let Some(()) = record(payload, &mut known, &mut end, &mut each)? else { break };
        end.whole_bytes = next;
    }
    end.torn_bytes = bytes.len() - end.whole_bytes;
    Ok(end)
}

fn payload(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.get(from..)?.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|n| *n <= MAX_PAYLOAD)?;
    let payload = rest.get(..length)?;
    (XxHash64::oneshot(0, payload) == u64::from_le_bytes(*sum)).then_some((payload, from + HEAD + length))
}

/// `None`: the payload is none that this version wrote.
fn record<'a>(
    payload: &'a [u8],
    known: &mut Vec<Option<SeriesRecord<'a>>>,
    end: &mut JournalEnd,
    each: &mut impl FnMut(&Row<'_>) -> Result<(), Complaint>,
) -> Result<Option<()>, Complaint> {
    let Some((kind, body)) = payload.split_first() else { return Ok(None) };
    let mut body = Body(body);
    match kind {
        0 => {
            let Some(ms) = body.number() else { return Ok(None) };
            end.step = Some(Duration::from_millis(ms.max(1)));
        }
        1 => {
            let Some((id, series)) = body.series() else { return Ok(None) };
            // Ids are dense: each is at most one above those before.
            if id > known.len() {
                return Ok(None);
            }
            if id == known.len() {
                known.push(None);
            }
            known[id] = Some(series);
        }
        2 => {
            let (Some(at), Some(count)) = (body.number(), body.number()) else { return Ok(None) };
            let mut id = 0;
            for _ in 0..count {
                let (Some(step), Some(value)) = (body.number(), body.float()) else { return Ok(None) };
                id = u64::saturating_add(id, step);
                let series = usize::try_from(id).ok().and_then(|id| *known.get(id)?);
                let Some(series) = series else { return Ok(None) };
                each(&series.row(Timestamp::from_unix_ms(at), value))?;
            }
        }
        3 => match serde_json::from_slice(body.0) {
            Ok(outcome) => end.outcomes.push(outcome),
            Err(_) => return Ok(None),
        },
        _ => return Ok(None),
    }
    Ok(Some(()))
}

impl<'a> SeriesRecord<'a> {
    fn row(&self, at: Timestamp, value: f64) -> Row<'a> {
        let said = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        Row {
            cell: self.cell,
            service: said(self.service),
            metric: self.metric,
            family: said(self.family),
            kind: said(self.kind),
            unit: said(self.unit),
            limit: self.limit,
            at,
            value: Some(value).filter(|v| v.is_finite()),
        }
    }
}

/// What is left of a payload.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn float(&mut self) -> Option<f64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let text = std::str::from_utf8(self.0.get(..length)?).ok()?;
        self.0 = &self.0[length..];
        Some(text)
    }

    fn series(&mut self) -> Option<(usize, SeriesRecord<'a>)> {
        let id = usize::try_from(self.number()?).ok()?;
        let series = SeriesRecord {
            cell: self.text()?,
            service: self.text()?,
            metric: self.text()?,
            family: self.text()?,
            kind: self.text()?,
            unit: self.text()?,
            limit: self.float().map(|limit| Some(limit).filter(|l| l.is_finite()))?,
        };
        Some((id, series))
    }
}
