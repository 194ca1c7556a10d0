use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use forefend_domain::ServiceId;
use serde_json::{Value as Json, json};

use crate::{
    reading::{Reading, Trail},
    schema::Definitions,
    setting::{Cpu, Setting, Share, Size, all_defaults},
    tree::{Node, Value},
};

section! {
    /// What a cell is made from. In `command` and `env` these are replaced: `{address}`, `{ip}`, `{port}` (where the cell must
    /// listen: both, the address alone, the port alone), `{data}` and `{tmp}` (the two directories it may write to), `{cell}`, `{service}`, `{zone}`,
    /// `{region}`, `{exe}` (the running Forefend binary) and `{dependency:NAME}` (address and port of a dependency).
    pub struct BlueprintConfig {
        /// What the cell sees as its root, read-only. `host`: the host's programs and libraries and nothing else; or `{ host: [PATH, …] }`:
        /// these paths besides; or `{ directory: PATH }`: an unpacked root file system.
        image: Image = Image::Host(Vec::new()),
        /// The program (an absolute path, as the cell sees it) and its arguments, one item each; no shell takes part.
        command: Vec<String>,
        /// The environment variables, and no others.
        env: BTreeMap<String, EnvValue> = BTreeMap::new(),
        /// What the cell calls, by the name used in `{dependency:NAME}`.
        dependencies: BTreeMap<String, Dependency> = BTreeMap::new(),
        /// Where it listens and what it may connect to.
        network: NetworkConfig = all_defaults(),
        /// What it gets of the machine.
        resources: ResourcesConfig = all_defaults(),
        /// How a cell becomes warm before it counts as capacity.
        warm_up: WarmUp = all_defaults(),
        /// When a started cell counts as running.
        readiness: Readiness = all_defaults(),
        /// From SIGTERM to SIGKILL when it is stopped.
        stop_grace: Duration = Duration::from_secs(5),
        /// Whether the fault `clock-skew` can be done to its cells: a library is preloaded that stands between a dynamically linked
        /// program and its clocks. Not with an image directory.
        adjustable_clock: bool = false,
    }
}

/// The root file system of a cell, always read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// The host's programs and libraries, and these absolute paths besides.
    Host(
        /// Further files and directories to show.
        Vec<PathBuf>,
    ),
    /// An unpacked root file system.
    Directory(
        /// Where it lies.
        PathBuf,
    ),
}

impl Setting for Image {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        const REMEDY: &str = "write `host`, `{ host: [/opt/app] }` or `{ directory: /srv/root }`";
        let Value::Map(entries) = &node.value else {
            return match cx.text(node, at, REMEDY.trim_start_matches("write "))? {
                "host" => Some(Self::Host(Vec::new())),
                other => {
                    cx.wrong(node, at, format!("`{other}` is no image"), REMEDY);
                    None
                }
            };
        };
        cx.section(node, at, &["host", "directory"])?;
        match entries.as_slice() {
            [(key, value)] if key == "host" => Vec::read(value, &at.key("host"), cx).map(Self::Host),
            [(key, value)] if key == "directory" => {
                PathBuf::read(value, &at.key("directory"), cx).map(Self::Directory)
            }
            _ => {
                cx.wrong(node, at, "a cell has one root", REMEDY);
                None
            }
        }
    }
    fn schema(defs: &mut Definitions) -> Json {
        let path = PathBuf::schema(defs);
        let paths = json!({ "type": "array", "items": path });
        let schema =
            json!({ "anyOf": [{ "const": "host" }, one_key("host", &paths), one_key("directory", &path)] });
        defs.scalar("image", "`host`, `{ host: [PATH, …] }` or `{ directory: PATH }`.", schema)
    }
    fn shown(&self) -> Json {
        match self {
            Self::Host(paths) if paths.is_empty() => "host".into(),
            Self::Host(paths) => json!({ "host": paths.shown() }),
            Self::Directory(path) => json!({ "directory": path.shown() }),
        }
    }
}

