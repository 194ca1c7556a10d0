//! Ledger entries as bytes: one byte that tells the format, then JSON.
//!
//! JSON, because a ledger is read years later and by other programs; the leading byte lets a later format live beside
//! this one in the same table.

use forefend_domain::{EntryKind, LedgerEntry, LedgerSeq, ServiceId, Timestamp};

use crate::StoreError;

/// The format that [`encode`] writes.
const FORMAT_JSON: u8 = 1;

/// Why bytes are no entry, in words.
pub(crate) type Undecodable = String;

/// Entries with their places, from `first` on, each checked to read back as it was written: JSON has no NaN, and a
/// decision that nobody can read is not recorded.
pub(crate) fn encode(
    at: Timestamp,
    first: u64,
    entries: &[(Option<ServiceId>, EntryKind)],
) -> Result<Vec<(LedgerSeq, Vec<u8>)>, StoreError> {
    (first..)
        .zip(entries)
        .map(|(seq, (service, kind))| encode_one(at, LedgerSeq(seq), service, kind))
        .collect()
}

fn encode_one(
    at: Timestamp,
    seq: LedgerSeq,
    service: &Option<ServiceId>,
    kind: &EntryKind,
) -> Result<(LedgerSeq, Vec<u8>), StoreError> {
    let entry = LedgerEntry { seq, at, service: service.clone(), kind: kind.clone() };
    let mut bytes = vec![FORMAT_JSON];
    serde_json::to_writer(&mut bytes, &entry)
        .map_err(|error| StoreError::UnwritableEntry { seq, why: error.to_string() })?;
    match decode(&bytes) {
        Ok(back) if back == entry => Ok((seq, bytes)),
        Ok(_) => Err(StoreError::UnwritableEntry { seq, why: "it would read back differently".to_owned() }),
        Err(why) => Err(StoreError::UnwritableEntry {
            seq,
            why: format!("it would not read back ({why}); a number in it is probably not finite"),
        }),
    }
}

/// The entry that [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<LedgerEntry, Undecodable> {
    match bytes.split_first() {
        Some((&FORMAT_JSON, json)) => serde_json::from_slice(json).map_err(|error| error.to_string()),
        Some((other, _)) => Err(format!("entry format {other} is not known to this version")),
        None => Err("an entry without bytes".to_owned()),
    }
}
