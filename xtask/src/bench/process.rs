//! A process of a bench: in its own session, on one core, gone when its handle is.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::cpu;

/// A running process and whatever it starts.
pub(super) struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    /// Where its standard error goes.
    log: PathBuf,
}

impl Process {
    /// Starts `program` in a session of its own (or the scheduler's autogroups would hide niceness), pinned to
    /// `core`; standard error goes to a file in `folder`. When we die, it gets `on_our_death`.
    ///
    /// # Errors
    /// When it can't be started.
    pub(super) fn start<A: AsRef<OsStr>>(
        name: &str,
        core: usize,
        folder: &Path,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        on_our_death: Signal,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let log_file = File::create(&log).with_context(|| format!("can't create {}", log.display()))?;
        // Each of these executes the next, so the process identifier stays and is the session's.
        let mut child = Command::new("setsid")
            .args(["--wait", "setpriv", "--pdeathsig", on_our_death.as_str().trim_start_matches("SIG")])
            .args(["taskset", "--cpu-list", &core.to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .context("can't run setsid (Debian package util-linux)")?;
        let output = child.stdout.take().context("no standard output")?;
        let (sender, lines) = sync_channel(1024);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, lines, log })
    }

    /// Its process identifier, which is also its session's and its group's.
    pub(super) fn id(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The next line that it prints.
    ///
    /// # Errors
    /// When none comes within `patience`, or it ended.
    pub(super) fn line(&self, patience: Duration) -> Result<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} printed nothing for {patience:?}{}", self.name, self.last_words())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{} ended early{}", self.name, self.last_words()),
        }
    }

    /// Sends `signal` to it and all of its group.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        killpg(Pid::from_raw(self.id()), signal)
            .with_context(|| format!("can't send {signal} to {}", self.name))
    }

    /// CPU time of it and its children.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        cpu::session_time(self.id()).with_context(|| format!("{}{}", self.name, self.last_words()))
    }

    /// Resident memory of it and its children, in bytes.
    pub(super) fn memory(&self) -> Result<u64> {
        cpu::session_memory(self.id()).with_context(|| self.name.clone())
    }

    /// Fails, with its last words, when it has ended.
    pub(super) fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}{}", self.name, self.last_words()),
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut last: Vec<&str> = text.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
        last.reverse();
        if last.is_empty() { String::new() } else { format!("; it said: {}", last.join(" / ")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group may be gone already, or not be there yet when it was only just started.
        let _ = self.signal(Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(program: &str, arguments: &[&str]) -> (Process, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let process = Process::start("it", 0, folder.path(), Path::new(program), arguments, Signal::SIGKILL)
            .expect("starts");
        (process, folder)
    }

    #[test]
    fn lines_come_out_and_the_end_is_told_with_the_last_words() {
        let (mut process, _folder) = start("/bin/sh", &["-c", "echo one; echo oops >&2; exit 3"]);
        assert_eq!(process.line(Duration::from_secs(10)).expect("a line"), "one");
        let error = process.line(Duration::from_secs(10)).expect_err("it ended").to_string();
        assert_eq!(error, "it ended early; it said: oops");
        process.child.wait().expect("ends");
        assert!(process.still_runs().expect_err("it ended").to_string().contains("exit status: 3"));
    }

    #[test]
    fn it_leads_a_session_on_its_core_and_its_children_count_and_end_with_it() {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sh -c 'echo $$; exec sleep 1000'";
        let (process, _folder) = start("/bin/sh", &["-c", script]);
        let child: i32 = process.line(Duration::from_secs(20)).expect("a line").parse().expect("a number");
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("runs");
        assert!(
            status.lines().any(|l| l.starts_with("Cpus_allowed_list:") && l.ends_with("\t0")),
            "{status}"
        );
        assert_eq!(nix::unistd::getsid(Some(Pid::from_raw(child))).expect("runs").as_raw(), process.id());
        assert!(process.cpu_time().expect("runs") > Duration::ZERO);
        assert!(process.memory().expect("runs") > 0);
        drop(process);
        // Killed together with its parent; what is left at most is a zombie waiting for init.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "the child still runs: {stat}");
            std::thread::yield_now();
        }
    }
}
