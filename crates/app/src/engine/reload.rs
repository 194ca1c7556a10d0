//! Takes over a changed configuration file while running.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use forefend_config::Config;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches one file by its content: editors replace files, move them and touch them, and only what is in it counts.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    seen: blake3::Hash,
    looked_at: Instant,
}

/// What became of a look.
#[derive(Debug)]
pub(crate) enum Look {
    /// The same as before.
    Same,
    /// A new configuration that can be taken over.
    Changed(Box<Config>),
    /// Changed, and wrong: the old one stays.
    Wrong(String),
}

impl Watched {
    pub(crate) fn new(path: PathBuf) -> Self {
        let seen = std::fs::read(&path).map_or_else(|_| blake3::hash(&[]), |bytes| blake3::hash(&bytes));
        Self { path, seen, looked_at: Instant::now() }
    }

    pub(crate) fn look(&mut self) -> Look {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return Look::Same;
        }
        self.looked_at = Instant::now();
        // A file that is gone for a moment while an editor replaces it is no change.
        let Ok(bytes) = std::fs::read(&self.path) else { return Look::Same };
        let hash = blake3::hash(&bytes);
        if hash == self.seen {
            return Look::Same;
        }
        self.seen = hash;
        match forefend_config::load(&self.path) {
            Ok(config) => Look::Changed(Box::new(config)),
            Err(errors) => Look::Wrong(errors.to_string()),
        }
    }
}
