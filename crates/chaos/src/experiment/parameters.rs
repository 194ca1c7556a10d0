//! What each fault's parameters are called in a file, and in which units.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use forefend_config::{
    Cpu, Share, Size, scalar, section,
    sections::{Definitions, Json, Node, Reading, Setting, Trail, Value, duration, json, show_duration},
    words,
};

use crate::{DnsFailure, Fault};

/// Reads what stands after a kind that has nothing to choose.
fn none(kind: &str, node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>, fault: Fault) -> Option<Fault> {
    match &node.value {
        Value::Map(entries) if entries.is_empty() => Some(fault),
        Value::Map(_) | Value::List(_) | Value::Scalar { .. } => {
            cx.wrong(node, at, format!("`{kind}` has no parameters"), format!("write `fault: {kind}`"));
            None
        }
    }
}

section! {
    /// `cpu-quota`: the cell's control group gets less CPU time.
    pub struct CpuQuota {
        /// What it keeps at full level.
        cores: Cpu,
    }
}
section! {
    /// `cpu-burn`, `noisy-neighbour`: processes that use CPU time up.
    pub struct Workers {
        /// How many, each using a whole core at full level. From 1 to 256.
        workers: u32 = 1,
    }
}
section! {
    /// `memory-leak` (held at full level), `memory-limit` (what it has at full level).
    pub struct Memory {
        /// How much.
        bytes: Size,
    }
}
section! {
    /// `disk-full`: the file system that the cell writes to is filled.
    pub struct DiskFull {
        /// A directory on that file system. Left out: the cell's data directory.
        path: Option<PathBuf>,
        /// What is left free at full level.
        leave: Size = Size(0),
    }
}
section! {
    /// `slow-disk`: the cell's reads and writes of a disk are throttled.
    pub struct SlowDisk {
        /// A directory on that disk. Left out: the cell's data directory.
        path: Option<PathBuf>,
        /// What it may read, and as much that it may write, per second at full level.
        per_second: Size,
    }
}
section! {
    /// `read-only-disk`: a directory of the cell can't be written any more.
    pub struct ReadOnlyDisk {
        /// Which. Left out: the cell's data directory.
        path: Option<PathBuf>,
    }
}
section! {
    /// `fd-exhaustion` (file descriptors), `thread-exhaustion` (processes and threads): the cell may have no more.
    pub struct Leave {
        /// How many more than there are it may have at full level.
        leave: u32 = 0,
    }
}
section! {
    /// `connection-exhaustion`: idle connections to the cell are opened and held.
    pub struct Connections {
        /// How many at full level. From 1 to 60000.
        connections: u32,
    }
}
section! {
    /// `latency`: bytes on their way to and from the cell are held up.
    pub struct Latency {
        /// How long at full level, each way together.
        add: Duration,
        /// Up to this much more or less. At most `add`.
        jitter: Duration = Duration::ZERO,
    }
}
section! {
    /// `error-rate`: requests to the cell are answered with an error in its place.
    pub struct ErrorRate {
        /// Share of requests at full level.
        share: Share = Share::percent(100.0),
        /// With this status. From 400 to 599.
        status: u32 = 503,
    }
}
section! {
    /// `resets` (of connections), `loss` (of packets).
    pub struct Part {
        /// What share at full level.
        share: Share = Share::percent(100.0),
    }
}
section! {
    /// `bandwidth`: bytes to and from the cell pass more slowly.
    pub struct Bandwidth {
        /// What passes each way per second at full level.
        per_second: Size,
    }
}
section! {
    /// `slow-dependency`: answers of something that the cell depends on come late.
    pub struct SlowDependency {
        /// Where it listens.
        dependency: SocketAddr,
        /// How long at full level.
        add: Duration,
    }
}
section! {
    /// `failing-dependency`: requests to something that the cell depends on fail.
    pub struct FailingDependency {
        /// Where it listens.
        dependency: SocketAddr,
        /// Share of requests at full level.
        share: Share = Share::percent(100.0),
        /// With this status. From 400 to 599.
        status: u32 = 503,
    }
}
section! {
    /// `dns-failure`: the cell's name lookups go wrong.
    pub struct Lookups {
        /// How.
        how: DnsFailure = DnsFailure::ServerFailure,
    }
}
section! {
    /// `clock-skew`: the cell's clock is wrong.
    pub struct ClockSkew {
        /// How far it is ahead at full level; negative: behind.
        by: Skew,
    }
}
section! {
    /// `certificate-expiry`: the cell's certificate is replaced by one that ended yesterday.
    pub struct CertificateExpiry {
        /// The certificate, in PEM.
        certificate: PathBuf,
        /// Its key, in PEM.
        key: PathBuf,
        /// Whether the cell is told by SIGHUP to read them anew.
        reload: bool = true,
    }
}
section! {
    /// `log-storm`: lines are written into the cell's log.
    pub struct LogStorm {
        /// Which. Left out: the cell's log.
        path: Option<PathBuf>,
        /// How many at full level.
        lines_per_second: u32,
        /// What a line says.
        line: String = "ERROR an experiment writes this line".to_owned(),
    }
}

