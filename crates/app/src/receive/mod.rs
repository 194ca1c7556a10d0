//! Takes telemetry that others push, on a listener of its own: Prometheus remote write and OTLP.
//!
//! [`Receiver`] is a thin shell: it bounds what a sender may cost, asks for the token, and hands bodies to the decoders of
//! `forefend-telemetry` and what they find to its [`Intake`]. Every answer says whether sending the same again could
//! help, for senders repeat what they are told to repeat for ever: 503 when it could, 4xx when it never will.
//!
//! HTTP/1.1, HTTP/2 and gRPC share one address: which of them a client speaks shows in its first bytes and headers.

mod answer;
mod grpc;
mod http;
mod otlp;
mod remote_write;
mod server;

use std::net::SocketAddr;

use forefend_telemetry::{Intake, pushed::PushLimits};

pub(crate) use server::{ReceiveError, Receiver};

/// Where telemetry is taken, from whom and how much of it.
#[derive(Clone)]
pub(crate) struct ReceiveOptions {
    /// The address; port 0 lets the system choose.
    pub(crate) listen: SocketAddr,
    /// What senders must show. Without, everybody who reaches the address may send.
    pub(crate) secret: Option<String>,
    /// What one body may cost.
    pub(crate) limits: PushLimits,
    /// Requests that are read at once.
    pub(crate) max_requests: usize,
    /// Where it goes.
    pub(crate) intake: Intake,
}
