//! Active probes: is a cell there, and how long does it take to answer?
//!
//! Every probe opens a connection of its own: a cell that answers old connections but accepts no new ones is not well.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use tokio::{
    net::TcpStream,
    time::{self, Instant},
};

use crate::fetch::{Ask, Client, FetchError};

/// An answer to a probe may be this large; what is longer fails it.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Where and how a cell is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Where it listens.
    pub address: SocketAddr,
    /// Path and query of an HTTP probe; `None`: only whether a TCP connection comes about.
    pub path: Option<String>,
    /// From one probe to the next, whatever became of the last.
    pub interval: Duration,
    /// For one probe, connecting included.
    pub timeout: Duration,
    /// Status codes that count as well.
    pub expect: RangeInclusive<u16>,
    /// An answer that takes longer breaks the service's objective; `None` where the probe is not a request like those of
    /// users.
    pub objective: Option<Duration>,
}

impl ProbeTarget {
    /// The statuses that count as well unless said otherwise: success and redirection.
    pub const EXPECT: RangeInclusive<u16> = 200..=399;

    /// What the latency of probes must not reach: the objective, or the timeout where that is shorter. In milliseconds.
    #[must_use]
    pub fn limit_ms(&self) -> Option<f64> {
        self.objective.map(|objective| objective.min(self.timeout).as_secs_f64() * 1_000.0)
    }
}

/// What a probe saw.
#[derive(Debug)]
pub struct Probed {
    /// Why it failed; `Ok` when the cell answered as expected.
    pub outcome: Result<(), FetchError>,
    /// From the first packet to the end of the answer, or to the giving up.
    pub took: Duration,
}

/// Probes once. Ends at the latest after the target's timeout.
pub async fn probe(target: &ProbeTarget) -> Probed {
    let begun = Instant::now();
    let outcome = match &target.path {
        Some(path) => http(target, path).await,
        None => tcp(target).await,
    };
    Probed { outcome, took: begun.elapsed() }
}

async fn http(target: &ProbeTarget, path: &str) -> Result<(), FetchError> {
    let ask = Ask { path, accept: "*/*", max_body_bytes: MAX_BODY_BYTES, timeout: target.timeout };
    let answer = Client::new(target.address).get(&ask).await?;
    if target.expect.contains(&answer.status) {
        Ok(())
    } else {
        Err(FetchError::Status { address: target.address, status: answer.status })
    }
}

async fn tcp(target: &ProbeTarget) -> Result<(), FetchError> {
    let (address, limit) = (target.address, target.timeout);
    match time::timeout(limit, TcpStream::connect(address)).await {
        Ok(connected) => connected.map(drop).map_err(|source| FetchError::Connect { address, source }),
        Err(_) => Err(FetchError::Timeout { address, limit }),
    }
}
