use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use forefend_domain::{BlueprintHash, BlueprintName, ports::PortError};

use crate::{Blueprint, BlueprintError};

/// A blueprint whose content was checked, with its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedBlueprint {
    blueprint: Blueprint,
    hash: BlueprintHash,
}

impl CheckedBlueprint {
    /// Checks and hashes.
    ///
    /// # Errors
    /// When [`Blueprint::validate`] finds it unusable.
    pub fn new(blueprint: Blueprint) -> Result<Self, BlueprintError> {
        blueprint.validate()?;
        let hash = blueprint.content_hash();
        Ok(Self { blueprint, hash })
    }

    /// The blueprint.
    #[must_use]
    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// Its content hash.
    #[must_use]
    pub fn hash(&self) -> &BlueprintHash {
        &self.hash
    }
}

/// Where drivers find blueprints. It is asked at every observation of a cell, so implementations keep the newest version at
/// hand; they may be called from any thread.
pub trait BlueprintSource: Send + Sync {
    /// The newest version; `None` when there is no blueprint of this name.
    ///
    /// # Errors
    /// When the source can't be read.
    fn latest(&self, name: &BlueprintName) -> Result<Option<Arc<CheckedBlueprint>>, PortError>;
}

/// Blueprints in memory.
#[derive(Debug, Default)]
pub struct InMemoryBlueprints(Mutex<BTreeMap<BlueprintName, Arc<CheckedBlueprint>>>);

impl InMemoryBlueprints {
    /// Adds a blueprint or a newer version of it.
    ///
    /// # Errors
    /// When [`Blueprint::validate`] finds it unusable; the older version then stays.
    pub fn put(&self, blueprint: Blueprint) -> Result<BlueprintHash, BlueprintError> {
        let checked = CheckedBlueprint::new(blueprint)?;
        let hash = checked.hash.clone();
        let name = checked.blueprint.name.clone();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(checked));
        Ok(hash)
    }
}

impl BlueprintSource for InMemoryBlueprints {
    fn latest(&self, name: &BlueprintName) -> Result<Option<Arc<CheckedBlueprint>>, PortError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }
}
