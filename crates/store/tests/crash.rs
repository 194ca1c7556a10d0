//! The engine is killed with SIGKILL at random instants, many times over one file: no entry whose commit returned is
//! ever missing, the memory is always that of the last commit, and no commit is there by halves.
//!
//! This is death of a process, where the kernel keeps what was written. Loss of power is redb's own test bed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use forefend_domain::{EntryKind, LedgerEntry, Timestamp, ports::Store};
use forefend_store::RedbStore;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const FILE: &str = "FOREFEND_TEST_CRASH_FILE";
const ROUNDS: u64 = 60;
/// Longer than any machine needs for a commit; a child that is silent for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an entry of commit `first..=last` says; `last` is also that commit's memory.
fn text(first: u64, place: u64, last: u64) -> String {
    // Of changing length up to some pages, so that kills also fall between the writes of one commit.
    let padding = "x".repeat((place % 11) as usize * 1_500);
    format!("{first} {place} {last} {padding}")
}

fn parts(entry: &LedgerEntry) -> (u64, u64, u64) {
    let EntryKind::Engine { what } = &entry.kind else { panic!("nobody wrote {entry:?}") };
    let numbers: Vec<u64> = what.split(' ').take(3).map(|n| n.parse().unwrap()).collect();
    assert_eq!(*what, text(numbers[0], numbers[1], numbers[2]), "an entry was cut");
    (numbers[0], numbers[1], numbers[2])
}

/// Checks the whole file and returns the place of its newest entry.
fn check(path: &Path) -> u64 {
    let mut store = RedbStore::open(path).unwrap();
    let mut entries = store.entries(None, usize::MAX).unwrap();
    entries.reverse();
    for (place, entry) in (1..).zip(&entries) {
        assert_eq!(entry.seq.0, place, "the ledger has a gap");
        let (first, said, last) = parts(entry);
        assert_eq!(said, place, "an entry stands at another's place");
        assert!(first <= place && place <= last);
        let after = entries.get(place as usize);
        assert!(place == last || after.is_some(), "a commit is there by halves");
    }
    let newest = entries.last().map_or(0, |entry| parts(entry).2);
    let memory = store.memory().unwrap().map_or(0, |m| u64::from_be_bytes(m.try_into().unwrap()));
    assert_eq!(memory, newest, "the memory is not that of the last commit");
    assert_eq!(newest, entries.len() as u64);
    newest
}

#[test]
fn nothing_acted_on_is_lost_when_the_engine_is_killed() {
    let mut rng = ChaCha8Rng::seed_from_u64(20_261_121);
    let mut dir = tempfile::tempdir().unwrap();
    let (mut newest, mut commits, mut by_surprise) = (0, 0, 0);
    for round in 0..ROUNDS {
        // Begin anew now and then, so that creation of the file is killed as well as use of an old one.
        if round % 10 == 0 {
            dir = tempfile::tempdir().unwrap();
            newest = 0;
        }
        let path = dir.path().join("store.redb");
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_that_commits_until_killed", "--ignored", "--nocapture"])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, told) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(place) = line.strip_prefix("committed ") {
                    let _ = tell.send(place.parse::<u64>().unwrap());
                }
            }
        });
        // The instant: after so many commits, and then a part of a commit later; or at once, while it opens the file.
        let mut printed = newest;
        let wait_for = if rng.random_bool(0.2) { 0 } else { rng.random_range(1..25) };
        for _ in 0..wait_for {
            printed = told.recv_timeout(PATIENCE).expect("the child commits");
            commits += 1;
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..8_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        printed = told.try_iter().last().unwrap_or(printed);

        newest = check(&path);
        assert!(newest >= printed, "round {round}: {printed} was committed, the ledger ends at {newest}");
        assert!(newest <= printed + 3, "round {round}: more than one commit was in flight");
        by_surprise += u64::from(newest > printed);
    }
    eprintln!(
        "{ROUNDS} kills, {commits} commits waited for, {by_surprise} kills between commit and word of it"
    );
}

#[test]
#[ignore = "run by the test above, as the process to be killed"]
fn child_that_commits_until_killed() {
    let Ok(path) = env::var(FILE) else { return };
    let mut store = RedbStore::open(path).unwrap();
    let mut next = store.entries(None, 1).unwrap().first().map_or(0, |entry| entry.seq.0) + 1;
    let mut stdout = std::io::stdout().lock();
    loop {
        let last = next + next % 3;
        let entries: Vec<_> =
            (next..=last).map(|place| (None, EntryKind::Engine { what: text(next, place, last) })).collect();
        let places = store.commit(Timestamp::from_unix_ms(next), &entries, &last.to_be_bytes()).unwrap();
        assert_eq!(places.last().unwrap().0, last);
        writeln!(stdout, "committed {last}").unwrap();
        stdout.flush().unwrap();
        next = last + 1;
    }
}
