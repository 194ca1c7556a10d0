use std::time::Duration;

use forefend_config::section;
use forefend_domain::Timestamp;

use super::{Date, TimeOfDay, Weekday};

section! {
    /// When it begins by itself. With neither `every` nor `daily_at` it begins by hand only.
    pub struct Schedule {
        /// From the beginning of one run to that of the next. At least 10m.
        every: Option<Duration>,
        /// At this time of the days named.
        daily_at: Option<TimeOfDay>,
        /// The days on which it begins at `daily_at`. Left out: every day.
        days: Vec<Weekday> = Vec::new(),
        /// It does not begin less than this after another experiment or drill ended; it is put off.
        not_within: Duration = Duration::from_secs(60 * 60),
    }
}

section! {
    /// A time in which nothing may run: all that is written must fit. Such a window that ends before it begins lasts over
    /// midnight and belongs to the day on which it begins.
    pub struct BlockWindow {
        /// What for, in words.
        why: String = String::new(),
        /// On these days of the week. Left out: any.
        days: Vec<Weekday> = Vec::new(),
        /// The first day. Left out: any.
        first: Option<Date>,
        /// The last day. Left out: with `first`, that day only.
        last: Option<Date>,
        /// From this time of day.
        from: TimeOfDay = TimeOfDay::MIDNIGHT,
        /// To this time of day, which is no longer blocked.
        to: TimeOfDay = TimeOfDay::END,
    }
}

/// When a schedule starts a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Never by itself.
    ByHand,
    /// Then, or as soon after as nothing else is in the way.
    At(Timestamp),
}

impl Schedule {
    /// When the next run is due, given when the last one began (none: since when the schedule is in force). What stands in
    /// the way then (a block window, another run) is for [`Schedule::may_begin`] and the run's own readiness checks.
    #[must_use]
    pub fn next(&self, last_began: Option<Timestamp>, in_force_since: Timestamp) -> Due {
        let after = last_began.unwrap_or(in_force_since);
        match (self.every, self.daily_at) {
            (Some(every), _) => Due::At(after + every),
            (None, Some(at)) => Due::At(self.next_daily(at, after)),
            (None, None) => Due::ByHand,
        }
    }

    /// Whether a run may begin now: it is due, no other run is going on, and none ended less than `not_within` ago.
    #[must_use]
    pub fn may_begin(&self, due: Due, others: &[Past], now: Timestamp) -> bool {
        let due = matches!(due, Due::At(at) if at <= now);
        due && others.iter().all(|other| other.ended.is_some_and(|end| now.since(end) >= self.not_within))
    }

    fn next_daily(&self, at: TimeOfDay, after: Timestamp) -> Timestamp {
        let mut day = Date::of(after);
        // A week and a day holds every weekday, today's with its time gone by included.
        for _ in 0..8 {
            let start = day.begins() + at.since_midnight();
            if start > after && (self.days.is_empty() || self.days.contains(&day.weekday())) {
                return start;
            }
            day = day.next();
        }
        day.begins() + at.since_midnight()
    }
}

/// Another run: when it began and, if it has, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// When it began.
    pub began: Timestamp,
    /// When it ended; `None`: it is going on.
    pub ended: Option<Timestamp>,
}

impl BlockWindow {
    /// Whether nothing may run at this instant.
    #[must_use]
    pub fn blocks(&self, at: Timestamp) -> bool {
        let today = Date::of(at);
        let days = [Some(today), today.previous()];
        days.into_iter().flatten().any(|day| {
            let (from, to) = self.on(day);
            self.has(day) && from <= at && at < to
        })
    }

    /// The first instant from `from` (included) to `to` (excluded) at which nothing may run.
    #[must_use]
    pub fn first_in(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        let mut day = Date::of(from);
        day = day.previous().unwrap_or(day);
        while day.begins() < to {
            let (begins, ends) = self.on(day);
            let begins = begins.max(from);
            if self.has(day) && begins < ends && begins < to {
                return Some(begins);
            }
            day = day.next();
        }
        None
    }

    fn has(&self, day: Date) -> bool {
        let dates = match (self.first, self.last) {
            (Some(first), Some(last)) => first <= day && day <= last,
            (Some(first), None) => day == first,
            (None, Some(last)) => day <= last,
            (None, None) => true,
        };
        dates && (self.days.is_empty() || self.days.contains(&day.weekday()))
    }

    /// Begin and end of the window that belongs to a day.
    fn on(&self, day: Date) -> (Timestamp, Timestamp) {
        let over_midnight = self.to <= self.from;
        let last = if over_midnight { day.next() } else { day };
        (day.begins() + self.from.since_midnight(), last.begins() + self.to.since_midnight())
    }
}
