//! What must be done as another user or in another mount namespace, in a process of its own that does just that.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    unistd::{Gid, Uid, chdir, setresgid, setresuid},
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde::{Deserialize, Serialize};

use crate::{network, proc::ProcessId};

/// One such thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "once", rename_all = "kebab-case")]
pub(crate) enum Once {
    /// Set the limit on open files of a process.
    FileLimit { process: ProcessId, soft: u64, hard: u64 },
    /// Lay a read-only view of a directory over itself, as a process sees it.
    ReadOnly { process: ProcessId, path: PathBuf },
    /// Remove mounts at a path, as a process sees it, until there are as many as before.
    Unmount { process: ProcessId, path: PathBuf, depth: usize },
    /// Load a text into the packet filter with the v2 hierarchy of control groups where `nft` looks for it.
    Filter { text: String, hierarchy: PathBuf },
}

/// Has it done by a process of its own, and waits for it.
pub(crate) fn run(program: &Path, once: &Once) -> io::Result<()> {
    let output = Command::new(program)
        .arg(super::HELPER_ARGUMENT)
        .arg(super::ONCE)
        .arg(serde_json::to_string(once)?)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()))
}

impl Once {
    /// Does it. Only in a process that does nothing else: it changes user or namespace for good.
    pub(super) fn act(self) -> io::Result<()> {
        match self {
            Self::FileLimit { process, soft, hard } => set_file_limit(process, soft, hard),
            Self::ReadOnly { process, path } => {
                enter(process)?;
                let none = None::<&str>;
                mount(Some(&path), &path, none, MsFlags::MS_BIND, none)?;
                let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(none, &path, none, flags, none)?;
                Ok(())
            }
            Self::Unmount { process, path, depth } => {
                // Counted before entering: over there /proc shows another pid namespace, or nothing.
                let ours = mount_depth(process, &path)?.saturating_sub(depth);
                enter(process)?;
                for _ in 0..ours {
                    umount2(&path, MntFlags::MNT_DETACH)?;
                }
                Ok(())
            }
            Self::Filter { text, hierarchy } => {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let none = None::<&str>;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
                mount(Some(&hierarchy), "/sys/fs/cgroup", none, MsFlags::MS_BIND, none)?;
                network::load(&text)
            }
        }
    }
}

/// How many mounts a process sees at a path.
pub(crate) fn mount_depth(process: ProcessId, path: &Path) -> io::Result<usize> {
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", process.pid))?;
    Ok(mounts
        .lines()
        .filter(|l| l.split(' ').nth(4).is_some_and(|p| Path::new(&p.replace("\\040", " ")) == path))
        .count())
}

fn enter(process: ProcessId) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{}/ns/mnt", process.pid))?;
    if !process.is_alive() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the process is gone"));
    }
    let own = fs::read_link("/proc/self/ns/mnt")?;
    if fs::read_link(format!("/proc/{}/ns/mnt", process.pid))? != own {
        setns(namespace, CloneFlags::CLONE_NEWNS)?;
    }
    chdir("/")?;
    Ok(())
}

fn set_file_limit(process: ProcessId, soft: u64, hard: u64) -> io::Result<()> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the process is gone");
    let (uid, gid) = process.user().ok_or_else(gone)?;
    // Another's limits may be set with CAP_SYS_RESOURCE, which containers mostly lack, or by the same user (getrlimit(2)).
    setresgid(Gid::from_raw(gid), Gid::from_raw(gid), Gid::from_raw(gid))?;
    setresuid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid))?;
    if !process.is_alive() {
        return Err(gone());
    }
    let number = |n: u64| (n != u64::MAX).then_some(n);
    let limit = Rlimit { current: number(soft), maximum: number(hard) };
    prlimit(Pid::from_raw(process.pid), Resource::Nofile, limit)?;
    Ok(())
}
