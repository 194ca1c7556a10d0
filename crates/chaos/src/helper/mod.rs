//! Processes that do what a fault needs a process for: use CPU time, hold memory or connections, stand between two others.
//!
//! A helper is the program itself, started again with [`HELPER_ARGUMENT`]. It begins only when it is told so through its standard
//! input, after its end is in the lease; it takes the level from there, a number a line; and when that input closes, because
//! its injector is gone, it lets go at once.

mod burn;
mod dns;
mod hold;
mod hop;
mod leak;
pub(crate) mod once;
mod storm;

use std::{
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{DnsFailure, proc::ProcessId, watchdog};

/// The first argument with which the program must call [`helper_main`] with the arguments after it.
pub const HELPER_ARGUMENT: &str = "__chaos";

const WORK: &str = "work";
const ONCE: &str = "once";

/// What a helper does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Use CPU time, in these control groups.
    Burn { workers: u32, join: Vec<PathBuf> },
    /// Hold memory, in these control groups.
    Leak { bytes: u64, join: Vec<PathBuf> },
    /// Hold idle connections.
    Hold { address: SocketAddr, connections: u32 },
    /// Write lines.
    Storm { path: PathBuf, lines_per_s: u32, line: String },
    /// Stand before `to`; tells where it listens.
    Hop { to: SocketAddr, effect: Effect },
    /// Answer name lookups; tells where it listens.
    Dns { how: DnsFailure },
}

/// What a hop does to what passes, at full level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub(crate) enum Effect {
    /// Bytes are held up, both ways together as long as this.
    Latency { add_us: u64, jitter_us: u64 },
    /// Bytes pass more slowly, each way.
    Bandwidth { bytes_per_s: u64 },
    /// Connections are reset.
    Resets { share: f64 },
    /// HTTP requests are answered with an error.
    Errors { share: f64, status: u16 },
}

/// A running helper, from its injector's side.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    pub(crate) id: ProcessId,
    input: ChildStdin,
    /// Where it listens, if it does.
    pub(crate) listens: Option<SocketAddr>,
}

impl Helper {
    /// Starts it; it waits for [`Helper::go`].
    pub(crate) fn start(program: &Path, work: &Work) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(HELPER_ARGUMENT).arg(WORK).arg(serde_json::to_string(work)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut ready = String::new();
        BufReader::new(output).read_line(&mut ready)?;
        if !ready.ends_with('\n') {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                io::Read::read_to_string(&mut stderr, &mut said)?;
            }
            let _ = child.wait();
            return Err(io::Error::other(format!("the helper did not start: {}", said.trim_end())));
        }
        let id = i32::try_from(child.id()).ok().and_then(ProcessId::of);
        let id = id.ok_or_else(|| io::Error::other("the helper ended at once"))?;
        Ok(Self { child, id, input, listens: ready.trim().parse().ok() })
    }

    /// Lets it begin, at level 0.
    pub(crate) fn go(&mut self) -> io::Result<()> {
        self.level(0.0)
    }

    /// Tells it the level.
    pub(crate) fn level(&mut self, level: f64) -> io::Result<()> {
        writeln!(self.input, "{level}")
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It was ended by its undo; this only takes note, so that no zombie stays.
        let _ = self.child.try_wait();
    }
}

/// The level that a helper was last told, shared among its threads.
#[derive(Debug, Clone, Default)]
struct Level(Arc<AtomicU64>);

impl Level {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, level: f64) {
        self.0.store(level.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// Reads levels until the input closes; calls `closed` then.
    fn follow_input(&self, closed: impl FnOnce() + Send + 'static) {
        let level = self.clone();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if let Ok(given) = line.trim().parse::<f64>() {
                    level.set(given);
                }
            }
            closed();
        });
    }
}

/// What the program must do when its first argument is [`HELPER_ARGUMENT`]: `arguments` are those after it. Returns the exit
/// status.
#[must_use]
pub fn helper_main(arguments: &[String]) -> i32 {
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [WORK, text] => serde_json::from_str(text).map_err(io::Error::from).and_then(work),
        [ONCE, text] => serde_json::from_str(text).map_err(io::Error::from).and_then(|o: once::Once| o.act()),
        [watchdog::WATCHDOG, dir] => {
            std::env::current_exe().and_then(|program| watchdog::main(Path::new(dir), &program))
        }
        _ => Err(io::Error::other("helpers are started by Forefend, not by hand")),
    };
    match done {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("{e}");
            1
        }
    }
}

fn work(work: Work) -> io::Result<()> {
    let level = Level::default();
    // A session of its own: Ctrl-C in the injector's terminal is not for it, and it has a share of the CPU of its own
    // (sched(7), autogroups).
    rustix::process::setsid()?;
    match work {
        Work::Hop { to, effect } => hop::main(to, effect, &level),
        Work::Dns { how } => dns::main(how),
        Work::Burn { workers, join } => {
            join_groups(&join)?;
            begin(&level, None)?;
            burn::main(workers, &level)
        }
        Work::Leak { bytes, join } => {
            join_groups(&join)?;
            begin(&level, None)?;
            leak::main(bytes, &level)
        }
        Work::Hold { address, connections } => {
            begin(&level, None)?;
            hold::main(address, connections, &level)
        }
        Work::Storm { path, lines_per_s, line } => {
            let file = std::fs::File::options().append(true).create(true).open(&path)?;
            begin(&level, None)?;
            storm::main(file, lines_per_s, &line, &level)
        }
    }
}

/// Says that it is ready, waits to be told to begin, and ends the process when its injector is gone.
fn begin(level: &Level, listens: Option<SocketAddr>) -> io::Result<()> {
    begin_with(level, listens, || std::process::exit(0))
}

fn begin_with(
    level: &Level,
    listens: Option<SocketAddr>,
    closed: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let ready = listens.map_or_else(|| "ready".to_owned(), |address| address.to_string());
    writeln!(io::stdout(), "{ready}")?;
    io::stdout().flush()?;
    let mut go = String::new();
    if io::stdin().read_line(&mut go)? == 0 {
        std::process::exit(0);
    }
    level.follow_input(closed);
    Ok(())
}

fn join_groups(files: &[PathBuf]) -> io::Result<()> {
    for file in files {
        std::fs::write(file, "0")
            .map_err(|e| io::Error::new(e.kind(), format!("{} can't be joined: {e}", file.display())))?;
    }
    Ok(())
}
