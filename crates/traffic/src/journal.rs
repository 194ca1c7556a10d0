//! The journal: the last configuration that was applied and where every user was, so that a director that starts
//! anew serves at once, each user where they were, with nobody else running.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use forefend_domain::ServiceId;
use serde::{Deserialize, Serialize};

use crate::{table::StoredPlacement, validate, wire::DirectorConfig};

const NAME: &str = "journal.json";
const FORMAT: u32 = 1;

/// What the journal holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    format: u32,
    pub(crate) config: DirectorConfig,
    pub(crate) placements: BTreeMap<ServiceId, StoredPlacement>,
}

impl Journal {
    pub(crate) fn new(config: DirectorConfig, placements: BTreeMap<ServiceId, StoredPlacement>) -> Self {
        Self { format: FORMAT, config, placements }
    }

    /// Writes it so that after any crash either the old or the new one is there whole.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let temporary = dir.join(format!("{NAME}.tmp"));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(NAME))?;
        File::open(dir)?.sync_all()
    }

    /// Reads it; `None` when there is none. One that can't be used is moved aside and named in the log.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let parsed =
            serde_json::from_slice::<Self>(&text).map_err(|error| error.to_string()).and_then(|journal| {
                if journal.format != FORMAT {
                    return Err(format!("its format is {}, this director reads {FORMAT}", journal.format));
                }
                validate::check(&journal.config).map(|()| journal)
            });
        match parsed {
            Ok(journal) => Ok(Some(journal)),
            Err(why) => {
                set_aside(dir, &why)?;
                Ok(None)
            }
        }
    }
}

/// Moves a journal that can't be used out of the way, and says so.
pub(crate) fn set_aside(dir: &Path, why: &str) -> io::Result<PathBuf> {
    let aside = dir.join(format!("{NAME}.unusable"));
    fs::rename(dir.join(NAME), &aside)?;
    tracing::error!(
        journal = %dir.join(NAME).display(), moved_to = %aside.display(), why,
        "the journal can't be used: the director serves nothing until the engine connects"
    );
    Ok(aside)
}
