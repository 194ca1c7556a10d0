//! What happens when the file is not as it should be: in use, damaged, not writable, full.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    num::NonZeroU64,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use forefend_domain::{EntryKind, LedgerSeq, Timestamp, ports::Store};
use forefend_store::{EngineStore, RedbStore, StoreError, StoreOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const FILE: &str = "FOREFEND_TEST_FILE";

fn commit(store: &mut RedbStore, what: &str) -> Result<u64, String> {
    let entry = [(None, EntryKind::Engine { what: what.to_owned() })];
    let places = store.commit(Timestamp::from_unix_ms(1), &entry, what.as_bytes());
    places.map(|places| places[0].0).map_err(|error| error.to_string())
}

fn child(test: &str, path: &Path, before: &str) -> Command {
    let mut child = Command::new("sh");
    child
        .arg("-c")
        .arg(format!("{before} exec \"$0\" --exact {test} --ignored --nocapture"))
        .arg(env::current_exe().unwrap())
        .env(FILE, path)
        .stdout(Stdio::piped());
    child
}

#[test]
fn a_second_process_is_told_who_holds_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut holder = child("child_that_holds_the_file", &path, "").stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "holding"), "the child opens the file");
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("store.redb") && said.contains("stop that process"), "{said}");
    // /proc/locks names the holder where the kernel shows it; where it doesn't, the message says so plainly.
    assert!(said.contains(&format!("process {}", holder.id())) || said.contains("another process"), "{said}");
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    RedbStore::open(&path).expect("free again once the holder has gone");
}

#[test]
#[ignore = "run by the test above, as the other process"]
fn child_that_holds_the_file() {
    let Ok(path) = env::var(FILE) else { return };
    let _store = RedbStore::open(path).unwrap();
    println!("\nholding");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn one_process_cannot_open_it_twice_but_may_clone_the_handle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    fs::write(dir.path().join("store.redb.new-1-0"), "left by an engine that was killed").unwrap();
    let mut store = RedbStore::open(&path).unwrap();
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["store.redb"], "drafts are swept away");
    assert!(matches!(RedbStore::open(&path), Err(StoreError::Locked { .. })));
    let mut clone = store.clone();
    assert_eq!(commit(&mut store, "a"), Ok(1));
    assert_eq!(commit(&mut clone, "b"), Ok(2));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the ledger is nobody else's business");
}

#[test]
fn a_disk_that_was_full_needs_no_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    // 4 MiB in the shell's 512-byte blocks; without the trap the kernel would kill the child.
    let out =
        child("child_that_fills_the_disk", &path, "trap '' XFSZ;").stderr(Stdio::piped()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stdout).contains("recovered"), "the child really ran");
}

#[test]
#[ignore = "run by the test above, with a limit on the size of files"]
fn child_that_fills_the_disk() {
    let Ok(path) = env::var(FILE) else { return };
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let mut store = RedbStore::open(&path).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 4 << 20, hard).unwrap();
    let reader = store.reader();
    let mut acknowledged = 0;
    let error = loop {
        match commit(&mut store, &"x".repeat(100_000)) {
            Ok(place) => acknowledged = place,
            Err(error) => break error,
        }
        assert!(acknowledged < 1_000, "the limit was never reached");
    };
    assert!(error.contains("store.redb") && error.contains("can't commit"), "{error}");
    assert!(commit(&mut store, &"y".repeat(200_000)).is_err(), "still full");
    // Reading goes on meanwhile, from the handle and from readers made before.
    assert_eq!(reader.newest().unwrap(), Some(LedgerSeq(acknowledged)));

    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    assert_eq!(commit(&mut store, "room again"), Ok(acknowledged + 1));
    assert_eq!(store.memory().unwrap().unwrap(), b"room again");
    assert_eq!(reader.newest().unwrap(), Some(LedgerSeq(acknowledged + 1)));
    println!("recovered");
}

#[test]
fn a_lowered_retention_prunes_when_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut store = RedbStore::open(&path).unwrap();
    let many: Vec<_> = (0..25_000).map(|n| (None, EntryKind::Engine { what: n.to_string() })).collect();
    store.commit(Timestamp::from_unix_ms(1), &many, b"m").unwrap();
    drop(store);
    let few = StoreOptions { ledger_entries: NonZeroU64::new(10).unwrap() };
    let mut store = RedbStore::open_with(&path, few).unwrap();
    let kept: Vec<u64> = store.entries(None, 99).unwrap().iter().map(|entry| entry.seq.0).collect();
    assert_eq!(kept, (24_991..=25_000).rev().collect::<Vec<_>>());
    assert_eq!(commit(&mut store, "next"), Ok(25_001));
}

#[test]
fn what_is_no_store_is_refused_with_a_remedy_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.txt");
    fs::write(&text, "not a database ".repeat(1_000)).unwrap();
    let error = RedbStore::open(&text).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("notes.txt") && error.to_string().contains("mv "), "{error}");
    assert_eq!(fs::read_to_string(&text).unwrap(), "not a database ".repeat(1_000));

    let error = RedbStore::open(dir.path().join("missing/store.redb")).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }) && error.to_string().contains("missing"), "{error}");
    let empty = dir.path().join("empty.redb");
    File::create(&empty).unwrap();
    let error = RedbStore::open(&empty).unwrap_err().to_string();
    assert!(error.contains("empty.redb") && error.contains("it is empty"), "{error}");
    let error = RedbStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "a directory: {error}");
}

/// A file cut short, or with sectors that read as zeros, ends in an error or is not noticed where it does no harm.
///
/// Bytes changed at random inside a page are another matter: redb trusts what it wrote, panics on some of them, and
/// rarely panics again while it unwinds, which nobody can catch (ADR 0006).
#[test]
fn a_file_that_lost_sectors_is_an_error_and_no_panic() {
    const SECTOR: u64 = 4_096;
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.redb");
    let mut store = RedbStore::open(&whole).unwrap();
    for n in 0..20 {
        commit(&mut store, &format!("{n} {}", "x".repeat(2_000))).unwrap();
    }
    drop(store);
    let length = fs::metadata(&whole).unwrap().len();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut noticed = 0;
    for round in 0..200 {
        let path = dir.path().join("damaged.redb");
        fs::copy(&whole, &path).unwrap();
        let mut file = File::options().write(true).open(&path).unwrap();
        if round % 4 == 0 {
            file.set_len(rng.random_range(1..length)).unwrap();
        } else {
            for _ in 0..rng.random_range(1..8) {
                file.seek(SeekFrom::Start(rng.random_range(0..length / SECTOR) * SECTOR)).unwrap();
                file.write_all(&[0; SECTOR as usize]).unwrap();
            }
        }
        drop(file);
        let used = RedbStore::open(&path).map_err(|error| error.to_string()).and_then(|mut store| {
            store.entries(None, 99).map_err(|error| error.to_string())?;
            commit(&mut store, "on top")
        });
        if let Err(error) = used {
            assert!(error.contains("damaged.redb"), "{error}");
            noticed += 1;
        }
    }
    assert!(noticed > 40, "only {noticed} of 200 damaged files were noticed");
}
