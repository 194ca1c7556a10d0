use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use forefend_domain::{Family, MetricKind, RegionId, Tier, Weight};

use super::{CellConfig, Limit, Listen, MirrorConfig, PolicyConfig, Protocol, Sticky};
use crate::setting::{Share, Size, all_defaults};

section! {
    /// A service: what its cells must keep, how requests reach them, how it is protected.
    pub struct ServiceConfig {
        /// How much it matters; sets the defaults of its policy.
        tier: Tier = Tier::Standard,
        /// What its cells must keep. Breaking it is a failure.
        objective: ObjectiveConfig,
        /// Where clients connect: an address or a list of them.
        listen: Listen,
        /// What is spoken to the cells. Clients may speak HTTP/1.1 or HTTP/2 whichever it is.
        protocol: Protocol = Protocol::Http1,
        /// What tells one user from another, so that a user stays at a cell while weights stay.
        sticky: Sticky = Sticky::None,
        /// How long the director waits.
        timeouts: TimeoutsConfig = all_defaults(),
        /// When a request is tried again.
        retries: RetriesConfig = all_defaults(),
        /// The director's own checks of cells.
        health: HealthConfig = all_defaults(),
        /// When a cell that answers badly is left out for a while.
        ejection: EjectionConfig = all_defaults(),
        /// The engine's probes, which go on when a cell has no traffic.
        probe: ProbeConfig = all_defaults(),
        /// Metrics that cells expose in the Prometheus or OpenMetrics format, or that are pushed (`engine.receive`). Left
        /// out: none are scraped, and what is pushed is taken up to a bound, without limits.
        telemetry: Option<ScrapeConfig>,
        /// Logs of its cells, of which rates are made. Left out: none are read.
        logs: Option<LogsConfig>,
        /// How it is protected.
        policy: PolicyConfig = all_defaults(),
        /// Its cells.
        cells: Vec<CellConfig>,
        /// What synthetic cells are made from. Left out: only secondaries can help.
        mirror: Option<MirrorConfig>,
        /// Shares of regions for this service only, in place of `regions.*.weight`; they add up to 100%.
        region_weights: Option<BTreeMap<RegionId, Weight>>,
        /// Whether the client's address is appended to the header `x-forwarded-for`.
        forwarded_for: bool = true,
        /// Whether the header `via` is appended to requests (RFC 9110 §7.6.3).
        via: bool = false,
    }
}

words!(Tier, "tier", "How much a service matters.", {
    "critical" => Tier::Critical,
    "standard" => Tier::Standard,
    "best-effort" => Tier::BestEffort,
});

section! {
    /// What cells must keep.
    pub struct ObjectiveConfig {
        /// An answer that takes longer is slow.
        latency: Duration,
        /// The share of answers that may be slow before the objective is broken.
        slow_share: Share = Share::percent(1.0),
        /// The share of answers that may be errors (5xx, reset, timeout).
        error_share: Share = Share::percent(1.0),
        /// How long it must be broken without a break until the cell counts as failed. At least 1s.
        failed_for: Duration = Duration::from_secs(10),
    }
}

section! {
    /// How long the director waits.
    pub struct TimeoutsConfig {
        /// For a connection to a cell.
        connect: Duration = Duration::from_millis(250),
        /// For one try that another can follow, from sending the request to the head of the answer; a write, and the
        /// last try, have what is left of `request`. At most `request`.
        per_try: Duration = Duration::from_secs(1),
        /// For all tries together to the head of the answer, and for the longest pause within a body.
        request: Duration = Duration::from_secs(10),
        /// For requests in flight when a listener closes.
        drain: Duration = Duration::from_secs(10),
    }
}

section! {
    /// When a request is tried again. Only idempotent requests, and those of which nothing was sent, are.
    pub struct RetriesConfig {
        /// Tries in all, the first included. From 1 to 8.
        max_tries: u32 = 3,
        /// Retries may be this share of requests.
        budget: Share = Share::percent(20.0),
        /// So many retries per second are always allowed, for services with little traffic.
        min_per_second: u32 = 10,
        /// The largest body that is kept for another try. At most 16MiB.
        max_body: Size = Size(64 * 1024),
    }
}

section! {
    /// The director's checks: GET requests that must be answered with 2xx or 3xx.
    pub struct HealthConfig {
        /// Whether there are any.
        enabled: bool = true,
        /// Path and query, beginning with `/`.
        path: String = "/".to_owned(),
        /// From one check of a cell to the next.
        interval: Duration = Duration::from_secs(1),
        /// For one check. At most `interval`.
        timeout: Duration = Duration::from_millis(500),
        /// Failed checks in a row that make a cell down.
        unhealthy_after: u32 = 2,
        /// Good checks in a row that make it up again.
        healthy_after: u32 = 1,
    }
}

section! {
    /// Ejection: real traffic shows that a cell is ill.
    pub struct EjectionConfig {
        /// Failures in a row (refused, reset, timed out, 5xx) that eject; 0: never.
        consecutive_failures: u32 = 5,
        /// How long the first ejection lasts; each further one twice as long.
        base_duration: Duration = Duration::from_secs(5),
        /// The longest ejection. At least `base_duration`.
        max_duration: Duration = Duration::from_secs(60),
        /// The most cells that may be ejected at once; at least one if there are two.
        max_share: Share = Share::percent(50.0),
    }
}

