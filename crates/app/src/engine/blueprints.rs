//! The file's blueprints in the driver's form, versioned in the store.

use std::{collections::BTreeMap, sync::Arc};

use forefend_cells::{
    Blueprint, BlueprintError, BlueprintSource, CheckedBlueprint, Dependency, EnvReference, EnvValue, Image,
    InMemoryBlueprints, Network, Readiness, Replay, ReplayMethod, Resources, WarmUp,
};
use forefend_config::{Config, model};
use forefend_domain::{BlueprintName, Bytes, Probability, ports::PortError};
use forefend_store::{EngineStore, StoreError};

/// The newest versions at hand, every version in the store.
#[derive(Debug, Default)]
pub(crate) struct Blueprints(InMemoryBlueprints);

/// A blueprint could not be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    #[error(transparent)]
    Blueprint(#[from] BlueprintError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TakeOverError> for super::EngineError {
    fn from(error: TakeOverError) -> Self {
        match error {
            TakeOverError::Blueprint(e) => Self::Blueprint(e),
            TakeOverError::Store(e) => Self::Store(e),
        }
    }
}

impl Blueprints {
    /// Puts the file's blueprints into the store, where each content is a version, and makes them the newest.
    pub(crate) fn take_over(&self, config: &Config, store: &impl EngineStore) -> Result<(), TakeOverError> {
        let checked = checked(config)?;
        for blueprint in checked.values() {
            let content = serde_json::to_vec(blueprint.blueprint()).unwrap_or_default();
            store.put_blueprint(&blueprint.blueprint().name, &content, blueprint.hash())?;
            self.0.put(blueprint.blueprint().clone())?;
        }
        Ok(())
    }
}

impl BlueprintSource for Blueprints {
    fn latest(&self, name: &BlueprintName) -> Result<Option<Arc<CheckedBlueprint>>, PortError> {
        self.0.latest(name)
    }
}

/// Every blueprint of the file, checked as the driver checks it.
pub(crate) fn checked(config: &Config) -> Result<BTreeMap<BlueprintName, CheckedBlueprint>, BlueprintError> {
    config
        .blueprints
        .iter()
        .map(|(name, written)| Ok((name.clone(), CheckedBlueprint::new(blueprint(name, written))?)))
        .collect()
}

fn blueprint(name: &BlueprintName, written: &model::BlueprintConfig) -> Blueprint {
    Blueprint {
        name: name.clone(),
        image: match &written.image {
            model::Image::Host(read_only) => Image::Host { read_only: read_only.clone() },
            model::Image::Directory(path) => Image::Directory { path: path.clone() },
        },
        command: written.command.clone(),
        env: written.env.iter().map(|(name, value)| (name.clone(), env(value))).collect(),
        dependencies: written
            .dependencies
            .iter()
            .map(|(name, dependency)| {
                let dependency = match dependency {
                    model::Dependency::Service(service) => Dependency::Service(service.clone()),
                    model::Dependency::Address(address) => Dependency::Address(*address),
                };
                (name.clone(), dependency)
            })
            .collect(),
        network: Network { port: written.network.port, connect_ports: written.network.connect_ports.clone() },
        resources: Resources {
            memory: Bytes(written.resources.memory.0),
            cpu_share: f64::from(written.resources.cpu.milli_cores) / 1_000.0,
            pids_max: written.resources.pids,
            open_files: written.resources.open_files,
            tmp: Bytes(written.resources.tmp.0),
        },
        warm_up: warm_up(&written.warm_up),
        readiness: Readiness { path: written.readiness.path.clone(), timeout: written.readiness.timeout },
        stop_grace: written.stop_grace,
        adjustable_clock: written.adjustable_clock,
    }
}

fn env(value: &model::EnvValue) -> EnvValue {
    match value {
        model::EnvValue::Text(text) => EnvValue::Text(text.clone()),
        model::EnvValue::Env(name) => EnvValue::Reference(EnvReference::FromEnv(name.clone())),
        model::EnvValue::File(path) => EnvValue::Reference(EnvReference::FromFile(path.clone())),
    }
}

fn warm_up(written: &model::WarmUp) -> WarmUp {
    WarmUp {
        connect: written.connect,
        preload: written.preload.clone(),
        replay: written
            .replay
            .iter()
            .map(|replay| Replay {
                method: match replay.method {
                    model::ReplayMethod::Get => ReplayMethod::Get,
                    model::ReplayMethod::Head => ReplayMethod::Head,
                },
                path: replay.path.clone(),
                count: replay.count,
                concurrency: replay.concurrency,
                expect_status: replay.expect_status,
            })
            .collect(),
        min_ok: Probability::clamped(written.min_ok.get(), Probability::ONE),
        request_timeout: written.request_timeout,
        timeout: written.timeout,
    }
}
