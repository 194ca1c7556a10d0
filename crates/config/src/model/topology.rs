use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use forefend_domain::{BlueprintName, CellId, RegionId, ServiceId, Weight, ZoneId};

use super::{ApiConfig, BlueprintConfig, DirectorConfig, EngineConfig, Role, ServiceConfig, Version};
use crate::setting::all_defaults;

section! {
    /// The whole file.
    pub struct Config {
        /// The version of this format; always 1.
        version: Version,
        /// The engine: watches, predicts, decides, acts, and answers operators.
        engine: EngineConfig = all_defaults(),
        /// The director: the data plane that passes requests on to cells.
        director: DirectorConfig = all_defaults(),
        /// Where cells can run, by the region's name.
        regions: BTreeMap<RegionId, RegionConfig>,
        /// What cells can be made from, by the blueprint's name.
        blueprints: BTreeMap<BlueprintName, BlueprintConfig> = BTreeMap::new(),
        /// What is protected, by the service's name.
        services: BTreeMap<ServiceId, ServiceConfig>,
    }
}

section! {
    /// A region and its zones.
    pub struct RegionConfig {
        /// Its zones: parts of the region that fail as one. Names are unique over all regions.
        zones: Vec<ZoneId>,
        /// Its share of each service's traffic when nothing is shifted. All regions have one and they add up to 100%, or none
        /// has and the regions with primaries share evenly. A service that isn't in all regions spreads over those it is in, in
        /// proportion.
        weight: Option<Weight>,
    }
}

section! {
    /// One running copy of a service.
    pub struct CellConfig {
        /// Its name, unique over all services.
        id: CellId,
        /// The zone it runs in.
        zone: ZoneId,
        /// The region it runs in; need not be said, for the zone tells it.
        region: Option<RegionId>,
        /// `primary` carries traffic in normal times; `secondary` stands beside.
        role: Role = Role::Primary,
        /// Where it listens, for a cell that somebody else runs.
        address: Option<SocketAddr>,
        /// What it is made from, for a cell that Forefend runs. A cell has either this or an address.
        blueprint: Option<BlueprintName>,
        /// Its share of its region's traffic when nothing is shifted. In each region all of the service's primaries have one and
        /// the region's add up to 100%, or none has and the primaries share evenly.
        weight: Option<Weight>,
        /// Where its metrics are scraped, if not at its address.
        metrics_address: Option<SocketAddr>,
        /// The file with its process id, for a cell that somebody else runs on this host: then its memory, CPU, file descriptors and
        /// threads are read too.
        pid_file: Option<PathBuf>,
        /// Its cgroup's directory, for a cell that somebody else runs on this host, for example `/sys/fs/cgroup/system.slice/nginx.service`.
        cgroup: Option<PathBuf>,
        /// The files of its logs, besides `logs.paths` of its service, which must have the section `logs`.
        logs: Vec<PathBuf> = Vec::new(),
        /// Labels by which the Prometheus of `engine.prometheus` knows it, if not by its name or an address: `{ pod: shop-6d9f }`. A series that has
        /// all of them with these values is its.
        known_as: BTreeMap<String, String> = BTreeMap::new(),
    }
}

section! {
    /// What synthetic cells of a service are made from, and where.
    pub struct MirrorConfig {
        /// The blueprint.
        blueprint: BlueprintName,
        /// The zones in which they may be placed, most wanted first. By default every zone.
        zones: Vec<ZoneId> = Vec::new(),
    }
}

/// The engine's API, for callers that need nothing else of the engine.
impl Config {
    /// How operators reach the engine.
    #[must_use]
    pub fn api(&self) -> &ApiConfig {
        &self.engine.api
    }
}
