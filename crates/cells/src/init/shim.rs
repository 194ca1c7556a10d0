use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
};
use serde::Deserialize;

use super::{Ended, InitSpec, Launched, spec};
use crate::{Protection, process::start_time, record};

/// More is not a spec.
const MAX_SPEC_BYTES: u64 = 4 << 20;

/// `cell-init run`.
pub(super) fn run() -> i32 {
    let mut text = Vec::new();
    if io::stdin().take(MAX_SPEC_BYTES).read_to_end(&mut text).is_err() {
        return 1;
    }
    // An engine that died half-way leaves half a spec, which does not parse.
    let Ok(spec) = serde_json::from_slice::<InitSpec>(&text) else { return 1 };
    match supervise(&spec, &text) {
        Ok(()) => 0,
        Err(why) => {
            let _ = std::fs::write(spec.dir.join(record::INIT_ERROR), why);
            1
        }
    }
}

#[derive(Deserialize)]
struct Wanted {
    attempt: u64,
}

fn supervise(spec: &InitSpec, text: &[u8]) -> Result<(), String> {
    let step = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    // A session of its own: what kills the engine's process group or terminal does not reach the cell.
    nix::unistd::setsid().map_err(|e| format!("setsid: {e}"))?;
    std::env::set_current_dir("/").map_err(step("chdir"))?;
    // Held as long as the shim lives. A newer engine that cleans up holds it while it replaces the attempt.
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(spec.dir.join(record::LOCK))
        .map_err(step("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| format!("lock: {e}"))?;
    let wanted: Option<Wanted> = record::read_json(&spec.dir.join(record::CELL));
    if wanted.is_none_or(|wanted| wanted.attempt != spec.attempt) {
        return Ok(());
    }
    if spec.user_namespace {
        enter_user_namespace().map_err(|e| format!("user namespace: {e}"))?;
    }
    if spec.protections.contains(&Protection::PidNamespace) {
        unshare(CloneFlags::CLONE_NEWPID).map_err(|e| format!("pid namespace: {e}"))?;
    }
    let (log, writer) = io::pipe().map_err(step("pipe"))?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(super::INIT_ARGUMENT)
        .args([super::INIT_ARGUMENT, "enter"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().map_err(step("pipe"))?)
        .stderr(writer)
        .spawn()
        .map_err(step("the cell's first process can't be started"))?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let start_time = start_time(pid).ok_or("the cell's first process can't be seen in /proc")?;
    let launched = Launched { attempt: spec.attempt, pid, start_time };
    record::write_json(&spec.dir.join(record::PROCESS), &launched).map_err(step("process.json"))?;
    // Only now may it begin.
    let handed_over = child.stdin.take().map(|mut stdin| stdin.write_all(text));
    if let Some(Err(e)) = handed_over {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("the spec can't be handed over: {e}"));
    }
    // The engine waits for this line, if it is still there.
    let _ = writeln!(io::stdout(), "{pid}");
    let mut log = Log::open(log, &spec.dir.join(record::LOG), spec.log_bytes);
    // One thread does both, for a process whose children go to a new pid namespace can't start threads (clone(2)).
    let pid = rustix::process::Pid::from_child(&child);
    let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|e| format!("pidfd: {e}"))?;
    while !log.pump_until(&ended) {}
    let status = child.wait().map_err(step("wait"))?;
    let ended = Ended { attempt: spec.attempt, code: status.code(), signal: status.signal() };
    record::write_json(&spec.dir.join(record::EXIT), &ended).map_err(step("exit.json"))?;
    // Without a pid namespace a grandchild may keep the pipe open: go on reading until it is closed, or its writes would
    // fail. With one, everything is dead by now.
    while log.pump() {}
    Ok(())
}

/// An unprivileged process gets a user namespace in which it alone is mapped, as root.
pub(super) fn enter_user_namespace() -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // Needed before gid_map may be written without privilege (user_namespaces(7)).
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Copies what the cell prints into a file, of which at most two pieces of `limit` bytes are kept. Goes on reading when it
/// can't write, so that a full disk never stops the cell.
struct Log<R> {
    from: Option<R>,
    path: PathBuf,
    limit: u64,
    file: Option<File>,
    size: u64,
}

impl<R: Read> Log<R> {
    fn open(from: R, path: &Path, limit: u64) -> Self {
        let file = append_to(path);
        let size = file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        Self { from: Some(from), path: path.to_owned(), limit, file, size }
    }

    /// Copies what is there, waiting for something; false when there will be nothing more.
    fn pump(&mut self) -> bool {
        let Some(from) = &mut self.from else { return false };
        let mut buffer = [0u8; 8192];
        match from.read(&mut buffer) {
            Ok(n) if n > 0 => {
                self.write(&buffer[..n]);
                true
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => true,
            _ => {
                self.from = None;
                false
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.size + bytes.len() as u64 > self.limit {
            let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
            self.file = append_to(&self.path);
            self.size = 0;
        }
        if self.file.as_mut().is_some_and(|f| f.write_all(bytes).is_ok()) {
            self.size += bytes.len() as u64;
        }
    }
}

impl Log<io::PipeReader> {
    /// Waits for output or for the end of the process behind `ended`; copies the one, is true on the other.
    fn pump_until(&mut self, ended: &OwnedFd) -> bool {
        let mut fds = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        if let Some(from) = &self.from {
            fds.push(PollFd::new(from.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => return false,
            // Nothing can be waited for any more: the wait for the child that follows will do.
            Err(_) => return true,
            Ok(_) => {}
        }
        let readable = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::any) == Some(true);
        let (is_over, has_output) = (readable(fds.first()), readable(fds.get(1)));
        if has_output {
            self.pump();
        }
        is_over
    }
}

fn append_to(path: &Path) -> Option<File> {
    File::options().create(true).append(true).open(path).ok()
}

/// Reads a spec from standard input.
pub(super) fn read_spec() -> Option<spec::InitSpec> {
    let mut text = Vec::new();
    io::stdin().take(MAX_SPEC_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cell.log");
        let text: Vec<u8> = (0..100_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let mut log = Log::open(text.as_slice(), &path, 50_000);
        while log.pump() {}
        let newest = std::fs::read(&path).unwrap();
        let older = std::fs::read(dir.path().join("cell.log.1")).unwrap();
        assert!(newest.len() <= 50_000 && older.len() <= 50_000);
        assert!(text.ends_with(&newest));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
