use std::{collections::BTreeMap, path::PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use nix::{
    sys::resource::{Resource, setrlimit},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::InitSpec;

type Step = Result<(), String>;

/// What Landlock is to permit.
pub(super) struct Permissions {
    pub(super) read: Vec<PathBuf>,
    pub(super) write: Vec<PathBuf>,
    /// Devices that may be read and written, not created.
    pub(super) devices: Vec<PathBuf>,
    /// TCP ports to bind and to connect to; `None` leaves the network alone.
    pub(super) ports: Option<(u16, Vec<u16>)>,
}

/// Resource limits of the process (setrlimit(2)).
pub(super) fn limit(spec: &InitSpec) -> Step {
    let set = |resource, value: u64| {
        setrlimit(resource, value, value).map_err(|e| format!("rlimit {resource:?} {value}: {e}"))
    };
    set(Resource::RLIMIT_CORE, 0)?;
    // Raising it beyond the engine's own hard limit needs a privilege that containers often lack.
    let (_, hard) =
        nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| format!("rlimit: {e}"))?;
    set(Resource::RLIMIT_NOFILE, spec.open_files.min(hard))?;
    if let Some(bytes) = spec.data_limit_bytes {
        set(Resource::RLIMIT_DATA, bytes)?;
    }
    if let Some(processes) = spec.process_limit {
        set(Resource::RLIMIT_NPROC, processes)?;
    }
    Ok(())
}

/// Gives up root, every capability and every way to gain one back (capabilities(7)).
pub(super) fn drop_privileges(uid: Option<u32>, own_groups: bool) -> Step {
    // CAP_SETPCAP, which this loop needs, is lost only with the sets further down. The kernel says EINVAL past the last.
    for bit in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            Err(e) if e == rustix::io::Errno::INVAL => break,
            // Whoever has no capability can't empty the set, nor gain one after no_new_privs.
            Err(e) if e == rustix::io::Errno::PERM && has_no_capabilities() => break,
            Err(e) => return Err(format!("the capability bounding set can't be emptied: {e}")),
        }
    }
    if own_groups {
        setgroups(&[]).map_err(|e| format!("setgroups: {e}"))?;
    }
    if let Some(uid) = uid {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        setresgid(group, group, group).map_err(|e| format!("setresgid {uid}: {e}"))?;
        setresuid(user, user, user).map_err(|e| format!("setresuid {uid}: {e}"))?;
    }
    clear_ambient_capability_set().map_err(|e| format!("ambient capabilities: {e}"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(|e| format!("capset: {e}"))
}

fn has_no_capabilities() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.permitted.is_empty())
}

/// No program executed from here on gains privileges (PR_SET_NO_NEW_PRIVS), and other cells of the same user can't
/// trace this one until it has executed its program.
pub(super) fn no_new_privileges() -> Step {
    nix::sys::prctl::set_no_new_privs().map_err(|e| format!("no_new_privs: {e}"))?;
    nix::sys::prctl::set_dumpable(false).map_err(|e| format!("dumpable: {e}"))
}

/// Restricts files, and TCP when `ports` are given, to `permissions`; returns the version of the interface in use.
pub(super) fn landlock(permissions: &Permissions) -> Result<u32, String> {
    let failed = |e: landlock::RulesetError| format!("landlock: {e}");
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(failed)?
        .scope(Scope::from_all(abi))
        .map_err(failed)?;
    if permissions.ports.is_some() {
        ruleset = ruleset
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessNet::from_all(abi))
            .map_err(failed)?
            .set_compatibility(CompatLevel::BestEffort);
    }
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut created = ruleset
        .create()
        .map_err(failed)?
        .add_rules(path_beneath_rules(&permissions.read, AccessFs::from_read(abi)))
        .map_err(failed)?
        .add_rules(path_beneath_rules(&permissions.write, AccessFs::from_all(abi)))
        .map_err(failed)?
        .add_rules(path_beneath_rules(&permissions.devices, device))
        .map_err(failed)?;
    if let Some((bind, connect)) = &permissions.ports {
        created = created.add_rule(NetPort::new(*bind, AccessNet::BindTcp)).map_err(failed)?;
        for port in connect {
            created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(failed)?;
        }
    }
    let status = created.restrict_self().map_err(failed)?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, why) => Err(format!("landlock is not enforced: {why:?}")),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi as u32),
        (_, why) => Err(format!("landlock: {why:?}")),
    }
}

/// System calls that no service needs and that kernel holes were found behind: mounting and namespaces, tracing, loading
/// code into the kernel, keys, clocks, swap, and interfaces that go around the other checks. A deny-list, so that ordinary
/// programs run; it is a second line behind the missing capabilities.
const DENIED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_settimeofday,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] =
    &[libc::SYS_kexec_file_load, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

/// On x86-64 the same calls exist once more with this bit set (the x32 ABI).
const X32_BIT: libc::c_long = 0x4000_0000;

/// Every flag of clone(2) that makes a namespace.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Installs the filter. Must be the last step, for it denies what the others need.
pub(super) fn seccomp() -> Step {
    let failed = |e: &dyn std::fmt::Display| format!("seccomp: {e}");
    let arch = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| failed(&e))?;
    let mut denied: BTreeMap<libc::c_long, Vec<SeccompRule>> = BTreeMap::new();
    for call in DENIED.iter().chain(DENIED_HERE) {
        denied.insert(*call, Vec::new());
        if cfg!(target_arch = "x86_64") {
            denied.insert(call | X32_BIT, Vec::new());
        }
    }
    let one_of_the_flags = (0..64)
        .map(|bit| 1u64 << bit)
        .filter(|bit| NEW_NAMESPACES & bit != 0)
        .map(|bit| {
            let is_set = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)?;
            SeccompRule::new(vec![is_set])
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| failed(&e))?;
    denied.insert(libc::SYS_clone, one_of_the_flags);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    // clone3 passes its flags in memory, where no filter can see them. ENOSYS makes C libraries fall back to clone.
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    for (rules, action) in [(clone3, unknown), (denied, refuse)] {
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).map_err(|e| failed(&e))?;
        let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| failed(&e))?;
        seccompiler::apply_filter(&program).map_err(|e| failed(&e))?;
    }
    Ok(())
}
