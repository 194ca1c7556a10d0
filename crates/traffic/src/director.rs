//! The director's process: lock, journal, workers, control socket.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use forefend_domain::{
    CellId, RegionId, ServiceId, ServiceWeights, Weight,
    ports::{Route, Routing, ServiceRouting},
};
use nix::fcntl::{Flock, FlockArg};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::LocalSet,
};

use crate::{
    cell::Clock,
    control::{self, End},
    journal::{self, Journal},
    state::{ApplyError, Director},
    supervise::{Engine, keep_engine},
    wire::{DirectorConfig, ServiceSettings},
    worker,
};

/// How a director runs.
#[derive(Debug, Clone)]
pub struct DirectorOptions {
    /// Where journal, socket, lock and pid file live. Made if missing, for this user only.
    pub state_dir: PathBuf,
    /// Threads that serve.
    pub workers: usize,
    /// Client connections each worker takes at once; more wait in the kernel.
    pub max_connections: usize,
    /// A request's header must be complete this long after its first byte, which bounds slow senders.
    pub header_timeout: Duration,
    /// The engine's command line, to start it again should it die without a goodbye.
    pub respawn_engine: Option<Vec<OsString>>,
}

impl DirectorOptions {
    /// One worker, 20 000 connections, 10 s for a header, no engine to start.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            workers: 1,
            max_connections: 20_000,
            header_timeout: Duration::from_secs(10),
            respawn_engine: None,
        }
    }
}

/// Why a director could not run.
#[derive(Debug, thiserror::Error)]
pub enum DirectorError {
    /// The state directory can't be used.
    #[error("can't use {path} in the director's state directory: {source}")]
    State {
        /// What of it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another director has the state directory.
    #[error("another director runs with the state directory {0}: stop it, or use another directory")]
    Locked(PathBuf),
    /// A thread could not be started, or broke.
    #[error("worker {index}: {why}")]
    Worker {
        /// Which.
        index: usize,
        /// In words.
        why: String,
    },
    /// The runtime could not be made.
    #[error("the runtime can't start: {0}")]
    Runtime(io::Error),
    /// What the director was started with can't be served.
    #[error("can't serve: {0}")]
    Config(String),
}

/// Runs a director until it is told to end (by its control socket, SIGTERM or SIGINT).
///
/// # Errors
/// When the state directory can't be used or belongs to another director, or a worker breaks.
pub fn run(options: DirectorOptions) -> Result<(), DirectorError> {
    start(options, None)
}

/// Runs a director that serves one service by itself, with no engine: cells with their weights, all in one region.
///
/// # Errors
/// As [`run`], and when the weights or settings are not valid.
pub fn standalone(
    listen: SocketAddr,
    cells: &[(SocketAddr, Weight)],
    settings: ServiceSettings,
    state_dir: &Path,
    workers: usize,
) -> Result<(), DirectorError> {
    let config = standalone_config(listen, cells, settings).map_err(DirectorError::Config)?;
    start(DirectorOptions { workers, ..DirectorOptions::new(state_dir) }, Some(config))
}

fn standalone_config(
    listen: SocketAddr,
    cells: &[(SocketAddr, Weight)],
    mut settings: ServiceSettings,
) -> Result<DirectorConfig, String> {
    let words = |error: forefend_domain::DomainError| error.to_string();
    settings.listen = vec![listen];
    let service = ServiceId::new("standalone").map_err(words)?;
    let region = RegionId::new("local").map_err(words)?;
    let mut weights = BTreeMap::new();
    let mut routes = Vec::new();
    for (n, (address, weight)) in cells.iter().enumerate() {
        let cell = CellId::new(&format!("cell-{n}")).map_err(words)?;
        weights.insert(cell.clone(), *weight);
        routes.push(Route { cell, region: region.clone(), address: *address });
    }
    let weights = ServiceWeights::new(
        BTreeMap::from([(region.clone(), Weight::FULL)]),
        BTreeMap::from([(region, weights)]),
    )
    .map_err(words)?;
    Ok(DirectorConfig {
        routing: Routing {
            generation: 0,
            services: BTreeMap::from([(service.clone(), ServiceRouting { cells: routes, weights })]),
        },
        services: BTreeMap::from([(service, settings)]),
    })
}

fn start(options: DirectorOptions, fixed: Option<DirectorConfig>) -> Result<(), DirectorError> {
    let _lock = claim(&options.state_dir)?;
    let clock = Clock::start();
    let incarnation = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DirectorError::Runtime)?;
    let mut senders = Vec::new();
    let mut threads = Vec::new();
    let (broken, mut breaks) = mpsc::channel::<usize>(options.workers.max(1));
    for index in 0..options.workers.max(1) {
        let (sender, commands) = mpsc::channel(4);
        senders.push(sender);
        let limits = worker::Limits {
            workers: options.workers.max(1),
            max_connections: options.max_connections.max(1),
            header: options.header_timeout,
        };
        let alarm = Alarm { index, broken: broken.clone() };
        let thread = std::thread::Builder::new()
            .name(format!("director-{index}"))
            .spawn(move || {
                let _alarm = alarm;
                worker::run(index, clock, limits, commands)
            })
            .map_err(|error| DirectorError::Worker { index, why: error.to_string() })?;
        threads.push(thread);
    }
    drop(broken);
    let local = LocalSet::new();
    let ended = local.block_on(&runtime, async {
        let mut director = Director::new(options.state_dir.clone(), clock, incarnation, senders);
        match fixed {
            Some(config) => {
                director.apply(config).await.map_err(|error| DirectorError::Config(error.to_string()))?;
            }
            None => resume(&mut director, &options.state_dir).await?,
        }
        tracing::info!(services = ?director.services(), "serving");
        let (engine, engine_seen) = watch::channel(Engine::default());
        if let Some(argv) = options.respawn_engine.clone() {
            tokio::task::spawn_local(keep_engine(argv, options.state_dir.clone(), engine_seen));
        }
        let socket = control::listen(&options.state_dir)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(DirectorError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DirectorError::Runtime)?;
        let drain = tokio::select! {
            end = control::serve(socket, &mut director, engine) => match end {
                End::Asked { drain } => drain,
                End::Stuck(why) => return Err(DirectorError::Worker { index: 0, why }),
            },
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
            index = breaks.recv() => {
                let index = index.unwrap_or_default();
                return Err(DirectorError::Worker { index, why: "its thread ended".into() });
            }
        };
        let time = if drain { director.drain_timeout() } else { Duration::ZERO };
        director.shutdown(time).await;
        Ok(())
    });
    ended?;
    for (index, thread) in threads.into_iter().enumerate() {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(DirectorError::Worker { index, why: error.to_string() }),
            Err(_) => return Err(DirectorError::Worker { index, why: "it panicked".into() }),
        }
    }
    Ok(())
}

