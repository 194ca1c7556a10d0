use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use forefend_domain::{OperatingCurve, Timestamp};
use forefend_predict::learned::Model;
use serde::{Deserialize, Serialize};

use super::{
    Fingerprint, Spread,
    gate::Verdict,
    ladder::{Climbed, LeftOut, Rung, TriedBeyond},
};
use crate::{evaluate::reliability::Bin, levels::Intervals, lstm::TrainedOn};

/// How good a model was on what it had not learned from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Events that were judged.
    pub events: usize,
    /// Looks that were judged.
    pub looks: usize,
    /// Brier score within the horizon; 0 is perfect.
    pub brier: Option<f64>,
    /// The share of the Brier score of the base rate that is saved.
    pub skill: Option<f64>,
    /// Area under the ROC curve within the horizon.
    pub auc: Option<f64>,
    /// Slope of Cox's recalibration; 1 is calibrated.
    pub slope: Option<f64>,
    /// Failures seen over failures expected among the riskiest 5% of looks; 1 is calibrated.
    pub top: Option<f64>,
}

/// What is known of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Its name: a number and the beginning of the model's hash.
    pub id: String,
    /// When it was made.
    pub made: Timestamp,
    /// How far ahead it looks, in seconds.
    pub horizon_s: f64,
    /// Its rung of the ladder.
    pub rung: Rung,
    /// How each rung did.
    pub ladder: Vec<Climbed>,
    /// Rungs that were not tried, and why.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// What it learned from.
    pub data: Fingerprint,
    /// How it did on what it had not learned from.
    pub scores: Scores,
    /// The reliability curve there.
    pub reliability: Vec<Bin>,
    /// What the gate said of it on the history.
    pub gate: Verdict,
    /// What acting from each probability on would have cost and brought there.
    #[serde(default)]
    pub operating: OperatingCurve,
    /// How features were spread over what it learned from.
    pub spread: Spread,
    /// How its intervals of the time to failure hold, on failures that were held out; `None`: it tells those of the first day.
    #[serde(default)]
    pub intervals: Option<Intervals>,
    /// The same of suspects, about whom a memory is asked; `None`: none serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspects: Option<Intervals>,
    /// What came of asking what cells that stayed well never held; `None`: nobody that held more was seen to fail.
    #[serde(default)]
    pub beyond: Option<TriedBeyond>,
    /// Where its networks learned, those that were only tried too.
    #[serde(default)]
    pub trained_on: Vec<TrainedOn>,
}

impl Card {
    /// How far ahead the model looks.
    #[must_use]
    pub fn reach(&self) -> Duration {
        Duration::try_from_secs_f64(self.horizon_s).unwrap_or_default()
    }
}

/// A model with its card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// What is known of it.
    pub card: Card,
    /// It.
    pub model: Model,
}

/// What a model is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It serves.
    Champion,
    /// It is asked beside the champion, and nobody acts on what it says.
    Shadow,
    /// It served before, and would again after a rollback.
    Predecessor,
    /// The gate said no.
    Refused,
    /// It served, and another took its place.
    Retired,
}

/// Who serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The version of this format.
    pub v: u32,
    /// The model that serves; `None`: that of the first day.
    #[serde(default)]
    pub champion: Option<String>,
    /// Champions before it, the newest last; `None`: that of the first day.
    #[serde(default)]
    pub before: Vec<Option<String>>,
    /// The model in the shadow.
    #[serde(default)]
    pub shadow: Option<String>,
    /// Models that were refused or rolled back, and why.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
}

/// The version of the files.
const VERSION: u32 = 1;
/// Champions that are remembered for a rollback.
const REMEMBERED: usize = 8;
/// How long the lock is waited for. What is done under it takes milliseconds.
const LOCKED_FOR: Duration = Duration::from_millis(500);
/// Models that are kept; the oldest that do nothing go first.
const KEPT: usize = 20;

/// What can go wrong with models on disk.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file can't be read or written.
    #[error("{path}: {why}")]
    Io {
        /// Which.
        path: PathBuf,
        /// In words.
        why: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged: {why}; move it away, and train again or promote another model")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// In words.
        why: String,
    },
    /// Somebody else changes the registry and does not come to an end.
    #[error("{0} is held by another process; end the `forefend train` that hangs, and try again")]
    Busy(PathBuf),
    /// There is no such model.
    #[error("there is no model `{0}`; `forefend models list` shows those there are")]
    Unknown(String),
    /// A model can't serve.
    #[error("model `{id}` can't serve: {why}")]
    Unfit {
        /// Which.
        id: String,
        /// In words.
        why: String,
    },
    /// There is nothing to go back to.
    #[error("no model served before the one that serves now: there is nothing to go back to")]
    NothingBefore,
}

