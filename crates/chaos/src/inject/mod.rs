//! Does faults to cells and undoes them.

mod disk;
mod files;
mod groups;
mod hops;
mod processes;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Fault, FaultProblem, LeaseBook, LeaseError, Target, Undo, proc::ProcessId, watchdog::Watchdog};

/// How long a lease lasts when nobody renews it.
pub const DEFAULT_TTL: Duration = Duration::from_secs(3);

/// A fault could not be done.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// Its parameters make no sense.
    #[error(transparent)]
    Problem(#[from] FaultProblem),
    /// The cell's process is not there.
    #[error("{cell}: process {pid} is not running; name the cell's first process")]
    Gone {
        /// Which cell.
        cell: String,
        /// Which process.
        pid: i32,
    },
    /// This machine or this cell lacks what the fault needs.
    #[error("{fault} is not possible here: {why}; {remedy}")]
    Unsupported {
        /// Which fault.
        fault: &'static str,
        /// What is missing.
        why: String,
        /// What would help.
        remedy: &'static str,
    },
    /// It would hit more than the cell.
    #[error("{fault} would hit more than this cell: {why}; {remedy}")]
    WouldHitOthers {
        /// Which fault.
        fault: &'static str,
        /// Whom.
        why: String,
        /// What would help.
        remedy: &'static str,
    },
    /// The lease.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The system refused.
    #[error("{fault}: {source}")]
    Failed {
        /// Which fault.
        fault: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// What a fault of a kind does when its level changes.
trait Actuator: Send {
    /// Called once, under the lease, before the first level.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// Brings the fault to a level from 0 to 1. Every level can follow every other.
    fn set(&mut self, level: f64) -> io::Result<()>;
    /// Makes what times out in the kernel last for another while.
    fn keep(&mut self, _lasts: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// A fault that is ready to be done, and what undoes it.
struct Prepared {
    undo: Vec<Undo>,
    actuator: Box<dyn Actuator>,
}

/// What preparing a fault needs to know.
struct Scene<'a> {
    fault: &'static str,
    target: &'a Target,
    process: ProcessId,
    lease: &'a str,
    program: &'a Path,
    ttl: Duration,
}

impl Scene<'_> {
    fn unsupported(&self, why: impl Into<String>, remedy: &'static str) -> InjectError {
        InjectError::Unsupported { fault: self.fault, why: why.into(), remedy }
    }

    fn others(&self, why: impl Into<String>, remedy: &'static str) -> InjectError {
        InjectError::WouldHitOthers { fault: self.fault, why: why.into(), remedy }
    }

    fn failed(&self, source: io::Error) -> InjectError {
        InjectError::Failed { fault: self.fault, source }
    }
}

/// Does faults. While it lives it renews the leases of those that are on; a watchdog process undoes them when it doesn't.
#[derive(Debug)]
pub struct Injector {
    shared: Arc<Shared>,
    renewing: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    book: LeaseBook,
    ttl: Duration,
    watchdog: Mutex<Watchdog>,
    running: Mutex<Vec<Arc<Running>>>,
    stop: AtomicBool,
}

/// A fault that is on.
struct Running {
    lease: String,
    fault: &'static str,
    actuator: Mutex<Box<dyn Actuator>>,
    over: AtomicBool,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("lease", &self.lease)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// A fault that is on. Dropping it undoes it.
#[derive(Debug)]
pub struct Injection {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread left is still what must be undone.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Injector {
    /// Undoes what earlier injectors left in `leases`, then starts the watchdog. `program` is this program; it must hand
    /// [`crate::HELPER_ARGUMENT`] to [`crate::helper_main`].
    ///
    /// # Errors
    /// When the directory can't be used or the watchdog can't be started: without it nothing is injected.
    pub fn start(leases: &Path, program: &Path, ttl: Duration) -> Result<Self, InjectError> {
        let book = LeaseBook::open(leases, program)?;
        book.sweep(|_| false)?;
        let watchdog = Watchdog::start(&book).map_err(no_watchdog)?;
        let shared = Arc::new(Shared {
            book,
            ttl,
            watchdog: Mutex::new(watchdog),
            running: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        });
        let renewed = shared.clone();
        let renewing = thread::spawn(move || renewed.renew_for_good());
        Ok(Self { shared, renewing: Some(renewing) })
    }

    /// Readies a fault and takes its lease. It has no effect before [`Injection::set`].
    ///
    /// # Errors
    /// [`InjectError`]; then nothing was done.
    pub fn begin(&self, fault: &Fault, target: &Target) -> Result<Injection, InjectError> {
        fault.check()?;
        self.shared.ensure_watched()?;
        let gone = || InjectError::Gone { cell: target.cell.to_string(), pid: target.pid };
        let process = ProcessId::of(target.pid).ok_or_else(gone)?;
        let book = &self.shared.book;
        let works_on = fault.works_on();
        if works_on.is_some() {
            let same = book.leases()?.into_iter().find(|l| l.cell == target.cell && l.works_on == works_on);
            if let Some(other) = same {
                return Err(InjectError::Unsupported {
                    fault: fault.kind(),
                    why: format!("{} is on at {} already and works on the same", other.fault, target.cell),
                    remedy: "end it first",
                });
            }
        }
        let lease = book.new_id();
        let scene = Scene {
            fault: fault.kind(),
            target,
            process,
            lease: &lease,
            program: book.program(),
            ttl: self.shared.ttl,
        };
        let Prepared { undo, mut actuator } = prepare(fault, &scene)?;
        book.take(&lease, (&target.cell, fault.kind()), works_on, undo, self.shared.ttl)?;
        let begun = book.under(&lease, |_, _| actuator.begin());
        let running = Arc::new(Running {
            lease,
            fault: fault.kind(),
            actuator: Mutex::new(actuator),
            over: AtomicBool::new(false),
        });
        let injection = Injection { shared: self.shared.clone(), running };
        // From here on dropping it undoes what was done.
        begun?.map_err(|source| InjectError::Failed { fault: fault.kind(), source })?;
        locked(&self.shared.running).push(injection.running.clone());
        Ok(injection)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(renewing) = self.renewing.take() {
            renewing.thread().unpark();
            let _ = renewing.join();
        }
    }
}

fn no_watchdog(source: io::Error) -> InjectError {
    let said = format!("the watchdog can't be started, and without it nothing is injected: {source}");
    InjectError::Failed { fault: "watchdog", source: io::Error::new(source.kind(), said) }
}

impl Shared {
    fn ensure_watched(&self) -> Result<(), InjectError> {
        let mut watchdog = locked(&self.watchdog);
        if !watchdog.is_alive() {
            *watchdog = Watchdog::start(&self.book).map_err(no_watchdog)?;
        }
        Ok(())
    }

    fn renew_for_good(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            thread::park_timeout(self.ttl / 4);
            let unwatched = self.ensure_watched().is_err();
            let running: Vec<Arc<Running>> = locked(&self.running).clone();
            for one in running {
                if unwatched {
                    // Nobody would undo it after us: it ends now.
                    self.end(&one).ok();
                } else if self.book.renew(&one.lease, self.ttl).is_err() {
                    self.forget(&one);
                } else {
                    // Under the lease, or what is just being undone would be begun anew. What can't be kept runs out by
                    // itself, which is the safe side.
                    let mut actuator = locked(&one.actuator);
                    let _ = self.book.under(&one.lease, |_, _| actuator.keep(self.ttl));
                }
            }
        }
    }

    fn forget(&self, one: &Running) {
        one.over.store(true, Ordering::Relaxed);
        locked(&self.running).retain(|r| r.lease != one.lease);
    }

    fn end(&self, one: &Running) -> Result<(), LeaseError> {
        self.forget(one);
        self.book.undo(&one.lease)
    }
}

impl Injection {
    /// The name of its lease.
    #[must_use]
    pub fn lease(&self) -> &str {
        &self.running.lease
    }

    /// Whether it is still on: false once it was ended or its lease was lost.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.running.over.load(Ordering::Relaxed)
    }

    /// Brings the fault to a level from 0 to 1.
    ///
    /// # Errors
    /// When the system refuses, or the lease has lapsed, in which case it is undone already and stays so.
    pub fn set(&self, level: f64) -> Result<(), InjectError> {
        let level = if level.is_finite() { level.clamp(0.0, 1.0) } else { 0.0 };
        let mut actuator = locked(&self.running.actuator);
        let fault = self.running.fault;
        let set = self.shared.book.under(&self.running.lease, |_, _| actuator.set(level));
        match set {
            Ok(result) => result.map_err(|source| InjectError::Failed { fault, source }),
            Err(lost) => {
                drop(actuator);
                self.shared.forget(&self.running);
                Err(lost.into())
            }
        }
    }

    /// Undoes it.
    ///
    /// # Errors
    /// What could not be undone; the watchdog tries it again when the lease lapses.
    pub fn end(self) -> Result<(), InjectError> {
        Ok(self.shared.end(&self.running)?)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        if self.is_on()
            && let Err(e) = self.shared.end(&self.running)
        {
            eprintln!("forefend: {e}");
        }
    }
}

fn prepare(fault: &Fault, scene: &Scene<'_>) -> Result<Prepared, InjectError> {
    match fault {
        Fault::Kill => Ok(processes::kill(scene)),
        Fault::Stop => Ok(processes::stop(scene)),
        Fault::Freeze => groups::freeze(scene),
        Fault::CpuQuota { cores } => groups::cpu_quota(scene, *cores),
        Fault::CpuBurn { workers } => groups::burn(scene, *workers),
        Fault::NoisyNeighbour { workers } => groups::noise(scene, *workers),
        Fault::MemoryLeak { bytes } => groups::leak(scene, *bytes),
        Fault::MemoryLimit { bytes } => groups::memory_limit(scene, *bytes),
        Fault::ThreadExhaustion { leave } => groups::threads(scene, *leave),
        Fault::FdExhaustion { leave } => Ok(processes::files(scene, *leave)),
        Fault::DiskFull { path, leave_bytes } => disk::full(scene, path.as_deref(), *leave_bytes),
        Fault::SlowDisk { path, bytes_per_s } => disk::slow(scene, path.as_deref(), *bytes_per_s),
        Fault::ReadOnlyDisk { path } => disk::read_only(scene, path.as_deref()),
        Fault::ConnectionExhaustion { connections } => hops::hold(scene, *connections),
        Fault::Latency { .. } | Fault::ErrorRate { .. } | Fault::Resets { .. } | Fault::Bandwidth { .. } => {
            hops::before_cell(scene, fault)
        }
        Fault::SlowDependency { dependency, .. } | Fault::FailingDependency { dependency, .. } => {
            hops::before_dependency(scene, fault, *dependency)
        }
        Fault::Loss { share } => hops::loss(scene, *share),
        Fault::Partition => hops::loss(scene, 1.0),
        Fault::DnsFailure { how } => hops::lookups(scene, *how),
        Fault::ClockSkew { by_ms } => files::clock(scene, *by_ms),
        Fault::CertificateExpiry { certificate, key, reload } => {
            files::certificate(scene, certificate, key, *reload)
        }
        Fault::LogStorm { path, lines_per_s, line } => {
            files::storm(scene, path.clone(), *lines_per_s, line.clone())
        }
    }
}

/// A directory that the fault is about, as the cell sees it or as the target says, seen from here.
fn directory(scene: &Scene<'_>, path: Option<&Path>) -> Result<PathBuf, InjectError> {
    let found = match (path, &scene.target.data) {
        (Some(inside), _) => scene.process.sees(inside),
        (None, Some(data)) => data.clone(),
        (None, None) => {
            return Err(scene.unsupported("the cell's data directory is not known", "name a `path`"));
        }
    };
    if found.is_dir() {
        return Ok(found);
    }
    let why = format!("{} is no directory", found.display());
    Err(scene.unsupported(why, "name a directory as the cell sees it"))
}
