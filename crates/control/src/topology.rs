use std::{collections::BTreeMap, net::SocketAddr};

use forefend_domain::{Cell, CellId, Service, ServiceId, ServiceWeights};

/// What the operator's configuration says there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topology {
    /// By service.
    pub services: BTreeMap<ServiceId, ServiceSpec>,
}

/// One service as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSpec {
    /// Objective and policy.
    pub service: Service,
    /// Where its traffic goes in normal times.
    pub home: ServiceWeights,
    /// Its primaries and secondaries.
    pub cells: BTreeMap<CellId, CellSpec>,
}

/// One configured cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellSpec {
    /// Identity and place.
    pub cell: Cell,
    /// Where it listens, when somebody else runs it.
    pub address: Option<SocketAddr>,
}
