use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{CellId, EntryKind, LedgerEntry, Timestamp};
use forefend_telemetry::history::{Incident, IncidentSource};
use serde::{Deserialize, Serialize};

/// A time in which a cell had none of its traffic, so that a failure that did not come says nothing (it is censored).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// Which cell.
    pub cell: CellId,
    /// When its traffic began to move.
    pub from: Timestamp,
    /// When all of it was back; `None`: it has not come back yet.
    pub until: Option<Timestamp>,
}

/// What became of cells, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcomes {
    /// Failures, ordered by cell and time.
    pub incidents: Vec<Incident>,
    /// Times in which a cell's fate could not be seen, ordered likewise.
    pub away: Vec<Away>,
}

/// Failures of one cell that begin within so long of each other are told twice: by the cell's objective and by who caused or noticed it.
const ONE_AND_THE_SAME: Duration = Duration::from_secs(60);

/// The kind of failure of a cell that answered traffic badly that was tried on it.
const BAD_MIRROR: &str = "bad mirror";

impl Outcomes {
    /// From incidents alone: traffic never moved.
    #[must_use]
    pub fn of_incidents(incidents: Vec<Incident>) -> Self {
        Self { incidents, away: Vec::new() }.in_order()
    }

    /// From the ledger, in any order of entries.
    ///
    /// A shift whose end was seen hides the cell's fate from its beginning until the traffic was back. A shift that never took all of
    /// the traffic away left a slice that went on showing how the cell does, and hides nothing. A failure counts whether or not traffic
    /// was there: probes go on, and a cell that dies empty has died. So does that a cell was tried with traffic of another and answered it
    /// surely worse than is tolerated: with so little traffic it breaks its own objective late or never.
    #[must_use]
    pub fn of_ledger<'a>(entries: impl IntoIterator<Item = &'a LedgerEntry>) -> Self {
        let mut entries: Vec<&LedgerEntry> = entries.into_iter().collect();
        entries.sort_by_key(|entry| entry.seq);
        let mut outcomes = Self::default();
        let mut rejected = Vec::new();
        let incident = |cell: &CellId, began, kind: &str, source| Incident {
            cell: cell.clone(),
            began,
            ended: None,
            kind: kind.to_owned(),
            event: String::new(),
            source,
        };
        let mut under_way: BTreeMap<&CellId, (Timestamp, bool)> = BTreeMap::new();
        for entry in entries {
            match &entry.kind {
                EntryKind::Failure { cell, since, .. } => {
                    outcomes.incidents.push(incident(cell, *since, "", IncidentSource::Objective));
                }
                EntryKind::Rejected { cell, .. } => {
                    rejected.push(incident(cell, entry.at, BAD_MIRROR, IncidentSource::Canary));
                }
                EntryKind::ShiftBegan { cell, .. } => {
                    under_way.entry(cell).or_insert((entry.at, false));
                }
                EntryKind::ShiftDone { cell, .. } => {
                    // A ledger may begin in the middle of a shift.
                    under_way.entry(cell).or_insert((entry.at, false)).1 = true;
                }
                EntryKind::Returned { cell } => {
                    if let Some((from, true)) = under_way.remove(cell) {
                        outcomes.away.push(Away { cell: cell.clone(), from, until: Some(entry.at) });
                    }
                }
                _ => {}
            }
        }
        for (cell, (from, emptied)) in under_way {
            if emptied {
                outcomes.away.push(Away { cell: cell.clone(), from, until: None });
            }
        }
        outcomes.in_order().and(Self::of_incidents(rejected))
    }

    /// Both. A failure that both tell of counts once, with what the more particular source says of its kind: whoever caused it or saw
    /// it knows more than the cell's objective.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.away.extend(other.away);
        for told in other.incidents {
            if self.incidents.contains(&told) {
                continue;
            }
            let apart = |known: &Incident| known.began.since(told.began).max(told.began.since(known.began));
            // Two failures of one source are two failures, however close.
            let same = |known: &&mut Incident| {
                known.cell == told.cell && known.source != told.source && apart(known) <= ONE_AND_THE_SAME
            };
            let Some(known) = self.incidents.iter_mut().filter(same).min_by_key(|known| apart(known)) else {
                self.incidents.push(told);
                continue;
            };
            let (began, ended) = (known.began.min(told.began), known.ended.or(told.ended));
            let better = if rank(told.source) > rank(known.source) { told } else { known.clone() };
            *known = Incident { began, ended, ..better };
        }
        let mut all = self.in_order();
        all.away.dedup();
        all
    }

    fn in_order(mut self) -> Self {
        self.incidents.sort_by(|a, b| (&a.cell, a.began, a.source).cmp(&(&b.cell, b.began, b.source)));
        self.away.sort_by(|a, b| (&a.cell, a.from).cmp(&(&b.cell, b.from)));
        self
    }
}

