use std::{
    collections::BTreeSet,
    ffi::OsString,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use forefend_domain::{CellId, Timestamp};
use forefend_store::LedgerReader;

use super::{
    Fate, Places,
    outcomes::{next_night, write_all},
};

/// Begins trainings when it is time, each as a process of its own behind everything else, and tells how they ended.
pub(super) struct Trainer {
    night: Option<Timestamp>,
    /// A training that is due after a failure, or was asked for.
    due: Option<Timestamp>,
    failed: BTreeSet<CellId>,
    running: Option<Running>,
    last: String,
    /// When the last one began, as far as the distance between two counts: somebody who asks for one does not wait.
    begun: Timestamp,
    /// When the one under way began.
    started: Timestamp,
}

enum Running {
    /// What became of cells is being gathered.
    Gathering(mpsc::Receiver<Result<Child, String>>),
    Training(Child),
}

/// A training that takes longer is ended: the next night's would have to wait for it.
const LONGEST: Duration = Duration::from_secs(6 * 3_600);
/// Trainings after failures are at least so far apart: ten failures in a minute are one event.
const APART: Duration = Duration::from_secs(60);

impl Trainer {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            night: None,
            due: None,
            failed: BTreeSet::new(),
            running: None,
            last: "nothing was trained since the engine started".to_owned(),
            begun: now,
            started: now,
        }
    }

    /// Now, or as soon as the one that is under way has ended.
    pub(super) fn now(&mut self, now: Timestamp) {
        self.due = Some(now);
        self.begun = Timestamp::from_unix_ms(0);
    }

    /// At this time, unless one is due sooner.
    pub(super) fn soon(&mut self, at: Timestamp) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Notes new failures.
    pub(super) fn failures(&mut self, now: Timestamp, fates: &[Fate], after: Duration) {
        if self.failed.len() > fates.len() {
            let known: BTreeSet<&CellId> = fates.iter().map(|fate| &fate.cell).collect();
            self.failed.retain(|cell| known.contains(cell));
        }
        for fate in fates {
            if fate.failed.is_some() && self.failed.insert(fate.cell.clone()) {
                self.soon(now + after);
            } else if fate.is_well {
                self.failed.remove(&fate.cell);
            }
        }
    }

    /// Notes that a night has come.
    pub(super) fn night(&mut self, now: Timestamp, hour: u32) {
        match self.night {
            Some(night) if now >= night => {
                self.soon(now);
                self.night = Some(next_night(now, hour));
            }
            None => self.night = Some(next_night(now, hour)),
            Some(_) => {}
        }
    }

    pub(super) fn words(&self) -> String {
        match (&self.running, self.due) {
            (Some(_), _) => format!("a training is under way; before it: {}", self.last),
            (None, Some(due)) => format!("{}; the next begins at {} ms since 1970", self.last, due.unix_ms()),
            (None, None) => self.last.clone(),
        }
    }

    /// Begins what is due, and tells what has ended.
    pub(super) fn step(&mut self, now: Timestamp, places: &Places, ledger: &LedgerReader) -> Option<String> {
        if let Some(running) = self.running.take() {
            let (running, told) = go_on(running, now.since(self.started) >= LONGEST);
            self.running = running;
            if let Some(told) = told {
                self.last.clone_from(&told);
                return Some(told);
            }
            return None;
        }
        let due = self.due.is_some_and(|due| due <= now) && now.since(self.begun) >= APART;
        if !due {
            return None;
        }
        (self.due, self.begun, self.started) = (None, now, now);
        let (sender, receiver) = mpsc::channel();
        let (places, ledger) = (places.clone(), ledger.clone());
        // The ledger may be long; the loop does not wait for it.
        std::thread::spawn(move || {
            let _ = sender.send(begin(&places, &ledger));
        });
        self.running = Some(Running::Gathering(receiver));
        None
    }
}

fn go_on(running: Running, too_long: bool) -> (Option<Running>, Option<String>) {
    match running {
        Running::Gathering(receiver) => match receiver.try_recv() {
            Ok(Ok(child)) => (Some(Running::Training(child)), None),
            Ok(Err(why)) => (None, Some(format!("a training could not begin: {why}"))),
            Err(mpsc::TryRecvError::Empty) => (Some(Running::Gathering(receiver)), None),
            Err(mpsc::TryRecvError::Disconnected) => (None, Some("a training could not begin".to_owned())),
        },
        Running::Training(mut child) => match child.try_wait() {
            Ok(None) if too_long => {
                let _ = child.kill();
                let _ = child.wait();
                let hours = LONGEST.as_secs() / 3_600;
                (
                    None,
                    Some(format!("a training took more than {hours} h and was ended; who served still does")),
                )
            }
            Ok(None) => (Some(Running::Training(child)), None),
            Ok(Some(_)) => {
                let text =
                    child.stdout.take().and_then(|out| std::io::read_to_string(out).ok()).unwrap_or_default();
                let said = text.lines().last().unwrap_or("a training ended and said nothing").to_owned();
                (None, Some(said))
            }
            Err(error) => (None, Some(format!("a training can't be waited for: {error}"))),
        },
    }
}

fn begin(places: &Places, ledger: &LedgerReader) -> Result<Child, String> {
    if !super::exists(&places.history()) {
        return Err(format!(
            "{} is not there: nothing is recorded; turn `engine.history` on",
            places.history().display()
        ));
    }
    let outcomes = places.models().join("outcomes.json");
    write_all(&places.state_dir, ledger, &outcomes)?;
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let arguments: [OsString; 8] = [
        "train".into(),
        "--config".into(),
        places.config.clone().into(),
        "--history".into(),
        places.history().into(),
        "--outcomes".into(),
        outcomes.into(),
        "--one-line".into(),
    ];
    // Behind everything else: whoever serves comes first.
    let mut command = Command::new("nice");
    command.arg("-n").arg("19").arg(&exe).args(&arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
        .spawn()
        .or_else(|_| {
            let mut plain = Command::new(&exe);
            plain.args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            plain.spawn()
        })
        .map_err(|e| format!("{}: {e}", exe.display()))
}

impl Drop for Trainer {
    fn drop(&mut self) {
        if let Some(Running::Training(child)) = &mut self.running {
            // What it would have written is trained again.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
