//! CPU time and memory as the kernel counts them.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// The processes of a session.
fn processes(session: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| session_of(&stat) == Some(session))
        })
        .collect()
}

/// Field 6 of `/proc/PID/stat` (proc(5)). The name in field 2 may hold anything, so count from its end.
fn session_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// CPU time of all threads of all processes of a session since they started, from `schedstat`, which counts
/// nanoseconds where `stat` counts ticks of ten milliseconds. Threads that have ended are not in it.
///
/// # Errors
/// When the session has no process.
pub(super) fn session_time(session: i32) -> Result<Duration> {
    let mut nanoseconds = 0;
    let mut threads = 0;
    for pid in processes(session) {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            nanoseconds += text.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0_u64);
            threads += 1;
        }
    }
    anyhow::ensure!(threads > 0, "session {session} has no process any more");
    Ok(Duration::from_nanos(nanoseconds))
}

/// Resident memory of all processes of a session, in bytes. Pages that several of them share are shared out
/// among them (`Pss`).
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn session_memory(session: i32) -> Result<u64> {
    let mut kib = 0;
    for pid in processes(session) {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let line =
            text.lines().find_map(|l| l.strip_prefix("Pss:")).with_context(|| format!("no Pss in {path}"))?;
        kib += line.trim().trim_end_matches("kB").trim().parse::<u64>().with_context(|| path.clone())?;
    }
    Ok(kib * 1024)
}

/// CPU time that the whole machine has spent since boot, on anything.
///
/// # Errors
/// When `/proc/stat` can't be read.
pub(super) fn machine_time() -> Result<Duration> {
    machine_time_of(&fs::read_to_string("/proc/stat")?)
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal in ticks of 1/100 s.
fn machine_time_of(stat: &str) -> Result<Duration> {
    let line =
        stat.lines().next().and_then(|l| l.strip_prefix("cpu ")).context("no line `cpu` in /proc/stat")?;
    let ticks: u64 = line
        .split_ascii_whitespace()
        .take(8)
        .enumerate()
        .filter(|(field, _)| !matches!(field, 3 | 4))
        .filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_behind_a_name_with_brackets_and_blanks() {
        assert_eq!(session_of("12 (a) b (c)) S 1 12 77 0 -1"), Some(77));
        assert_eq!(session_of("nonsense"), None);
    }

    #[test]
    fn idle_time_is_not_counted() {
        let time = machine_time_of("cpu  100 10 50 9999 777 5 5 30 0 0\ncpu0 1 2\n").expect("a line");
        assert_eq!(time, Duration::from_secs(2));
        assert!(machine_time_of("intr 1").is_err());
    }

    #[test]
    fn our_own_session_has_time_and_memory() {
        let session = nix::unistd::getsid(None).expect("a session").as_raw();
        // Some environments run everything in session 0, which has no process of that number but has members.
        assert!(session_time(session).expect("we are in it") > Duration::ZERO);
        assert!(session_time(i32::MAX).is_err());
    }
}
