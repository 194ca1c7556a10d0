use std::{
    future::Future,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use forefend_domain::{CellId, Passport, Stage, Timestamp, ports::DriverStage};
use hyper::Method;
use rustix::process::Signal;
use tokio::{
    io::unix::AsyncFd,
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    context::Context,
    launch::{self, init_error, kill_remains},
};
use crate::{
    cgroup::Groups,
    http::Connection,
    init::Ended,
    process::{Process, is_stopped},
    record::{self, Record, SavedStage},
    sys::watch,
    warm_up::warm_up,
};

/// For the freezer; it takes microseconds unless a process hangs in the kernel.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);
/// Until freezing is tried again after it failed.
const FREEZE_AGAIN: Duration = Duration::from_secs(5);
/// For the shim to write down how the cell ended.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);
/// Between looks at something that the kernel or a shim does in its own time.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Between attempts at reaching a starting cell: from short, for it may start in milliseconds, to long.
const READY_FIRST: Duration = Duration::from_millis(2);
const READY_LAST: Duration = Duration::from_millis(50);

/// A process whose end can be awaited.
type Running = AsyncFd<Process>;

/// Looks after one cell: works towards what is desired of it, sees when it breaks, ends when it is retired.
pub(super) async fn run(context: Arc<Context>, cell: CellId, process: Option<Process>) {
    let Some(notify) = context.with(|entries| entries.get(&cell).map(|e| e.notify.clone())) else { return };
    let mut running = process.and_then(watch);
    let actor = Actor { context, cell, notify };
    loop {
        let seen =
            actor.context.with(|entries| entries.get(&actor.cell).map(|e| (e.desired, e.stage.clone())));
        let Some((desired, stage)) = seen else { return };
        if desired.retire {
            actor.retire(running.take()).await;
            return;
        }
        let holds = match stage {
            DriverStage::Creating => {
                running = actor.create(running.take()).await;
                running.is_some()
            }
            DriverStage::Failed { .. } => {
                actor.notify.notified().await;
                false
            }
            DriverStage::Warming => actor.guard(&running, actor.warm_up()).await,
            DriverStage::Ready if desired.parked => actor.guard(&running, actor.freeze(&running)).await,
            DriverStage::Parked if !desired.parked || desired.rewarm => {
                actor.guard(&running, actor.thaw(&running)).await
            }
            DriverStage::Ready | DriverStage::Parked => actor.guard(&running, std::future::pending()).await,
        };
        if !holds {
            // Dropped at once, not when the failure is next looked at: it may have been answered with Recreate by then.
            running = None;
        }
    }
}

struct Actor {
    context: Arc<Context>,
    cell: CellId,
    notify: Arc<Notify>,
}

impl Actor {
    /// Works until done, until something else is desired, or until the cell's process ends, which is a failure. False when
    /// the cell failed.
    async fn guard(&self, running: &Option<Running>, work: impl Future<Output = Result<(), String>>) -> bool {
        let Some(running) = running else {
            self.fail("its process is gone".into()).await;
            return false;
        };
        let failed = tokio::select! {
            biased;
            Ok(_) = running.readable() => self.why_it_ended().await,
            done = work => done.err(),
            () = self.changed() => None,
        };
        match failed {
            None => true,
            Some(why) => {
                self.fail(why).await;
                false
            }
        }
    }

    /// Returns when something other than what was desired at the call is desired.
    async fn changed(&self) {
        let desired =
            || self.context.with(|entries| entries.get(&self.cell).map(|e| (e.desired, e.stage.clone())));
        let before = desired();
        loop {
            self.notify.notified().await;
            if desired() != before {
                return;
            }
        }
    }

    async fn create(&self, running: Option<Running>) -> Option<Running> {
        let running = match running {
            Some(running) => running,
            None => {
                let dependencies = self.dependencies();
                tokio::select! {
                    biased;
                    known = dependencies => if let Err(why) = known {
                        self.fail(why).await;
                        return None;
                    },
                    () = self.changed() => return None,
                }
                // Not given up half-way: what it starts must be known here.
                match launch::start(&self.context, &self.cell).await.map(watch) {
                    Ok(Some(running)) => running,
                    Ok(None) => {
                        self.fail("its process can't be watched".into()).await;
                        return None;
                    }
                    Err(why) => {
                        self.fail(why).await;
                        return None;
                    }
                }
            }
        };
        let pid = running.get_ref().pid;
        self.context.with(|entries| entries.get_mut(&self.cell).map(|entry| entry.pid = Some(pid)));
        let running = Some(running);
        if self.guard(&running, self.ready()).await { running } else { None }
    }

    /// Waits for the cells that this one depends on to exist at least: their addresses are known from then on.
    async fn dependencies(&self) -> Result<(), String> {
        let Some(record) = self.record() else { return Ok(()) };
        let deadline = Instant::now() + record.blueprint.readiness.timeout;
        loop {
            match self.context.resolve(&record) {
                Ok(_) => return Ok(()),
                Err(why) if Instant::now() >= deadline => return Err(why),
                Err(_) => sleep(READY_LAST).await,
            }
        }
    }

    /// Waits until the cell answers.
    async fn ready(&self) -> Result<(), String> {
        let Some(record) = self.record() else { return Ok(()) };
        let readiness = &record.blueprint.readiness;
        let deadline = Instant::now() + readiness.timeout;
        let mut pause = READY_FIRST;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(READY_LAST);
            let answer = async {
                let mut connection = Connection::open(record.address, left).await?;
                connection.send(Method::GET, &readiness.path, left).await
            };
            match answer.await {
                Ok(status) if status.as_u16() < 400 => break,
                unready if Instant::now() >= deadline => {
                    let last = unready.map_or_else(|why| why, |status| format!("status {}", status.as_u16()));
                    return Err(format!(
                        "GET {} was not answered well within {:?}: {last}",
                        readiness.path, readiness.timeout
                    ));
                }
                _ => sleep(pause).await,
            }
            pause = (pause * 2).min(READY_LAST);
        }
        let listens = |record: &mut Record| {
            record.listened = true;
            record.stage = SavedStage::Warming;
        };
        self.context.update(&self.cell, listens, |entry| {
            entry.stage = DriverStage::Warming;
            let took = entry.begun.elapsed();
            entry.took(Stage::Create, took);
        });
        Ok(())
    }

    async fn warm_up(&self) -> Result<(), String> {
        let Some(record) = self.record() else { return Ok(()) };
        let begun = Instant::now();
        let warmed = warm_up(&record.blueprint.warm_up, record.address).await?;
        let passport = Passport {
            blueprint: record.hash,
            current: true,
            warmed_at: now(),
            warm_requests: warmed.requests,
            warm_ok: warmed.ok,
            measured_capacity: warmed.capacity,
        };
        let took = begun.elapsed();
        let warmed = |record: &mut Record| {
            record.passport = Some(passport);
            record.stage = SavedStage::Ready;
        };
        self.context.update(&self.cell, warmed, |entry| {
            entry.stage = DriverStage::Ready;
            entry.took(Stage::WarmUp, took);
        });
        Ok(())
    }

    async fn freeze(&self, running: &Option<Running>) -> Result<(), String> {
        let (Some(record), Some(running)) = (self.record(), running) else { return Ok(()) };
        match self.until_frozen(&record.groups, running.get_ref(), true).await {
            Ok(()) => self.show(DriverStage::Parked),
            Err(why) => {
                // It works, it only costs more than it should: no reason to call it broken.
                tracing::warn!(cell = %self.cell, "it can't be parked: {why}");
                let _ = set_frozen(&record.groups, running.get_ref(), false);
                sleep(FREEZE_AGAIN).await;
            }
        }
        Ok(())
    }

    async fn thaw(&self, running: &Option<Running>) -> Result<(), String> {
        let (Some(record), Some(running)) = (self.record(), running) else { return Ok(()) };
        self.until_frozen(&record.groups, running.get_ref(), false).await?;
        let rewarm = self
            .context
            .with(|entries| entries.get_mut(&self.cell).map(|e| std::mem::take(&mut e.desired.rewarm)));
        if rewarm == Some(true) {
            let goes_cold = |record: &mut Record| record.stage = SavedStage::Warming;
            self.context.update(&self.cell, goes_cold, |entry| entry.stage = DriverStage::Warming);
        } else {
            self.show(DriverStage::Ready);
        }
        Ok(())
    }

    /// Whether a cell is frozen is read from the kernel, so there is nothing to write down.
    fn show(&self, stage: DriverStage) {
        self.context.with(|entries| entries.get_mut(&self.cell).map(|entry| entry.stage = stage));
    }

    async fn until_frozen(&self, groups: &Groups, process: &Process, frozen: bool) -> Result<(), String> {
        let deadline = Instant::now() + FREEZE_PATIENCE;
        loop {
            // Asked anew each time: v1's freezer may stay half-way and then needs to be told again (freezer-subsystem.rst).
            set_frozen(groups, process, frozen).map_err(|e| format!("the freezer: {e}"))?;
            if is_frozen(groups, process) == Some(frozen) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let what = if frozen { "frozen" } else { "thawed" };
                return Err(format!("it was not {what} within {FREEZE_PATIENCE:?}"));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Its process ended without being told to.
    async fn why_it_ended(&self) -> Option<String> {
        let record = self.record()?;
        let dir = self.context.dir(&self.cell);
        let deadline = Instant::now() + EXIT_PATIENCE;
        while ended(&record, &dir).is_none() && Instant::now() < deadline {
            sleep(LOOK_AGAIN).await;
        }
        Some(how_it_ended(&record, &dir))
    }

    async fn fail(&self, why: String) {
        tracing::warn!(cell = %self.cell, "failed: {why}");
        let failed = |record: &mut Record| {
            record.stage = SavedStage::Failed { why: why.clone() };
            record.passport = None;
        };
        self.context.update(&self.cell, failed, |entry| {
            entry.stage = DriverStage::Failed { why: why.clone() };
            entry.desired.parked = false;
            entry.desired.rewarm = false;
            entry.pid = None;
        });
        let (context, cell) = (self.context.clone(), self.cell.clone());
        let killed = tokio::task::spawn_blocking(move || kill_remains(&context, &cell)).await;
        if let Ok(Err(e)) = killed {
            tracing::warn!(cell = %self.cell, "{e}");
        }
    }

    async fn retire(&self, running: Option<Running>) {
        let Some(record) = self.record() else { return };
        self.context.update(&self.cell, |record| record.retiring = true, |_| {});
        if let Some(running) = running {
            let process = running.get_ref();
            if self.until_frozen(&record.groups, process, false).await.is_ok() {
                process.signal(Signal::TERM);
                let _ = timeout(record.blueprint.stop_grace, running.readable()).await;
            }
            process.signal(Signal::KILL);
        }
        let (context, cell) = (self.context.clone(), self.cell.clone());
        let removed = tokio::task::spawn_blocking(move || remove(&context, &cell)).await;
        if let Ok(Err(why)) = removed {
            tracing::warn!(cell = %self.cell, "what is left of it can't be removed: {why}");
        }
        self.context.with(|entries| entries.remove(&self.cell));
    }

    fn record(&self) -> Option<Record> {
        self.context.with(|entries| entries.get(&self.cell).map(|e| e.record.clone()))
    }
}

/// Removes all that there is of a cell. Killed half-way it leaves either a record that says so or a directory without one.
fn remove(context: &Context, cell: &CellId) -> Result<(), String> {
    kill_remains(context, cell)?;
    let dir = context.dir(cell);
    // The shim has a last word to write; a late one finds no record and gives up.
    let _lock = launch::lock(&dir, Duration::from_secs(2))?;
    let _ = std::fs::remove_file(dir.join(record::CELL));
    std::fs::remove_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))
}

