//! Every engine passes the one conformance suite.

use forefend_store::{MemoryStore, RedbStore, conformance};

#[test]
fn redb_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = 0;
    conformance::run(
        |options| {
            files += 1;
            RedbStore::open_with(dir.path().join(format!("{files}.redb")), options).unwrap()
        },
        |store, options| {
            let path = store.path().to_path_buf();
            drop(store);
            RedbStore::open_with(path, options).unwrap()
        },
    );
}

#[test]
fn memory_conforms() {
    conformance::run(MemoryStore::new, |store, _| store);
}