section! {
    /// The engine's probes: GET requests, or only connections.
    pub struct ProbeConfig {
        /// Path and query, beginning with `/`. Left out: only whether a connection comes about.
        path: Option<String>,
        /// From one probe of a cell to the next.
        interval: Duration = Duration::from_secs(1),
        /// For one probe. At most `interval`.
        timeout: Duration = Duration::from_secs(1),
        /// The lowest status that counts as well.
        expect_from: u32 = 200,
        /// The highest status that counts as well.
        expect_to: u32 = 399,
    }
}

section! {
    /// Metrics, scraped or pushed.
    pub struct ScrapeConfig {
        /// Whether they are scraped. `false`: they are pushed (`engine.receive`), and only `metrics` counts here.
        scrape: bool = true,
        /// Path and query, beginning with `/`.
        path: String = "/metrics".to_owned(),
        /// From one scrape to the next.
        interval: Duration = Duration::from_secs(5),
        /// For one scrape. At most `interval`.
        timeout: Duration = Duration::from_secs(2),
        /// The port, if not that of the cell's address.
        port: Option<u16>,
        /// What to take. Left out: every gauge and counter, up to a bound, without limits.
        metrics: Vec<MetricConfig> = Vec::new(),
    }
}

section! {
    /// One metric to take.
    pub struct MetricConfig {
        /// The name as exposed or pushed, with `_total` and the like.
        name: String,
        /// Labels it must have, with their values. Others may be there too.
        labels: BTreeMap<String, String> = BTreeMap::new(),
        /// What to call it. By default as exposed.
        rename: Option<String>,
        /// What it tells.
        family: Family = Family::Custom,
        /// What reaching its limit means.
        kind: MetricKind = MetricKind::Unbounded,
        /// The unit of its values (for a counter, of its rate), for people.
        unit: String = String::new(),
        /// The value it must not reach: a size, a duration (compared in seconds), a percentage (compared as a ratio), a rate, or a
        /// bare number in the metric's own unit. A metric that is not `unbounded` has this or `limit_metric`. What is `depletable` must not
        /// fall to it, and it may be 0.
        limit: Option<Limit>,
        /// The exposed or pushed metric that tells the limit.
        limit_metric: Option<String>,
        /// Whether it only grows and its rate is wanted.
        counter: bool = false,
    }
}

section! {
    /// Logs of cells: what lines say becomes rates (see docs/logs.md).
    pub struct LogsConfig {
        /// The files of each cell, followed across rotation; `{cell}` stands for the cell's name. A cell can name more.
        paths: Vec<PathBuf> = Vec::new(),
        /// Whether what cells print that Forefend makes is read too.
        output: bool = true,
        /// From one look at the files to the next.
        interval: Duration = Duration::from_secs(1),
        /// The most templates whose rate is a metric of its own: those of warnings and worse first, then the most frequent.
        templates: u32 = 16,
        /// For how long a template counts as novel, and how long a log must be known before novelty is told.
        novel_for: Duration = Duration::from_secs(600),
        /// Rates that must not be reached: reaching one is a failure of the cell, so they are forecast.
        limits: Vec<LogLimitConfig> = Vec::new(),
    }
}

section! {
    /// A rate of lines that must not be reached. It has either `severity` or `line`.
    pub struct LogLimitConfig {
        /// Lines as bad as this or worse.
        severity: Option<Severity>,
        /// Lines whose message holds this text; `<*>` stands for anything: `connection to <*> refused`.
        line: Option<String>,
        /// Lines per second, for example `5/s`.
        limit: Limit,
    }
}

/// How bad a line of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// debug, trace, verbose.
    Debug,
    /// info, notice.
    Info,
    /// warn, warning.
    Warning,
    /// err, error, severe.
    Error,
    /// emerg, alert, crit, fatal, panic.
    Critical,
}

words!(Severity, "severity", "How bad a line of a log is.", {
    "debug" => Severity::Debug,
    "info" => Severity::Info,
    "warning" => Severity::Warning,
    "error" => Severity::Error,
    "critical" => Severity::Critical,
});
words!(Family, "family", "What a metric tells about a cell; models learn families, not names.", {
    "saturation" => Family::Saturation,
    "latency" => Family::Latency,
    "traffic" => Family::Traffic,
    "errors" => Family::Errors,
    "logs" => Family::Logs,
    "restarts" => Family::Restarts,
    "custom" => Family::Custom,
});
words!(MetricKind, "metric-kind", "What reaching the limit means: `exhaustible`: the cell fails; `depletable`: the cell fails, and it is reached by falling, as free space is; `saturable`: it is merely busy; `unbounded`: no limit is known.", {
    "exhaustible" => MetricKind::Exhaustible,
    "depletable" => MetricKind::Depletable,
    "saturable" => MetricKind::Saturable,
    "unbounded" => MetricKind::Unbounded,
});
