//! The slot table: who owns each of 10 000 slots of one level.
//!
//! A request's key hashes to a slot and the slot's owner gets it. So a weight in basis points is a number of slots,
//! a share of weight is that share of users, and a user stays where they are as long as their slot does. A change of
//! weights moves the least possible number of slots: the owners that shrink give, those that grow take.
//!
//! Plain consistent hashing (Karger et al., STOC 1997) keeps users too, but its shares are only right on average;
//! here they are exact, and zero weight means no user at all.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

/// Number of slots of a level: one for each basis point.
pub const SLOTS: usize = 10_000;

/// Mark of a slot that never had another owner.
const NOBODY: u16 = u16::MAX;

/// Owners of the slots of one level, and for each slot whom it belonged to before.
///
/// The owner before matters when weight goes home: a slot goes back to whom it was taken from, if that one grows,
/// so after a rollback the users are where they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTable {
    names: Vec<String>,
    owner: Vec<u16>,
    before: Vec<u16>,
}

/// A slot table as kept in the journal: run lengths of owner and owner before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRuns {
    names: Vec<String>,
    /// (length, owner, owner before) where both index `names` and −1 is nobody.
    runs: Vec<(u32, i32, i32)>,
}

/// Why quotas or runs make no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The quotas don't add up to [`SLOTS`].
    #[error("quotas add up to {0}, not to {SLOTS}")]
    Quotas(u64),
    /// More owners than a table can tell apart.
    #[error("{0} owners are more than a level can have")]
    TooManyOwners(usize),
    /// The runs don't describe a whole table.
    #[error("the stored slot table is not whole: {0}")]
    Runs(&'static str),
}

impl SlotTable {
    /// A first table: consecutive slots for each owner, in the order of their names.
    ///
    /// # Errors
    /// When the quotas don't add up to 10 000.
    pub fn new(quotas: &BTreeMap<String, u32>) -> Result<Self, SlotError> {
        check(quotas)?;
        let mut table =
            Self { names: Vec::new(), owner: Vec::with_capacity(SLOTS), before: vec![NOBODY; SLOTS] };
        for (name, quota) in quotas.iter().filter(|(_, quota)| **quota > 0) {
            let index = table.add(name)?;
            table.owner.extend(std::iter::repeat_n(index, *quota as usize));
        }
        Ok(table)
    }

    /// The table for new quotas in which as few slots as possible have a new owner.
    ///
    /// A slot that must move goes to whom it belonged to before, if that one grows; else the growing owners take
    /// in the order of their names. The slots given up are those that can go back to whom they came from, then
    /// those with the highest numbers.
    ///
    /// # Errors
    /// When the quotas don't add up to 10 000.
    pub fn rebalanced(&self, quotas: &BTreeMap<String, u32>) -> Result<Self, SlotError> {
        check(quotas)?;
        let mut next = self.clone();
        let known: HashSet<&str> = self.names.iter().map(String::as_str).collect();
        for (name, _) in quotas.iter().filter(|(name, quota)| **quota > 0 && !known.contains(name.as_str())) {
            next.add(name)?;
        }
        let mut want: Vec<i64> =
            next.names.iter().map(|name| quotas.get(name).map_or(0, |quota| i64::from(*quota))).collect();
        for owner in &next.owner {
            want[usize::from(*owner)] -= 1;
        }
        // From here `want` is what an owner lacks (positive) or has too much of (negative).
        let moves_home = |slot: usize, next: &Self, want: &[i64]| {
            let (owner, before) = (next.owner[slot], next.before[slot]);
            before != NOBODY
                && before != owner
                && want[usize::from(owner)] < 0
                && want[usize::from(before)] > 0
        };
        for slot in (0..SLOTS).rev() {
            if moves_home(slot, &next, &want) {
                next.give(slot, next.before[slot], &mut want);
            }
        }
        let mut takers: Vec<u16> =
            (0..next.names.len() as u16).filter(|i| want[usize::from(*i)] > 0).collect();
        takers.sort_by(|a, b| next.names[usize::from(*b)].cmp(&next.names[usize::from(*a)]));
        for slot in (0..SLOTS).rev() {
            if want[usize::from(next.owner[slot])] < 0 {
                while takers.last().is_some_and(|taker| want[usize::from(*taker)] == 0) {
                    takers.pop();
                }
                let Some(taker) = takers.last().copied() else { break };
                next.give(slot, taker, &mut want);
            }
        }
        next.forget_strangers(quotas);
        Ok(next)
    }

    /// The owner of a slot, as an index of [`SlotTable::names`].
    ///
    /// # Panics
    /// When `slot` is not below [`SLOTS`].
    #[must_use]
    pub fn owner(&self, slot: usize) -> u16 {
        self.owner[slot]
    }

