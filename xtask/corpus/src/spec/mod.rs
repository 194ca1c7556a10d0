//! Which episodes there are: made from seeds alone, before any server runs or any model sees them.

mod draw;
mod foreseeable;
mod healthy;
mod load;
mod unforeseeable;

use std::time::Duration;

use forefend_chaos::Ramp;
use serde::{Deserialize, Serialize};

pub(crate) use draw::{Random, all, reduced, rehearsal};
pub(crate) use load::{Burst, DAY_S, LoadProfile};

/// The server that an episode is about. Each is unmodified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    Nginx,
    Postgres,
    Redis,
    Shop,
}

/// What is known of an episode from how it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Class {
    /// It fails, and what makes it fail builds up where metrics show it.
    Foreseeable,
    /// It fails at once.
    Unforeseeable,
    /// It does not fail, though it looks as if it might.
    Healthy,
}

/// What happens in an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Leak,
    DiskFill,
    FdExhaustion,
    PoolExhaustion,
    ThreadExhaustion,
    CpuSaturation,
    LatencyCreep,
    ErrorCreep,
    SlowingDependency,
    LogWarnings,
    Kill,
    Cut,
    Step,
    Season,
    Spike,
    Batch,
    Gc,
    Backup,
    Deploy,
    CacheFlush,
    Plateau,
    DiskRotation,
    ConnectionBurst,
    LatencyHump,
    MaskedErrors,
}

impl Kind {
    pub(crate) const ALL: [Self; 25] = [
        Self::Leak,
        Self::DiskFill,
        Self::FdExhaustion,
        Self::PoolExhaustion,
        Self::ThreadExhaustion,
        Self::CpuSaturation,
        Self::LatencyCreep,
        Self::ErrorCreep,
        Self::SlowingDependency,
        Self::LogWarnings,
        Self::Kill,
        Self::Cut,
        Self::Step,
        Self::Season,
        Self::Spike,
        Self::Batch,
        Self::Gc,
        Self::Backup,
        Self::Deploy,
        Self::CacheFlush,
        Self::Plateau,
        Self::DiskRotation,
        Self::ConnectionBurst,
        Self::LatencyHump,
        Self::MaskedErrors,
    ];

    pub(crate) fn class(self) -> Class {
        match self {
            Self::Leak
            | Self::DiskFill
            | Self::FdExhaustion
            | Self::PoolExhaustion
            | Self::ThreadExhaustion
            | Self::CpuSaturation
            | Self::LatencyCreep
            | Self::ErrorCreep
            | Self::SlowingDependency
            | Self::LogWarnings => Class::Foreseeable,
            Self::Kill | Self::Cut | Self::Step => Class::Unforeseeable,
            Self::Season
            | Self::Spike
            | Self::Batch
            | Self::Gc
            | Self::Backup
            | Self::Deploy
            | Self::CacheFlush
            | Self::Plateau
            | Self::DiskRotation
            | Self::ConnectionBurst
            | Self::LatencyHump
            | Self::MaskedErrors => Class::Healthy,
        }
    }

    /// What it is, for the data card.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Leak => "memory is taken and never given back, up to the limit",
            Self::DiskFill => "the data directory fills up",
            Self::FdExhaustion => "idle or half-open connections pile up to the limit of file descriptors",
            Self::PoolExhaustion => "clients do not give connections back, up to the server's limit",
            Self::ThreadExhaustion => "processes pile up to the limit of tasks",
            Self::CpuSaturation => "load or the share of costly requests grows beyond the CPU quota",
            Self::LatencyCreep => "answers take ever longer: locks held longer, a growing delay",
            Self::ErrorCreep => "ever more of the data can't be answered from",
            Self::SlowingDependency => "what the server calls answers ever later",
            Self::LogWarnings => "trouble that retries hide: it shows in the log long before users see it",
            Self::Kill => "every process is killed",
            Self::Cut => "every process is stopped, or no packet reaches it",
            Self::Step => "a bad change: everything gets slow or wrong at once",
            Self::Season => "the load of a day with its bursts, nothing else",
            Self::Spike => "a spike of load that passes",
            Self::Batch => "a batch job uses CPU for a while",
            Self::Gc => "memory in a sawtooth",
            Self::Backup => "a backup reads everything and takes disk for a while",
            Self::Deploy => "the server is reloaded or started again",
            Self::CacheFlush => "a full cache is dropped and fills again",
            Self::Plateau => "memory grows and stays below its limit",
            Self::DiskRotation => "the disk fills up and is rotated",
            Self::ConnectionBurst => "connections pile up and go away again",
            Self::LatencyHump => "answers take longer for a while, within the objective",
            Self::MaskedErrors => "errors in the log that retries hide, and that pass",
        }
    }
}

