//! A real nginx fails more and more requests and says so in its error log. The log is rotated in between, and what is
//! said there is alone what failure is foreseen from.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    PATIENCE, Served, free_address,
    nginx::{self, Nginx},
    settled, temporary_dir,
};

const DECLARED: &str = "log.template{open() <*> failed}";
const LIMIT: f64 = 400.0;

fn configuration(served: &Setting<'_>) -> String {
    let Setting { state, api, clients, sites, cells: [one, two] } = served;
    format!(
        r#"version: 1
engine:
  state_dir: {state}
  tick: 250ms
  window: {{ step: 250ms, length: 30s }}
  api: {{ listen: "{api}" }}
regions:
  home: {{ zones: [rack-a, rack-b] }}
services:
  web:
    objective: {{ latency: 1s, error_share: 50%, failed_for: 10s }}
    listen: {clients}
    health: {{ path: /, interval: 500ms, timeout: 400ms }}
    probe: {{ path: /, interval: 500ms, timeout: 500ms }}
    logs:
      paths: ["{sites}/{{cell}}/error.log"]
      interval: 250ms
      limits:
        - {{ line: "open() <*> failed", limit: {LIMIT}/s }}
        - {{ severity: critical, limit: 1/s }}
    policy: {{ mode: observe, data: stateless, horizon: 30s }}
    cells:
      - {{ id: web-1, zone: rack-a, address: {one} }}
      - {{ id: web-2, zone: rack-b, address: {two} }}
"#
    )
}

struct Setting<'a> {
    state: &'a str,
    api: SocketAddr,
    clients: SocketAddr,
    sites: &'a str,
    cells: [SocketAddr; 2],
}

/// Asks for files that are not there, more of them every second, until dropped.
struct Climb {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Climb {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (begun, mut asked) = (Instant::now(), 0.0);
            while !stopped.load(Ordering::Relaxed) {
                // 20 a second at first, 8 a second more every second, no more than nearly the limit.
                let t = begun.elapsed().as_secs_f64();
                let full = (0.9 * LIMIT - 20.0) / 8.0;
                let wanted = 20.0 * t + 4.0 * t.min(full).powi(2) + 8.0 * full * (t - full).max(0.0);
                let more = (wanted - asked).floor().max(0.0);
                ask(address, asked as u64, more as u64);
                asked += more;
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Climb {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// So many requests behind each other on one connection.
fn ask(address: SocketAddr, first: u64, count: u64) {
    if count == 0 {
        return;
    }
    let one = |number: u64| {
        let last = if number + 1 == first + count { "Connection: close\r\n" } else { "" };
        format!("GET /missing/{number}.html HTTP/1.1\r\nHost: web\r\n{last}\r\n")
    };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all((first..first + count).map(one).collect::<String>().as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 404").count() as u64, count, "{answer}");
}

/// The newest value of a metric, as the API tells it.
fn newest(served: &Served, cell: &str, name: &str) -> Option<f64> {
    metric(served, cell, name)?["value"].as_f64()
}

fn metric(served: &Served, cell: &str, name: &str) -> Option<Value> {
    let all = served.get(&format!("/api/v1/cells/{cell}/metrics"))?;
    all.as_array()?.iter().find(|metric| metric["name"] == name).cloned()
}

#[test]
fn what_a_rotated_log_says_is_what_failure_is_foreseen_from() {
    if !nginx::is_there() {
        return;
    }
    let sites = temporary_dir();
    let (one, two) = (Nginx::start(sites.path(), "web-1"), Nginx::start(sites.path(), "web-2"));
    let clients = free_address();
    let served = Served::start(&[], |state, api| {
        configuration(&Setting {
            state: state.to_str().unwrap(),
            api,
            clients,
            sites: sites.path().to_str().unwrap(),
            cells: [one.address, two.address],
        })
    });
    served.wait("both nginx serve", PATIENCE, settled);

    // Both logs are there and silent, which is a measurement; and a limit that nobody is near foretells nothing.
    served.wait("silence is told as zero", PATIENCE, |_| {
        let zero = |cell, name| newest(&served, cell, name) == Some(0.0);
        ["web-1", "web-2"].into_iter().all(|cell| zero(cell, DECLARED) && zero(cell, "log.lines"))
    });
    let declared = metric(&served, "web-1", DECLARED).unwrap();
    assert_eq!((&declared["family"], &declared["kind"]), (&"logs".into(), &"exhaustible".into()));
    assert_eq!((&declared["limit"], &declared["unit"]), (&LIMIT.into(), &"lines/s".into()));

    let climb = Climb::start(one.address);
    served.wait("the API tells the rate", PATIENCE, |_| {
        newest(&served, "web-1", DECLARED).is_some_and(|rate| rate > 20.0)
            && newest(&served, "web-1", "log.severity{error}").is_some_and(|rate| rate > 20.0)
    });
    rotate(&sites.path().join("web-1"), &one);
    let reads_on = Instant::now();
    served.wait("the new file is read", PATIENCE, |_| {
        let rate = newest(&served, "web-1", DECLARED).unwrap_or_default();
        rate > 20.0 && reads_on.elapsed() > Duration::from_secs(2)
    });
    let old = std::fs::metadata(sites.path().join("web-1/error.log.1")).unwrap().len();

    let seen = served.wait("failure is foreseen", Duration::from_secs(90), |snapshot| {
        let prediction = &snapshot["predictions"]["web-1"];
        prediction["basis"] == "first-passage" && prediction["probability"].as_f64().is_some_and(|p| p > 0.3)
    });
    let prediction = &seen["predictions"]["web-1"];
    let drivers: Vec<&Value> = prediction["drivers"].as_array().unwrap().iter().collect();
    assert_eq!(drivers.len(), 1, "the log alone: {drivers:?}");
    assert_eq!((&drivers[0]["metric"], &drivers[0]["family"]), (&DECLARED.into(), &"logs".into()));
    let detail = drivers[0]["detail"].as_str().unwrap();
    assert!(detail.contains("lines/s of 400.0 lines/s"), "{detail}");
    let rate = newest(&served, "web-1", DECLARED).unwrap();
    assert!(rate < LIMIT, "it was foreseen before it came: {rate}");
    println!("foreseen at {rate:.0} of {LIMIT} lines/s: {}: {detail}", prediction["probability"]);
    assert!(
        seen["predictions"]["web-2"]["drivers"].as_array().unwrap().is_empty(),
        "the other cell is silent"
    );
    assert_eq!(newest(&served, "web-2", DECLARED), Some(0.0));
    let words = served.told(&["explain", "web-1"]);
    assert!(words.contains(DECLARED), "{words}");
    let still = std::fs::metadata(sites.path().join("web-1/error.log.1")).unwrap().len();
    assert_eq!(old, still, "all of this stood in the new file");
    drop(climb);
}

/// As logrotate does it: the file is renamed, then its writer is told.
fn rotate(prefix: &std::path::Path, nginx: &Nginx) {
    std::fs::rename(prefix.join("error.log"), prefix.join("error.log.1")).unwrap();
    nginx.reopen_logs();
    support::wait_for("nginx writes a new file", PATIENCE, || {
        std::fs::metadata(prefix.join("error.log")).ok().filter(|file| file.len() > 0)
    });
}
