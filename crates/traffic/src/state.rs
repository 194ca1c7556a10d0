//! What the control thread knows: the configuration in force, the cells, the workers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use forefend_domain::{
    CellId, ServiceId,
    ports::{CellReport, DataPlaneReport},
};
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};

use crate::{
    cell::{Cell, Clock},
    health::Checks,
    journal::Journal,
    stats::CellStats,
    table::{Placement, Table},
    validate,
    wire::DirectorConfig,
    worker::{Command, ServicePart},
};

/// Connections the kernel queues for each listening socket.
const BACKLOG: i32 = 4_096;
/// A worker that does not take over tables within this time is stuck, and so is the director.
const WORKER_PATIENCE: Duration = Duration::from_secs(5);

/// The director's state.
pub(crate) struct Director {
    state_dir: PathBuf,
    clock: Clock,
    incarnation: u64,
    workers: Vec<mpsc::Sender<Command>>,
    config: DirectorConfig,
    tables: BTreeMap<ServiceId, Arc<Table>>,
    ejecting: BTreeMap<ServiceId, Arc<Mutex<()>>>,
    /// Kept for cells that are gone too: their totals go on should they come back.
    stats: HashMap<CellId, Arc<CellStats>>,
    cells: HashMap<CellId, Arc<Cell>>,
    listening: BTreeMap<SocketAddr, ServiceId>,
    checks: Checks,
}

/// Why a configuration was not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("{0}")]
    Invalid(String),
    #[error("generation {offered} is older than {current}, which is in force")]
    Older { offered: u64, current: u64 },
    #[error("can't listen at {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("can't write the journal in {dir}: {source}")]
    Journal { dir: String, source: io::Error },
    #[error("worker {0} did not take over the tables")]
    Worker(usize),
}

impl Director {
    pub(crate) fn new(
        state_dir: PathBuf,
        clock: Clock,
        incarnation: u64,
        workers: Vec<mpsc::Sender<Command>>,
    ) -> Self {
        Self {
            state_dir,
            clock,
            incarnation,
            workers,
            config: DirectorConfig::default(),
            tables: BTreeMap::new(),
            ejecting: BTreeMap::new(),
            stats: HashMap::new(),
            cells: HashMap::new(),
            listening: BTreeMap::new(),
            checks: Checks::default(),
        }
    }

    /// Serves by a journal, without writing it again.
    pub(crate) async fn resume(&mut self, journal: Journal) -> Result<(), ApplyError> {
        let mut placements = BTreeMap::new();
        for (service, stored) in &journal.placements {
            let placement = Placement::restore(stored)
                .map_err(|error| ApplyError::Invalid(format!("service {service}: {error}")))?;
            placements.insert(service.clone(), placement);
        }
        self.take_over(journal.config, &placements, false).await
    }

    /// Serves by `config` from now on; on an error everything is as before.
    pub(crate) async fn apply(&mut self, config: DirectorConfig) -> Result<(), ApplyError> {
        let (offered, current) = (config.routing.generation, self.config.routing.generation);
        if offered < current {
            return Err(ApplyError::Older { offered, current });
        }
        validate::check(&config).map_err(ApplyError::Invalid)?;
        if config == self.config {
            return Ok(());
        }
        let placements =
            self.tables.iter().map(|(id, table)| (id.clone(), table.placement.clone())).collect();
        self.take_over(config, &placements, true).await
    }

