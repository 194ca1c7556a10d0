use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use forefend_domain::CellId;
use serde::{Deserialize, Serialize};

use crate::{Undo, proc::ProcessId};

/// The right to hold a fault for a while, on disk before the fault is begun.
///
/// Its holder renews it. When it runs out, or its holder is gone, whoever finds it undoes what it lists: the watchdog at
/// once, else the next engine or command that opens the book.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name, and that of everything that was made for it.
    pub id: String,
    /// Who holds it.
    pub owner: ProcessId,
    /// On which cell the fault is.
    pub cell: CellId,
    /// The kind of fault.
    pub fault: String,
    /// What of the cell it works on, for itself alone; `None`: others may work beside it.
    #[serde(default)]
    pub works_on: Option<String>,
    /// The uptime of the machine that times count from.
    pub boot_id: String,
    /// Milliseconds since boot, sleep included.
    pub begun_ms: u64,
    /// Milliseconds since boot at which it runs out.
    pub expires_ms: u64,
    /// What must be undone, in the order in which it was done.
    pub undo: Vec<Undo>,
}

impl Lease {
    /// Why nobody holds it any more, if so.
    #[must_use]
    pub fn lapsed(&self, boot_id: &str, now_ms: u64) -> Option<&'static str> {
        if self.boot_id != boot_id {
            Some("the machine was started anew")
        } else if now_ms >= self.expires_ms {
            Some("it was not renewed in time")
        } else if !self.owner.is_alive() {
            Some("its holder is gone")
        } else {
            None
        }
    }
}

/// A lease could not be taken, kept or undone.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The directory or a file in it can't be used.
    #[error("{what} {path}: {source}; the directory of leases must be writable and on a local file system", path = .path.display())]
    Book {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lease ran out and was undone by somebody else: its holder was too slow.
    #[error("the lease {0} has run out and what it allowed was undone; begin anew")]
    Lost(String),
    /// Some of what was done could not be undone. The lease stays, so that it is tried again.
    #[error("{id} could not be undone: {}; it is tried again until it succeeds", .failed.join("; "))]
    NotUndone {
        /// Which lease.
        id: String,
        /// What, and why.
        failed: Vec<String>,
    },
}

/// What became of leases that somebody looked through.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Undone and removed: lease and why.
    pub undone: Vec<(String, String)>,
    /// Could not be undone: lease and what failed.
    pub failed: Vec<(String, String)>,
    /// Still held by somebody.
    pub held: usize,
}

/// The directory of leases. Each is changed under a lock of its own that dies with who holds it.
#[derive(Debug, Clone)]
pub struct LeaseBook {
    dir: PathBuf,
    /// The program that carries out what needs a process of its own.
    program: PathBuf,
    boot_id: String,
}

