//! Listening for HTTP clients: one accept loop for all that answer.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Connections open at once; more wait in the kernel's queue until one closes.
const CONNECTIONS_AT_MOST: usize = 256;

/// What was sent must be acknowledged within this time (`TCP_USER_TIMEOUT`), or the connection is given up: a client
/// that stops reading can't hold an answer for ever.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

/// A socket that is bound and listens.
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the address. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// Why it can't be had.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address it got.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `shutdown` is done; `who` listens, for the log. What `answer` makes of a connection is run. Connections still open are
    /// left to whoever ends them.
    pub(crate) async fn accept<C>(
        self,
        who: &str,
        answer: impl Fn(TcpStream) -> C,
        shutdown: impl Future<Output = ()>,
    ) -> GracefulShutdown
    where
        C: GracefulConnection + Send + 'static,
    {
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
                    (Ok(permit), Ok((stream, _))) => {
                        tune(&stream);
                        let connection = graceful.watch(answer(stream));
                        tokio::spawn(async move {
                            // Clients go away in all manners; none is worth a line.
                            let _ = connection.await;
                            drop(permit);
                        });
                    }
                    (_, Err(error)) => {
                        tracing::warn!(%error, "{who} can't accept a connection");
                        // Out of file descriptors, most likely: trying at once would only spin.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    (Err(_), _) => break,
                },
                () = &mut shutdown => break,
            }
        }
        graceful
    }
}

fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    // Both are comforts: an answer without them is still right.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_WITHIN));
}
