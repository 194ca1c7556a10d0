//! Asks a cell for its metrics over HTTP.

use std::{net::SocketAddr, time::Duration};

use crate::{
    exposition::{self, Exposition, ExpositionError, Format, Limits},
    fetch::{Ask, Client, FetchError},
    select::MetricSelector,
};

/// OpenMetrics first, for its types and units; then the older text; then whatever the cell has.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Where and how a cell's metrics are scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeTarget {
    /// Where it listens, plain HTTP.
    pub address: SocketAddr,
    /// Path and query, for example `/metrics`.
    pub path: String,
    /// From one scrape to the next.
    pub interval: Duration,
    /// For one scrape, connecting included.
    pub timeout: Duration,
    /// What to take. Empty: every gauge and counter up to a bound, see [`crate::select::take_all`].
    pub metrics: Vec<MetricSelector>,
}

/// A scrape brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An answer that is no exposition.
    #[error("the metrics of {address} can't be read: {source}")]
    Exposition {
        /// Of whom.
        address: SocketAddr,
        /// Why.
        source: ExpositionError,
    },
}

/// Scrapes one address, again and again, over one kept connection.
pub struct Scraper {
    address: SocketAddr,
    path: String,
    timeout: Duration,
    max_body_bytes: usize,
    limits: Limits,
    client: Client,
}

impl Scraper {
    /// A scraper with no connection yet.
    #[must_use]
    pub fn new(target: &ScrapeTarget, max_body_bytes: usize, limits: Limits) -> Self {
        let address = target.address;
        let (path, timeout) = (target.path.clone(), target.timeout);
        Self { address, path, timeout, max_body_bytes, limits, client: Client::new(address) }
    }

    /// Scrapes once.
    ///
    /// # Errors
    /// When no whole answer came in time, its status was not 200, or its body was refused.
    pub async fn scrape(&mut self) -> Result<Exposition, ScrapeError> {
        let ask = Ask {
            path: &self.path,
            accept: ACCEPT,
            max_body_bytes: self.max_body_bytes,
            timeout: self.timeout,
        };
        let answer = self.client.get(&ask).await?;
        let address = self.address;
        if answer.status != 200 {
            return Err(FetchError::Status { address, status: answer.status }.into());
        }
        let format = Format::of_content_type(answer.content_type.as_deref());
        exposition::parse(&answer.body, format, &self.limits)
            .map_err(|source| ScrapeError::Exposition { address, source })
    }
}