/// Something that a cell calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependency {
    /// A cell of this service: of the same zone, else of the same region.
    Service(
        /// Its name.
        ServiceId,
    ),
    /// Something at a fixed address.
    Address(
        /// Its address.
        SocketAddr,
    ),
}

impl Setting for Dependency {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        cx.section(node, at, &["service", "address"])?;
        match &node.value {
            Value::Map(entries) if entries.len() == 1 => {
                let (key, value) = &entries[0];
                match key.as_str() {
                    "service" => ServiceId::read(value, &at.key("service"), cx).map(Self::Service),
                    "address" => SocketAddr::read(value, &at.key("address"), cx).map(Self::Address),
                    _ => None,
                }
            }
            _ => {
                let remedy = "write `{ service: NAME }` or `{ address: 127.0.0.1:5432 }`";
                cx.wrong(node, at, "a dependency is one service or one address", remedy);
                None
            }
        }
    }
    fn schema(defs: &mut Definitions) -> Json {
        let (service, address) = (ServiceId::schema(defs), SocketAddr::schema(defs));
        let schema = json!({ "anyOf": [one_key("service", &service), one_key("address", &address)] });
        defs.scalar("dependency", "`{ service: NAME }`: a cell of the same zone, else of the same region; or `{ address: IP:PORT }`.", schema)
    }
    fn shown(&self) -> Json {
        match self {
            Self::Service(service) => json!({ "service": service.shown() }),
            Self::Address(address) => json!({ "address": address.shown() }),
        }
    }
}

/// The schema of a section with exactly this key.
fn one_key(key: &str, value: &Json) -> Json {
    json!({ "type": "object", "properties": { key: value }, "required": [key], "additionalProperties": false })
}

/// The value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// As written.
    Text(
        /// The value.
        String,
    ),
    /// The value of a variable of the engine's own environment.
    Env(
        /// Its name.
        String,
    ),
    /// The content of a file, without the line break at its end.
    File(
        /// Its path.
        PathBuf,
    ),
}

impl Setting for EnvValue {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            return String::read(node, at, cx).map(Self::Text);
        };
        cx.section(node, at, &["from_env", "from_file"])?;
        match entries.as_slice() {
            [(key, value)] if key == "from_env" => {
                String::read(value, &at.key("from_env"), cx).map(Self::Env)
            }
            [(key, value)] if key == "from_file" => {
                PathBuf::read(value, &at.key("from_file"), cx).map(Self::File)
            }
            _ => {
                cx.wrong(
                    node,
                    at,
                    "a value comes from one place",
                    "write a text, `{ from_env: NAME }` or `{ from_file: PATH }`",
                );
                None
            }
        }
    }
    fn schema(defs: &mut Definitions) -> Json {
        let (text, path) = (String::schema(defs), PathBuf::schema(defs));
        defs.scalar(
            "env-value",
            "A text; or `{ from_env: NAME }`, the value of a variable of the engine's environment; or `{ from_file: PATH }`, the content of a file.",
            json!({ "anyOf": [text, one_key("from_env", &text), one_key("from_file", &path)] }),
        )
    }
    fn shown(&self) -> Json {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Env(name) => json!({ "from_env": name }),
            Self::File(path) => json!({ "from_file": path.shown() }),
        }
    }
}

section! {
    /// How a cell meets the network: it shares the host's, on a loopback address of its own.
    pub struct NetworkConfig {
        /// The TCP port it listens on.
        port: u16 = 8080,
        /// TCP ports it may connect to, besides those of its dependencies.
        connect_ports: Vec<u16> = Vec::new(),
    }
}

