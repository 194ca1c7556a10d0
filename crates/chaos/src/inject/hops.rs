use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    Actuator, InjectError, Prepared, Scene,
    groups::{Helped, exclusive_v2, helped},
    processes::ON_FROM,
};
use crate::{
    DnsFailure, Fault, Undo,
    helper::{Effect, Helper, Work},
    network::{self, Rule, Whose},
    proc::ProcessId,
};

/// How long a hop may take to answer what is under way through it before it is ended all the same.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);

fn address(scene: &Scene<'_>) -> Result<SocketAddr, InjectError> {
    match scene.target.address {
        Some(address) if !address.ip().is_unspecified() => Ok(address),
        Some(_) | None => Err(scene.unsupported(
            "it is not known where the cell listens",
            "name its `address`, with an IP address that is its own",
        )),
    }
}

pub(super) fn hold(scene: &Scene<'_>, connections: u32) -> Result<Prepared, InjectError> {
    let work = Work::Hold { address: address(scene)?, connections };
    let (end, helper) = helped(scene, &work, Duration::ZERO)?;
    Ok(Prepared { undo: vec![end], actuator: Box::new(Helped { helper, before: Box::new(|| Ok(())) }) })
}

struct Hop {
    helper: Helper,
    program: PathBuf,
    table: String,
    to: SocketAddr,
    at: SocketAddr,
    whose: Option<Whose>,
    lasts: Duration,
    on: bool,
}

impl Actuator for Hop {
    fn begin(&mut self) -> io::Result<()> {
        self.helper.go()
    }

    fn set(&mut self, level: f64) -> io::Result<()> {
        self.helper.level(level)?;
        // Once in the way it stays there, for taking it out and in again would reset connections each time.
        if level > 0.0 && !self.on {
            let text = network::traffic_table(
                &self.table,
                self.to,
                self.whose.as_ref(),
                Rule::Hop(self.at),
                self.lasts,
            );
            network::load_for(&text, self.whose.as_ref(), &self.program)?;
            self.on = true;
        }
        Ok(())
    }

    fn keep(&mut self, lasts: Duration) -> io::Result<()> {
        if self.on {
            network::load(&network::traffic_table_lasts(&self.table, self.to, lasts))
        } else {
            Ok(())
        }
    }
}

fn effect(fault: &Fault) -> Option<Effect> {
    let us = |d: &Duration| d.as_micros() as u64;
    Some(match fault {
        Fault::Latency { add, jitter } => Effect::Latency { add_us: us(add), jitter_us: us(jitter) },
        Fault::SlowDependency { add, .. } => Effect::Latency { add_us: us(add), jitter_us: 0 },
        Fault::Bandwidth { bytes_per_s } => Effect::Bandwidth { bytes_per_s: *bytes_per_s },
        Fault::Resets { share } => Effect::Resets { share: *share },
        Fault::ErrorRate { share, status } | Fault::FailingDependency { share, status, .. } => {
            Effect::Errors { share: *share, status: *status }
        }
        _ => return None,
    })
}

fn hop(
    scene: &Scene<'_>,
    fault: &Fault,
    to: SocketAddr,
    whose: Option<Whose>,
) -> Result<Prepared, InjectError> {
    let Some(effect) = effect(fault) else {
        return Err(scene.unsupported("it is no fault of connections", "choose another"));
    };
    ensure_filter(scene)?;
    let (end, helper) = helped(scene, &Work::Hop { to, effect }, LET_GO_WITHIN)?;
    let at = helper.listens.ok_or_else(|| scene.failed(io::Error::other("the hop does not listen")))?;
    let table = network::table_name(scene.lease);
    // Undone in reverse: no more connections are sent there; it lets go of those it has; only then the table goes, for
    // with it goes the translation of their addresses.
    let undo =
        vec![Undo::DropTable { table: table.clone() }, end, Undo::EmptyTable { table: table.clone(), to }];
    let program = scene.program.to_owned();
    let hop = Hop { helper, program, table, to, at, whose, lasts: scene.ttl, on: false };
    Ok(Prepared { undo, actuator: Box::new(hop) })
}

/// Tries the packet filter with a table that is removed in the same breath.
fn ensure_filter(scene: &Scene<'_>) -> Result<(), InjectError> {
    network::drop_table(&network::table_name(scene.lease))
        .map_err(|e| scene.unsupported(e.to_string(), "install nftables and run as root"))
}

