//! The few system calls for which no crate of ours has a safe wrapper.
#![expect(
    unsafe_code,
    reason = "mount_setattr(2) and close_range(2) have no safe wrapper in nix or rustix, and registering a descriptor with \
              the runtime demands a promise about its owner"
)]

use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

use tokio::io::{Interest, unix::AsyncFd};

use crate::process::Process;

/// Makes the end of a process something to wait for: its descriptor becomes readable then (pidfd_open(2)). `None` when the
/// runtime refuses it. Must be called on the runtime.
pub(crate) fn watch(process: Process) -> Option<AsyncFd<Process>> {
    // SAFETY: a `Process` owns the descriptor that `as_raw_fd` returns, always returns the same one, and closes it only when
    // it is dropped, which the `AsyncFd` that now owns it does after deregistering.
    unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }.ok()
}

/// Makes a mount, with all mounts below it when `recursive`, read-only (if asked), without set-user-ID and, unless
/// `devices`, without device files. Needs Linux 5.12.
pub(crate) fn harden_mount(path: &Path, read_only: bool, devices: bool, recursive: bool) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID
            | if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 }
            | if devices { 0 } else { libc::MOUNT_ATTR_NODEV },
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is a NUL-terminated string and `attributes` a `mount_attr`; both live until the call returns, and
    // the size passed is that of the struct passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks every file descriptor from 3 on to be closed by exec, so that a cell inherits nothing. Needs Linux 5.11.
pub(crate) fn close_on_exec() -> io::Result<()> {
    // SAFETY: no memory is passed, and no descriptor is closed here, so none that Rust owns becomes invalid.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
