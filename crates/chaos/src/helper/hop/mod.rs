//! A hop between clients and one server: what passes is held up, slowed down, reset or answered with errors.
//!
//! Told to end it first lets go: it passes everything on untouched, takes no new connection, and closes each one when the
//! server has answered all that was asked, so that nobody's request is lost to the undoing of a fault.

mod http;
mod tcp;

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::Mark};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::LocalSet,
};

use super::{Effect, Level, begin_with};
use crate::network::MARK;

/// Without injector the redirection to it lasts no longer than the lease; after that, and with nobody connected, it leaves.
const ORPHANED_FOR: Duration = Duration::from_secs(10);

/// A connection that is done is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What all connections of a hop share.
pub(super) struct Shared {
    to: SocketAddr,
    effect: Effect,
    level: Level,
    /// No effect any more, and connections close when they are at rest.
    letting_go: Cell<bool>,
    open: Cell<usize>,
}

impl Shared {
    fn level(&self) -> f64 {
        if self.letting_go.get() { 0.0 } else { self.level.get() }
    }

    /// Connects to the server past the redirection that leads here.
    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = if self.to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Where there is no packet filter there is no redirection either, and no right to mark.
        let _ = setsockopt(&socket, Mark, &MARK);
        let stream = socket.connect(self.to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

pub(super) fn main(to: SocketAddr, effect: Effect, level: &Level) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(to, effect, level))
}

async fn serve(to: SocketAddr, effect: Effect, level: &Level) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::new(to.ip(), 0)).await?;
    let orphaned = std::sync::Arc::new(Notify::new());
    let alone = orphaned.clone();
    begin_with(level, Some(listener.local_addr()?), move || alone.notify_one())?;
    let mut told_to_end = signal(SignalKind::terminate())?;
    let shared = Rc::new(Shared {
        to,
        effect,
        level: level.clone(),
        letting_go: Cell::new(false),
        open: Cell::new(0),
    });
    let mut alone_since = None;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = shared.clone();
                tokio::task::spawn_local(async move { carry(&shared, stream).await });
            }
            () = orphaned.notified() => {
                shared.letting_go.set(true);
                alone_since = Some(Instant::now());
            }
            _ = told_to_end.recv() => {
                shared.letting_go.set(true);
                drop(listener);
                break;
            }
            _ = look.tick(), if alone_since.is_some() => {
                if shared.open.get() == 0 && alone_since.is_some_and(|at| at.elapsed() > ORPHANED_FOR) {
                    return Ok(());
                }
            }
        }
    }
    while shared.open.get() > 0 {
        look.tick().await;
    }
    Ok(())
}

async fn carry(shared: &Rc<Shared>, client: TcpStream) {
    shared.open.set(shared.open.get() + 1);
    // Errors are those of either side and were passed on by closing.
    let _ = client.set_nodelay(true);
    let _ = match shared.effect {
        Effect::Errors { share, status } => http::carry(shared, client, share, status).await,
        _ => tcp::carry(shared, client).await,
    };
    shared.open.set(shared.open.get() - 1);
}

/// A number from 0 to 1, without pattern enough for faults. From the system's randomness: helpers are not replayed by seed.
fn draw() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let drawn = std::hash::RandomState::new().build_hasher().finish();
    (drawn >> 11) as f64 / (1u64 << 53) as f64
}
