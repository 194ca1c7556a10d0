//! The one way this crate speaks HTTP: HTTP/1.1 GET with a limit on time and size; plain with cells, and over TLS where a server is not one.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time,
};

use crate::{
    access::{Access, AccessError, Tls},
    history::PrometheusUrl,
};

/// A cell could not be asked over HTTP.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The path is not one.
    #[error("`{path}` is not a path of a URL; begin it with `/` and percent-encode what is special")]
    BadPath {
        /// As given.
        path: String,
    },
    /// The name of the machine says no address.
    #[error("{host} has no address: {source}; see whether the name is right and can be resolved here")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// No connection came about.
    #[error("can't connect to {address}: {source}; see whether the cell listens there")]
    Connect {
        /// To where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No secure connection came about.
    #[error(
        "no secure connection with {address}: {source}; see whether it speaks TLS, and whether its certificate is of that name and of an authority that is trusted here"
    )]
    Secure {
        /// To where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// It can't be approached in that way.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// It took too long.
    #[error("no whole answer from {address} within {limit:?}; the cell is slow, or the timeout too short")]
    Timeout {
        /// From where.
        address: SocketAddr,
        /// The limit.
        limit: Duration,
    },
    /// What came was no HTTP, or the connection broke.
    #[error("{address} broke the exchange: {source}; see whether it speaks plain HTTP/1.1")]
    Http {
        /// From where.
        address: SocketAddr,
        /// Why.
        source: hyper::Error,
    },
    /// The body is too large.
    #[error("the answer of {address} is larger than {bound} bytes; expose less on this path")]
    TooLarge {
        /// From where.
        address: SocketAddr,
        /// The limit in bytes.
        bound: usize,
    },
    /// The body could not be read.
    #[error("the answer of {address} broke off: {why}")]
    Body {
        /// From where.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// An answer of another status than was hoped for.
    #[error("{address} answered with status {status}; see whether the path is right")]
    Status {
        /// From where.
        address: SocketAddr,
        /// What came.
        status: u16,
    },
}

impl FetchError {
    /// Whether another try may fare better.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Secure { .. }
            | Self::Timeout { .. }
            | Self::Http { .. }
            | Self::Body { .. } => true,
            Self::BadPath { .. } | Self::TooLarge { .. } | Self::Status { .. } | Self::Access(_) => false,
        }
    }
}

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
}

/// What to ask for.
pub(crate) struct Ask<'a> {
    pub(crate) path: &'a str,
    pub(crate) accept: &'static str,
    pub(crate) max_body_bytes: usize,
    /// Of everything together: connecting, asking, reading.
    pub(crate) timeout: Duration,
}

/// One address and, between two questions, its kept connection.
pub(crate) struct Client {
    address: SocketAddr,
    /// As whoever answers may want to be called.
    host: String,
    authorization: Option<HeaderValue>,
    tls: Option<Tls>,
    kept: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), authorization: None, tls: None, kept: None }
    }

    /// A client of a Prometheus that was found there. It is called by its name, which proxies go by (RFC 9110 §7.2). `tls` is that of `access`.
    pub(crate) fn of(address: SocketAddr, url: &PrometheusUrl, access: &Access, tls: Option<Tls>) -> Self {
        let authorization = access.authorization().cloned();
        Self { address, host: url.authority(), authorization, tls, kept: None }
    }

    /// On any error the connection is closed, so a late answer can't be taken for the next one's.
    pub(crate) async fn get(&mut self, ask: &Ask<'_>) -> Result<Answer, FetchError> {
        let address = self.address;
        time::timeout(ask.timeout, self.exchange(ask))
            .await
            .unwrap_or(Err(FetchError::Timeout { address, limit: ask.timeout }))
    }

    async fn exchange(&mut self, ask: &Ask<'_>) -> Result<Answer, FetchError> {
        if let Some(mut kept) = self.kept.take() {
            // A server may close an idle connection at any time; a GET may then be asked anew.
            if kept.sender.ready().await.is_ok()
                && let Ok(response) = kept.sender.send_request(self.request(ask)?).await
            {
                return self.read(kept, response, ask.max_body_bytes).await;
            }
        }
        let mut fresh = self.connect().await?;
        let address = self.address;
        let http = |source| FetchError::Http { address, source };
        let response = fresh.sender.send_request(self.request(ask)?).await.map_err(http)?;
        self.read(fresh, response, ask.max_body_bytes).await
    }

    async fn connect(&self) -> Result<Connection, FetchError> {
        let address = self.address;
        let stream =
            TcpStream::connect(address).await.map_err(|source| FetchError::Connect { address, source })?;
        match &self.tls {
            None => self.speak(stream).await,
            Some(Tls { connector, name }) => {
                let secured = connector.connect(name.clone(), stream).await;
                self.speak(secured.map_err(|source| FetchError::Secure { address, source })?).await
            }
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Connection, FetchError> {
        let address = self.address;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| FetchError::Http { address, source })?;
        // Its error reaches the sender too.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, driver })
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Empty<Bytes>>, FetchError> {
        let mut request = Request::get(ask.path);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request
            .header(header::HOST, &self.host)
            .header(header::ACCEPT, ask.accept)
            .header(header::USER_AGENT, concat!("forefend/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .ok()
            .filter(|request| request.uri().path().starts_with('/') && request.uri().host().is_none())
            .ok_or_else(|| FetchError::BadPath { path: ask.path.to_owned() })
    }

    async fn read(
        &mut self,
        connection: Connection,
        response: Response<Incoming>,
        bound: usize,
    ) -> Result<Answer, FetchError> {
        let address = self.address;
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = Limited::new(response.into_body(), bound).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                FetchError::TooLarge { address, bound }
            } else {
                FetchError::Body { address, why: error.to_string() }
            }
        })?;
        self.kept = Some(connection);
        Ok(Answer { status, content_type, body: body.to_bytes() })
    }
}