    /// The names that [`SlotTable::owner`] points into.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many slots each owner has. Owners of none are not listed.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&str, u32> {
        let mut counts = BTreeMap::new();
        for owner in &self.owner {
            *counts.entry(self.names[usize::from(*owner)].as_str()).or_insert(0) += 1;
        }
        counts
    }

    /// For the journal.
    #[must_use]
    pub fn to_runs(&self) -> SlotRuns {
        let signed = |i: u16| if i == NOBODY { -1 } else { i32::from(i) };
        let mut runs: Vec<(u32, i32, i32)> = Vec::new();
        for (owner, before) in self.owner.iter().zip(&self.before) {
            match runs.last_mut() {
                Some((length, o, b)) if *o == signed(*owner) && *b == signed(*before) => *length += 1,
                _ => runs.push((1, signed(*owner), signed(*before))),
            }
        }
        SlotRuns { names: self.names.clone(), runs }
    }

    /// From the journal.
    ///
    /// # Errors
    /// When the runs are not a whole table.
    pub fn from_runs(stored: &SlotRuns) -> Result<Self, SlotError> {
        if stored.names.len() >= usize::from(NOBODY) {
            return Err(SlotError::TooManyOwners(stored.names.len()));
        }
        let known = |i: i32| u16::try_from(i).ok().filter(|i| usize::from(*i) < stored.names.len());
        let mut table = Self {
            names: stored.names.clone(),
            owner: Vec::with_capacity(SLOTS),
            before: Vec::with_capacity(SLOTS),
        };
        for (length, owner, before) in &stored.runs {
            let length = *length as usize;
            if table.owner.len() + length > SLOTS {
                return Err(SlotError::Runs("it has too many slots"));
            }
            let owner = known(*owner).ok_or(SlotError::Runs("a slot has no owner"))?;
            let before = if *before == -1 {
                NOBODY
            } else {
                known(*before).ok_or(SlotError::Runs("unknown owner"))?
            };
            table.owner.extend(std::iter::repeat_n(owner, length));
            table.before.extend(std::iter::repeat_n(before, length));
        }
        if table.owner.len() == SLOTS { Ok(table) } else { Err(SlotError::Runs("slots are missing")) }
    }

    fn give(&mut self, slot: usize, to: u16, want: &mut [i64]) {
        let from = std::mem::replace(&mut self.owner[slot], to);
        self.before[slot] = from;
        want[usize::from(from)] += 1;
        want[usize::from(to)] -= 1;
    }

    fn add(&mut self, name: &str) -> Result<u16, SlotError> {
        if self.names.len() + 1 >= usize::from(NOBODY) {
            return Err(SlotError::TooManyOwners(self.names.len() + 1));
        }
        self.names.push(name.to_owned());
        Ok((self.names.len() - 1) as u16)
    }

    /// Drops names that neither own a slot nor are listed any more, so that the table does not grow for ever.
    fn forget_strangers(&mut self, quotas: &BTreeMap<String, u32>) {
        let mut keep: Vec<bool> = self.names.iter().map(|name| quotas.contains_key(name)).collect();
        for owner in &self.owner {
            keep[usize::from(*owner)] = true;
        }
        if keep.iter().all(|keep| *keep) {
            return;
        }
        let mut moved = vec![NOBODY; self.names.len()];
        let mut names = Vec::new();
        for (i, name) in self.names.iter().enumerate().filter(|(i, _)| keep[*i]) {
            moved[i] = names.len() as u16;
            names.push(name.clone());
        }
        for owner in &mut self.owner {
            *owner = moved[usize::from(*owner)];
        }
        for before in self.before.iter_mut().filter(|before| **before != NOBODY) {
            *before = moved[usize::from(*before)];
        }
        self.names = names;
    }
}

fn check(quotas: &BTreeMap<String, u32>) -> Result<(), SlotError> {
    let sum: u64 = quotas.values().map(|quota| u64::from(*quota)).sum();
    if sum == SLOTS as u64 { Ok(()) } else { Err(SlotError::Quotas(sum)) }
}

