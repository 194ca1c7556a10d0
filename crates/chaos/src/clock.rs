//! Clock skew: a library for dynamic programs that is preloaded when the cell is started, and a file that tells it how far the
//! clock is off. The file is read at every call, so that the skew comes and goes while the cell runs.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

/// The library, built beside this crate; empty where it could not be built.
static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libforefend_clock.so"));

/// The variable that names the clock file to the library.
pub const CLOCK_VARIABLE: &str = "FOREFEND_CLOCK";

/// Writes the library to a file that `LD_PRELOAD` can name. One that is there is replaced, not written over: programs that run have
/// it mapped.
///
/// # Errors
/// When it was not built for this platform or can't be written.
pub fn install_library(path: &Path) -> io::Result<()> {
    if LIBRARY.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the clock library was not built for this platform: clock skew is not supported",
        ));
    }
    if fs::read(path).is_ok_and(|there| there == LIBRARY) {
        return Ok(());
    }
    let mut new = path.to_owned();
    new.as_mut_os_string().push(".new");
    fs::write(&new, LIBRARY)?;
    fs::rename(new, path)
}

/// Makes a clock file without offset.
///
/// # Errors
/// When it can't be written.
pub fn new_clock_file(path: &Path) -> io::Result<()> {
    fs::write(path, 0i64.to_ne_bytes())
}

/// Sets how far the clock of everybody who reads this file is ahead.
pub(crate) fn set_offset_ms(path: &Path, ms: i64) -> io::Result<()> {
    // In place and in one write: readers have it mapped.
    File::options().write(true).open(path)?.write_all_at(&ms.to_ne_bytes(), 0)
}

/// How far it is ahead.
pub(crate) fn offset_ms(path: &Path) -> io::Result<i64> {
    let mut bytes = [0; 8];
    File::open(path)?.read_exact_at(&mut bytes, 0)?;
    Ok(i64::from_ne_bytes(bytes))
}
