//! A worker: one thread with its own runtime, listeners, connections and pools.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use forefend_domain::ServiceId;
use hyper::{server::conn, service::service_fn};
use slab::Slab;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::spawn_local,
};

use crate::{
    cell::Clock,
    deadline::Deadlines,
    flight::{Service, Worker},
    io::{Client, Downstream},
    proxy::serve,
    table::Table,
    upstream::LocalExecutor,
};

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113 §3.4). No HTTP/1 method begins like it.
const HTTP2_PREFACE: &[u8] = b"PRI * HT";
/// Bytes of a request's header; more is refused with 431.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Streams of one HTTP/2 client connection at once.
const MAX_STREAMS: u32 = 256;
const SWEEP: Duration = Duration::from_millis(1_000);

/// A service's part of a configuration, for one worker.
pub(crate) struct ServicePart {
    pub(crate) table: Arc<Table>,
    pub(crate) ejecting: Arc<Mutex<()>>,
}

/// What the control thread asks of a worker.
pub(crate) enum Command {
    /// Route by these tables; listen at these addresses, those that are new with their sockets.
    Apply {
        services: BTreeMap<ServiceId, ServicePart>,
        opened: BTreeMap<SocketAddr, std::net::TcpListener>,
        done: oneshot::Sender<()>,
    },
    /// Stop accepting, wait for requests in flight at most so long, and end.
    Shutdown { drain: Duration },
}

/// What each worker keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many workers there are.
    pub(crate) workers: usize,
    /// Client connections of one worker.
    pub(crate) max_connections: usize,
    /// Time for a request's header.
    pub(crate) header: Duration,
}

/// Runs a worker until it is told to shut down.
pub(crate) fn run(
    index: usize,
    clock: Clock,
    limits: Limits,
    commands: mpsc::Receiver<Command>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let deadlines = Deadlines::new(clock);
        let worker = Rc::new(Worker { index, limits, clock, deadlines: Rc::clone(&deadlines) });
        spawn_local(async move { deadlines.run().await });
        let crowd = Rc::new(Crowd {
            open: Cell::new(0),
            max: limits.max_connections,
            left: tokio::sync::Notify::new(),
        });
        let mut state = State { worker, crowd, services: BTreeMap::new(), listeners: BTreeMap::new() };
        state.obey(commands).await;
    });
    Ok(())
}

/// The connections of a worker.
struct Crowd {
    open: Cell<usize>,
    max: usize,
    left: tokio::sync::Notify,
}

struct Present(Rc<Crowd>);

impl Crowd {
    fn join(self: &Rc<Self>) -> Present {
        self.open.set(self.open.get() + 1);
        Present(Rc::clone(self))
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.left.notify_waiters();
    }
}

struct State {
    worker: Rc<Worker>,
    crowd: Rc<Crowd>,
    services: BTreeMap<ServiceId, Rc<Service>>,
    listeners: BTreeMap<SocketAddr, Rc<Listener>>,
}

/// A listening socket and the connections that came through it.
struct Listener {
    service: ServiceId,
    phase: Cell<Phase>,
    /// Tasks to wake when the phase changes.
    tasks: RefCell<Slab<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// No new connection; those open end with their request.
    Closing,
    /// Those open end now.
    Aborted,
}