/// What became of one lease.
enum One {
    Gone,
    Held,
    Undone(&'static str),
    Failed(String),
}

const SUFFIX: &str = ".lease";

impl LeaseBook {
    /// Opens or makes the directory. `program` is started again for what needs a process of its own; it must hand
    /// [`crate::HELPER_ARGUMENT`] to [`crate::helper_main`].
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn open(dir: &Path, program: &Path) -> Result<Self, LeaseError> {
        fs::create_dir_all(dir).map_err(|source| book("can't make", dir, source))?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { dir: dir.to_owned(), program: program.to_owned(), boot_id: boot_id.trim().to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The program for helpers.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A name for a new lease that no other has.
    #[must_use]
    pub fn new_id(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{:x}-{:x}-{n}", std::process::id(), now_ms())
    }

    /// Writes a lease down; durable when this returns.
    pub(crate) fn take(
        &self,
        id: &str,
        (cell, fault): (&CellId, &str),
        works_on: Option<String>,
        undo: Vec<Undo>,
        ttl: Duration,
    ) -> Result<(), LeaseError> {
        let owner = ProcessId::own().ok_or_else(|| {
            book("can't read", Path::new("/proc/self/stat"), io::ErrorKind::NotFound.into())
        })?;
        let now = now_ms();
        let lease = Lease {
            id: id.to_owned(),
            owner,
            cell: cell.clone(),
            fault: fault.to_owned(),
            works_on,
            boot_id: self.boot_id.clone(),
            begun_ms: now,
            expires_ms: now + ttl.as_millis() as u64,
            undo,
        };
        let _lock = self.lock(id)?;
        self.write(&lease)
    }

    /// Does something under a lease, with more to undo afterwards. Nobody can undo the lease meanwhile.
    pub(crate) fn under<T>(
        &self,
        id: &str,
        act: impl FnOnce(&mut Vec<Undo>, &dyn Fn(&[Undo]) -> Result<(), LeaseError>) -> T,
    ) -> Result<T, LeaseError> {
        let _lock = self.lock(id)?;
        let mut lease = self.held(id)?;
        let mut undo = std::mem::take(&mut lease.undo);
        let known = undo.clone();
        let write = |undo: &[Undo]| self.write(&Lease { undo: undo.to_vec(), ..lease.clone() });
        let result = act(&mut undo, &write);
        if undo != known {
            write(&undo)?;
        }
        Ok(result)
    }

    /// Keeps a lease for another `ttl`. One that somebody works on is left for the next time: who renews many must not wait
    /// for one.
    pub(crate) fn renew(&self, id: &str, ttl: Duration) -> Result<(), LeaseError> {
        let path = self.lock_path(id);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|source| book("can't lock", &path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(source)) => return Err(book("can't lock", &path, source)),
        }
        let mut lease = self.held(id)?;
        lease.expires_ms = now_ms() + ttl.as_millis() as u64;
        self.write(&lease)
    }

    fn held(&self, id: &str) -> Result<Lease, LeaseError> {
        let lost = || LeaseError::Lost(id.to_owned());
        let Some(lease) = self.read(&self.path(id)) else {
            // Asking made the lock anew.
            let _ = fs::remove_file(self.lock_path(id));
            return Err(lost());
        };
        if lease.lapsed(&self.boot_id, now_ms()).is_some() { Err(lost()) } else { Ok(lease) }
    }

    /// Undoes a lease and removes it. One that is gone is done.
    ///
    /// # Errors
    /// [`LeaseError::NotUndone`], and then the lease stays.
    pub fn undo(&self, id: &str) -> Result<(), LeaseError> {
        let _lock = self.lock(id)?;
        match self.read(&self.path(id)) {
            Some(lease) => self.undo_locked(&lease),
            None => {
                let _ = fs::remove_file(self.lock_path(id));
                Ok(())
            }
        }
    }

    fn undo_locked(&self, lease: &Lease) -> Result<(), LeaseError> {
        let rebooted = lease.boot_id != self.boot_id;
        let failed: Vec<String> = lease
            .undo
            .iter()
            .rev()
            .filter(|undo| !(rebooted && undo.ends_with_boot()))
            .filter_map(|undo| undo.carry_out(&self.program).err().map(|e| format!("{undo:?}: {e}")))
            .collect();
        if !failed.is_empty() {
            return Err(LeaseError::NotUndone { id: lease.id.clone(), failed });
        }
        let path = self.path(&lease.id);
        fs::remove_file(&path).map_err(|source| book("can't remove", &path, source))?;
        // Whoever waits for it finds no lease then. Names are never used again.
        let _ = fs::remove_file(self.lock_path(&lease.id));
        Ok(())
    }

    /// Undoes every lease that nobody holds any more, and those that `or_if` picks.
    ///
    /// # Errors
    /// When the directory can't be read or locked. What could not be undone is told in [`Swept::failed`].
    pub fn sweep(&self, or_if: impl Fn(&Lease) -> bool + Sync) -> Result<Swept, LeaseError> {
        let due = |lease: &Lease| match lease.lapsed(&self.boot_id, now_ms()) {
            None if or_if(lease) => Some("it was asked for"),
            lapsed => lapsed,
        };
        let due = &due;
        // Looked at without a lock first: a book without lapsed leases costs nobody anything.
        let (lapsed, held): (Vec<Lease>, Vec<Lease>) =
            self.leases()?.into_iter().partition(|lease| due(lease).is_some());
        let mut swept = Swept { held: held.len(), ..Swept::default() };
        // Side by side: a hop takes a while to let go, and the other faults must not last as long.
        let looked = thread::scope(|scope| {
            let tasks: Vec<_> =
                lapsed.iter().map(|lease| scope.spawn(move || self.sweep_one(lease, due))).collect();
            tasks
                .into_iter()
                .map(|task| task.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect::<Vec<_>>()
        });
        for (lease, what) in lapsed.into_iter().zip(looked) {
            match what? {
                One::Gone => {}
                One::Held => swept.held += 1,
                One::Undone(why) => swept.undone.push((lease.id, why.to_owned())),
                One::Failed(why) => swept.failed.push((lease.id, why)),
            }
        }
        Ok(swept)
    }

    fn sweep_one(
        &self,
        lease: &Lease,
        due: &(impl Fn(&Lease) -> Option<&'static str> + Sync),
    ) -> Result<One, LeaseError> {
        let _lock = self.lock(&lease.id)?;
        let Some(lease) = self.read(&self.path(&lease.id)) else {
            let _ = fs::remove_file(self.lock_path(&lease.id));
            return Ok(One::Gone);
        };
        let Some(why) = due(&lease) else { return Ok(One::Held) };
        Ok(match self.undo_locked(&lease) {
            Ok(()) => One::Undone(why),
            Err(e) => One::Failed(e.to_string()),
        })
    }

    /// All leases, in order of their names.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn leases(&self) -> Result<Vec<Lease>, LeaseError> {
        let entries = fs::read_dir(&self.dir).map_err(|source| book("can't read", &self.dir, source))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.retain(|p| p.to_str().is_some_and(|p| p.ends_with(SUFFIX)));
        paths.sort();
        Ok(paths.iter().filter_map(|path| self.read(path)).collect())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }

    fn lock_path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.lock"))
    }

    fn read(&self, path: &Path) -> Option<Lease> {
        // Written by renaming, so it is whole or it is none of ours.
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    fn write(&self, lease: &Lease) -> Result<(), LeaseError> {
        let path = self.path(&lease.id);
        let new = self.dir.join(format!("{}.new", lease.id));
        let write = || {
            let mut file = File::create(&new)?;
            serde_json::to_writer(&mut file, lease)?;
            file.flush()?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| book("can't write", &path, source))
    }

    /// One for each lease: undoing takes seconds where a hop lets go, and others must be renewed meanwhile.
    fn lock(&self, id: &str) -> Result<File, LeaseError> {
        let path = self.lock_path(id);
        let lock = || {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|source| book("can't lock", &path, source))
    }
}

fn book(what: &'static str, path: &Path, source: io::Error) -> LeaseError {
    LeaseError::Book { what, path: path.to_owned(), source }
}

/// Milliseconds since boot, sleep included: a clock that nobody sets.
pub(crate) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book_in(dir: &Path) -> LeaseBook {
        LeaseBook::open(dir, Path::new("/nonexistent")).unwrap()
    }

    fn cell() -> CellId {
        CellId::new("shop-1").unwrap()
    }

    #[test]
    fn what_is_leased_is_undone_once_and_the_lease_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let book = book_in(&dir.path().join("leases"));
        let knob = dir.path().join("knob");
        fs::write(&knob, "as it was").unwrap();
        let id = book.new_id();
        let undo = vec![Undo::Write { path: knob.clone(), value: "as it was".into() }];
        book.take(&id, (&cell(), "cpu-quota"), None, undo, Duration::from_secs(60)).unwrap();
        book.under(&id, |_, _| fs::write(&knob, "changed").unwrap()).unwrap();
        assert_eq!(book.sweep(|_| false).unwrap(), Swept { held: 1, ..Swept::default() });
        assert_eq!(fs::read_to_string(&knob).unwrap(), "changed");
        book.undo(&id).unwrap();
        assert_eq!(fs::read_to_string(&knob).unwrap(), "as it was");
        assert!(book.leases().unwrap().is_empty());
        book.undo(&id).unwrap();
    }

