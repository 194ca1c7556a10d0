use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use forefend_domain::Rate;
use hyper::{Method, StatusCode};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    blueprint::{Replay, ReplayMethod, WarmUp},
    http::Connection,
};

/// What a warm-up did and measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Warmed {
    /// Requests sent: preloads and replays.
    pub(crate) requests: u32,
    /// Of those, answered well.
    pub(crate) ok: u32,
    /// Good answers per second in the fastest replay; `None` when none was replayed.
    pub(crate) capacity: Option<Rate>,
}

/// Executes `plan` against the cell at `address` and checks it.
pub(crate) async fn warm_up(plan: &WarmUp, address: SocketAddr) -> Result<Warmed, String> {
    let executed = timeout(plan.timeout, execute(plan, address))
        .await
        .map_err(|_| format!("warm-up was not done within {:?}", plan.timeout))??;
    let (warmed, last_failure) = executed;
    let needed = plan.min_ok.get() * f64::from(warmed.requests);
    if f64::from(warmed.ok) + 1e-9 < needed {
        let why = last_failure.unwrap_or_default();
        return Err(format!(
            "warm-up: {} of {} requests were answered well, {:.0} are needed; the last failure: {why}",
            warmed.ok,
            warmed.requests,
            needed.ceil()
        ));
    }
    Ok(warmed)
}

async fn execute(plan: &WarmUp, address: SocketAddr) -> Result<(Warmed, Option<String>), String> {
    let patience = plan.request_timeout;
    let mut pool = open(plan.connect, address, patience).await?;
    let mut warmed = Warmed { requests: 0, ok: 0, capacity: None };
    let mut last_failure = None;
    let mut client = Client { address, patience, connection: pool.pop() };
    for path in &plan.preload {
        let result = client.send(Method::GET, path, None).await;
        warmed.requests += 1;
        match result {
            Ok(()) => warmed.ok += 1,
            Err(why) => last_failure = Some(why),
        }
    }
    pool.extend(client.connection);
    for replay in &plan.replay {
        let begun = Instant::now();
        let (ok, failure) = run_replay(replay, &mut pool, address, patience).await;
        let took = begun.elapsed().as_secs_f64();
        warmed.requests += replay.count;
        warmed.ok += ok;
        last_failure = failure.or(last_failure);
        let rate = Rate::per_second(f64::from(ok) / took.max(1e-6)).ok();
        warmed.capacity = match (warmed.capacity, rate) {
            (Some(a), Some(b)) => Some(if b > a { b } else { a }),
            (a, b) => a.or(b),
        };
    }
    Ok((warmed, last_failure))
}

/// All at once, as clients will come.
async fn open(count: u32, address: SocketAddr, patience: Duration) -> Result<Vec<Connection>, String> {
    let mut opening = JoinSet::new();
    for _ in 0..count {
        opening.spawn(Connection::open(address, patience));
    }
    let mut pool = Vec::new();
    while let Some(opened) = opening.join_next().await {
        let connection = opened.map_err(|e| e.to_string())?;
        pool.push(connection.map_err(|why| format!("warm-up: a connection can't be opened: {why}"))?);
    }
    Ok(pool)
}

/// Replays with as many workers as asked for; each keeps its connection, taken from and given back to `pool`.
async fn run_replay(
    replay: &Replay,
    pool: &mut Vec<Connection>,
    address: SocketAddr,
    patience: Duration,
) -> (u32, Option<String>) {
    let next = Arc::new(AtomicU32::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..replay.concurrency.min(replay.count) {
        let (replay, next) = (replay.clone(), next.clone());
        let mut client = Client { address, patience, connection: pool.pop() };
        workers.spawn(async move {
            let method = match replay.method {
                ReplayMethod::Get => Method::GET,
                ReplayMethod::Head => Method::HEAD,
            };
            let (mut ok, mut failure) = (0, None);
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= replay.count {
                    return (ok, failure, client.connection);
                }
                let path = replay.path.replace("{n}", &n.to_string());
                match client.send(method.clone(), &path, replay.expect_status).await {
                    Ok(()) => ok += 1,
                    Err(why) => failure = Some(why),
                }
            }
        });
    }
    let (mut total, mut last_failure) = (0, None);
    while let Some(done) = workers.join_next().await {
        match done {
            Ok((ok, failure, connection)) => {
                total += ok;
                last_failure = failure.or(last_failure);
                pool.extend(connection);
            }
            Err(e) => last_failure = Some(e.to_string()),
        }
    }
    (total, last_failure)
}

struct Client {
    address: SocketAddr,
    patience: Duration,
    connection: Option<Connection>,
}

impl Client {
    async fn send(&mut self, method: Method, path: &str, expected: Option<u16>) -> Result<(), String> {
        let mut connection = match self.connection.take().filter(Connection::is_usable) {
            Some(connection) => connection,
            None => Connection::open(self.address, self.patience).await?,
        };
        let result = connection.send(method, path, self.patience).await;
        let status = result.map_err(|why| format!("{path}: {why}"))?;
        self.connection = Some(connection);
        if is_good(status, expected) { Ok(()) } else { Err(format!("{path}: status {}", status.as_u16())) }
    }
}

fn is_good(status: StatusCode, expected: Option<u16>) -> bool {
    expected.map_or(status.as_u16() < 400, |expected| status.as_u16() == expected)
}
