//! The API over real HTTP on loopback: who may ask, what is answered, what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, time::Duration};

use forefend::api::{
    ApiOptions, HistoryPoint, Role, ServeError, Server, Token,
    client::{Client, ClientError},
};
use forefend_control::{OperatorCommand, Snapshot};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

#[path = "../examples/fixture/mod.rs"]
mod fixture;

use fixture::{
    Fixture, Telling,
    story::{CYCLE_S, Story},
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Api {
    address: SocketAddr,
    fixture: Fixture,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.body))
    }

    /// The last word of the problem's type; it must be a whole problem document.
    fn problem(&self) -> String {
        assert!(self.head.contains("application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!(problem["status"], json!(self.status));
        for member in ["title", "detail", "remedy"] {
            assert!(!problem[member].as_str().unwrap().is_empty(), "{member} is empty in {problem}");
        }
        problem["type"].as_str().unwrap().strip_prefix("urn:forefend:problem:").unwrap().to_owned()
    }
}

impl Api {
    fn start(tokens: Vec<Token>) -> Self {
        Self::telling(tokens, Telling { from_s: 50.0, speed: 0.0, tick: Duration::from_millis(20) })
    }

    fn telling(tokens: Vec<Token>, telling: Telling) -> Self {
        let fixture = Fixture::start(telling);
        let options = ApiOptions { listen: "127.0.0.1:0".parse().unwrap(), tokens };
        let server = Server::bind(&options, fixture.handle.clone()).unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, fixture, stop: Some(stop), running }
    }

    async fn raw(&self, request: String) -> Answer {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(PATIENCE, exchange).await.expect("an answer in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = if headers.to_lowercase().contains("host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let length =
            if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.raw(format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{length}{headers}\r\n{body}"
        ))
        .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, "Content-Type: application/json\r\n", body).await
    }

    fn seen(&self) -> Vec<(String, OperatorCommand)> {
        self.fixture.seen.lock().unwrap().clone()
    }

    /// Opens a stream of events and reads until `frames` snapshots came; gives their JSON and the open connection.
    async fn events(&self, frames: usize) -> (Vec<Value>, TcpStream) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let mut buffer = vec![0; 64 * 1024];
        let complete = |text: &str| text.split("data: ").skip(1).filter(|f| f.contains("\n\n")).count();
        timeout(PATIENCE, async {
            while complete(&text) < frames {
                let n = stream.read(&mut buffer).await.unwrap();
                assert_ne!(n, 0, "the stream ended early: {text}");
                text.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        })
        .await
        .expect("events in time");
        assert!(text.to_lowercase().contains("content-type: text/event-stream"));
        let snapshots = text.split("data: ").skip(1).take(frames);
        (snapshots.map(|f| serde_json::from_str(f.split('\n').next().unwrap()).unwrap()).collect(), stream)
    }
}

fn tokens() -> Vec<Token> {
    [("vera", Role::Viewer), ("otto", Role::Operator), ("ada", Role::Admin)]
        .map(|(name, role)| Token { name: name.into(), secret: secret(name), role })
        .into()
}

fn secret(name: &str) -> String {
    format!("{name}-0123456789abcdef")
}

#[tokio::test]
async fn without_tokens_it_is_never_reachable_from_elsewhere() {
    let fixture = Fixture::start(Telling { from_s: 0.0, speed: 0.0, tick: PATIENCE });
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let options = ApiOptions { listen: listen.parse().unwrap(), tokens: vec![] };
        let refused = Server::bind(&options, fixture.handle.clone()).err().expect("a refusal");
        assert!(matches!(refused, ServeError::Unprotected(_)), "{refused}");
        assert!(refused.to_string().contains("api.tokens"), "{refused}");
    }
    let options = ApiOptions { listen: "0.0.0.0:0".parse().unwrap(), tokens: tokens() };
    assert!(Server::bind(&options, fixture.handle.clone()).is_ok());
    let weak = Token { name: "x".into(), secret: "short".into(), role: Role::Viewer };
    let options = ApiOptions { listen: "0.0.0.0:0".parse().unwrap(), tokens: vec![weak] };
    assert!(matches!(Server::bind(&options, fixture.handle.clone()), Err(ServeError::BadToken(_))));
}

