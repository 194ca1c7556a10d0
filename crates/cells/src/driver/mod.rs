//! The sandbox driver: cells as confined processes of this machine.

mod actor;
mod address;
mod adopt;
mod context;
mod expand;
mod launch;

use std::{
    collections::BTreeSet,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use forefend_domain::{
    BlueprintName, Cell, CellId, Passport,
    ports::{CellCommand, CellDriver, CellObservation, DriverStage, PortError},
};
use nix::fcntl::{Flock, FlockArg};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    AcceptMissing, BlueprintSource, CheckedBlueprint, Protections, cgroup::CgroupHost, record::SavedStage,
};
use context::{Context, Desired, Entry};

/// How the driver is set up.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Where records, data and logs of the cells are kept. Belongs to one engine at a time.
    pub state_dir: PathBuf,
    /// Protections that may be missing.
    pub accept_missing: AcceptMissing,
    /// The program that calls [`crate::init_main`], also what `{exe}` in blueprints stands for. `None`: this program.
    pub init_exe: Option<PathBuf>,
    /// With root: the first of the 1 000 user ids that cells run under.
    pub first_uid: u32,
    /// What is kept of a cell's output: two pieces of this size.
    pub log_bytes: u64,
    /// How clocks are set off; without it, blueprints that ask for an adjustable clock get a usual one.
    pub clock: Option<ClockLibrary>,
}

/// What is preloaded into cells whose clock can be set off.
#[derive(Debug, Clone)]
pub struct ClockLibrary {
    /// The library, as an absolute path without spaces and colons, at which `LD_PRELOAD` parts its value (ld.so(8)).
    pub library: PathBuf,
    /// The variable that names the cell's clock file to it.
    pub variable: &'static str,
    /// Makes a clock file that sets off nothing.
    pub new_file: fn(&Path) -> std::io::Result<()>,
}

impl SandboxOptions {
    /// Options with sensible defaults: nothing may be missing, users from 60 000, 1 MiB of log.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            accept_missing: AcceptMissing::None,
            init_exe: None,
            first_uid: 60_000,
            log_bytes: 1 << 20,
            clock: None,
        }
    }
}

/// The driver could not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A file or directory can't be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another engine works on the same directory.
    #[error("{0} belongs to another running engine; stop it or choose another state directory")]
    InUse(PathBuf),
    /// The protections can't be tried out.
    #[error("the protections of this machine can't be tried: {0}")]
    Probe(String),
}

/// What a cell uses now. What can't be read is `None`, never zero.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CellUsage {
    /// Memory that can't be given back at once.
    pub memory_bytes: Option<u64>,
    /// Beyond it the kernel kills the cell.
    pub memory_limit_bytes: Option<u64>,
    /// CPU time consumed so far, in nanoseconds.
    pub cpu_usage_ns: Option<u64>,
    /// CPU limit as a share of one core.
    pub cpu_quota: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// How many processes the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
    /// The main process, in the host's numbering.
    pub pid: Option<i32>,
    /// Its control groups.
    pub cgroup_dirs: Vec<PathBuf>,
}

/// Makes cells as confined processes on this machine and finds them again after a restart.
///
/// All waiting is done on a thread of its own; the methods only read and note down. Dropping the driver stops that thread
/// and leaves the cells running: the next driver on the same state directory adopts them.
pub struct SandboxDriver {
    context: Arc<Context>,
    runtime: Handle,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
    _lock: Flock<File>,
}

