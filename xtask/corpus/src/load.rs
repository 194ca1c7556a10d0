//! The users: an open loop, so that a slow server does not slow them down, with every answer on record.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use forefend_telemetry::TrafficDelta;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    outcome::{PATIENCE, SLOW_FROM},
    spec::{EpisodeSpec, LoadProfile, Random},
    subject::{Server, Workload},
    wire::{Link, Protocol},
};

/// Requests of an episode on their way at a time; a user beyond that gives up at once.
const MOST_IN_FLIGHT: u32 = 96;
/// Idle connections that are kept.
const MOST_IDLE: usize = 8;
/// Latency and error share are of the requests that ended in the last so many seconds.
const SEEN_OVER: Duration = Duration::from_secs(1);
/// How long the slow noise of the rate lasts.
const NOISE_STEP_S: f64 = 0.5;

/// What causes may change about the load, and what it saw.
pub(crate) struct Load {
    protocol: Protocol,
    address: std::net::SocketAddr,
    profile: LoadProfile,
    /// Times the rate.
    pub(crate) factor: Cell<f64>,
    /// More of the requests are costly.
    pub(crate) heavy: Cell<f64>,
    workload: RefCell<Workload>,
    idle: RefCell<Vec<Link>>,
    in_flight: Cell<u32>,
    record: RefCell<Record>,
}

#[derive(Default)]
struct Record {
    since_last: TrafficDelta,
    recent: VecDeque<Ended>,
}

#[derive(Clone, Copy)]
struct Ended {
    at: Instant,
    took: Duration,
    ok: bool,
}

/// What users saw lately.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Seen {
    /// Since the last look.
    pub(crate) traffic: TrafficDelta,
    pub(crate) per_s: f64,
    /// `None`: nothing ended.
    pub(crate) error_share: Option<f64>,
    /// Of answers that were no errors.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) in_flight: u32,
}

impl Load {
    pub(crate) fn new(spec: &EpisodeSpec, server: &Server) -> Rc<Self> {
        Rc::new(Self {
            protocol: server.protocol(),
            address: server.address(),
            profile: spec.load.clone(),
            factor: Cell::new(1.0),
            heavy: Cell::new(spec.load.heavy_share),
            workload: RefCell::new(Workload::new(spec.subject, spec.seed ^ 1)),
            idle: RefCell::default(),
            in_flight: Cell::new(0),
            record: RefCell::default(),
        })
    }

    /// Sends requests until it is dropped. `zero` is the episode's start; what comes before warms up.
    pub(crate) async fn run(self: Rc<Self>, seed: u64, zero: Instant) {
        let mut random = Random::from_seed(seed ^ 2);
        let mut next = Instant::now();
        let (mut noise, mut noise_until) = (0.0f64, f64::NEG_INFINITY);
        loop {
            let t_s = seconds_between(zero, next);
            if t_s >= noise_until {
                // A first-order autoregression: the rate wanders and comes back.
                noise = 0.8 * noise + 0.6 * self.profile.noise * random.normal();
                noise_until = t_s + NOISE_STEP_S;
            }
            let rate = (self.profile.rate_per_s(t_s) * noise.exp() * self.factor.get()).max(0.1);
            next += Duration::from_secs_f64(random.waiting(1.0 / rate).min(2.0));
            sleep_until(next).await;
            let heavy = random.chance(self.heavy.get());
            let write = random.chance(self.profile.write_share);
            let fresh = random.chance(self.profile.fresh_share);
            tokio::task::spawn_local(self.clone().user(next, heavy, write, fresh));
        }
    }

    /// What was seen since the last call and in the last second.
    pub(crate) fn look(&self) -> Seen {
        let now = Instant::now();
        let mut record = self.record.borrow_mut();
        while record.recent.front().is_some_and(|ended| now.duration_since(ended.at) > SEEN_OVER) {
            record.recent.pop_front();
        }
        let total = record.recent.len();
        let mut good: Vec<Duration> = record.recent.iter().filter(|e| e.ok).map(|e| e.took).collect();
        good.sort_unstable();
        let quantile = |q: f64| {
            let place = (q * good.len() as f64).ceil() as usize;
            good.get(place.saturating_sub(1)).map(|took| took.as_secs_f64() * 1e3)
        };
        Seen {
            traffic: std::mem::take(&mut record.since_last),
            per_s: total as f64 / SEEN_OVER.as_secs_f64(),
            error_share: (total > 0).then(|| (total - good.len()) as f64 / total as f64),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            in_flight: self.in_flight.get(),
        }
    }

    async fn user(self: Rc<Self>, begun: Instant, heavy: bool, write: bool, fresh: bool) {
        if self.in_flight.get() >= MOST_IN_FLIGHT {
            self.ended(begun, false);
            return;
        }
        self.in_flight.set(self.in_flight.get() + 1);
        let deadline = begun + PATIENCE;
        let mut ok = false;
        for _ in 0..=self.profile.retries {
            let request = self.workload.borrow_mut().draw(heavy, write);
            ok = matches!(timeout_at(deadline, self.ask(&request, fresh)).await, Ok(Ok(true)));
            if ok {
                break;
            }
        }
        self.in_flight.set(self.in_flight.get() - 1);
        self.ended(begun, ok);
    }

    async fn ask(&self, request: &[u8], fresh: bool) -> std::io::Result<bool> {
        let kept = if fresh { None } else { self.idle.borrow_mut().pop() };
        let mut link = match kept {
            Some(link) => link,
            None => Link::open(self.protocol, self.address).await?,
        };
        let ok = link.call(request).await?;
        let mut idle = self.idle.borrow_mut();
        if !fresh && link.is_open() && idle.len() < MOST_IDLE {
            idle.push(link);
        }
        Ok(ok)
    }

    fn ended(&self, begun: Instant, ok: bool) {
        let at = Instant::now();
        let took = at.duration_since(begun);
        let mut record = self.record.borrow_mut();
        record.since_last.requests += 1;
        record.since_last.errors += u64::from(!ok);
        record.since_last.slow += u64::from(ok && took > SLOW_FROM);
        record.recent.push_back(Ended { at, took, ok });
    }
}

/// Seconds from `zero` to `at`; negative before it.
pub(crate) fn seconds_between(zero: Instant, at: Instant) -> f64 {
    if at >= zero { at.duration_since(zero).as_secs_f64() } else { -zero.duration_since(at).as_secs_f64() }
}
