//! A worker's view of the services: pools, and the book-keeping of each try.

use std::{
    cell::{Cell as StdCell, RefCell},
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forefend_domain::CellId;

use crate::{
    budget::Budget,
    cell::{Cell, Clock, Moment},
    deadline::{Deadlines, ms},
    stats::Outcome,
    table::Table,
    upstream::{Http1, Pool, Streams},
    wire::Protocol,
    worker::Limits,
};

/// So many requests must be in flight before silence alone, without any timeout, counts as a sign.
const STUCK_CROWD: u32 = 8;
/// Silence of a crowded cell that is always allowed: a pause for garbage is no failure.
const STUCK_MIN_MS: u64 = 30;
/// Silence in multiples of the slowest recent response that is allowed.
const STUCK_FACTOR: u64 = 4;

/// What all tasks of a worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) deadlines: Rc<Deadlines>,
}

/// A service as a worker knows it; survives changes of its table.
pub(crate) struct Service {
    pub(crate) worker: Rc<Worker>,
    pub(crate) budget: Budget,
    current: RefCell<Rc<Routed>>,
    anyone: StdCell<(u64, u64)>,
}

/// A table with this worker's connections.
pub(crate) struct Routed {
    pub(crate) table: Arc<Table>,
    pub(crate) ejecting: Arc<Mutex<()>>,
    pub(crate) cells: Vec<Rc<Local>>,
}

/// A cell as this worker knows it.
pub(crate) struct Local {
    pub(crate) cell: Arc<Cell>,
    pub(crate) pool: Pool,
    pub(crate) streams: Streams,
    protocol: Protocol,
    in_flight: StdCell<u32>,
    /// When it last showed life, or when the first of those in flight was sent.
    progress_ms: StdCell<u64>,
    /// The slowest recent response header (a maximum that decays).
    peak_ms: StdCell<u64>,
}

impl Service {
    pub(crate) fn new(worker: Rc<Worker>, table: Arc<Table>, ejecting: Arc<Mutex<()>>) -> Self {
        let settings = Arc::clone(&table.settings);
        let routed = Routed::new(table, ejecting, None);
        // Workers begin far apart in the sequence.
        let start = (worker.index as u64).wrapping_mul(0x6a09_e667_f3bc_c909);
        Self {
            budget: Budget::new(&settings.retry_budget, worker.limits.workers, worker.clock.ms()),
            worker,
            current: RefCell::new(Rc::new(routed)),
            anyone: StdCell::new((start, start.rotate_left(17))),
        }
    }

    pub(crate) fn current(&self) -> Rc<Routed> {
        Rc::clone(&self.current.borrow())
    }

    /// Routes by `table` from now on. Requests in flight end by the old one.
    pub(crate) fn swap(&self, table: Arc<Table>, ejecting: Arc<Mutex<()>>) {
        let old = self.current();
        let next = Rc::new(Routed::new(table, ejecting, Some(&old)));
        let kept: HashSet<*const Local> = next.cells.iter().map(Rc::as_ptr).collect();
        for local in &old.cells {
            if !kept.contains(&Rc::as_ptr(local)) {
                local.close();
            }
        }
        *self.current.borrow_mut() = next;
    }

    /// Bits for a request of nobody in particular: the additive recurrence of the plastic number, which fills the
    /// square evenly, so that observed shares follow the weights closely (M. Roberts, "The unreasonable
    /// effectiveness of quasirandom sequences", 2018).
    pub(crate) fn anyone(&self) -> (u64, u64) {
        let (a, b) = self.anyone.get();
        let next = (a.wrapping_add(0xc13f_a9a9_02a6_328f), b.wrapping_add(0x91e1_0da5_c79e_7b1d));
        self.anyone.set(next);
        next
    }
}

impl Routed {
    fn new(table: Arc<Table>, ejecting: Arc<Mutex<()>>, old: Option<&Self>) -> Self {
        let known: HashMap<&CellId, &Rc<Local>> =
            old.into_iter().flat_map(|old| &old.cells).map(|local| (&local.cell.id, local)).collect();
        let protocol = table.settings.protocol;
        let cells = table
            .cells
            .iter()
            .map(|entry| match known.get(&entry.cell.id) {
                Some(local) if Arc::ptr_eq(&local.cell, &entry.cell) && local.protocol == protocol => {
                    Rc::clone(local)
                }
                _ => Rc::new(Local::new(Arc::clone(&entry.cell), protocol)),
            })
            .collect();
        Self { table, ejecting, cells }
    }

    /// A try at a cell failed; ejects the cell if that was one too many and enough others stay.
    pub(crate) fn failed(&self, cell: &Cell, now_ms: u64, cause: &str) {
        let ejection = &self.table.settings.ejection;
        if !cell.failed(ejection) || cell.is_ejected(now_ms) {
            return;
        }
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let weighted = self.table.cells.iter().filter(|entry| entry.weighted);
        let (count, out) = weighted.fold((0u64, 0u64), |(count, out), entry| {
            (count + 1, out + u64::from(entry.cell.is_ejected(now_ms)))
        });
        let percent = u64::from(ejection.max_percent);
        let at_least = u64::from(count >= 2 && percent > 0);
        if out < (count * percent / 100).max(at_least) {
            let failures = ejection.consecutive_failures;
            cell.eject(ejection, now_ms, &format!("{failures} failures in a row, the last: {cause}"));
        }
    }