/// How much a source knows of why a cell failed.
fn rank(source: IncidentSource) -> u8 {
    match source {
        IncidentSource::Canary => 0,
        IncidentSource::Objective => 1,
        IncidentSource::Imported => 2,
        IncidentSource::Operator => 3,
        IncidentSource::Fault => 4,
        IncidentSource::Drill => 5,
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::{Evidence, LedgerSeq, ShiftReason};

    use super::*;

    fn cell(name: &str) -> CellId {
        CellId::new(name).unwrap()
    }

    fn at(s: u64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1_000)
    }

    fn entry(seq: u64, s: u64, kind: EntryKind) -> LedgerEntry {
        LedgerEntry { seq: LedgerSeq(seq), at: at(s), service: None, kind }
    }

    fn began(name: &str) -> EntryKind {
        EntryKind::ShiftBegan { cell: cell(name), reason: ShiftReason::Operator }
    }

    fn done(name: &str) -> EntryKind {
        EntryKind::ShiftDone { cell: cell(name), took_s: 1.0 }
    }

    fn returned(name: &str) -> EntryKind {
        EntryKind::Returned { cell: cell(name) }
    }

    fn failure(name: &str, since: u64) -> EntryKind {
        EntryKind::Failure { cell: cell(name), since: at(since), lead_time_s: None }
    }

    fn incident(name: &str, s: u64, kind: &str, source: IncidentSource) -> Incident {
        let (kind, event) = (kind.to_owned(), String::new());
        Incident { cell: cell(name), began: at(s), ended: None, kind, event, source }
    }

    #[test]
    fn only_a_shift_that_took_all_hides_the_fate_from_its_beginning_on() {
        let entries = [
            entry(1, 10, began("a")),
            entry(2, 12, done("a")),
            entry(3, 40, returned("a")),
            // A slice stayed: nothing is hidden.
            entry(4, 50, began("b")),
            entry(5, 60, returned("b")),
            entry(6, 70, began("c")),
            entry(7, 71, done("c")),
            entry(8, 72, failure("c", 69)),
        ];
        let outcomes = Outcomes::of_ledger(entries.iter().rev());
        let away =
            |name, from, until: Option<u64>| Away { cell: cell(name), from: at(from), until: until.map(at) };
        assert_eq!(outcomes.away, [away("a", 10, Some(40)), away("c", 70, None)]);
        assert_eq!(outcomes.incidents, [incident("c", 69, "", IncidentSource::Objective)]);
    }

    #[test]
    fn a_cell_that_answered_a_canary_badly_has_failed_and_once_if_it_broke_its_objective_too() {
        let rejected = |name| EntryKind::Rejected {
            cell: cell(name),
            from: cell("a"),
            evidence: Evidence { requests: 50, bad: 30 },
        };
        let entries = [
            entry(1, 100, rejected("b")),
            entry(2, 100, rejected("c")),
            entry(3, 130, failure("c", 90)),
            entry(4, 500, rejected("c")),
        ];
        assert_eq!(
            Outcomes::of_ledger(&entries).incidents,
            [
                incident("b", 100, BAD_MIRROR, IncidentSource::Canary),
                incident("c", 90, "", IncidentSource::Objective),
                incident("c", 500, BAD_MIRROR, IncidentSource::Canary),
            ]
        );
    }

    #[test]
    fn a_failure_told_twice_counts_once_with_what_is_known_of_it() {
        let of_ledger = Outcomes::of_incidents(vec![
            incident("a", 100, "", IncidentSource::Objective),
            incident("a", 130, "", IncidentSource::Objective),
            incident("b", 100, "", IncidentSource::Objective),
        ]);
        let drill = incident("a", 104, "memory-leak", IncidentSource::Drill);
        let both = of_ledger.clone().and(Outcomes::of_incidents(vec![drill]));
        let told: Vec<_> =
            both.incidents.iter().map(|i| (i.cell.as_str(), i.began, i.kind.as_str())).collect();
        assert_eq!(told, [("a", at(100), "memory-leak"), ("a", at(130), ""), ("b", at(100), "")]);
        assert_eq!(of_ledger.clone().and(of_ledger.clone()).incidents.len(), 3);
    }
}
