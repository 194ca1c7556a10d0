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
        if !answers(&spec.state_dir) {
            spawn(&spec)?;
            let deadline = Instant::now() + PATIENCE;
            while !answers(&spec.state_dir) {
                if Instant::now() >= deadline {
                    return Err(EngineError::Director(PATIENCE, log_path(&spec.state_dir)));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
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

/// Starts a director in a session of its own, so that neither our end nor a signal to our terminal takes it along.
fn spawn(spec: &DirectorSpec) -> Result<(), EngineError> {
    let log = log_path(&spec.state_dir);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(EngineError::io(log.display().to_string()))?;
    let stderr = file.try_clone().map_err(EngineError::io(log.display().to_string()))?;
    let exe = std::env::current_exe().map_err(EngineError::io("the path of this program"))?;
    let mut command = Command::new(exe);
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
    let mut child = command.spawn().map_err(EngineError::io("starting the director"))?;
    // Reaped here, so that a dead director is gone and not a zombie whose pidfile still seems to live.
    std::thread::spawn(move || child.wait());
    Ok(())
}

fn keep(spec: &DirectorSpec, stop: &AtomicBool) {
    let mut pause = FIRST_PAUSE;
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        wait_for_end(&spec.state_dir, stop);
        if stop.load(Ordering::SeqCst) {
            return;
        }
        tracing::warn!("the director is gone; starting it again");
        if let Err(error) = spawn(spec) {
            tracing::error!(%error, "the director can't be started");
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let deadline = Instant::now() + pause;
        while !answers(&spec.state_dir) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        if let Err(error) = hello(&spec.state_dir) {
            tracing::warn!(%error, "the director does not answer yet");
        }
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
