//! The file on disk: made whole or not at all, opened, closed, and redb's errors in our words.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use redb::Database;

use crate::{StoreError, lock, schema};

/// The working set is the tail of the ledger; redb's default of 1 GiB is meant for databases that are the product.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Opens the file; makes it first where there is none.
pub(crate) fn open_or_create(path: &Path) -> Result<Database, StoreError> {
    if !path.try_exists().map_err(io(path, "look for the store"))? {
        create(path)?;
    }
    let db = open(path)?;
    sweep(path);
    Ok(db)
}

/// Opens a file that must be there: one that vanished under a running engine is not quietly begun anew.
pub(crate) fn open(path: &Path) -> Result<Database, StoreError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io(path, "open the store"))?;
    // redb would begin a new database in it, and a kill half-way would leave what nobody can open.
    if file.metadata().map_err(io(path, "open the store"))?.len() == 0 {
        return Err(StoreError::Corrupt { path: path.to_path_buf(), detail: "it is empty".to_owned() });
    }
    database(file, path)
}

/// redb panics on some damaged files (seen with 4.4.0: a table's type name that is no UTF-8). The engine must then say
/// so and go on without its store, not die. What panicked is closed and opened again, so nothing is used half-changed.
pub(crate) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for an unknown reason");
        Err(StoreError::Corrupt { path: path.to_path_buf(), detail: format!("redb gave up: {said}") })
    })
}

/// Closing writes too, and so can panic on a damaged file.
pub(crate) fn close(path: &Path, db: Option<Database>) {
    // What was committed is safe already, and closing has nobody to report to.
    let _ = guarded(path, || {
        drop(db);
        Ok(())
    });
}

/// Makes an empty store under another name and gives it its own only when it is whole: redb writes a new file in several
/// steps, and an engine killed between them would leave one that can't be opened.
fn create(path: &Path) -> Result<(), StoreError> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut draft = prefix_of_drafts(path).into_os_string();
    draft.push(format!("{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let draft = PathBuf::from(draft);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(io(path, "create the store"))?;
    close(&draft, Some(database(file, &draft)?));
    // A link, unlike a rename, never replaces a store that another process made meanwhile.
    let linked = match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Another process made the store and swept our draft away.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => Ok(()),
        linked => linked,
    };
    linked.map_err(io(path, "create the store"))?;
    File::open(dir_of(path)).and_then(|dir| dir.sync_all()).map_err(io(path, "make the store's name durable"))
}

/// Removes drafts of engines that were killed while they made the store. Only tidiness: errors don't matter.
fn sweep(path: &Path) {
    let prefix = prefix_of_drafts(path);
    let Some(prefix) = prefix.file_name() else { return };
    for entry in fs::read_dir(dir_of(path)).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn prefix_of_drafts(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new-");
    PathBuf::from(name)
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn database(file: File, path: &Path) -> Result<Database, StoreError> {
    guarded(path, || {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_file(file)
            .map_err(|error| StoreError::of("open the store", path, error))?;
        schema::prepare(&db, path).map(|()| db)
    })
}

fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { path: path.to_path_buf(), doing, source }
}

impl StoreError {
    /// Our words for what redb said.
    pub(crate) fn of(doing: &'static str, path: &Path, error: impl Into<redb::Error>) -> Self {
        let path = path.to_path_buf();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::Locked { holder: lock::holder(&path), path },
            redb::Error::Corrupted(detail) => Self::Corrupt { path, detail },
            redb::Error::UpgradeRequired(found) => {
                Self::Corrupt { path, detail: format!("redb file format {found}, which no Forefend wrote") }
            }
            redb::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Corrupt { path, detail: "it ends too early".to_owned() }
            }
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                Self::Corrupt { path, detail: source.to_string() }
            }
            redb::Error::Io(source) => Self::Io { path, doing, source },
            mismatch @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TypeDefinitionChanged { .. }) => {
                Self::Corrupt { path, detail: mismatch.to_string() }
            }
            other => Self::Engine { path, doing, detail: other.to_string() },
        }
    }
}
