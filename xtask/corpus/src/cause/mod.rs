//! What is done to a server in an episode. Where a server can fail by itself, it does: clients write, hoard and lock as real
//! ones do. What clients can't do comes from the fault library.

mod clients;
mod data;
mod fault;
mod growth;
mod whole;

use std::{cell::RefCell, future::Future, pin::Pin, rc::Rc, time::Duration};

use anyhow::Result;
pub(crate) use fault::Faults;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    load::{Load, seconds_between},
    spec::{Cause, What},
    subject::Server,
};

/// How often a cause's level is set.
const TICK: Duration = Duration::from_millis(250);
/// A server that is on its way down may keep its causes waiting; they go on with the next level.
const PATIENCE: Duration = Duration::from_secs(2);

/// What becomes of a level being set.
type Step<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Does one thing to a server, as much of it as its level says.
trait Driver {
    /// Makes the level so, from whatever it was: 0 is none, 1 all. Level 0 at the end undoes what can be undone.
    fn set_level(&mut self, level: f64) -> Step<'_>;
}

/// What a cause can reach.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) server: Rc<Server>,
    pub(crate) load: Rc<Load>,
    pub(crate) faults: Faults,
    /// The first thing that went wrong with a cause itself.
    pub(crate) trouble: Rc<RefCell<Option<String>>>,
}

/// Carries out a cause from the episode's start on, until dropped.
pub(crate) async fn carry_out(cause: Cause, scene: Scene, zero: Instant) {
    let mut driver = driver(&cause.what, &scene);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut level_before = 0.0;
    loop {
        ticks.tick().await;
        let level = cause.level(seconds_between(zero, Instant::now()));
        if level == 0.0 && level_before == 0.0 {
            continue;
        }
        level_before = level;
        match timeout(PATIENCE, driver.set_level(level)).await {
            Ok(Ok(())) => {}
            // Most often the server that refuses, which is what was wanted; told in case it was not.
            Ok(Err(why)) => note(&scene, format!("{why:#}")),
            Err(_) => note(&scene, "the server kept a cause waiting".to_owned()),
        }
    }
}

fn note(scene: &Scene, what: String) {
    scene.trouble.borrow_mut().get_or_insert(what);
}

fn driver(what: &What, scene: &Scene) -> Box<dyn Driver> {
    let server = scene.server.clone();
    let load = scene.load.clone();
    match what {
        What::LoadFactor { factor } => Box::new(whole::LoadFactor { load, factor: *factor }),
        What::HeavyShare { share } => Box::new(whole::HeavyShare { load, share: *share }),
        What::Keys { bytes } => Box::new(growth::Keys::new(&server, *bytes)),
        What::AppendLog { bytes } => Box::new(growth::AppendLog::new(&server, *bytes)),
        What::Rows { bytes } => Box::new(growth::Rows::new(&server, *bytes)),
        What::Uploads { bytes } => Box::new(growth::Uploads::new(&server, *bytes)),
        What::ForeignLog { bytes } => Box::new(growth::ForeignLog::new(server.place.clone(), *bytes)),
        What::OwnLeak { bytes } => Box::new(whole::OwnLeak { server, bytes: *bytes }),
        What::SessionState { bytes } => Box::new(growth::SessionState::new(&server, *bytes)),
        What::Connections { count } => Box::new(clients::Connections::new(server, *count)),
        What::HungJobs { count } => Box::new(clients::HungJobs::new(server, *count)),
        What::Poison { share } => Box::new(data::Poison::new(server, *share)),
        What::LockHold { ms } => Box::new(clients::LockHold::new(&server, *ms)),
        What::OwnDelay { ms } => Box::new(whole::Delay { addresses: vec![server.address()], ms: *ms }),
        What::DependencyDelay { ms } => {
            let addresses = (0..server.dependency_count()).map(|n| server.dependency(n)).collect();
            Box::new(whole::Delay { addresses, ms: *ms })
        }
        What::LostUpstreams { count } => Box::new(whole::LostUpstreams { server, count: *count }),
        What::CpuQuota { cores } => Box::new(whole::CpuQuota { server, cores: *cores }),
        What::Job { busy } => Box::new(clients::Job::new(server, *busy)),
        What::Backup => Box::new(clients::Backup::new(server)),
        What::Flush => Box::new(whole::Edge::new(server, whole::Action::Flush)),
        What::Reload => Box::new(whole::Edge::new(server, whole::Action::Reload)),
        What::Restart => Box::new(whole::Edge::new(server, whole::Action::Restart)),
        What::Kill => Box::new(whole::Edge::new(server, whole::Action::Kill)),
        What::Stop => Box::new(whole::Edge::new(server, whole::Action::Stop)),
        What::Fault { fault } => Box::new(fault::Injected::new(scene.faults.clone(), server, fault.clone())),
    }
}

/// As many of `full` as the level is worth.
fn share_of(full: u64, level: f64) -> u64 {
    (full as f64 * level).round() as u64
}
