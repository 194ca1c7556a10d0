use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use forefend_domain::{CellId, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Judged, Landmark};
use crate::evaluate::survival::Followed;

/// Two models asked side by side, live: what each says of every cell at fixed instants, and, a horizon later, what became of it.
///
/// What a history may have leaked (a metric that was filled in afterwards) can't leak here: both speak before anything has happened.
/// Pure: time and outcomes are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The model that is tried beside the champion.
    pub other: String,
    /// The champion that it is held against: another champion is another trial.
    pub champion: String,
    /// Since when.
    pub since: Timestamp,
    horizon: Duration,
    every: Duration,
    asked: BTreeMap<CellId, Timestamp>,
    open: VecDeque<Open>,
    settled: VecDeque<Judged>,
    /// Failures seen, the newest of each cell: to tell a new one from one that goes on.
    failed: BTreeMap<CellId, Timestamp>,
}

/// What both said of a cell at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    /// P(fail within the horizon) as the champion says.
    pub champion: f64,
    /// As the other says.
    pub other: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    cell: CellId,
    service: ServiceId,
    at: Timestamp,
    champion: f64,
    other: f64,
}

/// Looks that are kept, settled ones and open ones; the oldest go first.
const MOST: usize = 100_000;

impl Trial {
    /// Begins one. Cells are asked about every `every`.
    #[must_use]
    pub fn new(
        champion: String,
        other: String,
        since: Timestamp,
        horizon: Duration,
        every: Duration,
    ) -> Self {
        Self {
            other,
            champion,
            since,
            horizon,
            every: every.max(Duration::from_millis(1)),
            asked: BTreeMap::new(),
            open: VecDeque::new(),
            settled: VecDeque::new(),
            failed: BTreeMap::new(),
        }
    }

    /// How far ahead both look.
    #[must_use]
    pub fn horizon(&self) -> Duration {
        self.horizon
    }

    /// The distance between two looks at a cell.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Whether it is time to ask both about a cell. Instants are fixed, not chosen by what happens.
    #[must_use]
    pub fn is_due(&self, cell: &CellId, at: Timestamp) -> bool {
        let turn =
            |at: Timestamp| at.unix_ms() / u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX).max(1);
        self.asked.get(cell).is_none_or(|last| turn(at) > turn(*last))
    }

    /// Notes what both said of a cell that is well and has its traffic.
    pub fn note(&mut self, cell: &CellId, service: &ServiceId, at: Timestamp, said: Said) {
        self.asked.insert(cell.clone(), at);
        if self.open.len() >= MOST {
            self.open.pop_front();
        }
        let (champion, other) = (said.champion, said.other);
        self.open.push_back(Open { cell: cell.clone(), service: service.clone(), at, champion, other });
    }

    /// A cell failed: of all that was said of it within a horizon before, it is now known what became of it. Told again, it changes
    /// nothing. `kind`: what sort of failure, if that is known.
    pub fn failed(&mut self, cell: &CellId, since: Timestamp, kind: &str) {
        if self.failed.get(cell).is_some_and(|known| since <= *known) {
            return;
        }
        self.failed.insert(cell.clone(), since);
        let block = format!("{cell}@{}", since.unix_ms());
        self.settle(|open| {
            if open.cell != *cell {
                return None;
            }
            let time_s = since.since(open.at).as_secs_f64();
            // Said after it began: that is no foresight, and tells nothing.
            Some(
                (since > open.at)
                    .then(|| (Followed { time_s, failed: true }, block.clone(), kind.to_owned())),
            )
        });
    }

    /// All of a cell's traffic began to move away: what would have become of it from then on is not known.
    pub fn emptied(&mut self, cell: &CellId, from: Timestamp) {
        let horizon = self.horizon;
        self.settle(|open| {
            (open.cell == *cell).then(|| {
                let time_s = from.since(open.at).as_secs_f64();
                (from > open.at).then(|| {
                    (Followed { time_s, failed: false }, quiet(&open.cell, open.at, horizon), String::new())
                })
            })
        });
    }

    /// Time has passed: what was said a horizon ago and was followed by nothing has come to nothing.
    pub fn pass(&mut self, now: Timestamp) {
        let horizon = self.horizon;
        self.settle(|open| {
            (open.at + horizon <= now).then(|| {
                let followed = Followed { time_s: now.since(open.at).as_secs_f64(), failed: false };
                Some((followed, quiet(&open.cell, open.at, horizon), String::new()))
            })
        });
    }

    /// What was said and is settled, oldest first.
    #[must_use]
    pub fn judged(&self) -> Vec<Judged> {
        self.settled.iter().cloned().collect()
    }

    /// How many looks are settled.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.settled.len()
    }

    /// `of`: `None` leaves a look open, `Some(None)` drops it.
    fn settle(&mut self, mut of: impl FnMut(&Open) -> Option<Option<(Followed, String, String)>>) {
        let mut left = VecDeque::with_capacity(self.open.len());
        for open in std::mem::take(&mut self.open) {
            match of(&open) {
                None => left.push_back(open),
                Some(None) => {}
                Some(Some((followed, block, kind))) => {
                    let Open { cell, service, at, champion, other } = open;
                    let mark = Landmark { cell, service, at, followed, block, kind, weight: 1.0 };
                    if self.settled.len() >= MOST {
                        self.settled.pop_front();
                    }
                    self.settled.push_back(Judged { mark, champion, challenger: other });
                }
            }
        }
        self.open = left;
    }
}

