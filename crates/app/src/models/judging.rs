use std::{
    path::PathBuf,
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use forefend_learn::practice::{Judged, Trial, gate};

use super::{
    trials::{Role, Trier},
    view::TrialView,
};

/// Asks the gate of trials and writes them down, in a thread of its own: both take longer than a tick may.
pub(super) struct Judging {
    /// `None` only while it is being dropped.
    jobs: Option<mpsc::SyncSender<Job>>,
    verdicts: mpsc::Receiver<Judgement>,
    thread: Option<JoinHandle<()>>,
    under_way: usize,
    /// When the next may be asked for: judging takes a small share of a core at most.
    rests_until: Option<Instant>,
}

/// A trial as it stood at an instant, and what to do with it.
pub(super) struct Job {
    pub(super) trier: Trier,
    pub(super) trial: Trial,
    pub(super) papers: gate::Papers,
    pub(super) settings: gate::Settings,
    /// Where it is to be written down, too.
    pub(super) keep_in: Option<PathBuf>,
}

/// What came of it.
pub(super) struct Judgement {
    pub(super) trier: Trier,
    pub(super) view: TrialView,
    took: Duration,
}

/// Trials that wait: of one champion there are a shadow and a guard at most.
const WAITING: usize = 2;
/// Judging rests so many times as long as it took.
const REST: u32 = 20;
/// Guards look at what was said lately: a champion may be good for a year and then turn bad.
const LATELY: usize = 20_000;

impl Judging {
    pub(super) fn begin() -> Self {
        let (jobs, waiting) = mpsc::sync_channel::<Job>(WAITING);
        let (done, verdicts) = mpsc::channel();
        let work = move || {
            for job in waiting {
                let begun = Instant::now();
                let (trier, view) = (job.trier.clone(), judge(&job));
                let took = begun.elapsed();
                if let Some(folder) = &job.keep_in {
                    super::trials::keep(&job.trial, job.trier.role, folder);
                }
                if done.send(Judgement { trier, view, took }).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("models".to_owned()).spawn(work);
        let thread = thread.inspect_err(|error| tracing::error!(%error, "trials can't be judged")).ok();
        Self { jobs: Some(jobs), verdicts, thread, under_way: 0, rests_until: None }
    }

    /// Whether it would take another.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0 && self.rests_until.is_none_or(|until| Instant::now() >= until)
    }

    /// Gives it one to judge. Of more than it takes the rest is left for the next time.
    pub(super) fn ask(&mut self, job: Job) -> bool {
        let taken = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
        self.under_way += usize::from(taken);
        taken
    }

    /// What has been judged.
    pub(super) fn done(&mut self) -> Vec<Judgement> {
        let done: Vec<Judgement> = self.verdicts.try_iter().collect();
        self.under_way = self.under_way.saturating_sub(done.len());
        let took: Duration = done.iter().map(|judgement| judgement.took).sum();
        if !took.is_zero() {
            self.rests_until = Some(Instant::now() + took * REST);
        }
        done
    }

    /// Waits until everything asked for is judged.
    #[cfg(test)]
    pub(super) fn all_done(&mut self) -> Vec<Judgement> {
        self.rests_until = None;
        let done = (0..self.under_way).map_while(|_| self.verdicts.recv().ok()).collect();
        self.under_way = 0;
        done
    }
}

impl Drop for Judging {
    fn drop(&mut self) {
        // What it was given is judged and written down before it ends.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the gate says of a trial as it stands.
pub(super) fn judge(job: &Job) -> TrialView {
    let Job { trier: Trier { role, id }, trial, papers, settings, .. } = job;
    let rows = trial.judged();
    let lately = &rows[rows.len().saturating_sub(LATELY)..];
    TrialView {
        id: id.clone(),
        role: *role,
        against: trial.champion.clone(),
        since: trial.since,
        looks: rows.len(),
        verdict: gate::gate(&rows, papers, settings),
        speaks_against: match role {
            Role::Guard => gate::has_turned_bad(lately, settings),
            Role::Shadow => gate::has_turned_bad(&swapped(lately), settings),
        },
    }
}

/// The same, with who serves and who would like to in each other's place.
fn swapped(rows: &[Judged]) -> Vec<Judged> {
    let swap = |row: &Judged| Judged {
        mark: row.mark.clone(),
        champion: row.challenger,
        challenger: row.champion,
        champion_exceeds: row.challenger_exceeds,
        challenger_exceeds: row.champion_exceeds,
    };
    rows.iter().map(swap).collect()
}
