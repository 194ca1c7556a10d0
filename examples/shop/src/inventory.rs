use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Deserialize, Serialize};

/// What the inventory says of an item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stock {
    pub(crate) sku: u64,
    pub(crate) stock: u64,
    pub(crate) zone: String,
}

/// Made up, but the same in every zone, so that answers of a mirror can be compared.
pub(crate) fn stock_of(sku: u64) -> u64 {
    sku.wrapping_mul(2_654_435_761) % 97 + 3
}

/// The shop's side of the dependency: keep-alive connections to the inventory of the zone.
pub(crate) struct InventoryClient {
    address: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
}

/// A call that takes longer has failed. Well above any latency objective of the shop, so that a slow inventory makes a
/// slow shop before it makes a failing one.
const TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const IDLE_CONNECTIONS: usize = 64;
const MAX_ANSWER_BYTES: usize = 16 * 1024;

impl InventoryClient {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Self { address, client }
    }

    /// Asks for the stock of `sku`; also tells how long that took, well or not.
    pub(crate) async fn stock(
        &self,
        sku: u64,
        request_id: Option<&str>,
    ) -> (Result<Stock, String>, Duration) {
        let begun = Instant::now();
        let result = tokio::time::timeout(TIMEOUT, self.get(&format!("/stock/{sku}"), request_id))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
            .and_then(|body| serde_json::from_slice(&body).map_err(|e| format!("bad answer: {e}")));
        (result, begun.elapsed())
    }

    /// Whether the inventory answers at all.
    pub(crate) async fn answers(&self) -> Result<(), String> {
        tokio::time::timeout(TIMEOUT, self.get("/healthz", None))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
            .map(drop)
    }

    async fn get(&self, path: &str, request_id: Option<&str>) -> Result<Bytes, String> {
        let mut request = Request::get(format!("http://{}{path}", self.address))
            .header(header::HOST, self.address.to_string());
        if let Some(id) = request_id {
            request = request.header("x-request-id", id);
        }
        let request = request.body(Empty::new()).map_err(|e| e.to_string())?;
        let response = self.client.request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|e| e.to_string())?
            .to_bytes();
        if status.is_success() { Ok(body) } else { Err(format!("status {status}")) }
    }
}
