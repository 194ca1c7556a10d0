use std::{io, path::PathBuf};

use forefend_domain::{BlueprintHash, BlueprintName, LedgerSeq, ports::PortError};

/// The store can't do what it was asked for. Each message names the file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error(
        "{path} is locked by {holder}: stop that process, or give this one a state directory of its own (two engines must never share a ledger)"
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who holds the lock, as far as the kernel tells.
        holder: String,
    },
    /// The file's content makes no sense.
    #[error(
        "{path} is damaged or not a Forefend store ({detail}): move it away and keep it for inspection (`mv {path} {path}.damaged`), put a backup in its place if there is one, and start again; without one the ledger begins anew, and cells that run are adopted"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, in words.
        detail: String,
    },
    /// The file was written by a newer Forefend.
    #[error(
        "{path} has schema {found}, this Forefend knows schemas up to {known}: run the newer Forefend again, or start with another state directory; the file was left as it is"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
        /// The newest schema that this program knows.
        known: u64,
    },
    /// The operating system refused.
    #[error("{path}: can't {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The storage engine refused for another reason.
    #[error("{path}: can't {doing}: {detail}")]
    Engine {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What it said.
        detail: String,
    },
    /// An entry would not read back as it was written: a number in it is not finite.
    #[error("ledger entry {} can't be recorded: {why}", seq.0)]
    UnwritableEntry {
        /// The place it would have had.
        seq: LedgerSeq,
        /// In words.
        why: String,
    },
    /// Two contents with one hash.
    #[error(
        "blueprint {name} has another content under hash {hash} already: the hash must be computed over the canonical JSON that is stored"
    )]
    HashConflict {
        /// Which blueprint.
        name: BlueprintName,
        /// The hash.
        hash: BlueprintHash,
    },
    /// A fault that a test or the simulator asked for.
    #[error("the store failed on demand: {0}")]
    OnDemand(&'static str),
}

impl From<StoreError> for PortError {
    fn from(error: StoreError) -> Self {
        let why = error.to_string();
        match error {
            StoreError::UnwritableEntry { .. } | StoreError::HashConflict { .. } => {
                Self::Refused { port: "store", why }
            }
            StoreError::Locked { .. }
            | StoreError::Corrupt { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Io { .. }
            | StoreError::Engine { .. }
            | StoreError::OnDemand(_) => Self::Unreachable { port: "store", why },
        }
    }
}
