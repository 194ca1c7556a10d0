//! Users: an open loop of requests over connections that stay open, and single questions.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

/// An answer that takes longer is a failure.
const GIVE_UP: Duration = Duration::from_secs(3);

const CONNECTIONS: u64 = 16;

/// How users behave.
#[derive(Debug, Clone, Copy)]
pub struct Users {
    /// Where the service listens.
    pub target: SocketAddr,
    /// What is asked for with GET.
    pub path: &'static str,
    /// Whether every fifth request is a POST to `/cart`.
    pub posts: bool,
    /// Requests per second.
    pub per_s: u64,
    /// How many people.
    pub people: u64,
}

/// What they met since it was taken last.
#[derive(Debug, Default, Clone)]
pub struct Met {
    pub requests: u64,
    pub failures: Vec<String>,
    /// Answers by the cell that gave them.
    pub by_cell: BTreeMap<String, u64>,
}

impl Met {
    /// A cell's share of the answers.
    pub fn share(&self, cell: &str) -> f64 {
        self.by_cell.get(cell).copied().unwrap_or(0) as f64 / self.requests.max(1) as f64
    }

    /// Asserts that everything went well, and that there was something.
    pub fn all_well(&self) {
        assert!(self.requests > 0, "there was no request");
        assert!(
            self.failures.is_empty(),
            "{} of {} requests failed: {:?}",
            self.failures.len(),
            self.requests,
            &self.failures[..self.failures.len().min(5)]
        );
    }
}

struct Shared {
    users: Users,
    stop: AtomicBool,
    next: AtomicU64,
    due: Mutex<Instant>,
    met: Mutex<Met>,
}

/// Running users; dropped, they stop.
pub struct Load {
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

impl Load {
    pub fn start(users: Users) -> Self {
        let runtime = runtime();
        let shared = Arc::new(Shared {
            users,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            due: Mutex::new(Instant::now()),
            met: Mutex::new(Met::default()),
        });
        for _ in 0..CONNECTIONS {
            runtime.spawn(user(Arc::clone(&shared)));
        }
        Self { shared, _runtime: runtime }
    }

    pub fn take(&self) -> Met {
        std::mem::take(&mut self.shared.met.lock().unwrap())
    }

    /// Waits for so many requests more, and returns what they met.
    pub fn next(&self, requests: u64) -> Met {
        self.take();
        super::wait_for("users are answered", super::PATIENCE, || {
            let met = self.shared.met.lock().unwrap();
            (met.requests >= requests).then(|| met.clone())
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Asks once for each of so many people on a connection of its own, and tells who answered whom. Not faster than these users
/// are: a burst over what the mirrors can carry is a reason to move traffic.
pub fn homes(users: Users) -> BTreeMap<u64, String> {
    let asked = async {
        let mut homes = BTreeMap::new();
        let mut pace = tokio::time::interval(Duration::from_nanos(1_000_000_000 / users.per_s));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for who in 0..users.people {
            pace.tick().await;
            let answer = tokio::time::timeout(GIVE_UP, ask(&users, &mut None, who, "GET")).await;
            homes.insert(who, answer.expect("an answer in time").expect("an answer"));
        }
        homes
    };
    runtime().block_on(asked)
}

/// Whether one GET is answered well on a new connection within `patience`.
pub fn answers(target: SocketAddr, path: &'static str, patience: Duration) -> bool {
    let users = Users { target, path, posts: false, per_s: 1, people: 1 };
    let asked = async { tokio::time::timeout(patience, ask(&users, &mut None, 0, "GET")).await };
    matches!(
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asked),
        Ok(Ok(_))
    )
}

/// POSTs a JSON body; the answer must be a good one.
pub fn post(target: SocketAddr, path: &str, headers: &[(&str, &str)], body: &serde_json::Value) {
    let mut request = Request::builder().method("POST").uri(path).header("host", "cell");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body.to_string())).unwrap();
    let asked = async {
        let mut sender = connect(target).await?;
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("status {}", answer.status())) }
    };
    let outcome: Result<(), String> =
        runtime().block_on(async { tokio::time::timeout(GIVE_UP, asked).await.expect("an answer in time") });
    outcome.unwrap_or_else(|why| panic!("POST http://{target}{path} {body}: {why}"));
}

/// The header `date` of an answer.
pub fn date(target: SocketAddr, path: &str) -> String {
    let request = Request::builder().uri(path).header("host", "cell").body(Full::default()).unwrap();
    let asked = async {
        let answer = connect(target).await?.send_request(request).await.map_err(|e| e.to_string())?;
        let date = answer.headers().get("date").ok_or("no date")?;
        date.to_str().map(str::to_owned).map_err(|e| e.to_string())
    };
    let outcome: Result<String, String> =
        runtime().block_on(async { tokio::time::timeout(GIVE_UP, asked).await.expect("an answer in time") });
    outcome.unwrap_or_else(|why| panic!("GET http://{target}{path}: {why}"))
}

async fn user(shared: Arc<Shared>) {
    let mut connection = None;
    let gap = Duration::from_nanos(1_000_000_000 / shared.users.per_s);
    while !shared.stop.load(Ordering::Relaxed) {
        let due = {
            let mut due = shared.due.lock().unwrap();
            *due += gap;
            *due
        };
        tokio::time::sleep_until(due).await;
        let n = shared.next.fetch_add(1, Ordering::Relaxed);
        // A prime step visits everybody in no obvious order.
        let who = n.wrapping_mul(7_919) % shared.users.people;
        let method = if shared.users.posts && n.is_multiple_of(5) { "POST" } else { "GET" };
        let asked = ask(&shared.users, &mut connection, who, method);
        let outcome = tokio::time::timeout(GIVE_UP, asked).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {GIVE_UP:?}")));
        if outcome.is_err() {
            connection = None;
        }
        let mut met = shared.met.lock().unwrap();
        met.requests += 1;
        match outcome {
            Ok(cell) => *met.by_cell.entry(cell).or_default() += 1,
            Err(why) => met.failures.push(format!("{method}: {why}")),
        }
    }
}

async fn connect(target: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(target).await.map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        // Its end shows in the next request.
        let _ = driver.await;
    });
    Ok(sender)
}

/// Who answered: the header `x-cell` or the zone in the JSON of the answer.
async fn ask(
    users: &Users,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    who: u64,
    method: &str,
) -> Result<String, String> {
    if connection.as_ref().is_none_or(|c| c.is_closed()) {
        *connection = Some(connect(users.target).await?);
    }
    let sender = connection.as_mut().ok_or("no connection")?;
    let builder = Request::builder()
        .method(method)
        .header("host", "service.example")
        .header("cookie", format!("session=user-{who}"))
        .header("x-user", format!("user-{who}"));
    let request = match method {
        "POST" => builder
            .uri("/cart")
            .header("content-type", "application/json")
            .body(Full::from(format!(r#"{{"user":"user-{who}","item":{who}}}"#))),
        _ => builder.uri(users.path).body(Full::default()),
    };
    let request = request.map_err(|e| e.to_string())?;
    sender.ready().await.map_err(|e| format!("{e:?}"))?;
    let response = sender.send_request(request).await.map_err(|e| format!("{e:?}"))?;
    let status = response.status();
    let named = response.headers().get("x-cell").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = response.into_body().collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
    if !status.is_success() {
        return Err(format!("status {status}: {}", String::from_utf8_lossy(&body)));
    }
    let zone = || {
        let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
        body["zone"].as_str().map(str::to_owned)
    };
    Ok(named.or_else(zone).unwrap_or_else(|| "unnamed".to_owned()))
}