pub(super) fn before_cell(scene: &Scene<'_>, fault: &Fault) -> Result<Prepared, InjectError> {
    hop(scene, fault, address(scene)?, None)
}

pub(super) fn before_dependency(
    scene: &Scene<'_>,
    fault: &Fault,
    dependency: SocketAddr,
) -> Result<Prepared, InjectError> {
    hop(scene, fault, dependency, Some(whose(scene)?))
}

/// How the packet filter can tell the cell's packets from those of others.
fn whose(scene: &Scene<'_>) -> Result<Whose, InjectError> {
    if let Some(group) = exclusive_v2(scene.process) {
        return Ok(Whose::Group { hierarchy: group.mount, path: group.path });
    }
    let tree = scene.process.tree();
    match scene.process.user() {
        Some((uid, _)) if uid != 0 && is_alone(uid, &tree) => Ok(Whose::User(uid)),
        _ => Err(scene.others(
            "its connections can't be told from those of others",
            "give the cell a control group (v2) or a user of its own",
        )),
    }
}

/// Whether all processes of a user are the cell's.
fn is_alone(uid: u32, tree: &[ProcessId]) -> bool {
    crate::proc::all().all(|p| p.user().is_none_or(|(of, _)| of != uid) || tree.contains(&p))
}

struct Loss {
    table: String,
    to: SocketAddr,
    share: f64,
    lasts: Duration,
    on: bool,
}

impl Actuator for Loss {
    fn set(&mut self, level: f64) -> io::Result<()> {
        let share = self.share * level;
        if share > 0.0 {
            network::load(&network::traffic_table(
                &self.table,
                self.to,
                None,
                Rule::Loss(share),
                self.lasts,
            ))?;
        } else if self.on {
            network::drop_table(&self.table)?;
        }
        self.on = share > 0.0;
        Ok(())
    }

    fn keep(&mut self, lasts: Duration) -> io::Result<()> {
        if self.on {
            network::load(&network::traffic_table_lasts(&self.table, self.to, lasts))
        } else {
            Ok(())
        }
    }
}

pub(super) fn loss(scene: &Scene<'_>, share: f64) -> Result<Prepared, InjectError> {
    let to = address(scene)?;
    ensure_filter(scene)?;
    let table = network::table_name(scene.lease);
    Ok(Prepared {
        undo: vec![Undo::DropTable { table: table.clone() }],
        actuator: Box::new(Loss { table, to, share, lasts: scene.ttl, on: false }),
    })
}

struct Lookups {
    hop: Option<(Helper, SocketAddr)>,
    program: PathBuf,
    table: String,
    whose: Whose,
    lasts: Duration,
    on: bool,
}

impl Actuator for Lookups {
    fn begin(&mut self) -> io::Result<()> {
        self.hop.as_mut().map_or(Ok(()), |(helper, _)| helper.go())
    }

    fn set(&mut self, level: f64) -> io::Result<()> {
        let on = level >= ON_FROM;
        if on && !self.on {
            let at = self.hop.as_ref().map(|(_, at)| *at);
            let text = network::lookup_table(&self.table, &self.whose, at, self.lasts);
            network::load_for(&text, Some(&self.whose), &self.program)?;
        } else if self.on && !on {
            network::drop_table(&self.table)?;
        }
        self.on = on;
        Ok(())
    }

    fn keep(&mut self, lasts: Duration) -> io::Result<()> {
        if self.on { network::load(&network::lookup_table_lasts(&self.table, lasts)) } else { Ok(()) }
    }
}

pub(super) fn lookups(scene: &Scene<'_>, how: DnsFailure) -> Result<Prepared, InjectError> {
    let whose = whose(scene)?;
    ensure_filter(scene)?;
    let table = network::table_name(scene.lease);
    let mut undo = Vec::new();
    let hop = match how {
        DnsFailure::Silence => None,
        DnsFailure::ServerFailure | DnsFailure::NoSuchName => {
            let (end, helper) = helped(scene, &Work::Dns { how }, Duration::ZERO)?;
            undo.push(end);
            let at = helper.listens.ok_or_else(|| scene.failed(io::Error::other("it does not listen")))?;
            Some((helper, at))
        }
    };
    undo.push(Undo::DropTable { table: table.clone() });
    let program = scene.program.to_owned();
    let lookups = Lookups { hop, program, table, whose, lasts: scene.ttl, on: false };
    Ok(Prepared { undo, actuator: Box::new(lookups) })
}
