use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use forefend_domain::CellId;
use nix::fcntl::{Flock, FlockArg};
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use super::{SandboxError, context::Context, expand::Values};
use crate::{
    Protection, Protections,
    blueprint::{EnvValue, Image},
    cgroup::Limits,
    init::{INIT_ARGUMENT, InitSpec, Launched, ProbeReport},
    process::Process,
    record::{self, Record},
};

/// From the start of the shim until the cell's first process is recorded: milliseconds, unless the machine is choking.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);
/// For the shim of an older attempt to let go of the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// For killed processes to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Tries the protections in a child of its own.
pub(super) fn probe(exe: &Path, state_dir: &Path) -> Result<Protections, SandboxError> {
    let scratch = state_dir.join("probe");
    fs::create_dir_all(&scratch)
        .map_err(|source| SandboxError::Io { what: scratch.display().to_string(), source })?;
    let output = Command::new(exe)
        .arg(INIT_ARGUMENT)
        .arg("probe")
        .arg(&scratch)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| SandboxError::Probe(format!("{}: {e}", exe.display())))?;
    let report: ProbeReport = serde_json::from_slice(&output.stdout).map_err(|e| {
        let said = String::from_utf8_lossy(&output.stderr);
        SandboxError::Probe(format!(
            "{} {INIT_ARGUMENT} ended with {} and said nothing useful ({e}; {said}); does its main call init_main?",
            exe.display(),
            output.status
        ))
    })?;
    Ok(Protections { missing: report.missing, landlock_abi: report.landlock_abi })
}

