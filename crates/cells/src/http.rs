//! One HTTP/1.1 connection to a cell, every step with a deadline.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Connection {
    /// Connects within `patience`.
    pub(crate) async fn open(address: SocketAddr, patience: Duration) -> Result<Self, String> {
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
            let _ = stream.set_nodelay(true);
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|e| e.to_string())?;
            // Ends by itself when the sender is dropped or the cell closes.
            tokio::spawn(async move {
                let _ = connection.await;
            });
            Ok(Self { sender, host: address.to_string() })
        };
        timeout(patience, connecting)
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {patience:?}")))
    }

    /// Sends a request, reads the whole answer and tells its status. After an error the connection must be dropped.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<StatusCode, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            // So that a service can keep these out of its business figures.
            .header("x-forefend-warm-up", "1")
            .body(Empty::new())
            .map_err(|e| e.to_string())?;
        let exchange = async {
            self.sender.ready().await.map_err(|e| e.to_string())?;
            let mut response = self.sender.send_request(request).await.map_err(|e| e.to_string())?;
            while let Some(frame) = response.frame().await {
                frame.map_err(|e| e.to_string())?;
            }
            Ok(response.status())
        };
        timeout(patience, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
    }

    /// Whether it could carry another request.
    pub(crate) fn is_usable(&self) -> bool {
        !self.sender.is_closed()
    }
}
