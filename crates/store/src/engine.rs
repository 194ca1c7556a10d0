use std::{fmt, num::NonZeroU64, sync::Arc};

use forefend_domain::{BlueprintHash, BlueprintName, LedgerEntry, LedgerSeq, ports::Store};

use crate::StoreError;

/// The longest page a [`LedgerReader`] hands out, in entries. Bounds what one request to the API can cost.
pub const MAX_PAGE: usize = 1_000;

/// How many versions of one blueprint are kept: far more than anyone compares, yet bounded.
pub(crate) const MAX_BLUEPRINT_VERSIONS: u32 = 64;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// At most this many ledger entries; the oldest go first. Their places are not used again.
    pub ledger_entries: NonZeroU64,
}

impl Default for StoreOptions {
    /// One million entries.
    fn default() -> Self {
        Self { ledger_entries: NonZeroU64::new(1_000_000).unwrap_or(NonZeroU64::MIN) }
    }
}

/// One version of a blueprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlueprint {
    /// 1, 2, 3, … for each name.
    pub version: u32,
    /// What it is told apart by.
    pub hash: BlueprintHash,
    /// The canonical JSON that was hashed.
    pub content: Vec<u8>,
}

/// What the engine keeps besides the ledger and the memory. Every write is durable when it returns.
///
/// The methods take `&self`: handles are cheap to clone and may be used from several threads, writes queue up behind
/// each other. They block on the disk, so an async task calls them from a blocking thread.
pub trait EngineStore: Store {
    /// Keeps `content` as the newest version of the blueprint and returns its version.
    ///
    /// When the newest version has this hash already, nothing is written. A hash seen before the newest version makes a
    /// new version: going back to an old blueprint is a change like any other. The newest 64 versions are kept.
    ///
    /// # Errors
    /// [`StoreError::HashConflict`] when the newest version has the hash but another content; otherwise when it can't be
    /// made durable.
    fn put_blueprint(
        &self,
        name: &BlueprintName,
        content: &[u8],
        hash: &BlueprintHash,
    ) -> Result<u32, StoreError>;

    /// The newest version of a blueprint.
    ///
    /// # Errors
    /// When the store can't be read.
    fn latest_blueprint(&self, name: &BlueprintName) -> Result<Option<StoredBlueprint>, StoreError>;

    /// All kept versions of a blueprint with their hashes, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    fn blueprints(&self, name: &BlueprintName) -> Result<Vec<(u32, BlueprintHash)>, StoreError>;

    /// Keeps `value` under `key` in place of what was there.
    ///
    /// # Errors
    /// When it can't be made durable.
    fn put_state(&self, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// What was last put under `key`.
    ///
    /// # Errors
    /// When the store can't be read.
    fn state(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// A handle for reading the ledger from elsewhere.
    fn reader(&self) -> LedgerReader;
}

/// Pages of the ledger, as an engine reads them.
pub trait ReadLedger: Send + Sync {
    /// The newest `limit` entries with a place below `before`, newest first.
    ///
    /// # Errors
    /// When the store can't be read.
    fn page(&self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, StoreError>;

    /// The oldest `limit` entries with a place above `after`, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    fn after(&self, after: LedgerSeq, limit: usize) -> Result<Vec<LedgerEntry>, StoreError>;
}

/// Reads the ledger while the loop goes on writing it. Never sees half a commit and never makes a commit wait.
#[derive(Clone)]
pub struct LedgerReader(Arc<dyn ReadLedger>);

impl LedgerReader {
    /// Reads through `ledger`.
    #[must_use]
    pub fn new(ledger: Arc<dyn ReadLedger>) -> Self {
        Self(ledger)
    }

    /// The newest `limit` entries (at most [`MAX_PAGE`]) with a place below `before`, newest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn page(&self, before: Option<LedgerSeq>, limit: usize) -> Result<Vec<LedgerEntry>, StoreError> {
        self.0.page(before, limit.min(MAX_PAGE))
    }

    /// The oldest `limit` entries (at most [`MAX_PAGE`]) with a place above `after`, oldest first: for following along.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn after(&self, after: LedgerSeq, limit: usize) -> Result<Vec<LedgerEntry>, StoreError> {
        self.0.after(after, limit.min(MAX_PAGE))
    }

    /// The place of the newest entry.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn newest(&self) -> Result<Option<LedgerSeq>, StoreError> {
        Ok(self.0.page(None, 1)?.first().map(|entry| entry.seq))
    }
}

impl fmt::Debug for LedgerReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerReader").finish_non_exhaustive()
    }
}
