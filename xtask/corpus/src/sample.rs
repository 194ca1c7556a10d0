//! Everything that can be measured of a server twice a second, as the product would measure it: the kernel's readings through its
//! own reader, the server's status, its log, its disk, and what users see.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use forefend_domain::{Family, MetricKind, MetricName, Timestamp};
use forefend_telemetry::{
    catalogue,
    host::{self, Observed},
    series::MetricSpec,
};
use tokio::time::Instant;

use crate::{
    load::Seen,
    outcome::{PROBES, objective},
    spec::Limits,
    subject::{Server, StatusReader, Workload, full, gauge, total, within},
    wire::Link,
};

/// One metric of an episode. Where a step is missing there is a gap.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) spec: MetricSpec,
    /// Step and value, ascending.
    pub(crate) values: Vec<(u32, f32)>,
}

/// Gathers the series of an episode.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    series: BTreeMap<MetricName, Series>,
    /// First values of totals, which are counted from there.
    zeros: BTreeMap<MetricName, f64>,
}

impl Collected {
    pub(crate) fn take(&mut self, step: u32, observed: Observed) {
        let (spec, Some(value)) = observed else { return };
        if !value.is_finite() {
            return;
        }
        let value = if spec.counter {
            let zero = self.zeros.entry(spec.name.clone()).or_insert(value);
            if value < *zero {
                // It began anew.
                *zero = 0.0;
            }
            (value - *zero) as f32
        } else {
            rounded(value as f32)
        };
        let series = self
            .series
            .entry(spec.name.clone())
            .or_insert_with(|| Series { spec: spec.clone(), values: Vec::new() });
        series.spec.limit = series.spec.limit.or(spec.limit);
        if series.values.last().is_none_or(|(last, _)| *last < step) {
            series.values.push((step, value));
        }
    }

    pub(crate) fn into_series(self) -> Vec<Series> {
        self.series.into_values().collect()
    }
}

/// Levels keep 14 binary digits, a relative error below 0.01%: what is finer than any measurement only costs space.
fn rounded(value: f32) -> f32 {
    const DROPPED: u32 = 24 - 14;
    let half = 1u32 << (DROPPED - 1);
    f32::from_bits(value.to_bits().saturating_add(half) & !((1 << DROPPED) - 1))
}

/// Measures one server.
pub(crate) struct Sampler {
    server: Rc<Server>,
    reader: Option<(u32, host::Reader)>,
    status: StatusReader,
    log: LogReader,
    workload: Workload,
}

/// What became of a probe.
pub(crate) struct Probed {
    pub(crate) ok: bool,
    pub(crate) took: Duration,
}

impl Sampler {
    pub(crate) fn new(server: Rc<Server>, limits: &Limits) -> Self {
        let status = StatusReader::new(server.subject, server.address(), limits.connections);
        let log = LogReader { path: server.place.log.clone(), read: 0, lines: 0, warnings: 0, errors: 0 };
        let workload = Workload::new(server.subject, 0);
        Self { server, reader: None, status, log, workload }
    }

    /// One sample, and the probe made on the way. Takes half a second at most.
    pub(crate) async fn sample(&mut self, at: Timestamp, seen: Seen) -> (Vec<Observed>, Probed) {
        let mut observed = self.host(at);
        observed.extend(disk(&self.server));
        observed.extend(self.log.read());
        observed.extend(users(seen));
        let request = self.workload.probe();
        let (status, probed) = tokio::join!(self.status.read(at), probe(&self.server, &request));
        observed.extend(status);
        let took = probed.ok.then_some(probed.took.as_secs_f64() * 1e3);
        let limit_ms = objective().latency.min(PROBES.timeout).as_secs_f64() * 1e3;
        observed.push((catalogue::PROBE_LATENCY.spec(Some(limit_ms)), took));
        let failed = f64::from(u8::from(!probed.ok));
        observed.push((catalogue::PROBE_FAILED.spec(None), Some(failed)));
        (observed, probed)
    }

    fn host(&mut self, at: Timestamp) -> Vec<Observed> {
        let Some(pid) = self.server.process() else { return Vec::new() };
        if self.reader.as_ref().is_none_or(|(known, _)| *known != pid) {
            let limits = host::Limits { memory_bytes: None, host_cpus: 1.0 };
            let reader = host::Reader::new("/proc".into(), Some(pid), self.server.place.dirs(), limits);
            self.reader = Some((pid, reader));
        }
        let Some((_, reader)) = &mut self.reader else { return Vec::new() };
        // What could not be read is a gap.
        let (observed, _) = reader.read(at);
        observed
    }
}

async fn probe(server: &Server, request: &[u8]) -> Probed {
    let begun = Instant::now();
    let asked = async {
        let mut link = Link::open(server.protocol(), server.address()).await?;
        link.call(request).await
    };
    let ok = matches!(within(PROBES.timeout.mul_f64(0.8), asked).await, Some(Ok(true)));
    Probed { ok, took: begun.elapsed() }
}

