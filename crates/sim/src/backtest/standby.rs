//! The cells that were never there.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use forefend_domain::{
    BlueprintHash, Cell, CellId, DomainError, Passport, Policy, Rate, Stage, Timestamp,
    ports::{CellCommand, CellObservation, DriverStage, PortError},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Making {
    Creating { until: Timestamp },
    Warming { until: Timestamp, since: Timestamp },
    Ready,
    Parked,
}

#[derive(Debug, Clone)]
struct Standby {
    cell: Cell,
    making: Making,
    warmed_at: Option<Timestamp>,
    took: Vec<(Stage, Duration)>,
    address: SocketAddr,
}

/// A driver whose cells are always well, and take as long to make as the policy assumes.
#[derive(Debug)]
pub(crate) struct Standbys {
    cells: BTreeMap<CellId, Standby>,
    create: Duration,
    warm_up: Duration,
    warm_requests: u32,
    capacity: Option<Rate>,
    hash: BlueprintHash,
    made: u32,
}

impl Standbys {
    pub(crate) fn new(policy: &Policy, capacity: Option<Rate>) -> Result<Self, DomainError> {
        Ok(Self {
            cells: BTreeMap::new(),
            create: policy.lead_time_prior(Stage::Create),
            warm_up: policy.lead_time_prior(Stage::WarmUp),
            warm_requests: policy.canary.warm_requests,
            capacity,
            hash: BlueprintHash::new("assumed")?,
            made: 0,
        })
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        for standby in self.cells.values_mut() {
            if let Making::Creating { until } = standby.making
                && until <= now
            {
                standby.took.push((Stage::Create, self.create));
                standby.making = Making::Warming { until: until + self.warm_up, since: until };
            }
            if let Making::Warming { until, since } = standby.making
                && until <= now
            {
                standby.took.push((Stage::WarmUp, until.since(since)));
                standby.warmed_at = Some(until);
                standby.making = Making::Ready;
            }
        }
    }

    /// How many are there, running and frozen.
    pub(crate) fn count(&self) -> (usize, usize) {
        let parked = self.cells.values().filter(|s| s.making == Making::Parked).count();
        (self.cells.len() - parked, parked)
    }

    /// Those that answer.
    pub(crate) fn answering(&self) -> impl Iterator<Item = &CellId> {
        let answers = |making: Making| matches!(making, Making::Ready | Making::Warming { .. });
        self.cells.iter().filter(move |(_, s)| answers(s.making)).map(|(id, _)| id)
    }

    pub(crate) fn contains(&self, cell: &CellId) -> bool {
        self.cells.contains_key(cell)
    }

    pub(crate) fn observe(&mut self) -> Vec<CellObservation> {
        let Self { cells, hash, warm_requests, capacity, .. } = self;
        let observed = cells.values_mut().map(|standby| CellObservation {
            cell: standby.cell.clone(),
            stage: match standby.making {
                Making::Creating { .. } => DriverStage::Creating,
                Making::Warming { .. } => DriverStage::Warming,
                Making::Ready => DriverStage::Ready,
                Making::Parked => DriverStage::Parked,
            },
            address: (!matches!(standby.making, Making::Creating { .. })).then_some(standby.address),
            passport: standby.warmed_at.map(|warmed_at| Passport {
                blueprint: hash.clone(),
                current: true,
                warmed_at,
                warm_requests: *warm_requests,
                warm_ok: *warm_requests,
                measured_capacity: *capacity,
            }),
            took: std::mem::take(&mut standby.took),
        });
        observed.collect()
    }

    pub(crate) fn request(&mut self, now: Timestamp, command: CellCommand) -> Result<(), PortError> {
        let no_such = || PortError::Refused { port: "cell driver", why: "no such cell".to_owned() };
        let (id, making) = match command {
            CellCommand::Create { cell, .. } => {
                self.made += 1;
                let port = u16::try_from(self.made % 60_000).unwrap_or(0) + 1;
                let made = Standby {
                    cell: cell.clone(),
                    making: Making::Creating { until: now + self.create },
                    warmed_at: None,
                    took: Vec::new(),
                    address: SocketAddr::from(([127, 0, 0, 2], port)),
                };
                self.cells.entry(cell.id).or_insert(made);
                return Ok(());
            }
            CellCommand::Retire { cell } => {
                return self.cells.remove(&cell).map(|_| ()).ok_or_else(no_such);
            }
            CellCommand::Recreate { cell } => (cell, Making::Creating { until: now + self.create }),
            CellCommand::Rewarm { cell } => (cell, Making::Warming { until: now + self.warm_up, since: now }),
            CellCommand::Park { cell } => (cell, Making::Parked),
            CellCommand::Unpark { cell } => (cell, Making::Ready),
        };
        self.cells.get_mut(&id).ok_or_else(no_such)?.making = making;
        Ok(())
    }
}
