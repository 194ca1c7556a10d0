//! What every engine must keep, as one call: the same checks run against every store, so none can drift from the rest.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use forefend_domain::{
    Anomaly, Basis, BlueprintHash, BlueprintName, Cell, CellId, CellRole, Driver, Effect, EntryKind,
    Evidence, Explanation, Family, HealthScore, LedgerEntry, LedgerSeq, MetricName, Prediction, Probability,
    RegionId, ServiceId, ServiceWeights, ShiftReason, TimeToFailure, Timestamp, Verdict, Weight, ZoneId,
};

use crate::{EngineStore, StoreError, StoreOptions};

/// Runs every check. `fresh` makes an empty store that keeps as much as the options say; `reopen` takes one down and brings it up again with these
/// options, as a restart of the engine does.
///
/// # Panics
/// When the engine breaks a rule; the message tells which.
pub fn run<S: EngineStore>(
    mut fresh: impl FnMut(StoreOptions) -> S,
    mut reopen: impl FnMut(S, StoreOptions) -> S,
) {
    an_empty_store_says_so(fresh(StoreOptions::default()));
    places_have_no_gaps_and_commits_are_whole(fresh(StoreOptions::default()), &mut reopen);
    every_kind_of_entry_reads_back_as_written(fresh(StoreOptions::default()), &mut reopen);
    what_cannot_be_read_back_is_refused_whole(fresh(StoreOptions::default()));
    pages_go_both_ways(fresh(StoreOptions::default()));
    the_oldest_go_first_and_places_go_on(fresh(kept(5)), &mut reopen);
    a_commit_longer_than_the_retention_keeps_its_newest(fresh(kept(3)));
    readers_follow_while_the_loop_writes(fresh(StoreOptions::default()));
    blueprints_are_told_apart_by_hash(fresh(StoreOptions::default()), &mut reopen);
    blueprint_versions_are_bounded(fresh(StoreOptions::default()));
    state_is_replaced_by_key(fresh(StoreOptions::default()), &mut reopen);
}