impl Listener {
    fn enter(&self, phase: Phase) {
        self.phase.set(self.phase.get().max(phase));
        let wakers: Vec<Waker> = self.tasks.borrow().iter().map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    async fn obey(&mut self, mut commands: mpsc::Receiver<Command>) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Apply { services, opened, done }) => {
                        self.apply(services, opened);
                        // The control thread may have given up waiting; the tables are applied all the same.
                        let _ = done.send(());
                    }
                    Some(Command::Shutdown { drain }) => return self.shutdown(drain).await,
                    None => return self.shutdown(Duration::ZERO).await,
                },
                _ = sweep.tick() => {
                    let now_ms = self.worker.clock.ms();
                    self.services.values().for_each(|service| service.current().sweep(now_ms));
                }
            }
        }
    }

    fn apply(
        &mut self,
        parts: BTreeMap<ServiceId, ServicePart>,
        mut opened: BTreeMap<SocketAddr, std::net::TcpListener>,
    ) {
        let mut wanted: BTreeMap<SocketAddr, (ServiceId, Duration)> = BTreeMap::new();
        for (id, part) in &parts {
            let settings = &part.table.settings;
            wanted.extend(settings.listen.iter().map(|at| (*at, (id.clone(), settings.drain_timeout))));
            match self.services.get(id) {
                Some(service) => service.swap(Arc::clone(&part.table), Arc::clone(&part.ejecting)),
                None => {
                    let service = Service::new(
                        Rc::clone(&self.worker),
                        Arc::clone(&part.table),
                        Arc::clone(&part.ejecting),
                    );
                    self.services.insert(id.clone(), Rc::new(service));
                }
            }
        }
        let services = &mut self.services;
        let gone = self.listeners.extract_if(.., |at, listener| {
            wanted.get(at).is_none_or(|(service, _)| *service != listener.service)
        });
        for (_, listener) in gone {
            let drain = services
                .get(&listener.service)
                .map_or(Duration::ZERO, |service| service.current().table.settings.drain_timeout);
            listener.enter(Phase::Closing);
            spawn_local(async move {
                tokio::time::sleep(drain).await;
                listener.enter(Phase::Aborted);
            });
        }
        services.retain(|id, service| {
            let stays = parts.contains_key(id);
            if !stays {
                service.current().close();
            }
            stays
        });
        for (at, (id, _)) in wanted {
            let (Some(socket), Some(service)) = (opened.remove(&at), self.services.get(&id)) else {
                continue;
            };
            match TcpListener::from_std(socket) {
                Ok(socket) => {
                    let listener = Rc::new(Listener {
                        service: id,
                        phase: Cell::new(Phase::Open),
                        tasks: RefCell::new(Slab::new()),
                    });
                    let accepting =
                        accept(socket, Rc::clone(&listener), Rc::clone(service), Rc::clone(&self.crowd));
                    spawn_local(accepting);
                    self.listeners.insert(at, listener);
                }
                Err(error) => tracing::error!(%at, %error, "a listening socket could not be used"),
            }
        }
    }

    async fn shutdown(&mut self, drain: Duration) {
        self.listeners.values().for_each(|listener| listener.enter(Phase::Closing));
        let empty = async {
            loop {
                let left = self.crowd.left.notified();
                if self.crowd.open.get() == 0 {
                    return;
                }
                left.await;
            }
        };
        if tokio::time::timeout(drain, empty).await.is_err() {
            tracing::warn!(connections = self.crowd.open.get(), "cut off after the drain time");
        }
    }
}