/// The limits that a server runs under.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: u64,
    /// CPU time per time.
    pub(crate) cpu_cores: f64,
    /// Processes and threads.
    pub(crate) tasks: u32,
    /// The file system of the data directory.
    pub(crate) disk_bytes: u64,
    /// Open files of a process.
    pub(crate) files: u32,
    /// The server's own limit of connections.
    pub(crate) connections: u32,
    /// Redis: `maxmemory`; 0: none, so that the control group's limit counts.
    pub(crate) max_memory_bytes: u64,
}

/// Something that is done in an episode. Amounts are those at full level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum What {
    /// Requests times this.
    LoadFactor { factor: f64 },
    /// So many of the requests are costly ones.
    HeavyShare { share: f64 },
    /// Redis: keys without expiry.
    Keys { bytes: u64 },
    /// Redis: writes that make the append-only file longer; down: it is rewritten.
    AppendLog { bytes: u64 },
    /// PostgreSQL: rows in a table; down: it is truncated.
    Rows { bytes: u64 },
    /// nginx: files that clients put there; down: they are deleted.
    Uploads { bytes: u64 },
    /// A log of another program on the same disk; down: it is rotated away.
    ForeignLog { bytes: u64 },
    /// The sample service's own leak; down: a collection frees it.
    OwnLeak { bytes: u64 },
    /// PostgreSQL: a session that gathers state; down: it forgets.
    SessionState { bytes: u64 },
    /// Connections that are opened and not given back: idle, half a request, or idle in a transaction.
    Connections { count: u32 },
    /// Processes of jobs that hang, in the server's control group.
    HungJobs { count: u32 },
    /// So much of the data can't be answered from.
    Poison { share: f64 },
    /// PostgreSQL: rows that users want are locked for so long at a time.
    LockHold { ms: f64 },
    /// The sample service answers later.
    OwnDelay { ms: f64 },
    /// What the server calls answers later.
    DependencyDelay { ms: f64 },
    /// nginx: so many of its upstreams are gone.
    LostUpstreams { count: u32 },
    /// The control group's CPU quota sinks to this.
    CpuQuota { cores: f64 },
    /// A job of one client at a time, busy for this share of the time.
    Job { busy: f64 },
    /// The server's own snapshot or a dump.
    Backup,
    /// Everything in a cache is dropped.
    Flush,
    /// It reads its configuration anew.
    Reload,
    /// It is ended gracefully and started again.
    Restart,
    /// SIGKILL to all of its processes.
    Kill,
    /// SIGSTOP to all of its processes.
    Stop,
    /// A fault of the fault library.
    Fault { fault: forefend_chaos::Fault },
}

/// One cause: what is done, how it builds up, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cause {
    #[serde(flatten)]
    pub(crate) what: What,
    pub(crate) ramp: Ramp,
    /// Seconds after the episode's start.
    pub(crate) onset_s: f64,
    /// Until it ends and is undone; beyond the episode's length: it never ends.
    pub(crate) until_s: f64,
}

impl Cause {
    pub(crate) fn new(what: What, ramp: Ramp, onset_s: f64) -> Self {
        Self { what, ramp, onset_s, until_s: f64::from(u16::MAX) }
    }

    pub(crate) fn until(self, until_s: f64) -> Self {
        Self { until_s, ..self }
    }

    /// Its level at `t_s` after the episode's start: from 0 to 1.
    pub(crate) fn level(&self, t_s: f64) -> f64 {
        if t_s < self.onset_s || t_s >= self.until_s {
            return 0.0;
        }
        self.ramp.level(Duration::from_secs_f64(t_s - self.onset_s))
    }
}

/// One episode, whole: the same spec makes the same episode again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EpisodeSpec {
    pub(crate) id: u32,
    pub(crate) seed: u64,
    pub(crate) subject: Subject,
    pub(crate) kind: Kind,
    /// From 0 to 9, for splitting: every group has every kind.
    pub(crate) group: u8,
    pub(crate) length_s: f64,
    pub(crate) limits: Limits,
    pub(crate) load: LoadProfile,
    pub(crate) causes: Vec<Cause>,
}

impl EpisodeSpec {
    pub(crate) fn class(&self) -> Class {
        self.kind.class()
    }

    /// When the first cause begins, in seconds after the start.
    pub(crate) fn onset_s(&self) -> Option<f64> {
        self.causes.iter().map(|c| c.onset_s).reduce(f64::min)
    }
}

/// The name of a plain enum value, as files write it.
pub(crate) fn name(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("a plain enum value became {other:?}"),
    }
}
