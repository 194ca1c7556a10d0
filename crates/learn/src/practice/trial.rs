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
/// Memory is bounded, however large the fleet and however long the trial: of too many cells a share is asked, of too many quiet stretches a
/// share is kept, chosen by their names alone, and what is left counts for what is not (Horvitz and Thompson 1952). No failure is dropped
/// for want of room before all quiet is.
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
    watched: BTreeMap<CellId, Watched>,
    settled: VecDeque<Judged>,
    /// Of so many cells one is asked.
    one_cell_of: u64,
    /// Of so many quiet stretches one is kept.
    one_quiet_of: u64,
    /// Looks settled since the beginning, those among them that were not kept.
    ever_settled: u64,
    /// When the next open look has come to its end.
    next: Option<Timestamp>,
}

/// What both said of a cell at an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Said {
    /// P(fail within the horizon) as the champion says.
    pub champion: f64,
    /// As the other says.
    pub other: f64,
    /// Whether the champion says that the cell holds more than any that stayed well.
    pub champion_exceeds: bool,
    /// Whether the other does.
    pub other_exceeds: bool,
}

/// One cell, and what is not yet known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watched {
    service: ServiceId,
    asked: Timestamp,
    /// Oldest first.
    open: VecDeque<Open>,
    /// Its newest failure: to tell a new one from one that goes on.
    failed: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    at: Timestamp,
    champion: f64,
    other: f64,
    #[serde(default)]
    champion_exceeds: bool,
    #[serde(default)]
    other_exceeds: bool,
    weight: f32,
}

