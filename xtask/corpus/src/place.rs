//! Where an episode happens: control groups with limits, a disk of its own, loopback addresses.
//!
//! Everything lies in the recorder's own mount namespace and below one group of each hierarchy, so that what a killed recorder
//! leaves behind is found and removed by the next ([`sweep`]).

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use forefend_telemetry::host::cgroup::CgroupDirs;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command, sync::Semaphore};

use crate::spec::Limits;

/// Where the recorder keeps everything while it runs: a file system in memory, seen by nobody else.
pub(crate) const WORK: &str = "/run/forefend-corpus";
/// Whoever holds a lock on it records.
pub(crate) const LOCK: &str = "/run/forefend-corpus.lock";
/// The parent of our control groups in each hierarchy.
const PARENT: &str = "forefend-corpus";
const CGROUPS: &str = "/sys/fs/cgroup";
/// The controllers that limits need, in v1's names.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];
/// As the cells of the product have it: short, so that a server at its limit is held up for milliseconds.
const CPU_PERIOD_US: u64 = 20_000;
/// The kernel's smallest quota.
const MIN_CPU_QUOTA_US: u64 = 1_000;
/// Servers run as this user (nobody); PostgreSQL refuses to run as root.
pub(crate) const USER: u32 = 65_534;

/// The place of one episode.
#[derive(Debug)]
pub(crate) struct Place {
    slot: u8,
    /// Its data directory, with a file system of its own.
    pub(crate) data: PathBuf,
    image: PathBuf,
    /// What the server prints, and its log.
    pub(crate) log: PathBuf,
    v2: bool,
}

impl Place {
    /// Makes the place of an episode. Slots are for as many episodes as run at once.
    pub(crate) async fn make(slot: u8, limits: &Limits) -> Result<Self> {
        let work = Path::new(WORK);
        let place = Self {
            slot,
            data: work.join(format!("data-{slot}")),
            image: work.join(format!("disk-{slot}")),
            log: work.join(format!("log-{slot}")),
            v2: is_v2(),
        };
        place.clear().await;
        fs::File::create(&place.log)?;
        nix::unistd::chown(&place.log, Some(USER.into()), Some(USER.into()))?;
        place.make_disk(limits.disk_bytes).await?;
        for dir in place.groups() {
            fs::create_dir_all(&dir).with_context(|| format!("can't make the group {}", dir.display()))?;
        }
        place.write("memory", "memory.limit_in_bytes", "memory.max", &limits.memory_bytes.to_string())?;
        place.write("pids", "pids.max", "pids.max", &limits.tasks.to_string())?;
        Ok(place)
    }

    /// An address of the episode's own: 1 is the server, others are what it depends on.
    pub(crate) fn address(&self, host: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, 77, self.slot, host), port).into()
    }

    /// Gives the server this much CPU time per time.
    pub(crate) fn set_cpu(&self, cores: f64) -> Result<()> {
        // Below the kernel's smallest quota the period grows instead.
        let period = (MIN_CPU_QUOTA_US as f64 / cores).max(CPU_PERIOD_US as f64).min(1e6) as u64;
        let quota = ((period as f64 * cores) as u64).max(MIN_CPU_QUOTA_US);
        if self.v2 {
            return self.write("cpu", "", "cpu.max", &format!("{quota} {period}"));
        }
        // A period that is set beside the old quota must make no illegal pair on the way.
        self.write("cpu", "cpu.cfs_quota_us", "", "-1")?;
        self.write("cpu", "cpu.cfs_period_us", "", &period.to_string())?;
        self.write("cpu", "cpu.cfs_quota_us", "", &quota.to_string())
    }

    /// The files that a process joins the server's groups by.
    pub(crate) fn joins(&self) -> Vec<PathBuf> {
        self.groups().into_iter().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// The groups as the telemetry crate reads them.
    pub(crate) fn dirs(&self) -> CgroupDirs {
        let dir = |controller| Some(self.group(controller));
        CgroupDirs {
            memory: dir("memory"),
            cpu: dir("cpu"),
            cpuacct: if self.v2 { None } else { dir("cpuacct") },
            pids: dir("pids"),
        }
    }

    /// All processes of the server, hung jobs among them.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        processes(&self.group("pids"))
    }

    /// Sends a signal to all of them.
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            // It may have ended by itself meanwhile.
            let _ = kill(pid, signal);
        }
    }

    /// Bytes used and bytes there are on the data directory's file system.
    pub(crate) fn disk(&self) -> Option<(u64, u64)> {
        let stat = nix::sys::statvfs::statvfs(&self.data).ok()?;
        let unit = stat.fragment_size();
        let total = stat.blocks() * unit;
        Some((total - stat.blocks_free() * unit, total))
    }

    /// Kills what is left and removes everything.
    pub(crate) async fn clear(&self) {
        for _ in 0..100 {
            if self.processes().is_empty() {
                break;
            }
            self.signal(Signal::SIGKILL);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        for dir in self.groups() {
            let _ = fs::remove_dir(dir);
        }
        if self.data.exists() {
            // Lazily: a process that is on its way out may still hold it.
            let _ = run("umount", &["--lazy".as_ref(), self.data.as_os_str()]).await;
            let _ = fs::remove_dir(&self.data);
        }
        let _ = fs::remove_file(&self.image);
        let _ = fs::remove_file(&self.log);
    }

    async fn make_disk(&self, bytes: u64) -> Result<()> {
        fs::create_dir_all(&self.data)?;
        fs::File::create(&self.image)?.set_len(bytes)?;
        // A real file system and not tmpfs: what tmpfs holds counts as the server's memory.
        let image = self.image.as_os_str();
        let plain = ["-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal"];
        run("mkfs.ext4", &[plain.map(AsRef::as_ref).as_slice(), &[image]].concat()).await?;
        let (flag, how) = ("-o".as_ref(), "loop,noatime".as_ref());
        run("mount", &[flag, how, image, self.data.as_os_str()]).await?;
        let _ = fs::remove_dir(self.data.join("lost+found"));
        nix::unistd::chown(&self.data, Some(USER.into()), Some(USER.into()))?;
        Ok(())
    }

    fn group(&self, controller: &str) -> PathBuf {
        group(self.v2, controller).join(self.slot.to_string())
    }

    fn groups(&self) -> Vec<PathBuf> {
        if self.v2 { vec![self.group("memory")] } else { CONTROLLERS.map(|c| self.group(c)).to_vec() }
    }

    fn write(&self, controller: &str, v1: &str, v2: &str, value: &str) -> Result<()> {
        let path = self.group(controller).join(if self.v2 { v2 } else { v1 });
        fs::write(&path, value).with_context(|| format!("can't write {value} to {}", path.display()))
    }
}

