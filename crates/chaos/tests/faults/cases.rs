//! One trial for every kind of fault: who is hurt, how, and what shows it.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use forefend_chaos::{DnsFailure, Fault};

use crate::victim::{Victim, Wanted, ask};

/// How a fault shows in what is measured.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// It gets at least this many times as large.
    Rises(f64),
    /// 1 becomes 0.
    Breaks,
    /// 0 becomes this or more.
    Appears(f64),
    /// The cell's process ends.
    Dies,
}

pub(crate) struct Case {
    pub(crate) kind: &'static str,
    pub(crate) measures: &'static str,
    pub(crate) victim: fn() -> Victim,
    pub(crate) fault: fn(&Victim) -> Fault,
    pub(crate) measure: fn(&Victim) -> f64,
    pub(crate) way: Way,
}

impl Case {
    pub(crate) fn is_well(&self, measured: f64) -> bool {
        match self.way {
            Way::Rises(_) => measured > 0.0,
            Way::Breaks | Way::Dies => measured == 1.0,
            Way::Appears(much) => measured < much / 4.0,
        }
    }

    pub(crate) fn is_hurt(&self, before: f64, measured: f64) -> bool {
        match self.way {
            Way::Rises(times) => measured > before * times,
            Way::Breaks | Way::Dies => measured == 0.0,
            Way::Appears(much) => measured >= much,
        }
    }

    pub(crate) fn is_back(&self, before: f64, measured: f64) -> bool {
        match self.way {
            // Noise on a busy machine is far from what the fault did.
            Way::Rises(times) => measured > 0.0 && measured < before * (1.0 + (times - 1.0) / 2.0),
            _ => self.is_well(measured),
        }
    }
}

const SOON: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(10);

fn plain() -> Victim {
    Victim::start(&Wanted::default())
}

fn answers(victim: &Victim) -> f64 {
    f64::from(victim.get("/", SOON).is_some())
}

fn succeeds(victim: &Victim, path: &str) -> f64 {
    f64::from(victim.get(path, LONG).is_some())
}

/// The median of five, in milliseconds, as the cell tells it in microseconds.
fn told_ms(victim: &Victim, path: &str) -> f64 {
    median(|| victim.get(path, LONG).and_then(|us| us.parse::<f64>().ok()).map_or(0.0, |us| us / 1000.0))
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..5).map(|_| measure()).collect();
    all.sort_by(f64::total_cmp);
    all[2]
}

/// Milliseconds until an answer, connection included.
fn answer_ms(victim: &Victim, path: &str) -> f64 {
    median(|| {
        let begun = Instant::now();
        if victim.get(path, LONG).is_some() { begun.elapsed().as_secs_f64() * 1000.0 } else { 0.0 }
    })
}

/// Of twenty requests, each on its own connection, those that got no good answer.
fn bad_share(victim: &Victim) -> f64 {
    (0..20).filter(|_| victim.get("/", LONG).is_none()).count() as f64 / 20.0
}

fn with_dependency() -> Victim {
    Victim::start(&Wanted { dependency: true, ..Wanted::default() })
}

fn dependency(victim: &Victim) -> SocketAddr {
    victim.dependency.as_ref().unwrap().address
}

