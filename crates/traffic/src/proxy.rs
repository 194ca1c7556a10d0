//! One request: choose a cell, send, and when that fails decide whether and where to try again.

use std::{convert::Infallible, future::poll_fn, pin::Pin, rc::Rc, task::Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};

use crate::{
    body::{Http1Body, Http2Body, Patience, RequestBody, ResponseBody},
    cell::Moment,
    deadline::{Deadline, ms},
    flight::{Flight, Routed, Service},
    headers::{is_idempotent, strip_hop_by_hop, to_cell, user_key},
    io::Client,
    table::Key,
    upstream::{Http1, SendError, Stream},
    wire::Protocol,
};

/// Names why the director answered itself.
static CAUSE: HeaderName = HeaderName::from_static("x-forefend-cause");
/// Cells one request may be offered to, refused connects included.
const MAX_OFFERS: usize = 16;

/// Answers one request of a client.
pub(crate) async fn serve(
    service: Rc<Service>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let active = client.enter();
    let routed = service.current();
    let settings = &routed.table.settings;
    service.budget.deposit(&settings.retry_budget);
    let now = service.worker.deadlines.now();
    let give_up_ms = now.ms() + ms(settings.request_timeout);
    let deadline = service.worker.deadlines.at(give_up_ms);

    let key = match user_key(&settings.sticky, request.headers(), client.address) {
        Some(hash) => Key::User(hash),
        None => {
            let (outer, inner) = service.anyone();
            Key::Anyone(outer, inner)
        }
    };
    let mut request = request;
    if let Err(why) = to_cell(&mut request, settings, &client) {
        return Ok(Refusal::bad_request(why).respond());
    }
    let (parts, body) = request.into_parts();
    let body = if body.is_end_stream() {
        RequestBody::Empty
    } else {
        match sendable(body, &parts.method, settings.max_body_buffer, &deadline).await {
            Ok(body) => body,
            Err(refusal) => return Ok(refusal.respond()),
        }
    };
    let request = Request::from_parts(parts, body);
    let mut tries = Tries {
        service: &service,
        routed: &routed,
        key,
        spare: Spare::of(&request),
        request: Some(request),
        offered: [0; MAX_OFFERS],
        offers: 0,
        sent: 0,
        give_up_ms,
    };
    match tries.run(now, &deadline).await {
        Ok((mut response, connection, flight)) => {
            strip_hop_by_hop(response.headers_mut());
            *response.version_mut() = Version::HTTP_11;
            let patience = Patience {
                deadlines: Rc::clone(&service.worker.deadlines),
                pause_ms: ms(settings.request_timeout),
                armed: None,
            };
            Ok(response.map(|incoming| match connection {
                Connection::Http1(connection) => ResponseBody::Http1(Box::new(Http1Body {
                    incoming,
                    connection: Some(connection),
                    ended: false,
                    flight,
                    patience,
                    _active: active,
                })),
                Connection::Http2(stream) => ResponseBody::Http2(Box::new(Http2Body {
                    incoming,
                    _stream: stream,
                    flight,
                    patience,
                    _active: active,
                })),
            }))
        }
        Err(refusal) => Ok(refusal.respond()),
    }
}

/// Where a response came from.
enum Connection {
    Http1(Box<Http1>),
    Http2(Stream),
}

/// The director's own answer.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    status: StatusCode,
    cause: &'static str,
    words: &'static str,
}

