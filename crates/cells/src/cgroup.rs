//! Control groups, v1, v2 and both at once: each controller is used where it is mounted.
//!
//! On a hybrid host the limits live on v1 and `cgroup.freeze`, `cgroup.kill` on a v2 hierarchy without controllers; a cell then
//! gets a group in each. Groups lie in `forefend/<instance>-<cell>` under the hierarchy's root where that is writable, else
//! under the group that the engine itself is in (delegation).

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{Protection, Protections};

/// A mounted hierarchy and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    v2: bool,
    mount: PathBuf,
    /// The engine's own group in it.
    own: PathBuf,
    controllers: BTreeSet<String>,
}

/// Where groups are made: one directory per hierarchy in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct CgroupHost {
    parents: Vec<Parent>,
    instance: String,
}

#[derive(Debug, Clone)]
struct Parent {
    dir: PathBuf,
    v2: bool,
    controllers: BTreeSet<String>,
}

/// The groups of one cell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    pub(crate) dirs: Vec<Group>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) dir: PathBuf,
    pub(crate) v2: bool,
    pub(crate) controllers: BTreeSet<String>,
}

/// The limits of a cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_share: f64,
    pub(crate) pids_max: u32,
}

/// Controllers that are used, in v1's names.
const WANTED: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "freezer"];

/// The period of the CPU quota. Shorter than the kernel's 100 ms, so that a cell at its limit is held up for
/// milliseconds, not for tenths of a second.
const CPU_PERIOD_US: u64 = 20_000;
/// The kernel's smallest quota.
const MIN_CPU_QUOTA_US: u64 = 1_000;

impl CgroupHost {
    /// Finds the hierarchies and tries each by making and removing a group. What is missing is added to
    /// `protections`. `instance` tells the groups of engines on one machine apart.
    pub(crate) fn probe(instance: &str, protections: &mut Protections) -> Self {
        let mut host = Self { parents: Vec::new(), instance: instance.to_owned() };
        let mut refused: Vec<(Hierarchy, String)> = Vec::new();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        for hierarchy in hierarchies(&mountinfo, &own) {
            match usable_parent(&hierarchy, instance) {
                Ok(Some(parent)) => host.parents.push(parent),
                Ok(None) => {}
                Err(why) => refused.push((hierarchy, why)),
            }
        }
        let why = |controller: &str| {
            refused
                .iter()
                .find(|(h, _)| h.controllers.contains(controller) || (h.v2 && controller == "freezer"))
                .map_or_else(
                    || format!("no usable cgroup hierarchy has the controller {controller}"),
                    |(_, why)| why.clone(),
                )
        };
        for (protection, controller) in [
            (Protection::CgroupMemory, "memory"),
            (Protection::CgroupCpu, "cpu"),
            (Protection::CgroupPids, "pids"),
        ] {
            if host.parent_of(controller).is_none() {
                protections.missing.insert(protection, why(controller));
            }
        }
        if !host.parents.iter().any(|p| p.v2 || p.controllers.contains("freezer")) {
            protections.missing.insert(Protection::Freezer, why("freezer"));
        }
        host
    }

    fn parent_of(&self, controller: &str) -> Option<&Parent> {
        self.parents.iter().find(|p| p.controllers.contains(controller))
    }

    /// Makes the groups of a cell and sets its limits.
    pub(crate) fn create(&self, cell: &str, limits: Limits) -> io::Result<Groups> {
        let groups = self.groups_of(cell);
        for group in &groups.dirs {
            match fs::create_dir(&group.dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(named(&group.dir, &e)),
                _ => group.limit(limits)?,
            }
        }
        Ok(groups)
    }

    /// The groups that a cell of this name has or would have.
    pub(crate) fn groups_of(&self, cell: &str) -> Groups {
        let name = format!("{}-{cell}", self.instance);
        let dirs = self
            .parents
            .iter()
            .map(|p| Group { dir: p.dir.join(&name), v2: p.v2, controllers: p.controllers.clone() })
            .collect();
        Groups { dirs }
    }

    /// The cells of which groups are left.
    pub(crate) fn leftovers(&self) -> BTreeSet<String> {
        let prefix = format!("{}-", self.instance);
        self.parents
            .iter()
            .filter_map(|parent| fs::read_dir(&parent.dir).ok())
            .flat_map(|entries| entries.flatten())
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&prefix).map(str::to_owned))
            .collect()
    }
}

impl Group {
    fn has(&self, controller: &str) -> bool {
        self.controllers.contains(controller)
    }

