//! Processes of this machine and their control groups, as the kernel tells them (proc(5), cgroups(7)).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, named so that its number can't be mistaken after reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The living process of this number.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        (!stat.is_dead()).then_some(Self { pid, start_time: stat.start_time })
    }

    /// This process.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it lives.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether a signal has stopped it; `None`: it is gone.
    #[must_use]
    pub fn is_stopped(self) -> Option<bool> {
        let stat = Stat::read(self.pid)?;
        (stat.start_time == self.start_time).then_some(stat.state == 'T')
    }

    /// Sends a signal; whether it was there to get it.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(false) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        // Checked after opening: the descriptor stays this process's, whatever happens to the number.
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&fd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// It and its descendants, itself first.
    #[must_use]
    pub fn tree(self) -> Vec<Self> {
        let mut children: BTreeMap<i32, Vec<Self>> = BTreeMap::new();
        for pid in numbered(Path::new("/proc")) {
            if let Some(stat) = Stat::read(pid).filter(|s| !s.is_dead()) {
                children.entry(stat.parent).or_default().push(Self { pid, start_time: stat.start_time });
            }
        }
        let mut found = if self.is_alive() { vec![self] } else { Vec::new() };
        let mut next = 0;
        while let Some(process) = found.get(next).copied() {
            found.extend(children.remove(&process.pid).unwrap_or_default());
            next += 1;
        }
        found
    }

    /// Its ancestors, nearest first.
    pub(crate) fn ancestors(self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut pid = self.pid;
        while let Some(parent) = Stat::read(pid).map(|s| s.parent).filter(|p| *p > 0 && !found.contains(p)) {
            found.push(parent);
            pid = parent;
        }
        found
    }

    /// File descriptors that it has open.
    pub(crate) fn open_files(self) -> usize {
        numbered(&PathBuf::from(format!("/proc/{}/fd", self.pid))).count()
    }

    /// Its threads.
    pub(crate) fn threads(self) -> usize {
        numbered(&PathBuf::from(format!("/proc/{}/task", self.pid))).count()
    }

    /// The limit on open files, soft and hard; `u64::MAX` is none.
    pub(crate) fn file_limit(self) -> Option<(u64, u64)> {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid)).ok()?;
        let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
        let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
        let mut words = line.split_whitespace();
        Some((number(words.next()?)?, number(words.next()?)?))
    }

    /// Its real user and group.
    pub(crate) fn user(self) -> Option<(u32, u32)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let first = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        Some((first("Uid:")?, first("Gid:")?))
    }

    /// A path as this process sees it, seen from here.
    pub(crate) fn sees(self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(inside)
    }

    /// Its control groups, one for each mounted hierarchy.
    pub(crate) fn groups(self) -> Vec<Group> {
        let own = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        groups(&mounts, &own)
    }
}

/// A few fields of `/proc/PID/stat`.
struct Stat {
    state: char,
    parent: i32,
    start_time: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may itself hold spaces and brackets.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Self { state, parent, start_time: fields.nth(17)?.parse().ok()? })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Every living process.
pub(crate) fn all() -> impl Iterator<Item = ProcessId> {
    numbered(Path::new("/proc")).filter_map(ProcessId::of)
}

fn numbered(dir: &Path) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(dir).ok().into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A control group of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) dir: PathBuf,
    pub(crate) v2: bool,
    /// Whether it is the hierarchy's root, which has no limits.
    pub(crate) root: bool,
    pub(crate) controllers: BTreeSet<String>,
    /// Where the hierarchy is mounted.
    pub(crate) mount: PathBuf,
    /// Relative to it.
    pub(crate) path: String,
}

impl Group {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.contains(controller)
    }

    /// Everything in it and below it.
    pub(crate) fn members(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            found.extend(procs.lines().filter_map(|l| l.parse::<i32>().ok()));
            let below = fs::read_dir(&dir).ok().into_iter().flatten().flatten();
            dirs.extend(below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
        found
    }

    pub(crate) fn read(&self, file: &str) -> io::Result<String> {
        let path = self.dir.join(file);
        fs::read_to_string(&path)
            .map(|text| text.trim_end().to_owned())
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
    }
}

/// Reads mountinfo and `/proc/PID/cgroup` together (proc_pid_mountinfo(5), cgroups(7)).
fn groups(mounts: &str, own: &str) -> Vec<Group> {
    let mut found: Vec<Group> = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount) = left.split(' ').nth(4) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or_default(), right.next_back().unwrap_or_default());
        let mount = PathBuf::from(mount.replace("\\040", " "));
        let v2 = kind == "cgroup2";
        if !v2 && kind != "cgroup" {
            continue;
        }
        let own_path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (id, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            let this = if v2 {
                id == "0" && names.is_empty()
            } else {
                !names.is_empty() && names.split(',').any(|n| options.split(',').any(|o| o == n))
            };
            this.then_some(path)
        });
        let Some(path) = own_path else { continue };
        let path = path.trim_start_matches('/').to_owned();
        let dir = mount.join(&path);
        let controllers = if v2 {
            let there = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            there.split_whitespace().map(str::to_owned).collect()
        } else {
            options.split(',').map(str::to_owned).collect()
        };
        if !found.iter().any(|g| g.dir == dir) {
            found.push(Group { root: path.is_empty(), dir, v2, controllers, mount, path });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_in_our_own_tree_and_know_ourselves() {
        let own = ProcessId::own().expect("we live");
        assert!(own.is_alive());
        assert_eq!(own.tree().first(), Some(&own));
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_alive());
        assert!(own.open_files() >= 3);
        assert!(own.file_limit().is_some_and(|(soft, hard)| soft <= hard));
        assert!(own.user().is_some());
    }

    #[test]
    fn a_hybrid_host_is_read_hierarchy_by_hierarchy() {
        let mounts = "32 31 0:29 / /nowhere/cpu rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /nowhere/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /nowhere/unified rw - cgroup2 cgroup2 rw\n\
            27 1 254:0 / / rw - ext4 /dev/vda rw\n";
        let found = groups(mounts, "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/a.slice\n");
        let dirs: Vec<&str> = found.iter().filter_map(|g| g.dir.to_str()).collect();
        assert_eq!(dirs, ["/nowhere/cpu/", "/nowhere/memory/a/b", "/nowhere/unified/a.slice"]);
        assert!(found[0].root && !found[1].root && found[2].v2);
        assert!(found[0].has("cpuacct") && found[1].has("memory"));
    }
}
