//! Outlooks of a running engine: when metrics with a limit will be at it, by forecasts from days of the recorded past.
//!
//! They are made by a process of its own behind everything else ([`make`]), at the start and every few hours, and written beside the ledger. The engine takes up
//! what it finds there, also after a restart.

mod make;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use forefend_config::Config;
use forefend_domain::{CellId, Timestamp};
use forefend_predict::forecast::LimitForecast;
use serde::{Deserialize, Serialize};

pub(crate) use make::make;

/// Forecasts by cell.
pub(crate) type Forecasts = BTreeMap<CellId, Vec<LimitForecast>>;

/// Where they are, in the state directory.
const FILE: &str = "outlooks.json";
/// A larger file is not read.
const LARGEST: u64 = 256 << 20;
const VERSION: u32 = 1;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    v: u32,
    made: Timestamp,
    cells: Forecasts,
}

/// Makes and takes up outlooks.
pub(crate) struct Outlooks {
    config_file: PathBuf,
    settings: Settings,
    running: Option<Child>,
    /// When the next are made.
    due: Timestamp,
    /// Found when the engine started, and not taken up yet.
    found: Option<Forecasts>,
}

#[derive(Debug, Clone, PartialEq)]
struct Settings {
    state_dir: PathBuf,
    enabled: bool,
    every: std::time::Duration,
}

impl Settings {
    fn of(config: &Config) -> Self {
        let (forecast, history) = (&config.engine.forecast, &config.engine.history);
        Self {
            state_dir: config.engine.state_dir.clone(),
            enabled: forecast.enabled && history.enabled,
            every: forecast.every,
        }
    }
}

impl Outlooks {
    /// Takes up those of an earlier engine. What can't be read is told and made anew.
    pub(crate) fn open(config_file: PathBuf, config: &Config, now: Timestamp) -> Self {
        let settings = Settings::of(config);
        let found = settings.enabled.then(|| read_or_tell(&settings.state_dir));
        // Whoever starts again and again does not forecast again and again.
        let due = match &found {
            Some(OnDisk { made, .. }) if *made <= now && *made > Timestamp::default() => {
                *made + settings.every
            }
            _ => now,
        };
        Self { config_file, settings, running: None, due, found: found.map(|found| found.cells) }
    }

    /// Takes over a changed configuration.
    pub(crate) fn configure(&mut self, config: &Config) {
        let settings = Settings::of(config);
        if settings.enabled != self.settings.enabled {
            // Switched off, nothing is told any more.
            let found = settings.enabled.then(|| read_or_tell(&settings.state_dir).cells);
            self.found = Some(found.unwrap_or_default());
        }
        self.settings = settings;
    }

    /// Begins what is due, and gives what is new.
    pub(crate) fn step(&mut self, now: Timestamp) -> Option<Forecasts> {
        if let Some(found) = self.found.take() {
            return Some(found);
        }
        if let Some(child) = &mut self.running {
            match child.try_wait() {
                Ok(None) => return None,
                Ok(Some(status)) => {
                    let text = child
                        .stdout
                        .take()
                        .and_then(|out| std::io::read_to_string(out).ok())
                        .unwrap_or_default();
                    let said = text.lines().last().unwrap_or("forecasts ended and said nothing").to_owned();
                    self.running = None;
                    if status.success() {
                        tracing::info!("{said}");
                        return self.settings.enabled.then(|| read_or_tell(&self.settings.state_dir).cells);
                    }
                    tracing::warn!("no forecasts were made: {said}");
                }
                Err(error) => {
                    tracing::warn!(%error, "the process that makes forecasts can't be waited for");
                    self.running = None;
                }
            }
            return None;
        }
        if self.settings.enabled && now >= self.due {
            self.due = now + self.settings.every;
            match begin(&self.config_file) {
                Ok(child) => self.running = Some(child),
                Err(error) => tracing::warn!(%error, "forecasts can't be made"),
            }
        }
        None
    }
}

impl Drop for Outlooks {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // What it would have written is made again.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn begin(config_file: &Path) -> std::io::Result<Child> {
    let exe = std::env::current_exe()?;
    let told = |command: &mut Command| {
        command.arg("forecast").arg("--config").arg(config_file).arg("--for-engine");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn()
    };
    // Behind everything else: whoever serves comes first.
    told(Command::new("nice").arg("-n").arg("19").arg(&exe)).or_else(|_| told(&mut Command::new(&exe)))
}

fn read_or_tell(state_dir: &Path) -> OnDisk {
    read(state_dir).unwrap_or_else(|why| {
        tracing::warn!("forecasts that were made before are left out: {why}");
        OnDisk::default()
    })
}

/// Those that were made last; none, made at the beginning of time, where there is no such file.
fn read(state_dir: &Path) -> Result<OnDisk, String> {
    let path = state_dir.join(FILE);
    let wrong = |why: String| format!("{}: {why}; they are made anew", path.display());
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(OnDisk::default()),
        Err(error) => return Err(wrong(error.to_string())),
        Ok(found) if found.len() > LARGEST => return Err(wrong("it is larger than 256 MiB".to_owned())),
        Ok(_) => {}
    }
    let text = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
    let read: OnDisk = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    if read.v != VERSION {
        return Err(wrong(format!("it is of version {}, not {VERSION}", read.v)));
    }
    Ok(read)
}

fn write(state_dir: &Path, made: Timestamp, cells: Forecasts) -> std::io::Result<()> {
    let (path, beside) = (state_dir.join(FILE), state_dir.join("outlooks.new"));
    let text = serde_json::to_vec(&OnDisk { v: VERSION, made, cells }).map_err(std::io::Error::other)?;
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, &path)
}

#[cfg(test)]
mod tests;