/// One entry of every kind, with numbers that are awkward to write down.
#[must_use]
pub fn one_entry_of_every_kind() -> Vec<(Option<ServiceId>, EntryKind)> {
    let cell = id::<CellId>("shop-north-1");
    let service = Some(id::<ServiceId>("shop"));
    let region = id::<RegionId>("north");
    let weights = ServiceWeights::from_shares(&BTreeMap::from([
        ((region.clone(), cell.clone()), 0.123_4),
        ((region.clone(), id("shop-north-2")), 0.876_6),
    ]))
    .expect("shares above zero");
    let effects = vec![
        Effect::SetWeights { service: id("shop"), weights },
        Effect::Create {
            cell: Cell {
                id: id("shop-south-s1"),
                service: id("shop"),
                region,
                zone: id::<ZoneId>("north-a"),
                role: CellRole::Synthetic,
                home_weight: Weight::ZERO,
                blueprint: Some(id("shop")),
            },
            blueprint: id("shop"),
        },
        Effect::Recreate { cell: cell.clone() },
        Effect::Park { cell: cell.clone() },
        Effect::Unpark { cell: cell.clone() },
        Effect::Rewarm { cell: cell.clone() },
        Effect::Retire { cell: cell.clone() },
        Effect::AskApproval { cell: cell.clone() },
    ];
    let probability = Probability::clamped(1.0 / 3.0, Probability::ZERO);
    let prediction = Prediction {
        cell: cell.clone(),
        at: Timestamp::from_unix_ms(u64::MAX),
        horizon: Duration::from_nanos(900_000_000_001),
        probability,
        time_to_failure: TimeToFailure { p10: Some(Duration::from_millis(1)), p50: None, p90: None },
        interval: forefend_domain::Interval::Plain,
        outlooks: Vec::new(),
        exceeds: false,
        health: HealthScore::from_failure(probability),
        anomaly: 0.1 + 0.2,
        anomalies: vec![Anomaly { metric: MetricName::new(""), z: -1.0 / 7.0 }],
        drivers: vec![Driver {
            metric: MetricName::new("heap_bytes{zone=\"ä\\n\"}"),
            family: Family::Saturation,
            contribution: 1.0,
            detail: "93.1 MiB of 96 MiB".to_owned(),
        }],
        basis: Basis::FirstPassage,
        curve: vec![(1.0, 5e-324), (2.0, 0.999_999_999_999_999_9)],
    };
    let explanation =
        Explanation { cell: cell.clone(), what: "shift-begins".to_owned(), why: "memory".to_owned() };
    vec![
        (None, EntryKind::Engine { what: "started".to_owned() }),
        (
            service.clone(),
            EntryKind::Decision {
                effects: effects.clone(),
                explanations: vec![explanation],
                predictions: vec![prediction],
            },
        ),
        (
            service.clone(),
            EntryKind::Refused { effect: effects[1].clone(), why: "no room\n\u{0}".to_owned() },
        ),
        (service.clone(), EntryKind::ShiftBegan { cell: cell.clone(), reason: ShiftReason::Predicted }),
        (service.clone(), EntryKind::ShiftDone { cell: cell.clone(), took_s: 1.1 }),
        (service.clone(), EntryKind::Returned { cell: cell.clone() }),
        (
            service.clone(),
            EntryKind::Failure {
                cell: cell.clone(),
                since: Timestamp::from_unix_ms(0),
                lead_time_s: Some(-0.1),
            },
        ),
        (
            service.clone(),
            EntryKind::Failure { cell: cell.clone(), since: Timestamp::from_unix_ms(1), lead_time_s: None },
        ),
        (
            service.clone(),
            EntryKind::Rejected {
                cell: cell.clone(),
                from: cell.clone(),
                evidence: Evidence { requests: u64::MAX, bad: 0 },
            },
        ),
        (service, EntryKind::Judged { shift: LedgerSeq(u64::MAX), cell, verdict: Verdict::Unknown }),
        (None, EntryKind::Operator { who: "anna".to_owned(), what: "freeze".to_owned() }),
        (None, EntryKind::InvariantBroken { invariant: "weights_add_up".to_owned(), detail: String::new() }),
    ]
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str) -> T {
    name.parse().expect("a valid name")
}

fn kept(entries: u64) -> StoreOptions {
    StoreOptions { ledger_entries: NonZeroU64::new(entries).expect("above zero") }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(ms)
}

fn said(what: impl ToString) -> (Option<ServiceId>, EntryKind) {
    (None, EntryKind::Engine { what: what.to_string() })
}

fn places(entries: &[LedgerEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.seq.0).collect()
}

fn an_empty_store_says_so<S: EngineStore>(mut store: S) {
    assert_eq!(store.memory(), Ok(None), "memory before the first commit");
    assert_eq!(store.entries(None, 10), Ok(vec![]), "entries before the first commit");
    assert!(matches!(store.reader().newest(), Ok(None)), "newest entry before the first commit");
    assert!(matches!(store.state("x"), Ok(None)), "state before the first put");
    assert!(matches!(store.latest_blueprint(&id("b")), Ok(None)), "blueprint before the first put");
}

fn places_have_no_gaps_and_commits_are_whole<S: EngineStore>(
    mut store: S,
    reopen: &mut impl FnMut(S, StoreOptions) -> S,
) {
    let seqs = store.commit(at(1), &[said("a"), said("b")], b"one").expect("first commit");
    assert_eq!(seqs, [LedgerSeq(1), LedgerSeq(2)], "places begin at 1");
    assert_eq!(store.commit(at(2), &[], b"two").expect("a commit without entries"), [], "no entry, no place");
    assert_eq!(store.memory(), Ok(Some(b"two".to_vec())), "a commit without entries replaces the memory");
    let mut store = reopen(store, StoreOptions::default());
    assert_eq!(store.memory(), Ok(Some(b"two".to_vec())), "memory outlives a restart");
    assert_eq!(store.commit(at(3), &[said("c")], b"").expect("third commit"), [LedgerSeq(3)], "places go on");
    let mut store = reopen(store, StoreOptions::default());
    assert_eq!(store.memory(), Ok(Some(vec![])), "an empty memory is a memory");
    assert_eq!(places(&store.entries(None, 10).expect("entries")), [3, 2, 1], "newest first, no gap");
}