fn quiet(cell: &CellId, at: Timestamp, horizon: Duration) -> String {
    super::landmarks::quiet(cell, at, horizon)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1_000)
    }

    fn cell(name: &str) -> CellId {
        CellId::new(name).unwrap()
    }

    fn trial() -> Trial {
        let (horizon, every) = (Duration::from_secs(30), Duration::from_secs(5));
        Trial::new("m1".into(), "m2".into(), at(0), horizon, every)
    }

    fn ask(trial: &mut Trial, name: &str, s: u64) {
        let service = ServiceId::new("shop").unwrap();
        if trial.is_due(&cell(name), at(s)) {
            trial.note(&cell(name), &service, at(s), Said { champion: 0.1, other: 0.2 });
        }
    }

    fn settled(trial: &Trial) -> Vec<(u64, bool, f64)> {
        trial
            .judged()
            .iter()
            .map(|j| (j.mark.at.unix_ms() / 1_000, j.mark.followed.failed, j.mark.followed.time_s))
            .collect()
    }

    #[test]
    fn what_was_said_is_settled_by_what_came() {
        let mut trial = trial();
        for s in 1..=20 {
            ask(&mut trial, "a", s);
            ask(&mut trial, "b", s);
        }
        assert_eq!(trial.settled(), 0);
        trial.failed(&cell("a"), at(12), "leak");
        trial.failed(&cell("a"), at(12), "leak");
        // Asked at 1, 5, 10, 15 and 20; what was said at 15 and 20 came after it had begun.
        assert_eq!(settled(&trial), [(1, true, 11.0), (5, true, 7.0), (10, true, 2.0)]);
        assert_eq!(trial.judged()[0].mark.kind, "leak");
        trial.emptied(&cell("b"), at(11));
        assert_eq!(settled(&trial)[3..], [(1, false, 10.0), (5, false, 6.0), (10, false, 1.0)]);
        ask(&mut trial, "c", 30);
        trial.pass(at(59));
        assert_eq!(trial.settled(), 6);
        trial.pass(at(60));
        assert_eq!(settled(&trial)[6..], [(30, false, 30.0)]);
    }

    #[test]
    fn it_survives_being_written_down() {
        let mut trial = trial();
        ask(&mut trial, "a", 1);
        trial.failed(&cell("a"), at(12), "leak");
        ask(&mut trial, "a", 40);
        let text = serde_json::to_string(&trial).unwrap();
        assert_eq!(serde_json::from_str::<Trial>(&text).unwrap(), trial);
    }
}
