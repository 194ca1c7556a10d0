//! System calls for which there is no safe wrapper.
#![expect(
    unsafe_code,
    reason = "pidfd_open, its registration, and setsid between fork and exec have no safe wrapper"
)]

use std::{
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor of a process that becomes readable when the process ends (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// When there is no such process or the kernel can't.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Watches a descriptor for being readable.
///
/// # Errors
/// When the runtime's poller refuses it.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Makes the command run in a session of its own.
pub(crate) fn in_own_session(command: &mut Command) {
    let new_session = || nix::unistd::setsid().map(drop).map_err(io::Error::from);
    // SAFETY: setsid(2) is async-signal-safe and the closure allocates nothing.
    unsafe { command.pre_exec(new_session) };
}
