use std::{fs, io, path::PathBuf, time::Duration};

use super::{Actuator, InjectError, Prepared, Scene, processes::ON_FROM};
use crate::{
    Undo,
    helper::{Helper, Work},
    proc::{Group, ProcessId},
};

const OWN_GROUP: &str =
    "give the cell a control group of its own, as cells made by Forefend and services of systemd have";

/// The kernel's smallest CPU quota, and the period used where there was none.
const MIN_QUOTA_US: u64 = 1_000;
const PERIOD_US: u64 = 20_000;

/// A control group with the cell and nobody else in it, perhaps made for the purpose.
struct Own {
    group: Group,
    /// The one it was in, when this one must be made first.
    made_in: Option<PathBuf>,
    process: ProcessId,
}

impl Own {
    fn undo(&self) -> Vec<Undo> {
        let leave = |home: &PathBuf| Undo::LeaveGroup { group: self.group.dir.clone(), home: home.clone() };
        self.made_in.iter().map(leave).collect()
    }

    /// Makes it, if it must be made, and moves the cell in.
    fn enter(&self) -> io::Result<()> {
        if self.made_in.is_none() {
            return Ok(());
        }
        fs::create_dir(&self.group.dir)?;
        let procs = self.group.dir.join("cgroup.procs");
        // Until nobody was found outside: processes fork while they are moved.
        loop {
            let inside = self.group.members();
            let outside: Vec<ProcessId> =
                self.process.tree().into_iter().filter(|p| !inside.contains(&p.pid)).collect();
            if outside.is_empty() {
                return Ok(());
            }
            for process in outside {
                if let Err(e) = fs::write(&procs, process.pid.to_string())
                    && process.is_alive()
                {
                    return Err(e);
                }
            }
        }
    }
}

/// Whether nobody but the cell, and whoever started it, is in a group.
fn is_exclusive(group: &Group, process: ProcessId) -> bool {
    let mut known: Vec<i32> = process.tree().iter().map(|p| p.pid).collect();
    let own = std::process::id() as i32;
    known.extend(process.ancestors().into_iter().filter(|pid| *pid != own && *pid != 1));
    !group.root && group.members().iter().all(|pid| known.contains(pid))
}

fn own_group(scene: &Scene<'_>, controller: &str) -> Result<Own, InjectError> {
    let groups = scene.process.groups();
    let Some(group) = groups.iter().find(|g| g.has(controller)) else {
        let why = format!("no control group hierarchy has the controller {controller}");
        return Err(scene.unsupported(why, "mount one"));
    };
    if is_exclusive(group, scene.process) {
        return Ok(Own { group: group.clone(), made_in: None, process: scene.process });
    }
    // Memory stays charged where it was taken, and a v2 group with processes can have no limited child.
    if group.v2 || controller == "memory" {
        let why = format!("others are in its control group {}", group.dir.display());
        return Err(scene.others(why, OWN_GROUP));
    }
    let made =
        Group { dir: group.dir.join(format!("forefend-{}", scene.lease)), root: false, ..group.clone() };
    Ok(Own { group: made, made_in: Some(group.dir.clone()), process: scene.process })
}

/// The exclusive v2 group, by which the packet filter can tell a cell's packets.
pub(super) fn exclusive_v2(process: ProcessId) -> Option<Group> {
    process.groups().into_iter().find(|g| g.v2 && is_exclusive(g, process))
}

/// A number in a file of a group that goes from what it was to what it is at full level.
struct Knob {
    own: Own,
    file: &'static str,
    text: Box<dyn Fn(f64) -> String + Send>,
}

impl Actuator for Knob {
    fn begin(&mut self) -> io::Result<()> {
        self.own.enter()
    }

    fn set(&mut self, level: f64) -> io::Result<()> {
        let path = self.own.group.dir.join(self.file);
        match fs::write(&path, (self.text)(level)) {
            // The cell is gone and its group with it: nothing is left to be done.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
            Ok(()) => Ok(()),
        }
    }
}