    fn limit(&self, limits: Limits) -> io::Result<()> {
        let quota_us = ((limits.cpu_share * CPU_PERIOD_US as f64) as u64).max(MIN_CPU_QUOTA_US);
        if self.v2 {
            if self.has("memory") {
                self.write("memory.max", &limits.memory_bytes.to_string())?;
                self.write_if_there("memory.swap.max", "0")?;
                self.write_if_there("memory.oom.group", "1")?;
            }
            if self.has("cpu") {
                self.write("cpu.max", &format!("{quota_us} {CPU_PERIOD_US}"))?;
            }
            if self.has("pids") {
                self.write("pids.max", &limits.pids_max.to_string())?;
            }
            return Ok(());
        }
        if self.has("memory") {
            let bytes = limits.memory_bytes.to_string();
            // The limit with swap must never be below the one without: which is set first depends on which way it goes.
            if self.write("memory.limit_in_bytes", &bytes).is_err() {
                self.write_if_there("memory.memsw.limit_in_bytes", &bytes)?;
                self.write("memory.limit_in_bytes", &bytes)?;
            }
            self.write_if_there("memory.memsw.limit_in_bytes", &bytes)?;
        }
        if self.has("cpu") {
            self.write("cpu.cfs_quota_us", "-1")?;
            self.write("cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
            self.write("cpu.cfs_quota_us", &quota_us.to_string())?;
        }
        if self.has("pids") {
            self.write("pids.max", &limits.pids_max.to_string())?;
        }
        Ok(())
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value).map_err(|e| named(&path, &e))
    }

    fn write_if_there(&self, file: &str, value: &str) -> io::Result<()> {
        if self.dir.join(file).exists() { self.write(file, value) } else { Ok(()) }
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.dir.join(file)).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.trim().parse().ok()
    }

    fn field(&self, file: &str, field: &str) -> Option<u64> {
        let text = self.read(file)?;
        text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

impl Groups {
    fn with(&self, controller: &str) -> Option<&Group> {
        self.dirs.iter().find(|g| g.has(controller))
    }

    fn v2(&self) -> Option<&Group> {
        self.dirs.iter().find(|g| g.v2)
    }

    /// The files that a process writes `0` to in order to join.
    pub(crate) fn procs(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|g| g.dir.join("cgroup.procs")).collect()
    }

    /// Whether there is anything to freeze by.
    pub(crate) fn can_freeze(&self) -> bool {
        self.v2().is_some() || self.with("freezer").is_some()
    }

    /// Asks the kernel to freeze or thaw; [`Groups::frozen`] tells when it is so.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        if let Some(group) = self.v2() {
            group.write("cgroup.freeze", if frozen { "1" } else { "0" })
        } else if let Some(group) = self.with("freezer") {
            group.write("freezer.state", if frozen { "FROZEN" } else { "THAWED" })
        } else {
            Err(io::Error::other("there is no freezer"))
        }
    }

    /// Whether every process is frozen; `None` when that can't be read.
    pub(crate) fn frozen(&self) -> Option<bool> {
        if let Some(group) = self.v2() {
            group.field("cgroup.events", "frozen").map(|n| n == 1)
        } else {
            self.with("freezer")?.read("freezer.state").map(|state| state.trim() == "FROZEN")
        }
    }

    /// How many processes the kernel killed for want of memory.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let group = self.with("memory")?;
        group.field(if group.v2 { "memory.events" } else { "memory.oom_control" }, "oom_kill")
    }

    /// Memory that can't be given back at once: usage without inactive page cache.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        let group = self.with("memory")?;
        let (usage, cache) = if group.v2 {
            (group.number("memory.current")?, group.field("memory.stat", "inactive_file"))
        } else {
            (group.number("memory.usage_in_bytes")?, group.field("memory.stat", "total_inactive_file"))
        };
        Some(usage.saturating_sub(cache.unwrap_or(0)))
    }

    pub(crate) fn memory_limit(&self) -> Option<u64> {
        let group = self.with("memory")?;
        group.number(if group.v2 { "memory.max" } else { "memory.limit_in_bytes" })
    }

    /// CPU time consumed, in nanoseconds.
    pub(crate) fn cpu_usage_ns(&self) -> Option<u64> {
        let v2 = self.v2().and_then(|g| g.field("cpu.stat", "usage_usec")).map(|us| us * 1000);
        v2.or_else(|| self.with("cpuacct")?.number("cpuacct.usage"))
    }

    /// The quota as a share of one core; `None` without a limit.
    pub(crate) fn cpu_quota(&self) -> Option<f64> {
        let group = self.with("cpu")?;
        let (quota, period) = if group.v2 {
            let text = group.read("cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?)
        } else {
            let quota = group.read("cpu.cfs_quota_us")?.trim().parse::<f64>().ok()?;
            (quota, group.number("cpu.cfs_period_us")? as f64)
        };
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    }

    pub(crate) fn pids(&self) -> Option<u64> {
        self.with("pids")?.number("pids.current")
    }

    /// Kills every process in the groups, frozen or not, and removes the groups. Waits up to `patience`.
    pub(crate) fn destroy(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let mut left = None;
            for group in self.dirs.iter().filter(|g| g.dir.exists()) {
                if group.v2 {
                    // Before Linux 5.14 there is no cgroup.kill; the signals below do then.
                    let _ = group.write_if_there("cgroup.kill", "1");
                    let _ = group.write_if_there("cgroup.freeze", "0");
                } else if group.has("freezer") {
                    let _ = group.write("freezer.state", "THAWED");
                }
                for pid in group.read("cgroup.procs").unwrap_or_default().lines() {
                    if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    }
                }
                match fs::remove_dir(&group.dir) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => left = Some(named(&group.dir, &e)),
                    _ => {}
                }
            }
            match left {
                None => return Ok(()),
                Some(e) if Instant::now() >= deadline => return Err(e),
                // Processes die in their own time; the kernel offers no wait for an empty v1 group.
                Some(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

/// The mounted hierarchies that hold something wanted, from `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5),
/// cgroups(7)).
fn hierarchies(mountinfo: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount) = left.split(' ').nth(4) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or_default(), right.next_back().unwrap_or_default());
        let mount = PathBuf::from(mount.replace("\\040", " "));
        let (v2, controllers) = match kind {
            "cgroup2" => {
                let available = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
                (true, available.split_whitespace().map(str::to_owned).collect())
            }
            "cgroup" => (false, options.split(',').map(str::to_owned).collect()),
            _ => continue,
        };
        let controllers: BTreeSet<String> = controllers;
        let wanted: BTreeSet<String> =
            controllers.iter().filter(|c| WANTED.contains(&c.as_str())).cloned().collect();
        if (v2 || !wanted.is_empty()) && !found.iter().any(|h| h.mount == mount) {
            let path = own_group(own, v2, &controllers);
            found.push(Hierarchy { v2, own: mount.join(path), mount, controllers: wanted });
        }
    }
    found
}

