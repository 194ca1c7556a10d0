//! From a request to what it is: who asks, for what, in which format.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forefend_telemetry::{Intake, pushed::PushLimits};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;

use super::{ReceiveOptions, answer::Failure, grpc, otlp, remote_write};

/// A body must have come by then.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// As for the API's tokens: it can't be tried out.
const SECRET_CHARS_AT_LEAST: usize = 16;

/// What every request needs.
pub(super) struct Shared {
    /// A hash, so that no secret stays in memory and comparing takes the same time whatever was sent.
    secret: Option<blake3::Hash>,
    pub(super) limits: PushLimits,
    pub(super) intake: Intake,
    requests: Arc<Semaphore>,
    max_requests: usize,
}

/// What is pushed over OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Metrics,
    Logs,
}

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    RemoteWrite,
    Otlp(Signal),
    Grpc(Signal),
    UnknownGrpc,
    Unknown,
}

impl Route {
    fn of(request: &Request<Incoming>) -> Self {
        let grpc =
            header(request.headers(), &CONTENT_TYPE).is_some_and(|t| t.starts_with("application/grpc"));
        match request.uri().path() {
            "/api/v1/write" => Self::RemoteWrite,
            "/v1/metrics" => Self::Otlp(Signal::Metrics),
            "/v1/logs" => Self::Otlp(Signal::Logs),
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" if grpc => {
                Self::Grpc(Signal::Metrics)
            }
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export" if grpc => Self::Grpc(Signal::Logs),
            _ if grpc => Self::UnknownGrpc,
            _ => Self::Unknown,
        }
    }
}

impl Shared {
    pub(super) fn new(options: ReceiveOptions) -> Result<Self, String> {
        if let Some(secret) = &options.secret {
            let fine = secret.bytes().all(|byte| byte.is_ascii_graphic());
            if !fine || secret.len() < SECRET_CHARS_AT_LEAST {
                return Err(format!(
                    "the secret must be at least {SECRET_CHARS_AT_LEAST} printable ASCII characters without blanks: make \
                     one with `openssl rand -base64 24`"
                ));
            }
        }
        Ok(Self {
            secret: options.secret.map(|secret| blake3::hash(secret.as_bytes())),
            limits: options.limits,
            intake: options.intake,
            requests: Arc::new(Semaphore::new(options.max_requests)),
            max_requests: options.max_requests,
        })
    }

    pub(super) fn max_streams(&self) -> u32 {
        u32::try_from(self.max_requests).unwrap_or(u32::MAX)
    }

    /// Whether the request bears the secret (RFC 6750).
    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(wanted) = self.secret else { return true };
        let value = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        let Some((scheme, given)) = value.split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && blake3::hash(given.trim_ascii()) == wanted
    }

    fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.requests).try_acquire_owned().map_err(|_| {
            Failure::later(format!("{} requests are being read already; come again", self.max_requests))
        })
    }
}

/// Answers one request.
pub(super) async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let route = Route::of(&request);
    let checked = check(shared, route, &request);
    match route {
        Route::Grpc(signal) => match checked {
            Ok(_turn) => grpc::export(shared, signal, request).await,
            Err(failure) => failure.grpc(),
        },
        Route::UnknownGrpc => checked.map_or_else(Failure::grpc, |_| grpc::unknown()),
        Route::RemoteWrite => {
            let answer = with_body(shared, checked, request, remote_write::take).await;
            answer.unwrap_or_else(Failure::plain)
        }
        Route::Otlp(signal) => {
            let encoding = otlp::encoding(request.headers());
            let take = move |shared: &Shared, headers: &HeaderMap, body: &[u8]| {
                otlp::take(shared, signal, headers, body)
            };
            with_body(shared, checked, request, take).await.unwrap_or_else(|failure| failure.otlp(encoding))
        }
        Route::Unknown => Failure::new(StatusCode::NOT_FOUND, NOTHING_HERE).plain(),
    }
}

const NOTHING_HERE: &str =
    "telemetry is taken at /api/v1/write (Prometheus remote write), /v1/metrics and /v1/logs (OTLP)";

/// What can be said before anything is read. The permit is the request's turn.
fn check(
    shared: &Shared,
    route: Route,
    request: &Request<Incoming>,
) -> Result<OwnedSemaphorePermit, Failure> {
    if !shared.admits(request.headers()) {
        return Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            "send the token that `engine.receive.token` names as `Authorization: Bearer …`",
        ));
    }
    if request.method() != Method::POST && route != Route::Unknown {
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "telemetry is sent by POST"));
    }
    shared.turn()
}

/// Reads the body within the bounds and lets `take` work on it where work may take its time.
async fn with_body<F>(
    shared: &Arc<Shared>,
    checked: Result<OwnedSemaphorePermit, Failure>,
    request: Request<Incoming>,
    take: F,
) -> Result<Response<Body>, Failure>
where
    F: FnOnce(&Shared, &HeaderMap, &[u8]) -> Result<Response<Body>, Failure> + Send + 'static,
{
    let turn = checked?;
    let (head, body) = request.into_parts();
    let body = read(body, shared.limits.max_bytes).await?;
    let shared = Arc::clone(shared);
    work(move || {
        let answer = take(&shared, &head.headers, &body);
        drop(turn);
        answer
    })
    .await?
}

/// Runs what may take tens of milliseconds away from the threads that answer.
pub(super) async fn work<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let failed = |_| Failure::later("the engine is ending".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

async fn read(body: Incoming, bound: usize) -> Result<Bytes, Failure> {
    let collected = tokio::time::timeout(BODY_WITHIN, Limited::new(body, bound).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the body is larger than {bound} bytes; send less at once, or raise `engine.receive.max_body`"
            ),
        )),
        Ok(Err(error)) => Err(Failure::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
        Err(_) => Err(Failure::later(format!("the body did not come within {BODY_WITHIN:?}"))),
    }
}

/// A header as text; `None` also for what is no text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// How the body is compressed; `identity` when it is not said.
pub(super) fn content_encoding(headers: &HeaderMap) -> &str {
    header(headers, &CONTENT_ENCODING).map_or("identity", str::trim)
}
