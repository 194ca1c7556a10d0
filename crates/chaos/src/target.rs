use std::{net::SocketAddr, path::PathBuf};

use forefend_domain::CellId;
use serde::{Deserialize, Serialize};

/// A cell on this machine, as far as faults must know it. Everything but its processes is looked up or may be left out; a
/// fault that needs what is not known says so and does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name.
    pub cell: CellId,
    /// Its first process; its descendants belong to it.
    pub pid: i32,
    /// Where it listens.
    #[serde(default)]
    pub address: Option<SocketAddr>,
    /// Its data directory, as the host sees it.
    #[serde(default)]
    pub data: Option<PathBuf>,
    /// Its log, as the host sees it.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// The file that holds its clock's offset, if it was started with the clock library preloaded.
    #[serde(default)]
    pub clock: Option<PathBuf>,
}
