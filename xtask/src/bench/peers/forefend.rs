//! Ours: the director alone, as it runs when the engine is gone.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use forefend_domain::{
    CellId, RegionId, ServiceId, ServiceWeights, Weight,
    ports::{DataPlane, Route, Routing, ServiceRouting},
};
use forefend_traffic::{DirectorClient, HealthCheck, ServiceSettings, Sticky};

use super::{CHECK_INTERVAL, Installed, Proxy, Purpose, Setup, TRY, version_of};
use crate::bench::client::USER_HEADER;

/// Where the director keeps its state and its control socket, within the bench's folder.
const STATE: &str = "state";
/// The director's answer to a command, and its taking effect, may take so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// `$FOREFEND`, to compare another revision, or the release build of this one.
pub(super) fn provide(release: &Path) -> Result<Installed> {
    let program = std::env::var_os("FOREFEND").map_or_else(|| release.join("forefend"), Into::into);
    ensure!(program.exists(), "{} does not exist", program.display());
    let version = version_of(&program, "--version")?;
    Ok(Installed { program, version })
}

pub(super) fn configure(setup: &Setup<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["director", "--listen"].map(OsString::from).into();
    arguments.push(setup.listen.to_string().into());
    for cell in setup.cells {
        arguments.extend(["--cell".into(), format!("{}={}", cell.address, cell.weight_bp).into()]);
    }
    arguments.extend(["--workers", "1", "--state-dir"].map(OsString::from));
    arguments.push(setup.folder.join(STATE).into());
    arguments
}

/// Gives it the settings that its peers get by file. Stickiness, checks, ejection and the retry budget are on.
pub(super) fn settle(proxy: &Proxy) -> Result<()> {
    apply(proxy, 1, proxy.cells.map(|cell| cell.weight_bp))
}

/// Over the director's control socket, as the engine does.
pub(super) fn move_weight_away(proxy: &Proxy) -> Result<()> {
    apply(proxy, 2, [0, Weight::FULL.bp()])
}

fn settings(proxy: &Proxy) -> ServiceSettings {
    let sticky = Sticky::Header { name: USER_HEADER.to_owned() };
    let all = ServiceSettings { listen: vec![proxy.listen], sticky, ..ServiceSettings::default() };
    match proxy.purpose {
        Purpose::Throughput { .. } => all,
        Purpose::Failover => ServiceSettings {
            connect_timeout: TRY,
            try_timeout: TRY,
            request_timeout: Duration::from_secs(2),
            max_tries: 4,
            health: HealthCheck {
                path: "/health".to_owned(),
                interval: CHECK_INTERVAL,
                timeout: TRY,
                unhealthy_after: 2,
                healthy_after: 2,
            },
            ..all
        },
    }
}

/// Applies weights and waits until they are read back.
fn apply(proxy: &Proxy, generation: u64, weights_bp: [u32; 2]) -> Result<()> {
    // The names of a director that was started without an engine.
    let (service, region) = (ServiceId::new("standalone")?, RegionId::new("local")?);
    let mut routes = Vec::new();
    let mut weights = BTreeMap::new();
    for (n, (cell, weight_bp)) in proxy.cells.iter().zip(weights_bp).enumerate() {
        let id = CellId::new(&format!("cell-{n}"))?;
        routes.push(Route { cell: id.clone(), region: region.clone(), address: cell.address });
        weights.insert(id, Weight::from_bp(weight_bp)?);
    }
    let weights = ServiceWeights::new(
        BTreeMap::from([(region.clone(), Weight::FULL)]),
        BTreeMap::from([(region, weights)]),
    )?;
    let wanted = ServiceRouting { cells: routes, weights };
    let routing = Routing { generation, services: BTreeMap::from([(service.clone(), wanted.clone())]) };
    let settings = BTreeMap::from([(service.clone(), settings(proxy))]);
    let mut director = DirectorClient::new(&proxy.folder.join(STATE), PATIENCE, settings);
    director.apply(&routing)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = director.report()?;
        if report.generation >= generation && report.effective.get(&service) == Some(&wanted.weights) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the director still applies generation {}, not {generation}", report.generation);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
