//! What an engine needs before its loop can begin.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use forefend_cells::{SandboxDriver, SandboxOptions};
use forefend_chaos::experiment::{self, Experiment};
use forefend_config::Config;
use forefend_control::Snapshot;
use forefend_domain::{Timestamp, ports::Clock as _};
use forefend_store::{RedbStore, StoreError};
use forefend_telemetry::{Collector, CollectorOptions, MetricSpec, StoreOptions};
use tokio::sync::watch;

use super::{
    EngineError, EngineOptions, assemble,
    blueprints::Blueprints,
    clock::SteadyClock,
    director::{DirectorSpec, Keeper},
};
use crate::api::{ApiOptions, EngineHandle, MetricNow, Server};

/// How long a lock of a predecessor that was just killed is waited for.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn open_store(path: &Path) -> Result<RedbStore, StoreError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match RedbStore::open(path) {
            // A predecessor that was killed may not be quite gone.
            Err(StoreError::Locked { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

pub(super) fn cell_driver(
    options: &EngineOptions,
    config: &Config,
    state_dir: &Path,
    blueprints: &Arc<Blueprints>,
) -> Result<Option<SandboxDriver>, EngineError> {
    if config.blueprints.is_empty() {
        return Ok(None);
    }
    let sandbox = SandboxOptions {
        accept_missing: assemble::accept_missing(config, options.accept_missing_protections),
        clock: assemble::clock_library(state_dir),
        ..SandboxOptions::new(state_dir)
    };
    let driver =
        SandboxDriver::new(sandbox, Arc::clone(blueprints) as Arc<dyn forefend_cells::BlueprintSource>)?;
    for (protection, why) in &driver.protections().missing {
        tracing::warn!("this host lacks {protection} ({why}); {}", protection.lost());
    }
    Ok(Some(driver))
}

pub(super) fn start_director(
    options: &EngineOptions,
    config: &Config,
    director_dir: &Path,
) -> Result<Option<Keeper>, EngineError> {
    if !options.keeps_director {
        return Ok(None);
    }
    let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let spec = DirectorSpec {
        state_dir: director_dir.to_owned(),
        workers: config.director.workers.unwrap_or(cores),
        exe: std::env::current_exe().map_err(EngineError::io("the path of this program"))?,
        respawn: options.respawn.clone(),
    };
    Keeper::start(spec).map(Some)
}

pub(super) fn collector(config: &Config, clock: SteadyClock, runtime: &tokio::runtime::Runtime) -> Collector {
    let window = &config.engine.window;
    let steps = (window.length.as_secs_f64() / window.step.as_secs_f64()).ceil() as usize;
    let store = StoreOptions { step: window.step, length: steps.max(12), ..StoreOptions::default() };
    let options = CollectorOptions { store, ..CollectorOptions::new(Arc::new(move || clock.now())) };
    Collector::new(options, runtime.handle().clone())
}

pub(super) fn metric_now((spec, newest): (MetricSpec, Option<(Timestamp, f64)>)) -> MetricNow {
    let MetricSpec { name, family, kind, unit, limit, counter: _ } = spec;
    let (at, value) = newest.unzip();
    MetricNow { name, family, kind, unit, limit, value, at }
}

pub(super) fn serve_api(
    options: &ApiOptions,
    handle: EngineHandle,
    mut stopping: watch::Receiver<bool>,
    runtime: &tokio::runtime::Runtime,
) -> Result<SocketAddr, EngineError> {
    // A predecessor that was killed may hold the address for a moment.
    let deadline = Instant::now() + LOCK_PATIENCE;
    let server = loop {
        match Server::bind(options, handle.clone()) {
            Err(crate::api::ServeError::Listen { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    };
    let address = server.local_addr();
    runtime.spawn(server.run(async move {
        // Ends when told to, or when the engine is gone.
        let _ = stopping.wait_for(|stop| *stop).await;
    }));
    Ok(address)
}

/// Where the API listens, for commands that are given a state directory's configuration with port 0.
pub(super) fn write_address(state_dir: &Path, address: SocketAddr) -> Result<(), EngineError> {
    let path = state_dir.join("api.address");
    std::fs::write(&path, address.to_string()).map_err(EngineError::io(path.display().to_string()))
}

pub(super) fn empty_snapshot(clock: &SteadyClock) -> Snapshot {
    Snapshot {
        tick: 0,
        world: forefend_domain::World {
            now: clock.now(),
            frozen: false,
            services: std::collections::BTreeMap::new(),
            approved: std::collections::BTreeSet::new(),
            requested: std::collections::BTreeMap::new(),
        },
        predictions: std::collections::BTreeMap::new(),
        plan: forefend_domain::Plan::default(),
        shifts: Vec::new(),
        pre_tests: Vec::new(),
        degraded: Vec::new(),
    }
}

/// The experiments that begin by themselves.
pub(super) fn scheduled(config: &Config) -> Result<Vec<Experiment>, EngineError> {
    config.engine.drills.experiments.iter().map(|path| Ok(experiment::load(path)?)).collect()
}
