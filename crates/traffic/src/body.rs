//! Bodies on their way through.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{
    deadline::{Deadline, Deadlines},
    flight::Flight,
    io::Active,
    upstream::{Http1, Stream},
};

/// What is sent to a cell.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// Kept whole, so that it can be sent again.
    Whole(Option<Bytes>),
    /// As the client sends it.
    Streamed(Incoming),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(incoming) => Pin::new(incoming).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(None) => true,
            Self::Whole(Some(_)) => false,
            Self::Streamed(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(incoming) => incoming.size_hint(),
        }
    }
}

/// Why a response's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the cell's response broke off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the cell's response broke off")]
    Ended,
    #[error("the cell sent nothing more for too long")]
    Stalled,
}

/// What is sent to the client.
pub(crate) enum ResponseBody {
    /// The director's own words.
    Own(Option<Bytes>),
    /// A cell's response over HTTP/1.1.
    Http1(Box<Http1Body>),
    /// A cell's response over HTTP/2.
    Http2(Box<Http2Body>),
}

/// How long a body may pause.
pub(crate) struct Patience {
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) pause_ms: u64,
    pub(crate) armed: Option<Deadline>,
}

impl Patience {
    fn reset(&mut self) {
        self.armed = None;
    }

    fn is_over(&mut self, cx: &Context<'_>, now_ms: impl FnOnce() -> u64) -> bool {
        let (deadlines, pause_ms) = (&self.deadlines, self.pause_ms);
        self.armed.get_or_insert_with(|| deadlines.at(now_ms() + pause_ms)).has_passed(cx)
    }
}

/// Drives the connection that it reads from, and puts it back when all is read.
pub(crate) struct Http1Body {
    pub(crate) incoming: Incoming,
    pub(crate) connection: Option<Box<Http1>>,
    /// The connection ended; what it had read may still be here.
    pub(crate) ended: bool,
    pub(crate) flight: Flight,
    pub(crate) patience: Patience,
    pub(crate) _active: Active,
}

impl Http1Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut driven = false;
        loop {
            // Only the connection can bring a frame, and it is driven right here: no waker is needed.
            let polled = Pin::new(&mut self.incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    self.patience.reset();
                    if self.incoming.is_end_stream() {
                        self.put_back();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => return self.broke(BodyError::Broken(error)),
                Poll::Ready(None) => {
                    self.put_back();
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            if driven {
                let flight = &self.flight;
                if self.patience.is_over(cx, || flight.now_ms()) {
                    return self.broke(BodyError::Stalled);
                }
                return Poll::Pending;
            }
            let ended = self.connection.as_mut().is_none_or(|connection| connection.drive(cx));
            if ended && std::mem::replace(&mut self.ended, true) {
                return self.broke(BodyError::Ended);
            }
            driven = !ended;
        }
    }

    fn put_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.flight.put_back(connection);
        }
    }

    fn broke(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.connection = None;
        self.flight.broke_off();
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        // hyper does not ask again after the last frame, nor at all for a response without a body.
        if self.incoming.is_end_stream() {
            self.put_back();
        }
    }
}

/// A stream's body.
pub(crate) struct Http2Body {
    pub(crate) incoming: Incoming,
    pub(crate) _stream: Stream,
    pub(crate) flight: Flight,
    pub(crate) patience: Patience,
    pub(crate) _active: Active,
}

impl Http2Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.patience.reset();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                self.flight.broke_off();
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => {
                let flight = &self.flight;
                if self.patience.is_over(cx, || flight.now_ms()) {
                    self.flight.broke_off();
                    return Poll::Ready(Some(Err(BodyError::Stalled)));
                }
                Poll::Pending
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Http1(body) => body.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Http1(body) => body.incoming.is_end_stream(),
            Self::Http2(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Http1(body) => body.incoming.size_hint(),
            Self::Http2(body) => body.incoming.size_hint(),
        }
    }
}
