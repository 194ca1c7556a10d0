//! Load for `bench proxy`: as much as goes, or at a steady rate.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};

use super::client::{self, Connection};

/// A request without an answer for so long has failed.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams of an HTTP/2 connection that are in use at once.
const STREAMS_PER_CONNECTION: usize = 8;

/// Whom to load and how.
#[derive(Args)]
pub(crate) struct LoadArguments {
    #[arg(long)]
    target: SocketAddr,
    /// Requests in flight at once, each on a connection of its own (HTTP/2: eight to a connection).
    #[arg(long)]
    concurrency: usize,
    /// Seconds before the measured time.
    #[arg(long)]
    warm_up_s: f64,
    /// Measured seconds.
    #[arg(long)]
    seconds: f64,
    /// Requests per second over all; without it, as many as go.
    #[arg(long)]
    rate: Option<f64>,
    /// Speak HTTP/2 with prior knowledge.
    #[arg(long)]
    http2: bool,
}

/// What a load saw in its measured time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LoadResult {
    /// Requests answered with 200.
    pub(super) answered: u64,
    /// All others.
    pub(super) failed: u64,
    /// How long the measured time really was.
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// One of the lines on which requests follow each other.
enum Line {
    Http1(Connection, Vec<u8>),
    Http2(SendRequest<Empty<Bytes>>, hyper::Request<Empty<Bytes>>),
}

struct Tally {
    measured: bool,
    answered: u64,
    failed: u64,
    latency_us: Histogram<u64>,
}

/// Loads, says `begin` when the measured time begins, and prints the result as JSON.
///
/// # Errors
/// When it can't connect at the start. Later failures are counted.
pub(super) async fn run(arguments: LoadArguments) -> Result<()> {
    ensure!(arguments.concurrency > 0, "--concurrency must be at least 1");
    let tally = Rc::new(RefCell::new(Tally {
        measured: false,
        answered: 0,
        failed: 0,
        latency_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
    }));
    let lines = open_lines(&arguments).await?;
    let interval = arguments.rate.map(|rate| Duration::from_secs_f64(arguments.concurrency as f64 / rate));
    let start = Instant::now();
    for (n, line) in lines.into_iter().enumerate() {
        // Lines of a steady load are spread evenly over the interval.
        let offset = interval.map_or(Duration::ZERO, |i| i.mul_f64(n as f64 / arguments.concurrency as f64));
        let tally = Rc::clone(&tally);
        tokio::task::spawn_local(keep_busy(line, arguments.target, start + offset, interval, tally));
    }
    tokio::time::sleep(Duration::from_secs_f64(arguments.warm_up_s)).await;
    tally.borrow_mut().measured = true;
    println!("begin");
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(arguments.seconds)).await;
    let mut tally = tally.borrow_mut();
    tally.measured = false;
    let quantile = |q| tally.latency_us.value_at_quantile(q) as f64 / 1000.0;
    let result = LoadResult {
        answered: tally.answered,
        failed: tally.failed,
        seconds: begin.elapsed().as_secs_f64(),
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
    };
    println!("{}", serde_json::to_string(&result)?);
    Ok(())
}

/// Makes one request, as a check that a proxy serves.
///
/// # Errors
/// When it isn't answered with 200.
pub(super) async fn probe(target: SocketAddr, http2: bool) -> Result<()> {
    let attempt = async {
        let mut line = if http2 {
            let sender = open_http2(target).await?;
            Line::Http2(sender, get_http2(target, 0)?)
        } else {
            Line::Http1(Connection::open(target).await?, client::get("/", target, 0))
        };
        anyhow::Ok(line.request().await?)
    };
    let status = timeout(Duration::from_secs(1), attempt).await.context("no answer within a second")??;
    ensure!(status == 200, "answered with {status}");
    Ok(())
}

async fn open_lines(arguments: &LoadArguments) -> Result<Vec<Line>> {
    let target = arguments.target;
    let mut lines = Vec::with_capacity(arguments.concurrency);
    if arguments.http2 {
        while lines.len() < arguments.concurrency {
            let sender = timeout(REQUEST_TIMEOUT, open_http2(target)).await??;
            for _ in 0..STREAMS_PER_CONNECTION.min(arguments.concurrency - lines.len()) {
                let request = get_http2(target, lines.len())?;
                lines.push(Line::Http2(sender.clone(), request));
            }
        }
    } else {
        for user in 0..arguments.concurrency {
            let connection = timeout(REQUEST_TIMEOUT, Connection::open(target)).await??;
            lines.push(Line::Http1(connection, client::get("/", target, user)));
        }
    }
    Ok(lines)
}

fn get_http2(target: SocketAddr, user: usize) -> Result<hyper::Request<Empty<Bytes>>> {
    Ok(hyper::Request::get(format!("http://{target}/"))
        .header(client::USER_HEADER, user)
        .body(Empty::new())?)
}

async fn open_http2(target: SocketAddr) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // Ends with its last sender; its errors show at the requests.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

impl Line {
    /// Makes a request; returns its status.
    async fn request(&mut self) -> io::Result<u16> {
        match self {
            Line::Http1(connection, request) => {
                let response = connection.exchange(request).await?;
                if response.close {
                    return Err(io::Error::other("the proxy closes a connection that should be kept"));
                }
                Ok(response.status)
            }
            Line::Http2(sender, request) => {
                sender.ready().await.map_err(io::Error::other)?;
                let response = sender.send_request(request.clone()).await.map_err(io::Error::other)?;
                let status = response.status().as_u16();
                let mut body = response.into_body();
                while let Some(frame) = body.frame().await {
                    frame.map_err(io::Error::other)?;
                }
                Ok(status)
            }
        }
    }
}

/// Makes requests for ever, one after the other or at every `interval` from `next` on.
async fn keep_busy(
    mut line: Line,
    target: SocketAddr,
    mut next: Instant,
    interval: Option<Duration>,
    tally: Rc<RefCell<Tally>>,
) {
    loop {
        let mut begun = Instant::now();
        if let Some(interval) = interval {
            if begun < next {
                tokio::time::sleep_until(next.into()).await;
                // Our own timer's lateness is not the proxy's.
                begun = Instant::now();
            } else {
                // The proxy's lateness is: the request should have begun earlier ("coordinated omission").
                begun = next;
            }
            next += interval;
        }
        let outcome = timeout(REQUEST_TIMEOUT, line.request()).await;
        let ok = matches!(outcome, Ok(Ok(200)));
        let broken = !matches!(outcome, Ok(Ok(_)));
        {
            let mut tally = tally.borrow_mut();
            if tally.measured {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                tally.latency_us.saturating_record(micros);
                if ok { tally.answered += 1 } else { tally.failed += 1 }
            }
        }
        if broken && !reopen(&mut line, target).await {
            // Nobody there: don't spin.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn reopen(line: &mut Line, target: SocketAddr) -> bool {
    match line {
        Line::Http1(connection, _) => match timeout(REQUEST_TIMEOUT, Connection::open(target)).await {
            Ok(Ok(fresh)) => {
                *connection = fresh;
                true
            }
            _ => false,
        },
        Line::Http2(sender, _) => match timeout(REQUEST_TIMEOUT, open_http2(target)).await {
            Ok(Ok(fresh)) => {
                *sender = fresh;
                true
            }
            _ => false,
        },
    }
}
