//! A victim in control groups of its own, and what can be measured of it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use forefend_chaos::{ProcessId, Target, new_clock_file};

/// Patience with a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program that is victim, helper, watchdog and injector.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_forefend-chaos-probe");

/// Faults need root. `false`: not root, which is said; with `CI=true` that is a failure.
pub(crate) fn can_inject() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must run as root");
        println!("SKIPPED: faults on real processes need root");
    }
    root
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never came about: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

/// Control groups in every hierarchy, removed when dropped.
pub(crate) struct Groups(Vec<PathBuf>);

impl Groups {
    fn make(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut dirs = Vec::new();
        for line in mounts.lines().filter(|l| l.contains(" - cgroup")) {
            let mount = PathBuf::from(line.split(' ').nth(4).unwrap());
            let dir = mount.join(name);
            if dir.exists() || ["cpuset", "devices", "name="].iter().any(|other| line.contains(other)) {
                continue;
            }
            if line.contains(" - cgroup2 ") {
                let there = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
                for controller in ["cpu", "memory", "pids", "io"].iter().filter(|c| there.contains(**c)) {
                    fs::write(mount.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
                }
            }
            fs::create_dir(&dir).unwrap();
            dirs.push(dir);
        }
        Self(dirs)
    }

    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        self.0.iter().map(|dir| dir.join(name)).find(|path| path.exists())
    }

    fn set(&self, v1: &str, v2: &str, value: &str) {
        let file = self.file(v1).or_else(|| self.file(v2)).unwrap();
        fs::write(file, value).unwrap();
    }

    /// Every knob that faults turn, as it stands.
    pub(crate) fn knobs(&self) -> Vec<(PathBuf, String)> {
        let names = [
            "cpu.cfs_quota_us",
            "cpu.max",
            "memory.limit_in_bytes",
            "memory.max",
            "pids.max",
            "freezer.state",
            "cgroup.freeze",
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "io.max",
        ];
        let found = names.iter().filter_map(|name| self.file(name));
        found.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
    }

    /// Memory that is charged to it, in MiB.
    pub(crate) fn memory_mib(&self) -> f64 {
        let used = self.file("memory.usage_in_bytes").or_else(|| self.file("memory.current"));
        fs::read_to_string(used.unwrap()).unwrap().trim().parse::<f64>().unwrap() / f64::from(1 << 20)
    }

    /// How many processes the kernel killed in it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = self.file("memory.oom_control").or_else(|| self.file("memory.events")).unwrap();
        let text = fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("oom_kill "));
        line.map_or(0, |n| n.trim().parse().unwrap())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for dir in &self.0 {
            let begun = Instant::now();
            while fs::remove_dir(dir).is_err() && dir.exists() && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// How a victim is run.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Whether it depends on another.
    pub(crate) dependency: bool,
    pub(crate) workers: Option<usize>,
    /// Its data on a file system of its own, this large.
    pub(crate) tmpfs_mib: Option<u32>,
    pub(crate) memory_mib: Option<u32>,
    pub(crate) cores: Option<f64>,
    pub(crate) clock: bool,
}

/// A service that can be hurt.
pub(crate) struct Victim {
    child: Child,
    pub(crate) target: Target,
    pub(crate) groups: Groups,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) dependency: Option<Box<Victim>>,
    tmpfs: Option<PathBuf>,
}

impl Victim {
    pub(crate) fn start(wanted: &Wanted) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let dependency = wanted.dependency.then(|| Box::new(Self::start(&Wanted::default())));
        let name = format!("victim-{id}-{n}");
        // Not below /tmp, which may be memory: some faults want a disk.
        let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let tmpfs = wanted.tmpfs_mib.map(|mib| {
            let options = format!("size={mib}m");
            let mounted =
                Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&data).status();
            assert!(mounted.unwrap().success());
            data.clone()
        });
        let groups = Groups::make(&format!("forefend-{name}"));
        if let Some(mib) = wanted.memory_mib {
            groups.set("memory.limit_in_bytes", "memory.max", &format!("{}", u64::from(mib) << 20));
        }
        if let Some(cores) = wanted.cores {
            let quota = (cores * 20_000.0) as u64;
            if let Some(file) = groups.file("cpu.cfs_period_us") {
                fs::write(file, "20000").unwrap();
                groups.set("cpu.cfs_quota_us", "", &quota.to_string());
            } else {
                groups.set("", "cpu.max", &format!("{quota} 20000"));
            }
        }
        let certificate = dir.path().join("certificate.pem");
        let log = dir.path().join("cell.log");
        fs::write(&log, "").unwrap();
        // An address of its own: process and count keep tests apart that run side by side.
        let address: SocketAddr =
            format!("127.{}.{}.{}:8080", 64 + (id >> 8) % 64, id % 256, 1 + n).parse().unwrap();
        let joined: Vec<PathBuf> = groups.0.iter().map(|g| g.join("cgroup.procs")).collect();
        let options = serde_json::json!({
            "listen": address, "data": data, "dependency": dependency.as_ref().map(|d| d.address), "join": joined,
            "workers": wanted.workers.unwrap_or(64), "certificate": certificate,
        });
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(options.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut clock = None;
        if wanted.clock {
            let library = dir.path().join("libforefend_clock.so");
            forefend_chaos::install_library(&library).unwrap();
            let file = dir.path().join("clock");
            new_clock_file(&file).unwrap();
            command.env("LD_PRELOAD", &library).env(forefend_chaos::CLOCK_VARIABLE, &file);
            clock = Some(file);
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "serving\n");
        let target = Target {
            cell: forefend_domain::CellId::new(&name).unwrap(),
            pid: i32::try_from(child.id()).unwrap(),
            address: Some(address),
            data: Some(data),
            log: Some(log),
            clock,
        };
        Self { child, target, groups, dir, address, dependency, tmpfs }
    }

    pub(crate) fn is_alive(&self) -> bool {
        ProcessId::of(self.target.pid).is_some()
    }

    /// One request on a connection of its own: what the body says, or nothing.
    pub(crate) fn get(&self, path: &str, within: Duration) -> Option<String> {
        self.connect(within).and_then(|mut stream| ask(&mut stream, path))
    }

    pub(crate) fn connect(&self, within: Duration) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, within).ok()?;
        stream.set_read_timeout(Some(within)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(stream)
    }
}

/// One request on this connection.
pub(crate) fn ask(stream: &mut TcpStream, path: &str) -> Option<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: victim\r\n\r\n").as_bytes()).ok()?;
    let mut lines = BufReader::new(stream);
    let mut status = String::new();
    lines.read_line(&mut status).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        lines.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(n) = header.strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    status.contains(" 200 ").then(|| String::from_utf8(body).unwrap())
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(tmpfs) = &self.tmpfs {
            let _ = Command::new("umount").arg("-l").arg(tmpfs).status();
        }
    }
}