words!(DnsFailure, "dns-failure", "`server-failure`: answered with SERVFAIL; `no-such-name`: with NXDOMAIN; `silence`: not answered.", {
    "server-failure" => DnsFailure::ServerFailure,
    "no-such-name" => DnsFailure::NoSuchName,
    "silence" => DnsFailure::Silence,
});

/// How far a clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// In milliseconds; negative: behind.
    pub ms: i64,
}

scalar!(
    Skew,
    "skew",
    "A duration, whole milliseconds, with a sign when it is behind: `30s`, `-5m`.",
    json!({ "type": "string", "pattern": "^-?([0-9]+(\\.[0-9]+)? ?(d|h|m|s|ms) ?)+$" }),
    "how far the clock is wrong, for example `-30s`",
    |text| {
        let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        duration(rest).and_then(|by| match i64::try_from(by.as_millis()) {
            Ok(ms) if by.subsec_nanos() % 1_000_000 == 0 => Ok(Skew { ms: sign * ms }),
            _ => Err((
                format!("`{text}` is finer than a millisecond"),
                "write whole milliseconds, for example `250ms`".into(),
            )),
        })
    },
    |value| {
        let sign = if value.ms < 0 { "-" } else { "" };
        format!("{sign}{}", show_duration(Duration::from_millis(value.ms.unsigned_abs())))
    }
);

fn status(written: u32) -> u16 {
    // What is too large for a status is refused by the fault's own check.
    u16::try_from(written).unwrap_or(u16::MAX)
}