impl Refusal {
    const NO_CELL: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        cause: "no-cell",
        words: "no cell of this service has weight",
    };
    const CONNECT: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        cause: "connect",
        words: "no cell could be connected to; nothing was sent",
    };
    const RESET: Self = Self {
        status: StatusCode::BAD_GATEWAY,
        cause: "reset",
        words: "the cell broke the connection; the request may have been executed",
    };
    const TIMEOUT: Self = Self {
        status: StatusCode::GATEWAY_TIMEOUT,
        cause: "timeout",
        words: "the cell did not answer in time; the request may have been executed",
    };
    const CLIENT: Self =
        Self { status: StatusCode::BAD_REQUEST, cause: "client-body", words: "the request's body broke off" };
    const SLOW_CLIENT: Self = Self {
        status: StatusCode::REQUEST_TIMEOUT,
        cause: "client-body",
        words: "the request's body did not come in time",
    };

    fn bad_request(words: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, cause: "bad-request", words }
    }

    fn respond(self) -> Response<ResponseBody> {
        let text = Bytes::from(format!("forefend: {}: {}\n", self.cause, self.words));
        let mut response = Response::new(ResponseBody::Own(Some(text)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(&CAUSE, HeaderValue::from_static(self.cause));
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

/// A body that can be sent: kept whole where another try may need it.
async fn sendable(
    mut body: Incoming,
    method: &Method,
    keep_at_most: u32,
    deadline: &Deadline,
) -> Result<RequestBody, Refusal> {
    let size = body.size_hint().exact().filter(|size| *size <= u64::from(keep_at_most));
    let Some(size) = size.filter(|_| is_idempotent(method)) else {
        return Ok(RequestBody::Streamed(body));
    };
    let mut whole = BytesMut::with_capacity(size as usize);
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending if deadline.has_passed(cx) => Poll::Ready(Err(Refusal::SLOW_CLIENT)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Err(Refusal::CLIENT)),
        })
        .await?;
        match frame.map(hyper::body::Frame::into_data) {
            Some(Ok(data)) => whole.extend_from_slice(&data),
            // Trailers of a request with a known length: HTTP/2 only, and nobody relies on them here.
            Some(Err(_)) => {}
            None => break,
        }
    }
    Ok(RequestBody::Whole(Some(whole.freeze())))
}