/// Tells the control thread when a worker's thread ends, by return or by panic.
struct Alarm {
    index: usize,
    broken: mpsc::Sender<usize>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // Full or closed: the end is known already.
        let _ = self.broken.try_send(self.index);
    }
}

async fn resume(director: &mut Director, state_dir: &Path) -> Result<(), DirectorError> {
    let state = |source| DirectorError::State { path: state_dir.to_owned(), source };
    let Some(journal) = Journal::read(state_dir).map_err(state)? else { return Ok(()) };
    match director.resume(journal).await {
        Ok(()) => Ok(()),
        Err(ApplyError::Invalid(why)) => journal::set_aside(state_dir, &why).map(drop).map_err(state),
        // An address that is taken is no fault of the journal: keep it for the next start.
        Err(error) => Err(DirectorError::Config(error.to_string())),
    }
}

/// Takes the state directory for this process, for as long as the lock lives.
fn claim(dir: &Path) -> Result<Flock<File>, DirectorError> {
    let state = |path: &Path| {
        let path = path.to_owned();
        move |source| DirectorError::State { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(state(dir))?;
    let lock = dir.join("director.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock)
        .map_err(state(&lock))?;
    let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => DirectorError::Locked(dir.to_owned()),
        other => state(&lock)(other.into()),
    })?;
    let pid = dir.join("director.pid");
    let mut file = File::create(&pid).map_err(state(&pid))?;
    writeln!(file, "{}", std::process::id()).map_err(state(&pid))?;
    Ok(held)
}
