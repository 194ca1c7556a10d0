use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use forefend_domain::{
    BlueprintHash, BlueprintName, EntryKind, LedgerEntry, LedgerSeq, ServiceId, Timestamp,
    ports::{PortError, Store},
};

use crate::{
    EngineStore, LedgerReader, ReadLedger, StoreError, StoreOptions, StoredBlueprint, codec,
    engine::MAX_BLUEPRINT_VERSIONS,
};

/// How a commit is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing is kept, and the caller is told so: a full disk.
    Before,
    /// All is kept, and the caller is told that it failed: the answer was lost after the disk had it.
    After,
}

/// A store without a disk, for tests and the simulator. Clones share their content, so a clone kept aside is what an
/// engine finds when it comes back. Deterministic: no clock, no random number.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    options: StoreOptions,
    /// Encoded as on disk, so that what can't be written there can't be written here.
    ledger: BTreeMap<u64, Vec<u8>>,
    /// The place of the newest entry that ever was.
    newest: u64,
    memory: Option<Vec<u8>>,
    blueprints: BTreeMap<BlueprintName, BTreeMap<u32, StoredBlueprint>>,
    state: BTreeMap<String, Vec<u8>>,
    next_commit: Option<CommitFault>,
    unreachable: bool,
}

impl MemoryStore {
    /// An empty store that keeps as much as `options` say.
    #[must_use]
    pub fn new(options: StoreOptions) -> Self {
        Self { content: Arc::new(Mutex::new(Content { options, ..Content::default() })) }
    }

    /// Makes the next commit fail; those after it work again.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.content().next_commit = Some(fault);
    }

    /// While set, every call fails and nothing changes.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.content().unreachable = unreachable;
    }

    /// A test that panicked while it held the lock left whole values behind, for every change below is one step.
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reachable(&self) -> Result<MutexGuard<'_, Content>, StoreError> {
        let content = self.content();
        if content.unreachable { Err(StoreError::OnDemand("unreachable")) } else { Ok(content) }
    }
}

fn decoded<'a>(
    entries: impl Iterator<Item = (&'a u64, &'a Vec<u8>)>,
) -> Result<Vec<LedgerEntry>, StoreError> {
    entries
        .map(|(seq, bytes)| {
            codec::decode(bytes).map_err(|why| StoreError::UnwritableEntry { seq: LedgerSeq(*seq), why })
        })
        .collect()
}

impl ReadLedger for MemoryStore {
    fn page(&self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, StoreError> {
        let end = before.map_or(u64::MAX, |seq| seq.0);
        decoded(self.reachable()?.ledger.range(..end).rev().take(limit))
    }

    fn after(&self, after: LedgerSeq, limit: usize) -> Result<Vec<LedgerEntry>, StoreError> {
        decoded(self.reachable()?.ledger.range(after.0.saturating_add(1)..).take(limit))
    }
}

impl Store for MemoryStore {
    fn commit(
        &mut self,
        at: Timestamp,
        entries: &[(Option<ServiceId>, EntryKind)],
        memory: &[u8],
    ) -> Result<Vec<LedgerSeq>, PortError> {
        let mut content = self.reachable()?;
        let encoded = codec::encode(at, content.newest + 1, entries)?;
        let fault = content.next_commit.take();
        if fault == Some(CommitFault::Before) {
            return Err(StoreError::OnDemand("before the commit").into());
        }
        let places: Vec<LedgerSeq> = encoded.iter().map(|(seq, _)| *seq).collect();
        content.newest += places.len() as u64;
        content.ledger.extend(encoded.into_iter().map(|(seq, bytes)| (seq.0, bytes)));
        content.memory = Some(memory.to_vec());
        while content.ledger.len() as u64 > content.options.ledger_entries.get() {
            content.ledger.pop_first();
        }
        match fault {
            Some(CommitFault::After) => Err(StoreError::OnDemand("after the commit").into()),
            Some(CommitFault::Before) | None => Ok(places),
        }
    }

    fn memory(&mut self) -> Result<Option<Vec<u8>>, PortError> {
        Ok(self.reachable()?.memory.clone())
    }

    fn entries(&mut self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, PortError> {
        Ok(self.page(before, limit)?)
    }
}

impl EngineStore for MemoryStore {
    fn put_blueprint(
        &self,
        name: &BlueprintName,
        bytes: &[u8],
        hash: &BlueprintHash,
    ) -> Result<u32, StoreError> {
        let mut content = self.reachable()?;
        let versions = content.blueprints.entry(name.clone()).or_default();
        let latest = versions.last_key_value();
        if let Some((version, latest)) = latest
            && latest.hash == *hash
        {
            return if latest.content == bytes {
                Ok(*version)
            } else {
                Err(StoreError::HashConflict { name: name.clone(), hash: hash.clone() })
            };
        }
        let version = latest.map_or(1, |(version, _)| version + 1);
        versions.insert(version, StoredBlueprint { version, hash: hash.clone(), content: bytes.to_vec() });
        while versions.len() > MAX_BLUEPRINT_VERSIONS as usize {
            versions.pop_first();
        }
        Ok(version)
    }

    fn latest_blueprint(&self, name: &BlueprintName) -> Result<Option<StoredBlueprint>, StoreError> {
        let content = self.reachable()?;
        Ok(content.blueprints.get(name).and_then(|versions| versions.values().next_back().cloned()))
    }

    fn blueprints(&self, name: &BlueprintName) -> Result<Vec<(u32, BlueprintHash)>, StoreError> {
        let content = self.reachable()?;
        let versions = content.blueprints.get(name).into_iter().flat_map(BTreeMap::values);
        Ok(versions.map(|b| (b.version, b.hash.clone())).collect())
    }

    fn put_state(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.reachable()?.state.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn state(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.reachable()?.state.get(key).cloned())
    }

    fn reader(&self) -> LedgerReader {
        LedgerReader::new(Arc::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_can_be_made_to_fail_before_or_after_it_took_effect() {
        let mut store = MemoryStore::default();
        let at = Timestamp::from_unix_ms(1);
        let entry = [(None, EntryKind::Engine { what: "began".to_owned() })];

        store.fail_next_commit(CommitFault::Before);
        assert!(store.commit(at, &entry, b"one").is_err());
        assert_eq!(store.memory().unwrap(), None);
        assert!(store.entries(None, 9).unwrap().is_empty());

        store.fail_next_commit(CommitFault::After);
        assert!(store.commit(at, &entry, b"two").is_err());
        assert_eq!(store.memory().unwrap().unwrap(), b"two");
        assert_eq!(store.entries(None, 9).unwrap().len(), 1);

        assert_eq!(store.commit(at, &entry, b"three").unwrap(), [LedgerSeq(2)], "faults strike once");

        store.set_unreachable(true);
        assert!(store.memory().is_err() && store.commit(at, &entry, b"four").is_err());
        store.set_unreachable(false);
        assert_eq!(store.memory().unwrap().unwrap(), b"three");
    }
}