impl Knob {
    fn prepared(self, was: Option<String>) -> Prepared {
        let mut undo = self.own.undo();
        if let (Some(value), None) = (was, &self.own.made_in) {
            undo.push(Undo::Write { path: self.own.group.dir.join(self.file), value });
        }
        Prepared { undo, actuator: Box::new(self) }
    }
}

fn read(scene: &Scene<'_>, own: &Own, file: &str) -> Result<Option<String>, InjectError> {
    if own.made_in.is_some() { Ok(None) } else { own.group.read(file).map(Some).map_err(|e| scene.failed(e)) }
}

pub(super) fn cpu_quota(scene: &Scene<'_>, cores: f64) -> Result<Prepared, InjectError> {
    let own = own_group(scene, "cpu")?;
    let all = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let (file, was) =
        if own.group.v2 { ("cpu.max", "cpu.max") } else { ("cpu.cfs_quota_us", "cpu.cfs_period_us") };
    let text = read(scene, &own, file)?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| *n > 0.0);
    let (quota, period) = if own.group.v2 {
        let mut words = text.as_deref().unwrap_or_default().split(' ');
        let quota = words.next().and_then(number);
        (quota, words.next().and_then(number))
    } else {
        let period = read(scene, &own, was)?;
        (text.as_deref().and_then(number), period.as_deref().and_then(number))
    };
    let (v2, made) = (own.group.v2, own.made_in.is_some());
    let period = if made { 100_000.0 } else { period.unwrap_or(PERIOD_US as f64) };
    let had = quota.map_or(all, |q| q / period);
    let text_at = move |level: f64| {
        let cores = had + (cores.min(had) - had) * level;
        let us = ((cores * period) as u64).max(MIN_QUOTA_US);
        if v2 { format!("{us} {period}") } else { us.to_string() }
    };
    Ok(Knob { own, file, text: Box::new(text_at) }.prepared(text))
}

pub(super) fn threads(scene: &Scene<'_>, leave: u32) -> Result<Prepared, InjectError> {
    let own = own_group(scene, "pids")?;
    let was = read(scene, &own, "pids.max")?;
    let now: f64 = match &was {
        Some(_) => own.group.read("pids.current").ok().and_then(|n| n.parse().ok()).unwrap_or(1.0),
        None => scene.process.tree().iter().map(|p| p.threads() as f64).sum(),
    };
    let least = now + f64::from(leave);
    let had = was.as_deref().and_then(|n| n.parse().ok()).unwrap_or(least + 1_000.0);
    let text = move |level: f64| ((had + (least.min(had) - had) * level) as u64).to_string();
    Ok(Knob { own, file: "pids.max", text: Box::new(text) }.prepared(was))
}

pub(super) fn memory_limit(scene: &Scene<'_>, bytes: u64) -> Result<Prepared, InjectError> {
    let own = own_group(scene, "memory")?;
    let (limit, usage) = memory_files(&own.group);
    let was = read(scene, &own, limit)?;
    let used = own.group.read(usage).ok().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    // v1 writes no limit as a number beyond any memory.
    let had = was.as_deref().and_then(|n| n.parse::<f64>().ok()).filter(|n| *n < 1e15).unwrap_or(used * 2.0);
    if (bytes as f64) > had {
        let why = format!("its limit is {had} bytes already");
        return Err(scene.unsupported(why, "name fewer `bytes`"));
    }
    let knob = MemoryLimit { own, limit, usage, had, full: bytes as f64 };
    let path = knob.own.group.dir.join(limit);
    let undo = was.map(|value| Undo::Write { path, value }).into_iter().collect();
    Ok(Prepared { undo, actuator: Box::new(knob) })
}

fn memory_files(group: &Group) -> (&'static str, &'static str) {
    if group.v2 {
        ("memory.max", "memory.current")
    } else {
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
    }
}

struct MemoryLimit {
    own: Own,
    limit: &'static str,
    usage: &'static str,
    had: f64,
    full: f64,
}

