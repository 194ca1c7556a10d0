use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{LearningConfig, PrometheusConfig, Protection};
use crate::setting::{Size, all_defaults};

section! {
    /// The engine.
    pub struct EngineConfig {
        /// Where the ledger, the blueprints' versions and the state of cells are kept. Can't change without a restart.
        state_dir: PathBuf = PathBuf::from("/var/lib/forefend"),
        /// From one decision to the next. From 100ms to 1m. Can't change without a restart.
        tick: Duration = Duration::from_secs(1),
        /// The telemetry that predictions see.
        window: WindowConfig = all_defaults(),
        /// How cells are made.
        cells: CellsConfig = all_defaults(),
        /// How operators and the dashboard reach the engine.
        api: ApiConfig = all_defaults(),
        /// Telemetry that others push: Prometheus remote write and OTLP. Left out: none is taken. Can't change without a restart.
        receive: Option<ReceiveConfig>,
        /// A Prometheus that is asked for telemetry. Left out: none is. Can't change without a restart.
        prometheus: Option<PrometheusConfig>,
        /// Experiments and drills.
        drills: DrillsConfig = all_defaults(),
        /// Learning from failures.
        learning: LearningConfig = all_defaults(),
        /// What is kept of telemetry.
        history: HistoryConfig = all_defaults(),
        /// Forecasts from days of the past.
        forecast: ForecastConfig = all_defaults(),
    }
}

section! {
    /// Forecasts of metrics that fill up towards a limit, from days of their past: when is the disk full? They are made from what `history`
    /// holds, by a process of its own behind everything else, and need it to be on.
    pub struct ForecastConfig {
        /// Whether they are made.
        enabled: bool = true,
        /// How often. From 1m to 1d.
        every: Duration = Duration::from_secs(3 * 3_600),
        /// A metric is forecast once so long a past of it is known. From 1d to 365d; longer than `history.keep` it never is.
        least: Duration = Duration::from_secs(3 * 86_400),
    }
}

section! {
    /// The record of telemetry and of what became of cells, in `history/` of the state directory: for the next start of the engine, whose
    /// windows then have their past, and for training and backtests. What of it exceeds a bound is dropped, the oldest first.
    pub struct HistoryConfig {
        /// Whether it is kept. Can't change without a restart.
        enabled: bool = true,
        /// For how long. From 1h to 10 years. Can't change without a restart.
        keep: Duration = Duration::from_secs(7 * 86_400),
        /// How large it may grow; while half an hour of it is being packed, some 40 MiB more. From 64MiB to 64TiB. Can't change without a restart.
        size: Size = Size(1 << 30),
    }
}

section! {
    /// How cells are made from blueprints.
    pub struct CellsConfig {
        /// Protections that this host may lack. When one is missing that is not named here, no cell is made. Can't change
        /// without a restart.
        accept_missing_protections: Vec<Protection> = Vec::new(),
    }
}

section! {
    /// Experiments and drills.
    pub struct DrillsConfig {
        /// Whether this engine may hurt cells and move traffic for experiments. By default it may not.
        allowed: bool = false,
        /// The files of experiments that begin by themselves, when their schedules say so.
        experiments: Vec<PathBuf> = Vec::new(),
    }
}

section! {
    /// The aligned window of telemetry.
    pub struct WindowConfig {
        /// The distance between two samples. From 100ms to 5m. Can't change without a restart.
        step: Duration = Duration::from_secs(5),
        /// How far back it reaches: 12 to 4096 steps. Can't change without a restart.
        length: Duration = Duration::from_secs(30 * 60),
    }
}

section! {
    /// HTTP API and dashboard.
    pub struct ApiConfig {
        /// Where it listens. Other addresses than loopback need a token. Can't change without a restart.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7700)),
        /// Who may do what. Without tokens everybody on this machine may do everything.
        tokens: Vec<TokenConfig> = Vec::new(),
    }
}

section! {
    /// Where others push telemetry: `POST /api/v1/write` (Prometheus remote write 1.0 and 2.0), `POST /v1/metrics` and
    /// `POST /v1/logs` (OTLP over HTTP, in protobuf or JSON), and OTLP over gRPC, all at one address.
    pub struct ReceiveConfig {
        /// Where it listens. Other addresses than loopback need a token.
        listen: SocketAddr,
        /// What senders must show (`Authorization: Bearer …`). Left out: everybody on this machine may send.
        token: Option<SecretConfig>,
        /// The largest body, after decompression, that is taken; of JSON a sixteenth. From 64KiB to 256MiB.
        max_body: Size = Size(16 << 20),
        /// Requests that are read at once; more are told to come again. From 1 to 1024.
        max_requests: u32 = 8,
        /// Labels of series and attributes of resources that name the cell, in the order they are looked at. The first that is
        /// there decides; its value is a cell's name or one of its addresses.
        cell_labels: Vec<String> =
            ["forefend_cell", "forefend.cell", "service.instance.id", "service_instance_id", "instance"].map(String::from).to_vec(),
        /// Labels that are left out of the names of series, besides `cell_labels`: those that say where a series comes from
        /// rather than what it tells, such as Prometheus' `external_labels`.
        ignore_labels: Vec<String> = vec!["job".to_owned()],
    }
}

section! {
    /// A secret, by reference. It is never in this file.
    pub struct SecretConfig {
        /// The environment variable that holds it. There is either this or a file.
        env: Option<String>,
        /// The file that holds it, readable for its owner only.
        file: Option<PathBuf>,
    }
}

/// What a token allows. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiRole {
    /// See everything.
    Viewer,
    /// Shift, approve, freeze.
    Operator,
    /// Change the configuration.
    Admin,
}

words!(ApiRole, "api-role", "`viewer` may see everything, `operator` may shift, approve and freeze too, `admin` may do everything.", {
    "viewer" => ApiRole::Viewer,
    "operator" => ApiRole::Operator,
    "admin" => ApiRole::Admin,
});

section! {
    /// A token of the API. The secret itself is never in this file.
    pub struct TokenConfig {
        /// Who it belongs to; the ledger names them.
        name: String,
        /// What it allows.
        role: ApiRole,
        /// The environment variable that holds it. A token has either this or a file.
        env: Option<String>,
        /// The file that holds it, readable for its owner only.
        file: Option<PathBuf>,
    }
}

section! {
    /// The director.
    pub struct DirectorConfig {
        /// Threads that pass requests on. By default one for each core. Can't change without a restart.
        workers: Option<u32>,
    }
}
