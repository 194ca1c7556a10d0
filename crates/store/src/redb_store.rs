use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use forefend_domain::{
    BlueprintHash, BlueprintName, EntryKind, LedgerEntry, LedgerSeq, ServiceId, Timestamp,
    ports::{PortError, Store},
};
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    WriteTransaction,
};

use crate::{
    EngineStore, LedgerReader, ReadLedger, StoreError, StoreOptions, StoredBlueprint, codec,
    engine::MAX_BLUEPRINT_VERSIONS,
    file,
    schema::{BLUEPRINTS, LEDGER, MEMORY, MEMORY_KEY, META, NEXT_SEQ, STATE},
};

/// Entries pruned per transaction when the retention was lowered, so that opening never holds one huge transaction.
const PRUNED_AT_ONCE: u64 = 10_000;

/// The durable store: one redb file.
///
/// Commits are durable when they return, at the cost of waiting for the disk; the file also carries what is needed
/// to open it at once after a crash, however long the ledger (redb's "quick repair"). Clones share the file.
#[derive(Debug, Clone)]
pub struct RedbStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    options: StoreOptions,
    /// `None` only while it could not be opened again.
    db: RwLock<Option<Database>>,
    /// Set by an error of the file. redb refuses all after an I/O error until the file is opened again: a disk that was full for a moment
    /// must not need a restart.
    broken: AtomicBool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        file::close(&self.path, self.db.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl RedbStore {
    /// Opens or creates the file (readable by its owner only), keeping one million ledger entries.
    ///
    /// # Errors
    /// [`StoreError`]: locked by another process, damaged, written by a newer version, or the system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, StoreOptions::default())
    }

    /// Like [`RedbStore::open`]; a ledger longer than `options` allow is pruned at once.
    ///
    /// # Errors
    /// As for [`RedbStore::open`].
    pub fn open_with(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let db = file::open_or_create(&path)?;
        let store = Self {
            shared: Arc::new(Shared {
                path,
                options,
                db: RwLock::new(Some(db)),
                broken: AtomicBool::new(false),
            }),
        };
        while store
            .write("prune the ledger", |txn| prune(txn, options.ledger_entries.get(), PRUNED_AT_ONCE))?
        {
        }
        Ok(store)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let shared = &*self.shared;
        if shared.broken.load(Ordering::Acquire) {
            self.open_again()?;
        }
        let guard = shared.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = guard.as_ref() else {
            return Err(StoreError::Engine {
                path: shared.path.clone(),
                doing,
                detail: "the file could not be opened again after an error; the next call tries it"
                    .to_owned(),
            });
        };
        let done = file::guarded(&shared.path, || {
            work(db).map_err(|error| StoreError::of(doing, &shared.path, error))
        });
        if let Err(StoreError::Io { .. } | StoreError::Engine { .. } | StoreError::Corrupt { .. }) = done {
            shared.broken.store(true, Ordering::Release);
        }
        done
    }

    fn open_again(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let mut db = shared.db.write().unwrap_or_else(PoisonError::into_inner);
        if shared.broken.load(Ordering::Acquire) {
            // Closed first: it holds the lock on the file.
            file::close(&shared.path, db.take());
            *db = Some(file::open(&shared.path)?);
            shared.broken.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with(doing, |db| {
            let mut txn = db.begin_write()?;
            txn.set_durability(Durability::Immediate)?;
            txn.set_quick_repair(true);
            let done = work(&txn)?;
            txn.commit()?;
            Ok(done)
        })
    }

    fn decoded<'a>(
        &self,
        found: impl IntoIterator<Item = (u64, Vec<u8>)> + 'a,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        found
            .into_iter()
            .map(|(seq, bytes)| {
                codec::decode(&bytes).map_err(|why| StoreError::Corrupt {
                    path: self.shared.path.clone(),
                    detail: format!("ledger entry {seq}: {why}"),
                })
            })
            .collect()
    }
}

/// Removes the oldest entries beyond `keep`, at most `at_most`. Whether there is more to remove.
fn prune(txn: &WriteTransaction, keep: u64, at_most: u64) -> Result<bool, redb::Error> {
    let mut ledger = txn.open_table(LEDGER)?;
    let excess = ledger.len()?.saturating_sub(keep);
    for _ in 0..excess.min(at_most) {
        ledger.pop_first()?;
    }
    Ok(excess > at_most)
}

