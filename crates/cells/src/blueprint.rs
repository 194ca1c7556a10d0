use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use forefend_domain::{BlueprintHash, BlueprintName, Bytes, Probability, ServiceId};
use serde::{Deserialize, Serialize};

use crate::units;

/// What a cell is made from. Strict: an unknown field is an error.
///
/// In `command` and in the values of `env` these are replaced:
///
/// | placeholder | by |
/// |---|---|
/// | `{exe}` | the path of the running `forefend` binary, which the cell can then execute |
/// | `{address}`, `{ip}`, `{port}` | where the cell must listen: both, the address alone, the port alone |
/// | `{cell}`, `{service}`, `{zone}`, `{region}` | identity and place |
/// | `{data}`, `{tmp}` | the two directories the cell may write to |
/// | `{dependency:NAME}` | address and port of what `dependencies` calls NAME |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blueprint {
    /// Its name; versions are told apart by [`Blueprint::content_hash`].
    pub name: BlueprintName,
    /// What the cell sees as its root.
    #[serde(default)]
    pub image: Image,
    /// The program, as an absolute path or `{exe}`, and its arguments.
    pub command: Vec<String>,
    /// The whole environment: nothing is inherited.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// What the cell calls, by the name used in placeholders.
    #[serde(default)]
    pub dependencies: BTreeMap<String, Dependency>,
    /// Where it listens and what it may connect to.
    #[serde(default)]
    pub network: Network,
    /// What it gets of the machine.
    #[serde(default)]
    pub resources: Resources,
    /// How it is made ready for users.
    #[serde(default)]
    pub warm_up: WarmUp,
    /// How it tells that it runs.
    #[serde(default)]
    pub readiness: Readiness,
    /// How long it may take to end after SIGTERM before it is killed.
    #[serde(default = "default_stop_grace", with = "units::duration")]
    pub stop_grace: Duration,
    /// Whether the cell's clock can be set off while it runs, to see how it bears that: a library is preloaded which stands between
    /// a dynamically linked program and its clocks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adjustable_clock: bool,
}

/// The root file system, always read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Image {
    /// The host's programs and libraries (`/usr`, `/lib*`, `/bin`, `/sbin` and the few files of `/etc` that name
    /// resolution and TLS need), and nothing else of the host.
    Host {
        /// Further files and directories to show, as absolute paths.
        #[serde(default)]
        read_only: Vec<PathBuf>,
    },
    /// An unpacked root file system.
    Directory {
        /// Where it lies on the host.
        path: PathBuf,
    },
}

impl Default for Image {
    fn default() -> Self {
        Self::Host { read_only: Vec::new() }
    }
}

/// The value of a variable: text, or a reference, so that no secret stands in a blueprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvValue {
    /// Text, in which placeholders are replaced.
    Text(String),
    /// From elsewhere, read when the cell is made.
    Reference(EnvReference),
}

/// Where the value of a variable is read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvReference {
    /// The engine's own variable of this name.
    FromEnv(String),
    /// A file of the host; the newline at its end is dropped.
    FromFile(PathBuf),
}

/// Something that a cell calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dependency {
    /// A service of which the driver has a cell: one of the same zone, else of the same region.
    Service(ServiceId),
    /// Something at a fixed address.
    Address(SocketAddr),
}

/// How a cell meets the network: it shares the host's, listens on a loopback address of its own that the driver allots,
/// and may (Landlock, ABI 4 and later) bind only its own TCP port and connect only to ports listed here and those of its dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// The TCP port to listen on.
    pub port: u16,
    /// TCP ports it may connect to, besides those of its dependencies.
    pub connect_ports: Vec<u16>,
}

impl Default for Network {
    fn default() -> Self {
        Self { port: 8080, connect_ports: Vec::new() }
    }
}

/// Limits, enforced by cgroups where the machine has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Memory and swap together; beyond it the kernel kills the cell.
    #[serde(with = "units::bytes")]
    pub memory: Bytes,
    /// Share of one core: 0.5 is half of one, 2.0 are two.
    pub cpu_share: f64,
    /// Processes and threads at a time.
    pub pids_max: u32,
    /// File descriptors of each process.
    pub open_files: u32,
    /// Size of its private `/tmp`, which counts as its memory.
    #[serde(with = "units::bytes")]
    pub tmp: Bytes,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory: Bytes(256 << 20),
            cpu_share: 1.0,
            pids_max: 128,
            open_files: 4096,
            tmp: Bytes(16 << 20),
        }
    }
}

/// What is done before a cell counts as warm: open connections, then preload, then replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmUp {
    /// Connections to open; the requests then use them.
    pub connect: u32,
    /// Paths to GET once each, in order: they make the cell load its data.
    pub preload: Vec<String>,
    /// Requests to replay.
    pub replay: Vec<Replay>,
    /// The share of all these requests that must be answered well.
    pub min_ok: Probability,
    /// For each request.
    #[serde(with = "units::duration")]
    pub request_timeout: Duration,
    /// For the whole.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

impl Default for WarmUp {
    fn default() -> Self {
        Self {
            connect: 0,
            preload: Vec::new(),
            replay: Vec::new(),
            min_ok: Probability::clamped(0.99, Probability::ONE),
            request_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(60),
        }
    }
}

/// Requests to replay. Reading ones only, for warming a cell must not change anybody's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// GET or HEAD.
    #[serde(default)]
    pub method: ReplayMethod,
    /// The path; `{n}` is replaced by 0, 1, 2, … so that different data is touched.
    pub path: String,
    /// How many.
    pub count: u32,
    /// How many at a time.
    #[serde(default = "one")]
    pub concurrency: u32,
    /// The status that counts as answered well; when left out, any below 400.
    #[serde(default)]
    pub expect_status: Option<u16>,
}

/// Methods that change nothing (RFC 9110 §9.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ReplayMethod {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
}

/// How a cell tells that it runs: a GET of `path` is answered with a status below 400.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Readiness {
    /// The path.
    pub path: String,
    /// How long that may take from the start of its process.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { path: "/".into(), timeout: Duration::from_secs(10) }
    }
}

/// A blueprint can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("blueprint {name}: {path} {what}")]
pub struct BlueprintError {
    /// Which blueprint.
    pub name: String,
    /// Where in it: `warm_up.replay[0].count`.
    pub path: String,
    /// What is wrong there and what would be right.
    pub what: String,
}

impl Blueprint {
    /// The BLAKE3 hash of its canonical form: JSON with sorted keys and without white space.
    #[must_use]
    pub fn content_hash(&self) -> BlueprintHash {
        // A value's objects are sorted maps, and a blueprint holds nothing that JSON can't say.
        let canonical = serde_json::to_value(self).unwrap_or_default().to_string();
        let hex = blake3::hash(canonical.as_bytes()).to_hex();
        // A BLAKE3 hash is 64 hexadecimal digits; names have at most 63 bytes. 128 bits keep collisions out of reach.
        BlueprintHash::new(&hex[..32])
            .unwrap_or_else(|_| unreachable!("32 hexadecimal digits are a valid name"))
    }
}

fn default_stop_grace() -> Duration {
    Duration::from_secs(5)
}

fn one() -> u32 {
    1
}
