//! The words spoken over the director's control socket and kept in its journal.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use forefend_domain::{
    ServiceId,
    ports::{DataPlaneReport, Routing},
};
use serde::{Deserialize, Serialize};

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// All that the director needs to serve on its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorConfig {
    /// Cells and weights.
    pub routing: Routing,
    /// How each service is served. A service of `routing` must be here; one that is only here answers 503.
    pub services: BTreeMap<ServiceId, ServiceSettings>,
}

/// The protocol spoken to the cells. Clients may speak HTTP/1.1 or HTTP/2 (prior knowledge) whichever it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3), for gRPC among others.
    Http2,
}

/// What tells one user from another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Sticky {
    /// Nothing: each request is placed by itself.
    #[default]
    None,
    /// The value of a request header. Requests without it are placed by themselves.
    Header {
        /// Its name.
        name: String,
    },
    /// The value of a cookie. Requests without it are placed by themselves.
    Cookie {
        /// Its name.
        name: String,
    },
    /// The address of the client's end of the connection.
    ClientAddress,
}

/// How many requests may be sent a second time.
///
/// Failed connects, where nothing was sent, are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudget {
    /// Retries in percent of requests, from 0 to 100.
    pub percent: u32,
    /// Retries per second that are always allowed, for services with little traffic.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10 }
    }
}

/// How cells are checked: a GET whose answer must be 2xx or 3xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// Path and query, beginning with `/`. Empty: cells are not checked.
    pub path: String,
    /// Time between checks of one cell, in milliseconds.
    #[serde(with = "millis")]
    pub interval: Duration,
    /// Time for one check, in milliseconds.
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// Failed checks in a row that make a cell down.
    pub unhealthy_after: u32,
    /// Good checks in a row that make a down cell up again.
    pub healthy_after: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/".into(),
            interval: Duration::from_millis(1_000),
            timeout: Duration::from_millis(500),
            unhealthy_after: 2,
            healthy_after: 1,
        }
    }
}

/// When real traffic shows that a cell is ill, it is left out for a while (outlier ejection).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ejection {
    /// Failures in a row (refused, reset, timed out, 5xx) that eject. Zero: never.
    pub consecutive_failures: u32,
    /// How long the first ejection lasts, in milliseconds; each further one twice as long.
    #[serde(with = "millis")]
    pub base_duration: Duration,
    /// The longest ejection, in milliseconds.
    #[serde(with = "millis")]
    pub max_duration: Duration,
    /// The most cells with weight that may be ejected at once, in percent; at least one if there are two.
    pub max_percent: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base_duration: Duration::from_millis(5_000),
            max_duration: Duration::from_millis(60_000),
            max_percent: 50,
        }
    }
}

/// How a service is served. Every duration is in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSettings {
    /// Where clients connect. Ports must be given.
    pub listen: Vec<SocketAddr>,
    /// What is spoken to the cells.
    pub protocol: Protocol,
    /// Time to connect to a cell.
    #[serde(with = "millis")]
    pub connect_timeout: Duration,
    /// Time of one try from sending the request to the response's header, if another try can follow: a write, and
    /// the last try, have what is left of `request_timeout`.
    #[serde(with = "millis")]
    pub try_timeout: Duration,
    /// Time of all tries together to the response's header, and the longest pause within a body.
    #[serde(with = "millis")]
    pub request_timeout: Duration,
    /// Tries in all, the first included: 1 to 8.
    pub max_tries: u32,
    /// Bounds what is sent twice.
    pub retry_budget: RetryBudget,
    /// Active checks.
    pub health: HealthCheck,
    /// Passive checks.
    pub ejection: Ejection,
    /// What tells users apart.
    pub sticky: Sticky,
    /// The latency objective: a response header that comes later is counted as slow.
    #[serde(with = "millis")]
    pub slow_after: Duration,
    /// How long requests in flight may go on when a listener closes.
    #[serde(with = "millis")]
    pub drain_timeout: Duration,
    /// Largest body, in bytes, that is kept for another try of an idempotent request.
    pub max_body_buffer: u32,
    /// Whether the client's address is appended to `x-forwarded-for`.
    pub forwarded_for: bool,
    /// Whether `via` is appended to requests (RFC 9110 §7.6.3 asks gateways for it; few do it).
    pub via: bool,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            protocol: Protocol::Http1,
            connect_timeout: Duration::from_millis(250),
            try_timeout: Duration::from_millis(1_000),
            request_timeout: Duration::from_millis(10_000),
            max_tries: 3,
            retry_budget: RetryBudget::default(),
            health: HealthCheck::default(),
            ejection: Ejection::default(),
            sticky: Sticky::None,
            slow_after: Duration::from_millis(250),
            drain_timeout: Duration::from_millis(10_000),
            max_body_buffer: 64 * 1024,
            forwarded_for: true,
            via: false,
        }
    }
}

/// A request on the control socket: one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum ControlRequest {
    /// Serve by this from now on.
    Apply {
        /// By what.
        config: Box<DirectorConfig>,
    },
    /// Tell what is applied and was seen.
    Report,
    /// The engine runs with this process id; watch it and start it again when it dies.
    Hello {
        /// Its process id, as the director sees it.
        engine_pid: u32,
    },
    /// The engine ends on purpose; don't start it again.
    Goodbye,
    /// End.
    Shutdown {
        /// Whether requests in flight are waited for.
        drain: bool,
    },
}

/// The answer: one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum ControlResponse {
    /// Done.
    Done,
    /// What was asked for.
    Report {
        /// The report.
        report: Box<DataPlaneReport>,
    },
    /// Not done; everything is as before.
    Refused {
        /// In words.
        why: String,
    },
}

/// Longest line on the control socket, in bytes: some 100 000 cells.
pub const MAX_CONTROL_BYTES: usize = 32 * 1024 * 1024;