    /// Closes idle connections that nobody will want again.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.cells.iter().for_each(|local| local.pool.sweep(now_ms));
    }

    /// Lets go of all connections.
    pub(crate) fn close(&self) {
        self.cells.iter().for_each(|local| local.close());
    }
}

impl Local {
    fn new(cell: Arc<Cell>, protocol: Protocol) -> Self {
        Self {
            cell,
            pool: Pool::default(),
            streams: Streams::default(),
            protocol,
            in_flight: StdCell::new(0),
            progress_ms: StdCell::new(0),
            peak_ms: StdCell::new(0),
        }
    }

    fn close(&self) {
        self.pool.close();
        self.streams.close();
    }

    /// Whether it has been silent for too long with requests in flight: a stopped process accepts connections and
    /// answers nothing, and new requests should not wait with the old ones for the first timeout.
    pub(crate) fn is_stuck(&self, now_ms: u64, try_timeout: Duration) -> bool {
        let in_flight = self.in_flight.get();
        if in_flight == 0 {
            return false;
        }
        let patience = ms(try_timeout) / 2;
        let patience = if in_flight >= STUCK_CROWD {
            (self.peak_ms.get() * STUCK_FACTOR).max(STUCK_MIN_MS).min(patience)
        } else {
            patience
        };
        now_ms.saturating_sub(self.progress_ms.get()) > patience
    }
}

/// One try in flight, from the choice of the cell to the end of the response's body.
pub(crate) struct Flight {
    local: Rc<Local>,
    routed: Rc<Routed>,
    worker: Rc<Worker>,
    began: Moment,
    /// As decided so far; a client that leaves while waiting decides nothing.
    outcome: Option<Outcome>,
    /// The response's header is here and the body is being read.
    answered: bool,
}

impl Flight {
    pub(crate) fn begin(worker: &Rc<Worker>, routed: &Rc<Routed>, cell: u16, now: Moment) -> Self {
        let local = Rc::clone(&routed.cells[usize::from(cell)]);
        local.cell.stats.began(worker.index);
        let in_flight = local.in_flight.get();
        if in_flight == 0 {
            local.progress_ms.set(now.ms());
        }
        local.in_flight.set(in_flight + 1);
        Self {
            local,
            routed: Rc::clone(routed),
            worker: Rc::clone(worker),
            began: now,
            outcome: None,
            answered: false,
        }
    }

    pub(crate) fn local(&self) -> &Local {
        &self.local
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.worker.clock.ms()
    }

    /// The response's header came.
    pub(crate) fn answered(&mut self, status: http::StatusCode) {
        let now = self.worker.deadlines.now();
        let (now_ms, latency) = (now.ms(), now.since(self.began));
        self.local.cell.stats.responded(self.worker.index, latency);
        self.land(now_ms);
        self.answered = true;
        let latency_ms = ms(latency);
        let peak_ms = self.local.peak_ms.get();
        self.local.peak_ms.set(latency_ms.max(peak_ms - peak_ms / 64));
        if status.is_server_error() {
            self.outcome = Some(Outcome::Error);
            self.routed.failed(&self.local.cell, now_ms, status.as_str());
        } else {
            let slow = latency > self.routed.table.settings.slow_after;
            self.outcome = Some(if slow { Outcome::Slow } else { Outcome::Good });
            self.local.cell.succeeded();
        }
    }

    /// The try gave no response.
    pub(crate) fn failed(&mut self, cause: &str) {
        self.outcome = Some(Outcome::Error);
        self.routed.failed(&self.local.cell, self.worker.clock.ms(), cause);
    }

    /// Nothing was tried after all.
    pub(crate) fn void(&mut self) {
        self.outcome = Some(Outcome::Good);
    }

    /// The body broke off.
    pub(crate) fn broke_off(&mut self) {
        self.failed("the response broke off");
    }

    /// The connection can serve the next one.
    pub(crate) fn put_back(&self, connection: Box<Http1>) {
        self.local.pool.put(connection, self.began.ms());
    }

    /// It no longer waits for the cell.
    fn land(&self, now_ms: u64) {
        self.local.in_flight.set(self.local.in_flight.get().saturating_sub(1));
        self.local.progress_ms.set(now_ms);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.answered {
            self.local.in_flight.set(self.local.in_flight.get().saturating_sub(1));
        }
        let outcome = self.outcome.unwrap_or_else(|| {
            let slow = self.worker.clock.now().since(self.began) > self.routed.table.settings.slow_after;
            if slow { Outcome::Slow } else { Outcome::Good }
        });
        self.local.cell.stats.ended(self.worker.index, outcome);
    }
}
