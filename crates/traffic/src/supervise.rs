//! Each watches the other: the engine starts the director again, and here the director starts the engine again.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::sys;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An engine that ran for so long was well; the next start is not delayed by earlier failures.
const RAN_WELL: Duration = Duration::from_secs(10);
const LOG: &str = "engine.log";

/// What the control socket last heard of the engine.
#[derive(Debug, Clone, Default)]
pub(crate) enum Engine {
    /// Nothing: it never connected, or it said goodbye.
    #[default]
    Away,
    /// It runs, as far as is known.
    Running(std::sync::Arc<OwnedFd>),
}

/// A handle that becomes readable when the process ends.
pub(crate) fn watch_process(pid: u32) -> std::io::Result<Engine> {
    sys::pidfd_open(pid).map(|fd| Engine::Running(std::sync::Arc::new(fd)))
}

/// Starts the engine again whenever it dies without a goodbye. Ends only with its channel.
pub(crate) async fn keep_engine(
    argv: Vec<OsString>,
    state_dir: PathBuf,
    mut engine: watch::Receiver<Engine>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let now = engine.borrow_and_update().clone();
        match now {
            Engine::Away => {
                if engine.changed().await.is_err() {
                    return;
                }
            }
            Engine::Running(pidfd) => {
                let since = Instant::now();
                tokio::select! {
                    changed = engine.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        continue;
                    }
                    () = ended(&pidfd) => {}
                }
                // The goodbye may have come together with the end.
                if engine.has_changed().unwrap_or(false) {
                    continue;
                }
                if since.elapsed() >= RAN_WELL {
                    pause = FIRST_PAUSE;
                }
                if !restart(&argv, &state_dir, &mut engine, &mut pause).await {
                    return;
                }
            }
        }
    }
}

/// Starts engines until one says hello or goodbye; `false` when the director ends.
async fn restart(
    argv: &[OsString],
    state_dir: &Path,
    engine: &mut watch::Receiver<Engine>,
    pause: &mut Duration,
) -> bool {
    loop {
        tracing::warn!(
            pause_ms = pause.as_millis() as u64,
            "the engine died without a goodbye: starting it again"
        );
        tokio::select! {
            () = tokio::time::sleep(*pause) => {}
            changed = engine.changed() => return changed.is_ok(),
        }
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        let mut child = match spawn(argv, state_dir) {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(%error, program = ?argv.first(), "the engine can't be started");
                continue;
            }
        };
        tokio::select! {
            changed = engine.changed() => {
                // It lives; collect it when it ends, so that it leaves no zombie.
                tokio::task::spawn_local(async move { child.wait().await });
                return changed.is_ok();
            }
            status = child.wait() => {
                tracing::error!(?status, log = %state_dir.join(LOG).display(), "the engine ended before it said hello");
            }
        }
    }
}

async fn ended(pidfd: &OwnedFd) {
    let watched = pidfd.try_clone().and_then(sys::watch);
    match watched {
        Ok(watched) => {
            if let Err(error) = watched.readable().await {
                tracing::error!(%error, "the engine can't be watched");
                std::future::pending::<()>().await;
            }
        }
        Err(error) => {
            tracing::error!(%error, "the engine can't be watched");
            std::future::pending::<()>().await;
        }
    }
}

/// Starts the engine in a session of its own, so that no signal meant for the director reaches it.
fn spawn(argv: &[OsString], state_dir: &Path) -> std::io::Result<tokio::process::Child> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "no program is named"));
    };
    let log = OpenOptions::new().create(true).append(true).open(state_dir.join(LOG))?;
    let mut command = std::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    sys::in_own_session(&mut command);
    tokio::process::Command::from(command).kill_on_drop(false).spawn()
}
