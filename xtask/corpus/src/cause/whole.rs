//! What meets the server as a whole: its load, its limits, its processes, what it depends on.

use std::{net::SocketAddr, rc::Rc};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{Driver, Step, share_of};
use crate::{
    load::Load,
    spec::Subject,
    subject::{Server, TOKEN},
    wire::{Http, Redis},
};

/// More requests.
pub(super) struct LoadFactor {
    pub(super) load: Rc<Load>,
    pub(super) factor: f64,
}

impl Driver for LoadFactor {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        self.load.factor.set(1.0 + (self.factor - 1.0) * level);
        Box::pin(async { Ok(()) })
    }
}

/// More of the requests are costly.
pub(super) struct HeavyShare {
    pub(super) load: Rc<Load>,
    pub(super) share: f64,
}

impl Driver for HeavyShare {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        self.load.heavy.set(self.share * level);
        Box::pin(async { Ok(()) })
    }
}

/// The sample service's own leak.
pub(super) struct OwnLeak {
    pub(super) server: Rc<Server>,
    pub(super) bytes: u64,
}

/// Seconds until the next level, roughly: the leak is a rate.
const LEAK_OVER_S: f64 = 0.25;

impl OwnLeak {
    async fn reach(&mut self, level: f64) -> Result<()> {
        let wanted = share_of(self.bytes, level);
        let state = set_fault(self.server.address(), "{}").await?;
        let held = state["leaked_bytes"].as_u64().context("no leaked_bytes")?;
        // Whole mebibytes leak; a tooth that comes down is far more than that.
        let fault = if wanted + (4 << 20) < held {
            "{\"release\":true}".to_owned()
        } else {
            let rate = wanted.saturating_sub(held) as f64 / LEAK_OVER_S;
            format!("{{\"leak_bytes_per_s\":{}}}", rate as u64)
        };
        set_fault(self.server.address(), &fault).await?;
        Ok(())
    }
}

impl Driver for OwnLeak {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(self.reach(level))
    }
}

/// Answers of the sample service, or of inventories, come later.
pub(super) struct Delay {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) ms: f64,
}

impl Driver for Delay {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(async move {
            for address in &self.addresses {
                set_fault(*address, &format!("{{\"delay_ms\":{:.2}}}", self.ms * level)).await?;
            }
            Ok(())
        })
    }
}

async fn set_fault(address: SocketAddr, fault: &str) -> Result<serde_json::Value> {
    let request = format!(
        "POST /fault HTTP/1.1\r\nhost: corpus\r\nconnection: close\r\nx-control-token: {TOKEN}\r\n\
         content-length: {}\r\n\r\n{fault}",
        fault.len()
    );
    let answer = Http::open(address).await?.call(request.as_bytes()).await?;
    if answer.status != 200 {
        bail!("{address} answered {} to {fault}", answer.status);
    }
    Ok(serde_json::from_slice(&answer.body)?)
}

/// nginx loses one upstream after the other.
pub(super) struct LostUpstreams {
    pub(super) server: Rc<Server>,
    pub(super) count: u32,
}

impl Driver for LostUpstreams {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        // Down to the whole number: the last goes at full level.
        let lost = (f64::from(self.count) * level + 1e-6) as usize;
        Box::pin(async move { self.server.lose_dependencies(lost) })
    }
}

/// The CPU quota sinks.
pub(super) struct CpuQuota {
    pub(super) server: Rc<Server>,
    pub(super) cores: f64,
}

impl Driver for CpuQuota {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        let all = self.server.limits.cpu_cores;
        Box::pin(async move { self.server.place.set_cpu(all + (self.cores - all) * level) })
    }
}

/// What is done once, whenever the level rises from nothing.
pub(super) struct Edge {
    server: Rc<Server>,
    action: Action,
    on: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Flush,
    Reload,
    Restart,
    Kill,
    Stop,
}

impl Edge {
    pub(super) fn new(server: Rc<Server>, action: Action) -> Self {
        Self { server, action, on: false }
    }

    async fn act(&self) -> Result<()> {
        match (self.action, self.server.subject) {
            (Action::Flush, Subject::Redis) => {
                Redis::open(self.server.address()).await?.ask(&[b"FLUSHALL"]).await?;
            }
            (Action::Flush, subject) => bail!("{subject:?} has no cache to flush"),
            (Action::Reload, Subject::Nginx | Subject::Postgres) => self.server.signal(Signal::SIGHUP)?,
            (Action::Reload, subject) => bail!("{subject:?} reads no configuration anew"),
            (Action::Restart, _) => self.server.restart().await?,
            (Action::Kill, _) => self.server.place.signal(Signal::SIGKILL),
            (Action::Stop, _) => self.server.place.signal(Signal::SIGSTOP),
        }
        Ok(())
    }
}

impl Driver for Edge {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        let rises = level > 0.0 && !self.on;
        self.on = level > 0.0;
        Box::pin(async move { if rises { self.act().await } else { Ok(()) } })
    }
}
