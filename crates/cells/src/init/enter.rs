use std::{
    fs::File,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sched::{CloneFlags, unshare};

use super::{
    InitSpec,
    confine::{self, Permissions},
    rootfs::{DEVICES, HOST_PATHS, RESOLV_CONF, Root},
    shim::read_spec,
};
use crate::{Protection, record, sys::close_on_exec};

/// The exit status of an init that could not start its cell; `init-error` says why.
const CANT_START: i32 = 111;

/// `cell-init enter`.
pub(super) fn run() -> i32 {
    let Some(spec) = read_spec() else { return CANT_START };
    // Opened before the host's root is left behind.
    let Ok(mut report) = File::create(spec.dir.join(record::INIT_ERROR)) else { return CANT_START };
    let why = match confine(&spec) {
        Ok(()) => execute(&spec),
        Err(why) => why,
    };
    let _ = report.write_all(why.as_bytes());
    CANT_START
}

fn confine(spec: &InitSpec) -> Result<(), String> {
    let has = |protection| spec.protections.contains(&protection);
    for procs in &spec.cgroup_procs {
        std::fs::write(procs, "0").map_err(|e| format!("{}: {e}", procs.display()))?;
    }
    confine::limit(spec)?;
    let namespaces = [
        (Protection::MountNamespace, CloneFlags::CLONE_NEWNS),
        (Protection::IpcNamespace, CloneFlags::CLONE_NEWIPC),
        (Protection::UtsNamespace, CloneFlags::CLONE_NEWUTS),
    ];
    for (protection, flag) in namespaces.into_iter().filter(|(protection, _)| has(*protection)) {
        unshare(flag).map_err(|e| format!("{protection}: {e}"))?;
    }
    if has(Protection::UtsNamespace) {
        nix::unistd::sethostname(&spec.hostname).map_err(|e| format!("host name: {e}"))?;
    }
    if has(Protection::MountNamespace) {
        let root = Root {
            scratch: &spec.dir.join("root"),
            image: spec.image.as_deref(),
            read_only: &spec.read_only,
            data: Some(&spec.dir.join(record::DATA)),
            tmp_bytes: spec.tmp_bytes,
            own_proc: has(Protection::PidNamespace),
        };
        root.enter()?;
    }
    take_null_as_input()?;
    close_on_exec().map_err(|e| format!("close_range: {e}"))?;
    if has(Protection::NoCapabilities) {
        confine::drop_privileges(spec.uid, !spec.user_namespace && spec.uid.is_some())?;
    }
    confine::no_new_privileges()?;
    if has(Protection::LandlockFiles) {
        confine::landlock(&permissions(spec))?;
    }
    std::env::set_current_dir(&spec.data).map_err(|e| format!("{}: {e}", spec.data.display()))?;
    if has(Protection::Seccomp) {
        confine::seccomp()?;
    }
    Ok(())
}

fn permissions(spec: &InitSpec) -> Permissions {
    let mut read: Vec<PathBuf> = vec!["/proc".into()];
    let moved = spec.protections.contains(&Protection::MountNamespace);
    match &spec.image {
        Some(_) if moved => read.push("/".into()),
        Some(image) => read.push(image.clone()),
        None => read.extend(HOST_PATHS.iter().chain([&RESOLV_CONF]).map(PathBuf::from)),
    }
    read.extend(spec.read_only.iter().cloned());
    let network = spec.protections.contains(&Protection::LandlockNetwork);
    Permissions {
        read,
        write: vec![spec.data.clone(), spec.tmp.clone()],
        devices: DEVICES.iter().map(PathBuf::from).collect(),
        ports: network.then(|| (spec.bind_port, spec.connect_ports.clone())),
    }
}

fn take_null_as_input() -> Result<(), String> {
    let null = File::open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?;
    nix::unistd::dup2_stdin(&null).map_err(|e| format!("stdin: {e}"))
}

/// Becomes the cell's program; returns only to say why it can't.
fn execute(spec: &InitSpec) -> String {
    let Some((program, arguments)) = spec.argv.split_first() else { return "the command is empty".into() };
    let error = Command::new(Path::new(program))
        .args(arguments)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .exec();
    format!("{program} can't be executed: {error}")
}
