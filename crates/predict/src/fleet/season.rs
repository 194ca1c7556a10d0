//! What a metric of a class does at this time of day, on this day of the week.

use forefend_domain::Timestamp;
use serde::{Deserialize, Serialize};

const HOURS: usize = 24;
const HALF_HOUR_MS: u64 = 1_800_000;
const DAYS: usize = 7;
/// The newest day's say never falls below this.
const LEAST_RATE: f32 = 0.25;

/// Usual deviations, in wide scales of each cell, by hour of the day and by day of the week (both UTC), shrunk to none while few were
/// seen. Shared by the cells of a class: they have the same users. 400 bytes, whatever it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Season {
    hours: [Part; HOURS],
    days: [Part; DAYS],
    hour: Mean,
    day: Mean,
}

/// One part of the profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Part {
    value: f32,
    /// By how much a day differs from it, mostly.
    spread: f32,
    seen: u8,
}

/// What is gathered in the part that is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    /// Hours or days since 1970; 0: not begun.
    part: u32,
    sum: f32,
    count: f32,
}

impl Part {
    /// Drawn towards nothing by as much as days differ from each other (James & Stein 1961): half of what was seen once counts, and
    /// all of what is the same each day.
    fn shrunk(&self) -> f32 {
        let signal = self.value * self.value;
        let doubt = self.spread * self.spread / f32::from(self.seen.max(1));
        if signal > 0.0 { self.value * signal / (signal + doubt) } else { 0.0 }
    }

    fn learn(&mut self, mean: f32) {
        self.seen = self.seen.saturating_add(1);
        let rate = (1.0 / f32::from(self.seen)).max(LEAST_RATE);
        self.spread += rate * ((mean - self.value).abs() - self.spread);
        self.value += rate * (mean - self.value);
    }
}

impl Mean {
    /// Adds a value; gives what the part before came to where it is over.
    fn add(&mut self, part: u32, value: f32) -> Option<(u32, f32)> {
        let over = (self.part != part && self.count > 0.0).then(|| (self.part, self.sum / self.count));
        if self.part != part {
            *self = Self { part, ..Self::default() };
        }
        self.sum += value;
        self.count += 1.0;
        over
    }
}

fn hour_of(at: Timestamp) -> u32 {
    u32::try_from(at.unix_ms() / 3_600_000).unwrap_or(u32::MAX)
}

impl Season {
    /// The deviation to be expected, in wide scales: between the middles of two hours by straight line.
    pub(super) fn expected(&self, at: Timestamp) -> f32 {
        let halves = at.unix_ms() / HALF_HOUR_MS;
        let into = (at.unix_ms() % HALF_HOUR_MS) as f32 / HALF_HOUR_MS as f32;
        let hour = (halves / 2) as usize;
        let here = self.hours[hour % HOURS].shrunk();
        // From the middle of the hour before, or on to the middle of the next one.
        let (other, share) = if halves.is_multiple_of(2) {
            (self.hours[(hour + HOURS - 1) % HOURS].shrunk(), 0.5 - 0.5 * into)
        } else {
            (self.hours[(hour + 1) % HOURS].shrunk(), 0.5 * into)
        };
        here + share * (other - here) + self.days[hour / HOURS % DAYS].shrunk()
    }

    /// A cell deviates by so many wide scales.
    pub(super) fn learn(&mut self, at: Timestamp, raw: f32) {
        let hour = hour_of(at);
        if let Some((over, mean)) = self.hour.add(hour, raw) {
            self.hours[over as usize % HOURS].learn(mean);
        }
        // What the hours tell the day of the week need not.
        let rest = raw - self.hours[hour as usize % HOURS].shrunk();
        if let Some((over, mean)) = self.day.add(hour / HOURS as u32, rest) {
            self.days[over as usize % DAYS].learn(mean);
        }
    }
}
