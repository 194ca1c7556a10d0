//! `/proc/PID`.

use std::path::Path;

use super::{HostError, read_as};

/// Clock ticks per second in `/proc/PID/stat`: `USER_HZ`, which the kernel's interface fixes at 100 on every
/// architecture that Rust's Linux targets of today have.
pub const TICKS_PER_SECOND: f64 = 100.0;

/// What is told of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessReading {
    /// When it began, in ticks since boot: with the number, this tells processes apart.
    pub started_ticks: u64,
    /// CPU time of the process, in user and kernel mode, in ticks.
    pub cpu_ticks: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Its threads.
    pub threads: u64,
    /// Open file descriptors; `None` when they may not be listed.
    pub open_fds: Option<u64>,
    /// How many it may open (soft limit); `None` when unlimited or not to be read.
    pub fd_limit: Option<u64>,
    /// Bytes read from and written to storage; `None` when they may not be read.
    pub io_bytes: Option<u64>,
}

/// Reads a process below `root`, usually `/proc`.
///
/// # Errors
/// [`HostError`] when there is no such process. What only its owner may read is `None` instead.
pub fn read(root: &Path, pid: u32) -> Result<ProcessReading, HostError> {
    let dir = root.join(pid.to_string());
    let (started_ticks, cpu_ticks) = read_as(dir.join("stat"), "start and CPU times", parse_stat)?;
    let (resident_bytes, threads) = read_as(dir.join("status"), "VmRSS and Threads", parse_status)?;
    Ok(ProcessReading {
        started_ticks,
        cpu_ticks,
        resident_bytes,
        threads,
        open_fds: std::fs::read_dir(dir.join("fd")).ok().map(|entries| entries.count() as u64),
        fd_limit: std::fs::read_to_string(dir.join("limits")).ok().and_then(|text| parse_fd_limit(&text)),
        io_bytes: std::fs::read_to_string(dir.join("io")).ok().and_then(|text| parse_io(&text)),
    })
}

/// From `stat`: start time and CPU time (user and kernel), both in ticks.
#[must_use]
pub fn parse_stat(text: &str) -> Option<(u64, u64)> {
    // The name stands in parentheses and may hold any character, parentheses and blanks among them.
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // Fields are counted from 1 in proc(5); the first after the name is number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(22)?, field(14)?.checked_add(field(15)?)?))
}

/// From `status`: resident bytes and threads. A process without memory of its own (zombie, kernel thread) has 0.
#[must_use]
pub fn parse_status(text: &str) -> Option<(u64, u64)> {
    let threads = value_of(text, "Threads:")?.parse().ok()?;
    let resident = match value_of(text, "VmRSS:") {
        Some(kib) => kib.parse::<u64>().ok()?.checked_mul(1_024)?,
        None => 0,
    };
    Some((resident, threads))
}

/// From `limits`: the soft limit of open files; `None` when unlimited.
#[must_use]
pub fn parse_fd_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// From `io`: bytes that really went from and to storage.
#[must_use]
pub fn parse_io(text: &str) -> Option<u64> {
    let read: u64 = value_of(text, "read_bytes:")?.parse().ok()?;
    let written: u64 = value_of(text, "write_bytes:")?.parse().ok()?;
    read.checked_add(written)
}

/// The first word after `key` at the beginning of a line.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next()
}
