//! Active checks: each listed cell is asked at its interval whether it is well.
//!
//! A cell without weight that takes the connection and says nothing is probably parked: it is not called down but
//! unknown, and the one question stays open until it is answered, so a thawed cell is up at once and a parked one is
//! not flooded with connections it can't accept.

use std::{
    cell::Cell as StdCell, collections::HashMap, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration,
};

use bytes::Bytes;
use forefend_domain::CellHealth;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::Notify,
    task::{JoinHandle, spawn_local},
    time::{Instant, timeout_at},
};

use crate::{
    cell::Cell,
    table::Table,
    upstream::LocalExecutor,
    wire::{HealthCheck, Protocol},
};

/// How long one question to a parked cell stays open. Each costs the cell's kernel one place in its queue.
const PARKED_PATIENCE: Duration = Duration::from_secs(6 * 3_600);

/// The checks that run. Must be used within a `LocalSet`.
#[derive(Default)]
pub(crate) struct Checks {
    running: HashMap<usize, Check>,
}

struct Check {
    cell: Arc<Cell>,
    how: Rc<How>,
    weighted: Rc<Weighted>,
    task: JoinHandle<()>,
}

#[derive(PartialEq)]
struct How {
    protocol: Protocol,
    health: HealthCheck,
}

struct Weighted {
    now: StdCell<bool>,
    changed: Notify,
}

impl Checks {
    /// Checks exactly the cells of these tables: those that are new or gain weight at once.
    pub(crate) fn follow<'a>(&mut self, tables: impl Iterator<Item = &'a Arc<Table>>) {
        let mut kept = HashMap::new();
        for table in tables {
            let how =
                Rc::new(How { protocol: table.settings.protocol, health: table.settings.health.clone() });
            if how.health.path.is_empty() {
                continue;
            }
            for entry in &table.cells {
                let key = Arc::as_ptr(&entry.cell) as usize;
                match self.running.remove(&key).filter(|check| *check.how == *how) {
                    Some(check) => {
                        if check.weighted.now.replace(entry.weighted) != entry.weighted {
                            check.weighted.changed.notify_one();
                        }
                        kept.insert(key, check);
                    }
                    None => {
                        let weighted =
                            Rc::new(Weighted { now: StdCell::new(entry.weighted), changed: Notify::new() });
                        let cell = Arc::clone(&entry.cell);
                        let task =
                            spawn_local(watch(Arc::clone(&cell), Rc::clone(&how), Rc::clone(&weighted)));
                        kept.insert(key, Check { cell, how: Rc::clone(&how), weighted, task });
                    }
                }
            }
        }
        for stopped in std::mem::replace(&mut self.running, kept).into_values() {
            stopped.task.abort();
            stopped.cell.set_checked(CellHealth::Unknown, "no longer checked".into());
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(cell: Arc<Cell>, how: Rc<How>, weighted: Rc<Weighted>) {
    let health = &how.health;
    let (mut good, mut bad) = (0u32, 0u32);
    let mut known = false;
    loop {
        let began = Instant::now();
        let asked = ask(cell.address, &how);
        let mut asked = std::pin::pin!(asked);
        let found = match timeout_at(began + health.timeout, &mut asked).await {
            Ok(found) => found,
            Err(_) if !weighted.now.get() => {
                let why = "it takes connections and does not answer: parked, or stuck";
                cell.set_checked(CellHealth::Unknown, why.into());
                (good, bad, known) = (0, 0, false);
                tokio::select! {
                    found = timeout_at(began + PARKED_PATIENCE, &mut asked) => match found {
                        Ok(found) => found,
                        Err(_) => continue,
                    },
                    () = weighted.changed.notified() => continue,
                }
            }
            Err(_) => Err(format!("no answer within {} ms", health.timeout.as_millis())),
        };
        match found {
            Ok(status) => {
                (good, bad) = (good.saturating_add(1), 0);
                if !known || good >= health.healthy_after {
                    known = true;
                    report(&cell, CellHealth::Up, format!("{} answers {status}", health.path));
                }
            }
            Err(why) => {
                (good, bad) = (0, bad.saturating_add(1));
                if bad >= health.unhealthy_after {
                    known = true;
                    report(&cell, CellHealth::Down, format!("{bad} checks failed, the last: {why}"));
                }
            }
        }
        // A cell that has just failed for the first time is asked again soon: that settles it earlier.
        let pause =
            if bad > 0 && bad < health.unhealthy_after { health.interval / 4 } else { health.interval };
        tokio::select! {
            () = tokio::time::sleep_until(began + pause) => {}
            () = weighted.changed.notified() => {}
        }
    }
}

fn report(cell: &Cell, health: CellHealth, why: String) {
    let words = why.clone();
    if cell.set_checked(health, why) {
        tracing::info!(cell = %cell.id, ?health, why = words, "health changed");
    }
}

/// One question. The error is in words.
async fn ask(address: SocketAddr, how: &How) -> Result<StatusCode, String> {
    let failed = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| connect_words(&error))?;
    let request = |uri: String| {
        Request::get(uri)
            .header(header::USER_AGENT, "forefend-health")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())
    };
    let path = &how.health.path;
    let response = match how.protocol {
        Protocol::Http1 => {
            let (mut sender, connection) =
                conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
            let mut request = request(path.clone())?;
            let host = address.to_string().try_into().map_err(|_| "bad address".to_owned())?;
            request.headers_mut().insert(header::HOST, host);
            request.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
            run_beside(connection, sender.send_request(request)).await
        }
        Protocol::Http2 => {
            let (mut sender, connection) = conn::http2::handshake(LocalExecutor, TokioIo::new(stream))
                .await
                .map_err(|error| failed(&error))?;
            run_beside(connection, sender.send_request(request(format!("http://{address}{path}"))?)).await
        }
    };
    let status = response?;
    if status.is_success() || status.is_redirection() {
        Ok(status)
    } else {
        Err(format!("{path} answers {status}"))
    }
}

async fn run_beside<B>(
    connection: impl Future<Output = hyper::Result<()>>,
    response: impl Future<Output = hyper::Result<http::Response<B>>>,
) -> Result<StatusCode, String> {
    let mut response = std::pin::pin!(response);
    let answered = tokio::select! {
        biased;
        answered = &mut response => answered,
        _ = connection => response.await,
    };
    answered.map(|response| response.status()).map_err(|error| error.to_string())
}

fn connect_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there (connection refused)".into(),
        _ => format!("can't connect: {error}"),
    }
}