async fn accept(socket: TcpListener, listener: Rc<Listener>, service: Rc<Service>, crowd: Rc<Crowd>) {
    let mut key = None;
    loop {
        let left = crowd.left.notified();
        if crowd.open.get() >= crowd.max && listener.phase.get() == Phase::Open {
            // The rest wait in the kernel's queue, which is bounded.
            let _ = tokio::time::timeout(SWEEP, left).await;
            continue;
        }
        let accepted = poll_fn(|cx| {
            let mut tasks = listener.tasks.borrow_mut();
            match key.and_then(|key| tasks.get_mut(key)) {
                Some(waker) => waker.clone_from(cx.waker()),
                None => key = Some(tasks.insert(cx.waker().clone())),
            }
            match socket.poll_accept(cx) {
                // What the kernel has already accepted for us is served even while closing.
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if listener.phase.get() > Phase::Open => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match accepted {
            Some(Ok((stream, address))) => {
                let serving =
                    connection(stream, address, Rc::clone(&listener), Rc::clone(&service), crowd.join());
                spawn_local(serving);
            }
            Some(Err(error)) => {
                // Out of descriptors, or the client was gone before we came: neither is ours to end for.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            None => break,
        }
    }
    if let Some(key) = key {
        listener.tasks.borrow_mut().remove(key);
    }
}

async fn connection(
    mut stream: TcpStream,
    address: SocketAddr,
    listener: Rc<Listener>,
    service: Rc<Service>,
    present: Present,
) {
    let _present = present;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let key = {
        let mut tasks = listener.tasks.borrow_mut();
        tasks.insert(Waker::noop().clone())
    };
    let first =
        tokio::time::timeout(service.worker.limits.header, first_bytes(&mut stream, &listener, key)).await;
    if let Ok(Ok(first)) = first
        && !first.is_empty()
    {
        let http2 = first.starts_with(HTTP2_PREFACE);
        let worker = &service.worker;
        let client = Client::new(address, http2, worker);
        let io = Downstream::new(stream, first, Rc::clone(&client));
        let answer = service_fn(|request| serve(Rc::clone(&service), Rc::clone(&client), request));
        if http2 {
            let mut builder = conn::http2::Builder::new(LocalExecutor);
            builder
                .timer(hyper_util::rt::TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEADER_BYTES as u32)
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10));
            // The service outlives this task's borrow: streams are tasks of their own.
            let (service, client) = (Rc::clone(&service), Rc::clone(&client));
            let answer = service_fn(move |request| serve(Rc::clone(&service), Rc::clone(&client), request));
            let mut serving = pin!(builder.serve_connection(io, answer));
            drive(&listener, key, |cx, close| {
                if close {
                    serving.as_mut().graceful_shutdown();
                }
                serving.as_mut().poll(cx)
            })
            .await;
        } else {
            let mut builder = conn::http1::Builder::new();
            // A client may close its half after the request (RFC 9112 §9.6). One that has gone altogether shows when it is
            // written to; listening for that meanwhile would cost every request a read.
            builder.max_buf_size(MAX_HEADER_BYTES).half_close(true);
            let mut serving = pin!(builder.serve_connection(io, answer));
            drive(&listener, key, |cx, close| {
                if close {
                    serving.as_mut().graceful_shutdown();
                }
                serving.as_mut().poll(cx)
            })
            .await;
        }
    }
    listener.tasks.borrow_mut().remove(key);
}

/// Polls a connection until it ends, tells it once when its listener closes, and leaves it when that takes too long.
async fn drive(
    listener: &Listener,
    key: usize,
    mut poll: impl FnMut(&mut std::task::Context<'_>, bool) -> Poll<hyper::Result<()>>,
) {
    let mut told = false;
    let ended = poll_fn(|cx| {
        if let Some(waker) = listener.tasks.borrow_mut().get_mut(key)
            && !waker.will_wake(cx.waker())
        {
            waker.clone_from(cx.waker());
        }
        let phase = listener.phase.get();
        if phase == Phase::Aborted {
            return Poll::Ready(Ok(()));
        }
        let close = phase == Phase::Closing && !std::mem::replace(&mut told, phase == Phase::Closing);
        poll(cx, close)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// Reads until it is clear which protocol the client speaks. Empty: it went away, or the listener closes.
async fn first_bytes(stream: &mut TcpStream, listener: &Listener, key: usize) -> std::io::Result<Bytes> {
    let mut first = BytesMut::with_capacity(1024);
    loop {
        let n = {
            let mut read = pin!(stream.read_buf(&mut first));
            poll_fn(|cx| {
                if let Some(waker) = listener.tasks.borrow_mut().get_mut(key) {
                    waker.clone_from(cx.waker());
                }
                match read.as_mut().poll(cx) {
                    Poll::Pending if listener.phase.get() > Phase::Open => Poll::Ready(Ok(0)),
                    other => other,
                }
            })
            .await?
        };
        if n == 0 {
            return Ok(Bytes::new());
        }
        let seen = first.len().min(HTTP2_PREFACE.len());
        if first[..seen] != HTTP2_PREFACE[..seen] || seen == HTTP2_PREFACE.len() {
            return Ok(first.freeze());
        }
    }
}