#[expect(clippy::too_many_lines, reason = "a table, a few lines an entry")]
pub(crate) fn all() -> Vec<Case> {
    vec![
        Case {
            kind: "kill",
            measures: "alive",
            victim: plain,
            fault: |_| Fault::Kill,
            measure: |v| f64::from(v.is_alive()),
            way: Way::Dies,
        },
        Case {
            kind: "stop",
            measures: "answers",
            victim: plain,
            fault: |_| Fault::Stop,
            measure: answers,
            way: Way::Breaks,
        },
        Case {
            kind: "freeze",
            measures: "answers",
            victim: plain,
            fault: |_| Fault::Freeze,
            measure: answers,
            way: Way::Breaks,
        },
        Case {
            kind: "cpu-quota",
            measures: "ms for some work",
            victim: plain,
            fault: |_| Fault::CpuQuota { cores: 0.05 },
            measure: |v| told_ms(v, "/work"),
            way: Way::Rises(4.0),
        },
        Case {
            kind: "cpu-burn",
            measures: "ms for some work",
            victim: || Victim::start(&Wanted { cores: Some(0.5), ..Wanted::default() }),
            fault: |_| Fault::CpuBurn { workers: 16 },
            measure: |v| told_ms(v, "/work"),
            way: Way::Rises(4.0),
        },
        Case {
            kind: "memory-leak",
            measures: "MiB in its control group",
            victim: || Victim::start(&Wanted { memory_mib: Some(256), ..Wanted::default() }),
            fault: |_| Fault::MemoryLeak { bytes: 128 << 20 },
            measure: |v| v.groups.memory_mib(),
            way: Way::Appears(100.0),
        },
        Case {
            kind: "memory-limit",
            measures: "MiB that it may use",
            victim: || Victim::start(&Wanted { memory_mib: Some(256), ..Wanted::default() }),
            fault: |_| Fault::MemoryLimit { bytes: 64 << 20 },
            measure: |v| {
                let limit = v.groups.file("memory.limit_in_bytes").or_else(|| v.groups.file("memory.max"));
                let mib = fs::read_to_string(limit.unwrap()).unwrap().trim().parse::<f64>().unwrap();
                f64::from(mib > 200.0 * f64::from(1 << 20))
            },
            way: Way::Breaks,
        },
        Case {
            kind: "disk-full",
            measures: "can write",
            victim: || Victim::start(&Wanted { tmpfs_mib: Some(16), ..Wanted::default() }),
            fault: |_| Fault::DiskFull { path: None, leave_bytes: 4096 },
            measure: |v| succeeds(v, "/write"),
            way: Way::Breaks,
        },
        Case {
            kind: "slow-disk",
            measures: "ms for 256 KiB to the disk",
            victim: plain,
            fault: |_| Fault::SlowDisk { path: None, bytes_per_s: 512 << 10 },
            measure: |v| told_ms(v, "/write-through"),
            way: Way::Rises(4.0),
        },
        Case {
            kind: "read-only-disk",
            measures: "can write",
            victim: plain,
            fault: |_| Fault::ReadOnlyDisk { path: None },
            measure: |v| succeeds(v, "/write"),
            way: Way::Breaks,
        },
        Case {
            kind: "fd-exhaustion",
            measures: "can open 50 files",
            victim: plain,
            fault: |_| Fault::FdExhaustion { leave: 10 },
            measure: |v| succeeds(v, "/files?50"),
            way: Way::Breaks,
        },
        Case {
            kind: "thread-exhaustion",
            measures: "can start 50 threads",
            victim: plain,
            fault: |_| Fault::ThreadExhaustion { leave: 10 },
            measure: |v| succeeds(v, "/threads?50"),
            way: Way::Breaks,
        },
        Case {
            kind: "connection-exhaustion",
            measures: "answers",
            victim: || Victim::start(&Wanted { workers: Some(8), ..Wanted::default() }),
            fault: |_| Fault::ConnectionExhaustion { connections: 8 },
            measure: answers,
            way: Way::Breaks,
        },
        Case {
            kind: "latency",
            measures: "ms until an answer",
            victim: plain,
            fault: |_| Fault::Latency { add: Duration::from_millis(200), jitter: Duration::from_millis(20) },
            measure: |v| answer_ms(v, "/"),
            way: Way::Appears(150.0),
        },
        Case {
            kind: "error-rate",
            measures: "bad share of requests",
            victim: plain,
            fault: |_| Fault::ErrorRate { share: 0.8, status: 503 },
            measure: bad_share,
            way: Way::Appears(0.4),
        },
        Case {
            kind: "resets",
            measures: "bad share of requests",
            victim: plain,
            fault: |_| Fault::Resets { share: 0.8 },
            measure: bad_share,
            way: Way::Appears(0.4),
        },
        Case {
            kind: "bandwidth",
            measures: "ms for 100 kB",
            victim: plain,
            fault: |_| Fault::Bandwidth { bytes_per_s: 400_000 },
            measure: |v| answer_ms(v, "/bytes?100000"),
            way: Way::Appears(200.0),
        },
        Case {
            kind: "loss",
            measures: "ms for 100 questions on one connection",
            victim: plain,
            fault: |_| Fault::Loss { share: 0.1 },
            measure: |v| {
                let begun = Instant::now();
                let Some(mut stream) = v.connect(LONG) else { return 0.0 };
                let all = (0..100).all(|_| ask(&mut stream, "/").is_some());
                // Retransmissions take a fifth of a second each (RFC 6298's timer, Linux's minimum).
                if all { begun.elapsed().as_secs_f64() * 1000.0 } else { 60_000.0 }
            },
            way: Way::Appears(600.0),
        },
        Case {
            kind: "partition",
            measures: "answers",
            victim: plain,
            fault: |_| Fault::Partition,
            measure: answers,
            way: Way::Breaks,
        },
        Case {
            kind: "slow-dependency",
            measures: "ms for a question to the dependency",
            victim: with_dependency,
            fault: |v| Fault::SlowDependency { dependency: dependency(v), add: Duration::from_millis(200) },
            measure: |v| told_ms(v, "/dependency"),
            way: Way::Appears(150.0),
        },
        Case {
            kind: "failing-dependency",
            measures: "the dependency answers",
            victim: with_dependency,
            fault: |v| Fault::FailingDependency { dependency: dependency(v), share: 1.0, status: 503 },
            measure: |v| succeeds(v, "/dependency"),
            way: Way::Breaks,
        },
        Case {
            kind: "dns-failure",
            measures: "a name is found",
            victim: || {
                name_server();
                plain()
            },
            fault: |_| Fault::DnsFailure { how: DnsFailure::ServerFailure },
            measure: |v| f64::from(v.get(&format!("/resolve?{NAME_SERVER}"), LONG).as_deref() == Some("0")),
            way: Way::Breaks,
        },
        Case {
            kind: "clock-skew",
            measures: "s that its clock is ahead",
            victim: || Victim::start(&Wanted { clock: true, ..Wanted::default() }),
            fault: |_| Fault::ClockSkew { by_ms: 3_600_000 },
            measure: |v| {
                let theirs: f64 = v.get("/time", LONG).unwrap().parse().unwrap();
                let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                (theirs / 1000.0 - ours.as_secs_f64()).abs()
            },
            way: Way::Appears(3_500.0),
        },
        Case {
            kind: "certificate-expiry",
            measures: "its certificate is valid",
            victim: || {
                let victim = plain();
                let dir = victim.dir.path();
                let key = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
                fs::write(dir.join("certificate.pem"), key.cert.pem()).unwrap();
                fs::write(dir.join("key.pem"), key.signing_key.serialize_pem()).unwrap();
                victim
            },
            fault: |v| Fault::CertificateExpiry {
                certificate: v.dir.path().join("certificate.pem"),
                key: v.dir.path().join("key.pem"),
                reload: false,
            },
            measure: |v| {
                let seen = v.dir.path().join("seen.pem");
                fs::write(&seen, v.get("/certificate", LONG).unwrap()).unwrap();
                let arguments = ["x509", "-noout", "-checkend", "0", "-in"];
                let check = Command::new("openssl").args(arguments).arg(&seen).output().unwrap();
                f64::from(check.status.success())
            },
            way: Way::Breaks,
        },
        Case {
            kind: "log-storm",
            measures: "lines in 100 ms",
            victim: plain,
            fault: |_| Fault::LogStorm { path: None, lines_per_s: 5_000, line: "WARN storm".into() },
            measure: |v| {
                let lines = || fs::read_to_string(v.target.log.as_ref().unwrap()).unwrap().lines().count();
                let before = lines();
                std::thread::sleep(Duration::from_millis(100));
                (lines() - before) as f64
            },
            way: Way::Appears(100.0),
        },
        Case {
            kind: "noisy-neighbour",
            measures: "ms for some work",
            victim: plain,
            fault: |_| Fault::NoisyNeighbour { workers: 24 },
            measure: |v| told_ms(v, "/work"),
            way: Way::Rises(3.0),
        },
    ]
}

/// Where a name server of ours listens.
const NAME_SERVER: &str = "127.53.53.53:53";

/// Answers every question well, without records: RCODE 0 is what is looked at.
fn name_server() {
    static RUNNING: OnceLock<()> = OnceLock::new();
    RUNNING.get_or_init(|| {
        let socket = UdpSocket::bind(NAME_SERVER).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                buffer[2] |= 0x80;
                buffer[3] = 0x80;
                let _ = socket.send_to(&buffer[..n], from);
            }
        });
    });
}
