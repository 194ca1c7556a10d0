//! A process that is not our child, named so that its pid can't be mistaken after reuse.

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::init::Launched;

/// Field 22 of `/proc/PID/stat`: when the process started, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    stat_fields(pid)?.get(19)?.parse().ok()
}

/// Whether the process is stopped by a signal.
pub(crate) fn is_stopped(pid: i32) -> Option<bool> {
    Some(stat_fields(pid)?.first()? == "T")
}

/// The fields after the name, which may itself hold spaces and brackets: `state` is the first of them.
fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// A living process, held by a descriptor that stays that process's whatever happens to its pid.
#[derive(Debug)]
pub(crate) struct Process {
    fd: OwnedFd,
    pub(crate) pid: i32,
}

impl Process {
    /// `None` when it lives no longer.
    pub(crate) fn open(launched: Launched) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(launched.pid)?, PidfdFlags::NONBLOCK).ok()?;
        // Checked after opening: if the pid had been reused before, the start time differs; after, the descriptor stays.
        let alive = start_time(launched.pid) == Some(launched.start_time)
            && stat_fields(launched.pid)?.first()? != "Z";
        alive.then_some(Self { fd, pid: launched.pid })
    }

    /// Sends a signal; a process that has ended meanwhile is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start_time_together() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = start_time(pid).unwrap();
        let launched = Launched { attempt: 1, pid, start_time: started };
        assert!(Process::open(launched).is_some());
        assert!(Process::open(Launched { start_time: started + 1, ..launched }).is_none());
    }
}
