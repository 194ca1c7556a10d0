use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use forefend_domain::{Cell, CellId, ServiceId, Stage, ports::DriverStage};
use tokio::sync::Notify;

use super::{SandboxOptions, address, free_uid};
use crate::{
    BlueprintSource, CheckedBlueprint, Protection, Protections,
    blueprint::Dependency,
    cgroup::{CgroupHost, Groups},
    record::{self, Record, SavedStage},
};

/// What the driver and the actors of its cells share.
pub(super) struct Context {
    pub(super) options: SandboxOptions,
    pub(super) exe: PathBuf,
    pub(super) protections: Protections,
    pub(super) instance: String,
    pub(super) cgroups: CgroupHost,
    pub(super) blueprints: Arc<dyn BlueprintSource>,
    /// Whether cells get user ids of their own.
    pub(super) own_users: bool,
    entries: Mutex<BTreeMap<CellId, Entry>>,
}

/// A cell as the driver knows it.
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) stage: DriverStage,
    pub(super) desired: Desired,
    pub(super) took: Vec<(Stage, Duration)>,
    pub(super) pid: Option<i32>,
    /// When the making or remaking was asked for.
    pub(super) begun: Instant,
    /// Wakes the actor after a change of what is desired.
    pub(super) notify: Arc<Notify>,
}

/// What is wanted of a cell. Commands set it and the actor works towards it, so there is no queue of commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Desired {
    pub(super) parked: bool,
    pub(super) rewarm: bool,
    pub(super) retire: bool,
}

/// Measurements kept for an observer that never comes.
const MAX_TOOK: usize = 32;

impl Entry {
    pub(super) fn new(record: Record, stage: DriverStage) -> Self {
        Self {
            desired: Desired {
                parked: stage == DriverStage::Parked,
                retire: record.retiring,
                ..Desired::default()
            },
            record,
            stage,
            took: Vec::new(),
            pid: None,
            begun: Instant::now(),
            notify: Arc::new(Notify::new()),
        }
    }

    pub(super) fn took(&mut self, stage: Stage, time: Duration) {
        if self.took.len() < MAX_TOOK {
            self.took.push((stage, time));
        }
    }
}

impl Context {
    pub(super) fn new(
        options: SandboxOptions,
        exe: PathBuf,
        protections: Protections,
        instance: String,
        cgroups: CgroupHost,
        blueprints: Arc<dyn BlueprintSource>,
    ) -> Self {
        let own_users = nix::unistd::geteuid().is_root() && protections.has(Protection::OwnUser);
        Self {
            options,
            exe,
            protections,
            instance,
            cgroups,
            blueprints,
            own_users,
            entries: Mutex::default(),
        }
    }

    /// Runs `f` on the cells. Must not block: no lock is held over I/O or an await.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<CellId, Entry>) -> R) -> R {
        f(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn dir(&self, cell: &CellId) -> PathBuf {
        self.options.state_dir.join("cells").join(cell.as_str())
    }

    /// The record of a cell that is to be made: its address and user are chosen here.
    pub(super) fn new_record(&self, cell: Cell, blueprint: &CheckedBlueprint) -> Result<Record, String> {
        let (addresses, uids) = self.with(|entries| {
            let addresses: BTreeSet<SocketAddr> = entries.values().map(|e| e.record.address).collect();
            let uids: BTreeSet<u32> = entries.values().filter_map(|e| e.record.uid).collect();
            (addresses, uids)
        });
        let port = blueprint.blueprint().network.port;
        let address = address::allot(&self.instance, &cell.id, port, &addresses)?;
        let uid = if self.own_users { Some(free_uid(self.options.first_uid, &uids)?) } else { None };
        Ok(Record {
            cell,
            blueprint: blueprint.blueprint().clone(),
            hash: blueprint.hash().clone(),
            address,
            listened: false,
            uid,
            attempt: 0,
            stage: SavedStage::Creating,
            passport: None,
            groups: Groups::default(),
            retiring: false,
        })
    }

    /// Changes a cell's record, writes it down, and only then shows the change, with `shown`, to those who observe: what they
    /// act on is on disk. Called by the cell's actor alone. `None` when the cell is gone.
    pub(super) fn update(
        &self,
        cell: &CellId,
        change: impl FnOnce(&mut Record),
        shown: impl FnOnce(&mut Entry),
    ) -> Option<Record> {
        let mut record = self.with(|entries| entries.get(cell).map(|entry| entry.record.clone()))?;
        change(&mut record);
        if let Err(e) = record::write_json(&self.dir(cell).join(record::CELL), &record) {
            tracing::error!(%cell, "the record can't be written, so a restart may not find this: {e}");
        }
        self.with(|entries| {
            let entry = entries.get_mut(cell)?;
            entry.record = record.clone();
            shown(entry);
            Some(record)
        })
    }

    /// Where what `cell` depends on listens. Of several cells of a service the first by name in the same zone is taken, then
    /// in the same region, so that the choice is the same every time.
    pub(super) fn resolve(&self, record: &Record) -> Result<BTreeMap<String, SocketAddr>, String> {
        let me = &record.cell;
        let find = |service: &ServiceId| {
            self.with(|entries| {
                let of_service = |near: &dyn Fn(&Cell) -> bool| {
                    entries
                        .values()
                        .filter(|e| !e.desired.retire && !matches!(e.stage, DriverStage::Failed { .. }))
                        .find(|e| e.record.cell.service == *service && near(&e.record.cell))
                        .map(|e| e.record.address)
                };
                of_service(&|c| c.zone == me.zone && c.region == me.region)
                    .or_else(|| of_service(&|c| c.region == me.region))
            })
        };
        record
            .blueprint
            .dependencies
            .iter()
            .map(|(name, dependency)| {
                let address = match dependency {
                    Dependency::Address(address) => Some(*address),
                    Dependency::Service(service) => find(service),
                };
                address.map(|address| (name.clone(), address)).ok_or_else(|| {
                    format!(
                        "dependency {name}: there is no working cell of that service in zone {} or region {}",
                        me.zone, me.region
                    )
                })
            })
            .collect()
    }
}