fn every_kind_of_entry_reads_back_as_written<S: EngineStore>(
    mut store: S,
    reopen: &mut impl FnMut(S, StoreOptions) -> S,
) {
    let written = one_entry_of_every_kind();
    store.commit(at(7), &written, b"m").expect("commit of every kind");
    let mut store = reopen(store, StoreOptions::default());
    let mut read = store.entries(None, written.len() + 1).expect("entries of every kind");
    read.reverse();
    assert_eq!(read.len(), written.len(), "as many entries as were written");
    for (place, ((service, kind), entry)) in (1..).zip(written.iter().zip(&read)) {
        let expected =
            LedgerEntry { seq: LedgerSeq(place), at: at(7), service: service.clone(), kind: kind.clone() };
        assert_eq!(*entry, expected, "an entry reads back as it was written");
    }
}

fn what_cannot_be_read_back_is_refused_whole<S: EngineStore>(mut store: S) {
    store.commit(at(1), &[said("good")], b"before").expect("good commit");
    let bad = (None, EntryKind::ShiftDone { cell: id("c"), took_s: f64::NAN });
    assert!(
        store.commit(at(2), &[said("good too"), bad], b"after").is_err(),
        "NaN has no place in the ledger"
    );
    assert_eq!(store.memory(), Ok(Some(b"before".to_vec())), "a refused commit leaves the memory");
    assert_eq!(places(&store.entries(None, 10).expect("entries")), [1], "a refused commit leaves the ledger");
    let next = store.commit(at(3), &[said("next")], b"after").expect("commit after a refusal");
    assert_eq!(next, [LedgerSeq(2)], "a refused commit uses up no place");
}

fn pages_go_both_ways<S: EngineStore>(mut store: S) {
    let entries: Vec<_> = (1..=10).map(said).collect();
    store.commit(at(1), &entries, b"").expect("commit");
    let mut page = |before, limit| places(&store.entries(before, limit).expect("page"));
    assert_eq!(page(None, 3), [10, 9, 8]);
    assert_eq!(page(Some(LedgerSeq(8)), 3), [7, 6, 5]);
    assert_eq!(page(Some(LedgerSeq(1)), 3), [0; 0], "nothing is older than the first");
    assert_eq!(page(Some(LedgerSeq(u64::MAX)), 1), [10]);
    assert_eq!(page(None, 0), [0; 0]);
    assert_eq!(page(None, usize::MAX).len(), 10);
    let reader = store.reader();
    let after = |after, limit| places(&reader.after(LedgerSeq(after), limit).expect("page"));
    assert_eq!(after(0, 2), [1, 2]);
    assert_eq!(after(9, 5), [10]);
    assert_eq!(after(10, 5), [0; 0]);
    assert_eq!(after(u64::MAX, 5), [0; 0]);
}

fn the_oldest_go_first_and_places_go_on<S: EngineStore>(
    mut store: S,
    reopen: &mut impl FnMut(S, StoreOptions) -> S,
) {
    for n in 1..=8 {
        store.commit(at(n), &[said(n)], b"").expect("commit");
    }
    assert_eq!(
        places(&store.entries(None, 99).expect("entries")),
        [8, 7, 6, 5, 4],
        "the newest five are kept"
    );
    let mut store = reopen(store, kept(5));
    let next = store.commit(at(9), &[said(9), said(10)], b"").expect("commit");
    assert_eq!(next, [LedgerSeq(9), LedgerSeq(10)], "a pruned ledger goes on where it was");
    assert_eq!(places(&store.entries(None, 99).expect("entries")), [10, 9, 8, 7, 6]);
}

fn a_commit_longer_than_the_retention_keeps_its_newest<S: EngineStore>(mut store: S) {
    let entries: Vec<_> = (1..=7).map(said).collect();
    store.commit(at(1), &entries, b"m").expect("commit");
    assert_eq!(places(&store.entries(None, 99).expect("entries")), [7, 6, 5]);
}

