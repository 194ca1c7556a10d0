//! Cells that can be told to misbehave, a director on a thread, and a small blocking client.
#![expect(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use forefend_domain::{
    CellId, RegionId, ServiceId, ServiceWeights,
    ports::{DataPlane as _, DataPlaneReport, Route, Routing, ServiceRouting},
};
use forefend_traffic::{
    DirectorClient, DirectorError, DirectorOptions, HealthCheck, ServiceSettings, Sticky, run,
};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `what` holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub const NORMAL: u32 = 0;
pub const STALLED: u32 = 1;
pub const RESETTING: u32 = 2;
pub const FAILING: u32 = 3;

/// A cell: answers with its name, and remembers what it executed.
pub struct FakeCell {
    pub name: String,
    pub address: SocketAddr,
    mode: Arc<AtomicU32>,
    pub delay_ms: Arc<AtomicU64>,
    executed: Arc<Mutex<Vec<String>>>,
    pub echoed: Arc<Mutex<Vec<(String, http::HeaderMap)>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeCell {
    pub fn start(name: &str) -> Self {
        Self::start_at(name, free_address())
    }

    pub fn start_at(name: &str, address: SocketAddr) -> Self {
        let mode = Arc::new(AtomicU32::new(NORMAL));
        let delay_ms = Arc::new(AtomicU64::new(0));
        let executed = Arc::new(Mutex::new(Vec::new()));
        let echoed = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let state = (
            name.to_owned(),
            Arc::clone(&mode),
            Arc::clone(&delay_ms),
            Arc::clone(&executed),
            Arc::clone(&echoed),
        );
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind(address).await.unwrap();
                ready.send(()).unwrap();
                let serving = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let state = state.clone();
                        tokio::spawn(async move {
                            let service = service_fn(move |request| answer(request, state.clone()));
                            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                            // A client that goes away is no news here.
                            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                        });
                    }
                };
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            name: name.into(),
            address,
            mode,
            delay_ms,
            executed,
            echoed,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn behave(&self, mode: u32) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    /// The ids of the requests it executed, in order.
    pub fn executed(&self) -> Vec<String> {
        self.executed.lock().unwrap().clone()
    }