impl ReadLedger for RedbStore {
    fn page(&self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, StoreError> {
        let end = before.map_or(u64::MAX, |seq| seq.0);
        let found = self.with("read the ledger", |db| {
            let ledger = db.begin_read()?.open_table(LEDGER)?;
            let mut found = Vec::new();
            for item in ledger.range_owned(..end)?.rev().take(limit) {
                let (seq, bytes) = item?;
                found.push((seq.value(), bytes.value().to_vec()));
            }
            Ok(found)
        })?;
        self.decoded(found)
    }

    fn after(&self, after: LedgerSeq, limit: usize) -> Result<Vec<LedgerEntry>, StoreError> {
        let start = after.0.saturating_add(1);
        let found = self.with("read the ledger", |db| {
            let ledger = db.begin_read()?.open_table(LEDGER)?;
            let mut found = Vec::new();
            for item in ledger.range_owned(start..)?.take(limit) {
                let (seq, bytes) = item?;
                found.push((seq.value(), bytes.value().to_vec()));
            }
            Ok(found)
        })?;
        self.decoded(found)
    }
}

impl Store for RedbStore {
    fn commit(
        &mut self,
        at: Timestamp,
        entries: &[(Option<ServiceId>, EntryKind)],
        memory: &[u8],
    ) -> Result<Vec<LedgerSeq>, PortError> {
        let keep = self.shared.options.ledger_entries.get();
        let committed = self.write("commit to the ledger", |txn| {
            let mut meta = txn.open_table(META)?;
            let first = meta.get(NEXT_SEQ)?.map(|next| next.value());
            let Some(first) = first else {
                return Err(StorageError::Corrupted("it has lost the place of the next entry".into()).into());
            };
            // Encoded here, for another clone may have taken places since this call began.
            let encoded = match codec::encode(at, first, entries) {
                Ok(encoded) => encoded,
                Err(unwritable) => return Ok(Err(unwritable)),
            };
            let mut ledger = txn.open_table(LEDGER)?;
            for (seq, bytes) in &encoded {
                ledger.insert(seq.0, bytes.as_slice())?;
            }
            drop(ledger);
            meta.insert(NEXT_SEQ, first + encoded.len() as u64)?;
            txn.open_table(MEMORY)?.insert(MEMORY_KEY, memory)?;
            prune(txn, keep, encoded.len() as u64)?;
            Ok(Ok(encoded.into_iter().map(|(seq, _)| seq).collect()))
        })?;
        Ok(committed?)
    }

    fn memory(&mut self) -> Result<Option<Vec<u8>>, PortError> {
        Ok(self.with("read the memory", |db| {
            let table = db.begin_read()?.open_table(MEMORY)?;
            Ok(table.get_owned(MEMORY_KEY)?.map(|memory| memory.value().to_vec()))
        })?)
    }

    fn entries(&mut self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, PortError> {
        Ok(self.page(before, limit)?)
    }
}

impl EngineStore for RedbStore {
    fn put_blueprint(
        &self,
        name: &BlueprintName,
        content: &[u8],
        hash: &BlueprintHash,
    ) -> Result<u32, StoreError> {
        if let Some(latest) = self.latest_blueprint(name)?
            && latest.hash == *hash
            && latest.content == content
        {
            return Ok(latest.version);
        }
        let put = self.write("keep a blueprint", |txn| {
            let mut table = txn.open_table(BLUEPRINTS)?;
            let mut version = 1;
            if let Some(item) = table.range((name.as_str(), 0)..=(name.as_str(), u32::MAX))?.next_back() {
                let (key, value) = item?;
                let (found, stored) = value.value();
                if found == hash.as_str() {
                    return Ok((stored == content).then_some(key.value().1));
                }
                version = key.value().1 + 1;
            }
            table.insert((name.as_str(), version), (hash.as_str(), content))?;
            if let Some(old) = version.checked_sub(MAX_BLUEPRINT_VERSIONS) {
                table.remove((name.as_str(), old))?;
            }
            Ok(Some(version))
        })?;
        put.ok_or_else(|| StoreError::HashConflict { name: name.clone(), hash: hash.clone() })
    }

    fn latest_blueprint(&self, name: &BlueprintName) -> Result<Option<StoredBlueprint>, StoreError> {
        let found = self.with("read a blueprint", |db| {
            let table = db.begin_read()?.open_table(BLUEPRINTS)?;
            let Some(item) = table.range_owned((name.as_str(), 0)..=(name.as_str(), u32::MAX))?.next_back()
            else {
                return Ok(None);
            };
            let (key, value) = item?;
            let (hash, content) = value.value();
            Ok(Some((key.value().1, hash.to_owned(), content.to_vec())))
        })?;
        found
            .map(|(version, hash, content)| Ok(StoredBlueprint { version, hash: self.hash(&hash)?, content }))
            .transpose()
    }

    fn blueprints(&self, name: &BlueprintName) -> Result<Vec<(u32, BlueprintHash)>, StoreError> {
        let found = self.with("read a blueprint", |db| {
            let table = db.begin_read()?.open_table(BLUEPRINTS)?;
            let mut found = Vec::new();
            for item in table.range_owned((name.as_str(), 0)..=(name.as_str(), u32::MAX))? {
                let (key, value) = item?;
                found.push((key.value().1, value.value().0.to_owned()));
            }
            Ok(found)
        })?;
        found.into_iter().map(|(version, hash)| Ok((version, self.hash(&hash)?))).collect()
    }

    fn put_state(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write("keep a value", |txn| {
            txn.open_table(STATE)?.insert(key, value)?;
            Ok(())
        })
    }

    fn state(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with("read a value", |db| {
            let table = db.begin_read()?.open_table(STATE)?;
            Ok(table.get_owned(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn reader(&self) -> LedgerReader {
        LedgerReader::new(Arc::new(self.clone()))
    }
}

impl RedbStore {
    fn hash(&self, text: &str) -> Result<BlueprintHash, StoreError> {
        BlueprintHash::new(text).map_err(|error| StoreError::Corrupt {
            path: self.shared.path.clone(),
            detail: format!("a blueprint's hash: {error}"),
        })
    }
}