#[tokio::test]
async fn a_taken_port_is_said_by_its_name() {
    let api = Api::start(vec![]);
    let options = ApiOptions { listen: api.address, tokens: vec![] };
    let refused = Server::bind(&options, api.fixture.handle.clone()).err().expect("a refusal").to_string();
    assert!(refused.contains(&api.address.to_string()) && refused.contains("another port"), "{refused}");
}

#[tokio::test]
async fn roles_decide_who_reads_and_who_commands() {
    let api = Api::start(tokens());
    let bearer =
        |name: &str| format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", secret(name));
    assert_eq!(api.get("/healthz").await.status, 200, "liveness needs no token");
    assert_eq!(api.get("/").await.status, 200, "the page that asks for the token needs none");
    for route in forefend::api::route_table() {
        let path = route.path.replace("{id}", "shop-north-1");
        let method = route.method.to_uppercase();
        let Some(needs) = route.role else { continue };
        let without = api.ask(&method, &path, "Content-Type: application/json\r\n", "{}").await;
        assert_eq!((without.status, without.problem().as_str()), (401, "no-token"), "{path}");
        assert!(without.head.contains("www-authenticate: bearer"), "{}", without.head);
        let unknown = "Authorization: Bearer nobody-0123456789\r\nContent-Type: application/json\r\n";
        assert_eq!(api.ask(&method, &path, unknown, "{}").await.status, 401, "{path}");
        if needs > Role::Viewer {
            let low = api.ask(&method, &path, &bearer("vera"), "{}").await;
            assert_eq!((low.status, low.problem().as_str()), (403, "role-too-low"), "{path}");
        }
    }
    let forced = api.ask("POST", "/api/v1/models/m1/promote", &bearer("otto"), r#"{"force": true}"#).await;
    assert_eq!(
        (forced.status, forced.problem().as_str()),
        (403, "role-too-low"),
        "the gate is not the operator's"
    );
    assert!(api.seen().is_empty(), "nothing that was refused may reach the engine");
    assert_eq!(api.ask("GET", "/api/v1/cells", &bearer("vera"), "").await.status, 200);
    assert_eq!(api.ask("POST", "/api/v1/freeze", &bearer("otto"), "{}").await.status, 200);
    assert_eq!(api.ask("POST", "/api/v1/unfreeze", &bearer("ada"), "").await.status, 200);
    let who: Vec<_> = api.seen();
    assert_eq!(who, [("otto".into(), OperatorCommand::Freeze), ("ada".into(), OperatorCommand::Unfreeze)]);
}

#[tokio::test]
async fn other_pages_can_neither_read_nor_command() {
    let api = Api::start(vec![]);
    let port = api.address.port();
    for host in ["evil.example".to_owned(), format!("evil.example:{port}"), "10.1.2.3".into()] {
        let rebound = api.ask("GET", "/api/v1/snapshot", &format!("Host: {host}\r\n"), "").await;
        assert_eq!((rebound.status, rebound.problem().as_str()), (421, "foreign-host"));
    }
    for host in ["localhost".to_owned(), format!("localhost:{port}"), "[::1]:1".into(), "127.0.0.1".into()] {
        assert_eq!(
            api.ask("GET", "/api/v1/cells", &format!("Host: {host}\r\n"), "").await.status,
            200,
            "{host}"
        );
    }
    let simple = api.ask("POST", "/api/v1/freeze", "Content-Type: text/plain\r\n", "{}").await;
    assert_eq!((simple.status, simple.problem().as_str()), (415, "not-json"));
    let json = "Content-Type: application/json\r\n";
    for foreign in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let forged = api.ask("POST", "/api/v1/freeze", &format!("{json}{foreign}\r\n"), "{}").await;
        assert_eq!((forged.status, forged.problem().as_str()), (403, "foreign-origin"), "{foreign}");
    }
    assert!(api.seen().is_empty());
    let own = format!("{json}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", api.address);
    assert_eq!(api.ask("POST", "/api/v1/freeze", &own, "{}").await.status, 200);
    // A preflight gets no permission.
    let preflight = api.ask("OPTIONS", "/api/v1/freeze", "Origin: http://evil.example\r\n", "").await;
    assert!(!preflight.head.contains("access-control-allow"), "{}", preflight.head);
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_strict() {
    let api = Api::start(vec![]);
    for path in ["/", "/ui/js/app.js", "/api/v1/cells", "/nowhere", "/api/v1/cells/none"] {
        let answer = api.get(path).await;
        for header in [
            "content-security-policy: default-src 'none'",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
        ] {
            assert!(answer.head.contains(header), "{path} lacks {header}: {}", answer.head);
        }
    }
}

#[tokio::test]
async fn drills_are_listed_approved_ended_and_told_of() {
    let api = Api::start(vec![]);
    let runs = api.get("/api/v1/drills").await.json();
    assert_eq!(runs["runs"][0]["needs_approvals"], 1, "{runs:#}");
    assert_eq!(api.post("/api/v1/drills/south-is-lost-5/approve", "{}").await.status, 200);
    let ended = api.post("/api/v1/drills/slow-disk-4/end", "{}").await;
    assert_eq!(ended.json()["result"], "slow-disk-4 is ended: faults are undone and traffic goes home");
    let runs = api.get("/api/v1/drills").await.json();
    assert_eq!(runs["runs"][0]["needs_approvals"], 0, "{runs:#}");
    assert!(runs["runs"][1]["ended"].is_u64(), "{runs:#}");
    let report = api.get("/api/v1/drills/south-is-lost-3").await.json();
    assert!(report["result"].as_str().unwrap().starts_with("# south-is-lost-3"), "{report:#}");
    let refused = api.post("/api/v1/drills/run", r#"{"experiment": "version: 1"}"#).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    let seen = api.fixture.drills_seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|(who, _)| who == "local"), "{seen:?}");
}

#[tokio::test]
async fn commands_reach_the_engine_and_its_answer_comes_back() {
    let api = Api::start(vec![]);
    let shifted = api.post("/api/v1/cells/shop-north-1/shift", r#"{"weight_bp": 2500}"#).await;
    assert_eq!(shifted.status, 200, "{}", shifted.body);
    assert_eq!(shifted.json()["result"], "shift 25.00% of shop-north-1 away");
    assert_eq!(api.post("/api/v1/cells/shop-north-1/approve", "{}").await.status, 200);
    assert_eq!(api.post("/api/v1/cells/shop-north-1/end-shift", "").await.status, 200);
    let drill = r#"{"weight_bp": 2500, "lease_s": 30, "drill": true}"#;
    let drilled = api.post("/api/v1/cells/shop-north-1/shift", drill).await;
    assert_eq!(drilled.json()["result"], "drill: shift 25.00% of shop-north-1 away for 30 s");
    let names: Vec<String> = api.seen().into_iter().map(|(who, _)| who).collect();
    assert_eq!(names, ["local", "local", "local", "local"]);
    let refused = api.post("/api/v1/cells/shop-north-1/shift", r#"{"weight_bp": 1}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "refused"));
    assert!(refused.json()["detail"].as_str().unwrap().contains("no standby"));
}

#[tokio::test]
async fn bad_input_is_answered_with_its_place_and_a_remedy() {
    let api = Api::start(vec![]);
    let shift = "/api/v1/cells/shop-north-1/shift";
    for (path, body, status, kind, place) in [
        (shift, r#"{"weight_bp": 10001}"#, 400, "body", "weight_bp"),
        (shift, r#"{"weight_bp": -1}"#, 400, "body", "-1"),
        (shift, r#"{"weight": 5}"#, 400, "body", "weight"),
        (shift, r#"{"weight_bp": 5, "lease_s": -1}"#, 400, "body", "-1"),
        (shift, "{}", 400, "body", "weight_bp"),
        (shift, "nonsense", 400, "body", "line 1"),
        (shift, "\u{0}\u{1}", 400, "body", "line 1"),
        ("/api/v1/freeze", r#"{"x": 1}"#, 400, "body", "x"),
        ("/api/v1/cells/none/shift", r#"{"weight_bp": 1}"#, 404, "unknown-cell", "none"),
        ("/api/v1/cells/%20%ff/approve", "{}", 400, "path", "UTF-8"),
        ("/api/v1/cells/a%2Fb/approve", "{}", 404, "unknown-cell", "a/b"),
    ] {
        let answer = api.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert_eq!(answer.problem(), kind);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(place), "{detail:?} does not name {place}");
    }
    let long = format!("{{\"weight_bp\": {}1}}", " ".repeat(5000));
    assert_eq!(api.post(shift, &long).await.problem(), "body-size");
    for (path, kind) in [
        ("/api/v1/ledger?limit=0", "query"),
        ("/api/v1/ledger?limit=1001", "query"),
        ("/api/v1/ledger?before=x", "query"),
        ("/api/v1/ledger?what=1", "query"),
        ("/api/v1/history?since_ms=-1", "query"),
        ("/api/v1/cells/none", "unknown-cell"),
        ("/nowhere", "path"),
        ("/api/v1/freeze", "method"),
    ] {
        assert_eq!(api.get(path).await.problem(), kind, "{path}");
    }
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn an_engine_that_is_gone_is_said_so() {
    let api = Api::start(vec![]);
    let (commands, inbox) = tokio::sync::mpsc::channel(1);
    drop(inbox);
    let handle = forefend::api::EngineHandle { commands, ..api.fixture.handle.clone() };
    let options = ApiOptions { listen: "127.0.0.1:0".parse().unwrap(), tokens: vec![] };
    let server = Server::bind(&options, handle).unwrap();
    let client = Client::new(&format!("http://{}", server.local_addr()), None).unwrap();
    let running = tokio::spawn(server.run(std::future::pending()));
    let refused = client.post::<Value>("/api/v1/freeze", &json!({})).await.unwrap_err();
    let ClientError::Refused(problem) = refused else { panic!("{refused}") };
    assert_eq!((problem.status, problem.kind.as_str()), (503, "urn:forefend:problem:engine-gone"));
    running.abort();
}

#[tokio::test]
async fn events_deliver_ticks_are_limited_and_end_with_the_server() {
    let mut api = Api::start(vec![]);
    let (snapshots, first) = api.events(3).await;
    let ticks: Vec<u64> = snapshots.iter().map(|s| s["tick"].as_u64().unwrap()).collect();
    assert!(ticks.windows(2).all(|w| w[0] < w[1]), "{ticks:?}");
    assert_eq!(snapshots[0]["summaries"].as_array().unwrap().len(), 5);
    let mut open = vec![first];
    for _ in 1..32 {
        open.push(api.events(1).await.1);
    }
    let refused = api.get("/api/v1/events").await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "too-many-streams"));
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
    // One that goes makes room for another.
    open.pop();
    let room = async {
        loop {
            let mut stream = TcpStream::connect(api.address).await.unwrap();
            let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", api.address);
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            if &status == b"HTTP/1.1 200" {
                return stream;
            }
        }
    };
    open.push(timeout(PATIENCE, room).await.expect("room after a client left"));
    api.stop.take().unwrap().send(()).unwrap();
    timeout(PATIENCE, async {
        for mut stream in open {
            // Ends, rather than stays open for ever.
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        }
        (&mut api.running).await.unwrap();
    })
    .await
    .expect("the server and its streams end in time");
    assert!(TcpStream::connect(api.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn metrics_parse_and_tell_what_the_snapshot_tells() {
    let api = Api::start(vec![]);
    let answer = api.get("/metrics").await;
    assert!(answer.head.contains("text/plain; version=0.0.4"), "{}", answer.head);
    let mut typed = std::collections::BTreeSet::new();
    let mut values = std::collections::BTreeMap::new();
    for line in answer.body.lines() {
        if let Some(meta) = line.strip_prefix("# TYPE ") {
            let (name, kind) = meta.split_once(' ').unwrap();
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert!(typed.insert(name.to_owned()), "{name} is described twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert!(typed.contains(name), "{name} comes before its type");
            assert!(labels.ends_with('}'), "{line}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            assert!(values.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    let of = |name: &str, cell: &str| {
        let mut found =
            values.iter().filter(|(s, _)| s.starts_with(name) && s.contains(&format!("cell=\"{cell}\"")));
        *found.next().unwrap_or_else(|| panic!("no {name} of {cell}")).1
    };
    assert!(of("forefend_cell_failure_probability_ratio", "shop-north-1") > 0.9);
    assert!(of("forefend_cell_health_score", "shop-north-1") < 10.0);
    assert_eq!(of("forefend_cell_weight_home_ratio", "shop-north-1"), 0.36);
    assert_eq!(of("forefend_cell_weight_effective_ratio", "shop-north-m1"), 0.09);
    assert_eq!(of("forefend_shift_moved_ratio", "shop-north-1"), 0.25);
    assert_eq!(values["forefend_shifts"], 1.0);
    assert_eq!(values["forefend_frozen"], 0.0);
    assert!(values["forefend_ledger_last_seq"] >= 5.0);
    assert!(values["forefend_ticks_total"] >= 50.0);
    // A parked cell has no prediction, so it has no sample: absent is not zero.
    assert!(!values.keys().any(|s| s.contains("probability") && s.contains("shop-south-m1")));
}

#[tokio::test]
async fn the_client_reads_what_the_api_tells() {
    let api = Api::start(tokens());
    let base = format!("http://{}", api.address);
    let client = Client::new(&base, Some(secret("otto"))).unwrap();
    let snapshot: Snapshot = client.get("/api/v1/snapshot").await.unwrap();
    let id = forefend_domain::CellId::new("shop-north-1").unwrap();
    let words = forefend::api::explain::words(&snapshot, &id).unwrap();
    assert!(words.contains("likely to fail") && words.contains("process_resident_memory_bytes"), "{words}");
    // Also where a runtime runs already.
    let asked = tokio::task::spawn_blocking(move || client.post_blocking("/api/v1/freeze", &json!({})));
    let done: Value = asked.await.unwrap().unwrap();
    assert!(done["result"].as_str().unwrap().starts_with("freeze"));
    assert_eq!(api.seen(), [("otto".into(), OperatorCommand::Freeze)]);
    let refused = Client::new(&base, None).unwrap().get::<Value>("/api/v1/cells").await.unwrap_err();
    assert!(refused.to_string().contains("Authorization: Bearer"), "{refused}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable =
        Client::new(&format!("http://{nobody}"), None).unwrap().get::<Value>("/").await.unwrap_err();
    assert!(unreachable.to_string().contains("no engine answers"), "{unreachable}");
}

#[tokio::test]
async fn history_and_ledger_are_paged() {
    let api = Api::start(vec![]);
    let points = |answer: Answer| -> Vec<HistoryPoint> {
        serde_json::from_value(answer.json()["points"].clone()).unwrap()
    };
    let all = points(api.get("/api/v1/history").await);
    assert!(all.windows(2).all(|w| w[0].at <= w[1].at));
    let middle = all[all.len() / 2].at;
    let later = points(api.get(&format!("/api/v1/history?since_ms={}", middle.unix_ms())).await);
    assert!(!later.is_empty() && later.iter().all(|p| p.at > middle));
    let first = api.get("/api/v1/ledger?limit=2").await.json();
    assert_eq!(first["entries"].as_array().unwrap().len(), 2);
    let next = first["next_before"].as_u64().unwrap();
    let second = api.get(&format!("/api/v1/ledger?limit=1000&before={next}")).await.json();
    assert_eq!(second["entries"][0]["seq"].as_u64().unwrap(), next - 1);
    assert!(second.get("next_before").is_none(), "the last page names no next");
}

#[test]
fn the_headline_promises_nothing_that_will_not_be_done() {
    let now = forefend_domain::Timestamp::from_unix_ms(1_800_000_000_000);
    let headline = |story: &Story, t: f64| forefend::api::explain::headline(&story.snapshot(t, now, 1));
    let (free, frozen) = (Story::default(), Story { frozen: true, ..Story::default() });
    assert_eq!(headline(&free, 28.0), "shop-north-1 is being watched; a standby is made ready.");
    let tried = "shop-north-1 is being watched; its mirror is tried with a little of its traffic.";
    let mut watched = free.snapshot(28.0, now, 1);
    watched.pre_tests = free.snapshot(33.0, now, 1).pre_tests;
    assert_eq!(forefend::api::explain::headline(&watched), tried);
    assert_eq!(headline(&frozen, 28.0), "shop-north-1 is being watched; everything is frozen.");
    assert!(headline(&free, 50.0).ends_with("25% of its traffic is away."), "{}", headline(&free, 50.0));
    assert!(headline(&frozen, 50.0).ends_with("and everything is frozen."), "{}", headline(&frozen, 50.0));
    assert_eq!(headline(&free, 66.0), "shop-north-1 has failed; 100% of its traffic is away.");
    assert_eq!(headline(&free, 90.0), "Traffic of shop-north-1 is on its way home.");
}

#[test]
fn every_moment_of_the_story_can_be_told_in_words() {
    let story = Story::default();
    let now = forefend_domain::Timestamp::from_unix_ms(1_800_000_000_000);
    for step in 0..2 * CYCLE_S as u64 {
        let snapshot = story.snapshot(step as f64, now, step);
        assert!(forefend::api::explain::headline(&snapshot).ends_with('.'));
        for cell in snapshot.world.services.values().flat_map(|s| s.cells.keys()) {
            let words = forefend::api::explain::words(&snapshot, cell).unwrap();
            assert!(words.starts_with(cell.as_str()) && words.contains("\nNext: "), "{words}");
            let tried = snapshot.pre_tests.iter().any(|t| t.from == *cell || t.to == *cell);
            assert_eq!(words.contains("\nPre-test: "), tried, "{words}");
        }
    }
    let unknown = forefend_domain::CellId::new("unknown").unwrap();
    assert!(forefend::api::explain::words(&story.snapshot(0.0, now, 0), &unknown).is_none());
}

#[tokio::test]
async fn a_prediction_is_explained_in_words_numbers_and_plots() {
    let api = Api::start(vec![]);
    let address = format!("http://{}", api.address);
    let explain = async |more: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_forefend"))
            .args(["explain", "shop-north-1", "--api", &address])
            .args(more)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = explain(&[]).await;
    for part in [
        "shop-north-1 is a primary cell",
        "What speaks for a failure",
        "process_resident_memory_bytes",
        "▅",
        "time to failure: p10",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(text.contains("shop-north-1 (memory leak) looked like this 42 s before it failed"), "{text}");
    let told: Value = serde_json::from_str(&explain(&["--output", "json"]).await).unwrap();
    let shares: f64 =
        told["contributions"].as_array().unwrap().iter().map(|c| c["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    let memory = &told["contributions"][0]["course"];
    assert_eq!((&memory["limit"], told["past"].as_u64()), (&json!(96.0 * 1_048_576.0), Some(2)));
    assert!(memory["forecast"]["reaches_limit_s"].as_f64().is_some_and(|s| s > 0.0), "{memory}");
    let answer = api.get("/api/v1/cells/nobody/explanation").await;
    assert_eq!((answer.status, answer.problem().as_str()), (404, "unknown-cell"));
}
