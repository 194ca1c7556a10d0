//! Plays the acts and counts what came of them.

use std::{path::Path, time::Duration};

use forefend_control::Snapshot;
use forefend_domain::{CellId, CellRole, EntryKind, LedgerEntry, LifeState, ServiceView, Timestamp};
use serde_json::json;
use tokio::time::Instant;

use super::{
    DemoArguments, DemoError,
    figures::{ActFigures, Figures, Report},
    load::Load,
    script::{self, Act},
    stage::Stage,
    view::View,
};

/// The first moments of an act show what is usual.
const OVERTURE: Duration = Duration::from_millis(1_500);

/// An act that does not come to its end by then is given up.
const LONGEST_ACT: Duration = Duration::from_secs(40);

/// How often the engine is asked what it sees.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long the spike lasts.
const SPIKE_LASTS: Duration = Duration::from_secs(4);

pub(crate) async fn play_all(arguments: &DemoArguments, wanted: &[Act]) -> Result<Report, DemoError> {
    let temporary = tempfile_dir()?;
    let dir = arguments.dir.clone().unwrap_or_else(|| temporary.0.clone());
    let mut report = Report {
        acts: wanted
            .iter()
            .map(|act| ActFigures { name: act.name(), predictive: None, reactive: None })
            .collect(),
    };
    let predictive = play_run(arguments, wanted, &dir.join("predictive"), true).await?;
    for (act, figures) in report.acts.iter_mut().zip(predictive) {
        act.predictive = Some(figures);
    }
    if !arguments.predictive_only {
        let reactive = play_run(arguments, wanted, &dir.join("reactive"), false).await?;
        for (act, figures) in report.acts.iter_mut().zip(reactive) {
            act.reactive = Some(figures);
        }
    }
    Ok(report)
}

async fn play_run(
    arguments: &DemoArguments,
    wanted: &[Act],
    dir: &Path,
    forecast: bool,
) -> Result<Vec<Figures>, DemoError> {
    // A directory that was asked for is kept, whatever happens.
    let temporary = if arguments.dir.is_none() { dir.parent() } else { None };
    let stage = Stage::set(dir, forecast, arguments.api_port, temporary).await?;
    let mut view = View::new(!arguments.headless, forecast);
    view.say(&format!("dashboard: http://{}/", stage.api));
    for missing in stage.missing_protections() {
        view.say(&missing);
    }
    let load = Load::start(stage.shop, script::LATENCY_OBJECTIVE, script::USERS_PER_S);
    let mut all = Vec::new();
    for act in wanted {
        let mut scene = Scene { stage: &stage, load: &load, view: &mut view, act: *act, forecast };
        all.push(scene.play().await?);
    }
    if arguments.keep && forecast {
        view.say(&format!("kept running: http://{}/ (Ctrl-C ends it)", stage.api));
        std::future::pending::<()>().await;
    }
    load.stop().await;
    view.end();
    stage.strike().await;
    Ok(all)
}

struct Scene<'a> {
    stage: &'a Stage,
    load: &'a Load,
    view: &'a mut View,
    act: Act,
    forecast: bool,
}

/// What is remembered while an act is played.
#[derive(Debug, Default)]
struct Seen {
    shifted: bool,
    pre_tested: u64,
    pre_test_bp: u32,
    failed_since: Option<Timestamp>,
    lead_time_s: Option<f64>,
    mirror_bp: u32,
    at_home: bool,
    /// The synthetic cells rest.
    rested: bool,
}

