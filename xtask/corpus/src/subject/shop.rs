//! The sample service and its inventory. The inventory is also what nginx passes requests on to.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tokio::process::Child;

use super::Server;
use crate::{
    launch,
    place::{Place, USER, WORK},
};

/// Who has it may set the sample service's own faults.
pub(crate) const TOKEN: &str = "corpus";
const PROGRAM: &str = "forefend-shop";

fn program() -> PathBuf {
    Path::new(WORK).join("bin").join(PROGRAM)
}

/// Copies the sample service from beside this program to where any user may run it.
///
/// # Errors
/// When it was not built.
pub(crate) fn provide() -> Result<()> {
    let own = std::env::current_exe()?;
    let built = own.with_file_name(PROGRAM);
    fs::create_dir_all(program().parent().unwrap_or(Path::new(WORK)))?;
    fs::copy(&built, program()).with_context(|| {
        format!("{} is missing; `cargo build -p forefend-shop` makes it", built.display())
    })?;
    Ok(())
}

pub(super) fn command(server: &Server) -> Vec<String> {
    let mut command = arguments("shop", server.address(), &server.place.data);
    command.extend(["--inventory".to_owned(), server.dependency(0).to_string()]);
    command
}

pub(super) fn start_inventory(place: &Place, listen: SocketAddr) -> Result<Child> {
    // Its log of executed requests would fill the disk of the server: it has a folder elsewhere.
    let folder = Path::new(WORK).join(format!("inventory-{}", listen.ip()));
    fs::create_dir_all(&folder)?;
    let _ = fs::remove_file(folder.join("executed.log"));
    nix::unistd::chown(&folder, Some(USER.into()), Some(USER.into()))?;
    launch::start(place, 1_024, false, &arguments("inventory", listen, &folder))
}

fn arguments(kind: &str, listen: SocketAddr, data: &Path) -> Vec<String> {
    let program = program().display().to_string();
    let (listen, data) = (listen.to_string(), data.display().to_string());
    [&program, "--kind", kind, "--listen", &listen, "--data", &data, "--control-token", TOKEN]
        .map(str::to_owned)
        .to_vec()
}
