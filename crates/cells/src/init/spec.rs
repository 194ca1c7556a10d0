use std::{collections::BTreeMap, collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::Protection;

/// All that the init of a cell must know. Travels through pipes only, for it may hold secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InitSpec {
    /// Which try at making this cell it is.
    pub(crate) attempt: u64,
    /// The cell's directory on the host.
    pub(crate) dir: PathBuf,
    pub(crate) hostname: String,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// The protections to set up; failing in one of them fails the cell.
    pub(crate) protections: BTreeSet<Protection>,
    /// Whether to enter a user namespace first, which gives an unprivileged engine the others.
    pub(crate) user_namespace: bool,
    /// The user id to take.
    pub(crate) uid: Option<u32>,
    /// An unpacked root file system, or `None` for the host's programs.
    pub(crate) image: Option<PathBuf>,
    /// Paths of the host to show besides.
    pub(crate) read_only: Vec<PathBuf>,
    /// Where the cell sees its data directory, and where it may keep temporary files.
    pub(crate) data: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) tmp_bytes: u64,
    pub(crate) cgroup_procs: Vec<PathBuf>,
    pub(crate) open_files: u64,
    /// Stand-ins for missing cgroup limits.
    pub(crate) data_limit_bytes: Option<u64>,
    pub(crate) process_limit: Option<u64>,
    pub(crate) bind_port: u16,
    pub(crate) connect_ports: Vec<u16>,
    pub(crate) log_bytes: u64,
}

/// `process.json`: the process of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launched {
    pub(crate) attempt: u64,
    pub(crate) pid: i32,
    /// In clock ticks since boot: with the pid it names a process for good (proc(5), field 22).
    pub(crate) start_time: u64,
}

/// `exit.json`: how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) attempt: u64,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// What the probe found missing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProbeReport {
    pub(crate) missing: BTreeMap<Protection, String>,
    pub(crate) landlock_abi: Option<u32>,
}