impl Scene<'_> {
    async fn play(&mut self) -> Result<Figures, DemoError> {
        self.view.act(self.act.letter(), self.act.title());
        // What is left of the act before belongs to it.
        self.load.take();
        self.load.set_act(self.act.letter());
        let began = self.stage.snapshot().await?.world.now;
        let mut seen = Seen::default();
        self.watch_for(OVERTURE, began, &mut seen).await?;
        match self.act {
            Act::Leak => self.leak(began, &mut seen).await?,
            Act::SlowDependency => self.slow_dependency(began, &mut seen).await?,
            Act::Spike => self.spike(began, &mut seen).await?,
            Act::Recovery => self.recovery(began, &mut seen).await?,
        }
        let met = self.load.take();
        for why in &met.failures {
            self.view.say(&format!("a request failed: {why}"));
        }
        let figures = Figures {
            requests: met.requests,
            failed: met.failed,
            slow: met.slow,
            executed_twice: self.stage.executed_twice(self.act.letter())?,
            p99_ms: met.p99_ms(),
            lead_time_s: seen.lead_time_s.filter(|lead| *lead > 0.0),
            pre_tested: seen.pre_tested,
            pre_test_bp: seen.pre_test_bp,
            shifted: seen.shifted,
            returned: seen.shifted && seen.at_home,
            final_weight_bp: seen.mirror_bp,
        };
        self.view.figures(&figures);
        Ok(figures)
    }

    async fn leak(&mut self, began: Timestamp, seen: &mut Seen) -> Result<(), DemoError> {
        self.stage.harm(script::VICTIM, json!({ "leak_bytes_per_s": script::LEAK_BYTES_PER_S })).await?;
        self.watch_until(began, seen, |seen| seen.failed_since.is_some()).await?;
        // The driver makes the cell again; its traffic then goes home.
        self.watch_until(began, seen, |seen| seen.at_home && seen.rested).await
    }

    async fn slow_dependency(&mut self, began: Timestamp, seen: &mut Seen) -> Result<(), DemoError> {
        let creep = json!({ "delay_ms": 20, "delay_ms_per_s": script::CREEP_MS_PER_S, "max_delay_ms": 600 });
        self.stage.harm(script::VICTIMS_DEPENDENCY, creep).await?;
        self.watch_until(began, seen, |seen| seen.failed_since.is_some()).await?;
        // Somebody repairs the dependency.
        self.stage.heal(script::VICTIMS_DEPENDENCY).await?;
        self.watch_until(began, seen, |seen| seen.at_home && seen.rested).await
    }

    async fn spike(&mut self, began: Timestamp, seen: &mut Seen) -> Result<(), DemoError> {
        self.load.set_rate(script::USERS_PER_S * script::SPIKE);
        self.watch_for(SPIKE_LASTS, began, seen).await?;
        self.load.set_rate(script::USERS_PER_S);
        self.watch_for(OVERTURE, began, seen).await
    }

    async fn recovery(&mut self, began: Timestamp, seen: &mut Seen) -> Result<(), DemoError> {
        self.stage.harm(script::VICTIM, json!({ "leak_bytes_per_s": script::LEAK_BYTES_PER_S })).await?;
        if self.forecast {
            self.watch_until(began, seen, |seen| seen.shifted).await?;
        } else {
            // Nothing shifts before a failure here; the cell recovers at about the same time.
            self.watch_for(Duration::from_secs(5), began, seen).await?;
        }
        self.stage.heal(script::VICTIM).await?;
        self.watch_for(OVERTURE, began, seen).await?;
        self.watch_until(began, seen, |seen| seen.at_home && seen.rested).await
    }

    async fn watch_for(
        &mut self,
        time: Duration,
        began: Timestamp,
        seen: &mut Seen,
    ) -> Result<(), DemoError> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look(began, seen).await?;
            tokio::time::sleep_until((Instant::now() + LOOK_EVERY).min(end)).await;
        }
        Ok(())
    }

    async fn watch_until(
        &mut self,
        began: Timestamp,
        seen: &mut Seen,
        done: impl Fn(&Seen) -> bool,
    ) -> Result<(), DemoError> {
        let deadline = Instant::now() + LONGEST_ACT;
        loop {
            self.look(began, seen).await?;
            if done(seen) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.view.say(&format!("act {} did not come to its end: {seen:?}", self.act.letter()));
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&mut self, began: Timestamp, seen: &mut Seen) -> Result<(), DemoError> {
        let snapshot = self.stage.snapshot().await?;
        let Some(shop) = shop_of(&snapshot) else { return Ok(()) };
        seen.mirror_bp = mirror_bp(shop);
        seen.shifted |= snapshot.shifts.iter().any(|s| s.moved.bp() > 0);
        if !seen.shifted {
            for test in &snapshot.pre_tests {
                seen.pre_tested = seen.pre_tested.max(test.evidence.requests);
                seen.pre_test_bp = seen.pre_test_bp.max(test.share.bp());
            }
        }
        seen.at_home = snapshot.shifts.is_empty() && is_home(shop);
        seen.rested = shop
            .cells
            .values()
            .filter(|c| c.cell.role == CellRole::Synthetic)
            .all(|c| c.life == LifeState::Idle);
        let entries = self.stage.ledger().await?;
        if let Some((since, lead)) = failure(&entries, began) {
            seen.failed_since = Some(since);
            seen.lead_time_s = lead;
        }
        self.view.draw(&snapshot, shop, self.load.counts());
        Ok(())
    }
}

fn shop_of(snapshot: &Snapshot) -> Option<&ServiceView> {
    snapshot.world.services.values().find(|s| s.service.id.as_str() == "shop")
}

/// What synthetic cells carry, in basis points of the service.
fn mirror_bp(shop: &ServiceView) -> u32 {
    let Some(effective) = &shop.effective else { return 0 };
    let synthetic = shop.cells.values().filter(|c| c.cell.role == CellRole::Synthetic);
    let share: f64 = synthetic.map(|c| effective.share(&c.cell.id)).sum();
    // A trace must not round to nothing.
    (share * 10_000.0).ceil() as u32
}

fn is_home(shop: &ServiceView) -> bool {
    let Some(effective) = &shop.effective else { return false };
    shop.cells.keys().all(|c: &CellId| (effective.share(c) - shop.home.share(c)).abs() < 0.000_1)
}

/// The failure of the victim since `began`, and how long before it the traffic was gone.
fn failure(entries: &[LedgerEntry], began: Timestamp) -> Option<(Timestamp, Option<f64>)> {
    entries.iter().filter(|e| e.at >= began).find_map(|entry| match &entry.kind {
        EntryKind::Failure { cell, since, lead_time_s } if cell.as_str() == script::VICTIM => {
            Some((*since, *lead_time_s))
        }
        _ => None,
    })
}

/// A directory that goes away with this value.
struct TemporaryDir(std::path::PathBuf);

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // What can't be removed is in /tmp and small.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tempfile_dir() -> Result<TemporaryDir, DemoError> {
    let template = std::env::temp_dir().join("forefend-demo-XXXXXX");
    let dir = nix::unistd::mkdtemp(&template)
        .map_err(|e| DemoError::new(format!("{}: {e}", template.display())))?;
    // Cells run under users of their own and must reach their directories within.
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&dir, mode)?;
    Ok(TemporaryDir(dir))
}
