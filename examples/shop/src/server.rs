use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    Args, Fault, Kind,
    inventory::{Stock, stock_of},
    shop::{ITEMS, Shop},
};

type Answer = Response<Full<Bytes>>;

/// Connections at a time; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 2_048;
const MAX_BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in flight may take to end after SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const LEAK_TICK: Duration = Duration::from_millis(50);

/// Serves until SIGTERM or SIGINT, then lets the requests in flight end.
///
/// # Errors
/// In words, when the data directory or the address can't be used.
pub async fn serve(args: Args) -> Result<(), String> {
    let listen = args.listen;
    let shop = Arc::new(Shop::open(args)?);
    let listener =
        TcpListener::bind(listen).await.map_err(|e| format!("{listen} can't be listened on: {e}"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    println!(
        "{} of zone {} listens on {}",
        shop.kind.name(),
        shop.zone,
        listener.local_addr().unwrap_or(listen)
    );
    let leaking = tokio::spawn(leak(shop.clone()));
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            permit = connections.clone().acquire_owned() => {
                let Ok(permit) = permit else { break };
                tokio::select! {
                    accepted = listener.accept() => accepted.map(|(stream, _)| (stream, permit)),
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        let Ok((stream, permit)) = accepted else {
            // Out of descriptors, most likely: let some connections end before the next try.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shop = shop.clone();
        let service = service_fn(move |request| {
            let shop = shop.clone();
            async move { Ok::<_, Infallible>(handle(&shop, request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A connection that breaks is its client's affair.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    leaking.abort();
    let _ = timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
    Ok(())
}

/// The leak goes on by the clock, with traffic or without.
async fn leak(shop: Arc<Shop>) {
    let mut ticks = interval(LEAK_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = Instant::now();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        // A process that was frozen for a while did not leak meanwhile.
        let passed = now.duration_since(last).min(2 * LEAK_TICK);
        last = now;
        shop.faults(|faults| faults.leak(passed));
    }
}

async fn handle(shop: &Shop, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method().clone(), path.as_str()) {
        (Method::GET, "/healthz") => text(StatusCode::OK, "ok\n"),
        (Method::GET, "/ready") => ready(shop).await,
        (Method::GET, "/metrics") => text(StatusCode::OK, &shop.metrics_text()),
        (Method::GET | Method::POST, "/fault") => fault(shop, request).await,
        _ => business(shop, request).await,
    }
}

/// A request of a customer: written down first, then executed, counted and timed.
async fn business(shop: &Shop, request: Request<Incoming>) -> Answer {
    let begun = Instant::now();
    let in_flight = InFlight::begin(shop);
    let answer = execute(shop, request).await;
    drop(in_flight);
    shop.metrics(|m| m.answered(answer.status().as_u16(), begun.elapsed()));
    answer
}

/// Counts down also when the client goes away half-way and the future is dropped.
struct InFlight<'a>(&'a Shop);

impl<'a> InFlight<'a> {
    fn begin(shop: &'a Shop) -> Self {
        shop.metrics(|m| m.in_flight += 1);
        Self(shop)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics(|m| m.in_flight -= 1);
    }
}

async fn execute(shop: &Shop, request: Request<Incoming>) -> Answer {
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
        // One line each: an id with a space or longer than this is not one of ours.
        .filter(|id| !id.is_empty() && id.len() <= 128 && !id.contains(char::is_whitespace))
        .map(str::to_owned);
    if (id.is_some() || request.method() == Method::POST)
        && let Err(why) = shop.log_execution(id.as_deref().unwrap_or("-"), request.method().as_str())
    {
        return text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{why}\n"));
    }
    let delay = shop.faults(|faults| faults.delay(Instant::now()));
    let delay = if shop.kind == Kind::Inventory { delay + shop.base_delay } else { delay };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let path = request.uri().path().to_owned();
    match (shop.kind, request.method(), path.as_str()) {
        (Kind::Inventory, &Method::GET, path) if path.starts_with("/stock/") => {
            let Some(sku) = number(path, "/stock/") else { return not_found() };
            json(StatusCode::OK, &Stock { sku, stock: stock_of(sku), zone: shop.zone.clone() })
        }
        (Kind::Shop, &Method::GET, path) if path.starts_with("/item/") => {
            let Some(item) = number(path, "/item/") else { return not_found() };
            match ask(shop, item, id.as_deref()).await {
                Ok(stock) => bytes(StatusCode::OK, shop.item(item, stock.stock)),
                Err(answer) => answer,
            }
        }
        (Kind::Shop, &Method::POST, "/cart") => cart(shop, request, id.as_deref()).await,
        _ => not_found(),
    }
}

#[derive(Deserialize)]
struct CartRequest {
    #[serde(default)]
    user: String,
    item: u64,
}

async fn cart(shop: &Shop, request: Request<Incoming>, id: Option<&str>) -> Answer {
    let body = match body_of(request).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let wanted: CartRequest = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(why) => {
            return text(StatusCode::BAD_REQUEST, &format!("the body is not {{\"item\": n}}: {why}\n"));
        }
    };
    let item = wanted.item % ITEMS;
    match ask(shop, item, id).await {
        Ok(stock) => {
            let items = shop.add_to_cart(&wanted.user, item);
            json(
                StatusCode::OK,
                &serde_json::json!({"items": items, "stock": stock.stock, "zone": shop.zone}),
            )
        }
        Err(answer) => answer,
    }
}

/// Calls the inventory; what it does badly is this shop's failure too.
async fn ask(shop: &Shop, item: u64, id: Option<&str>) -> Result<Stock, Answer> {
    let Some(inventory) = &shop.inventory else { return Err(not_found()) };
    let (result, took) = inventory.stock(item, id).await;
    shop.metrics(|m| m.called_inventory(result.is_ok(), took));
    result.map_err(|why| text(StatusCode::BAD_GATEWAY, &format!("the inventory: {why}\n")))
}

async fn ready(shop: &Shop) -> Answer {
    let Some(inventory) = &shop.inventory else { return text(StatusCode::OK, "ready\n") };
    match inventory.answers().await {
        Ok(()) => text(StatusCode::OK, "ready\n"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("the inventory: {why}\n")),
    }
}

async fn fault(shop: &Shop, request: Request<Incoming>) -> Answer {
    let given = request.headers().get("x-control-token").map(|token| token.as_bytes().to_vec());
    let permitted = match (&shop.token, given) {
        (Some(token), Some(given)) => same(token.as_bytes(), &given),
        _ => false,
    };
    if !permitted {
        return text(StatusCode::FORBIDDEN, "the control token is missing or wrong (x-control-token)\n");
    }
    if request.method() == Method::POST {
        let body = match body_of(request).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let set = serde_json::from_slice::<Fault>(&body)
            .map_err(|e| e.to_string())
            .and_then(|fault| shop.faults(|faults| faults.set(&fault, Instant::now())));
        if let Err(why) = set {
            return text(StatusCode::BAD_REQUEST, &format!("{why}\n"));
        }
    }
    json(StatusCode::OK, &shop.faults(|faults| faults.state(Instant::now())))
}

/// Compares without telling by its duration where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

async fn body_of(request: Request<Incoming>) -> Result<Bytes, Answer> {
    match timeout(BODY_TIMEOUT, Limited::new(request.into_body(), MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(why)) => Err(text(StatusCode::BAD_REQUEST, &format!("the body can't be read: {why}\n"))),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n")),
    }
}

fn number(path: &str, prefix: &str) -> Option<u64> {
    path.strip_prefix(prefix)?.parse::<u64>().ok().map(|n| n % ITEMS)
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "no such path\n")
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, body.into()),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{why}\n")),
    }
}

fn bytes(status: StatusCode, body: Bytes) -> Answer {
    answer(status, "application/json", body)
}

fn text(status: StatusCode, body: &str) -> Answer {
    answer(status, "text/plain; version=0.0.4", Bytes::copy_from_slice(body.as_bytes()))
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}
