//! Keeps what must outlive the engine: the ledger, the memory of decisions, blueprints and small state.
//!
//! One port ([`forefend_domain::ports::Store`]), one durable engine ([`RedbStore`]) and one for tests and simulation
//! ([`MemoryStore`], which fails on demand). [`EngineStore`] adds what the engine keeps besides: blueprints by
//! content hash, values by key, and a [`LedgerReader`] that the API may hold on other threads.
//!
//! A commit appends ledger entries and replaces the memory in one transaction. Writing them apart would let a crash
//! leave a decision without the memory it was made with, and the engine would then decide it a second time.
//!
//! [`conformance::run`] is what every engine must pass; a new one calls it from a test of its own.

mod codec;
pub mod conformance;
mod engine;
mod error;
mod file;
mod lock;
mod memory;
mod redb_store;
mod schema;

pub use engine::{EngineStore, LedgerReader, MAX_PAGE, ReadLedger, StoreOptions, StoredBlueprint};
pub use error::StoreError;
pub use memory::{CommitFault, MemoryStore};
pub use redb_store::RedbStore;