pub(super) fn parameters_of(kind: &str, node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Fault> {
    Some(match kind {
        "kill" => none(kind, node, at, cx, Fault::Kill)?,
        "stop" => none(kind, node, at, cx, Fault::Stop)?,
        "freeze" => none(kind, node, at, cx, Fault::Freeze)?,
        "partition" => none(kind, node, at, cx, Fault::Partition)?,
        "cpu-quota" => {
            let p = CpuQuota::read(node, at, cx)?;
            Fault::CpuQuota { cores: f64::from(p.cores.milli_cores) / 1_000.0 }
        }
        "cpu-burn" => Fault::CpuBurn { workers: Workers::read(node, at, cx)?.workers },
        "noisy-neighbour" => Fault::NoisyNeighbour { workers: Workers::read(node, at, cx)?.workers },
        "memory-leak" => Fault::MemoryLeak { bytes: Memory::read(node, at, cx)?.bytes.0 },
        "memory-limit" => Fault::MemoryLimit { bytes: Memory::read(node, at, cx)?.bytes.0 },
        "disk-full" => {
            let p = DiskFull::read(node, at, cx)?;
            Fault::DiskFull { path: p.path, leave_bytes: p.leave.0 }
        }
        "slow-disk" => {
            let p = SlowDisk::read(node, at, cx)?;
            Fault::SlowDisk { path: p.path, bytes_per_s: p.per_second.0 }
        }
        "read-only-disk" => Fault::ReadOnlyDisk { path: ReadOnlyDisk::read(node, at, cx)?.path },
        "fd-exhaustion" => Fault::FdExhaustion { leave: Leave::read(node, at, cx)?.leave },
        "thread-exhaustion" => Fault::ThreadExhaustion { leave: Leave::read(node, at, cx)?.leave },
        "connection-exhaustion" => {
            Fault::ConnectionExhaustion { connections: Connections::read(node, at, cx)?.connections }
        }
        "latency" => {
            let p = Latency::read(node, at, cx)?;
            Fault::Latency { add: p.add, jitter: p.jitter }
        }
        "error-rate" => {
            let p = ErrorRate::read(node, at, cx)?;
            Fault::ErrorRate { share: p.share.get(), status: status(p.status) }
        }
        "resets" => Fault::Resets { share: Part::read(node, at, cx)?.share.get() },
        "loss" => Fault::Loss { share: Part::read(node, at, cx)?.share.get() },
        "bandwidth" => Fault::Bandwidth { bytes_per_s: Bandwidth::read(node, at, cx)?.per_second.0 },
        "slow-dependency" => {
            let p = SlowDependency::read(node, at, cx)?;
            Fault::SlowDependency { dependency: p.dependency, add: p.add }
        }
        "failing-dependency" => {
            let p = FailingDependency::read(node, at, cx)?;
            Fault::FailingDependency {
                dependency: p.dependency,
                share: p.share.get(),
                status: status(p.status),
            }
        }
        "dns-failure" => Fault::DnsFailure { how: Lookups::read(node, at, cx)?.how },
        "clock-skew" => Fault::ClockSkew { by_ms: ClockSkew::read(node, at, cx)?.by.ms },
        "certificate-expiry" => {
            let p = CertificateExpiry::read(node, at, cx)?;
            Fault::CertificateExpiry { certificate: p.certificate, key: p.key, reload: p.reload }
        }
        "log-storm" => {
            let p = LogStorm::read(node, at, cx)?;
            Fault::LogStorm { path: p.path, lines_per_s: p.lines_per_second, line: p.line }
        }
        _ => return None,
    })
}

pub(super) fn schema_of(kind: &str, defs: &mut Definitions) -> Json {
    match kind {
        "cpu-quota" => CpuQuota::schema(defs),
        "cpu-burn" | "noisy-neighbour" => Workers::schema(defs),
        "memory-leak" | "memory-limit" => Memory::schema(defs),
        "disk-full" => DiskFull::schema(defs),
        "slow-disk" => SlowDisk::schema(defs),
        "read-only-disk" => ReadOnlyDisk::schema(defs),
        "fd-exhaustion" | "thread-exhaustion" => Leave::schema(defs),
        "connection-exhaustion" => Connections::schema(defs),
        "latency" => Latency::schema(defs),
        "error-rate" => ErrorRate::schema(defs),
        "resets" | "loss" => Part::schema(defs),
        "bandwidth" => Bandwidth::schema(defs),
        "slow-dependency" => SlowDependency::schema(defs),
        "failing-dependency" => FailingDependency::schema(defs),
        "dns-failure" => Lookups::schema(defs),
        "clock-skew" => ClockSkew::schema(defs),
        "certificate-expiry" => CertificateExpiry::schema(defs),
        "log-storm" => LogStorm::schema(defs),
        _ => json!({ "type": "object", "maxProperties": 0 }),
    }
}

/// The nearest share of 100% to a fault's share.
fn share(share: f64) -> Share {
    Share::percent(share * 100.0)
}

pub(super) fn parameters_shown(fault: &Fault) -> Json {
    match fault {
        Fault::Kill | Fault::Stop | Fault::Freeze | Fault::Partition => json!({}),
        Fault::CpuQuota { cores } => {
            CpuQuota { cores: Cpu { milli_cores: (cores * 1_000.0).round() as u32 } }.shown()
        }
        Fault::CpuBurn { workers } | Fault::NoisyNeighbour { workers } => {
            Workers { workers: *workers }.shown()
        }
        Fault::MemoryLeak { bytes } | Fault::MemoryLimit { bytes } => Memory { bytes: Size(*bytes) }.shown(),
        Fault::DiskFull { path, leave_bytes } => {
            DiskFull { path: path.clone(), leave: Size(*leave_bytes) }.shown()
        }
        Fault::SlowDisk { path, bytes_per_s } => {
            SlowDisk { path: path.clone(), per_second: Size(*bytes_per_s) }.shown()
        }
        Fault::ReadOnlyDisk { path } => ReadOnlyDisk { path: path.clone() }.shown(),
        Fault::FdExhaustion { leave } | Fault::ThreadExhaustion { leave } => Leave { leave: *leave }.shown(),
        Fault::ConnectionExhaustion { connections } => Connections { connections: *connections }.shown(),
        Fault::Latency { add, jitter } => Latency { add: *add, jitter: *jitter }.shown(),
        Fault::ErrorRate { share: s, status } => {
            ErrorRate { share: share(*s), status: u32::from(*status) }.shown()
        }
        Fault::Resets { share: s } | Fault::Loss { share: s } => Part { share: share(*s) }.shown(),
        Fault::Bandwidth { bytes_per_s } => Bandwidth { per_second: Size(*bytes_per_s) }.shown(),
        Fault::SlowDependency { dependency, add } => {
            SlowDependency { dependency: *dependency, add: *add }.shown()
        }
        Fault::FailingDependency { dependency, share: s, status } => {
            FailingDependency { dependency: *dependency, share: share(*s), status: u32::from(*status) }
                .shown()
        }
        Fault::DnsFailure { how } => Lookups { how: *how }.shown(),
        Fault::ClockSkew { by_ms } => ClockSkew { by: Skew { ms: *by_ms } }.shown(),
        Fault::CertificateExpiry { certificate, key, reload } => {
            CertificateExpiry { certificate: certificate.clone(), key: key.clone(), reload: *reload }.shown()
        }
        Fault::LogStorm { path, lines_per_s, line } => {
            LogStorm { path: path.clone(), lines_per_second: *lines_per_s, line: line.clone() }.shown()
        }
    }
}
