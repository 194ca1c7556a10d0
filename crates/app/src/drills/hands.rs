//! Carries out what runs want done to cells, on a thread of its own: some undoing takes seconds, and the loop must not wait.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use forefend_chaos::{
    DEFAULT_TTL, Fault, Injection, Injector, Target,
    run::{InjectionId, InjectionState},
};

/// An engine that has not said for so long that it lives is stuck: nobody watches stop conditions, so everything ends.
const BEAT_WITHIN: Duration = Duration::from_secs(5);

/// Between looks at what ends by itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An injection of a run.
pub(super) type Key = (String, InjectionId);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Begin a fault, unless it is on.
    Apply {
        /// Which.
        key: Key,
        /// What.
        fault: Fault,
        /// At which level.
        level: f64,
        /// How long at most.
        at_most: Duration,
        /// To whom; or why nobody knows.
        target: Result<Target, String>,
    },
    /// Change its level.
    SetLevel {
        /// Which.
        key: Key,
        /// From 0 to 1.
        level: f64,
    },
    /// Undo it.
    Undo {
        /// Which.
        key: Key,
    },
    /// Undo everything of a run.
    EndAll {
        /// Which run.
        run: String,
    },
    /// The engine lives.
    Beat,
}

/// The loop's side of the thread. Dropping it undoes everything.
#[derive(Debug)]
pub(super) struct Hands {
    orders: Option<Sender<Order>>,
    states: Arc<Mutex<BTreeMap<Key, InjectionState>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Hands {
    /// Starts the thread. Injector and watchdog are started with the first fault.
    pub(super) fn start(leases: PathBuf, program: PathBuf) -> std::io::Result<Self> {
        let (orders, inbox) = channel();
        let states = Arc::new(Mutex::new(BTreeMap::new()));
        let told = states.clone();
        let thread = thread::Builder::new().name("faults".into()).spawn(move || {
            Worker { leases, program, injector: None, on: BTreeMap::new(), states: told }.work(&inbox);
        })?;
        Ok(Self { orders: Some(orders), states, thread: Some(thread) })
    }

    pub(super) fn give(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends only with us.
            let _ = orders.send(order);
        }
    }

    /// What became of a run's injections.
    pub(super) fn states(&self, run: &str) -> BTreeMap<InjectionId, InjectionState> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states
            .iter()
            .filter(|((of, _), _)| of == run)
            .map(|((_, id), state)| (id.clone(), state.clone()))
            .collect()
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct On {
    injection: Injection,
    until: Instant,
}

struct Worker {
    leases: PathBuf,
    program: PathBuf,
    injector: Option<Injector>,
    on: BTreeMap<Key, On>,
    states: Arc<Mutex<BTreeMap<Key, InjectionState>>>,
}

impl Worker {
    fn work(mut self, inbox: &Receiver<Order>) {
        let mut beaten = Instant::now();
        loop {
            match inbox.recv_timeout(LOOK_EVERY) {
                Ok(Order::Beat) => beaten = Instant::now(),
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => self.look(beaten),
                Err(RecvTimeoutError::Disconnected) => return self.end_where(|_, _| true),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Apply { key, .. } if self.on.contains_key(&key) => {}
            Order::Apply { key, fault, level, at_most, target } => {
                match target.and_then(|target| self.begin(&fault, &target, level)) {
                    Ok(injection) => {
                        self.tell(&key, InjectionState::Active);
                        self.on.insert(key, On { injection, until: Instant::now() + at_most });
                    }
                    Err(why) => {
                        tracing::warn!(cell = %key.1.cell, fault = fault.kind(), why, "a fault was not done");
                        self.tell(&key, InjectionState::Refused { why });
                    }
                }
            }
            Order::SetLevel { key, level } => {
                let Some(on) = self.on.get(&key) else { return };
                if let Err(error) = on.injection.set(level) {
                    tracing::warn!(cell = %key.1.cell, %error, "a fault's level can't be set and it is undone");
                    self.end_where(|other, _| *other == key);
                }
            }
            Order::Undo { key } => self.end_where(|other, _| *other == key),
            Order::EndAll { run } => self.end_where(|(of, _), _| *of == run),
            Order::Beat => {}
        }
    }

    fn begin(&mut self, fault: &Fault, target: &Target, level: f64) -> Result<Injection, String> {
        let injector = match &self.injector {
            Some(injector) => injector,
            None => {
                let started = Injector::start(&self.leases, &self.program, DEFAULT_TTL);
                self.injector.insert(started.map_err(|e| e.to_string())?)
            }
        };
        let injection = injector.begin(fault, target).map_err(|e| e.to_string())?;
        injection.set(level).map_err(|e| e.to_string())?;
        Ok(injection)
    }

    /// Ends what has lasted long enough, what lost its lease, and everything when the engine is stuck.
    fn look(&mut self, beaten: Instant) {
        let stuck = beaten.elapsed() > BEAT_WITHIN;
        if stuck && !self.on.is_empty() {
            tracing::error!("the loop stands still: every fault is undone");
        }
        let now = Instant::now();
        self.end_where(|_, on| stuck || now >= on.until || !on.injection.is_on());
    }

    fn end_where(&mut self, which: impl Fn(&Key, &On) -> bool) {
        let keys: Vec<Key> =
            self.on.iter().filter(|(key, on)| which(key, on)).map(|(key, _)| key.clone()).collect();
        let ended: Vec<(Key, On)> = keys.iter().filter_map(|key| self.on.remove_entry(key)).collect();
        // Side by side: a hop takes a while to let go of what passes through it.
        thread::scope(|scope| {
            for (key, on) in ended {
                let states = &self.states;
                scope.spawn(move || {
                    if let Err(error) = on.injection.end() {
                        tracing::error!(cell = %key.1.cell, %error, "a fault is not wholly undone");
                    }
                    states.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                });
            }
        });
    }

    fn tell(&self, key: &Key, state: InjectionState) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), state);
    }
}

/// Undoes what an engine before this one left behind.
pub(super) fn sweep(leases: &Path, program: &Path) -> Vec<String> {
    if !leases.exists() {
        return Vec::new();
    }
    let swept = forefend_chaos::LeaseBook::open(leases, program).and_then(|book| book.sweep(|_| false));
    match swept {
        Ok(swept) => {
            let undone = swept.undone.iter().map(|(id, why)| format!("the fault {id} was undone: {why}"));
            undone.chain(swept.failed.iter().map(|(_, why)| why.clone())).collect()
        }
        Err(error) => vec![error.to_string()],
    }
}