/// Asks for it; [`is_frozen`] tells. Without a freezer the main process alone is stopped.
pub(super) fn set_frozen(groups: &Groups, process: &Process, frozen: bool) -> io::Result<()> {
    if groups.can_freeze() {
        return groups.freeze(frozen);
    }
    process.signal(if frozen { Signal::STOP } else { Signal::CONT });
    Ok(())
}

/// Whether it is; `None` when that can't be read.
pub(super) fn is_frozen(groups: &Groups, process: &Process) -> Option<bool> {
    if groups.can_freeze() { groups.frozen() } else { is_stopped(process.pid) }
}

fn ended(record: &Record, dir: &Path) -> Option<Ended> {
    record::read_json::<Ended>(&dir.join(record::EXIT)).filter(|ended| ended.attempt == record.attempt)
}

/// Why a cell's process is gone, in words. To be asked before its groups are removed, for the kernel counts there.
pub(super) fn how_it_ended(record: &Record, dir: &Path) -> String {
    if let Some(why) = init_error(dir) {
        return why;
    }
    let oom_kills = record.groups.oom_kills().unwrap_or(0);
    let limit = record.blueprint.resources.memory.0 >> 20;
    match ended(record, dir) {
        Some(Ended { signal: Some(signal), .. }) if oom_kills > 0 => {
            format!("out of memory: the kernel killed it at its limit of {limit} MiB (signal {signal})")
        }
        Some(Ended { signal: Some(signal), .. }) => format!("it was killed by signal {signal}"),
        Some(Ended { code: Some(code), .. }) if oom_kills > 0 => format!(
            "it ended with status {code} after the kernel had killed {oom_kills} of its processes at the limit of {limit} MiB \
             (out of memory)"
        ),
        Some(Ended { code: Some(code), .. }) => format!("it ended with status {code}"),
        _ if oom_kills > 0 => format!("out of memory: the kernel killed it at its limit of {limit} MiB"),
        _ => "it ended, and nobody saw how".into(),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
