//! Connections to cells, kept by each worker for itself.
//!
//! An HTTP/1.1 connection is not a task of its own: whoever uses it drives it, so a request and its answer take no
//! hand-over between tasks. An idle one is looked at when it is taken from the pool, which also shows whether the
//! cell closed it meanwhile.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, RawFd},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use nix::sys::socket::{MsgFlags, recv};
use tokio::net::TcpStream;

use crate::{body::RequestBody, deadline::Deadline, io::Upstream};

/// Shorter than the keep-alive time of common servers (5 s of Node's, the shortest), so that they seldom close first.
const IDLE_MS: u64 = 4_000;
/// Idle connections kept for one cell by one worker.
const MAX_IDLE: usize = 512;
/// Streams put on one HTTP/2 connection before another is opened.
const STREAMS: u32 = 100;

/// Why a try gave no response header.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Nothing of the request reached the cell. It lies where it was taken from.
    Unsent,
    /// The connection broke.
    Broken {
        /// How.
        error: hyper::Error,
        /// Whether the cell may have seen something of the request.
        sent: bool,
    },
    /// The deadline passed.
    TimedOut,
    /// The client's body broke off: no fault of the cell.
    Client(hyper::Error),
}

/// An HTTP/1.1 connection and the means to drive it.
pub(crate) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<Upstream, RequestBody>,
    sent: Rc<Cell<bool>>,
    fd: RawFd,
    idle_since_ms: u64,
    ended: bool,
}

impl Http1 {
    pub(crate) async fn connect(address: SocketAddr, within: Duration) -> io::Result<Box<Self>> {
        let stream = open(address, within).await?;
        let fd = stream.as_raw_fd();
        let sent = Rc::new(Cell::new(false));
        let (sender, connection) =
            http1::handshake(Upstream::new(stream, Rc::clone(&sent))).await.map_err(io::Error::other)?;
        Ok(Box::new(Self { sender, connection, sent, fd, idle_since_ms: 0, ended: false }))
    }

    /// Drives the connection; `true` when it is over.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.ended
            && let Poll::Ready(result) = Pin::new(&mut self.connection).poll(cx)
        {
            if let Err(error) = result {
                tracing::debug!(%error, "connection to a cell ended");
            }
            self.ended = true;
        }
        self.ended
    }

    /// Whether it can carry another request, without being woken for it.
    fn is_reusable(&mut self) -> bool {
        !self.drive(&mut Context::from_waker(Waker::noop())) && self.sender.is_ready()
    }

    /// Whether the cell has closed it, asked of the kernel: the runtime may not have heard yet.
    pub(crate) fn is_closed_by_peer(&self) -> bool {
        let peeked = recv(self.fd, &mut [0u8; 1], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        peeked != Err(nix::errno::Errno::EAGAIN)
    }

    /// Takes the request, sends it and waits for the response's header.
    pub(crate) async fn send(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
        deadline: &Deadline,
    ) -> Result<Response<Incoming>, SendError> {
        let Some(message) = request.take() else { return Err(SendError::Unsent) };
        self.sent.set(false);
        let mut response = pin!(self.sender.try_send_request(message));
        let connection = &mut self.connection;
        let ended = &mut self.ended;
        let result = std::future::poll_fn(|cx| {
            if !*ended && Pin::new(&mut *connection).poll(cx).is_ready() {
                *ended = true;
            }
            // Only the connection, driven just above, can complete the response; a real waker would make the task
            // run a second time for nothing.
            match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if deadline.has_passed(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match result {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(broken(error, request, self.sent.get())),
            None => Err(SendError::TimedOut),
        }
    }
}

fn broken(
    mut error: hyper::client::conn::TrySendError<Request<RequestBody>>,
    request: &mut Option<Request<RequestBody>>,
    sent: bool,
) -> SendError {
    match error.take_message() {
        Some(message) => {
            *request = Some(message);
            SendError::Unsent
        }
        None => {
            let error = error.into_error();
            if error.is_user() { SendError::Client(error) } else { SendError::Broken { error, sent } }
        }
    }
}

async fn open(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(within, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The idle HTTP/1.1 connections to one cell, the last used first.
#[derive(Default)]
pub(crate) struct Pool {
    #[expect(
        clippy::vec_box,
        reason = "a connection is boxed once and moves between pool and requests as a pointer"
    )]
    idle: RefCell<Vec<Box<Http1>>>,
    closed: Cell<bool>,
}

impl Pool {
    /// A connection that took its last request well, if there is one. The cell may have closed it since: the first
    /// thing that sending does is to look, and then it hands the request back.
    pub(crate) fn take(&self) -> Option<Box<Http1>> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            if connection.sender.is_ready() || connection.is_reusable() {
                return Some(connection);
            }
        }
    }

    /// Takes back a connection whose response has been read.
    pub(crate) fn put(&self, mut connection: Box<Http1>, now_ms: u64) {
        if self.closed.get() || connection.ended {
            return;
        }
        if connection.sender.is_ready() || connection.is_reusable() {
            connection.idle_since_ms = now_ms;
            let mut idle = self.idle.borrow_mut();
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
    }

    /// Closes what was idle for too long or was closed by the cell.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let kept = std::mem::take(&mut *self.idle.borrow_mut());
        let kept: Vec<_> = kept
            .into_iter()
            .filter_map(|mut c| (now_ms < c.idle_since_ms + IDLE_MS && c.is_reusable()).then_some(c))
            .collect();
        *self.idle.borrow_mut() = kept;
    }

    /// Closes what is idle, and what is in use when it is given back.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().clear();
    }
}

