//! Recording many episodes at once, in a world of our own: whatever becomes of the recorder, its processes and mounts end
//! with it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::{self, File},
    path::PathBuf,
    process::Command,
    rc::Rc,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal},
};

use crate::{
    cause::Faults,
    episode::{Recording, record},
    outcome::STEP,
    place, programs,
    spec::{self, Class, EpisodeSpec, Kind, Random},
    subject, table,
};

/// What to record.
#[derive(Args)]
pub(crate) struct RecordArguments {
    /// Everything is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only as many episodes as take a few minutes: each way of each kind once.
    #[arg(long)]
    reduced: bool,
    /// Only episodes of these kinds.
    #[arg(long = "kind", value_parser = parse_kind)]
    kinds: Vec<Kind>,
    /// Only this many of each kind.
    #[arg(long)]
    most: Option<usize>,
    /// The folder to write to; `data/corpus`, or `target/corpus-reduced` with --reduced.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Episodes at once.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=40))]
    jobs: u8,
    /// Fail when less than this share of the episodes, in percent, came out as meant.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    as_meant: u8,
    /// Set by the recorder when it starts itself in a world of its own.
    #[arg(long, hide = true)]
    inside: bool,
}

fn parse_kind(name: &str) -> Result<Kind, String> {
    serde_json::from_value(name.into()).map_err(|_| {
        let known: Vec<String> = Kind::ALL.iter().map(spec::name).collect();
        format!("the kinds are {}", known.join(", "))
    })
}

impl RecordArguments {
    fn out(&self) -> PathBuf {
        let usual = if self.reduced { "target/corpus-reduced" } else { "data/corpus" };
        self.out.clone().unwrap_or_else(|| usual.into())
    }

    fn specs(&self) -> Vec<EpisodeSpec> {
        let mut specs = if self.reduced { spec::reduced(self.seed, 1) } else { spec::all(self.seed) };
        specs.retain(|s| self.kinds.is_empty() || self.kinds.contains(&s.kind));
        if let Some(most) = self.most {
            specs.retain(|s| s.id as usize % 1_000 < most);
        }
        specs
    }
}

/// Records. Without `--inside` it makes a world of its own and starts itself there.
///
/// # Errors
/// When the machine lacks something, or episodes can't be recorded.
pub(crate) fn run(arguments: &RecordArguments) -> Result<()> {
    if arguments.inside { inside(arguments) } else { outside() }
}

fn outside() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the recorder needs root: for control groups, disks and users");
    programs::provide()?;
    let file = File::create(place::LOCK)?;
    let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        bail!("another recorder runs; it holds {}", place::LOCK);
    };
    place::sweep();
    place::prepare()?;
    // With the first process of its namespace every other dies, and with the last go mounts, addresses and packet filters.
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("can't make namespaces of processes, mounts and networks")?;
    let mut inner = Command::new("/proc/self/exe");
    inner.args(std::env::args_os().skip(1)).arg("--inside");
    let status = inner.status().context("can't start the recorder itself")?;
    place::sweep();
    ensure!(status.success(), "recording failed: {status}");
    Ok(())
}