/// Looks that are open at most, of all cells together.
const MOST_OPEN: u64 = 200_000;
/// Settled looks that are kept.
const MOST: usize = 50_000;

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
            watched: BTreeMap::new(),
            settled: VecDeque::new(),
            one_cell_of: 1,
            one_quiet_of: 1,
            ever_settled: 0,
            next: None,
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

    /// How many cells there are, of which some may be asked: of more than memory has room for, a share.
    pub fn fleet(&mut self, cells: usize) {
        let looks = (self.horizon.as_secs_f64() / self.every.as_secs_f64()).ceil().max(1.0) as u64;
        let needed = (cells as u64).saturating_mul(looks).div_ceil(MOST_OPEN).max(1);
        self.one_cell_of = needed.checked_next_power_of_two().unwrap_or(1 << 63);
        if self.watched.len() > 2 * cells {
            // Cells that are gone.
            self.watched.retain(|_, known| !known.open.is_empty());
        }
    }

    /// Whether it is time to ask both about a cell. Instants are fixed, not chosen by what happens.
    #[must_use]
    pub fn is_due(&self, cell: &CellId, at: Timestamp) -> bool {
        let turn =
            |at: Timestamp| at.unix_ms() / u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX).max(1);
        self.watched.get(cell).is_none_or(|known| turn(at) > turn(known.asked))
            && is_one_of(self.one_cell_of, cell.as_str())
    }

    /// Notes what both said of a cell that is well and has its traffic.
    pub fn note(&mut self, cell: &CellId, service: &ServiceId, at: Timestamp, said: Said) {
        let fresh = || Watched { service: service.clone(), asked: at, open: VecDeque::new(), failed: None };
        let known = self.watched.entry(cell.clone()).or_insert_with(fresh);
        known.asked = at;
        let Said { champion, other, champion_exceeds, other_exceeds } = said;
        let weight = self.one_cell_of as f32;
        known.open.push_back(Open { at, champion, other, champion_exceeds, other_exceeds, weight });
        let ends = at + self.horizon;
        self.next = Some(self.next.map_or(ends, |next| next.min(ends)));
    }

    /// A cell failed: of all that was said of it within a horizon before, it is now known what became of it. Told again, it changes
    /// nothing. `kind`: what sort of failure, if that is known.
    pub fn failed(&mut self, cell: &CellId, since: Timestamp, kind: &str) {
        let Some(known) = self.watched.get_mut(cell) else { return };
        if known.failed.is_some_and(|before| since <= before) {
            return;
        }
        known.failed = Some(since);
        let block = format!("{cell}@{}", since.unix_ms());
        self.end(cell, since, |_| (true, block.clone(), kind.to_owned()));
    }

    /// All of a cell's traffic began to move away: what would have become of it from then on is not known.
    pub fn emptied(&mut self, cell: &CellId, from: Timestamp) {
        if self.watched.get(cell).is_some_and(|known| !known.open.is_empty()) {
            let horizon = self.horizon;
            self.end(cell, from, |open| (false, quiet(cell, open.at, horizon), String::new()));
        }
    }

    /// Settles all that is open of a cell by what became of it at `end`. What was said after that is no foresight, and dropped.
    fn end(&mut self, cell: &CellId, end: Timestamp, of: impl Fn(&Open) -> (bool, String, String)) {
        let Some(known) = self.watched.get_mut(cell) else { return };
        let (service, open) = (known.service.clone(), std::mem::take(&mut known.open));
        for open in open.into_iter().filter(|open| open.at < end) {
            let (failed, block, kind) = of(&open);
            let followed = Followed { time_s: end.since(open.at).as_secs_f64(), failed };
            self.keep(judged(cell, &service, open, followed, block, kind));
        }
    }

    /// Time has passed: what was said a horizon ago and was followed by nothing has come to nothing.
    pub fn pass(&mut self, now: Timestamp) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let horizon = self.horizon;
        let mut ended = Vec::new();
        for (cell, known) in &mut self.watched {
            while let Some(open) = known.open.pop_front_if(|open| open.at + horizon <= now) {
                let followed = Followed { time_s: now.since(open.at).as_secs_f64(), failed: false };
                let block = quiet(cell, open.at, horizon);
                ended.push(judged(cell, &known.service, open, followed, block, String::new()));
            }
        }
        self.next = self.watched.values().filter_map(|known| Some(known.open.front()?.at + horizon)).min();
        ended.into_iter().for_each(|row| self.keep(row));
    }

    /// What was said and is settled, oldest first, as far as it is kept.
    #[must_use]
    pub fn judged(&self) -> Vec<Judged> {
        self.settled.iter().cloned().collect()
    }

    /// How many looks have been settled since the beginning.
    #[must_use]
    pub fn ever_settled(&self) -> u64 {
        self.ever_settled
    }

    fn keep(&mut self, mut row: Judged) {
        self.ever_settled += 1;
        if !row.mark.followed.failed {
            if !is_one_of(self.one_quiet_of, &row.mark.block) {
                return;
            }
            row.mark.weight *= self.one_quiet_of as f32;
        }
        self.settled.push_back(row);
        if self.settled.len() > MOST {
            self.thin();
        }
    }

    /// Half of all quiet stretches go, and what is left of them counts twice. Where failures alone are too many, the oldest go.
    fn thin(&mut self) {
        self.one_quiet_of = self.one_quiet_of.saturating_mul(2);
        let one_of = self.one_quiet_of;
        self.settled.retain_mut(|row| {
            if row.mark.followed.failed {
                return true;
            }
            row.mark.weight *= 2.0;
            is_one_of(one_of, &row.mark.block)
        });
        while self.settled.len() > MOST {
            self.settled.pop_front();
        }
    }
}

fn judged(
    cell: &CellId,
    service: &ServiceId,
    open: Open,
    followed: Followed,
    block: String,
    kind: String,
) -> Judged {
    let Open { at, champion, other, champion_exceeds, other_exceeds, weight } = open;
    let mark = Landmark {
        cell: cell.clone(),
        service: service.clone(),
        at,
        followed,
        block,
        kind,
        weight,
        after_failure: false,
    };
    Judged { mark, champion, challenger: other, champion_exceeds, challenger_exceeds: other_exceeds }
}