/// The path of the engine's own group, relative to the mount.
fn own_group(own: &str, v2: bool, controllers: &BTreeSet<String>) -> String {
    own.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            Some((parts.next()?, parts.next()?, parts.next()?))
        })
        .find(|(id, names, _)| {
            if v2 {
                *id == "0" && names.is_empty()
            } else {
                names.split(',').any(|n| controllers.contains(n))
            }
        })
        .map(|(_, _, path)| path.trim_start_matches('/').to_owned())
        .unwrap_or_default()
}

/// The directory to make groups in, with the controllers that really work there; `None` when none does.
fn usable_parent(hierarchy: &Hierarchy, instance: &str) -> Result<Option<Parent>, String> {
    let mut refused = String::new();
    for base in [&hierarchy.mount, &hierarchy.own] {
        match try_parent(hierarchy, base, instance) {
            Ok(parent) if parent.v2 || !parent.controllers.is_empty() => return Ok(Some(parent)),
            Ok(_) => {}
            Err(e) => refused = e.to_string(),
        }
    }
    if refused.is_empty() { Ok(None) } else { Err(refused) }
}

fn try_parent(hierarchy: &Hierarchy, base: &Path, instance: &str) -> io::Result<Parent> {
    let dir = base.join("forefend");
    match fs::create_dir(&dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(named(&dir, &e)),
        _ => {}
    }
    let mut controllers = hierarchy.controllers.clone();
    if hierarchy.v2 {
        // v2 hands a controller down only where every level says so; a level that holds processes refuses.
        controllers.retain(|controller| {
            [base, &dir].iter().all(|level| {
                fs::write(level.join("cgroup.subtree_control"), format!("+{controller}")).is_ok()
            })
        });
    }
    // Named after the instance, so that one left by an engine that was killed here is removed by the next.
    let trial = dir.join(format!("trial-{instance}"));
    match fs::create_dir(&trial) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(named(&trial, &e)),
        _ => {}
    }
    let file = if hierarchy.v2 { "cgroup.freeze" } else { "cgroup.procs" };
    let works =
        fs::File::options().write(true).open(trial.join(file)).map_err(|e| named(&trial.join(file), &e));
    fs::remove_dir(&trial).map_err(|e| named(&trial, &e))?;
    works?;
    Ok(Parent { dir, v2: hierarchy.v2, controllers })
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_is_read_controller_by_controller() {
        let mountinfo = "31 23 0:28 / /nowhere/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /nowhere/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /nowhere/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            40 31 0:37 / /nowhere/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /nowhere/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/engine\n1:cpu,cpuacct:/\n0::/engine.slice\n";
        let found = hierarchies(mountinfo, own);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].controllers, BTreeSet::from(["cpu".to_owned(), "cpuacct".to_owned()]));
        assert_eq!(found[1].own, Path::new("/nowhere/cgroup/memory/engine"));
        assert!(found[2].v2);
        assert_eq!(found[2].own, Path::new("/nowhere/cgroup/unified/engine.slice"));
    }
}
