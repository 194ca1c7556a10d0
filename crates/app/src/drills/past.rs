//! What is kept of runs in `drills/` of the state directory: reports, labels, which runs there were.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use forefend_chaos::{
    drill::Report,
    label::{self, Label},
    run::OtherRun,
};
use forefend_domain::{ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

/// Runs of which is known; the oldest are forgotten, their reports stay.
const MOST_RUNS: usize = 1_000;

/// A run that has begun, for those that come after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PastRun {
    /// Its id.
    pub(crate) id: String,
    /// The experiment.
    pub(crate) experiment: String,
    /// Which service it was done to.
    pub(crate) service: ServiceId,
    /// When it was begun.
    pub(crate) began: Timestamp,
    /// When it was over; `None`: it goes on.
    pub(crate) ended: Option<Timestamp>,
    /// How, in a word or two.
    pub(crate) outcome: String,
    /// Whether it got so far as to do anything.
    pub(crate) did: bool,
}

/// What `runs.json` holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    runs: Vec<PastRun>,
    /// Since when the schedule of an experiment is in force.
    scheduled: BTreeMap<String, Timestamp>,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Archive {
    dir: PathBuf,
    known: Known,
}

impl Archive {
    /// Opens it. Runs that were going on when the engine ended are over now.
    pub(super) fn open(dir: &Path, now: Timestamp) -> io::Result<Self> {
        fs::create_dir_all(dir.join("reports"))?;
        let mut known: Known = match fs::read(dir.join("runs.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                let path = dir.join("runs.json");
                io::Error::other(format!(
                    "{} is not understood ({e}): move it away to begin anew",
                    path.display()
                ))
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Known::default(),
            Err(e) => return Err(e),
        };
        for run in known.runs.iter_mut().filter(|run| run.ended.is_none()) {
            run.ended = Some(now);
            run.outcome =
                "interrupted: the engine ended; faults were undone and traffic goes home".to_owned();
        }
        Ok(Self { dir: dir.to_owned(), known })
    }

    /// Notes that a run began, goes on or ended, by its id.
    pub(super) fn note(&mut self, run: PastRun) -> io::Result<()> {
        let runs = &mut self.known.runs;
        runs.retain(|known| known.id != run.id);
        runs.push(run);
        runs.drain(..runs.len().saturating_sub(MOST_RUNS));
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        replace(&self.dir.join("runs.json"), &serde_json::to_vec(&self.known)?)
    }

    /// Every run that is known, oldest first.
    pub(super) fn runs(&self) -> &[PastRun] {
        &self.known.runs
    }

    /// Since when the schedule of an experiment is in force: outlives the engine, or one that is restarted often would never
    /// come to a run that is due every few months.
    pub(super) fn in_force_since(&mut self, experiment: &str, now: Timestamp) -> io::Result<Timestamp> {
        if let Some(since) = self.known.scheduled.get(experiment) {
            return Ok(*since);
        }
        self.known.scheduled.insert(experiment.to_owned(), now);
        self.write()?;
        Ok(now)
    }

    /// Writes a report, for people and for programs.
    pub(super) fn report(&self, report: &Report) -> io::Result<()> {
        let reports = self.dir.join("reports");
        replace(&reports.join(format!("{}.json", report.id)), &serde_json::to_vec_pretty(report)?)?;
        replace(&reports.join(format!("{}.md", report.id)), report.markdown().as_bytes())
    }

    /// A report that was written, as Markdown.
    pub(super) fn reported(&self, id: &str) -> io::Result<String> {
        // Ids are ours; whoever asks may name anything.
        if !self.runs().iter().any(|run| run.id == id) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no run `{id}`")));
        }
        fs::read_to_string(self.dir.join("reports").join(format!("{id}.md")))
    }

    /// Appends labels, for training.
    pub(super) fn label(&self, labels: &[Label]) -> io::Result<()> {
        if labels.is_empty() {
            return Ok(());
        }
        let lines: Result<String, _> = labels.iter().map(label::write).collect();
        let lines = lines.map_err(io::Error::other)?;
        let mut file = File::options().create(true).append(true).open(self.dir.join("labels.jsonl"))?;
        file.write_all(lines.as_bytes())?;
        file.sync_data()
    }

    /// Other runs, as a run's guard rails see them. One that was refused did nothing and holds nobody up.
    pub(super) fn others(&self, except: &str) -> Vec<OtherRun> {
        let others = self.runs().iter().filter(|run| run.id != except && (run.did || run.ended.is_none()));
        others
            .map(|run| OtherRun {
                id: run.id.clone(),
                service: run.service.clone(),
                began: run.began,
                ended: run.ended,
            })
            .collect()
    }
}

/// Replaces a file at once: a reader sees the old or the new content, whoever is killed when.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.to_owned();
    new.as_mut_os_string().push(".new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(new, path)
}
