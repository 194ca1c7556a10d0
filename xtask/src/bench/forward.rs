//! A forwarder of raw bytes: the floor below which no proxy on this kernel and runtime comes.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Args;
use tokio::net::{TcpListener, TcpStream};

/// From where to where.
#[derive(Args)]
pub(crate) struct ForwardArguments {
    #[arg(long)]
    listen: SocketAddr,
    /// Cells; connections take turns.
    #[arg(long = "cell", required = true)]
    cells: Vec<SocketAddr>,
}

/// Serves until killed.
///
/// # Errors
/// When it can't listen.
pub(super) async fn run(arguments: ForwardArguments) -> Result<()> {
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("can't listen on {}", arguments.listen))?;
    for cell in arguments.cells.iter().cycle() {
        let (mut client, _) = listener.accept().await?;
        let cell = *cell;
        tokio::task::spawn_local(async move {
            let Ok(mut upstream) = TcpStream::connect(cell).await else { return };
            if client.set_nodelay(true).is_ok() && upstream.set_nodelay(true).is_ok() {
                // Either side's end is the other's.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            }
        });
    }
    Ok(())
}