section! {
    /// What a cell gets of the machine.
    pub struct ResourcesConfig {
        /// Memory and swap together; beyond it the kernel kills the cell. At least 4MiB.
        memory: Size = Size(256 << 20),
        /// CPU time. From `1%` to 1024 cores.
        cpu: Cpu = Cpu { milli_cores: 1_000 },
        /// Processes and threads at a time.
        pids: u32 = 128,
        /// Open files of each process.
        open_files: u32 = 4096,
        /// Its private `/tmp`, which counts as its memory. At least 4KiB.
        tmp: Size = Size(16 << 20),
    }
}

/// A protection that a host may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// A user id of its own (needs root).
    OwnUser,
    /// A process namespace.
    PidNamespace,
    /// A mount namespace with a read-only root.
    MountNamespace,
    /// A namespace for interprocess communication.
    IpcNamespace,
    /// A namespace for the host name.
    UtsNamespace,
    /// A memory limit by cgroup.
    CgroupMemory,
    /// A CPU limit by cgroup.
    CgroupCpu,
    /// A limit on processes by cgroup.
    CgroupPids,
    /// Freezing by cgroup.
    Freezer,
    /// Landlock rules for files.
    LandlockFiles,
    /// Landlock rules for TCP.
    LandlockNetwork,
    /// The system call filter.
    Seccomp,
    /// No capabilities and no way to gain some.
    NoCapabilities,
}

words!(Protection, "protection", "A way in which the kernel keeps a cell from harming its host and its neighbours.", {
    "own-user" => Protection::OwnUser,
    "pid-namespace" => Protection::PidNamespace,
    "mount-namespace" => Protection::MountNamespace,
    "ipc-namespace" => Protection::IpcNamespace,
    "uts-namespace" => Protection::UtsNamespace,
    "cgroup-memory" => Protection::CgroupMemory,
    "cgroup-cpu" => Protection::CgroupCpu,
    "cgroup-pids" => Protection::CgroupPids,
    "freezer" => Protection::Freezer,
    "landlock-files" => Protection::LandlockFiles,
    "landlock-network" => Protection::LandlockNetwork,
    "seccomp" => Protection::Seccomp,
    "no-capabilities" => Protection::NoCapabilities,
});

impl Protection {
    /// Its name as written in the file, which is that of the driver's protection too.
    #[must_use]
    pub fn name(self) -> String {
        self.shown().as_str().unwrap_or_default().to_owned()
    }
}

section! {
    /// How a cell becomes warm: connections are opened, paths preloaded, requests replayed.
    pub struct WarmUp {
        /// Connections to open; the requests then use them. At most 1024.
        connect: u32 = 0,
        /// Paths requested once each, in order, so that the cell loads its data.
        preload: Vec<String> = Vec::new(),
        /// Requests replayed and checked.
        replay: Vec<Replay> = Vec::new(),
        /// The share of all these requests that must be answered well.
        min_ok: Share = Share::percent(99.0),
        /// For each request.
        request_timeout: Duration = Duration::from_secs(2),
        /// For the whole.
        timeout: Duration = Duration::from_secs(60),
    }
}

section! {
    /// Requests to replay. Only ones that change nothing.
    pub struct Replay {
        /// Path and query, beginning with `/`; `{n}` is replaced by 0, 1, 2, …
        path: String,
        /// The method.
        method: ReplayMethod = ReplayMethod::Get,
        /// How many. From 1 to 100000.
        count: u32,
        /// How many at once. From 1 to 256.
        concurrency: u32 = 1,
        /// The status that counts as well. Left out: any below 400.
        expect_status: Option<u16>,
    }
}

/// A method that changes nothing (RFC 9110 §9.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayMethod {
    /// GET
    Get,
    /// HEAD
    Head,
}

words!(ReplayMethod, "replay-method", "A method that changes nothing.", {
    "GET" => ReplayMethod::Get,
    "HEAD" => ReplayMethod::Head,
});

section! {
    /// When a started cell counts as running.
    pub struct Readiness {
        /// Path and query that must be answered with a status below 400.
        path: String = "/".to_owned(),
        /// How long that may take from its start.
        timeout: Duration = Duration::from_secs(10),
    }
}
