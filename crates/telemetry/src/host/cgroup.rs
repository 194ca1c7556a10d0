//! Control groups, versions 1 and 2, and hybrid hosts: every controller has a directory of its own.

use std::path::{Path, PathBuf};

use super::{HostError, read, read_as};

/// Where a cell's controllers are. On a v2 host all are the same directory; on v1 and hybrid hosts each controller
/// has its own hierarchy, and `cpu` and `cpuacct` may be apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupDirs {
    /// With `memory.current` or `memory.usage_in_bytes`.
    pub memory: Option<PathBuf>,
    /// With `cpu.max` or `cpu.cfs_quota_us`, and `cpu.stat`.
    pub cpu: Option<PathBuf>,
    /// With `cpuacct.usage`; only needed where the v1 `cpu` directory does not have it.
    pub cpuacct: Option<PathBuf>,
    /// With `pids.current`.
    pub pids: Option<PathBuf>,
}

/// Memory of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryReading {
    /// Usage without inactive file pages: what could not be reclaimed at once.
    pub working_set_bytes: u64,
    /// `None` when unlimited.
    pub limit_bytes: Option<u64>,
    /// Share of the last 10 s in which some task waited for memory; `None` without PSI.
    pub pressure_ratio: Option<f64>,
}

/// CPU time of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuReading {
    /// Total so far, in nanoseconds; `None` when this hierarchy does not account for it.
    pub used_ns: Option<u64>,
    /// How many CPUs' worth of time it may have; `None` when unlimited.
    pub quota_cpus: Option<f64>,
    /// Total time throttled so far, in nanoseconds; `None` without bandwidth control.
    pub throttled_ns: Option<u64>,
}

/// Tasks of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidsReading {
    /// How many there are.
    pub current: u64,
    /// `None` when unlimited.
    pub limit: Option<u64>,
}

/// Reads the memory controller's directory of either version.
///
/// # Errors
/// [`HostError`] when it is none, or holds what it should not.
pub fn read_memory(dir: &Path) -> Result<MemoryReading, HostError> {
    let v2 = dir.join("memory.current").exists();
    let (usage, limit, inactive) = if v2 {
        ("memory.current", "memory.max", "inactive_file")
    } else if dir.join("memory.usage_in_bytes").exists() {
        // `total_` includes the groups below, as the usage does.
        ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
    } else {
        return Err(HostError::NoCgroup {
            path: dir.into(),
            files: "memory.current (v2) or memory.usage_in_bytes (v1)",
        });
    };
    let used: u64 = read_as(dir.join(usage), "number of bytes", number)?;
    let reclaimable = read_as(dir.join("memory.stat"), "inactive file pages", |text| keyed(text, inactive))?;
    // The root group of a v2 host has no limit file.
    let limit_bytes = match read(dir.join(limit)) {
        Ok((_, text)) => parse_limit(&text),
        Err(_) => None,
    };
    let pressure_ratio = read(dir.join("memory.pressure")).ok().and_then(|(_, text)| parse_pressure(&text));
    Ok(MemoryReading { working_set_bytes: used.saturating_sub(reclaimable), limit_bytes, pressure_ratio })
}

/// Reads the CPU controller's directory of either version; `cpuacct` where v1 keeps the accounting apart.
///
/// # Errors
/// [`HostError`] when it is none, or holds what it should not.
pub fn read_cpu(dir: &Path, cpuacct: Option<&Path>) -> Result<CpuReading, HostError> {
    let stat = read(dir.join("cpu.stat")).ok().map(|(_, text)| text);
    if let Some(usec) = stat.as_deref().and_then(|text| keyed(text, "usage_usec")) {
        let quota_cpus = read(dir.join("cpu.max")).ok().and_then(|(_, text)| parse_cpu_max(&text));
        let throttled = stat.as_deref().and_then(|text| keyed(text, "throttled_usec"));
        return Ok(CpuReading {
            used_ns: usec.checked_mul(1_000),
            quota_cpus,
            throttled_ns: throttled.and_then(|usec| usec.checked_mul(1_000)),
        });
    }
    if !dir.join("cpu.cfs_quota_us").exists() && !dir.join("cpuacct.usage").exists() {
        return Err(HostError::NoCgroup {
            path: dir.into(),
            files: "cpu.stat with usage_usec (v2), cpu.cfs_quota_us or cpuacct.usage (v1)",
        });
    }
    let quota: Option<i64> = read_as(dir.join("cpu.cfs_quota_us"), "quota", number).ok();
    let period: Option<f64> = read_as(dir.join("cpu.cfs_period_us"), "period", number).ok();
    let quota_cpus = match (quota, period) {
        // -1: unlimited.
        (Some(quota), Some(period)) if quota > 0 && period > 0.0 => Some(quota as f64 / period),
        _ => None,
    };
    let used_ns = match cpuacct {
        Some(dir) => Some(read_as(dir.join("cpuacct.usage"), "number of nanoseconds", number)?),
        None => read_as(dir.join("cpuacct.usage"), "number of nanoseconds", number).ok(),
    };
    let throttled_ns = stat.as_deref().and_then(|text| keyed(text, "throttled_time"));
    Ok(CpuReading { used_ns, quota_cpus, throttled_ns })
}

/// Reads the pids controller's directory; both versions name the files alike.
///
/// # Errors
/// [`HostError`] when it is none.
pub fn read_pids(dir: &Path) -> Result<PidsReading, HostError> {
    let current = read_as(dir.join("pids.current"), "number of tasks", number)?;
    let limit = read(dir.join("pids.max")).ok().and_then(|(_, text)| parse_limit(&text));
    Ok(PidsReading { current, limit })
}

/// A limit: `max` (v2) and numbers from 2^62 (v1: the largest page-aligned number) mean unlimited.
#[must_use]
pub fn parse_limit(text: &str) -> Option<u64> {
    number(text).filter(|limit| *limit < 1 << 62)
}

/// `cpu.max`: quota and period in microseconds, as CPUs; `None` when the quota is `max`.
#[must_use]
pub fn parse_cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_ascii_whitespace();
    let quota: f64 = words.next().filter(|word| *word != "max")?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    Some(quota / period).filter(|cpus| cpus.is_finite() && *cpus > 0.0)
}

/// Pressure stall information: `some avg10`, as a share from 0 to 1.
#[must_use]
pub fn parse_pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 =
        some.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// The number after `key` at the beginning of a line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).and_then(number)
}