impl Actuator for MemoryLimit {
    fn set(&mut self, level: f64) -> io::Result<()> {
        let wanted = (self.had + (self.full - self.had) * level) as u64;
        let path = self.own.group.dir.join(self.limit);
        match fs::write(&path, wanted.to_string()) {
            // v1 refuses a limit below what is used and can't be given back; the nearest that it takes makes the next
            // allocation the last one all the same.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                let used = self.own.group.read(self.usage)?;
                match fs::write(&path, used) {
                    Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(()),
                    other => other,
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

pub(super) fn freeze(scene: &Scene<'_>) -> Result<Prepared, InjectError> {
    let (own, file, frozen, thawed) = match exclusive_v2(scene.process) {
        Some(group) => {
            let own = Own { group, made_in: None, process: scene.process };
            (own, "cgroup.freeze", "1", "0")
        }
        None => (own_group(scene, "freezer")?, "freezer.state", "FROZEN", "THAWED"),
    };
    let undo_thaw = Undo::Write { path: own.group.dir.join(file), value: thawed.to_owned() };
    let text = move |level: f64| (if level >= ON_FROM { frozen } else { thawed }).to_owned();
    // A frozen process can't be moved: thawed first, then back home.
    let mut undo = own.undo();
    undo.push(undo_thaw);
    Ok(Prepared { undo, actuator: Box::new(Knob { own, file, text: Box::new(text) }) })
}

/// A helper that is told the level.
pub(super) struct Helped {
    pub(super) helper: Helper,
    pub(super) before: Box<dyn FnMut() -> io::Result<()> + Send>,
}

impl Actuator for Helped {
    fn begin(&mut self) -> io::Result<()> {
        (self.before)()?;
        self.helper.go()
    }

    fn set(&mut self, level: f64) -> io::Result<()> {
        self.helper.level(level).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => io::Error::other(
                "its helper process has ended; with no memory left the kernel may have taken it when nothing of the cell was left",
            ),
            _ => e,
        })
    }
}

pub(super) fn helped(scene: &Scene<'_>, work: &Work, grace: Duration) -> Result<(Undo, Helper), InjectError> {
    let helper = Helper::start(scene.program, work).map_err(|e| scene.failed(e))?;
    let grace_ms = grace.as_millis() as u64;
    Ok((Undo::End { process: helper.id, grace_ms }, helper))
}

fn with_helper(scene: &Scene<'_>, work: &Work) -> Result<Prepared, InjectError> {
    let (end, helper) = helped(scene, work, Duration::ZERO)?;
    Ok(Prepared { undo: vec![end], actuator: Box::new(Helped { helper, before: Box::new(|| Ok(())) }) })
}

/// Where a process must write itself to be in the cell's own groups of these controllers.
fn procs(scene: &Scene<'_>, controllers: &[&str]) -> Result<Vec<PathBuf>, InjectError> {
    let groups = scene.process.groups();
    let wanted = |g: &&Group| controllers.iter().any(|c| g.has(c));
    let found: Vec<&Group> = groups.iter().filter(wanted).collect();
    match found.iter().find(|g| !is_exclusive(g, scene.process)) {
        _ if found.is_empty() => Err(scene.unsupported("no control groups are mounted", OWN_GROUP)),
        Some(shared) => {
            Err(scene.others(format!("others are in its control group {}", shared.dir.display()), OWN_GROUP))
        }
        None => Ok(found.iter().map(|g| g.dir.join("cgroup.procs")).collect()),
    }
}

pub(super) fn burn(scene: &Scene<'_>, workers: u32) -> Result<Prepared, InjectError> {
    let join = procs(scene, &["cpu", "cpuacct"])?;
    with_helper(scene, &Work::Burn { workers, join })
}

struct Noise(Vec<Helper>);

impl Actuator for Noise {
    fn begin(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(Helper::go)
    }

    fn set(&mut self, level: f64) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|helper| helper.level(level))
    }
}

/// Each is a neighbour of its own: the kernel divides time among sessions and groups first, and among processes only then.
pub(super) fn noise(scene: &Scene<'_>, workers: u32) -> Result<Prepared, InjectError> {
    let work = Work::Burn { workers: 1, join: Vec::new() };
    let mut undo = Vec::new();
    let mut helpers = Vec::new();
    for _ in 0..workers {
        let (end, helper) = helped(scene, &work, Duration::ZERO)?;
        undo.push(end);
        helpers.push(helper);
    }
    Ok(Prepared { undo, actuator: Box::new(Noise(helpers)) })
}

