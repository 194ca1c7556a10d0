use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::sync::watch;

use super::{
    auth::{Token, Tokens},
    handle::EngineHandle,
    routes::{Shared, router},
};
use crate::listen::Listener;

/// A client that has not sent the whole head of a request by then is cut off; also how long an idle one may stay.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// How long requests in flight may finish when the server stops.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// Where to listen and for whom.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// The address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Who may ask. Empty: everybody, but only on loopback.
    pub tokens: Vec<Token>,
}

/// The API could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can be reached from elsewhere and nothing protects it.
    #[error(
        "api.listen is {0}, which can be reached from other machines, and there are no tokens: configure api.tokens, or \
         listen on 127.0.0.1"
    )]
    Unprotected(SocketAddr),
    /// A token is not usable.
    #[error("api.{0}")]
    BadToken(String),
    /// The address could not be had.
    #[error("api.listen: can't listen on {address}: {source}; choose another port, or 0 for any free one")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The API, bound to its address but not yet answering.
pub struct Server {
    listener: Listener,
    app: Router,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Checks the options and takes the address. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`ServeError`], which names the option and what would be right.
    pub fn bind(options: &ApiOptions, engine: EngineHandle) -> Result<Self, ServeError> {
        let tokens = Tokens::new(&options.tokens).map_err(ServeError::BadToken)?;
        let address = options.listen;
        if tokens.is_empty() && !address.ip().is_loopback() {
            return Err(ServeError::Unprotected(address));
        }
        let listener = Listener::bind(address).map_err(|source| ServeError::Listen { address, source })?;
        let (stop, stopping) = watch::channel(false);
        let app = router(Arc::new(Shared::new(engine, stopping)), Arc::new(tokens));
        Ok(Self { listener, app, stop })
    }

    /// The address it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Answers until `shutdown` is done; then ends streams and lets requests in flight finish, for 5 s at most.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let app = self.app;
        let answer = |stream| {
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .max_buf_size(32 * 1024)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app.clone()))
        };
        let graceful = self.listener.accept("the API", answer, shutdown).await;
        self.stop.send_replace(true);
        if tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests to the API were cut off at shutdown");
        }
    }
}

/// Takes the address and answers until `shutdown` is done.
///
/// # Errors
/// [`ServeError`] when it can't be started.
pub async fn serve(
    options: ApiOptions,
    engine: EngineHandle,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let server = Server::bind(&options, engine)?;
    tracing::info!(address = %server.local_addr(), "the API and the dashboard answer");
    server.run(shutdown).await;
    Ok(())
}
