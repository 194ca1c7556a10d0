use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    ReceiveOptions,
    http::{Shared, answer},
};

/// Connections open at once; more wait in the kernel's queue until one closes.
const CONNECTIONS_AT_MOST: usize = 256;

/// A client that has not sent the whole head of a request by then is cut off.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// What was sent must be acknowledged within this time (`TCP_USER_TIMEOUT`), or the connection is given up.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

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
    listener: TcpListener,
    address: SocketAddr,
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
        let listen = || -> io::Result<(TcpListener, SocketAddr)> {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = listen().map_err(|source| ReceiveError::Listen { address, source })?;
        Ok(Self { listener, address, shared })
    }

    /// The address it got.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is done, then lets requests in flight finish.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) {
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
                    (Ok(permit), Ok((stream, _))) => self.serve(stream, permit, &graceful),
                    (_, Err(error)) => {
                        tracing::warn!(%error, "the receiver of telemetry can't accept a connection");
                        // Out of file descriptors, most likely: trying at once would only spin.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    (Err(_), _) => break,
                },
                () = &mut shutdown => break,
            }
        }
        drop(self.listener);
        // Who is cut off sends again.
        let _ = tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await;
    }

    fn serve(&self, stream: TcpStream, permit: OwnedSemaphorePermit, graceful: &GracefulShutdown) {
        let socket = socket2::SockRef::from(&stream);
        // Both are comforts: an answer without them is still right.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_WITHIN));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(32 * 1024)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .max_concurrent_streams(self.shared.max_streams())
            .max_header_list_size(32 * 1024);
        let shared = Arc::clone(&self.shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, std::convert::Infallible>(answer(&shared, request).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // Clients go away in all manners; none is worth a line.
            let _ = connection.await;
            drop(permit);
        });
    }
}
