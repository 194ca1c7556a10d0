//! The programs of the system that the recorder needs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

/// What must be there, and the Debian package that brings it.
const NEEDED: [(&str, &str); 8] = [
    ("nginx", "nginx-light"),
    ("redis-server", "redis-server"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("cp", "coreutils"),
];
const POSTGRES: &str = "/usr/lib/postgresql";

/// Where a program lies; its bare name when it is nowhere, so that starting it says what is missing.
pub(crate) fn find(name: &str) -> String {
    look_for(name).map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

fn look_for(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Installs what is missing, where that is possible.
///
/// # Errors
/// When something remains missing; says what an operator can do.
pub(crate) fn provide() -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    eprintln!("installing {names}");
    let installed = apt(&["update", "-qq"])
        && apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages.as_slice()].concat());
    if installed && missing().is_empty() {
        return Ok(());
    }
    bail!("programs are missing; on Debian `apt-get install {names}` installs them")
}

fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| look_for(program).is_none()).map(|(_, p)| *p).collect();
    if !Path::new(POSTGRES).is_dir() {
        packages.push("postgresql");
    }
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn apt(arguments: &[&str]) -> bool {
    Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        // A package that starts its server would take memory and ports.
        .env("RUNLEVEL", "1")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The versions of the servers, for the data card.
pub(crate) fn versions() -> Vec<String> {
    let postgres = std::fs::read_dir(POSTGRES)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("bin/postgres"))
        .max()
        .unwrap_or_else(|| "postgres".into());
    [
        (find("nginx"), "-v"),
        (postgres.display().to_string(), "--version"),
        (find("redis-server"), "--version"),
    ]
    .into_iter()
    .filter_map(|(program, flag)| {
        let output = Command::new(program).arg(flag).output().ok()?;
        // nginx tells its version on standard error.
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
    })
    .collect()
}