impl SandboxDriver {
    /// Tries the machine's protections, adopts the cells that `options.state_dir` tells of, and starts to look after them.
    ///
    /// # Errors
    /// When the directory can't be used or the trial can't be run. Missing protections are no error here: they make
    /// [`CellDriver::request`] refuse.
    pub fn new(options: SandboxOptions, blueprints: Arc<dyn BlueprintSource>) -> Result<Self, SandboxError> {
        let io = |what: String| move |source| SandboxError::Io { what, source };
        let mut options = options;
        let cells = options.state_dir.join("cells");
        std::fs::create_dir_all(&cells).map_err(io(cells.display().to_string()))?;
        options.state_dir =
            options.state_dir.canonicalize().map_err(io(options.state_dir.display().to_string()))?;
        let lock = lock(&options.state_dir)?;
        let exe = match options.init_exe.clone() {
            Some(exe) => exe,
            None => std::env::current_exe().map_err(io("the path of this program".into()))?,
        };
        let mut protections = launch::probe(&exe, &options.state_dir)?;
        let instance = instance_of(&options.state_dir);
        let cgroups = CgroupHost::probe(&instance, &mut protections);
        let context = Arc::new(Context::new(options, exe, protections, instance, cgroups, blueprints));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()
            .map_err(io("the runtime of the cells".into()))?;
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let adopted = adopt::adopt(&context);
        let thread = {
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("cells".into())
                .spawn(move || {
                    runtime.block_on(stop.notified());
                    runtime.shutdown_background();
                })
                .map_err(io("the thread of the cells".into()))?
        };
        for (cell, process) in adopted {
            handle.spawn(actor::run(context.clone(), cell, process));
        }
        Ok(Self { context, runtime: handle, stop, thread: Some(thread), _lock: lock })
    }

    /// What this machine protects cells by, and what it lacks.
    #[must_use]
    pub fn protections(&self) -> &Protections {
        &self.context.protections
    }

    /// What a cell uses now; `None` when there is no such cell.
    #[must_use]
    pub fn usage(&self, cell: &CellId) -> Option<CellUsage> {
        let (groups, pid) = self
            .context
            .with(|entries| entries.get(cell).map(|entry| (entry.record.groups.clone(), entry.pid)))?;
        Some(CellUsage {
            memory_bytes: groups.memory_bytes(),
            memory_limit_bytes: groups.memory_limit(),
            cpu_usage_ns: groups.cpu_usage_ns(),
            cpu_quota: groups.cpu_quota(),
            pids: groups.pids(),
            oom_kills: groups.oom_kills(),
            pid,
            cgroup_dirs: groups.dirs.into_iter().map(|group| group.dir).collect(),
        })
    }

    /// Where a cell listens or will listen; `None` when there is no such cell.
    #[must_use]
    pub fn address(&self, cell: &CellId) -> Option<SocketAddr> {
        self.context.with(|entries| entries.get(cell).map(|entry| entry.record.address))
    }

    /// The directory the cell writes to, on the host. It lives as long as the cell, recreations included.
    #[must_use]
    pub fn data_dir(&self, cell: &CellId) -> PathBuf {
        self.context.dir(cell).join(crate::record::DATA)
    }

    /// The file that sets off the cell's clock, if it has one.
    #[must_use]
    pub fn clock_file(&self, cell: &CellId) -> Option<PathBuf> {
        Some(self.context.dir(cell).join(crate::record::CLOCK)).filter(|path| path.exists())
    }

    /// What the cell printed last.
    #[must_use]
    pub fn log_path(&self, cell: &CellId) -> PathBuf {
        self.context.dir(cell).join(crate::record::LOG)
    }

    fn create(&mut self, cell: Cell, name: &BlueprintName) -> Result<(), PortError> {
        let known = self.context.with(|entries| {
            entries.get(&cell.id).map(|entry| (entry.record.cell.clone(), entry.desired.retire))
        });
        match known {
            None => {}
            Some((_, true)) => {
                return Err(refused(format!("{} is being retired; ask again when it is gone", cell.id)));
            }
            Some((known, false)) if known == cell => return Ok(()),
            Some(_) => {
                return Err(refused(format!("{} exists already with another identity or place", cell.id)));
            }
        }
        let blueprint = self.usable(name)?;
        let id = cell.id.clone();
        let record = self.context.new_record(cell, &blueprint).map_err(refused)?;
        self.context.with(|entries| {
            entries.insert(id.clone(), Entry::new(record, DriverStage::Creating));
        });
        self.runtime.spawn(actor::run(self.context.clone(), id, None));
        Ok(())
    }

    /// The newest blueprint of that name, if this machine protects its cells well enough.
    fn usable(&self, name: &BlueprintName) -> Result<Arc<CheckedBlueprint>, PortError> {
        self.context.protections.check(&self.context.options.accept_missing).map_err(refused)?;
        let latest = self.context.blueprints.latest(name)?;
        latest.ok_or_else(|| refused(format!("there is no blueprint {name}")))
    }

