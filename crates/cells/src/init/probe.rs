//! Tries each protection for real, in a child that is thrown away.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sched::{CloneFlags, unshare};

use super::{
    ProbeReport,
    confine::{self, Permissions},
    rootfs::Root,
    shim::enter_user_namespace,
};
use crate::Protection as P;

/// Takes the user id 65534 (nobody): whether it may be taken is what is tried.
const TRIAL_UID: u32 = 65_534;

/// `cell-init probe DIR`: what needs a new process comes first, then the rest in a child that has it.
pub(super) fn run(dir: Option<&String>) -> i32 {
    let Some(dir) = dir else { return 2 };
    let mut report = ProbeReport::default();
    let root = nix::unistd::geteuid().is_root();
    if !root {
        report.missing.insert(P::OwnUser, "the engine does not run as root".into());
        if let Err(e) = enter_user_namespace() {
            let why = format!("user namespaces are refused to unprivileged users: {e}");
            for protection in [P::PidNamespace, P::MountNamespace, P::IpcNamespace, P::UtsNamespace] {
                report.missing.insert(protection, why.clone());
            }
        }
    }
    if !report.missing.contains_key(&P::PidNamespace)
        && let Err(e) = unshare(CloneFlags::CLONE_NEWPID)
    {
        report.missing.insert(P::PidNamespace, format!("unshare: {e}"));
    }
    let inner = Command::new("/proc/self/exe")
        .arg0(super::INIT_ARGUMENT)
        .args([super::INIT_ARGUMENT, "probe-inner", dir])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match inner.map(|output| serde_json::from_slice::<ProbeReport>(&output.stdout)) {
        Ok(Ok(inner)) => {
            report.landlock_abi = inner.landlock_abi;
            for (protection, why) in inner.missing {
                report.missing.entry(protection).or_insert(why);
            }
        }
        failed => {
            eprintln!("the trial of protections failed: {failed:?}");
            return 1;
        }
    }
    print(&report)
}

/// `cell-init probe-inner DIR`
pub(super) fn run_inner(dir: Option<&String>) -> i32 {
    let Some(dir) = dir.map(PathBuf::from) else { return 2 };
    let mut report = ProbeReport::default();
    let mut tried = |protection: P, result: Result<(), String>| {
        if let Err(why) = result {
            report.missing.insert(protection, why);
        }
    };
    let enter = |flag| unshare(flag).map_err(|e| format!("unshare: {e}"));
    let root = nix::unistd::geteuid().is_root();
    let privileged_outside = std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().nth(2).is_some_and(|count| count != "1"));
    tried(P::IpcNamespace, enter(CloneFlags::CLONE_NEWIPC));
    let named = nix::unistd::gethostname().map_err(|e| e.to_string());
    let uts = enter(CloneFlags::CLONE_NEWUTS)
        .and_then(|()| nix::unistd::sethostname(named?).map_err(|e| format!("sethostname: {e}")));
    tried(P::UtsNamespace, uts);
    tried(P::MountNamespace, enter(CloneFlags::CLONE_NEWNS).and_then(|()| try_root(&dir)));
    let uid = (root && privileged_outside).then_some(TRIAL_UID);
    match confine::drop_privileges(uid, uid.is_some()) {
        Err(why) if why.contains("uid") || why.contains("gid") || why.contains("groups") => {
            tried(P::OwnUser, Err(why));
        }
        other => tried(P::NoCapabilities, other),
    }
    let no_new_privileges = confine::no_new_privileges();
    let permissions =
        |ports| Permissions { read: vec!["/".into()], write: Vec::new(), devices: Vec::new(), ports };
    let network =
        no_new_privileges.clone().and_then(|()| confine::landlock(&permissions(Some((1, vec![1])))));
    let files = match &network {
        Ok(abi) => Ok(*abi),
        Err(_) => no_new_privileges.clone().and_then(|()| confine::landlock(&permissions(None))),
    };
    tried(P::LandlockNetwork, network.map(drop));
    let landlock_abi = files.as_ref().ok().copied();
    tried(P::LandlockFiles, files.map(drop));
    tried(P::Seccomp, no_new_privileges.and_then(|()| confine::seccomp()));
    report.landlock_abi = landlock_abi;
    print(&report)
}

fn try_root(dir: &Path) -> Result<(), String> {
    Root {
        scratch: dir,
        image: None,
        read_only: &[],
        data: None,
        tmp_bytes: 65_536,
        own_proc: std::process::id() == 1,
    }
    .enter()
}

fn print(report: &ProbeReport) -> i32 {
    match serde_json::to_string(report) {
        Ok(text) => {
            println!("{text}");
            0
        }
        Err(_) => 1,
    }
}