pub(super) fn leak(scene: &Scene<'_>, bytes: u64) -> Result<Prepared, InjectError> {
    let join = procs(scene, &["memory"])?;
    let group = scene.process.groups().into_iter().find(|g| g.has("memory"));
    let limit = group.and_then(|g| g.read(memory_files(&g).0).ok()?.parse::<f64>().ok());
    if limit.is_none_or(|limit| limit >= 1e15) {
        return Err(scene.others(
            "its control group has no memory limit, so the machine's memory would run out",
            "set a memory limit on the cell",
        ));
    }
    let (end, helper) = helped(scene, &Work::Leak { bytes, join }, Duration::ZERO)?;
    let scores: Vec<(PathBuf, i32)> = scene
        .process
        .tree()
        .iter()
        .map(|p| PathBuf::from(format!("/proc/{}/oom_score_adj", p.pid)))
        .filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?.trim().parse().ok()?)))
        .collect();
    let mut undo: Vec<Undo> = scene
        .process
        .tree()
        .into_iter()
        .filter_map(|process| {
            let path = PathBuf::from(format!("/proc/{}/oom_score_adj", process.pid));
            let value = scores.iter().find(|(p, _)| *p == path)?.1;
            Some(Undo::OomScore { process, value })
        })
        .collect();
    undo.push(end);
    // The kernel shall take the cell, as it would if the cell itself leaked, and not the helper.
    let before = move || {
        for (path, _) in &scores {
            match fs::write(path, "1000") {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    };
    Ok(Prepared { undo, actuator: Box::new(Helped { helper, before: Box::new(before) }) })
}

struct Throttle {
    own: Own,
    disk: String,
    rate: Box<dyn Fn(f64) -> u64 + Send>,
}

impl Throttle {
    /// The files of a group that hold rates, and what a file is told.
    fn files(v2: bool) -> &'static [&'static str] {
        if v2 { &["io.max"] } else { &["blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"] }
    }
}

impl Actuator for Throttle {
    fn begin(&mut self) -> io::Result<()> {
        self.own.enter()
    }

    fn set(&mut self, level: f64) -> io::Result<()> {
        let rate = if level > 0.0 { Some((self.rate)(level)) } else { None };
        for file in Self::files(self.own.group.v2) {
            let text = match (self.own.group.v2, rate) {
                (true, Some(rate)) => format!("{} rbps={rate} wbps={rate}", self.disk),
                (true, None) => format!("{} rbps=max wbps=max", self.disk),
                // 0 is no limit.
                (false, rate) => format!("{} {}", self.disk, rate.unwrap_or(0)),
            };
            match fs::write(self.own.group.dir.join(file), text) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// Throttles a disk, `major:minor`, to a rate in bytes per second that depends on the level.
pub(super) fn throttle(
    scene: &Scene<'_>,
    disk: &str,
    rate: impl Fn(f64) -> u64 + Send + 'static,
) -> Result<Prepared, InjectError> {
    let groups = scene.process.groups();
    let controller = if groups.iter().any(|g| g.has("blkio")) { "blkio" } else { "io" };
    let own = own_group(scene, controller)?;
    let mut undo = own.undo();
    if own.made_in.is_none() {
        for file in Throttle::files(own.group.v2) {
            let was = own.group.read(file).map_err(|e| scene.failed(e))?;
            let nothing =
                if own.group.v2 { format!("{disk} rbps=max wbps=max") } else { format!("{disk} 0") };
            let value =
                was.lines().find(|l| l.starts_with(&format!("{disk} "))).map_or(nothing, str::to_owned);
            undo.push(Undo::Write { path: own.group.dir.join(file), value });
        }
    }
    Ok(Prepared { undo, actuator: Box::new(Throttle { own, disk: disk.to_owned(), rate: Box::new(rate) }) })
}