/// What is needed to send a request again.
struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Spare {
    /// `None` when it must not or cannot be sent again.
    fn of(request: &Request<RequestBody>) -> Option<Self> {
        let body = match request.body() {
            RequestBody::Empty => None,
            RequestBody::Whole(body) => body.clone(),
            RequestBody::Streamed(_) => return None,
        };
        is_idempotent(request.method()).then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            body,
        })
    }

    fn request(&self) -> Request<RequestBody> {
        let body = match &self.body {
            None => RequestBody::Empty,
            Some(bytes) => RequestBody::Whole(Some(bytes.clone())),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

type Answer = (Response<Incoming>, Connection, Flight);

struct Tries<'a> {
    service: &'a Rc<Service>,
    routed: &'a Rc<Routed>,
    key: Key,
    /// The request while no connection has taken it. It is large, so it stays here and is not handed around.
    request: Option<Request<RequestBody>>,
    spare: Option<Spare>,
    offered: [u16; MAX_OFFERS],
    offers: usize,
    sent: u32,
    give_up_ms: u64,
}

/// Why a try at one cell gave no answer.
enum Missed {
    /// Nothing was sent; the request is still here.
    NotConnected,
    Sent(Refusal),
    /// No other try can help.
    Final(Refusal),
}

impl Tries<'_> {
    async fn run(&mut self, now: Moment, deadline: &Deadline) -> Result<Answer, Refusal> {
        let clock = self.service.worker.clock;
        let settings = &self.routed.table.settings;
        let mut began = now;
        let mut last = Refusal::NO_CELL;
        loop {
            if began.ms() >= self.give_up_ms {
                return Err(if self.offers == 0 { Refusal::TIMEOUT } else { last });
            }
            let Some(cell) = self.choose(began.ms(), last.cause) else { return Err(last) };
            if self.offers == MAX_OFFERS {
                return Err(last);
            }
            self.offered[self.offers] = cell;
            self.offers += 1;
            match self.offer(cell, began, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(Missed::Final(refusal)) => return Err(refusal),
                Err(Missed::NotConnected) => {
                    last = if self.sent == 0 { Refusal::CONNECT } else { last };
                }
                Err(Missed::Sent(refusal)) => {
                    last = refusal;
                    let Some(spare) = &self.spare else { return Err(last) };
                    let now_ms = clock.ms();
                    if self.sent >= settings.max_tries
                        || now_ms >= self.give_up_ms
                        || !self.service.budget.withdraw(&settings.retry_budget, now_ms)
                    {
                        return Err(last);
                    }
                    self.request = Some(spare.request());
                }
            }
            began = clock.now();
        }
    }

    /// The cell to offer the request to next: healthy ones first; when none is, any with weight that had no chance.
    fn choose(&self, now_ms: u64, last_cause: &str) -> Option<u16> {
        let table = &self.routed.table;
        let offered = &self.offered[..self.offers];
        let patience = table.settings.try_timeout;
        let healthy = |cell: u16| {
            let local = &self.routed.cells[usize::from(cell)];
            local.cell.is_available(now_ms) && !offered.contains(&cell) && !local.is_stuck(now_ms, patience)
        };
        table
            .choose(self.key, healthy)
            .or_else(|| table.choose(self.key, |cell| !offered.contains(&cell)))
            // Alone in the world: a broken connection may be the connection's fault, so ask again.
            .or_else(|| table.choose(self.key, |_| last_cause == Refusal::RESET.cause))
    }

    /// Offers the request to one cell.
    async fn offer(&mut self, cell: u16, began: Moment, deadline: &Deadline) -> Result<Answer, Missed> {
        let settings = &self.routed.table.settings;
        let mut flight = Flight::begin(&self.service.worker, self.routed, cell, began);
        // A try that no other can follow ends with the request: giving it up sooner would only lose its answer.
        let try_until_ms = if self.spare.is_some() && self.sent + 1 < settings.max_tries {
            (began.ms() + ms(settings.try_timeout)).min(self.give_up_ms)
        } else {
            self.give_up_ms
        };
        deadline.set(try_until_ms);
        let safe = self.request.as_ref().is_some_and(|request| is_idempotent(request.method()));
        let mut pooled = true;
        loop {
            let mut connection = match self.connect(&flight, pooled, safe).await {
                Ok(connection) => connection,
                Err(error) => {
                    flight.failed(&format!("connect: {error}"));
                    return Err(Missed::NotConnected);
                }
            };
            let sent = match &mut connection {
                Connection::Http1(connection) => connection.send(&mut self.request, deadline).await,
                Connection::Http2(stream) => stream.send(&mut self.request, deadline).await,
            };
            return match sent {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    flight.failed("switched protocols without being asked");
                    Err(Missed::Final(Refusal::RESET))
                }
                Ok(response) => {
                    self.sent += 1;
                    flight.answered(response.status());
                    Ok((response, connection, flight))
                }
                Err(SendError::Unsent) if pooled => {
                    // The cell closed an idle connection, which it may: a new one shows whether it is well.
                    pooled = false;
                    continue;
                }
                Err(SendError::Unsent) => {
                    flight.failed("it closed the connection at once");
                    Err(Missed::NotConnected)
                }
                Err(SendError::Broken { sent: false, .. }) if pooled && self.spare.is_some() => {
                    // The message is lost in the connection, but the kernel took nothing of it.
                    self.request = self.spare.as_ref().map(Spare::request);
                    pooled = false;
                    continue;
                }
                Err(SendError::Broken { error, .. }) => {
                    self.sent += 1;
                    flight.failed(&format!("reset: {error}"));
                    Err(Missed::Sent(Refusal::RESET))
                }
                Err(SendError::TimedOut) => {
                    self.sent += 1;
                    flight.failed("no response in time");
                    Err(Missed::Sent(Refusal::TIMEOUT))
                }
                Err(SendError::Client(error)) => {
                    tracing::debug!(%error, "a client's body broke off");
                    flight.void();
                    Err(Missed::Final(Refusal::CLIENT))
                }
            };
        }
    }

    async fn connect(&self, flight: &Flight, pooled: bool, safe: bool) -> std::io::Result<Connection> {
        let local = flight.local();
        let settings = &self.routed.table.settings;
        let left_ms = self.give_up_ms.saturating_sub(flight.now_ms()).max(1);
        let within = settings.connect_timeout.min(std::time::Duration::from_millis(left_ms));
        let address = local.cell.address;
        match settings.protocol {
            Protocol::Http1 => {
                while pooled && let Some(connection) = local.pool.take() {
                    // What must not be sent twice is not risked on a connection that is already closed.
                    if safe || !connection.is_closed_by_peer() {
                        return Ok(Connection::Http1(connection));
                    }
                }
                Http1::connect(address, within).await.map(Connection::Http1)
            }
            Protocol::Http2 => match local.streams.take().filter(|_| pooled) {
                Some(stream) => Ok(Connection::Http2(stream)),
                None => local.streams.connect(address, within).await.map(Connection::Http2),
            },
        }
    }
}
