//! The servers: unmodified programs, started for one episode and ended with it.

mod nginx;
mod postgres;
mod redis;
mod shop;
mod status;
mod workload;

use std::{cell::RefCell, future::Future, net::SocketAddr, rc::Rc, time::Duration};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Child, time::timeout};

use crate::{
    launch,
    place::Place,
    spec::{EpisodeSpec, Limits, Subject},
    wire::{Link, Protocol},
};

pub(crate) use nginx::{PAGES as NGINX_PAGES, page, page_path, upload_path};
pub(crate) use postgres::{ITEMS as POSTGRES_ITEMS, make_template};
pub(crate) use redis::{ITEMS as REDIS_ITEMS, item_key, item_value};
pub(crate) use shop::{TOKEN, provide as provide_shop};
pub(crate) use status::{StatusReader, full, gauge, total};
pub(crate) use workload::Workload;

/// A server of an episode with what it depends on.
pub(crate) struct Server {
    pub(crate) subject: Subject,
    pub(crate) place: Rc<Place>,
    pub(crate) limits: Limits,
    child: RefCell<Option<Child>>,
    /// What it calls: inventories of the sample service. `None`: killed.
    dependencies: RefCell<Vec<Option<Child>>>,
}

/// How long a start may take. Warm caches make it tenths of a second.
const PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    /// Starts it with its data and waits until it answers.
    pub(crate) async fn start(spec: &EpisodeSpec, cpu_scale: f64, place: Rc<Place>) -> Result<Rc<Self>> {
        let server = Rc::new(Self {
            subject: spec.subject,
            place,
            limits: Limits { cpu_cores: spec.limits.cpu_cores * cpu_scale, ..spec.limits },
            child: RefCell::default(),
            dependencies: RefCell::default(),
        });
        for number in 0..server.dependency_count() {
            let child = shop::start_inventory(&server.place, server.dependency(number))?;
            server.dependencies.borrow_mut().push(Some(child));
        }
        match spec.subject {
            Subject::Nginx => nginx::prepare(&server)?,
            Subject::Postgres => postgres::prepare(&server).await?,
            Subject::Redis => redis::prepare(&server, spec)?,
            Subject::Shop => {}
        }
        server.launch()?;
        server.until_ready().await?;
        match spec.subject {
            Subject::Redis => redis::fill(server.address()).await?,
            Subject::Shop | Subject::Nginx | Subject::Postgres => {}
        }
        // Starting is not what is recorded: only now does its share of CPU time count.
        server.place.set_cpu(server.limits.cpu_cores)?;
        Ok(server)
    }

    fn launch(&self) -> Result<()> {
        let command = match self.subject {
            Subject::Nginx => nginx::command(self),
            Subject::Postgres => postgres::command(self)?,
            Subject::Redis => redis::command(self),
            Subject::Shop => shop::command(self),
        };
        let child = launch::start(&self.place, self.limits.files, true, &command)?;
        *self.child.borrow_mut() = Some(child);
        Ok(())
    }

    /// Where users reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        let port = match self.subject {
            Subject::Nginx | Subject::Shop => 8080,
            Subject::Postgres => 5432,
            Subject::Redis => 6379,
        };
        self.place.address(1, port)
    }

    pub(crate) fn protocol(&self) -> Protocol {
        match self.subject {
            Subject::Nginx | Subject::Shop => Protocol::Http,
            Subject::Postgres => Protocol::Postgres,
            Subject::Redis => Protocol::Redis,
        }
    }

    /// The process that was started; all others of it are its descendants.
    pub(crate) fn first_process(&self) -> Option<u32> {
        self.child.borrow().as_ref().and_then(Child::id)
    }

    /// The process whose descriptors are counted: nginx's worker, otherwise the first one.
    pub(crate) fn process(&self) -> Option<u32> {
        let first = self.first_process()?;
        match self.subject {
            Subject::Nginx => nginx::worker(first).or(Some(first)),
            Subject::Postgres | Subject::Redis | Subject::Shop => Some(first),
        }
    }

    /// Where the dependency with this number listens.
    pub(crate) fn dependency(&self, number: u8) -> SocketAddr {
        self.place.address(10 + number, 8081)
    }

    pub(crate) fn dependency_count(&self) -> u8 {
        match self.subject {
            Subject::Nginx => 4,
            Subject::Shop => 1,
            Subject::Postgres | Subject::Redis => 0,
        }
    }

    /// Kills or starts dependencies, so that the first `lost` of them are gone.
    pub(crate) fn lose_dependencies(&self, lost: usize) -> Result<()> {
        for (number, child) in (0u8..).zip(self.dependencies.borrow_mut().iter_mut()) {
            if usize::from(number) < lost {
                // Dropping kills.
                *child = None;
            } else if child.is_none() {
                *child = Some(shop::start_inventory(&self.place, self.dependency(number))?);
            }
        }
        Ok(())
    }

    /// Sends a signal to its first process.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.borrow().as_ref().and_then(Child::id).context("it has ended")?;
        Ok(kill(Pid::from_raw(id.cast_signed()), signal)?)
    }

    /// Ends it gracefully and starts it again.
    pub(crate) async fn restart(&self) -> Result<()> {
        let child = self.child.borrow_mut().take();
        if let (Some(mut child), Some(graceful)) = (child, self.graceful()) {
            if let Some(id) = child.id() {
                let _ = kill(Pid::from_raw(id.cast_signed()), graceful);
            }
            let _ = timeout(Duration::from_secs(3), child.wait()).await;
        }
        self.launch()
    }

    fn graceful(&self) -> Option<Signal> {
        match self.subject {
            Subject::Postgres => Some(Signal::SIGINT),
            Subject::Nginx => Some(Signal::SIGQUIT),
            Subject::Redis | Subject::Shop => Some(Signal::SIGTERM),
        }
    }

    /// What it printed last, for reports of trouble.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.place.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut last: Vec<&str> = text.lines().rev().take(4).collect();
        last.reverse();
        last.join(" / ")
    }

    async fn until_ready(&self) -> Result<()> {
        let mut workload = Workload::new(self.subject, 0);
        let request = workload.probe();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let tried = async {
                let mut link = Link::open(self.protocol(), self.address()).await?;
                link.call(&request).await
            };
            if matches!(within(Duration::from_secs(1), tried).await, Some(Ok(true))) {
                return Ok(());
            }
            if let Some(child) = self.child.borrow_mut().as_mut()
                && let Some(status) = child.try_wait()?
            {
                bail!("{:?} ended with {status}: {}", self.subject, self.last_words());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{:?} does not answer: {}", self.subject, self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// The result of `work`, unless it takes longer.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}