/// Starts the cell's process, or takes over one that an engine before us started.
pub(super) async fn start(context: &Arc<Context>, cell: &CellId) -> Result<Process, String> {
    let prepared = {
        let (context, cell) = (context.clone(), cell.clone());
        tokio::task::spawn_blocking(move || prepare(&context, &cell)).await.map_err(|e| e.to_string())??
    };
    let record = match prepared {
        Prepared::Runs(process) => return Ok(process),
        Prepared::New(record) => record,
    };
    let spec = spec(context, &record)?;
    let text = serde_json::to_vec(&spec).map_err(|e| e.to_string())?;
    let mut shim = tokio::process::Command::new(&context.exe)
        .args([INIT_ARGUMENT, "run"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{} can't be started: {e}", context.exe.display()))?;
    let (stdin, stdout) = (shim.stdin.take(), shim.stdout.take());
    let introduce = async {
        let (Some(mut stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(io::Error::other("the shim has no pipes"));
        };
        stdin.write_all(&text).await?;
        drop(stdin);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        Ok(line)
    };
    let line = timeout(SHIM_PATIENCE, introduce).await;
    let stuck = line.is_err();
    if stuck {
        let _ = shim.start_kill();
    }
    // Reaps it whenever it ends; it lives as long as its cell.
    tokio::spawn(async move {
        let _ = shim.wait().await;
    });
    let dir = context.dir(cell);
    let launched: Option<Launched> = record::read_json(&dir.join(record::PROCESS));
    let process = launched.filter(|launched| launched.attempt == record.attempt).and_then(Process::open);
    match (line, process) {
        (Ok(Ok(_)), Some(process)) => Ok(process),
        (Err(_), _) => Err(format!("its process did not begin within {SHIM_PATIENCE:?}")),
        (Ok(Err(e)), _) => Err(format!("its init went away: {e}")),
        (Ok(Ok(_)), None) => Err(init_error(&dir).unwrap_or_else(|| "its process ended at once".into())),
    }
}

enum Prepared {
    /// It runs already.
    Runs(Process),
    /// Everything is ready for this attempt.
    New(Box<Record>),
}

/// Clears what older attempts left, makes directories and groups, and writes down the new attempt.
fn prepare(context: &Context, cell: &CellId) -> Result<Prepared, String> {
    let dir = context.dir(cell);
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| format!("{path}: {e}")
    };
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    // The cell's user must be able to pass, where no mount namespace shows it the data directory elsewhere.
    fs::set_permissions(&dir, Permissions::from_mode(0o711)).map_err(at(&dir))?;
    let known = context.with(|entries| {
        entries
            .get(cell)
            .map(|entry| (entry.record.attempt, entry.record.uid, entry.record.blueprint.clone()))
    });
    let Some((attempt, uid, blueprint)) = known else { return Err("it is gone".into()) };
    let Some(lock) = lock(&dir, LOCK_PATIENCE)? else {
        let launched: Option<Launched> = record::read_json(&dir.join(record::PROCESS));
        return launched
            .filter(|launched| launched.attempt == attempt)
            .and_then(Process::open)
            .map(Prepared::Runs)
            .ok_or_else(|| "an older init holds its lock and does not let go".into());
    };
    kill_remains(context, cell)?;
    for file in [record::PROCESS, record::EXIT, record::INIT_ERROR] {
        match fs::remove_file(dir.join(file)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(&dir.join(file))(e)),
            _ => {}
        }
    }
    let limits = Limits {
        memory_bytes: blueprint.resources.memory.0,
        cpu_share: blueprint.resources.cpu_share,
        pids_max: blueprint.resources.pids_max,
    };
    let groups = context.cgroups.create(cell.as_str(), limits).map_err(|e| e.to_string())?;
    let data = dir.join(record::DATA);
    for path in [&data, &dir.join("root")] {
        fs::create_dir_all(path).map_err(at(path))?;
    }
    fs::set_permissions(&data, Permissions::from_mode(0o700)).map_err(at(&data))?;
    if let Some(uid) = uid {
        chown(&data, Some(uid), Some(uid)).map_err(at(&data))?;
    }
    if !context.protections.has(Protection::MountNamespace) {
        let tmp = data.join("tmp");
        fs::create_dir_all(&tmp).map_err(at(&tmp))?;
        chown(&tmp, uid, uid).map_err(at(&tmp))?;
    }
    if let Some(clock) = context.options.clock.as_ref().filter(|_| blueprint.adjustable_clock) {
        let path = dir.join(record::CLOCK);
        // One that an older attempt left is kept: whoever set it off sets it right again.
        if !path.exists() {
            (clock.new_file)(&path).map_err(at(&path))?;
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(at(&path))?;
    }
    let attempted = |record: &mut Record| {
        record.attempt += 1;
        record.groups = groups;
    };
    let record = context.update(cell, attempted, |_| {});
    drop(lock);
    record.map(|record| Prepared::New(Box::new(record))).ok_or_else(|| "it is gone".into())
}

/// Takes the lock that the shim of a living cell holds; `None` when it is not let go of in time.
pub(super) fn lock(dir: &Path, patience: Duration) -> Result<Option<Flock<File>>, String> {
    let path = dir.join(record::LOCK);
    let deadline = Instant::now() + patience;
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err(_) if Instant::now() >= deadline => return Ok(None),
            // A shim without a recorded process is about to record one or to give up; then it may be ours to take over.
            Err(_) if runs(dir) => return Ok(None),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn runs(dir: &Path) -> bool {
    record::read_json(&dir.join(record::PROCESS)).and_then(Process::open).is_some()
}

/// Kills whatever is left of a cell and removes its groups. Blocks until it is gone.
pub(super) fn kill_remains(context: &Context, cell: &CellId) -> Result<(), String> {
    let launched: Option<Launched> = record::read_json(&context.dir(cell).join(record::PROCESS));
    if let Some(process) = launched.and_then(Process::open) {
        process.signal(Signal::KILL);
    }
    let mut groups = context.cgroups.groups_of(cell.as_str());
    // An engine before us may have run where other hierarchies were usable.
    let recorded =
        context.with(|entries| entries.get(cell).map(|e| e.record.groups.clone())).unwrap_or_default();
    groups.dirs.extend(recorded.dirs.into_iter().filter(|group| group.dir.is_absolute()));
    groups.destroy(KILL_PATIENCE).map_err(|e| format!("what was left of it can't be removed: {e}"))
}

/// What the init wrote down before it gave up.
pub(super) fn init_error(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join(record::INIT_ERROR)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| format!("it could not be started: {text}"))
}

fn spec(context: &Context, record: &Record) -> Result<InitSpec, String> {
    let blueprint = &record.blueprint;
    let dir = context.dir(&record.cell.id);
    let moved = context.protections.has(Protection::MountNamespace);
    let (data, tmp) = if moved {
        (PathBuf::from("/data"), PathBuf::from("/tmp"))
    } else {
        (dir.join(record::DATA), dir.join(record::DATA).join("tmp"))
    };
    let dependencies = context.resolve(record)?;
    let values = Values {
        cell: &record.cell,
        address: record.address,
        exe: &context.exe,
        data: &data,
        tmp: &tmp,
        dependencies: &dependencies,
    };
    let argv: Vec<String> = blueprint.command.iter().map(|argument| values.expand(argument)).collect();
    let mut env = values.environment(blueprint)?;
    let (image, mut read_only) = match &blueprint.image {
        Image::Host { read_only } => (None, read_only.clone()),
        Image::Directory { path } => (Some(path.clone()), Vec::new()),
    };
    if image.is_none() {
        // The program itself, wherever it lies; below /usr it is shown already.
        read_only.extend(argv.first().map(PathBuf::from).filter(|program| !program.starts_with("/usr")));
        let texts = blueprint.env.values().filter_map(|value| match value {
            EnvValue::Text(text) => Some(text),
            EnvValue::Reference(_) => None,
        });
        if blueprint.command.iter().skip(1).chain(texts).any(|text| text.contains("{exe}")) {
            read_only.push(context.exe.clone());
        }
        read_only.dedup();
    }
    if let Some(clock) = context.options.clock.as_ref().filter(|_| blueprint.adjustable_clock) {
        let file = dir.join(record::CLOCK);
        env.push(("LD_PRELOAD".to_owned(), clock.library.display().to_string()));
        env.push((clock.variable.to_owned(), file.display().to_string()));
        read_only.extend([clock.library.clone(), file]);
    }
    let has = |protection| context.protections.has(protection);
    let mut connect_ports = blueprint.network.connect_ports.clone();
    connect_ports.extend(dependencies.values().map(|address| address.port()));
    Ok(InitSpec {
        attempt: record.attempt,
        dir,
        hostname: record.cell.id.to_string(),
        argv,
        env,
        protections: context.protections.available(),
        user_namespace: !nix::unistd::geteuid().is_root() && has(Protection::MountNamespace),
        uid: record.uid,
        image,
        read_only,
        data,
        tmp,
        tmp_bytes: blueprint.resources.tmp.0,
        cgroup_procs: record.groups.procs(),
        open_files: blueprint.resources.open_files.into(),
        data_limit_bytes: (!has(Protection::CgroupMemory)).then_some(blueprint.resources.memory.0),
        process_limit: (!has(Protection::CgroupPids) && record.uid.is_some())
            .then_some(blueprint.resources.pids_max.into()),
        bind_port: record.address.port(),
        connect_ports,
        log_bytes: context.options.log_bytes,
    })
}
