//! What the kernel tells of a process and of its control group.
//!
//! Sources: proc(5), <https://docs.kernel.org/admin-guide/cgroup-v2.html>,
//! <https://docs.kernel.org/admin-guide/cgroup-v1/index.html>, <https://docs.kernel.org/accounting/psi.html>.
//! The functions in [`process`] and [`cgroup`] that read text are pure; those that read files take explicit roots.

pub mod cgroup;
pub mod process;
mod reading;

use std::path::PathBuf;

pub use reading::{Limits, Observed, Reader};

/// A file of the kernel could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It could not be read.
    #[error("can't read {}: {source}; see whether the process or cgroup is still there and may be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not hold what it should.
    #[error("{} holds no {what}; see whether the path names what it should", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Another process has got the number.
    #[error("process {pid} is another one than before: it began anew; give the new process's number")]
    AnotherProcess {
        /// The number.
        pid: u32,
    },
    /// A cgroup directory without files of either version.
    #[error("{} is no cgroup directory with {files}; give the controller's directory of the cell", path.display())]
    NoCgroup {
        /// The directory.
        path: PathBuf,
        /// What was looked for.
        files: &'static str,
    },
}

/// Reads a small file whole.
fn read(path: PathBuf) -> Result<(PathBuf, String), HostError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(source) => Err(HostError::Read { path, source }),
    }
}

/// Reads a small file and finds something in it.
fn read_as<T>(
    path: PathBuf,
    what: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, HostError> {
    let (path, text) = read(path)?;
    parse(&text).ok_or(HostError::Malformed { path, what })
}
