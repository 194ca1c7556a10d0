use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Ramp;

/// One injected cause: what is done to a cell at full level. A [`Ramp`] says how the level goes over time.
///
/// Each is real: it is done to the cell's processes, files or connections by the kernel or by a helper process, and needs
/// no help from the cell. Sizes are bytes, shares are from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// SIGKILL to every process of the cell. Whoever runs the cell must start it again.
    Kill,
    /// SIGSTOP to every process: it holds its connections and answers nothing (a *gray* failure).
    Stop,
    /// The freezer of its control group: as [`Fault::Stop`], invisible to its parent.
    Freeze,
    /// Its control group gets less CPU time.
    CpuQuota {
        /// Cores it keeps at full level; between, the quota goes in a straight line from all it had (or all cores).
        cores: f64,
    },
    /// Processes inside its control group that use CPU time up.
    CpuBurn {
        /// How many, each using a whole core at full level.
        workers: u32,
    },
    /// A process inside its control group takes memory and keeps it, up to the kernel's OOM kill of the cell.
    MemoryLeak {
        /// Bytes held at full level.
        bytes: u64,
    },
    /// The memory limit of its control group sinks.
    MemoryLimit {
        /// Bytes it has at full level.
        bytes: u64,
    },
    /// The file system that it writes to is filled.
    DiskFull {
        /// A directory on that file system; by default the cell's data directory.
        path: Option<PathBuf>,
        /// Bytes left free at full level.
        leave_bytes: u64,
    },
    /// Its reads and writes of a disk are throttled.
    SlowDisk {
        /// A directory on that disk; by default the cell's data directory.
        path: Option<PathBuf>,
        /// Bytes per second that it may read, and as many that it may write, at full level.
        bytes_per_s: u64,
    },
    /// A directory of it can't be written any more.
    ReadOnlyDisk {
        /// By default the cell's data directory.
        path: Option<PathBuf>,
    },
    /// Its processes may not open more file descriptors.
    FdExhaustion {
        /// How many more than it has open the fullest process may open at full level.
        leave: u32,
    },
    /// Its control group may not start more processes and threads.
    ThreadExhaustion {
        /// How many more than there are it may have at full level.
        leave: u32,
    },
    /// Idle connections to it are opened and held, until its pool has none left.
    ConnectionExhaustion {
        /// How many at full level.
        connections: u32,
    },
    /// Bytes on their way to and from it are held up.
    Latency {
        /// How long at full level, each way together.
        add: Duration,
        /// Up to this much more or less, evenly spread.
        #[serde(default)]
        jitter: Duration,
    },
    /// HTTP requests to it are answered with an error in its place.
    ErrorRate {
        /// Share of requests at full level.
        share: f64,
        /// With this status.
        status: u16,
    },
    /// Connections to it are reset.
    Resets {
        /// Share of connections at full level.
        share: f64,
    },
    /// Bytes to and from it pass more slowly.
    Bandwidth {
        /// Bytes per second, each way, that pass at full level.
        bytes_per_s: u64,
    },
    /// Packets to it are lost (by nftables).
    Loss {
        /// Share of packets at full level.
        share: f64,
    },
    /// No packet reaches it (by nftables).
    Partition,
    /// Answers of something it depends on come late.
    SlowDependency {
        /// Where the dependency listens.
        dependency: SocketAddr,
        /// How long at full level.
        add: Duration,
    },
    /// HTTP requests to something it depends on fail.
    FailingDependency {
        /// Where the dependency listens.
        dependency: SocketAddr,
        /// Share of requests at full level.
        share: f64,
        /// With this status.
        status: u16,
    },
    /// Its name lookups go wrong.
    DnsFailure {
        /// How.
        how: DnsFailure,
    },
    /// Its clock is wrong. Only for cells that were started with the clock library preloaded.
    ClockSkew {
        /// How far it is ahead at full level, in milliseconds; negative: behind.
        by_ms: i64,
    },
    /// Its certificate has expired: the file is replaced by one that ended yesterday.
    CertificateExpiry {
        /// The certificate, in PEM.
        certificate: PathBuf,
        /// Its key, in PEM.
        key: PathBuf,
        /// Told to read them anew by SIGHUP.
        reload: bool,
    },
    /// Lines are written into its log.
    LogStorm {
        /// Which; by default the cell's log.
        path: Option<PathBuf>,
        /// Lines per second at full level.
        lines_per_s: u32,
        /// What a line says.
        line: String,
    },
    /// Others on the same machine use up CPU, memory bandwidth and caches.
    NoisyNeighbour {
        /// How many processes, each using a whole core at full level.
        workers: u32,
    },
}

