use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{
    helper::once::{self, Once},
    network,
    proc::ProcessId,
};

/// How one thing that a fault does is undone, as data: it is on disk before the thing is done, so that anybody can do it who
/// finds it there.
///
/// Each may be carried out when the thing was never done, when it was undone already, and more than once. What it would act
/// on being gone is success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// Write a file of the kernel as it was.
    Write {
        /// Which.
        path: PathBuf,
        /// What it held.
        value: String,
    },
    /// Let processes and their descendants go on.
    Resume {
        /// Those that there were; a parent may have died since and left its children stopped.
        processes: Vec<ProcessId>,
    },
    /// End a helper process. It is asked first and has `grace_ms` to let go of what passes through it.
    End {
        /// Which.
        process: ProcessId,
        /// Milliseconds until it is killed.
        grace_ms: u64,
    },
    /// Put back the limits on open files. Descendants that were started since have what the first of them had.
    FileLimits {
        /// What each had, its root first.
        had: Vec<FileLimit>,
    },
    /// Put back how readily the kernel kills a process when memory runs out.
    OomScore {
        /// Which.
        process: ProcessId,
        /// Its `oom_score_adj`.
        value: i32,
    },
    /// Remove a file of ours.
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// Put back a file that was set aside.
    Restore {
        /// Where it belongs.
        path: PathBuf,
        /// Where it was set aside.
        saved: PathBuf,
    },
    /// Tell a process to read its files anew.
    HangUp {
        /// Which.
        process: ProcessId,
    },
    /// Send no more connections to a hop; those that go through it go on.
    EmptyTable {
        /// The name of the table.
        table: String,
        /// Whose connections went there.
        to: SocketAddr,
    },
    /// Remove a table of ours from the packet filter.
    DropTable {
        /// Its name.
        table: String,
    },
    /// Remove a mount of ours.
    Unmount {
        /// A process that sees it.
        process: ProcessId,
        /// Where, as that process sees it.
        path: PathBuf,
        /// How many mounts there were before.
        depth: usize,
    },
    /// Move processes back to the control group they came from, and remove the one made for them.
    LeaveGroup {
        /// The one made for them.
        group: PathBuf,
        /// Where they came from.
        home: PathBuf,
    },
    /// Set a clock file back to no offset.
    Clock {
        /// Which.
        path: PathBuf,
    },
}

impl Undo {
    /// Whether it acts on something that ends with the machine's uptime.
    pub(crate) fn ends_with_boot(&self) -> bool {
        !matches!(self, Self::Remove { .. } | Self::Restore { .. } | Self::Clock { .. })
    }

    /// Carries it out.
    ///
    /// # Errors
    /// When what it would act on is there and can't be put back.
    pub(crate) fn carry_out(&self, program: &Path) -> io::Result<()> {
        match self {
            Self::Write { path, value } => gone_is_fine(fs::write(path, value), path),
            Self::Resume { processes } => {
                for process in processes.iter().flat_map(|process| process.tree()) {
                    process.signal(Signal::CONT)?;
                }
                Ok(())
            }
            Self::End { process, grace_ms } => end(*process, Duration::from_millis(*grace_ms)),
            Self::FileLimits { had } => put_limits_back(had, program),
            Self::OomScore { process, value } => {
                if !process.is_alive() {
                    return Ok(());
                }
                let path = PathBuf::from(format!("/proc/{}/oom_score_adj", process.pid));
                gone_is_fine(fs::write(&path, value.to_string()), &path)
            }
            Self::Remove { path } => gone_is_fine(fs::remove_file(path), path),
            Self::Restore { path, saved } => gone_is_fine(fs::rename(saved, path), path),
            Self::HangUp { process } => process.signal(Signal::HUP).map(|_| ()),
            Self::EmptyTable { table, to } => network::empty_table(table, *to),
            Self::DropTable { table } => network::drop_table(table),
            Self::Unmount { process, path, depth } => {
                let undo = Once::Unmount { process: *process, path: path.clone(), depth: *depth };
                match once::run(program, &undo) {
                    Err(e) if process.is_alive() => Err(e),
                    _ => Ok(()),
                }
            }
            Self::LeaveGroup { group, home } => leave_group(group, home),
            Self::Clock { path } => match crate::clock::set_offset_ms(path, 0) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        }
    }
}

/// What a process had as its limit on open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLimit {
    /// Which process.
    pub process: ProcessId,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

fn put_limits_back(had: &[FileLimit], program: &Path) -> io::Result<()> {
    let Some(first) = had.first() else { return Ok(()) };
    let known = |process: ProcessId| had.iter().find(|limit| limit.process == process);
    let since = first.process.tree().into_iter().filter(|process| known(*process).is_none());
    let since = since.map(|process| FileLimit { process, ..*first });
    for FileLimit { process, soft, hard } in had.iter().copied().chain(since) {
        if process.file_limit().is_none_or(|limit| limit == (soft, hard)) {
            continue;
        }
        if let Err(e) = once::run(program, &Once::FileLimit { process, soft, hard })
            && process.is_alive()
        {
            return Err(e);
        }
    }
    Ok(())
}

fn gone_is_fine(result: io::Result<()>, path: &Path) -> io::Result<()> {
    match result {
        // ENODEV: the control group or process that the file spoke for has gone while it was open.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => Ok(()),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
        Ok(()) => Ok(()),
    }
}

fn end(process: ProcessId, grace: Duration) -> io::Result<()> {
    if !process.signal(Signal::TERM)? {
        return Ok(());
    }
    let until = Instant::now() + grace;
    while process.is_alive() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    if !process.signal(Signal::KILL)? {
        return Ok(());
    }
    // A killed process may still be on its way out; who asks whether anything is left shall not see it.
    let until = Instant::now() + Duration::from_secs(2);
    while process.is_alive() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn leave_group(group: &Path, home: &Path) -> io::Result<()> {
    let procs = group.join("cgroup.procs");
    // Processes may fork while they are moved.
    for _ in 0..100 {
        let members = fs::read_to_string(&procs).unwrap_or_default();
        for pid in members.lines() {
            gone_is_fine(fs::write(home.join("cgroup.procs"), pid), home)?;
        }
        match fs::remove_dir(group) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return gone_is_fine(other, group),
        }
    }
    Err(io::Error::other(format!("{} does not become empty", group.display())))
}