fn disk(server: &Server) -> Option<Observed> {
    let (used, total) = server.place.disk()?;
    Some(full("disk_used_bytes", "bytes", used as f64, Some(total as f64)))
}

/// The data plane's view.
fn users(seen: Seen) -> Vec<Observed> {
    let objective = objective();
    vec![
        (catalogue::REQUESTS_PER_SECOND.spec(None), Some(seen.per_s)),
        (catalogue::ERROR_RATIO.spec(Some(objective.error_share)), seen.error_share),
        (catalogue::LATENCY_P99.spec(Some(objective.latency.as_secs_f64() * 1e3)), seen.p99_ms),
        (catalogue::LATENCY_P50.spec(None), seen.p50_ms),
        gauge("requests_in_flight", Family::Saturation, "requests", f64::from(seen.in_flight)),
    ]
}

/// Counts the lines of a log by level.
struct LogReader {
    path: PathBuf,
    read: u64,
    lines: u64,
    warnings: u64,
    errors: u64,
}

/// Of a log that grows faster, the rest is read at the next sample.
const MOST_READ: u64 = 256 << 10;

impl LogReader {
    fn read(&mut self) -> Vec<Observed> {
        if let Ok(mut file) = File::open(&self.path) {
            let mut new = Vec::new();
            let _ = file.seek(SeekFrom::Start(self.read));
            if file.take(MOST_READ).read_to_end(&mut new).is_ok() {
                // A line that is still being written is left for the next time.
                let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
                self.read += whole as u64;
                self.count(&String::from_utf8_lossy(&new[..whole]));
            }
        }
        vec![
            total("log_lines_total", Family::Logs, self.lines as f64),
            total("log_warnings_total", Family::Logs, self.warnings as f64),
            total("log_errors_total", Family::Logs, self.errors as f64),
        ]
    }

    fn count(&mut self, text: &str) {
        for line in text.lines() {
            self.lines += 1;
            let has = |marks: &[&str]| marks.iter().any(|mark| line.contains(mark));
            if has(&["ERROR:", "FATAL:", "PANIC:", "[error]", "[crit]", "[alert]", "[emerg]"]) {
                self.errors += 1;
            // Redis marks warnings, its highest level, with a number sign after the time.
            } else if has(&["WARNING:", "[warn]", "level=warn"]) || line.get(..48).is_some_and(redis_warning)
            {
                self.warnings += 1;
            }
        }
    }
}

fn redis_warning(line_begins: &str) -> bool {
    // `1234:M 01 Jan 2026 00:00:00.000 # text`
    line_begins.split(' ').nth(5) == Some("#")
}

/// The kind and family of a metric as files name them.
pub(crate) fn labels(spec: &MetricSpec) -> (String, String) {
    (crate::spec::name(spec.family), crate::spec::name(spec.kind))
}

/// The metric that [`labels`] told of.
///
/// # Errors
/// When a name is none of ours.
pub(crate) fn from_labels(
    name: &str,
    family: &str,
    kind: &str,
    unit: &str,
    limit: Option<f64>,
    counter: bool,
) -> serde_json::Result<MetricSpec> {
    let family: Family = serde_json::from_value(family.into())?;
    let kind: MetricKind = serde_json::from_value(kind.into())?;
    Ok(MetricSpec { name: MetricName::new(name), family, kind, unit: unit.to_owned(), limit, counter })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_stays_within_a_ten_thousandth() {
        for value in [1.0f32, 0.123_456_79, 98_765_432.0, 3.999_999, 0.0] {
            assert!((rounded(value) - value).abs() <= value * 1e-4, "{value} became {}", rounded(value));
        }
    }

    #[test]
    fn a_total_counts_from_its_first_value_and_begins_anew_after_a_restart() {
        let mut collected = Collected::default();
        for (step, value) in (0u32..).zip([1_000.0, 1_010.0, 5.0, 9.0]) {
            collected.take(step, total("n", Family::Traffic, value));
        }
        let series = collected.into_series();
        assert_eq!(series[0].values, [(0, 0.0), (1, 10.0), (2, 5.0), (3, 9.0)]);
    }

    #[test]
    fn lines_are_counted_by_level() {
        let mut log = LogReader { path: PathBuf::new(), read: 0, lines: 0, warnings: 0, errors: 0 };
        log.count(
            "2026/01/01 00:00:00 [error] 1#1: connect() failed\n2026-01-01 UTC [12] ERROR:  division by zero\n\
             77:M 01 Jan 2026 00:00:00.000 # Can't save in background: fork\n77:M 01 Jan 2026 00:00:00.000 * Ready\n",
        );
        assert_eq!((log.lines, log.errors, log.warnings), (4, 2, 1));
    }
}
