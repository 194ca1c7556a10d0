use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::{
    auth::{Token, Tokens},
    handle::EngineHandle,
    routes::{Shared, router},
};

/// Connections open at once; more wait in the kernel's queue until one closes.
const CONNECTIONS_AT_MOST: usize = 256;

/// A client that has not sent the whole head of a request by then is cut off; also how long an idle one may stay.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// What was sent must be acknowledged within this time (`TCP_USER_TIMEOUT`), or the connection is given up: a client
/// that stops reading can't hold a stream of events for ever.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

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
    listener: TcpListener,
    address: SocketAddr,
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
        let listen = || -> io::Result<(TcpListener, SocketAddr)> {
            let listener = StdListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = listen().map_err(|source| ServeError::Listen { address, source })?;
        let (stop, stopping) = watch::channel(false);
        let app = router(Arc::new(Shared::new(engine, stopping)), Arc::new(tokens));
        Ok(Self { listener, address, app, stop })
    }

    /// The address it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is done; then ends streams and lets requests in flight finish, for 5 s at most.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_AT_MOST));
        let graceful = GracefulShutdown::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = async {
                let permit = connections.clone().acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            tokio::select! {
                (permit, accepted) = accepted => match (permit, accepted) {
                    (Ok(permit), Ok((stream, _))) => self.answer(stream, permit, &graceful),
                    (_, Err(error)) => {
                        tracing::warn!(%error, "the API can't accept a connection");
                        // Out of file descriptors, most likely: trying at once would only spin.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    (Err(_), _) => break,
                },
                () = &mut shutdown => break,
            }
        }
        drop(self.listener);
        self.stop.send_replace(true);
        if tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests to the API were cut off at shutdown");
        }
    }

    fn answer(&self, stream: TcpStream, permit: OwnedSemaphorePermit, graceful: &GracefulShutdown) {
        let socket = socket2::SockRef::from(&stream);
        // Both are comforts: an answer without them is still right.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_WITHIN));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(32 * 1024)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.app.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // Clients go away in all manners; none is worth a line.
            let _ = connection.await;
            drop(permit);
        });
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
