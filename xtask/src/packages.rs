//! Programs of the system that tests and benchmarks need, installed where that is possible.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{find_program, target_dir};

/// A program and the Debian package that brings it.
pub(crate) struct Package {
    /// Any of these will do.
    pub(crate) programs: &'static [&'static str],
    /// Its name for apt.
    pub(crate) debian: &'static str,
    /// What can't be done without it.
    pub(crate) needed_for: &'static str,
}

impl Package {
    fn program(&self) -> Option<PathBuf> {
        self.programs.iter().find_map(|name| find_program(name))
    }

    /// The program, installed first if it is missing and we may.
    ///
    /// # Errors
    /// When it is missing and can't be installed; says what an operator can do.
    pub(crate) fn provide(&self) -> Result<PathBuf> {
        if let Some(program) = self.program() {
            return Ok(program);
        }
        install(&[self.debian]).with_context(|| self.missing())?;
        self.program().with_context(|| self.missing())
    }

    fn missing(&self) -> String {
        format!(
            "{} is not installed, and is needed for {}; install it, on Debian with `apt-get install {}`",
            self.programs.join(" or "),
            self.needed_for,
            self.debian
        )
    }
}

/// Installs whichever of `packages` is missing, all at once, and says what remains missing.
pub(crate) fn provide_all(packages: &[Package]) -> Vec<String> {
    let missing: Vec<&Package> = packages.iter().filter(|p| p.program().is_none()).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = missing.iter().map(|p| p.debian).collect();
    let result = install(&names);
    let why = result.err().map(|e| format!(" ({e:#})")).unwrap_or_default();
    missing.iter().filter(|p| p.program().is_none()).map(|p| format!("{}{why}", p.missing())).collect()
}

/// Installs Debian packages.
fn install(names: &[&str]) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root, so nothing is installed");
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("no apt-get here");
    }
    eprintln!("installing {}", names.join(", "));
    // The lists of a fresh image are empty or old; an update that fails need not matter.
    let _ = apt().args(["update", "-qq"]).status();
    let status = apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(names).status()?;
    if !status.success() {
        bail!("apt-get install {} failed: {status}", names.join(" "));
    }
    Ok(())
}

/// Packages of Python, in an environment of their own.
pub(crate) struct PythonPackages {
    /// The folder of the environment, under the target folder.
    pub(crate) folder: &'static str,
    /// With versions, so that a test means the same tomorrow.
    pub(crate) packages: &'static [&'static str],
    /// What can't be done without them.
    pub(crate) needed_for: &'static str,
}

const PYTHON: Package =
    Package { programs: &["python3"], debian: "python3-venv", needed_for: "packages of Python" };

impl PythonPackages {
    /// The environment's folder, with the packages installed where they are not yet.
    ///
    /// # Errors
    /// When they can't be installed; says what they are needed for.
    pub(crate) fn provide(&self) -> Result<PathBuf> {
        let folder = target_dir()?.join(self.folder);
        // Written last: what was broken off is done again.
        let done = folder.join("installed");
        let wanted = self.packages.join("\n");
        if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
            return Ok(folder);
        }
        self.install(&folder).with_context(|| {
            format!("{} can't be installed, and are needed for {}", self.packages.join(", "), self.needed_for)
        })?;
        std::fs::write(&done, wanted)?;
        Ok(folder)
    }

    fn install(&self, folder: &Path) -> Result<()> {
        let python = PYTHON.provide()?;
        eprintln!("installing {} into {}", self.packages.join(", "), folder.display());
        let path = folder.to_str().context("the target folder's name is not UTF-8")?;
        run(&python, &["-m", "venv", "--clear", path])
            .context("Debian package python3-venv may be missing")?;
        let arguments: Vec<&str> = ["install", "--quiet"].iter().chain(self.packages).copied().collect();
        run(&folder.join("bin/pip"), &arguments)
    }
}

fn run(program: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    let last = error.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "{} {} failed: {last}", program.display(), arguments.join(" "));
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "DPkg::Lock::Timeout=120"])
        // A package that starts its server would take ports that tests use.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        // Standard output belongs to results.
        .stdout(std::io::stderr());
    command
}
