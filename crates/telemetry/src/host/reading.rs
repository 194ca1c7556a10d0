use std::path::PathBuf;

use forefend_domain::Timestamp;

use super::{
    HostError,
    cgroup::{self, CgroupDirs, CpuReading},
    process::{self, ProcessReading, TICKS_PER_SECOND},
};
use crate::{catalogue as names, series::MetricSpec};

/// A value and what it is. `None`: it was not to be had.
pub type Observed = (MetricSpec, Option<f64>);

/// Limits that the kernel does not tell, or that differ from what it tells.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// The memory that the cell may use, in bytes; overrides the cgroup's.
    pub memory_bytes: Option<u64>,
    /// CPUs that the host has: what a cell without quota may use.
    pub host_cpus: f64,
}

/// Reads one cell, again and again; between readings it keeps the totals that shares are made from.
#[derive(Debug)]
pub struct Reader {
    proc_root: PathBuf,
    pid: Option<u32>,
    dirs: CgroupDirs,
    limits: Limits,
    started_ticks: Option<u64>,
    before: Option<Totals>,
}

#[derive(Debug, Clone, Copy)]
struct Totals {
    at: Timestamp,
    cpu_seconds: Option<f64>,
    throttled_ns: Option<u64>,
}

impl Reader {
    /// A reader of the process `pid` below `proc_root` (usually `/proc`) and of its cgroup.
    #[must_use]
    pub fn new(proc_root: PathBuf, pid: Option<u32>, dirs: CgroupDirs, limits: Limits) -> Self {
        Self { proc_root, pid, dirs, limits, started_ticks: None, before: None }
    }

    /// Reads everything once. What the cgroup tells goes before what the process tells, since a cell may be more
    /// than one process. Blocks for as long as the kernel takes.
    ///
    /// The second value holds what could not be read; the rest is good nevertheless.
    pub fn read(&mut self, at: Timestamp) -> (Vec<Observed>, Vec<HostError>) {
        let mut observed = Vec::new();
        let mut errors = Vec::new();
        let process = self.pid.and_then(|pid| keep(self.process(pid), &mut errors));
        let dirs = &self.dirs;
        let memory = dirs.memory.as_deref().and_then(|dir| keep(cgroup::read_memory(dir), &mut errors));
        let cpu = dirs
            .cpu
            .as_deref()
            .and_then(|dir| keep(cgroup::read_cpu(dir, dirs.cpuacct.as_deref()), &mut errors));
        let pids = dirs.pids.as_deref().and_then(|dir| keep(cgroup::read_pids(dir), &mut errors));

        let cgroup_limit = memory.and_then(|memory| memory.limit_bytes);
        let memory_limit = self.limits.memory_bytes.or(cgroup_limit).map(|bytes| bytes as f64);
        let used = memory.map(|memory| memory.working_set_bytes);
        let used = used.or(process.map(|process| process.resident_bytes)).map(|bytes| bytes as f64);
        observed.push((names::MEMORY_WORKING_SET.spec(memory_limit), used));
        if let Some(pressure) = memory.and_then(|memory| memory.pressure_ratio) {
            observed.push((names::MEMORY_PRESSURE.spec(None), Some(pressure)));
        }
        self.shares(at, process, cpu, &mut observed);
        if let Some(process) = process {
            let fd_limit = process.fd_limit.map(|limit| limit as f64);
            observed.push((names::OPEN_FDS.spec(fd_limit), process.open_fds.map(|fds| fds as f64)));
            observed.push((names::IO_BYTES.spec(None), process.io_bytes.map(|bytes| bytes as f64)));
        }
        if let Some(pids) = pids {
            let limit = pids.limit.map(|limit| limit as f64);
            observed.push((names::THREADS.spec(limit), Some(pids.current as f64)));
        } else if let Some(process) = process {
            observed.push((names::THREADS.spec(None), Some(process.threads as f64)));
        }
        (observed, errors)
    }

    fn process(&mut self, pid: u32) -> Result<ProcessReading, HostError> {
        let reading = process::read(&self.proc_root, pid)?;
        if *self.started_ticks.get_or_insert(reading.started_ticks) == reading.started_ticks {
            Ok(reading)
        } else {
            Err(HostError::AnotherProcess { pid })
        }
    }

    /// Shares of time since the reading before.
    fn shares(
        &mut self,
        at: Timestamp,
        process: Option<ProcessReading>,
        cpu: Option<CpuReading>,
        observed: &mut Vec<Observed>,
    ) {
        let of_cgroup = cpu.and_then(|cpu| cpu.used_ns).map(|ns| ns as f64 / 1e9);
        let of_process = process.map(|process| process.cpu_ticks as f64 / TICKS_PER_SECOND);
        let throttled_ns = cpu.and_then(|cpu| cpu.throttled_ns);
        let totals = Totals { at, cpu_seconds: of_cgroup.or(of_process), throttled_ns };
        let Some(before) = self.before.replace(totals) else { return };
        let seconds = at.since(before.at).as_secs_f64();
        // A total that shrank began anew: a gap, never a negative share.
        let share = |now: f64, then: f64, of: f64| {
            let share = (now - then) / (seconds * of);
            (share.is_finite() && share >= 0.0).then_some(share)
        };
        let allowed = cpu.and_then(|cpu| cpu.quota_cpus).unwrap_or(self.limits.host_cpus);
        let used = match (totals.cpu_seconds, before.cpu_seconds) {
            (Some(now), Some(then)) => share(now, then, allowed),
            _ => None,
        };
        observed.push((names::CPU_UTILISATION.spec(Some(1.0)), used));
        if let (Some(now), Some(then)) = (throttled_ns, before.throttled_ns) {
            let throttled = share(now as f64 / 1e9, then as f64 / 1e9, 1.0);
            observed.push((names::CPU_THROTTLED.spec(None), throttled));
        }
    }
}

fn keep<T>(outcome: Result<T, HostError>, errors: &mut Vec<HostError>) -> Option<T> {
    outcome.map_err(|error| errors.push(error)).ok()
}