/// A stable 64-bit hash of a user's key: FNV-1a, finished with the mixer of MurmurHash3 so that every bit counts.
///
/// It must never change: a restarted or newer director has to find the same user in the same slot. It need not
/// withstand an adversary, for all that a user can choose by it is their own cell.
#[must_use]
pub fn hash_key(key: &[u8]) -> u64 {
    let fnv = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// The slot of a hashed key on a level; each level (and each further choice) has its own salt, so that the levels
/// are independent.
#[must_use]
pub fn slot_of(hash: u64, salt: u64) -> usize {
    scale(mix(hash ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Maps 64 evenly spread bits to a slot by multiplication (no division on the hot path).
#[must_use]
pub fn scale(bits: u64) -> usize {
    ((u128::from(bits) * SLOTS as u128) >> 64) as usize
}

fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Quotas of up to eight owners that add up, some of them zero.
    fn quotas() -> impl Strategy<Value = BTreeMap<String, u32>> {
        prop::collection::vec(prop_oneof![1 => Just(0u32), 3 => 0u32..10_000], 1..8).prop_map(|raw| {
            let total: u64 = raw.iter().map(|r| u64::from(*r)).sum::<u64>().max(1);
            let mut quotas: BTreeMap<String, u32> = raw
                .iter()
                .enumerate()
                .map(|(i, r)| (format!("cell-{i}"), (u64::from(*r) * SLOTS as u64 / total) as u32))
                .collect();
            let missing = SLOTS as u32 - quotas.values().sum::<u32>();
            *quotas.get_mut("cell-0").unwrap() += missing;
            quotas
        })
    }

    fn counts_are(table: &SlotTable, quotas: &BTreeMap<String, u32>) -> bool {
        let wanted: BTreeMap<&str, u32> =
            quotas.iter().filter(|(_, q)| **q > 0).map(|(n, q)| (n.as_str(), *q)).collect();
        table.counts() == wanted
    }

    fn moved(a: &SlotTable, b: &SlotTable) -> u32 {
        (0..SLOTS)
            .filter(|s| a.names()[usize::from(a.owner(*s))] != b.names()[usize::from(b.owner(*s))])
            .count() as u32
    }

    fn least(a: &BTreeMap<String, u32>, b: &BTreeMap<String, u32>) -> u32 {
        b.iter().map(|(name, quota)| quota.saturating_sub(a.get(name).copied().unwrap_or(0))).sum()
    }

    proptest! {
        #[test]
        fn quotas_are_met_exactly_and_the_fewest_slots_move(steps in prop::collection::vec(quotas(), 2..6)) {
            let mut table = SlotTable::new(&steps[0]).unwrap();
            prop_assert!(counts_are(&table, &steps[0]));
            for pair in steps.windows(2) {
                let next = table.rebalanced(&pair[1]).unwrap();
                prop_assert!(counts_are(&next, &pair[1]));
                prop_assert_eq!(moved(&table, &next), least(&pair[0], &pair[1]));
                table = next;
            }
        }

        #[test]
        fn applying_the_same_quotas_again_moves_nobody(a in quotas(), b in quotas()) {
            let table = SlotTable::new(&a).unwrap().rebalanced(&b).unwrap();
            prop_assert_eq!(&table.rebalanced(&b).unwrap(), &table);
        }

        #[test]
        fn a_table_survives_the_journal(a in quotas(), b in quotas()) {
            let table = SlotTable::new(&a).unwrap().rebalanced(&b).unwrap();
            prop_assert_eq!(SlotTable::from_runs(&table.to_runs()).unwrap(), table);
        }
    }

    fn shares(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
        pairs.iter().map(|(name, quota)| ((*name).to_owned(), *quota)).collect()
    }

    #[test]
    fn a_canary_cohort_is_part_of_every_larger_one_and_rollback_brings_all_home() {
        let home = shares(&[("a", 6_000), ("b", 4_000)]);
        let start = SlotTable::new(&home).unwrap();
        let on_mirror = |t: &SlotTable| -> Vec<usize> {
            (0..SLOTS).filter(|s| t.names()[usize::from(t.owner(*s))] == "mirror").collect()
        };
        let one = start.rebalanced(&shares(&[("a", 5_900), ("b", 4_000), ("mirror", 100)])).unwrap();
        let cohort = on_mirror(&one);
        assert_eq!(cohort.len(), 100);
        let more = one.rebalanced(&shares(&[("a", 3_000), ("b", 3_000), ("mirror", 4_000)])).unwrap();
        assert!(cohort.iter().all(|slot| on_mirror(&more).contains(slot)), "the cohort was moved on");
        let back = more.rebalanced(&shares(&[("a", 6_000), ("b", 4_000), ("mirror", 0)])).unwrap();
        assert_eq!(on_mirror(&back), Vec::<usize>::new());
        assert_eq!(moved(&start, &back), 0, "somebody came home to another cell");
    }

    #[test]
    fn users_are_spread_over_slots_evenly_and_independently_on_each_level() {
        const USERS: u64 = 200_000;
        let (mut first, mut both) = (0u64, 0u64);
        for user in 0..USERS {
            let hash = hash_key(format!("user-{user}").as_bytes());
            let (outer, inner) = (slot_of(hash, 1) < SLOTS / 4, slot_of(hash, 2) < SLOTS / 10);
            first += u64::from(outer);
            both += u64::from(outer && inner);
        }
        let near = |count: u64, share: f64| ((count as f64 / USERS as f64) - share).abs() < 0.004;
        assert!(near(first, 0.25), "{first}");
        assert!(near(both, 0.025), "{both}");
    }

    #[test]
    fn the_hash_of_a_key_never_changes() {
        assert_eq!(hash_key(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(slot_of(hash_key(b"user-1"), 1), slot_of(hash_key(b"user-1"), 1));
        // Recorded once: a change here would move every user of every running director.
        assert_eq!((hash_key(b"user-1"), slot_of(hash_key(b"user-1"), 1)), PINNED);
    }

    const PINNED: (u64, usize) = (4_729_620_347_622_785_477, 9_879);

    #[test]
    fn a_broken_journal_is_no_table() {
        let mut runs = SlotTable::new(&shares(&[("a", 10_000)])).unwrap().to_runs();
        runs.runs[0].0 = 9_999;
        assert_eq!(SlotTable::from_runs(&runs), Err(SlotError::Runs("slots are missing")));
        runs.runs[0] = (10_000, 3, -1);
        assert!(SlotTable::from_runs(&runs).is_err());
        assert!(SlotTable::new(&shares(&[("a", 9_000)])).is_err());
    }
}
