use std::{net::SocketAddr, path::PathBuf, time::Duration};

use forefend_domain::CellId;

use crate::{
    host::cgroup::CgroupDirs, logs::LogTarget, probe::ProbeTarget, scrape::ScrapeTarget,
    select::MetricSelector,
};

/// From whom and how to collect.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Of which cell.
    pub cell: CellId,
    /// Its metrics, if it exposes any.
    pub scrape: Option<ScrapeTarget>,
    /// How to probe it.
    pub probe: Option<ProbeTarget>,
    /// What to read from the kernel, if it runs on this host.
    pub host: Option<HostTarget>,
    /// Its logs, if they are wanted.
    pub logs: Option<LogTarget>,
    /// What is taken of what it, or somebody for it, pushes.
    pub push: PushTarget,
    /// Whether it is parked: a frozen cell can't answer, so it is neither scraped nor probed. What is known stays.
    pub paused: bool,
}

/// Which telemetry of others is a cell's, and what of what is pushed is taken. A cell is always known by its name too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PushTarget {
    /// Where it listens: senders name it so.
    pub addresses: Vec<SocketAddr>,
    /// What to take. Empty: every gauge and counter up to a bound.
    pub metrics: Vec<MetricSelector>,
    /// By which labels a Prometheus that is asked ([`crate::prometheus`]) knows it. Empty: by its name or an address.
    pub known_as: Vec<(String, String)>,
}

/// What the kernel is asked about a cell on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTarget {
    /// Where procfs is mounted, usually `/proc`.
    pub proc_root: PathBuf,
    /// The cell's main process.
    pub pid: Option<u32>,
    /// The cell's cgroup. What it tells goes before what the process tells.
    pub cgroup: CgroupDirs,
    /// The memory that the cell may use, in bytes; overrides the cgroup's limit.
    pub memory_limit: Option<u64>,
    /// From one reading to the next.
    pub interval: Duration,
}
