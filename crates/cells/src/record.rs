//! What is kept on disk of a cell, so that an engine that comes after finds it: `cells/<id>/`.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use forefend_domain::{BlueprintHash, Cell, Passport};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Blueprint, cgroup::Groups};

/// The record itself; written by the engine.
pub(crate) const CELL: &str = "cell.json";
/// Pid and start time; written by the shim.
pub(crate) const PROCESS: &str = "process.json";
/// How it ended; written by the shim.
pub(crate) const EXIT: &str = "exit.json";
/// Why it could not be started; written by shim or init.
pub(crate) const INIT_ERROR: &str = "init-error";
/// Held by the shim as long as it lives.
pub(crate) const LOCK: &str = "lock";
/// What the cell prints.
pub(crate) const LOG: &str = "cell.log";
/// How far its clock is set off, if that can be done.
pub(crate) const CLOCK: &str = "clock";
/// The cell's own directory.
pub(crate) const DATA: &str = "data";

/// The record of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) cell: Cell,
    pub(crate) blueprint: Blueprint,
    pub(crate) hash: BlueprintHash,
    pub(crate) address: SocketAddr,
    /// Whether it ever answered there.
    pub(crate) listened: bool,
    pub(crate) uid: Option<u32>,
    /// Counts the tries at making it; a shim of an older one gives up.
    pub(crate) attempt: u64,
    pub(crate) stage: SavedStage,
    pub(crate) passport: Option<Passport>,
    pub(crate) groups: Groups,
    /// Whether it is being removed.
    pub(crate) retiring: bool,
}

/// How far it was; whether it is frozen is read from the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SavedStage {
    Creating,
    Warming,
    Ready,
    Failed { why: String },
}

/// Reads a JSON file; `None` when it is not there or not whole.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Replaces a JSON file at once: a reader sees the old or the new content, whoever is killed when.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut temporary: PathBuf = path.to_owned();
    temporary.as_mut_os_string().push(".new");
    let file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    serde_json::to_writer(file, value)?;
    fs::rename(&temporary, path)
}
