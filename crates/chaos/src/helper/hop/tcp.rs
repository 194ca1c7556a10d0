use std::{
    cell::Cell,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use super::{LOOK_EVERY, Shared, draw};
use crate::helper::Effect;

const CHUNK_BYTES: usize = 16 << 10;

/// Chunks under way in one direction: a megabyte, after which who sends has to wait.
const UNDER_WAY: usize = 64;

/// Bytes that a slowed direction writes at a time: small, so that a change of level is felt soon.
const SLOWED_BYTES: usize = 1 << 10;

/// Whether everything that was asked has been answered, as far as that can be told from outside: the last byte was the
/// server's. Holds for every protocol of questions and answers.
#[derive(Default)]
struct Talk {
    client_spoke_last: Cell<bool>,
    last: Cell<Option<Instant>>,
}

impl Talk {
    fn is_at_rest(&self) -> bool {
        !self.client_spoke_last.get() && self.last.get().is_none_or(|at| at.elapsed() >= 2 * LOOK_EVERY)
    }
}

pub(super) async fn carry(shared: &Rc<Shared>, mut client: TcpStream) -> io::Result<()> {
    if let Effect::Resets { share } = shared.effect
        && draw() < share * shared.level()
    {
        // After the first bytes, so that a request is lost and not only a connection.
        let _ = client.read(&mut [0; 1]).await;
        // Closed with a reset: no time to linger.
        return client.set_zero_linger();
    }
    let server = shared.connect().await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let talk = Talk::default();
    let both = async {
        tokio::try_join!(
            pass(shared, from_client, to_server, &talk, true),
            pass(shared, from_server, to_client, &talk, false)
        )
    };
    let let_go = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if shared.letting_go.get() && talk.is_at_rest() {
                return;
            }
        }
    };
    tokio::select! {
        result = both => result.map(|_| ()),
        () = let_go => Ok(()),
    }
}

/// Passes bytes one way, in order, each held up as the level says when it comes in.
async fn pass(
    shared: &Shared,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    talk: &Talk,
    by_client: bool,
) -> io::Result<()> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let n = from.read(&mut chunk).await?;
            if n == 0 {
                return io::Result::Ok(());
            }
            chunk.truncate(n);
            talk.client_spoke_last.set(by_client || talk.client_spoke_last.get());
            talk.last.set(Some(Instant::now()));
            if queue.send((Instant::now() + held_up(shared), chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, chunk)) = queued.recv().await {
            if !shared.letting_go.get() {
                tokio::time::sleep_until(due.into()).await;
            }
            match shared.effect {
                Effect::Bandwidth { bytes_per_s } => slowly(shared, &mut to, &chunk, bytes_per_s).await?,
                _ => to.write_all(&chunk).await?,
            }
            talk.client_spoke_last.set(by_client);
            talk.last.set(Some(Instant::now()));
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}

/// How long a chunk is held up: half of what is added both ways together.
fn held_up(shared: &Shared) -> Duration {
    let Effect::Latency { add_us, jitter_us } = shared.effect else { return Duration::ZERO };
    let jitter = jitter_us as f64 * (2.0 * draw() - 1.0);
    Duration::from_secs_f64((add_us as f64 + jitter).max(0.0) * shared.level() / 2.0 / 1e6)
}

async fn slowly(
    shared: &Shared,
    to: &mut (impl AsyncWrite + Unpin),
    chunk: &[u8],
    bytes_per_s: u64,
) -> io::Result<()> {
    for part in chunk.chunks(SLOWED_BYTES) {
        to.write_all(part).await?;
        // At half the level twice the bandwidth; at none, no limit.
        let wait_s = part.len() as f64 * shared.level() / bytes_per_s as f64;
        if wait_s > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(wait_s)).await;
        }
    }
    Ok(())
}
