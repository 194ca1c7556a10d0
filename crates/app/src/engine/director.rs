//! Starts the director and starts it again the moment it dies.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    os::{fd::AsFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use forefend_domain::ports::DataPlane as _;
use forefend_traffic::DirectorClient;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::EngineError;

/// How long a director may take to answer after its start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after a director that died at once, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a director is started.
#[derive(Debug, Clone)]
pub(crate) struct DirectorSpec {
    /// Its state directory.
    pub(crate) state_dir: PathBuf,
    /// Its threads.
    pub(crate) workers: u32,
    /// This program, as it was found at the engine's start: an upgrade that replaces the file leaves the path good.
    pub(crate) exe: PathBuf,
    /// The command line that starts the engine again.
    pub(crate) respawn: Vec<OsString>,
}

/// Keeps a director running until dropped with [`Keeper::let_go`].
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Arc<AtomicBool>,
}

impl Keeper {
    /// Finds the running director or starts one, and from then on starts it again whenever it dies.
    ///
    /// # Errors
    /// When none answers in time.
    pub(crate) fn start(spec: DirectorSpec) -> Result<Self, EngineError> {
        std::fs::create_dir_all(&spec.state_dir)
            .map_err(EngineError::io(spec.state_dir.display().to_string()))?;
        if !answers(&spec.state_dir) && !spawn(&spec)? {
            return Err(EngineError::Director(PATIENCE, log_path(&spec.state_dir)));
        }
        // At once and not with the first tick: from here on a killed engine comes back.
        if !spec.respawn.is_empty()
            && let Err(error) = hello(&spec.state_dir)
        {
            tracing::warn!(%error, "the director was not told whom to watch");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let thread_stop = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("director-keeper".into())
            .spawn(move || keep(&spec, &thread_stop))
            .map_err(EngineError::io("the thread that watches the director"))?;
        Ok(Self { stop })
    }

    /// Stops watching: the director is about to end on purpose, or goes on without us.
    pub(crate) fn let_go(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn answers(state_dir: &Path) -> bool {
    DirectorClient::new(state_dir, Duration::from_secs(1), std::collections::BTreeMap::new()).report().is_ok()
}

fn log_path(state_dir: &Path) -> PathBuf {
    state_dir.join("director.log")
}

/// Starts a director, apart from our terminal, and waits until it answers. `false`: it ended, or does not answer in time.
fn spawn(spec: &DirectorSpec) -> Result<bool, EngineError> {
    let log = log_path(&spec.state_dir);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(EngineError::io(log.display().to_string()))?;
    let stderr = file.try_clone().map_err(EngineError::io(log.display().to_string()))?;
    let mut command = Command::new(&spec.exe);
    command
        .arg("director")
        .arg("--state-dir")
        .arg(&spec.state_dir)
        .arg("--workers")
        .arg(spec.workers.to_string())
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(stderr)
        // A new process group keeps the terminal's Ctrl-C away.
        .process_group(0);
    if !spec.respawn.is_empty() {
        command.arg("--respawn-engine").args(&spec.respawn);
    }
    let mut child = command
        .spawn()
        .map_err(EngineError::io(format!("starting the director from {}", spec.exe.display())))?;
    let deadline = Instant::now() + PATIENCE;
    let answered = loop {
        if matches!(child.try_wait(), Ok(Some(_))) {
            break false;
        }
        if answers(&spec.state_dir) {
            break true;
        }
        if Instant::now() >= deadline {
            break false;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // Reaped there, so that a dead director is gone and not a zombie whose pidfd still seems to live.
    std::thread::spawn(move || child.wait());
    Ok(answered)
}

fn keep(spec: &DirectorSpec, stop: &AtomicBool) {
    let mut pause = FIRST_PAUSE;
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        wait_for_end(&spec.state_dir, stop);
        if stop.load(Ordering::SeqCst) {
            return;
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tracing::warn!("the director is gone; starting it again");
        match spawn(spec) {
            Ok(true) => {
                if let Err(error) = hello(&spec.state_dir) {
                    tracing::warn!(%error, "the director was not told whom to watch");
                }
                continue;
            }
            Ok(false) => tracing::error!(
                log = %log_path(&spec.state_dir).display(),
                "the director ended before it answered, or does not answer"
            ),
            Err(error) => tracing::error!(%error, "the director can't be started"),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tells the director whom to watch in return.
pub(crate) fn hello(state_dir: &Path) -> Result<(), forefend_domain::ports::PortError> {
    DirectorClient::new(state_dir, Duration::from_secs(1), std::collections::BTreeMap::new())
        .hello(std::process::id())
}

/// Returns when the process of the pid file has ended, or is not there.
fn wait_for_end(state_dir: &Path, stop: &AtomicBool) {
    let pid = std::fs::read_to_string(state_dir.join("director.pid"))
        .ok()
        .and_then(|t| t.trim().parse::<i32>().ok());
    let Some(fd) = pid.and_then(pidfd) else { return };
    while !stop.load(Ordering::SeqCst) {
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(200u8)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

#[expect(unsafe_code, reason = "the standard library has no stable pidfd_open yet")]
fn pidfd(pid: i32) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: pidfd_open takes two integers and returns a new descriptor that nobody else owns, or −1.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        i32::try_from(fd).ok().filter(|fd| *fd >= 0).map(|fd| std::os::fd::OwnedFd::from_raw_fd(fd))
    }
}
