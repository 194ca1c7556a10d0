//! Where the workspace lies, and the cargo that runs us.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().unwrap_or(manifest_dir)
}

/// Cargo, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo puts what it builds.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let output = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let path = metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
    Ok(PathBuf::from(path))
}

/// The release builds of `packages`' binaries; returns the folder that holds them.
///
/// # Errors
/// When one of them does not build.
pub(crate) fn release_build(packages: &[&str]) -> Result<PathBuf> {
    release_build_with(packages, &[])
}

/// The same with these features, each named `package/feature`.
///
/// # Errors
/// When one of them does not build.
pub(crate) fn release_build_with(packages: &[&str], features: &[&str]) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--bins"]);
    for feature in features {
        command.args(["--features", feature]);
    }
    for package in packages {
        command.args(["--package", package]);
    }
    // Progress goes to standard error, results to standard output.
    let status = command.status().context("cargo build --release")?;
    ensure!(status.success(), "cargo build --release of {} failed: {status}", packages.join(", "));
    Ok(target_dir()?.join("release"))
}

/// The first executable file called `name` on `PATH` or where Debian keeps servers.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| {
            nix::unistd::access(candidate, nix::unistd::AccessFlags::X_OK).is_ok() && candidate.is_file()
        })
}