    #[test]
    fn who_was_too_slow_can_do_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let book = book_in(dir.path());
        let id = book.new_id();
        book.take(&id, (&cell(), "stop"), None, vec![], Duration::ZERO).unwrap();
        let acted = book.under(&id, |_, _| ());
        assert!(matches!(acted, Err(LeaseError::Lost(_))), "{acted:?}");
        assert!(matches!(book.renew(&id, Duration::from_secs(60)), Err(LeaseError::Lost(_))));
        assert_eq!(book.sweep(|_| false).unwrap().undone.len(), 1);
    }

    #[test]
    fn a_lease_of_somebody_who_is_gone_or_of_another_uptime_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let book = book_in(dir.path());
        for (id, owner_gone, other_boot) in [("a", true, false), ("b", false, true), ("c", false, false)] {
            book.take(id, (&cell(), "stop"), None, vec![], Duration::from_secs(60)).unwrap();
            let mut lease = book.read(&book.path(id)).unwrap();
            if owner_gone {
                lease.owner.start_time += 1;
            }
            if other_boot {
                lease.boot_id.push('x');
            }
            book.write(&lease).unwrap();
        }
        let swept = book.sweep(|_| false).unwrap();
        assert_eq!(swept.undone.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(swept.held, 1);
    }

    #[test]
    fn who_works_on_one_lease_holds_no_other_up() {
        let dir = tempfile::tempdir().unwrap();
        let book = book_in(dir.path());
        for id in ["a", "b"] {
            book.take(id, (&cell(), "latency"), None, vec![], Duration::from_secs(60)).unwrap();
        }
        book.under("a", |_, _| {
            book.renew("b", Duration::from_secs(60)).unwrap();
            book.renew("a", Duration::from_secs(60)).unwrap();
            book.undo("b").unwrap();
        })
        .unwrap();
        book.undo("a").unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn what_can_not_be_undone_is_kept_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let book = book_in(&dir.path().join("leases"));
        let blocked = dir.path().join("directory");
        fs::create_dir(&blocked).unwrap();
        let undo = vec![Undo::Remove { path: blocked.clone() }];
        book.take("a", (&cell(), "disk-full"), None, undo, Duration::ZERO).unwrap();
        assert_eq!(book.sweep(|_| false).unwrap().failed.len(), 1);
        fs::remove_dir(&blocked).unwrap();
        assert_eq!(book.sweep(|_| false).unwrap().undone.len(), 1);
    }

    #[test]
    fn after_a_restart_of_the_machine_only_what_outlives_it_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let book = book_in(&dir.path().join("leases"));
        let knob = dir.path().join("knob");
        fs::write(&knob, "new machine").unwrap();
        let filler = dir.path().join("filler");
        fs::write(&filler, "full").unwrap();
        let undo = vec![
            Undo::Write { path: knob.clone(), value: "old machine".into() },
            Undo::Remove { path: filler.clone() },
        ];
        book.take("a", (&cell(), "disk-full"), None, undo, Duration::from_secs(60)).unwrap();
        let mut lease = book.read(&book.path("a")).unwrap();
        lease.boot_id.push('x');
        book.write(&lease).unwrap();
        book.sweep(|_| false).unwrap();
        assert_eq!(fs::read_to_string(&knob).unwrap(), "new machine");
        assert!(!filler.exists());
    }
}
