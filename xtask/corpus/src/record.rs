//! Recording many episodes at once, in a world of our own: whatever becomes of the recorder, its processes and mounts end
//! with it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::{self, File},
    path::PathBuf,
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::{
    cause::Faults,
    episode::{Recording, record},
    keep::Keep,
    outcome::STEP,
    pace::{self, Scales},
    place, programs,
    spec::{self, EpisodeSpec, Kind, Random},
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
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=40))]
    jobs: u8,
    /// Fail when less than this share of the episodes, in percent, came out as meant.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    as_meant: u8,
    /// Begins no episode after so many minutes; the same command goes on another time.
    #[arg(long)]
    minutes: Option<u32>,
    /// Set by the recorder when it starts itself in a world of its own: once for the first process there, twice for the recorder.
    #[arg(long, hide = true, action = clap::ArgAction::Count)]
    inside: u8,
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
    match arguments.inside {
        0 => outside(),
        1 => first_process(),
        _ => inside(arguments),
    }
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

/// Buries whoever dies in this world without a parent, until the recorder has ended. Servers leave thousands behind in an hour, and as
/// long as nobody asks after them each is an entry in `/proc` that every look at processes has to pass.
fn first_process() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let recorder = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .spawn()
        .context("can't start the recorder itself")?;
    let recorder = Pid::from_raw(i32::try_from(recorder.id())?);
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, 0)) if pid == recorder => return Ok(()),
            Ok(ended @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))) if pid == recorder => {
                bail!("the recorder ended with {ended:?}")
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("the recorder is gone"),
        }
    }
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
    let out = arguments.out();
    let keep = Rc::new(Keep::open(&out)?);
    let (mut recordings, mut left) = (Vec::new(), Vec::new());
    for spec in specs {
        match keep.load(&spec)? {
            Some(recording) => recordings.push(recording),
            None => left.push(spec),
        }
    }
    if !recordings.is_empty() {
        println!("{} episodes were recorded before; {} are left", recordings.len(), left.len());
    }
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    let missing = left.len();
    let done = tasks.block_on(&runtime, record_all(left, arguments, keep.clone()))?;
    let took_s = keep.took_s(begun.elapsed().as_secs_f64())?;
    if done.len() < missing {
        println!("{} episodes are left: run the same command again", missing - done.len());
        ensure!(arguments.minutes.is_some(), "not all episodes could be recorded; those that could are kept");
        return Ok(());
    }
    recordings.extend(done);
    recordings.sort_by_key(|recording| recording.spec.id);
    summary(&recordings, took_s, arguments.jobs);
    let about = table::About {
        seed: arguments.seed,
        reduced: arguments.reduced,
        jobs: arguments.jobs,
        took_s,
        versions: programs::versions(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32,
    };
    table::write(&out, &recordings, &about)?;
    if let Some(keep) = Rc::into_inner(keep) {
        keep.clear()?;
    }
    println!("written to {}", out.display());
    let meant = recordings.iter().filter(|r| r.is_as_meant()).count();
    println!("{meant} of {} came out as meant", recordings.len());
    ensure!(
        meant * 100 >= recordings.len() * usize::from(arguments.as_meant),
        "{meant} of {} episodes came out as meant, not {}%",
        recordings.len(),
        arguments.as_meant
    );
    Ok(())
}

/// How often an episode is tried again whose server could not be had.
const MORE_TRIES: u8 = 3;

/// What workers share.
struct Work {
    left: RefCell<VecDeque<EpisodeSpec>>,
    done: RefCell<Vec<Recording>>,
    keep: Rc<Keep>,
    total: usize,
    scales: Scales,
    /// Between the first starts of two workers.
    stagger: Duration,
    /// No episode begins after this.
    until: Option<Instant>,
    begun: Instant,
}

async fn record_all(
    mut specs: Vec<EpisodeSpec>,
    arguments: &RecordArguments,
    keep: Rc<Keep>,
) -> Result<Vec<Recording>> {
    if specs.is_empty() {
        return Ok(Vec::new());
    }
    let jobs = arguments.jobs;
    subject::provide_shop()?;
    crate::launch::own_program()?;
    subject::make_template().await?;
    let faults = Faults::start()?;
    let scales = pace::rehearse(&specs, &faults, jobs).await?;
    for (subject, scale) in &scales {
        println!("{}: limits of CPU time are {scale:.2} times what was drawn", spec::name(subject));
    }
    // Kinds are spread over time, so that those that use much CPU time do not come together.
    Random::from_seed(arguments.seed ^ 9).shuffle(&mut specs);
    let work = Rc::new(Work {
        total: specs.len(),
        left: RefCell::new(specs.into()),
        done: RefCell::default(),
        keep,
        scales,
        stagger: pace::stagger(jobs),
        begun: Instant::now(),
        until: arguments.minutes.map(|minutes| Instant::now() + Duration::from_secs(u64::from(minutes) * 60)),
    });
    let mut workers = tokio::task::JoinSet::new();
    for slot in 1..=jobs {
        workers.spawn_local(worker(work.clone(), faults.clone(), slot));
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("a worker panicked")?;
    }
    Ok(work.done.take())
}

async fn worker(work: Rc<Work>, faults: Faults, slot: u8) {
    // Starts are costly: they shall not come all at once.
    tokio::time::sleep(work.stagger * u32::from(slot - 1)).await;
    loop {
        if work.until.is_some_and(|until| Instant::now() >= until) {
            return;
        }
        let Some(spec) = work.left.borrow_mut().pop_front() else { return };
        let scale = work.scales.get(&spec.subject).copied().unwrap_or(1.0);
        let mut recorded = record(&spec, scale, slot, &faults).await;
        for _ in 0..MORE_TRIES {
            let Err(why) = &recorded else { break };
            eprintln!("again: {why:#}");
            recorded = record(&spec, scale, slot, &faults).await;
        }
        match recorded.and_then(|recording| work.keep.save(&recording).map(|()| recording)) {
            Ok(recording) => {
                work.done.borrow_mut().push(recording);
                progress(&work);
            }
            Err(why) => eprintln!("not recorded: {why:#}"),
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
        let odd = all.iter().filter(|r| !r.is_as_meant()).count();
        let odd = if odd == 0 { String::new() } else { format!("  <- {odd} not as meant") };
        println!("{:<20} {failed:>4} of {:>4} failed{odd}", spec::name(kind), all.len());
    }
}
