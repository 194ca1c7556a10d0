//! The users: an open loop of requests, 80% GET and 20% POST, over connections that stay open.
//!
//! Each request is due at an instant fixed beforehand; latency counts from there, so a service that stalls can't hide by
//! slowing its users down (coordinated omission).

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle, time::Instant};

/// Users at a time; each has one connection and waits for its answer before its next request. Enough that a request which takes as
/// long as the objective allows holds nobody up.
const CONNECTIONS: u64 = 192;

/// People behind those connections.
const USERS: u64 = 2_000;

/// An answer that takes longer is a failure.
const GIVE_UP: Duration = Duration::from_secs(3);

/// What the users met since the counts were taken last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Met {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
    /// In microseconds.
    pub(crate) latencies_us: Vec<u32>,
    /// The first few failures, for people who want to know why.
    pub(crate) failures: Vec<String>,
}

impl Met {
    /// 99th percentile in milliseconds (nearest rank); 0 without requests.
    pub(crate) fn p99_ms(&self) -> f64 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100);
        rank.checked_sub(1).and_then(|i| sorted.get(i)).map_or(0.0, |us| f64::from(*us) / 1_000.0)
    }
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    objective: Duration,
    /// Letter that ids begin with.
    act: AtomicU64,
    /// Requests per second, in thousandths.
    milli_rate: AtomicU64,
    stop: AtomicBool,
    next: AtomicU64,
    met: Mutex<Met>,
    schedule: Mutex<Schedule>,
}

/// When the next request is due.
#[derive(Debug)]
struct Schedule {
    due: Instant,
}

/// Running users.
pub(crate) struct Load {
    shared: Arc<Shared>,
    users: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(target: SocketAddr, objective: Duration, per_s: f64) -> Self {
        let shared = Arc::new(Shared {
            target,
            objective,
            act: AtomicU64::new(u64::from(u32::from('w'))),
            milli_rate: AtomicU64::new((per_s * 1_000.0) as u64),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            met: Mutex::new(Met::default()),
            schedule: Mutex::new(Schedule { due: Instant::now() }),
        });
        let users = (0..CONNECTIONS).map(|_| tokio::spawn(user(Arc::clone(&shared)))).collect();
        Self { shared, users }
    }

    pub(crate) fn set_rate(&self, per_s: f64) {
        self.shared.milli_rate.store((per_s * 1_000.0) as u64, Ordering::Relaxed);
    }

    /// From now on requests belong to this act.
    pub(crate) fn set_act(&self, letter: char) {
        self.shared.act.store(u64::from(u32::from(letter)), Ordering::Relaxed);
    }

    /// What was met since the last call.
    pub(crate) fn take(&self) -> Met {
        std::mem::take(&mut *self.shared.met.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A look at the counts without taking them.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let met = self.shared.met.lock().unwrap_or_else(PoisonError::into_inner);
        (met.requests, met.failed, met.slow)
    }

    pub(crate) async fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for user in self.users {
            // A user that panicked has been counted as far as it came.
            let _ = user.await;
        }
    }
}

impl Shared {
    /// The next due instant, which no other user gets.
    fn claim(&self) -> Instant {
        let milli_rate = self.milli_rate.load(Ordering::Relaxed).max(1);
        let gap = Duration::from_nanos(1_000_000_000_000 / milli_rate);
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        schedule.due += gap;
        schedule.due
    }

    fn note(&self, due: Instant, outcome: Result<u16, String>) {
        let took = due.elapsed();
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.requests += 1;
        match outcome {
            Ok(status) if status < 500 => {
                if took > self.objective {
                    met.slow += 1;
                }
                met.latencies_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
            Ok(status) => met.fail(format!("status {status}")),
            Err(why) => met.fail(why),
        }
    }
}

impl Met {
    fn fail(&mut self, why: String) {
        self.failed += 1;
        if self.failures.len() < 5 {
            self.failures.push(why);
        }
    }
}

async fn user(shared: Arc<Shared>) {
    let mut connection: Option<SendRequest<Full<Bytes>>> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let due = shared.claim();
        tokio::time::sleep_until(due).await;
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let n = shared.next.fetch_add(1, Ordering::Relaxed);
        let answer = tokio::time::timeout(GIVE_UP, ask(&shared, &mut connection, n)).await;
        let outcome = match answer {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(why)) => {
                connection = None;
                Err(why)
            }
            Err(_) => {
                connection = None;
                Err(format!("no answer within {GIVE_UP:?}"))
            }
        };
        shared.note(due, outcome);
    }
}

async fn ask(
    shared: &Shared,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    n: u64,
) -> Result<u16, String> {
    let words = |error: hyper::Error| format!("{error:?}");
    if connection.as_ref().is_none_or(|c| c.is_closed()) {
        let stream = TcpStream::connect(shared.target).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let (sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
        tokio::spawn(async move {
            // Its end shows in the next request.
            let _ = driver.await;
        });
        *connection = Some(sender);
    }
    let sender = connection.as_mut().ok_or("no connection")?;
    sender.ready().await.map_err(words)?;
    let response = sender.send_request(request(shared, n)?).await.map_err(words)?;
    let status = response.status().as_u16();
    // The answer counts when it is there as a whole.
    response.into_body().collect().await.map_err(words)?;
    Ok(status)
}

fn request(shared: &Shared, n: u64) -> Result<Request<Full<Bytes>>, String> {
    let act = u32::try_from(shared.act.load(Ordering::Relaxed)).ok().and_then(char::from_u32).unwrap_or('w');
    // A multiplier that shares no factor with the number of users visits all of them in no obvious order.
    let who = n.wrapping_mul(7_919) % USERS;
    let item = n.wrapping_mul(104_729) % 1_000;
    let builder = Request::builder()
        .header("host", "shop.example")
        .header("x-user", format!("user-{who}"))
        .header("x-request-id", format!("{act}-{n}"));
    let request = if n.is_multiple_of(5) {
        let body = format!(r#"{{"user":"user-{who}","item":{item}}}"#);
        builder.method("POST").uri("/cart").header("content-type", "application/json").body(Full::from(body))
    } else {
        builder.method("GET").uri(format!("/item/{item}")).body(Full::default())
    };
    request.map_err(|e| e.to_string())
}