/// Removes what a killed recorder left behind: processes in its groups and the groups.
pub(crate) fn sweep() {
    for controller in CONTROLLERS {
        let parent = group(is_v2(), controller);
        for _ in 0..100 {
            let children: Vec<PathBuf> = subdirectories(&parent);
            let left: Vec<Pid> = children.iter().flat_map(|dir| processes(dir)).collect();
            for pid in left.iter().filter(|pid| pid.as_raw() > 0) {
                let _ = kill(*pid, Signal::SIGKILL);
            }
            for child in children {
                let _ = fs::remove_dir(child);
            }
            if fs::remove_dir(&parent).is_ok() || !parent.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Where the programs of [`run`] are while they run, among the groups of the servers.
const CHORES: &str = "chores";

/// Puts this process into a group beside those of the servers, and all of them before other work on the machine: what is measured
/// shall be the servers' doing. Not far before it: the kernel's own threads, which write what servers put on their disks, are other
/// work too.
pub(crate) fn take_precedence() -> Result<()> {
    let v2 = is_v2();
    let parent = group(v2, "cpu");
    // In parts of what a group has by default: ours, the recorder's beside the servers, what makes and removes places.
    for (dir, parts) in [(parent.clone(), 2.0), (parent.join("0"), 8.0), (parent.join(CHORES), 0.25)] {
        fs::create_dir_all(&dir)?;
        let (file, usual) = if v2 { ("cpu.weight", 100.0) } else { ("cpu.shares", 1024.0) };
        fs::write(dir.join(file), format!("{:.0}", usual * parts))?;
    }
    let own = parent.join("0");
    fs::write(own.join("cgroup.procs"), "0").with_context(|| format!("can't join {}", own.display()))
}

/// Makes the parents of our groups.
pub(crate) fn prepare() -> Result<()> {
    let v2 = is_v2();
    for controller in CONTROLLERS {
        let parent = group(v2, controller);
        fs::create_dir_all(&parent).with_context(|| {
            format!("can't make the control group {}; the recorder must be root", parent.display())
        })?;
    }
    if v2 {
        for dir in [PathBuf::from(CGROUPS), group(true, "")] {
            fs::write(dir.join("cgroup.subtree_control"), "+memory +cpu +pids")
                .with_context(|| format!("{} does not hand out controllers", dir.display()))?;
        }
    }
    Ok(())
}

/// One at a time: several places that are made at once take the processors from the servers that are measured.
static AT_ONCE: Semaphore = Semaphore::const_new(1);

/// Runs a program of the system to its end, after those that were asked for before, and behind everything that is measured.
pub(crate) async fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let _turn = AT_ONCE.acquire().await?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't run {program}"))?;
    if let Some(pid) = child.id() {
        // It may have ended already; and before the groups are made it runs as it is.
        let _ = fs::write(group(is_v2(), "cpu").join(CHORES).join("cgroup.procs"), pid.to_string());
    }
    let output = child.wait_with_output().await.with_context(|| format!("{program} went away"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{program} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())
}

fn is_v2() -> bool {
    !Path::new(CGROUPS).join("memory").is_dir()
}

fn group(v2: bool, controller: &str) -> PathBuf {
    let root = Path::new(CGROUPS);
    if v2 { root.join(PARENT) } else { root.join(controller).join(PARENT) }
}

fn subdirectories(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(of) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|e| e.path()).filter(|path| path.is_dir()).collect()
}

fn processes(group: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw).collect()
}