    async fn take_over(
        &mut self,
        config: DirectorConfig,
        placements: &BTreeMap<ServiceId, Placement>,
        journal: bool,
    ) -> Result<(), ApplyError> {
        let mut cells = HashMap::new();
        let mut tables = BTreeMap::new();
        let blank = Placement::default();
        for (id, settings) in &config.services {
            let placement = placements.get(id).unwrap_or(&blank);
            let settings = match self.tables.get(id) {
                Some(old) if *old.settings == *settings => Arc::clone(&old.settings),
                _ => Arc::new(settings.clone()),
            };
            let table = match config.routing.services.get(id) {
                None => Table::empty(settings, placement.clone()),
                Some(routing) => Table::new(settings, routing, placement, |route| {
                    let cell = match self.cells.get(&route.cell) {
                        Some(cell) if cell.address == route.address => Arc::clone(cell),
                        _ => {
                            let workers = self.workers.len();
                            let stats = self.stats.entry(route.cell.clone());
                            let stats = stats.or_insert_with(|| Arc::new(CellStats::new(workers)));
                            Arc::new(Cell::new(route.cell.clone(), route.address, Arc::clone(stats)))
                        }
                    };
                    cells.insert(route.cell.clone(), Arc::clone(&cell));
                    cell
                })
                .map_err(|error| ApplyError::Invalid(format!("service {id}: {error}")))?,
            };
            tables.insert(id.clone(), Arc::new(table));
        }
        let listening: BTreeMap<SocketAddr, ServiceId> = config
            .services
            .iter()
            .flat_map(|(id, settings)| settings.listen.iter().map(|address| (*address, id.clone())))
            .collect();
        let mut opened = self.open(&listening)?;
        if journal {
            let placements = tables.iter().map(|(id, table)| (id.clone(), table.placement.store())).collect();
            Journal::new(config.clone(), placements).write(&self.state_dir).map_err(|source| {
                ApplyError::Journal { dir: self.state_dir.display().to_string(), source }
            })?;
        }
        self.ejecting.retain(|id, _| tables.contains_key(id));
        for id in tables.keys() {
            self.ejecting.entry(id.clone()).or_default();
        }
        for index in 0..self.workers.len() {
            let services = tables
                .iter()
                .map(|(id, table)| {
                    let part =
                        ServicePart { table: Arc::clone(table), ejecting: Arc::clone(&self.ejecting[id]) };
                    (id.clone(), part)
                })
                .collect();
            let opened = opened.iter_mut().filter_map(|(at, sockets)| Some((*at, sockets.pop()?))).collect();
            let (done, taken) = oneshot::channel();
            let sent = self.workers[index].send(Command::Apply { services, opened, done }).await;
            let taken = tokio::time::timeout(WORKER_PATIENCE, taken).await;
            if sent.is_err() || !matches!(taken, Ok(Ok(()))) {
                return Err(ApplyError::Worker(index));
            }
        }
        self.checks.follow(tables.values());
        self.config = config;
        self.tables = tables;
        self.cells = cells;
        self.listening = listening;
        Ok(())
    }

    /// Sockets for the addresses that are new, one for each worker.
    fn open(
        &self,
        wanted: &BTreeMap<SocketAddr, ServiceId>,
    ) -> Result<BTreeMap<SocketAddr, Vec<std::net::TcpListener>>, ApplyError> {
        let new = wanted.iter().filter(|(at, service)| self.listening.get(at) != Some(service));
        new.map(|(address, _)| {
            let sockets = (0..self.workers.len()).map(|_| listen(*address)).collect::<io::Result<Vec<_>>>();
            Ok((*address, sockets.map_err(|source| ApplyError::Listen { address: *address, source })?))
        })
        .collect()
    }

    /// What is applied and was seen; begins the latencies anew.
    pub(crate) fn report(&self) -> DataPlaneReport {
        let now_ms = self.clock.ms();
        let cells = self.cells.values().map(|cell| {
            let totals = cell.stats.take();
            let (health, why) = cell.health(now_ms);
            let report = CellReport {
                requests: totals.requests,
                errors: totals.errors,
                slow: totals.slow,
                in_flight: totals.in_flight,
                p50: totals.p50,
                p99: totals.p99,
                health,
                why,
            };
            (cell.id.clone(), report)
        });
        DataPlaneReport {
            incarnation: self.incarnation,
            generation: self.config.routing.generation,
            effective: self
                .config
                .routing
                .services
                .keys()
                .filter_map(|id| Some((id.clone(), self.tables.get(id)?.weights.clone())))
                .collect(),
            cells: cells.collect(),
        }
    }

    /// The longest time that any service allows for requests in flight.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.config.services.values().map(|settings| settings.drain_timeout).max().unwrap_or_default()
    }

    /// Tells all workers to end.
    pub(crate) async fn shutdown(&self, drain: Duration) {
        for worker in &self.workers {
            // A worker that is gone has ended already.
            let _ = worker.send(Command::Shutdown { drain }).await;
        }
    }

    /// The services served, for the log.
    pub(crate) fn services(&self) -> BTreeSet<&ServiceId> {
        self.tables.keys().collect()
    }
}

/// A listening socket that others of this director, and its successor after a crash, can share the address with.
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(IpProtocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
