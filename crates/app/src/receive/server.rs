use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};

use super::{
    ReceiveOptions,
    http::{Shared, answer},
};
use crate::listen::Listener;

/// A client that has not sent the whole head of a request by then is cut off.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// From one question whether an HTTP/2 client still lives to the next.
const PING_EVERY: Duration = Duration::from_secs(60);

/// How long requests in flight may finish when the receiver stops.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// The receiver could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The token is not usable.
    #[error("engine.receive.token: {0}")]
    BadToken(String),
    /// The address could not be had.
    #[error("engine.receive.listen: can't listen on {address}: {source}; choose another port")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The receiver, bound to its address but not yet answering.
pub(crate) struct Receiver {
    listener: Listener,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Takes the address. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`ReceiveError`], which names the option and what would be right.
    pub(crate) fn bind(options: ReceiveOptions) -> Result<Self, ReceiveError> {
        let address = options.listen;
        let shared = Arc::new(Shared::new(options).map_err(ReceiveError::BadToken)?);
        let listener = Listener::bind(address).map_err(|source| ReceiveError::Listen { address, source })?;
        Ok(Self { listener, shared })
    }

    /// The address it got.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Answers until `shutdown` is done, then lets requests in flight finish.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) {
        let shared = self.shared;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(32 * 1024)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .max_concurrent_streams(shared.max_streams())
            .max_header_list_size(32 * 1024);
        let serve = move |stream| {
            let shared = Arc::clone(&shared);
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, std::convert::Infallible>(answer(&shared, request).await) }
            });
            builder.serve_connection(TokioIo::new(stream), service).into_owned()
        };
        let graceful = self.listener.accept("the receiver of telemetry", serve, shutdown).await;
        // Who is cut off sends again.
        let _ = tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await;
    }
}
