//! Every fault on a live process: its effect, its undo, and both again with the injector killed by SIGKILL. The table of
//! what was measured is written to `docs/faults.md` when `FOREFEND_BLESS=1`; `FAULT=kind` tries one
//! alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "faults/cases.rs"]
mod cases;
#[path = "faults/tls.rs"]
mod tls;
#[path = "faults/victim.rs"]
mod victim;

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cases::{Case, Way};
use forefend_chaos::{DEFAULT_TTL, Fault, Injector, LeaseBook, Target};
use victim::{PATIENCE, PROGRAM, Victim, Wanted, can_inject, wait_until};

/// What a fault did in one trial.
struct Trial {
    before: f64,
    during: f64,
    after: f64,
    undone_in: Duration,
}

#[test]
fn every_fault_hurts_and_is_undone_even_when_the_injector_is_killed() {
    if !can_inject() {
        return;
    }
    let mut rows = Vec::new();
    let only = std::env::var("FAULT").ok();
    for case in cases::all().into_iter().filter(|c| only.as_deref().is_none_or(|only| only == c.kind)) {
        let ended = by_ending(&case);
        let killed = by_killing(&case);
        println!("{}", row(&case, &ended, &killed));
        rows.push(row(&case, &ended, &killed));
    }
    if only.is_some() {
        return;
    }
    let tested: Vec<&str> = cases::all().iter().map(|c| c.kind).collect();
    for kind in Fault::KINDS {
        assert!(tested.contains(&kind), "{kind} has no trial");
    }
    publish(&rows);
}

/// Begun and ended as an experiment does it.
fn by_ending(case: &Case) -> Trial {
    let victim = (case.victim)();
    let fault = (case.fault)(&victim);
    assert_eq!(fault.kind(), case.kind);
    let leases = victim.dir.path().join("leases");
    let injector = Injector::start(&leases, Path::new(PROGRAM), DEFAULT_TTL).unwrap();
    let knobs = victim.groups.knobs();
    let before = case.settled(&victim, "well before", |m| case.is_well(m));
    let injection = injector.begin(&fault, &victim.target).unwrap();
    case.settled(&victim, "well at level 0", |m| case.is_well(m));
    injection.set(1.0).unwrap();
    let during = case.settled(&victim, "hurt", |m| case.is_hurt(before, m));
    let begun = Instant::now();
    injection.end().unwrap();
    let after = recovered(case, &victim, before);
    let undone_in = begun.elapsed();
    nothing_is_left(case, &victim, &knobs, &leases);
    Trial { before, during, after, undone_in }
}

/// The injector is killed while the fault is at its height.
fn by_killing(case: &Case) -> Trial {
    let victim = (case.victim)();
    let fault = (case.fault)(&victim);
    let leases = victim.dir.path().join("leases");
    let knobs = victim.groups.knobs();
    let before = case.settled(&victim, "well before", |m| case.is_well(m));
    let mut injector = inject(&leases, &fault, &victim.target);
    let during = case.settled(&victim, "hurt", |m| case.is_hurt(before, m));
    let begun = Instant::now();
    injector.kill().unwrap();
    injector.wait().unwrap();
    let after = recovered(case, &victim, before);
    let undone_in = begun.elapsed();
    nothing_is_left(case, &victim, &knobs, &leases);
    Trial { before, during, after, undone_in }
}

fn recovered(case: &Case, victim: &Victim, before: f64) -> f64 {
    match case.way {
        // Who was killed comes back by whoever runs it.
        Way::Dies => 0.0,
        _ => case.settled(victim, "well again", |m| case.is_back(before, m)),
    }
}

