//! The tables of the file, and the check that it is one of ours.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition, TableHandle};

use crate::StoreError;

/// Place → entry (see `codec`).
pub(crate) const LEDGER: TableDefinition<u64, &[u8]> = TableDefinition::new("ledger");
/// One key, [`MEMORY_KEY`] → the memory of decisions.
pub(crate) const MEMORY: TableDefinition<&str, &[u8]> = TableDefinition::new("memory");
/// (name, version) → (content hash, canonical JSON).
pub(crate) const BLUEPRINTS: TableDefinition<(&str, u32), (&str, &[u8])> = TableDefinition::new("blueprints");
/// Key → value.
pub(crate) const STATE: TableDefinition<&str, &[u8]> = TableDefinition::new("state");
/// Numbers about the file itself.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The only key of [`MEMORY`].
pub(crate) const MEMORY_KEY: &str = "decide";
/// In [`META`]: the place of the next entry. Kept apart from the ledger, so that pruning can't make a place be used twice.
pub(crate) const NEXT_SEQ: &str = "next_seq";
/// In [`META`]: the version of this layout.
const SCHEMA: &str = "schema";
/// The layout that this program writes, and the newest that it reads.
const SCHEMA_KNOWN: u64 = 1;

/// Makes the tables in a new file; checks those of an old one.
pub(crate) fn prepare(db: &Database, path: &Path) -> Result<(), StoreError> {
    let found = found_schema(db).map_err(|error| StoreError::of("read the schema", path, error))?;
    match found {
        Found::Schema(SCHEMA_KNOWN) => Ok(()),
        Found::Schema(newer) if newer > SCHEMA_KNOWN => {
            Err(StoreError::NewerSchema { path: path.into(), found: newer, known: SCHEMA_KNOWN })
        }
        Found::Schema(_) => {
            Err(StoreError::Corrupt { path: path.into(), detail: "its schema is 0".to_owned() })
        }
        Found::Foreign(table) => Err(StoreError::Corrupt {
            path: path.into(),
            detail: format!("a redb file of another program: it has a table `{table}` but no schema"),
        }),
        Found::Empty => create(db).map_err(|error| StoreError::of("create the tables", path, error)),
    }
}

enum Found {
    Schema(u64),
    Foreign(String),
    Empty,
}

fn found_schema(db: &Database) -> Result<Found, redb::Error> {
    let read = db.begin_read()?;
    let tables: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    if tables.iter().any(|table| table == META.name())
        && let Some(schema) = read.open_table(META)?.get_owned(SCHEMA)?
    {
        return Ok(Found::Schema(schema.value()));
    }
    Ok(tables.into_iter().next().map_or(Found::Empty, Found::Foreign))
}

fn create(db: &Database) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    {
        write.open_table(LEDGER)?;
        write.open_table(MEMORY)?;
        write.open_table(BLUEPRINTS)?;
        write.open_table(STATE)?;
        let mut meta = write.open_table(META)?;
        meta.insert(NEXT_SEQ, 1)?;
        meta.insert(SCHEMA, SCHEMA_KNOWN)?;
    }
    write.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RedbStore;

    #[test]
    fn a_newer_schema_and_a_foreign_file_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let newer = dir.path().join("newer.redb");
        drop(RedbStore::open(&newer).unwrap());
        let db = Database::open(&newer).unwrap();
        let write = db.begin_write().unwrap();
        write.open_table(META).unwrap().insert(SCHEMA, 9).unwrap();
        write.commit().unwrap();
        drop(db);
        for _ in 0..2 {
            let error = RedbStore::open(&newer).unwrap_err();
            assert!(matches!(error, StoreError::NewerSchema { found: 9, known: 1, .. }), "{error}");
            assert!(error.to_string().contains("newer.redb"), "{error}");
        }

        let foreign = dir.path().join("foreign.redb");
        let db = Database::create(&foreign).unwrap();
        let write = db.begin_write().unwrap();
        write.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap();
        write.commit().unwrap();
        drop(db);
        let error = RedbStore::open(&foreign).unwrap_err().to_string();
        assert!(error.contains("another program") && error.contains("`theirs`"), "{error}");
    }
}