    /// Changes what is wanted of a cell and wakes its actor.
    fn want(&mut self, cell: &CellId, change: impl FnOnce(&mut Entry)) -> Result<(), PortError> {
        self.context
            .with(|entries| {
                entries.get_mut(cell).map(|entry| {
                    change(entry);
                    entry.notify.notify_one();
                })
            })
            .ok_or_else(|| refused(format!("there is no cell {cell}")))
    }

    fn recreate(&mut self, cell: &CellId) -> Result<(), PortError> {
        let blueprint = self
            .context
            .with(|entries| {
                entries.get(cell).map(|entry| {
                    let failed = matches!(entry.stage, DriverStage::Failed { .. });
                    failed.then(|| entry.record.blueprint.name.clone())
                })
            })
            .ok_or_else(|| refused(format!("there is no cell {cell}")))?;
        // One that has not failed is, or is under way.
        let Some(name) = blueprint else { return Ok(()) };
        let blueprint = self.usable(&name)?;
        self.want(cell, |entry| {
            entry.record.blueprint = blueprint.blueprint().clone();
            entry.record.hash = blueprint.hash().clone();
            entry.record.address.set_port(blueprint.blueprint().network.port);
            entry.record.passport = None;
            entry.record.stage = SavedStage::Creating;
            entry.stage = DriverStage::Creating;
            entry.desired = Desired { retire: entry.desired.retire, ..Desired::default() };
            entry.begun = Instant::now();
        })
    }

    fn observation(&self, entry: &mut Entry) -> CellObservation {
        let record = &entry.record;
        let passport = record.passport.clone().map(|passport| {
            // A source that can't be read proves nothing: the paper then keeps what it says.
            let current = match self.context.blueprints.latest(&record.blueprint.name) {
                Ok(Some(latest)) => *latest.hash() == passport.blueprint,
                Ok(None) => false,
                Err(_) => passport.current,
            };
            Passport { current, ..passport }
        });
        CellObservation {
            cell: record.cell.clone(),
            stage: entry.stage.clone(),
            address: record.listened.then_some(record.address),
            passport,
            took: std::mem::take(&mut entry.took),
        }
    }
}

impl CellDriver for SandboxDriver {
    fn observe(&mut self) -> Vec<CellObservation> {
        self.context.with(|entries| entries.values_mut().map(|entry| self.observation(entry)).collect())
    }

    fn request(&mut self, command: CellCommand) -> Result<(), PortError> {
        match command {
            CellCommand::Create { cell, blueprint } => self.create(cell, &blueprint),
            CellCommand::Recreate { cell } => self.recreate(&cell),
            CellCommand::Park { cell } => self.want(&cell, |entry| entry.desired.parked = true),
            CellCommand::Unpark { cell } => self.want(&cell, |entry| entry.desired.parked = false),
            CellCommand::Rewarm { cell } => self.want(&cell, |entry| match entry.stage {
                DriverStage::Ready => {
                    entry.stage = DriverStage::Warming;
                    entry.record.stage = SavedStage::Warming;
                }
                DriverStage::Parked => entry.desired.rewarm = true,
                // About to be warmed anyway, or broken.
                DriverStage::Creating | DriverStage::Warming | DriverStage::Failed { .. } => {}
            }),
            CellCommand::Retire { cell } => {
                // What is gone is retired.
                let _ = self.want(&cell, |entry| entry.desired.retire = true);
                Ok(())
            }
        }
    }
}

impl Drop for SandboxDriver {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn refused(why: String) -> PortError {
    PortError::Refused { port: "cell driver", why }
}

/// Tells apart what engines with different state directories make on one machine.
fn instance_of(state_dir: &Path) -> String {
    blake3::hash(state_dir.as_os_str().as_encoded_bytes()).to_hex()[..8].to_owned()
}

/// How long an engine that was just killed may take to let go.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

fn lock(state_dir: &Path) -> Result<Flock<File>, SandboxError> {
    let path = state_dir.join("driver.lock");
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| SandboxError::Io { what: path.display().to_string(), source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return Err(SandboxError::InUse(state_dir.to_owned())),
        }
    }
}

/// The user ids in use, so that each cell gets its own.
fn free_uid(first: u32, taken: &BTreeSet<u32>) -> Result<u32, String> {
    (first..first.saturating_add(1_000))
        .find(|uid| !taken.contains(uid))
        .ok_or_else(|| format!("all 1000 user ids from {first} are taken"))
}
