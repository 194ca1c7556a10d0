//! Who holds the lock on a file, for the error message.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// The processes that hold a lock on `path`, in words. Reads `/proc/locks` (proc(5)), which shows only what the
/// caller's namespaces let it see; so this helps people and decides nothing.
pub(crate) fn holder(path: &Path) -> String {
    const UNKNOWN: &str = "another process";
    let Ok(inode) = fs::metadata(path).map(|m| m.ino()) else { return UNKNOWN.to_owned() };
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return UNKNOWN.to_owned() };
    let mut pids = holders_in(&locks, inode);
    pids.retain(|pid| *pid != i64::from(std::process::id()));
    match pids.as_slice() {
        [] => UNKNOWN.to_owned(),
        [pid] => format!("process {pid}"),
        many => {
            let many: Vec<String> = many.iter().map(ToString::to_string).collect();
            format!("processes {}", many.join(", "))
        }
    }
}

/// Lines read `1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF`; open-file-description locks have the process -1.
fn holders_in(locks: &str, inode: u64) -> Vec<i64> {
    let mut pids: Vec<i64> = locks
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip_while(|field| *field != "ADVISORY").skip(2);
            let pid: i64 = fields.next()?.parse().ok()?;
            let found: u64 = fields.next()?.rsplit(':').next()?.parse().ok()?;
            (found == inode && pid > 0).then_some(pid)
        })
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[cfg(test)]
mod tests {
    use super::holders_in;

    #[test]
    fn holders_are_read_by_inode_and_anonymous_locks_are_skipped() {
        let locks = "1: FLOCK  ADVISORY  WRITE 812 fe:01:77 0 EOF\n\
                     2: OFDLCK ADVISORY  WRITE -1 fe:01:77 0 EOF\n\
                     2: -> POSIX  ADVISORY  WRITE 900 fe:01:77 0 EOF\n\
                     3: POSIX  ADVISORY  READ 813 fe:01:78 0 EOF\n\
                     nonsense\n";
        assert_eq!(holders_in(locks, 77), [812, 900]);
        assert!(holders_in(locks, 1).is_empty());
    }
}
