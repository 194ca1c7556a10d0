//! The process that undoes faults when their injector can't.
//!
//! It is started before the first fault, in a session of its own, and holds the read end of a pipe of which only the injector
//! has the other. When that end closes, whatever ended the injector, it undoes the injector's leases at once. It also undoes
//! every lease in the book that lapsed. It leaves when its injector is gone and nothing is left to undo.

use std::{
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use crate::{LeaseBook, proc::ProcessId};

/// The argument, after [`crate::HELPER_ARGUMENT`], with which the program becomes the watchdog.
pub(crate) const WATCHDOG: &str = "watchdog";

/// Between looks at the leases while the injector lives.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The injector's side of it.
#[derive(Debug)]
pub(crate) struct Watchdog {
    child: Child,
    _alive: ChildStdin,
}

impl Watchdog {
    /// Starts it; it is watching when this returns.
    pub(crate) fn start(book: &LeaseBook) -> io::Result<Self> {
        let mut command = Command::new(book.program());
        command.arg(crate::HELPER_ARGUMENT).arg(WATCHDOG).arg(book.dir());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // A signal to the injector's group, as Ctrl-C in a terminal, is not for it.
        command.process_group(0);
        let mut child = command.spawn()?;
        let alive = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut ready = [0];
        let mut stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        stdout.read_exact(&mut ready)?;
        Ok(Self { child, _alive: alive })
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // It ends by itself when the pipe closes; waiting would hold up whoever drops us while faults are undone.
        let _ = self.child.try_wait();
    }
}

/// What the watchdog process does.
pub(crate) fn main(dir: &Path, program: &Path) -> io::Result<()> {
    let book = LeaseBook::open(dir, program).map_err(io::Error::other)?;
    let injector = ProcessId::of(rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get()));
    let _ = rustix::process::setsid();
    let (gone, is_gone) = channel::<()>();
    thread::spawn(move || {
        // Nobody writes: this returns when the injector's end is closed.
        let _ = io::stdin().read(&mut [0]);
        drop(gone);
    });
    io::Write::write_all(&mut io::stdout(), b".")?;
    io::Write::flush(&mut io::stdout())?;
    let mut orphaned = false;
    let mut said = String::new();
    let mut say = |what: String| {
        // Tried again several times a second; told when it changes.
        if what != said {
            eprintln!("forefend: {what}");
            said = what;
        }
    };
    loop {
        let mine = |lease: &crate::Lease| orphaned && Some(lease.owner) == injector;
        match book.sweep(mine) {
            Ok(swept) => {
                let failed: Vec<String> =
                    swept.failed.iter().map(|(lease, why)| format!("fault {lease}: {why}")).collect();
                if !failed.is_empty() {
                    say(failed.join("; "));
                }
                // Those that others hold have watchdogs of their own.
                if orphaned && swept.failed.is_empty() {
                    return Ok(());
                }
            }
            // With the book gone there is nothing that anybody could still undo.
            Err(_) if orphaned && !book.dir().exists() => return Ok(()),
            Err(e) => say(format!("the leases of faults can't be looked through: {e}")),
        }
        if orphaned {
            thread::sleep(LOOK_EVERY);
        } else {
            orphaned = is_gone.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Disconnected);
        }
    }
}