/// How name lookups go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsFailure {
    /// Answered with SERVFAIL (RFC 1035 §4.1.1, RCODE 2).
    ServerFailure,
    /// Answered with NXDOMAIN (RCODE 3).
    NoSuchName,
    /// Not answered.
    Silence,
}

/// Whether a failure that a fault causes can be foreseen from what the cell shows before. Said from how it is made,
/// before any model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Foresight {
    /// It builds up where metrics show it.
    Foreseeable,
    /// It comes at once: no metric shows anything before.
    Unforeseeable,
}

impl Fault {
    /// Every kind's name, as files and labels write it.
    pub const KINDS: [&'static str; 26] = [
        "kill",
        "stop",
        "freeze",
        "cpu-quota",
        "cpu-burn",
        "memory-leak",
        "memory-limit",
        "disk-full",
        "slow-disk",
        "read-only-disk",
        "fd-exhaustion",
        "thread-exhaustion",
        "connection-exhaustion",
        "latency",
        "error-rate",
        "resets",
        "bandwidth",
        "loss",
        "partition",
        "slow-dependency",
        "failing-dependency",
        "dns-failure",
        "clock-skew",
        "certificate-expiry",
        "log-storm",
        "noisy-neighbour",
    ];

    /// The name of its kind, as files and labels write it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::CpuQuota { .. } => "cpu-quota",
            Self::CpuBurn { .. } => "cpu-burn",
            Self::MemoryLeak { .. } => "memory-leak",
            Self::MemoryLimit { .. } => "memory-limit",
            Self::DiskFull { .. } => "disk-full",
            Self::SlowDisk { .. } => "slow-disk",
            Self::ReadOnlyDisk { .. } => "read-only-disk",
            Self::FdExhaustion { .. } => "fd-exhaustion",
            Self::ThreadExhaustion { .. } => "thread-exhaustion",
            Self::ConnectionExhaustion { .. } => "connection-exhaustion",
            Self::Latency { .. } => "latency",
            Self::ErrorRate { .. } => "error-rate",
            Self::Resets { .. } => "resets",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Loss { .. } => "loss",
            Self::Partition => "partition",
            Self::SlowDependency { .. } => "slow-dependency",
            Self::FailingDependency { .. } => "failing-dependency",
            Self::DnsFailure { .. } => "dns-failure",
            Self::ClockSkew { .. } => "clock-skew",
            Self::CertificateExpiry { .. } => "certificate-expiry",
            Self::LogStorm { .. } => "log-storm",
            Self::NoisyNeighbour { .. } => "noisy-neighbour",
        }
    }

    /// What of a cell it works on, where a second fault at the same time would take the first one's doing for the cell's own and
    /// put that back; `None`: any number may work side by side.
    #[must_use]
    pub(crate) fn works_on(&self) -> Option<String> {
        match self {
            Self::Kill
            | Self::CpuBurn { .. }
            | Self::NoisyNeighbour { .. }
            | Self::ConnectionExhaustion { .. }
            | Self::LogStorm { .. } => None,
            Self::Latency { .. } | Self::ErrorRate { .. } | Self::Resets { .. } | Self::Bandwidth { .. } => {
                Some("connections to it".to_owned())
            }
            Self::SlowDependency { dependency, .. } | Self::FailingDependency { dependency, .. } => {
                Some(format!("connections to {dependency}"))
            }
            Self::MemoryLeak { .. } => Some("memory-leak".to_owned()),
            Self::Stop
            | Self::Freeze
            | Self::CpuQuota { .. }
            | Self::MemoryLimit { .. }
            | Self::DiskFull { .. }
            | Self::SlowDisk { .. }
            | Self::ReadOnlyDisk { .. }
            | Self::FdExhaustion { .. }
            | Self::ThreadExhaustion { .. }
            | Self::Loss { .. }
            | Self::Partition
            | Self::DnsFailure { .. }
            | Self::ClockSkew { .. }
            | Self::CertificateExpiry { .. } => Some(self.kind().to_owned()),
        }
    }

    /// Whether what it causes can be foreseen, given how its level goes.
    #[must_use]
    pub fn foresight(&self, ramp: Ramp) -> Foresight {
        let at_once = matches!(
            self,
            Self::Kill
                | Self::Stop
                | Self::Freeze
                | Self::ReadOnlyDisk { .. }
                | Self::Partition
                | Self::DnsFailure { .. }
                | Self::CertificateExpiry { .. }
        );
        if at_once || !ramp.is_gradual() { Foresight::Unforeseeable } else { Foresight::Foreseeable }
    }

    /// Checks that its numbers make sense.
    ///
    /// # Errors
    /// Which does not, and what would.
    pub fn check(&self) -> Result<(), FaultProblem> {
        let share = |name: &'static str, share: f64| {
            if share > 0.0 && share <= 1.0 {
                Ok(())
            } else {
                Err(FaultProblem::new(name, "above 0% and at most 100%", share))
            }
        };
        let above_zero = |name: &'static str, n: u64| {
            if n > 0 { Ok(()) } else { Err(FaultProblem::new(name, "above 0", n as f64)) }
        };
        let status = |status: u16| {
            if (400..=599).contains(&status) {
                Ok(())
            } else {
                Err(FaultProblem::new("status", "from 400 to 599", f64::from(status)))
            }
        };
        let workers = |n: u32| {
            if (1..=256).contains(&n) {
                Ok(())
            } else {
                Err(FaultProblem::new("workers", "from 1 to 256", f64::from(n)))
            }
        };
        match self {
            Self::CpuQuota { cores } if !(*cores > 0.0 && *cores <= 1024.0) => {
                Err(FaultProblem::new("cores", "above 0 and at most 1024", *cores))
            }
            Self::CpuBurn { workers: n } | Self::NoisyNeighbour { workers: n } => workers(*n),
            Self::MemoryLeak { bytes } | Self::MemoryLimit { bytes } => above_zero("bytes", *bytes),
            Self::SlowDisk { bytes_per_s, .. } | Self::Bandwidth { bytes_per_s } => {
                above_zero("bytes_per_s", *bytes_per_s)
            }
            Self::ConnectionExhaustion { connections } => match connections {
                1..=60_000 => Ok(()),
                n => Err(FaultProblem::new("connections", "from 1 to 60000", f64::from(*n))),
            },
            Self::ErrorRate { share: s, status: code }
            | Self::FailingDependency { share: s, status: code, .. } => {
                share("share", *s).and_then(|()| status(*code))
            }
            Self::Resets { share: s } | Self::Loss { share: s } => share("share", *s),
            Self::Latency { add, .. } | Self::SlowDependency { add, .. } if add.is_zero() => {
                Err(FaultProblem::new("add", "above 0", 0.0))
            }
            Self::Latency { add, jitter } if jitter > add => {
                Err(FaultProblem::new("jitter", "at most `add`", jitter.as_secs_f64()))
            }
            Self::LogStorm { lines_per_s, .. } => above_zero("lines_per_s", u64::from(*lines_per_s)),
            Self::ClockSkew { by_ms: 0 } => Err(FaultProblem::new("by", "not 0", 0.0)),
            _ => Ok(()),
        }
    }
}

/// A parameter of a fault that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{parameter}` must be {wanted}, not {got}")]
pub struct FaultProblem {
    /// Which.
    pub parameter: &'static str,
    /// What would be right.
    pub wanted: &'static str,
    /// What it is.
    pub got: f64,
}

impl FaultProblem {
    fn new(parameter: &'static str, wanted: &'static str, got: f64) -> Self {
        Self { parameter, wanted, got }
    }
}
