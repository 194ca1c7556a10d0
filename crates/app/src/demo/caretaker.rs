//! Clears the stage when the demo is killed and can't do it itself.
//!
//! Engine, director and cells outlive the process that started them, which is what they are for. A demo that gets
//! SIGKILL would leave them behind, so a small process of its own waits for the demo's end and does then what the demo does
//! when it ends well.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::DemoError;
use crate::engine;

/// How long each part of clearing up may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the demo.
const LOOK: Duration = Duration::from_millis(200);

/// Whom to wait for and what to clear.
#[derive(Debug, Clone, Args)]
pub struct CaretakerArguments {
    /// The demo's process.
    #[arg(long)]
    of: i32,
    /// Where its configuration and state are.
    #[arg(long)]
    stage: PathBuf,
    /// Removes this directory in the end.
    #[arg(long)]
    remove: Option<PathBuf>,
}

/// The waiting process; dismissed when dropped.
pub(super) struct Caretaker(Child);

impl Caretaker {
    /// Starts it for this process. `remove` is a directory that nobody wants once the demo is gone.
    pub(super) fn hire(stage: &Path, remove: Option<&Path>) -> Result<Self, DemoError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("caretaker").arg("--of").arg(std::process::id().to_string()).arg("--stage").arg(stage);
        if let Some(dir) = remove {
            command.arg("--remove").arg(dir);
        }
        // What is sent to the demo's process group, Ctrl-C above all, is not for it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Caretaker {
    fn drop(&mut self) {
        // It may be gone already, and then there is nothing to dismiss.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for the demo's end, then clears the stage.
pub(crate) fn attend(arguments: &CaretakerArguments) -> Result<(), DemoError> {
    // Our parent is the demo as long as it lives; its number may be given to another process afterwards.
    while nix::unistd::getppid() == Pid::from_raw(arguments.of) {
        std::thread::sleep(LOOK);
    }
    clear(&arguments.stage)?;
    if let Some(dir) = &arguments.remove {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Ends whatever still runs of a stage: engine, director, cells, in this order, for each would start the next again.
pub(super) fn clear(stage: &Path) -> Result<(), DemoError> {
    let config = stage.join("forefend.yaml");
    let deadline = Instant::now() + PATIENCE;
    // The director starts an engine that died anew, so more than one may come to be told.
    loop {
        let engines = engines_of(&config);
        if engines.is_empty() || Instant::now() >= deadline {
            break;
        }
        for engine in engines {
            // It may have ended since.
            let _ = kill(engine, Signal::SIGTERM);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    engines_of(&config).into_iter().for_each(|engine| {
        let _ = kill(engine, Signal::SIGKILL);
    });
    let director = stage.join("state").join("director");
    let mut client = forefend_traffic::DirectorClient::new(
        &director,
        Duration::from_secs(2),
        std::collections::BTreeMap::new(),
    );
    // None may run.
    let _ = client.shutdown(false);
    let deadline = Instant::now() + PATIENCE;
    while engine::director_runs(&director) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let config = forefend_config::load(&config).map_err(|errors| DemoError::new(errors.to_string()))?;
    engine::remove_cells(&config, PATIENCE)
        .map_err(|error| DemoError::new(format!("the cells could not be removed: {error}")))?;
    Ok(())
}

/// The engines that run by this configuration file.
fn engines_of(config: &Path) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = command_line.split(|byte| *byte == 0).skip(1);
            words.next() == Some(b"serve")
                && words.any(|word| word == std::os::unix::ffi::OsStrExt::as_bytes(config.as_os_str()))
        })
        .map(Pid::from_raw)
        .collect()
}
