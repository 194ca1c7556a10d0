use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// Upper bounds of latency buckets in seconds: from well below the base delay to well above any objective.
const BOUNDS_S: [f64; 14] =
    [0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.02, 0.035, 0.06, 0.1, 0.25, 0.5, 1.0];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BOUNDS_S.len()],
    count: u64,
    sum_s: f64,
}

impl Histogram {
    fn record(&mut self, took: Duration) {
        let s = took.as_secs_f64();
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS_S) {
            *bucket += u64::from(s <= bound);
        }
        self.count += 1;
        self.sum_s += s;
    }

    fn write(&self, out: &mut String, name: &str) {
        let _ = writeln!(out, "# TYPE {name} histogram");
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS_S) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {bucket}");
        }
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum {}\n{name}_count {}", self.sum_s, self.count);
    }
}

/// What the service counts of itself.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    by_status: BTreeMap<u16, u64>,
    errors: u64,
    latency: Histogram,
    inventory_latency: Histogram,
    inventory_errors: u64,
    pub(crate) in_flight: u64,
}

impl Metrics {
    /// One answer to a customer (not to probes).
    pub(crate) fn answered(&mut self, status: u16, took: Duration) {
        *self.by_status.entry(status).or_default() += 1;
        self.errors += u64::from(status >= 500);
        self.latency.record(took);
    }

    /// One call of the inventory.
    pub(crate) fn called_inventory(&mut self, ok: bool, took: Duration) {
        self.inventory_latency.record(took);
        self.inventory_errors += u64::from(!ok);
    }

    /// Prometheus text (exposition format 0.0.4). `gauges` are the caller's own.
    pub(crate) fn text(&self, gauges: &[(&str, f64)]) -> String {
        let mut out = String::with_capacity(4096);
        out.push_str("# TYPE http_requests_total counter\n");
        for (status, count) in &self.by_status {
            let _ = writeln!(out, "http_requests_total{{code=\"{status}\"}} {count}");
        }
        let _ = writeln!(out, "# TYPE http_errors_total counter\nhttp_errors_total {}", self.errors);
        self.latency.write(&mut out, "http_request_duration_seconds");
        self.inventory_latency.write(&mut out, "shop_inventory_call_duration_seconds");
        let _ = writeln!(
            out,
            "# TYPE shop_inventory_errors_total counter\nshop_inventory_errors_total {}",
            self.inventory_errors
        );
        let _ =
            writeln!(out, "# TYPE http_requests_in_flight gauge\nhttp_requests_in_flight {}", self.in_flight);
        for (name, value) in gauges {
            let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
        }
        write_process(&mut out);
        out
    }
}

/// The conventional process metrics, as far as /proc tells them; what can't be read is left out.
fn write_process(out: &mut String) {
    if let Some(bytes) = resident_bytes() {
        let _ = writeln!(
            out,
            "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {bytes}"
        );
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let _ = writeln!(out, "# TYPE process_open_fds gauge\nprocess_open_fds {}", entries.count());
    }
    if let Some(limit) = fd_limit() {
        let _ = writeln!(out, "# TYPE process_max_fds gauge\nprocess_max_fds {limit}");
    }
    if let Some(s) = cpu_seconds() {
        let _ = writeln!(out, "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {s}");
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn fd_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse::<f64>().ok().map(|ns| ns / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_errors_are_counted_once() {
        let mut metrics = Metrics::default();
        metrics.answered(200, Duration::from_micros(1500));
        metrics.answered(503, Duration::from_secs(3));
        let text = metrics.text(&[("shop_carts", 4.0)]);
        for line in [
            "http_requests_total{code=\"200\"} 1",
            "http_errors_total 1",
            "http_request_duration_seconds_bucket{le=\"0.001\"} 0",
            "http_request_duration_seconds_bucket{le=\"0.002\"} 1",
            "http_request_duration_seconds_bucket{le=\"1\"} 1",
            "http_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "shop_carts 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(resident_bytes().unwrap() > 100_000);
    }
}
