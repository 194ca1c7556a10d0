//! The two ends of a proxied connection, with what the proxy must know about them.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    cell::Clock,
    deadline::{Deadline, Deadlines, ms},
    flight::Worker,
};

/// A client may keep a connection open this long without a request.
const IDLE_MS: u64 = 75_000;
/// A client that takes no byte for this long is gone.
const WRITE_STALL_MS: u64 = 30_000;

/// What requests of one client connection share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) http2: bool,
    clock: Clock,
    deadlines: Rc<Deadlines>,
    header_ms: u64,
    forwarded_for: RefCell<Option<HeaderValue>>,
    active: Cell<u32>,
    waiting: Deadline,
    waiting_for: Cell<Waiting>,
}

/// What a connection without a request is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// For a request.
    Request,
    /// For the rest of a header. The time for it runs from the first pause, for most come whole.
    RestOfHeader {
        /// Whether it runs.
        timed: bool,
    },
}

/// A request of the connection is being worked on as long as this lives.
#[derive(Debug)]
pub(crate) struct Active(Rc<Client>);

impl Client {
    pub(crate) fn new(address: SocketAddr, http2: bool, worker: &Worker) -> Rc<Self> {
        Rc::new(Self {
            address,
            http2,
            clock: worker.clock,
            deadlines: Rc::clone(&worker.deadlines),
            header_ms: ms(worker.limits.header),
            forwarded_for: RefCell::new(None),
            active: Cell::new(0),
            waiting: worker.deadlines.at(worker.clock.ms() + ms(worker.limits.header)),
            waiting_for: Cell::new(Waiting::RestOfHeader { timed: true }),
        })
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Active {
        self.active.set(self.active.get() + 1);
        Active(Rc::clone(self))
    }

    /// The client's address as a header value, made once for each connection.
    pub(crate) fn forwarded_for(&self) -> HeaderValue {
        let make = || {
            let ip = match self.address.ip() {
                IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
                v4 => v4,
            };
            HeaderValue::try_from(ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
        };
        self.forwarded_for.borrow_mut().get_or_insert_with(make).clone()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let client = &self.0;
        client.active.set(client.active.get().saturating_sub(1));
        if client.active.get() == 0 {
            client.waiting_for.set(Waiting::Request);
            client.waiting.set(client.deadlines.latest_ms() + IDLE_MS);
        }
    }
}

/// The client's end: first gives back what was read to tell the protocol, and bounds idleness, slow headers and
/// clients that don't read.
#[derive(Debug)]
pub(crate) struct Downstream {
    stream: TokioIo<TcpStream>,
    first: Bytes,
    client: Rc<Client>,
    stalled: Option<Deadline>,
}

impl Downstream {
    pub(crate) fn new(stream: TcpStream, first: Bytes, client: Rc<Client>) -> Self {
        Self { stream: TokioIo::new(stream), first, client, stalled: None }
    }

    /// Nothing came: is the client allowed to be silent?
    fn wait(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let client = &self.client;
        let between_requests = client.active.get() == 0;
        if between_requests && client.waiting_for.get() == (Waiting::RestOfHeader { timed: false }) {
            client.waiting_for.set(Waiting::RestOfHeader { timed: true });
            client.waiting.set(client.clock.ms() + client.header_ms);
        }
        // Asked in any case, so that the task is woken for a deadline that is set when the request has ended.
        if client.waiting.has_passed(cx) && between_requests {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client was silent for too long",
            )));
        }
        Poll::Pending
    }

    /// Something came.
    fn heard(&self) {
        let client = &self.client;
        if client.active.get() == 0 && !client.http2 && client.waiting_for.get() == Waiting::Request {
            client.waiting_for.set(Waiting::RestOfHeader { timed: false });
        }
    }

    fn written<T>(&mut self, cx: &Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let client = &self.client;
        let stalled =
            self.stalled.get_or_insert_with(|| client.deadlines.at(client.clock.ms() + WRITE_STALL_MS));
        if stalled.has_passed(cx) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")));
        }
        Poll::Pending
    }
}

impl Read for Downstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let n = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..n]);
            self.first.advance(n);
            return Poll::Ready(Ok(()));
        }
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.heard();
                Poll::Ready(result)
            }
            Poll::Pending => this.wait(cx),
        }
    }
}

impl Write for Downstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = write_gathered(&mut self.stream, cx, bufs);
        self.written(cx, result)
    }
}

/// Bytes that are rather copied together than handed to the kernel in pieces: send(2) costs less than writev(2).
const GATHER: usize = 2_048;

thread_local! {
    /// Where they are copied together. Clearing such a buffer for every write would cost as much as the copying.
    static GATHERED: RefCell<[u8; GATHER]> = const { RefCell::new([0; GATHER]) };
}

fn write_gathered(
    stream: &mut TokioIo<TcpStream>,
    cx: &mut Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    if let [only] = bufs {
        return stream.poll_write(cx, only);
    }
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    if total > GATHER {
        return stream.poll_write_vectored(cx, bufs);
    }
    GATHERED.with_borrow_mut(|gathered| {
        let mut end = 0;
        for buf in bufs {
            gathered[end..end + buf.len()].copy_from_slice(buf);
            end += buf.len();
        }
        stream.poll_write(cx, &gathered[..end])
    })
}

/// The cell's end: remembers whether the kernel took any byte of the request.
#[derive(Debug)]
pub(crate) struct Upstream {
    stream: TokioIo<TcpStream>,
    sent: Rc<Cell<bool>>,
}

impl Upstream {
    pub(crate) fn new(stream: TcpStream, sent: Rc<Cell<bool>>) -> Self {
        Self { stream: TokioIo::new(stream), sent }
    }
}

impl Read for Upstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Upstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.sent.set(true);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(write_gathered(&mut self.stream, cx, bufs))?;
        self.sent.set(true);
        Poll::Ready(Ok(n))
    }
}
