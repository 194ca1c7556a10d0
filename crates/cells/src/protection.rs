use std::{collections::BTreeMap, collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// One way in which the kernel keeps a cell from harming its host and its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// A user id of its own (needs root).
    OwnUser,
    /// A process namespace.
    PidNamespace,
    /// A mount namespace with a read-only root and a private `/tmp`.
    MountNamespace,
    /// A namespace for System V IPC and POSIX message queues.
    IpcNamespace,
    /// A namespace for the host name.
    UtsNamespace,
    /// A memory limit by cgroup.
    CgroupMemory,
    /// A CPU limit by cgroup.
    CgroupCpu,
    /// A limit on processes by cgroup.
    CgroupPids,
    /// Freezing by cgroup.
    Freezer,
    /// Landlock rules for files.
    LandlockFiles,
    /// Landlock rules for TCP.
    LandlockNetwork,
    /// The system call filter.
    Seccomp,
    /// No capabilities and no way to gain some.
    NoCapabilities,
}

impl Protection {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::OwnUser,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::CgroupMemory,
        Self::CgroupCpu,
        Self::CgroupPids,
        Self::Freezer,
        Self::LandlockFiles,
        Self::LandlockNetwork,
        Self::Seccomp,
        Self::NoCapabilities,
    ];

    /// The name as written in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnUser => "own-user",
            Self::PidNamespace => "pid-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::CgroupMemory => "cgroup-memory",
            Self::CgroupCpu => "cgroup-cpu",
            Self::CgroupPids => "cgroup-pids",
            Self::Freezer => "freezer",
            Self::LandlockFiles => "landlock-files",
            Self::LandlockNetwork => "landlock-network",
            Self::Seccomp => "seccomp",
            Self::NoCapabilities => "no-capabilities",
        }
    }

    /// What is lost without it, and what is done instead, if anything.
    #[must_use]
    pub fn lost(self) -> &'static str {
        match self {
            Self::OwnUser => {
                "cells run as the engine's user: only namespaces and Landlock keep them from its files"
            }
            Self::PidNamespace => {
                "a cell sees other processes, may signal those of its user, and its children may outlive it"
            }
            Self::MountNamespace => {
                "a cell sees the host's files and /tmp; what it may not read or write is left to Landlock and file modes"
            }
            Self::IpcNamespace => "a cell shares System V IPC and message queues with the host",
            Self::UtsNamespace => "a cell sees the host's name",
            Self::CgroupMemory => {
                "a cell's memory is limited only per process (RLIMIT_DATA): allocations fail instead of an OOM kill, and \
                 files in memory don't count"
            }
            Self::CgroupCpu => "a cell may take all of the CPU",
            Self::CgroupPids => "a cell's processes are limited only per user (RLIMIT_NPROC), or not at all",
            Self::Freezer => {
                "parked cells are stopped with SIGSTOP, main process only, and can't be seen to be frozen as a whole"
            }
            Self::LandlockFiles => "a cell may write wherever the file modes of what it sees permit",
            Self::LandlockNetwork => "a cell may bind and connect to any TCP port",
            Self::Seccomp => {
                "every system call is open to a cell, with what faults the kernel may have in them"
            }
            Self::NoCapabilities => "a cell may keep or gain privileges",
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which protections a machine offers, found by trying each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protections {
    /// Why those that are missing are missing.
    pub missing: BTreeMap<Protection, String>,
    /// The version of Landlock's interface; `None` without Landlock.
    pub landlock_abi: Option<u32>,
}

impl Protections {
    /// Whether `protection` is there.
    #[must_use]
    pub fn has(&self, protection: Protection) -> bool {
        !self.missing.contains_key(&protection)
    }

    /// Those that are there.
    #[must_use]
    pub fn available(&self) -> BTreeSet<Protection> {
        Protection::ALL.into_iter().filter(|p| self.has(*p)).collect()
    }

    /// Those that are missing and not accepted to be, each with reason and loss; `Ok` when there are none.
    ///
    /// # Errors
    /// In words, when something is missing.
    pub fn check(&self, accepted: &AcceptMissing) -> Result<(), String> {
        let refused: Vec<String> = self
            .missing
            .iter()
            .filter(|(protection, _)| !accepted.accepts(**protection))
            .map(|(protection, why)| format!("{protection} ({why}; without it {})", protection.lost()))
            .collect();
        if refused.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "this machine lacks {}. Accept that by name in the policy, or run where it is there",
                refused.join(", ")
            ))
        }
    }
}

impl fmt::Display for Protections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for protection in Protection::ALL {
            match self.missing.get(&protection) {
                None => writeln!(f, "{protection:<18} available")?,
                Some(why) => writeln!(f, "{protection:<18} MISSING: {why}; {}", protection.lost())?,
            }
        }
        Ok(())
    }
}

/// Which protections may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptMissing {
    /// None: a cell is refused unless all are there.
    #[default]
    None,
    /// These.
    Listed(BTreeSet<Protection>),
    /// Any.
    All,
}

impl AcceptMissing {
    /// Whether `protection` may be missing.
    #[must_use]
    pub fn accepts(&self, protection: Protection) -> bool {
        match self {
            Self::None => false,
            Self::Listed(listed) => listed.contains(&protection),
            Self::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_refused_unless_accepted_by_name() {
        let protections = Protections {
            missing: BTreeMap::from([(Protection::Seccomp, "the kernel has none".to_owned())]),
            landlock_abi: None,
        };
        let why = protections.check(&AcceptMissing::None).unwrap_err();
        assert!(why.contains("seccomp (the kernel has none"), "{why}");
        let other = AcceptMissing::Listed(BTreeSet::from([Protection::Freezer]));
        assert!(protections.check(&other).is_err());
        let named = AcceptMissing::Listed(BTreeSet::from([Protection::Seccomp]));
        assert_eq!(protections.check(&named), Ok(()));
        assert_eq!(protections.check(&AcceptMissing::All), Ok(()));
    }
}
