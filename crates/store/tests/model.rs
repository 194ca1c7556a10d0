//! Random lives of a store against a model of a few lines.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, num::NonZeroU64};

use forefend_domain::{EntryKind, LedgerEntry, LedgerSeq, ServiceId, Timestamp};
use forefend_store::{CommitFault, EngineStore, MemoryStore, RedbStore, StoreOptions};
use proptest::prelude::*;

const KEPT: u64 = 7;

#[derive(Debug, Clone)]
enum Op {
    /// So many entries, this memory.
    Commit(u8, Vec<u8>),
    /// An entry that can't be written.
    CommitUnwritable,
    /// Only the memory store can do these; elsewhere nothing happens.
    CommitFailing(bool),
    Reopen,
    Page(Option<u8>, u8),
    After(u8, u8),
    PutState(u8, u8),
    /// Name, content.
    PutBlueprint(bool, u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u8..4, prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(n, m)| Op::Commit(n, m)),
        1 => Just(Op::CommitUnwritable),
        1 => any::<bool>().prop_map(Op::CommitFailing),
        2 => Just(Op::Reopen),
        2 => (any::<Option<u8>>(), 0u8..12).prop_map(|(before, limit)| Op::Page(before.map(|b| b % 30), limit)),
        2 => (0u8..30, 0u8..12).prop_map(|(after, limit)| Op::After(after, limit)),
        1 => (0u8..3, any::<u8>()).prop_map(|(key, value)| Op::PutState(key, value)),
        2 => (any::<bool>(), 0u8..3).prop_map(|(name, content)| Op::PutBlueprint(name, content)),
    ]
}

#[derive(Default)]
struct Model {
    /// All that ever were, pruned ones too.
    entries: Vec<LedgerEntry>,
    memory: Option<Vec<u8>>,
    state: BTreeMap<u8, u8>,
    blueprints: BTreeMap<bool, Vec<u8>>,
}

impl Model {
    fn kept(&self) -> &[LedgerEntry] {
        &self.entries[self.entries.len().saturating_sub(KEPT as usize)..]
    }

    fn commit(&mut self, at: Timestamp, entries: &[(Option<ServiceId>, EntryKind)], memory: &[u8]) {
        for (service, kind) in entries {
            let seq = LedgerSeq(self.entries.len() as u64 + 1);
            self.entries.push(LedgerEntry { seq, at, service: service.clone(), kind: kind.clone() });
        }
        self.memory = Some(memory.to_vec());
    }
}

fn options() -> StoreOptions {
    StoreOptions { ledger_entries: NonZeroU64::new(KEPT).unwrap() }
}

fn entries(count: u8, salt: usize) -> Vec<(Option<ServiceId>, EntryKind)> {
    let service = ServiceId::new("shop").unwrap();
    (0..count)
        .map(|n| {
            let what = format!("{salt}/{n}");
            (n.is_multiple_of(2).then(|| service.clone()), EntryKind::Engine { what })
        })
        .collect()
}

/// Plays `ops` on a store and on the model, comparing after each.
fn plays_like_the_model<S: EngineStore>(
    ops: &[Op],
    mut store: S,
    mut reopen: impl FnMut(S) -> S,
    fail_next: impl Fn(&S, CommitFault) -> bool,
) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for (step, op) in ops.iter().enumerate() {
        let at = Timestamp::from_unix_ms(step as u64);
        match op {
            Op::Commit(count, memory) => {
                let entries = entries(*count, step);
                let places = store.commit(at, &entries, memory).unwrap();
                model.commit(at, &entries, memory);
                let newest = model.entries.iter().rev().take(entries.len()).map(|e| e.seq).rev();
                prop_assert_eq!(places, newest.collect::<Vec<_>>());
            }
            Op::CommitUnwritable => {
                let cell = "c".parse().unwrap();
                let nan = (None, EntryKind::ShiftDone { cell, took_s: f64::INFINITY });
                prop_assert!(store.commit(at, &[nan], b"lost").is_err());
            }
            Op::CommitFailing(after) => {
                let fault = if *after { CommitFault::After } else { CommitFault::Before };
                if fail_next(&store, fault) {
                    let entries = entries(2, step);
                    prop_assert!(store.commit(at, &entries, b"failing").is_err());
                    if *after {
                        model.commit(at, &entries, b"failing");
                    }
                }
            }
            Op::Reopen => store = reopen(store),
            Op::Page(before, limit) => {
                let before = before.map(|b| LedgerSeq(b.into()));
                let expected: Vec<_> = model
                    .kept()
                    .iter()
                    .rev()
                    .filter(|e| before.is_none_or(|b| e.seq < b))
                    .take((*limit).into())
                    .cloned()
                    .collect();
                prop_assert_eq!(&store.entries(before, (*limit).into()).unwrap(), &expected);
                prop_assert_eq!(&store.reader().page(before, (*limit).into()).unwrap(), &expected);
            }
            Op::After(after, limit) => {
                let after = LedgerSeq((*after).into());
                let expected: Vec<_> =
                    model.kept().iter().filter(|e| e.seq > after).take((*limit).into()).cloned().collect();
                prop_assert_eq!(store.reader().after(after, (*limit).into()).unwrap(), expected);
            }
            Op::PutState(key, value) => {
                store.put_state(&key.to_string(), &[*value]).unwrap();
                model.state.insert(*key, *value);
            }
            Op::PutBlueprint(name, content) => {
                let bp = if *name { "a" } else { "b" }.parse().unwrap();
                let hash = format!("h{content}").parse().unwrap();
                let version = store.put_blueprint(&bp, &[*content], &hash).unwrap();
                let versions = model.blueprints.entry(*name).or_default();
                if versions.last() != Some(content) {
                    versions.push(*content);
                }
                prop_assert_eq!(version as usize, versions.len());
                let latest = store.latest_blueprint(&bp).unwrap().unwrap();
                prop_assert_eq!((latest.version, latest.content), (version, vec![*content]));
            }
        }
        prop_assert_eq!(store.memory().unwrap(), model.memory.clone());
        let newest = store.reader().newest().unwrap();
        prop_assert_eq!(newest, model.entries.last().map(|e| e.seq));
        for key in 0..3 {
            let expected = model.state.get(&key).map(|value| vec![*value]);
            prop_assert_eq!(store.state(&key.to_string()).unwrap(), expected);
        }
    }
    let all: Vec<_> = model.kept().iter().rev().cloned().collect();
    prop_assert_eq!(store.entries(None, usize::MAX).unwrap(), all);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redb_plays_like_the_model(ops in prop::collection::vec(op(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let reopen = |store: RedbStore| {
            drop(store);
            RedbStore::open_with(&path, options()).unwrap()
        };
        plays_like_the_model(&ops, RedbStore::open_with(&path, options()).unwrap(), reopen, |_, _| false)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_plays_like_the_model(ops in prop::collection::vec(op(), 1..60)) {
        let fail = |store: &MemoryStore, fault| {
            store.fail_next_commit(fault);
            true
        };
        plays_like_the_model(&ops, MemoryStore::new(options()), |store| store, fail)?;
    }
}
