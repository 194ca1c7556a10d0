use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustix::process::Signal;

use super::{
    Actuator, InjectError, Prepared, Scene,
    groups::{Helped, helped},
    processes::ON_FROM,
};
use crate::{Undo, clock, helper::Work, proc::ProcessId};

struct Clock {
    path: PathBuf,
    by_ms: i64,
}

impl Actuator for Clock {
    fn set(&mut self, level: f64) -> io::Result<()> {
        clock::set_offset_ms(&self.path, (self.by_ms as f64 * level) as i64)
    }
}

pub(super) fn clock(scene: &Scene<'_>, by_ms: i64) -> Result<Prepared, InjectError> {
    let preloaded = "set `adjustable_clock: true` in its blueprint, or start it with the clock library in LD_PRELOAD and \
                     FOREFEND_CLOCK naming a clock file; programs without dynamic C library can't be skewed";
    let Some(path) = scene.target.clock.clone() else {
        return Err(scene.unsupported("the cell was not started with a clock file", preloaded));
    };
    let maps = fs::read_to_string(format!("/proc/{}/maps", scene.process.pid)).unwrap_or_default();
    if !maps.contains("forefend_clock") {
        return Err(scene.unsupported("the cell has not loaded the clock library", preloaded));
    }
    if clock::offset_ms(&path).map_err(|e| scene.failed(e))? != 0 {
        return Err(scene.unsupported("its clock is skewed already", "end the other fault first"));
    }
    Ok(Prepared { undo: vec![Undo::Clock { path: path.clone() }], actuator: Box::new(Clock { path, by_ms }) })
}

struct Certificate {
    path: PathBuf,
    /// Where the good one is kept meanwhile, and where the expired one is written first.
    saved: PathBuf,
    expired: String,
    reload: Option<ProcessId>,
    on: bool,
}

impl Actuator for Certificate {
    fn set(&mut self, level: f64) -> io::Result<()> {
        let on = level >= ON_FROM;
        if on == self.on {
            return Ok(());
        }
        if on {
            let good = fs::metadata(&self.path)?;
            fs::hard_link(&self.path, &self.saved)?;
            let new = self.saved.with_extension("new");
            fs::write(&new, &self.expired)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(good.mode() & 0o7777))?;
            chown(&new, Some(good.uid()), Some(good.gid()))?;
            // At once: who reads it meanwhile gets the one or the other.
            fs::rename(&new, &self.path)?;
        } else {
            fs::rename(&self.saved, &self.path)?;
        }
        self.on = on;
        if let Some(process) = self.reload {
            process.signal(Signal::HUP)?;
        }
        Ok(())
    }
}

pub(super) fn certificate(
    scene: &Scene<'_>,
    certificate: &Path,
    key: &Path,
    reload: bool,
) -> Result<Prepared, InjectError> {
    let path = scene.process.sees(certificate);
    let key = fs::read_to_string(scene.process.sees(key)).map_err(|e| scene.failed(e))?;
    if !path.is_file() {
        let why = format!("{} is no file", path.display());
        return Err(scene.unsupported(why, "name the certificate as the cell sees it"));
    }
    let expired = expired(&key).map_err(|e| {
        scene.unsupported(
            format!("its key can't be used: {e}"),
            "name the key, in PEM, that belongs to the certificate",
        )
    })?;
    // Beside it, so that renaming never crosses a file system; by the host's path, which outlives the process.
    let path = fs::canonicalize(&path).unwrap_or(path);
    let saved = path.with_file_name(format!(".forefend-{}", scene.lease));
    // Undone in reverse: put back, then told to read it.
    let mut undo = Vec::new();
    let reload = reload.then_some(scene.process);
    undo.extend(reload.map(|process| Undo::HangUp { process }));
    undo.push(Undo::Restore { path: path.clone(), saved: saved.clone() });
    undo.push(Undo::Remove { path: saved.with_extension("new") });
    Ok(Prepared { undo, actuator: Box::new(Certificate { path, saved, expired, reload, on: false }) })
}

/// A certificate of this key that ended yesterday.
fn expired(key: &str) -> Result<String, rcgen::Error> {
    let key = KeyPair::from_pem(key)?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "expired by a fault of Forefend");
    let day = Duration::from_secs(24 * 60 * 60);
    params.not_before = (SystemTime::now() - 30 * day).into();
    params.not_after = (SystemTime::now() - day).into();
    Ok(params.self_signed(&key)?.pem())
}

pub(super) fn storm(
    scene: &Scene<'_>,
    path: Option<PathBuf>,
    lines_per_s: u32,
    line: String,
) -> Result<Prepared, InjectError> {
    let path = match path {
        Some(inside) => scene.process.sees(&inside),
        None => scene
            .target
            .log
            .clone()
            .ok_or_else(|| scene.unsupported("the cell's log is not known", "name a `path`"))?,
    };
    if !path.is_file() {
        let why = format!("{} is no file", path.display());
        return Err(scene.unsupported(why, "name a log that exists"));
    }
    let (end, helper) = helped(scene, &Work::Storm { path, lines_per_s, line }, Duration::ZERO)?;
    Ok(Prepared { undo: vec![end], actuator: Box::new(Helped { helper, before: Box::new(|| Ok(())) }) })
}
