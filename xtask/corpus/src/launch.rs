//! Starting a server inside its control groups: this very program puts itself there and becomes the server.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use clap::Args;
use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{Gid, Uid, setgid, setgroups, setuid},
};
use tokio::process::Child;

use crate::place::{Place, USER};

/// How a server is started.
#[derive(Args)]
pub(crate) struct LaunchArguments {
    /// The files of control groups to write our number to.
    #[arg(long)]
    join: Vec<PathBuf>,
    /// Open files that it may have.
    #[arg(long)]
    files: u64,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Becomes the server.
///
/// # Errors
/// When a group, a limit or the program refuses. There is no other way to return.
pub(crate) fn launch(arguments: &LaunchArguments) -> Result<()> {
    for group in &arguments.join {
        fs::write(group, "0").with_context(|| format!("can't join {}", group.display()))?;
    }
    setrlimit(Resource::RLIMIT_NOFILE, arguments.files, arguments.files)?;
    let user = Uid::from_raw(USER);
    setgroups(&[])?;
    setgid(Gid::from_raw(user.as_raw()))?;
    setuid(user)?;
    // After the change of user, which would clear it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let (program, rest) = arguments.command.split_first().context("no program")?;
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("can't run {program}"))
}

/// Starts `command` in the episode's place; `grouped`: within the server's limits. What it prints goes to the log.
///
/// To be called on the thread that outlives all servers: they die with it.
pub(crate) fn start(place: &Place, files: u32, grouped: bool, command: &[String]) -> Result<Child> {
    let log = fs::File::options().append(true).create(true).open(&place.log)?;
    let mut launcher = tokio::process::Command::new(own_program()?);
    launcher.arg("launch").arg("--files").arg(files.to_string());
    if grouped {
        for join in place.joins() {
            launcher.arg("--join").arg(join);
        }
    }
    launcher
        .arg("--")
        .args(command)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start {command:?}"))
}

/// A copy of this program that any user may run; the recorder makes it.
pub(crate) fn own_program() -> Result<PathBuf> {
    let path = Path::new(crate::place::WORK).join("bin/xtask-corpus");
    if !path.exists() {
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::copy("/proc/self/exe", &path)?;
    }
    Ok(path)
}
