//! The two kinds of the service as real processes, calling each other.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(kind: &str, data: &Path, inventory: Option<SocketAddr>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forefend-shop"));
        command.args([
            "--kind",
            kind,
            "--listen",
            "127.0.0.1:0",
            "--zone",
            "north-1",
            "--control-token",
            "secret",
        ]);
        command.arg("--data").arg(data).stdout(Stdio::piped());
        if let Some(inventory) = inventory {
            command.arg("--inventory").arg(inventory.to_string());
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Self { child, address }
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "", "")
    }

    fn fault(&self, json: &str) -> serde_json::Value {
        let (status, body) = self.ask("POST", "/fault", "x-control-token: secret\r\n", json);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pair(dir: &Path) -> (Process, Process) {
    let inventory = Process::start("inventory", &dir.join("inventory"), None);
    let shop = Process::start("shop", &dir.join("shop"), Some(inventory.address));
    (inventory, shop)
}

#[test]
fn a_customer_looks_buys_and_leaves_traces() {
    let dir = tempfile::tempdir().unwrap();
    let (inventory, shop) = pair(dir.path());
    assert_eq!(shop.get("/ready").0, 200);
    let (status, item) = shop.ask("GET", "/item/7", "x-request-id: g1\r\n", "");
    assert_eq!(status, 200);
    assert!((900..1200).contains(&item.len()), "about 1 KiB: {}", item.len());
    let item: serde_json::Value = serde_json::from_str(&item).unwrap();
    assert_eq!((item["item"].as_u64(), item["zone"].as_str()), (Some(7), Some("north-1")));
    let (status, cart) = shop.ask("POST", "/cart", "x-request-id: p1\r\n", r#"{"user":"ann","item":7}"#);
    assert_eq!(status, 200, "{cart}");
    shop.ask("POST", "/cart", "", r#"{"user":"ann","item":8}"#);
    assert_eq!(shop.ask("POST", "/cart", "", "nonsense").0, 400);
    assert_eq!(shop.get("/nowhere").0, 404);
    let log = std::fs::read_to_string(dir.path().join("shop/executed.log")).unwrap();
    assert_eq!(log, "g1 GET\np1 POST\n- POST\n- POST\n");
    assert_eq!(
        std::fs::read_to_string(dir.path().join("inventory/executed.log")).unwrap(),
        "g1 GET\np1 GET\n"
    );
    assert_eq!(shop.metric("shop_carts"), 1.0);
    assert_eq!(shop.metric("http_requests_in_flight"), 0.0);
    assert_eq!(shop.metric("http_request_duration_seconds_count"), 5.0);
    assert_eq!(shop.metric("shop_inventory_call_duration_seconds_count"), 3.0);
    assert!(shop.metric("process_resident_memory_bytes") < 40.0 * 1048576.0);
    drop(inventory);
    assert_eq!(shop.get("/item/7").0, 502, "without its inventory a shop fails");
    assert_eq!(shop.get("/healthz").0, 200, "but lives");
    assert_eq!(shop.get("/ready").0, 503);
    assert_eq!(shop.metric("http_errors_total"), 1.0);
}

#[test]
fn faults_need_the_token_go_on_without_traffic_and_are_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (inventory, shop) = pair(dir.path());
    assert_eq!(shop.ask("POST", "/fault", "", "{}").0, 403);
    assert_eq!(shop.ask("POST", "/fault", "x-control-token: guess\r\n", "{}").0, 403);
    assert_eq!(shop.ask("POST", "/fault", "x-control-token: secret\r\n", r#"{"colour":1}"#).0, 400);
    let before = shop.metric("process_resident_memory_bytes");
    shop.fault(r#"{"leak_bytes_per_s": 100000000}"#);
    let deadline = Instant::now() + Duration::from_secs(20);
    while shop.metric("process_resident_memory_bytes") < before + 48.0 * 1048576.0 {
        assert!(Instant::now() < deadline, "the resident memory grows");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(shop.fault(r#"{"release": true}"#)["leaked_bytes"], 0);
    assert!(shop.metric("process_resident_memory_bytes") < before + 24.0 * 1048576.0, "it is given back");

    let quick = |p: &Process| {
        let begun = Instant::now();
        assert_eq!(p.get("/item/1").0, 200);
        begun.elapsed()
    };
    inventory.fault(r#"{"delay_ms": 300, "delay_ms_per_s": 5}"#);
    assert!(quick(&shop) >= Duration::from_millis(300), "a slow inventory makes a slow shop");
    inventory.fault(r#"{"release": true}"#);
    let fastest = (0..10).map(|_| quick(&shop)).min().unwrap();
    assert!(fastest < Duration::from_millis(300), "{fastest:?}");
}

#[test]
fn sigterm_lets_a_request_in_flight_end() {
    let dir = tempfile::tempdir().unwrap();
    let (inventory, mut shop) = pair(dir.path());
    inventory.fault(r#"{"delay_ms": 400}"#);
    let mut stream = TcpStream::connect(shop.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /item/1 HTTP/1.1\r\nhost: shop\r\nx-request-id: last\r\n\r\n").unwrap();
    let log = dir.path().join("shop/executed.log");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&log).unwrap().contains("last") {
        assert!(Instant::now() < deadline, "the request is executed");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = shop.child.id().to_string();
    assert!(Command::new("/bin/kill").args(["-TERM", &pid]).status().is_ok_and(|s| s.success()));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(shop.child.wait().unwrap().code(), Some(0));
}
