//! Connections that are open and do nothing.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::time::timeout;

use super::{client, load::REQUEST_TIMEOUT};

/// Whose memory to fill.
#[derive(Args)]
pub(crate) struct IdleArguments {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long)]
    connections: usize,
}

/// Opens the connections, makes one request on each, says `idle`, and holds them until killed.
///
/// # Errors
/// When a connection or its request fails.
pub(super) async fn run(arguments: IdleArguments) -> Result<()> {
    let mut connections = Vec::with_capacity(arguments.connections);
    for n in 1..=arguments.connections {
        let request = client::get("/", arguments.target, n);
        let exchange = async {
            let mut connection = client::Connection::open(arguments.target).await?;
            let response = connection.exchange(&request).await?;
            std::io::Result::Ok((connection, response))
        };
        let (connection, response) = timeout(REQUEST_TIMEOUT, exchange)
            .await
            .with_context(|| format!("connection {n} got no answer"))?
            .with_context(|| format!("connection {n}"))?;
        ensure!(response.status == 200, "connection {n} was answered with {}", response.status);
        connections.push(connection);
    }
    println!("idle");
    std::future::pending().await
}
