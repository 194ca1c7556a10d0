use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{CellId, Timestamp};

use super::{Action, InjectionId, InjectionState};
use crate::experiment::FaultEntry;

/// Smaller changes of a level are not worth an action.
const LEVEL_STEP: f64 = 0.01;

/// Undoes what is in effect and not wanted: left over from what is over, or never asked for.
pub(crate) fn residue(
    said: &BTreeMap<InjectionId, InjectionState>,
    wanted: impl Fn(&InjectionId) -> bool,
) -> Vec<Action> {
    let left = said.iter().filter(|(id, state)| **state == InjectionState::Active && !wanted(id));
    left.map(|(id, _)| Action::Undo { injection: id.clone() }).collect()
}

/// The faults of a run at its cells: what is in effect, what was, and what comes next.
#[derive(Debug, Clone)]
pub(crate) struct Injections {
    entries: Vec<FaultEntry>,
    cells: Vec<CellId>,
    began: Timestamp,
    pub(crate) active: BTreeMap<InjectionId, Injected>,
    pub(crate) past: BTreeMap<InjectionId, Injected>,
}

/// One fault at one cell, as it went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Injected {
    pub(crate) begun: Timestamp,
    /// When its undoing was asked for.
    pub(crate) ended: Option<Timestamp>,
    /// When it was seen to be out of effect after that.
    pub(crate) undone: Option<Timestamp>,
    pub(crate) level: f64,
    pub(crate) peak: f64,
    /// Level × seconds so far, for the mean.
    pub(crate) level_s: f64,
    last: Timestamp,
}

impl Injected {
    /// Accounts for the time since the last look, and takes a new level.
    fn pass(&mut self, now: Timestamp, level: f64) {
        self.level_s += self.level * now.since(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.level = level;
        self.peak = self.peak.max(level);
    }

    /// The mean level while it lasted, from 0 to 1.
    pub(crate) fn mean_level(&self) -> f64 {
        let lasted = self.last.since(self.begun).as_secs_f64();
        if lasted > 0.0 { (self.level_s / lasted).clamp(0.0, 1.0) } else { self.peak }
    }
}

impl Injections {
    pub(crate) fn new(entries: Vec<FaultEntry>, cells: Vec<CellId>, began: Timestamp) -> Self {
        Self { entries, cells, began, active: BTreeMap::new(), past: BTreeMap::new() }
    }

    /// What is to be done now so that every fault has its level.
    pub(crate) fn step(&mut self, now: Timestamp) -> Vec<Action> {
        let t = now.since(self.began);
        let mut actions = Vec::new();
        let mut over = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            for cell in &self.cells {
                let id = InjectionId { fault: index, cell: cell.clone() };
                let level = entry.level(t);
                match (level, self.active.get_mut(&id)) {
                    (Some(level), None) if !self.past.contains_key(&id) => {
                        let injected = Injected {
                            begun: now,
                            ended: None,
                            undone: None,
                            level,
                            peak: level,
                            level_s: 0.0,
                            last: now,
                        };
                        self.active.insert(id.clone(), injected);
                        let at_most = entry.ends().saturating_sub(t);
                        actions.push(Action::Apply {
                            injection: id,
                            fault: entry.fault.clone(),
                            level,
                            at_most,
                        });
                    }
                    (Some(level), Some(injected)) => {
                        let changed = (level - injected.level).abs() >= LEVEL_STEP;
                        // The ends of the scale are reached exactly.
                        let arrived = level != injected.level
                            && (level == 0.0 || (level - entry.intensity.get()).abs() < f64::EPSILON);
                        if changed || arrived {
                            injected.pass(now, level);
                            actions.push(Action::SetLevel { injection: id, level });
                        }
                    }
                    (None, Some(_)) => over.push(id),
                    (Some(_) | None, None) => {}
                }
            }
        }
        // First what is over, for what begins now may work on the same.
        let mut all: Vec<Action> = over.iter().filter_map(|id| self.end(id, now)).collect();
        all.append(&mut actions);
        all
    }

    /// Undoes everything that is in effect.
    pub(crate) fn end_all(&mut self, now: Timestamp) -> Vec<Action> {
        let ids: Vec<InjectionId> = self.active.keys().cloned().collect();
        ids.iter().filter_map(|id| self.end(id, now)).collect()
    }

    fn end(&mut self, id: &InjectionId, now: Timestamp) -> Option<Action> {
        let mut injected = self.active.remove(id)?;
        let level = injected.level;
        injected.pass(now, level);
        injected.ended = Some(now);
        self.past.insert(id.clone(), injected);
        Some(Action::Undo { injection: id.clone() })
    }

    /// Looks what the injector says, and undoes again what should be over and is not.
    pub(crate) fn look(
        &mut self,
        said: &BTreeMap<InjectionId, InjectionState>,
        now: Timestamp,
    ) -> Vec<Action> {
        let in_effect = |id: &InjectionId| said.get(id) == Some(&InjectionState::Active);
        for (id, injected) in &mut self.past {
            if injected.undone.is_none() && injected.ended.is_some_and(|end| end < now) && !in_effect(id) {
                injected.undone = Some(now);
            }
        }
        residue(said, |id| self.active.contains_key(id))
    }

    /// Whether the last fault's time is over.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        let ends = self.entries.iter().map(FaultEntry::ends).max().unwrap_or(Duration::ZERO);
        now.since(self.began) >= ends
    }

    /// Every injection, those in effect and those that were.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&InjectionId, &Injected, &FaultEntry)> {
        let both = self.past.iter().chain(&self.active);
        both.filter_map(|(id, injected)| Some((id, injected, self.entries.get(id.fault)?)))
    }

    /// Whether anything was ever done.
    pub(crate) fn any(&self) -> bool {
        !self.active.is_empty() || !self.past.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use forefend_config::Share;

    use super::*;
    use crate::{Fault, Ramp, experiment::parse};

    #[test]
    fn what_was_ended_never_begins_again() {
        let text = "version: 1\nname: x\nhypothesis: { says: x }\ntarget: { service: shop }\nfaults: [{ fault: kill, lasts: 60s }]";
        let entries = parse(text, "x.yaml").unwrap_or_else(|e| panic!("{e}")).faults;
        let cells = vec![CellId::new("n1").unwrap()];
        let began = Timestamp::from_unix_ms(1_000);
        let mut injections = Injections::new(entries, cells, began);
        assert_eq!(injections.step(began).len(), 1);
        assert_eq!(injections.end_all(began).len(), 1);
        assert!(injections.step(began + Duration::from_secs(1)).is_empty());
    }

    #[test]
    fn what_is_over_is_undone_before_the_next_begins() {
        let seconds = Duration::from_secs;
        let entry = |after: u64| FaultEntry {
            fault: Fault::CpuQuota { cores: 0.5 },
            ramp: Ramp::Step,
            intensity: Share::percent(100.0),
            after: seconds(after),
            lasts: seconds(10),
        };
        let begun = Timestamp::from_unix_ms(1_000_000);
        let cell = CellId::new("shop-1").unwrap();
        let mut injections = Injections::new(vec![entry(0), entry(10)], vec![cell], begun);
        assert!(matches!(injections.step(begun)[..], [Action::Apply { .. }]));
        let both = injections.step(begun + seconds(10));
        assert!(matches!(both[..], [Action::Undo { .. }, Action::Apply { .. }]), "{both:?}");
    }
}