fn inject(leases: &Path, fault: &Fault, target: &Target) -> Child {
    let mut child = Command::new(PROGRAM)
        .arg("inject")
        .arg(leases)
        .arg(serde_json::to_string(fault).unwrap())
        .arg(serde_json::to_string(target).unwrap())
        .arg("1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "on\n", "{fault:?}");
    child
}

/// No lease, no helper, no table in the packet filter, no file, no knob turned.
fn nothing_is_left(case: &Case, victim: &Victim, knobs: &[(std::path::PathBuf, String)], leases: &Path) {
    let book = LeaseBook::open(leases, Path::new(PROGRAM)).unwrap();
    wait_until("every lease is gone", || book.leases().unwrap().is_empty());
    assert_eq!(victim.groups.knobs(), knobs, "{}: a knob is left turned", case.kind);
    let helpers = || {
        let list = Command::new("pgrep").args(["-f", "forefend-chaos-probe __chaos work"]).output().unwrap();
        String::from_utf8(list.stdout).unwrap()
    };
    wait_until("every helper is gone", || helpers().is_empty());
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
    let tables = String::from_utf8(tables.stdout).unwrap();
    assert!(!tables.contains("forefend"), "{}: {tables}", case.kind);
    let mut dirs = vec![victim.dir.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            assert!(
                !entry.file_name().to_string_lossy().starts_with(".forefend"),
                "{}: {:?} is left",
                case.kind,
                entry.path()
            );
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    assert!(case.way == Way::Dies || victim.is_alive(), "{}: the cell did not live to see it", case.kind);
}

fn row(case: &Case, ended: &Trial, killed: &Trial) -> String {
    let number = |n: f64| if n >= 100.0 { format!("{n:.0}") } else { format!("{n:.2}") };
    let after = |trial: &Trial| match case.way {
        Way::Dies => "–".to_owned(),
        _ => format!("{} in {:.1} s", number(trial.after), trial.undone_in.as_secs_f64()),
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |",
        case.kind,
        case.measures,
        number(ended.before),
        number(ended.during),
        after(ended),
        number(killed.during),
        after(killed),
    )
}

/// The kernel takes the cell, as it would if the cell itself leaked, and not the process that leaks for it.
#[test]
fn a_leak_beyond_the_limit_ends_in_the_kernels_kill_of_the_cell() {
    if !can_inject() {
        return;
    }
    let victim = Victim::start(&Wanted { memory_mib: Some(64), ..Wanted::default() });
    let leases = victim.dir.path().join("leases");
    let injector = Injector::start(&leases, Path::new(PROGRAM), DEFAULT_TTL).unwrap();
    let injection = injector.begin(&Fault::MemoryLeak { bytes: 128 << 20 }, &victim.target).unwrap();
    injection.set(0.25).unwrap();
    wait_until("half of its memory is taken", || victim.groups.memory_mib() > 30.0);
    assert!(victim.is_alive());
    injection.set(1.0).unwrap();
    wait_until("the kernel kills it", || !victim.is_alive());
    assert!(victim.groups.oom_kills() > 0);
    injection.end().unwrap();
    wait_until("its memory is given back", || victim.groups.memory_mib() < 10.0);
}

/// A holder that sleeps past its lease finds its fault undone, and can't bring it back.
#[test]
fn an_injector_that_stands_still_loses_its_faults() {
    if !can_inject() {
        return;
    }
    let victim = Victim::start(&Wanted::default());
    let leases = victim.dir.path().join("leases");
    let answers = || victim.get("/", Duration::from_millis(500)).is_some();
    let mut injector = inject(&leases, &Fault::Stop, &victim.target);
    wait_until("it is stopped", || !answers());
    let signal = |signal: &str| {
        let sent = Command::new("kill").args([signal, &injector.id().to_string()]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    wait_until("its lease lapses and it answers", answers);
    signal("-CONT");
    let book = LeaseBook::open(&leases, Path::new(PROGRAM)).unwrap();
    wait_until("no lease is left", || book.leases().unwrap().is_empty());
    assert!(answers());
    injector.kill().unwrap();
    injector.wait().unwrap();
}

/// Watchdog and injector killed together: whoever opens the book next undoes what they left.
#[test]
fn what_nobody_could_undo_is_undone_by_the_next() {
    if !can_inject() {
        return;
    }
    let victim = Victim::start(&Wanted::default());
    let leases = victim.dir.path().join("leases");
    let answers = || victim.get("/", Duration::from_millis(500)).is_some();
    let mut injector = inject(&leases, &Fault::Stop, &victim.target);
    wait_until("it is stopped", || !answers());
    let watchdog = format!("__chaos watchdog {}", leases.display());
    let killed = Command::new("pkill").args(["-KILL", "-f", &watchdog]).status().unwrap();
    assert!(killed.success());
    injector.kill().unwrap();
    injector.wait().unwrap();
    let next = Injector::start(&leases, Path::new(PROGRAM), DEFAULT_TTL).unwrap();
    assert!(answers());
    drop(next);
}

/// A fault that can't be kept to its cell is refused, and says what would help.
#[test]
fn what_would_hit_others_or_can_not_be_done_is_refused() {
    if !can_inject() {
        return;
    }
    let victim = Victim::start(&Wanted::default());
    let leases = victim.dir.path().join("leases");
    let injector = Injector::start(&leases, Path::new(PROGRAM), DEFAULT_TTL).unwrap();
    let refused = |fault: Fault, target: &Target| match injector.begin(&fault, target) {
        Ok(_) => panic!("{fault:?} was begun"),
        Err(e) => e.to_string(),
    };
    let target = &victim.target;
    let said = refused(Fault::MemoryLeak { bytes: 1 << 30 }, target);
    assert!(said.contains("no memory limit"), "{said}");
    let said = refused(Fault::DiskFull { path: None, leave_bytes: 0 }, target);
    assert!(said.contains("the machine's own file system"), "{said}");
    let said = refused(Fault::ClockSkew { by_ms: 1 }, target);
    assert!(said.contains("LD_PRELOAD"), "{said}");
    let said = refused(Fault::ErrorRate { share: 2.0, status: 500 }, target);
    assert!(said.contains("`share` must be above 0% and at most 100%"), "{said}");
    let ourselves = Target { pid: i32::try_from(std::process::id()).unwrap(), ..target.clone() };
    let said = refused(Fault::MemoryLeak { bytes: 1 }, &ourselves);
    assert!(said.contains("control group"), "{said}");
    let nobody = Target { pid: i32::MAX - 1, ..target.clone() };
    assert!(refused(Fault::Stop, &nobody).contains("is not running"));
    // A second one would take the first one's doing for the cell's own, and put that back.
    let first = injector.begin(&Fault::CpuQuota { cores: 0.5 }, target).unwrap();
    let said = refused(Fault::CpuQuota { cores: 0.1 }, target);
    assert!(said.contains("cpu-quota is on at") && said.contains("end it first"), "{said}");
    first.end().unwrap();
    injector.begin(&Fault::CpuQuota { cores: 0.1 }, target).unwrap().end().unwrap();
    let nowhere = Target { address: None, ..target.clone() };
    assert!(refused(Fault::Partition, &nowhere).contains("name its `address`"));
    assert!(LeaseBook::open(&leases, Path::new(PROGRAM)).unwrap().leases().unwrap().is_empty());
}

const TABLE: &str = "../../docs/faults.md";
const MARK: &str = "<!-- measured -->\n";

/// Replaces the table when asked; checks that the one that is published has a row for every fault.
fn publish(rows: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let published = fs::read_to_string(&path).unwrap();
    if std::env::var_os("FOREFEND_BLESS").is_some() {
        let head = published.split(MARK).next().unwrap();
        let tail = published.split(MARK).nth(2).unwrap_or_default();
        let mut table = String::from(
            "| Fault | Measured at the cell | Before | At full level | After its end | At full level | After the injector \
             was killed |\n|---|---|---|---|---|---|---|\n",
        );
        for row in rows {
            writeln!(table, "{row}").unwrap();
        }
        fs::write(&path, format!("{head}{MARK}{table}{MARK}{tail}")).unwrap();
        return;
    }
    for kind in Fault::KINDS {
        assert!(published.contains(&format!("\n| {kind} | ")), "docs/faults.md has no row for {kind}");
    }
}

impl Case {
    /// Measures until it is as wanted; what was measured then.
    fn settled(&self, victim: &Victim, what: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let begun = Instant::now();
        loop {
            let measured = (self.measure)(victim);
            if wanted(measured) {
                return measured;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{}: never {what}: {} is {measured}",
                self.kind,
                self.measures
            );
        }
    }
}