    /// Dies with all its connections, as a killed process does.
    pub fn kill(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for FakeCell {
    fn drop(&mut self) {
        self.kill();
    }
}

type State = (
    String,
    Arc<AtomicU32>,
    Arc<AtomicU64>,
    Arc<Mutex<Vec<String>>>,
    Arc<Mutex<Vec<(String, http::HeaderMap)>>>,
);

async fn answer(request: Request<Incoming>, state: State) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (name, mode, delay_ms, executed, echoed) = state;
    let mode = mode.load(Ordering::SeqCst);
    if mode == STALLED {
        std::future::pending::<Infallible>().await;
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    if parts.uri.path() == "/healthz" {
        let status = if mode == FAILING { 500 } else { 200 };
        return Ok(Response::builder().status(status).body(Full::default()).unwrap());
    }
    let id = parts.headers.get("x-id").map(|id| id.to_str().unwrap().to_owned()).unwrap_or_default();
    executed.lock().unwrap().push(format!("{} {id}", parts.method));
    echoed.lock().unwrap().push((parts.uri.to_string(), parts.headers));
    let delay = delay_ms.load(Ordering::SeqCst);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    match mode {
        RESETTING => Err(std::io::Error::other("reset")),
        FAILING => Ok(Response::builder().status(500).body(Full::default()).unwrap()),
        _ => Ok(Response::builder().header("x-cell", name).body(Full::new(body)).unwrap()),
    }
}

/// A director on a thread, and how to talk to it.
pub struct TestDirector {
    pub listen: SocketAddr,
    pub client: DirectorClient,
    pub generation: u64,
    pub settings: ServiceSettings,
    thread: Option<JoinHandle<Result<(), DirectorError>>>,
}

pub fn service() -> ServiceId {
    ServiceId::new("shop").unwrap()
}

/// Settings in which everything is quick and users are told apart by `x-user`.
pub fn quick(listen: SocketAddr) -> ServiceSettings {
    ServiceSettings {
        listen: vec![listen],
        sticky: Sticky::Header { name: "x-user".into() },
        try_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_millis(3_000),
        health: HealthCheck {
            path: "/healthz".into(),
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(200),
            unhealthy_after: 2,
            healthy_after: 1,
        },
        ..ServiceSettings::default()
    }
}

impl TestDirector {
    pub fn start(dir: &Path) -> Self {
        Self::start_with(DirectorOptions::new(dir), free_address())
    }

    pub fn start_with(options: DirectorOptions, listen: SocketAddr) -> Self {
        let settings = quick(listen);
        let mut client = DirectorClient::new(
            &options.state_dir,
            Duration::from_secs(5),
            BTreeMap::from([(service(), settings.clone())]),
        );
        let thread = std::thread::spawn(move || run(options));
        until("the director answers", || client.report().is_ok());
        Self { listen, client, generation: 0, settings, thread: Some(thread) }
    }

    /// Changes the settings sent with the next routing.
    pub fn set(&mut self, change: impl FnOnce(&mut ServiceSettings)) {
        change(&mut self.settings);
        self.client.set_settings(BTreeMap::from([(service(), self.settings.clone())]));
    }

    /// Routes to these cells by these shares (region, cell, share).
    pub fn route(&mut self, cells: &[(&str, &FakeCell, f64)]) {
        self.generation += 1;
        let routing = routing(
            self.generation,
            &cells.iter().map(|(r, c, s)| (*r, c.name.as_str(), c.address, *s)).collect::<Vec<_>>(),
        );
        self.client.apply(&routing).unwrap();
    }

    pub fn report(&mut self) -> DataPlaneReport {
        self.client.report().unwrap()
    }

    /// Waits until the director calls these cells up.
    pub fn until_up(&mut self, cells: &[&FakeCell]) {
        until("the cells are up", || {
            let report = self.report();
            cells.iter().all(|cell| {
                let id = CellId::new(&cell.name).unwrap();
                report.cells.get(&id).is_some_and(|c| c.health == forefend_domain::CellHealth::Up)
            })
        });
    }

    pub fn stop(&mut self, drain: bool) -> Result<(), DirectorError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.client.shutdown(drain).unwrap();
        thread.join().unwrap()
    }
}

impl Drop for TestDirector {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && self.client.shutdown(false).is_ok()
        {
            let _ = thread.join();
        }
    }
}

pub fn routing(generation: u64, cells: &[(&str, &str, SocketAddr, f64)]) -> Routing {
    let id = |r: &str, c: &str| (RegionId::new(r).unwrap(), CellId::new(c).unwrap());
    let shares = cells.iter().map(|(r, c, _, share)| (id(r, c), *share)).collect();
    let weights = ServiceWeights::from_shares(&shares).unwrap();
    let cells = cells
        .iter()
        .map(|(r, c, address, _)| Route { region: id(r, c).0, cell: id(r, c).1, address: *address })
        .collect();
    Routing { generation, services: BTreeMap::from([(service(), ServiceRouting { cells, weights })]) }
}

/// A keep-alive HTTP/1.1 connection.
pub struct Http(BufReader<TcpStream>);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn cell(&self) -> &str {
        self.headers.get("x-cell").map_or("", String::as_str)
    }
    pub fn cause(&self) -> &str {
        self.headers.get("x-forefend-cause").map_or("", String::as_str)
    }
}

impl Http {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn get(&mut self, user: &str, id: &str) -> Answer {
        self.send("GET", &[("x-user", user), ("x-id", id)], b"").unwrap()
    }

    pub fn send(&mut self, method: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
        let mut text = format!("{method} /item HTTP/1.1\r\nhost: shop.example\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("content-length: {}\r\n", body.len());
        }
        text += "\r\n";
        self.raw(&[text.as_bytes(), body].concat())
    }

    /// Sends bytes as they are and reads one answer.
    pub fn raw(&mut self, bytes: &[u8]) -> std::io::Result<Answer> {
        self.0.get_mut().write_all(bytes)?;
        self.read()
    }

    pub fn read(&mut self) -> std::io::Result<Answer> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no status in {line:?}")))?;
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, headers, body })
    }

    /// Whether the other side closed (waits for it).
    pub fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0u8; 1]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