/// A handle on an HTTP/2 connection, for one stream.
pub(crate) struct Stream {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Cell<u32>>,
}

impl Stream {
    fn new(sender: &http2::SendRequest<RequestBody>, streams: &Rc<Cell<u32>>) -> Self {
        streams.set(streams.get() + 1);
        Self { sender: sender.clone(), streams: Rc::clone(streams) }
    }

    /// Takes the request, sends it and waits for the response's header.
    pub(crate) async fn send(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
        deadline: &Deadline,
    ) -> Result<Response<Incoming>, SendError> {
        let Some(message) = request.take() else { return Err(SendError::Unsent) };
        let mut response = pin!(self.sender.try_send_request(message));
        std::future::poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(|error| broken(error, request, true))),
            Poll::Pending if deadline.has_passed(cx) => Poll::Ready(Err(SendError::TimedOut)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.set(self.streams.get().saturating_sub(1));
    }
}

/// The HTTP/2 connections to one cell.
#[derive(Default)]
pub(crate) struct Streams {
    open: RefCell<Vec<Shared>>,
}

/// A connection and how many streams it carries.
type Shared = (http2::SendRequest<RequestBody>, Rc<Cell<u32>>);

impl Streams {
    /// Room on a connection that is open.
    pub(crate) fn take(&self) -> Option<Stream> {
        let mut open = self.open.borrow_mut();
        open.retain(|(sender, _)| !sender.is_closed());
        open.iter()
            .find(|(_, streams)| streams.get() < STREAMS)
            .map(|(sender, streams)| Stream::new(sender, streams))
    }

    /// Opens another connection.
    pub(crate) async fn connect(&self, address: SocketAddr, within: Duration) -> io::Result<Stream> {
        let opening = async {
            let stream = open(address, within).await?;
            http2::Builder::new(LocalExecutor)
                .timer(hyper_util::rt::TokioTimer::new())
                .keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(Duration::from_secs(5))
                .handshake(hyper_util::rt::TokioIo::new(stream))
                .await
                .map_err(io::Error::other)
        };
        let (sender, connection) = tokio::time::timeout(within, opening)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))??;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to a cell ended");
            }
        });
        let streams = Rc::new(Cell::new(0));
        let stream = Stream::new(&sender, &streams);
        self.open.borrow_mut().push((sender, streams));
        Ok(stream)
    }

    /// Lets go of the connections; they end with their last stream.
    pub(crate) fn close(&self) {
        self.open.borrow_mut().clear();
    }
}

/// Runs hyper's tasks on the worker's own thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
