//! Processes as the kernel tells of them.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Living processes whose command line fits.
pub fn find(fits: impl Fn(&[String]) -> bool) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
            let argv: Vec<String> =
                line.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
            fits(&argv) && lives(*pid)
        })
        .collect()
}

/// Whether the process is there and more than a zombie that its parent has not yet noticed.
pub fn lives(pid: i32) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// A line of `/proc/PID/status`.
pub fn status(pid: i32, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
}

/// Sends a signal; a process that is gone already is fine.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}