fn inside(arguments: &RecordArguments) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("can't keep mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).context("can't mount /proc")?;
    let up = Command::new(programs::find("ip")).args(["link", "set", "lo", "up"]).status()?;
    ensure!(up.success(), "the loopback interface of a new network can't be set up: {up}");
    place::take_precedence()?;
    fs::create_dir_all(place::WORK)?;
    mount(Some("corpus"), place::WORK, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=75%"))?;
    let specs = arguments.specs();
    ensure!(!specs.is_empty(), "there is no such episode");
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    let recordings = tasks.block_on(&runtime, record_all(specs, arguments.jobs, arguments.seed))?;
    let took_s = begun.elapsed().as_secs_f64();
    summary(&recordings, took_s, arguments.jobs);
    let out = arguments.out();
    let about = table::About {
        seed: arguments.seed,
        reduced: arguments.reduced,
        jobs: arguments.jobs,
        took_s,
        versions: programs::versions(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32,
    };
    table::write(&out, &recordings, &about)?;
    println!("written to {}", out.display());
    let meant = recordings.iter().filter(|r| is_as_meant(r)).count();
    println!("{meant} of {} came out as meant", recordings.len());
    ensure!(
        meant * 100 >= recordings.len() * usize::from(arguments.as_meant),
        "{meant} of {} episodes came out as meant, not {}%",
        recordings.len(),
        arguments.as_meant
    );
    Ok(())
}

fn is_as_meant(recording: &Recording) -> bool {
    recording.failed_step.is_some() == (recording.spec.kind.class() != Class::Healthy)
}

/// What workers share.
struct Work {
    left: RefCell<VecDeque<EpisodeSpec>>,
    done: RefCell<Vec<Recording>>,
    failed: RefCell<Vec<String>>,
    total: usize,
    begun: Instant,
}

async fn record_all(mut specs: Vec<EpisodeSpec>, jobs: u8, seed: u64) -> Result<Vec<Recording>> {
    subject::provide_shop()?;
    crate::launch::own_program()?;
    subject::make_template().await?;
    let faults = Faults::start()?;
    // Kinds are spread over time, so that those that use much CPU time do not come together.
    Random::from_seed(seed ^ 9).shuffle(&mut specs);
    let work = Rc::new(Work {
        total: specs.len(),
        left: RefCell::new(specs.into()),
        done: RefCell::default(),
        failed: RefCell::default(),
        begun: Instant::now(),
    });
    let mut workers = tokio::task::JoinSet::new();
    for slot in 1..=jobs {
        workers.spawn_local(worker(work.clone(), faults.clone(), slot, jobs));
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("a worker panicked")?;
    }
    let failed = work.failed.take();
    ensure!(failed.is_empty(), "{} episodes could not be recorded: {}", failed.len(), failed.join("; "));
    let mut done = work.done.take();
    done.sort_by_key(|recording| recording.spec.id);
    Ok(done)
}

async fn worker(work: Rc<Work>, faults: Faults, slot: u8, jobs: u8) {
    // Starts are costly: they shall not come all at once.
    let stagger =
        std::time::Duration::from_millis(60_000 / u64::from(jobs)).min(std::time::Duration::from_secs(2));
    tokio::time::sleep(stagger * u32::from(slot - 1)).await;
    loop {
        let Some(spec) = work.left.borrow_mut().pop_front() else { return };
        let mut recorded = record(&spec, slot, &faults).await;
        if let Err(why) = &recorded {
            eprintln!("again: {why:#}");
            recorded = record(&spec, slot, &faults).await;
        }
        match recorded {
            Ok(recording) => {
                work.done.borrow_mut().push(recording);
                progress(&work);
            }
            Err(why) => work.failed.borrow_mut().push(format!("{why:#}")),
        }
    }
}

fn progress(work: &Work) {
    let done = work.done.borrow();
    let Some(newest) = done.last() else { return };
    let spec = &newest.spec;
    let outcome = newest.failed_s().map_or_else(|| "kept".to_owned(), |s| format!("failed at {s:.1} s"));
    let onset = spec.onset_s().map_or_else(|| "–".to_owned(), |s| format!("{s:.1} s"));
    eprintln!(
        "{:>4}/{} {:>5.0} s  {:>5} {:<18} {:<8} onset {onset}, {outcome}{}",
        done.len(),
        work.total,
        work.begun.elapsed().as_secs_f64(),
        spec.id,
        spec::name(spec.kind),
        spec::name(spec.subject),
        newest.trouble.as_deref().map(|why| format!("  [{why}]")).unwrap_or_default(),
    );
}

fn summary(recordings: &[Recording], took_s: f64, jobs: u8) {
    let seconds: f64 = recordings.iter().map(|r| f64::from(r.steps) * STEP.as_secs_f64()).sum();
    println!("{} episodes, {:.0} s recorded in {took_s:.0} s with {jobs} at once", recordings.len(), seconds);
    for kind in Kind::ALL {
        let all: Vec<&Recording> = recordings.iter().filter(|r| r.spec.kind == kind).collect();
        if all.is_empty() {
            continue;
        }
        let failed = all.iter().filter(|r| r.failed_step.is_some()).count();
        let meant = if kind.class() == Class::Healthy { 0 } else { all.len() };
        let odd = if failed == meant { "" } else { "  <- not as meant" };
        println!("{:<20} {failed:>4} of {:>4} failed{odd}", spec::name(kind), all.len());
    }
}
