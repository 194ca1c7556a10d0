//! Deadlines of one worker, kept in one list and looked at by one timer.
//!
//! Every request has a deadline and almost none of them is ever reached. Arming a runtime timer for each costs more
//! than the rest of the bookkeeping together; here a deadline is an entry in a list, and the list is scanned when
//! the earliest of them may have passed. They fire up to [`GRAIN_MS`] late.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use slab::Slab;
use tokio::sync::Notify;

use crate::cell::{Clock, Moment};

/// Shortest time between two scans.
const GRAIN_MS: u64 = 5;
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
struct Entry {
    at_ms: u64,
    fired: bool,
    waker: Option<Waker>,
}

/// The list.
#[derive(Debug)]
pub(crate) struct Deadlines {
    clock: Clock,
    entries: RefCell<Slab<Entry>>,
    /// The last time that somebody read the clock.
    latest_ms: Cell<u64>,
    /// The earliest deadline is not before this.
    next_ms: Cell<u64>,
    earlier: Notify,
}

/// One deadline; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Deadline {
    list: Rc<Deadlines>,
    key: usize,
}

impl Deadlines {
    pub(crate) fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            clock,
            entries: RefCell::new(Slab::new()),
            latest_ms: Cell::new(clock.ms()),
            next_ms: Cell::new(NEVER),
            earlier: Notify::new(),
        })
    }

    /// A deadline at `at_ms` of the director's clock.
    pub(crate) fn at(self: &Rc<Self>, at_ms: u64) -> Deadline {
        let key = self.entries.borrow_mut().insert(Entry { at_ms, fired: false, waker: None });
        self.lower(at_ms);
        Deadline { list: Rc::clone(self), key }
    }

    /// Reads the clock, and remembers the time.
    pub(crate) fn now(&self) -> Moment {
        let now = self.clock.now();
        self.latest_ms.set(now.ms());
        now
    }

    /// A recent time: good enough for long deadlines, and free.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.latest_ms.get()
    }

    /// Wakes those whose deadline passed. Never ends.
    pub(crate) async fn run(&self) {
        loop {
            let next_ms = self.next_ms.get();
            if next_ms == NEVER {
                self.earlier.notified().await;
                continue;
            }
            let wake_ms = next_ms.max(self.clock.ms() + GRAIN_MS);
            let sleep = tokio::time::sleep_until(self.clock.at(wake_ms).into());
            tokio::select! {
                () = sleep => self.fire(),
                () = self.earlier.notified() => {}
            }
        }
    }

    fn fire(&self) {
        let now_ms = self.clock.ms();
        let mut next_ms = NEVER;
        let mut due = Vec::new();
        for (_, entry) in self.entries.borrow_mut().iter_mut().filter(|(_, entry)| !entry.fired) {
            if entry.at_ms <= now_ms {
                entry.fired = true;
                due.extend(entry.waker.take());
            } else {
                next_ms = next_ms.min(entry.at_ms);
            }
        }
        self.next_ms.set(next_ms);
        // Only now: a woken task may come back to the list at once.
        due.into_iter().for_each(Waker::wake);
    }

    fn lower(&self, at_ms: u64) {
        if at_ms < self.next_ms.get() {
            self.next_ms.set(at_ms);
            self.earlier.notify_one();
        }
    }
}

impl Deadline {
    /// Whether it has passed; if not, the task is woken when it does.
    pub(crate) fn has_passed(&self, cx: &Context<'_>) -> bool {
        let mut entries = self.list.entries.borrow_mut();
        let entry = &mut entries[self.key];
        if !entry.fired && !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
        entry.fired
    }

    /// Moves it.
    pub(crate) fn set(&self, at_ms: u64) {
        {
            let mut entries = self.list.entries.borrow_mut();
            let entry = &mut entries[self.key];
            entry.at_ms = at_ms;
            entry.fired = false;
        }
        self.list.lower(at_ms);
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.list.entries.borrow_mut().remove(self.key);
    }
}

/// A duration in whole milliseconds.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    #[tokio::test]
    async fn deadlines_fire_in_time_in_any_order_and_can_be_moved() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let clock = Clock::start();
                let list = Deadlines::new(clock);
                let timer = Rc::clone(&list);
                tokio::task::spawn_local(async move { timer.run().await });
                let late = list.at(clock.ms() + 60_000);
                let soon = list.at(clock.ms() + 30);
                let begun = clock.ms();
                let wait = async |deadline: &Deadline| {
                    poll_fn(|cx| if deadline.has_passed(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
                };
                wait(&soon).await;
                assert!(clock.ms() >= begun + 29);
                late.set(clock.ms() + 20);
                wait(&late).await;
                assert!(clock.ms() < begun + 5_000, "the moved deadline was not looked at again");
                drop((soon, late));
                assert!(list.entries.borrow().is_empty());
            })
            .await;
    }
}
