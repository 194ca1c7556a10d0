use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{FileTypeExt, symlink},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

use crate::sys::harden_mount;

type Step = Result<(), String>;

/// What a cell sees of the host when it has no image of its own.
pub(super) const HOST_PATHS: [&str; 15] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/ssl",
];

/// Name servers, which is often a link into `/run`: its target is shown in its place.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Devices that do no harm.
pub(super) const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// A root to build.
pub(super) struct Root<'a> {
    /// An empty directory to build it in.
    pub(super) scratch: &'a Path,
    /// An unpacked root file system, or the host's programs.
    pub(super) image: Option<&'a Path>,
    /// Further paths of the host.
    pub(super) read_only: &'a [PathBuf],
    /// The one directory of the host that may be written, seen as `/data`.
    pub(super) data: Option<&'a Path>,
    pub(super) tmp_bytes: u64,
    /// Whether this is process 1 of a pid namespace, which may then mount its `/proc`.
    pub(super) own_proc: bool,
}

impl Root<'_> {
    /// Builds it and moves into it; the host's root is gone afterwards. Needs a mount namespace of its own.
    pub(super) fn enter(&self) -> Step {
        let none = None::<&str>;
        // What is mounted here must not show up on the host.
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|e| format!("the mounts can't be made private: {e}"))?;
        let root = self.scratch;
        match self.image {
            Some(image) => {
                bind(image, root)?;
                harden(root, true, false)?;
            }
            None => tmpfs(root, "mode=755,size=1m")?,
        }
        if self.image.is_none() {
            for path in HOST_PATHS.iter().map(Path::new) {
                self.show(path)?;
            }
        }
        if let Ok(target) = fs::canonicalize(RESOLV_CONF) {
            self.show_as(&target, Path::new(RESOLV_CONF))?;
        }
        self.mount_dev()?;
        if self.own_proc {
            let proc = self.directory("/proc")?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("proc"), &proc, Some("proc"), flags, none).map_err(|e| format!("/proc: {e}"))?;
        }
        tmpfs(&self.directory("/tmp")?, &format!("mode=1777,size={}", self.tmp_bytes))?;
        if let Some(data) = self.data {
            let inside = self.directory("/data")?;
            bind(data, &inside)?;
            harden(&inside, false, false)?;
        }
        // After the mounts above, which would hide what lies below /tmp or /data on the host.
        for path in self.read_only {
            if !path.exists() {
                return Err(format!("{} is to be shown to the cell, but is not there", path.display()));
            }
            self.show(path)?;
        }
        if self.image.is_none() {
            // Only now: nothing more needs a mount point in it. Not recursive, for /tmp and /data stay writable.
            harden_mount(root, true, true, false)
                .map_err(|e| format!("the root can't be made read-only: {e}"))?;
        }
        chdir(root).map_err(|e| format!("chdir: {e}"))?;
        // Both in one place, after which the old root lies under the new one and is detached (pivot_root(2), NOTES).
        pivot_root(".", ".").map_err(|e| format!("pivot_root: {e}"))?;
        umount2(".", MntFlags::MNT_DETACH).map_err(|e| format!("the old root can't be detached: {e}"))?;
        chdir("/").map_err(|e| format!("chdir /: {e}"))
    }

    /// Shows a path of the host, read-only, at the same place; one that isn't there is left out.
    fn show(&self, path: &Path) -> Step {
        match fs::symlink_metadata(path) {
            // `/bin` is mostly a link to `usr/bin`, and `/etc/localtime` one into `/usr`.
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::read_link(path).map_err(|e| format!("{}: {e}", path.display()))?;
                let inside = self.inside(path);
                self.parents(&inside)?;
                match symlink(&target, &inside) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        Err(format!("{}: {e}", inside.display()))
                    }
                    _ => Ok(()),
                }
            }
            Ok(_) => self.show_as(path, path),
            Err(_) => Ok(()),
        }
    }

    fn show_as(&self, host: &Path, inside: &Path) -> Step {
        let inside = self.inside(inside);
        if host.is_dir() {
            make_directory(&inside)?;
        } else {
            self.parents(&inside)?;
            if !inside.exists() {
                fs::write(&inside, "").map_err(|e| format!("{}: {e}", inside.display()))?;
            }
        }
        bind(host, &inside)?;
        harden(&inside, true, false)
    }

    fn mount_dev(&self) -> Step {
        let dev = self.directory("/dev")?;
        tmpfs(&dev, "mode=755,size=64k")?;
        for device in DEVICES.iter().map(Path::new) {
            if !fs::metadata(device).is_ok_and(|m| m.file_type().is_char_device()) {
                continue;
            }
            let inside = self.inside(device);
            fs::write(&inside, "").map_err(|e| format!("{}: {e}", inside.display()))?;
            bind(device, &inside)?;
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "fd/0"),
            ("stdout", "fd/1"),
            ("stderr", "fd/2"),
            ("shm", "/tmp"),
        ] {
            symlink(target, dev.join(name)).map_err(|e| format!("/dev/{name}: {e}"))?;
        }
        harden_mount(&dev, true, true, false).map_err(|e| format!("/dev can't be made read-only: {e}"))
    }

    fn inside(&self, path: &Path) -> PathBuf {
        self.scratch.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn directory(&self, path: &str) -> Result<PathBuf, String> {
        let inside = self.inside(Path::new(path));
        // An image can't be written to any more: it must bring its mount points along.
        if !inside.is_dir() && self.image.is_some() {
            return Err(format!("the image lacks the directory {path}; make an empty one in it"));
        }
        make_directory(&inside)?;
        Ok(inside)
    }

    fn parents(&self, inside: &Path) -> Step {
        inside.parent().map_or(Ok(()), make_directory)
    }
}

fn make_directory(path: &Path) -> Step {
    fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn tmpfs(at: &Path, options: &str) -> Step {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = CString::new(options).map_err(|e| e.to_string())?;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options.as_c_str()))
        .map_err(|e| format!("a tmpfs can't be mounted on {}: {e}", at.display()))
}

fn bind(host: &Path, inside: &Path) -> Step {
    let none = None::<&str>;
    mount(Some(host), inside, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .map_err(|e| format!("{} can't be shown to the cell: {e}", host.display()))
}

fn harden(inside: &Path, read_only: bool, devices: bool) -> Step {
    harden_mount(inside, read_only, devices, true)
        .map_err(|e| format!("{} can't be hardened: {e}", inside.display()))
}
