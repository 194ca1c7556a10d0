//! The metrics whose names mean the same for every cell, because Forefend measures them itself.

use forefend_domain::{Family, MetricKind, MetricName};

use crate::series::MetricSpec;

/// A metric that Forefend measures itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WellKnown {
    /// Its name.
    pub name: &'static str,
    /// What it tells.
    pub family: Family,
    /// What crossing its limit means, when there is one; without one it is [`MetricKind::Unbounded`].
    pub kind: MetricKind,
    /// The unit of its window.
    pub unit: &'static str,
    /// Whether totals are recorded and rates shown.
    pub counter: bool,
}

impl WellKnown {
    /// Its specification with the limit known now.
    #[must_use]
    pub fn spec(&self, limit: Option<f64>) -> MetricSpec {
        MetricSpec {
            name: MetricName::new(self.name),
            family: self.family,
            kind: if limit.is_some() { self.kind } else { MetricKind::Unbounded },
            unit: self.unit.to_owned(),
            limit,
            counter: self.counter,
        }
    }
}

const fn gauge(name: &'static str, family: Family, kind: MetricKind, unit: &'static str) -> WellKnown {
    WellKnown { name, family, kind, unit, counter: false }
}

/// Memory that can't be reclaimed without cost: cgroup usage less inactive file pages, or the resident set.
pub const MEMORY_WORKING_SET: WellKnown =
    gauge("memory_working_set_bytes", Family::Saturation, MetricKind::Exhaustible, "bytes");
/// CPU time used over CPU time allowed; its limit is 1.
pub const CPU_UTILISATION: WellKnown =
    gauge("cpu_utilisation_ratio", Family::Saturation, MetricKind::Saturable, "ratio");
/// Share of time in which the cgroup was throttled; can pass 1 where several of its threads wait.
pub const CPU_THROTTLED: WellKnown =
    gauge("cpu_throttled_ratio", Family::Saturation, MetricKind::Saturable, "ratio");
/// Share of time in which some task waited for memory (PSI, average of 10 s).
pub const MEMORY_PRESSURE: WellKnown =
    gauge("memory_pressure_ratio", Family::Saturation, MetricKind::Saturable, "ratio");
/// Open file descriptors.
pub const OPEN_FDS: WellKnown = gauge("open_fds", Family::Saturation, MetricKind::Exhaustible, "count");
/// Threads of the process, or tasks of its cgroup where one is given; then with the cgroup's limit.
pub const THREADS: WellKnown = gauge("threads", Family::Saturation, MetricKind::Exhaustible, "count");
/// Bytes read from and written to storage.
pub const IO_BYTES: WellKnown = WellKnown {
    name: "io_bytes_per_second",
    family: Family::Traffic,
    kind: MetricKind::Saturable,
    unit: "bytes/s",
    counter: true,
};
/// 99th percentile of latency as the data plane saw it; its limit is the objective.
pub const LATENCY_P99: WellKnown = gauge("latency_p99_ms", Family::Latency, MetricKind::Exhaustible, "ms");
/// Median latency as the data plane saw it.
pub const LATENCY_P50: WellKnown = gauge("latency_p50_ms", Family::Latency, MetricKind::Saturable, "ms");
/// Share of errors as the data plane saw it; its limit is the objective.
pub const ERROR_RATIO: WellKnown = gauge("error_ratio", Family::Errors, MetricKind::Exhaustible, "ratio");
/// Requests as the data plane counted them.
pub const REQUESTS_PER_SECOND: WellKnown =
    gauge("requests_per_second", Family::Traffic, MetricKind::Saturable, "1/s");
/// How long a successful probe took; a failed one leaves a gap here. Its limit is the objective: where a cell has no
/// traffic, only this tells that its latency creeps.
pub const PROBE_LATENCY: WellKnown =
    gauge("probe_latency_ms", Family::Latency, MetricKind::Exhaustible, "ms");
/// 1 when the probe failed, 0 when it was answered well.
pub const PROBE_FAILED: WellKnown = gauge("probe_failed", Family::Errors, MetricKind::Saturable, "0/1");

/// All of them.
pub const ALL: [WellKnown; 13] = [
    MEMORY_WORKING_SET,
    CPU_UTILISATION,
    CPU_THROTTLED,
    MEMORY_PRESSURE,
    OPEN_FDS,
    THREADS,
    IO_BYTES,
    LATENCY_P99,
    LATENCY_P50,
    ERROR_RATIO,
    REQUESTS_PER_SECOND,
    PROBE_LATENCY,
    PROBE_FAILED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nothing_counts_as_exhaustible() {
        for metric in ALL {
            assert_eq!(metric.spec(None).kind, MetricKind::Unbounded);
            assert_eq!(metric.spec(Some(1.0)).kind, metric.kind);
        }
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "two metrics share a name");
    }
}
