//! The proxies that are measured: how each is found, configured alike, started, and told of a failure to come.

mod envoy;
mod forefend;
mod haproxy;
mod nginx;

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{PROXY_CORE, load, process::Process};

/// A proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Ours.
    Forefend,
    Haproxy,
    Nginx,
    Envoy,
    /// Passes bytes on without looking at them.
    RawForwarder,
}

/// A cell behind the proxy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) address: SocketAddr,
    pub(super) weight_bp: u32,
}

/// What the proxy is measured for, which decides its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What a request costs. Checks on, retries as they come.
    Throughput {
        /// Clients speak HTTP/2 without TLS, with prior knowledge.
        http2: bool,
    },
    /// What users notice when a cell goes: checks every 500 ms, two failures in a row eject; reads get 250 ms per
    /// try and three more tries on another cell; writes are repeated only if they were not sent.
    Failover,
}

/// How a proxy is set up.
pub(super) struct Setup<'a> {
    pub(super) listen: SocketAddr,
    pub(super) cells: [Cell; 2],
    pub(super) purpose: Purpose,
    /// An empty folder for its files.
    pub(super) folder: &'a Path,
}

/// Time that an active check may take, and a try of a read.
const TRY: Duration = Duration::from_millis(250);
/// Time between two active checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Programs found once for all rounds.
pub(super) struct Installed {
    program: PathBuf,
    /// For people: name and version.
    pub(super) version: String,
}

/// A proxy that serves.
pub(super) struct Proxy {
    pub(super) process: Process,
    peer: Peer,
    folder: PathBuf,
    listen: SocketAddr,
    cells: [Cell; 2],
    purpose: Purpose,
}

impl Peer {
    /// All of them, ours first.
    pub(super) const ALL: [Self; 5] =
        [Self::Forefend, Self::Haproxy, Self::Nginx, Self::Envoy, Self::RawForwarder];

    /// Its name in results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forefend => "forefend",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::RawForwarder => "raw-forwarder",
        }
    }

    /// Finds it, or installs it where that is possible.
    ///
    /// # Errors
    /// When it can't be had; says why.
    pub(super) fn provide(self, release: &Path) -> Result<Installed> {
        match self {
            Self::Forefend => forefend::provide(release),
            Self::Haproxy => haproxy::provide(),
            Self::Nginx => nginx::provide(),
            Self::Envoy => envoy::provide(),
            Self::RawForwarder => {
                Ok(Installed { program: release.join("xtask"), version: "raw-forwarder on tokio".to_owned() })
            }
        }
    }

    /// Why it has no such case, if so.
    pub(super) fn unsupported(self, purpose: Purpose) -> Option<&'static str> {
        match (self, purpose) {
            (Self::RawForwarder, Purpose::Throughput { http2: true }) => {
                Some("passes bytes on and does not translate HTTP/2 for cells that speak HTTP/1.1")
            }
            _ => None,
        }
    }

    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it ends or does not answer with 200 within fifteen seconds.
    pub(super) fn start(self, installed: &Installed, setup: &Setup<'_>) -> Result<Proxy> {
        let arguments: Vec<OsString> = match self {
            Self::Forefend => forefend::configure(setup),
            Self::Haproxy => haproxy::configure(setup)?,
            Self::Nginx => nginx::configure(setup)?,
            Self::Envoy => envoy::configure(setup)?,
            Self::RawForwarder => {
                let mut arguments = vec!["part".into(), "forward".into(), "--listen".into()];
                arguments.push(setup.listen.to_string().into());
                for cell in setup.cells {
                    arguments.extend(["--cell".into(), cell.address.to_string().into()]);
                }
                arguments
            }
        };
        // nginx's master takes its worker along only if it may; the others must not outlive us in any case.
        let on_our_death = if self == Self::Nginx { Signal::SIGTERM } else { Signal::SIGKILL };
        let process = Process::start(
            self.name(),
            PROXY_CORE,
            setup.folder,
            &installed.program,
            arguments,
            on_our_death,
        )?;
        let mut proxy = Proxy {
            process,
            peer: self,
            folder: setup.folder.to_owned(),
            listen: setup.listen,
            cells: setup.cells,
            purpose: setup.purpose,
        };
        proxy.wait_until_it_serves()?;
        if self == Self::Forefend {
            forefend::settle(&proxy).context("the director refuses its settings")?;
        }
        Ok(proxy)
    }
}

impl Proxy {
    fn wait_until_it_serves(&mut self) -> Result<()> {
        let http2 = self.purpose == Purpose::Throughput { http2: true };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            self.process.still_runs()?;
            match runtime.block_on(load::probe(self.listen, http2)) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    bail!("{} does not serve on {}: {error:#}", self.peer.name(), self.listen)
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Takes all weight from the first cell, in the way that an operator of this proxy would.
    ///
    /// # Errors
    /// When it refuses.
    pub(super) fn move_weight_away(&self) -> Result<()> {
        let moved = match self.peer {
            Peer::Forefend => forefend::move_weight_away(self),
            Peer::Haproxy => haproxy::move_weight_away(self),
            Peer::Nginx => nginx::move_weight_away(self),
            Peer::Envoy => envoy::move_weight_away(self),
            Peer::RawForwarder => bail!("a raw forwarder has no weights"),
        };
        moved.with_context(|| format!("{} did not move its weights", self.peer.name()))
    }
}

/// An address on loopback that is free now.
///
/// # Errors
/// When there is none.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The first line that `program` says about its version.
fn version_of(program: &Path, argument: &str) -> Result<String> {
    let output = std::process::Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("can't run {}", program.display()))?;
    if !output.status.success() {
        return Ok(format!("{} of unknown version", program.display()));
    }
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Ok(String::from_utf8_lossy(&said)
        .lines()
        .map(str::trim)
        .find(|l| !l.is_empty())
        .unwrap_or("?")
        .to_owned())
}