/// Whether a name is in the share `1 / n` of all names; `n` a power of two, so that each share holds all smaller ones. The same in every run.
fn is_one_of(n: u64, name: &str) -> bool {
    let hash = blake3::hash(name.as_bytes());
    let first = hash.as_bytes().first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first));
    n <= 1 || first & (n - 1) == 0
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
            trial.note(&cell(name), &service, at(s), Said { champion: 0.1, other: 0.2, ..Said::default() });
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
        assert_eq!(trial.ever_settled(), 0);
        trial.failed(&cell("a"), at(12), "leak");
        trial.failed(&cell("a"), at(12), "leak");
        // Asked at 1, 5, 10, 15 and 20; what was said at 15 and 20 came after it had begun.
        assert_eq!(settled(&trial), [(1, true, 11.0), (5, true, 7.0), (10, true, 2.0)]);
        assert_eq!(trial.judged()[0].mark.kind, "leak");
        trial.emptied(&cell("b"), at(11));
        assert_eq!(settled(&trial)[3..], [(1, false, 10.0), (5, false, 6.0), (10, false, 1.0)]);
        ask(&mut trial, "c", 30);
        trial.pass(at(59));
        assert_eq!(trial.ever_settled(), 6);
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

    #[test]
    fn a_trial_of_a_large_fleet_keeps_within_bounds_and_its_rates() {
        const CELLS: usize = 1_000;
        let mut trial = trial();
        let shop = ServiceId::new("shop").unwrap();
        let names: Vec<CellId> = (0..CELLS).map(|n| cell(&format!("c{n}"))).collect();
        let (mut said, mut failures) = (0_u32, 0_u32);
        for s in (0..1_500).step_by(5) {
            trial.fleet(CELLS);
            for (n, name) in names.iter().enumerate() {
                // One cell fails every five seconds; it is not asked in the half minute after.
                let failed = s / 5 % CELLS as u64 == n as u64;
                if failed {
                    trial.failed(name, at(s), "");
                    failures += 1;
                }
                if !failed && trial.is_due(name, at(s)) {
                    trial.note(name, &shop, at(s), Said { champion: 0.1, other: 0.2, ..Said::default() });
                    said += 1;
                }
            }
            trial.pass(at(s));
        }
        let judged = trial.judged();
        assert!(judged.len() <= MOST && judged.len() > MOST / 4, "{}", judged.len());
        let failed: Vec<_> = judged.iter().filter(|j| j.mark.followed.failed).collect();
        assert_eq!(
            failed.iter().map(|j| &j.mark.block).collect::<std::collections::BTreeSet<_>>().len(),
            failures as usize - 1
        );
        assert!(failed.iter().all(|j| (j.mark.weight - 1.0).abs() < 1e-6));
        // What is kept stands for all that was settled.
        let stands_for: f32 = judged.iter().map(|j| j.mark.weight).sum();
        let open = (CELLS * 6) as f32;
        assert!((stands_for / (said as f32 - open) - 1.0).abs() < 0.1, "{stands_for} of {said}");
    }

    #[test]
    fn of_too_many_cells_a_share_is_asked_that_counts_for_all() {
        let mut trial = trial();
        // Six looks a horizon.
        trial.fleet(100_000);
        let asked = (0..10_000).filter(|n| trial.is_due(&cell(&format!("c{n}")), at(1))).count();
        assert!((2_200..2_800).contains(&asked), "{asked} of 10000, a quarter is expected");
        let (name, shop) = (cell("any"), ServiceId::new("shop").unwrap());
        trial.note(&name, &shop, at(1), Said { champion: 0.1, other: 0.2, ..Said::default() });
        trial.pass(at(31));
        assert_eq!(trial.judged()[0].mark.weight, 4.0);
        trial.fleet(0);
        assert!(trial.watched.is_empty(), "a cell of which nothing was said any more is forgotten");
    }
}