/// Models on disk: a file each, and one that says who serves. Every file is written beside its place and then moved there, so a kill leaves the old
/// one or the new one. Who changes the state holds a lock.
#[derive(Debug, Clone)]
pub struct Registry {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    v: u32,
    /// BLAKE3 of `body`, as hex.
    hash: String,
    /// A [`Stored`] as JSON text, so that the hash is of exactly these bytes.
    body: String,
}

impl Registry {
    /// In this folder, which is made if it isn't there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(folder: &Path) -> Result<Self, RegistryError> {
        std::fs::create_dir_all(folder).map_err(|why| RegistryError::Io { path: folder.to_owned(), why })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Who serves.
    ///
    /// # Errors
    /// When the file can't be read or is damaged.
    pub fn state(&self) -> Result<State, RegistryError> {
        let path = self.folder.join("state.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(State { v: VERSION, ..State::default() });
            }
            Err(why) => return Err(RegistryError::Io { path, why }),
        };
        let state: State = serde_json::from_slice(&bytes)
            .map_err(|e| RegistryError::Damaged { path: path.clone(), why: e.to_string() })?;
        if state.v != VERSION {
            let why = format!("it has version {}, this program reads version {VERSION}", state.v);
            return Err(RegistryError::Damaged { path, why });
        }
        Ok(state)
    }

    /// The cards of all models, oldest first. A damaged file is an error of its own beside the others.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn list(&self) -> Result<(Vec<Card>, Vec<RegistryError>), RegistryError> {
        let (mut cards, mut damaged) = (Vec::new(), Vec::new());
        for id in self.ids()? {
            match self.load(&id) {
                Ok(stored) => cards.push(stored.card),
                Err(error) => damaged.push(error),
            }
        }
        cards.sort_by_key(|card: &Card| card.made);
        Ok((cards, damaged))
    }

    /// The names of all models, oldest first.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn ids(&self) -> Result<Vec<String>, RegistryError> {
        let io = |why| RegistryError::Io { path: self.folder.clone(), why };
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let id = name.to_str().and_then(|n| n.strip_suffix(".model.json"));
            ids.extend(id.filter(|id| is_id(id)).map(str::to_owned));
        }
        ids.sort_by_key(|id| number(id));
        Ok(ids)
    }

    /// A model.
    ///
    /// # Errors
    /// When there is none of that name, or its file can't be read or is damaged.
    pub fn load(&self, id: &str) -> Result<Stored, RegistryError> {
        if !is_id(id) {
            return Err(RegistryError::Unknown(id.to_owned()));
        }
        let path = self.path(id);
        let bytes = std::fs::read(&path).map_err(|why| match why.kind() {
            std::io::ErrorKind::NotFound => RegistryError::Unknown(id.to_owned()),
            _ => RegistryError::Io { path: path.clone(), why },
        })?;
        let damaged = |why: String| RegistryError::Damaged { path: path.clone(), why };
        let on_disk: OnDisk = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if on_disk.v != VERSION {
            return Err(damaged(format!(
                "it has version {}, this program reads version {VERSION}",
                on_disk.v
            )));
        }
        if blake3::hash(on_disk.body.as_bytes()).to_hex().as_str() != on_disk.hash {
            return Err(damaged("its content is not what its hash says".to_owned()));
        }
        let stored: Stored = serde_json::from_str(&on_disk.body).map_err(|e| damaged(e.to_string()))?;
        if stored.card.id != id {
            return Err(damaged(format!("it is the file of model `{}`", stored.card.id)));
        }
        Ok(stored)
    }

    /// Keeps a model and gives it its name; `card.id` is not looked at. Old models that do nothing make room.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add(&self, mut card: Card, model: Model) -> Result<String, RegistryError> {
        let _lock = self.lock()?;
        let next = self.ids()?.iter().map(|id| number(id)).max().unwrap_or(0) + 1;
        let text = |value: serde_json::Result<String>| {
            value.map_err(|e| RegistryError::Damaged { path: self.folder.clone(), why: e.to_string() })
        };
        let of_model = text(serde_json::to_string(&model))?;
        let hash = blake3::hash(of_model.as_bytes()).to_hex();
        card.id = format!("m{next}-{}", &hash.as_str()[..8]);
        let id = card.id.clone();
        let body = text(serde_json::to_string(&Stored { card, model }))?;
        let hash = blake3::hash(body.as_bytes()).to_hex().to_string();
        let file = text(serde_json::to_string(&OnDisk { v: VERSION, hash, body }))?;
        write_whole(&self.path(&id), file.as_bytes())?;
        self.make_room()?;
        Ok(id)
    }

    /// Puts a model into the shadow, in the place of the one that is there.
    ///
    /// # Errors
    /// When there is no such model, or it can't serve.
    pub fn shadow(&self, id: &str) -> Result<State, RegistryError> {
        self.fit(id)?;
        self.change(|state| {
            state.shadow = Some(id.to_owned());
            Ok(())
        })
    }

    /// Lets a model serve. The one that served is remembered.
    ///
    /// # Errors
    /// When there is no such model, or it can't serve.
    pub fn promote(&self, id: &str) -> Result<State, RegistryError> {
        self.fit(id)?;
        self.change(|state| {
            if state.champion.as_deref() != Some(id) {
                let before = state.champion.replace(id.to_owned());
                state.before.push(before);
                let surplus = state.before.len().saturating_sub(REMEMBERED);
                state.before.drain(..surplus);
            }
            state.shadow = state.shadow.take().filter(|shadow| shadow != id);
            state.refused.remove(id);
            Ok(())
        })
    }

    /// Notes that a model was refused, and why. It leaves the shadow.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn refuse(&self, id: &str, why: &str) -> Result<State, RegistryError> {
        self.change(|state| {
            state.shadow = state.shadow.take().filter(|shadow| shadow != id);
            state.refused.insert(id.to_owned(), why.to_owned());
            Ok(())
        })
    }

    /// Lets the one serve again that served before.
    ///
    /// # Errors
    /// When none served before, or it can't serve any more.
    pub fn rollback(&self, why: &str) -> Result<State, RegistryError> {
        if let Some(Some(before)) = self.state()?.before.last() {
            self.fit(before)?;
        }
        self.change(|state| {
            let before = state.before.pop().ok_or(RegistryError::NothingBefore)?;
            if let Some(bad) = std::mem::replace(&mut state.champion, before) {
                state.refused.insert(bad, why.to_owned());
            }
            Ok(())
        })
    }

    /// What a model is doing.
    #[must_use]
    pub fn status(state: &State, id: &str) -> Option<Status> {
        let is = |of: &Option<String>| of.as_deref() == Some(id);
        if is(&state.champion) {
            Some(Status::Champion)
        } else if is(&state.shadow) {
            Some(Status::Shadow)
        } else if state.refused.contains_key(id) {
            Some(Status::Refused)
        } else if state.before.last().is_some_and(is) {
            Some(Status::Predecessor)
        } else if state.before.iter().any(is) {
            Some(Status::Retired)
        } else {
            None
        }
    }

    fn fit(&self, id: &str) -> Result<(), RegistryError> {
        let unknown = self.load(id)?.model.unknown_features();
        if unknown.is_empty() {
            return Ok(());
        }
        let why = format!(
            "this version can't compute {} of its features, among them {}; train it again",
            unknown.len(),
            unknown[0]
        );
        Err(RegistryError::Unfit { id: id.to_owned(), why })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut State) -> Result<(), RegistryError>,
    ) -> Result<State, RegistryError> {
        let _lock = self.lock()?;
        let mut state = self.state()?;
        change(&mut state)?;
        let path = self.folder.join("state.json");
        let text = serde_json::to_vec_pretty(&state)
            .map_err(|e| RegistryError::Damaged { path: path.clone(), why: e.to_string() })?;
        write_whole(&path, &text)?;
        Ok(state)
    }

    /// Waits for it no longer than [`LOCKED_FOR`]: whoever holds it may have been stopped, and the engine's loop must not stand still with them.
    fn lock(&self) -> Result<File, RegistryError> {
        let path = self.folder.join("lock");
        let io = |why| RegistryError::Io { path: path.clone(), why };
        let file = File::create(&path).map_err(io)?;
        let deadline = Instant::now() + LOCKED_FOR;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return Err(RegistryError::Busy(path)),
                Err(TryLockError::Error(why)) => return Err(io(why)),
            }
        }
    }

    fn make_room(&self) -> Result<(), RegistryError> {
        let (ids, state) = (self.ids()?, self.state()?);
        let idle: Vec<&String> = ids
            .iter()
            .filter(|id| {
                !matches!(
                    Self::status(&state, id),
                    Some(Status::Champion | Status::Shadow | Status::Predecessor)
                )
            })
            .collect();
        for id in idle.iter().take(ids.len().saturating_sub(KEPT)) {
            let path = self.path(id);
            std::fs::remove_file(&path).map_err(|why| RegistryError::Io { path, why })?;
        }
        Ok(())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.model.json"))
    }
}

/// `m12-0a1b2c3d`: nothing that leads out of the folder.
fn is_id(id: &str) -> bool {
    let parts = id.strip_prefix('m').and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(number, hash)| {
        !number.is_empty()
            && number.len() <= 9
            && number.bytes().all(|b| b.is_ascii_digit())
            && hash.len() == 8
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn number(id: &str) -> u64 {
    id.strip_prefix('m').and_then(|rest| rest.split_once('-')).and_then(|(n, _)| n.parse().ok()).unwrap_or(0)
}

/// Written beside its place, made durable, and moved there.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|why| RegistryError::Io { path: path.to_owned(), why })
}
