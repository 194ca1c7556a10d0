use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{CellId, Timestamp, Weight};
use serde::{Deserialize, Serialize};

use crate::history::incident::{Incident, IncidentSource};

/// What became of a cell at an instant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// When.
    pub at: Timestamp,
    /// Of which cell.
    pub cell: CellId,
    /// What.
    pub happened: Happened,
}

/// What can become of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    /// It failed: the instant is the start of the breach of its objective.
    Failed,
    /// It keeps its objective again.
    Well,
    /// This share of its home traffic is away from now on; zero: all is home again.
    Away(Weight),
}

/// A time in which traffic of a cell was elsewhere. What would have become of the cell under its own load is not known then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Whose traffic.
    pub cell: CellId,
    /// Since when.
    pub began: Timestamp,
    /// When all was home again; `None`: not known, or not yet.
    pub ended: Option<Timestamp>,
    /// The largest share that was away.
    pub most: Weight,
}

/// What became of cells over a time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcomes {
    /// Their failures, oldest first.
    pub incidents: Vec<Incident>,
    /// When traffic of theirs was elsewhere, oldest first.
    pub absences: Vec<Absence>,
}

impl Outcomes {
    /// From events in any order, some perhaps told twice.
    pub(crate) fn of(events: impl IntoIterator<Item = Outcome>) -> Self {
        let events: BTreeSet<Outcome> = events.into_iter().collect();
        let mut outcomes = Self::default();
        let mut failed: BTreeMap<CellId, usize> = BTreeMap::new();
        let mut away: BTreeMap<CellId, usize> = BTreeMap::new();
        for Outcome { at, cell, happened } in events {
            match happened {
                Happened::Failed => {
                    failed.insert(cell.clone(), outcomes.incidents.len());
                    let (kind, event) = (String::new(), String::new());
                    let source = IncidentSource::Objective;
                    outcomes.incidents.push(Incident { cell, began: at, ended: None, kind, event, source });
                }
                Happened::Well => {
                    if let Some(open) = failed.remove(&cell).and_then(|n| outcomes.incidents.get_mut(n)) {
                        open.ended = Some(at);
                    }
                }
                Happened::Away(Weight::ZERO) => {
                    if let Some(open) = away.remove(&cell).and_then(|n| outcomes.absences.get_mut(n)) {
                        open.ended = Some(at);
                    }
                }
                Happened::Away(share) => {
                    let all = &mut outcomes.absences;
                    match away.get(&cell).and_then(|n| all.get_mut(*n)) {
                        Some(open) => open.most = open.most.max(share),
                        None => {
                            away.insert(cell.clone(), all.len());
                            all.push(Absence { cell, began: at, ended: None, most: share });
                        }
                    }
                }
            }
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_absences_are_paired_whatever_was_told_twice_or_lost() {
        let event = |at, cell: &str, happened| Outcome {
            at: Timestamp::from_unix_ms(at),
            cell: cell.parse().unwrap(),
            happened,
        };
        let away = |share| Happened::Away(Weight::from_share(share));
        let told = [
            event(1, "a", Happened::Well),
            event(5, "a", Happened::Failed),
            event(9, "a", Happened::Well),
            event(5, "a", Happened::Failed),
            event(12, "a", Happened::Failed),
            event(2, "b", away(0.1)),
            event(3, "b", away(0.4)),
            event(4, "b", away(0.2)),
            event(8, "b", away(0.0)),
            event(8, "a", away(0.0)),
            event(9, "b", away(1.0)),
        ];
        let outcomes = Outcomes::of(told);
        let ms = |at: Timestamp| at.unix_ms();
        let incidents: Vec<_> =
            outcomes.incidents.iter().map(|i| (i.cell.as_str(), ms(i.began), i.ended.map(ms))).collect();
        assert_eq!(incidents, [("a", 5, Some(9)), ("a", 12, None)]);
        let absences: Vec<_> = outcomes
            .absences
            .iter()
            .map(|a| (a.cell.as_str(), ms(a.began), a.ended.map(ms), a.most.bp()))
            .collect();
        assert_eq!(absences, [("b", 2, Some(8), 4_000), ("b", 9, None, 10_000)]);
    }
}