/// A reader on another thread sees places that only grow, without a gap between its pages.
fn readers_follow_while_the_loop_writes<S: EngineStore>(mut store: S) {
    const COMMITS: u64 = 20;
    let reader = store.reader();
    std::thread::scope(|threads| {
        let follower = threads.spawn(move || {
            let mut last = LedgerSeq(0);
            // Ends when all were seen; the writer below makes sure that they come.
            while last < LedgerSeq(2 * COMMITS) {
                for entry in reader.after(last, 3).expect("page while writing") {
                    assert_eq!(entry.seq.0, last.0 + 1, "a reader met a gap");
                    last = entry.seq;
                }
                let newest = reader.newest().expect("newest while writing").map_or(0, |seq| seq.0);
                assert_eq!(newest % 2, 0, "a reader saw half a commit of two");
                std::thread::yield_now();
            }
        });
        for n in 1..=COMMITS {
            store.commit(at(n), &[said(n), said(n)], b"").expect("commit while reading");
        }
        follower.join().expect("the follower saw it all");
    });
}

fn blueprints_are_told_apart_by_hash<S: EngineStore>(
    store: S,
    reopen: &mut impl FnMut(S, StoreOptions) -> S,
) {
    let (shop, other) = (id::<BlueprintName>("shop"), id::<BlueprintName>("shop-2"));
    let (a, b) = (id::<BlueprintHash>("aa"), id::<BlueprintHash>("bb"));
    let put = |store: &S, name, content: &[u8], hash| store.put_blueprint(name, content, hash);
    assert!(matches!(put(&store, &shop, b"{1}", &a), Ok(1)), "versions begin at 1");
    assert!(matches!(put(&store, &shop, b"{1}", &a), Ok(1)), "the same hash makes no version");
    assert!(matches!(put(&store, &shop, b"{2}", &b), Ok(2)));
    assert!(
        matches!(put(&store, &shop, b"{3}", &b), Err(StoreError::HashConflict { .. })),
        "another content under the same hash is refused"
    );
    assert!(
        matches!(put(&store, &shop, b"{1}", &a), Ok(3)),
        "going back to an old blueprint is a new version"
    );
    assert!(matches!(put(&store, &other, b"{9}", &a), Ok(1)), "names count apart");
    let store = reopen(store, StoreOptions::default());
    let latest = store.latest_blueprint(&shop).expect("latest").expect("there is one");
    assert_eq!((latest.version, latest.hash, latest.content), (3, a.clone(), b"{1}".to_vec()));
    assert_eq!(store.blueprints(&shop).expect("versions"), [(1, a.clone()), (2, b), (3, a)]);
    assert_eq!(
        store.blueprints(&other).expect("versions").len(),
        1,
        "a name that begins alike is another name"
    );
}

fn blueprint_versions_are_bounded<S: EngineStore>(store: S) {
    let name = id::<BlueprintName>("shop");
    for n in 1..=70u32 {
        let hash = id::<BlueprintHash>(&format!("h{n}"));
        let version = store.put_blueprint(&name, &n.to_be_bytes(), &hash).expect("put");
        assert_eq!(version, n);
    }
    let versions: Vec<u32> = store.blueprints(&name).expect("versions").into_iter().map(|(v, _)| v).collect();
    assert_eq!(versions, (7..=70).collect::<Vec<_>>(), "the newest 64 are kept");
}

fn state_is_replaced_by_key<S: EngineStore>(store: S, reopen: &mut impl FnMut(S, StoreOptions) -> S) {
    store.put_state("frozen", b"yes").expect("put");
    store.put_state("lead-times/shop", b"").expect("put");
    store.put_state("frozen", b"no").expect("put");
    let store = reopen(store, StoreOptions::default());
    assert_eq!(store.state("frozen").expect("state"), Some(b"no".to_vec()));
    assert_eq!(store.state("lead-times/shop").expect("state"), Some(vec![]), "an empty value is a value");
    assert_eq!(store.state("lead-times").expect("state"), None, "a prefix of a key is another key");
}
