//! Causes that come from the fault library.

use std::{path::Path, rc::Rc, sync::Arc};

use anyhow::{Context, Result};
use forefend_chaos::{DEFAULT_TTL, Fault, Injection, Injector, Target};
use forefend_domain::CellId;
use tokio::task::spawn_blocking;

use super::{Driver, Step};
use crate::{launch, place::WORK, subject::Server};

/// The recorder's injector. Its watchdog undoes faults should the recorder be killed.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Injector>);

impl Faults {
    /// Starts it.
    ///
    /// # Errors
    /// When its watchdog can't be started.
    pub(crate) fn start() -> Result<Self> {
        let leases = Path::new(WORK).join("leases");
        std::fs::create_dir_all(&leases)?;
        Ok(Self(Arc::new(Injector::start(&leases, &launch::own_program()?, DEFAULT_TTL)?)))
    }
}

/// A fault of the library, done to the server of the episode.
pub(super) struct Injected {
    faults: Faults,
    server: Rc<Server>,
    fault: Fault,
    on: Option<Arc<Injection>>,
}

impl Injected {
    pub(super) fn new(faults: Faults, server: Rc<Server>, fault: Fault) -> Self {
        Self { faults, server, fault, on: None }
    }

    async fn reach(&mut self, level: f64) -> Result<()> {
        let injection = match &self.on {
            Some(on) => on.clone(),
            None => {
                let target = target(&self.server)?;
                let (faults, fault) = (self.faults.clone(), self.fault.clone());
                // It starts processes and waits for them.
                let begun = spawn_blocking(move || faults.0.begin(&fault, &target)).await??;
                self.on.insert(Arc::new(begun)).clone()
            }
        };
        Ok(spawn_blocking(move || injection.set(level)).await??)
    }
}

fn target(server: &Server) -> Result<Target> {
    let pid = server.first_process().context("the server has ended")?;
    Ok(Target {
        cell: CellId::new(&format!("episode-{}", server.address().ip().to_string().replace('.', "-")))?,
        pid: pid.cast_signed(),
        address: Some(server.address()),
        data: Some(server.place.data.clone()),
        log: Some(server.place.log.clone()),
        clock: None,
    })
}

impl Driver for Injected {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(self.reach(level))
    }
}
