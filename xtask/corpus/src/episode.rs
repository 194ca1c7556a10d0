//! One episode from start to end.

use std::{cell::RefCell, rc::Rc, time::Duration};

use anyhow::{Context, Result};
use forefend_domain::CellId;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    cause::{Faults, Scene, carry_out},
    load::Load,
    outcome::{Judge, STEP, instant},
    place::Place,
    sample::{Collected, Sampler, Series},
    spec::{Class, EpisodeSpec},
    subject::Server,
};

/// What was recorded of an episode.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recording {
    pub(crate) spec: EpisodeSpec,
    /// The limit of CPU time was this many times what was drawn, for the machine's sake.
    pub(crate) cpu_scale: f64,
    /// How many steps were recorded.
    pub(crate) steps: u32,
    /// The step in which it began to break its objective for good.
    pub(crate) failed_step: Option<u32>,
    pub(crate) series: Vec<Series>,
    /// What went wrong with a cause, most often because the server refused it.
    pub(crate) trouble: Option<String>,
}

impl Recording {
    /// When it failed, in seconds after the start.
    pub(crate) fn failed_s(&self) -> Option<f64> {
        self.failed_step.map(|step| f64::from(step) * STEP.as_secs_f64())
    }

    /// What was to fail failed, and not before it had a reason to; what was to keep its objective kept it.
    pub(crate) fn is_as_meant(&self) -> bool {
        let healthy = self.spec.kind.class() == Class::Healthy;
        let reason_s = self.spec.onset_s().unwrap_or(0.0);
        // A failure is known to the step.
        self.failed_s().map_or(healthy, |failed| !healthy && failed + STEP.as_secs_f64() >= reason_s)
    }
}

/// Users come for so long before anything is recorded.
const WARM_UP: Duration = Duration::from_millis(2_500);
/// What is recorded after a failure is certain.
const STEPS_AFTER: u32 = 3;

/// Records an episode in the slot given, with limits of CPU time for a machine on which requests cost `cpu_scale` times what they cost
/// where the limits were drawn up.
///
/// # Errors
/// When its place or server can't be had. That the server fails later is no error.
pub(crate) async fn record(
    spec: &EpisodeSpec,
    cpu_scale: f64,
    slot: u8,
    faults: &Faults,
) -> Result<Recording> {
    let place = Rc::new(Place::make(slot, &spec.limits).await?);
    let recorded = async {
        let server = Server::start(spec, cpu_scale, place.clone()).await?;
        observe(spec, cpu_scale, server, faults.clone()).await
    };
    let recorded = recorded.await;
    place.clear().await;
    recorded.with_context(|| format!("episode {} ({:?} of {:?})", spec.id, spec.kind, spec.subject))
}

async fn observe(
    spec: &EpisodeSpec,
    cpu_scale: f64,
    server: Rc<Server>,
    faults: Faults,
) -> Result<Recording> {
    let zero = Instant::now() + WARM_UP;
    let load = Load::new(spec, &server);
    let trouble = Rc::new(RefCell::new(None));
    let scene = Scene { server: server.clone(), load: load.clone(), faults, trouble: trouble.clone() };
    // Tasks end when the set is dropped.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(load.clone().run(spec.seed, zero));
    for cause in &spec.causes {
        tasks.spawn_local(carry_out(cause.clone(), scene.clone(), zero));
    }
    let mut judge = Judge::new(CellId::new(&format!("episode-{}", spec.id))?);
    let mut sampler = Sampler::new(server.clone(), &spec.limits);
    let mut collected = Collected::default();
    let most = (spec.length_s / STEP.as_secs_f64()) as u32;
    let mut end = most;
    let mut failed_step = None;
    let mut step = 0;
    while step < end {
        sleep_until(zero + STEP * step).await;
        let seen = load.look();
        let (observed, probed) = sampler.sample(instant(step), seen).await;
        for observed in observed {
            collected.take(step, observed);
        }
        judge.probe(step, probed.ok, probed.took);
        if failed_step.is_none()
            && let Some(since) = judge.step(step, seen.traffic)
        {
            failed_step = Some(since);
            end = end.min(step + 1 + STEPS_AFTER);
        }
        step += 1;
    }
    tasks.shutdown().await;
    let trouble = trouble.borrow_mut().take();
    Ok(Recording {
        spec: spec.clone(),
        cpu_scale,
        steps: step,
        failed_step,
        series: collected.into_series(),
        trouble,
    })
}
