use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Actuator, InjectError, Prepared, Scene, directory, groups, processes::ON_FROM};
use crate::{
    Undo,
    helper::once::{self, Once, mount_depth},
    proc::ProcessId,
};

const OWN_DISK: &str = "put the cell's data on a file system of its own, for example a tmpfs with a size";

struct Filler {
    path: PathBuf,
    /// Bytes that it has at full level.
    full: u64,
}

impl Actuator for Filler {
    fn set(&mut self, level: f64) -> io::Result<()> {
        let wanted = (self.full as f64 * level) as u64;
        let file = File::options().create(true).truncate(false).write(true).open(&self.path)?;
        let has = file.metadata()?.len();
        if wanted > has {
            // Taken from the file system, not only promised by a length.
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), has, wanted - has) {
                // The cell was faster: it is full, which is what was wanted.
                Err(rustix::io::Errno::NOSPC) => Ok(()),
                other => Ok(other?),
            }
        } else {
            file.set_len(wanted)
        }
    }
}

pub(super) fn full(scene: &Scene<'_>, path: Option<&Path>, leave: u64) -> Result<Prepared, InjectError> {
    let dir = directory(scene, path)?;
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev());
    let of_cell = device(&dir).map_err(|e| scene.failed(e))?;
    if device(Path::new("/")).ok() == Some(of_cell) {
        return Err(scene.others(format!("{} is on the machine's own file system", dir.display()), OWN_DISK));
    }
    let space = rustix::fs::statvfs(&dir).map_err(|e| scene.failed(e.into()))?;
    let free = space.f_bavail * space.f_frsize;
    let path = dir.join(format!(".forefend-{}", scene.lease));
    let filler = Filler { path: path.clone(), full: free.saturating_sub(leave) };
    Ok(Prepared { undo: vec![Undo::Remove { path }], actuator: Box::new(filler) })
}

struct ReadOnly {
    program: PathBuf,
    process: ProcessId,
    path: PathBuf,
    depth: usize,
    on: bool,
}

impl Actuator for ReadOnly {
    fn set(&mut self, level: f64) -> io::Result<()> {
        let on = level >= ON_FROM;
        if on == self.on {
            return Ok(());
        }
        let (process, path) = (self.process, self.path.clone());
        let once = if on {
            Once::ReadOnly { process, path }
        } else {
            Once::Unmount { process, path, depth: self.depth }
        };
        once::run(&self.program, &once)?;
        self.on = on;
        Ok(())
    }
}

pub(super) fn read_only(scene: &Scene<'_>, path: Option<&Path>) -> Result<Prepared, InjectError> {
    let process = scene.process;
    let namespace = |pid: String| fs::read_link(format!("/proc/{pid}/ns/mnt"));
    let own_view = namespace(process.pid.to_string()).map_err(|e| scene.failed(e))?
        != namespace("self".to_owned()).map_err(|e| scene.failed(e))?;
    let data = scene.target.data.clone();
    let path = match (path, own_view) {
        (Some(path), true) => path.to_owned(),
        // Where cells made by Forefend see their data.
        (None, true) => PathBuf::from("/data"),
        (path, false) => {
            let path = path.map(Path::to_owned).or_else(|| data.clone());
            let path = path.ok_or_else(|| {
                scene.unsupported("the cell's data directory is not known", "name a `path`")
            })?;
            if !data.is_some_and(|data| path.starts_with(data)) {
                let why = format!(
                    "{} is not the cell's own, and it sees the same mounts as others",
                    path.display()
                );
                return Err(scene.others(why, "name a `path` in the cell's data directory"));
            }
            path
        }
    };
    directory(scene, Some(&path))?;
    let depth = mount_depth(process, &path).map_err(|e| scene.failed(e))?;
    let undo = vec![Undo::Unmount { process, path: path.clone(), depth }];
    let actuator = ReadOnly { program: scene.program.to_owned(), process, path, depth, on: false };
    Ok(Prepared { undo, actuator: Box::new(actuator) })
}

/// Bytes per second at which throttling begins to be felt.
const FAST_BYTES_PER_S: f64 = 1e9;

pub(super) fn slow(
    scene: &Scene<'_>,
    path: Option<&Path>,
    bytes_per_s: u64,
) -> Result<Prepared, InjectError> {
    let dir = directory(scene, path)?;
    let device = fs::metadata(&dir).map_err(|e| scene.failed(e))?.dev();
    let disk = whole_disk(device).ok_or_else(|| {
        let why = format!("{} is not on a disk (a tmpfs or an overlay has none)", dir.display());
        scene.unsupported(why, "put the cell's data on a disk")
    })?;
    groups::throttle(scene, &disk, move |level| {
        // In equal ratios: from 1 GB/s to 1 MB/s half the level is 30 MB/s, where it begins to hurt.
        (FAST_BYTES_PER_S.ln() * (1.0 - level) + (bytes_per_s as f64).ln() * level).exp() as u64
    })
}

/// The numbers of the disk that a file system is on, `major:minor`; a partition is throttled with its disk.
fn whole_disk(device: u64) -> Option<String> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let sys = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    if !sys.exists() {
        return None;
    }
    if !sys.join("partition").exists() {
        return Some(format!("{major}:{minor}"));
    }
    let disk = fs::canonicalize(&sys).ok()?.parent()?.join("dev");
    Some(fs::read_to_string(disk).ok()?.trim().to_owned())
}
