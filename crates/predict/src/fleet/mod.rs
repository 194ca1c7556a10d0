//! What is remembered between ticks of every cell, and what cells know of each other.
//!
//! A model looks at one window of one cell. What is usual at this hour, whether the siblings of a cell do the same now, how often
//! cells of its sort fail and what happened in its zone a moment ago stand in no window: [`Fleet`] is the value that holds it. It is
//! shown the windows of every cell once a tick ([`Fleet::observe`]), and then asked how unusual each is ([`Fleet::unusual`]) and
//! how often it is expected to fail ([`Fleet::prior_rate_per_s`]).
//!
//! Nothing of it makes a failure likely by itself: anomalies are told and named, and a prior stays within bounds. What is not
//! measured teaches nothing and accuses nobody.

mod habit;
mod hazard;
mod season;
#[cfg(test)]
mod tests;
mod together;

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{Anomaly, CellId, CellRole, MetricName, MetricWindow, ServiceId, Timestamp, Windows};
use serde::{Deserialize, Serialize};

use crate::Unusual;
use habit::{Habit, median};
pub use hazard::{Hazards, Place};
use season::Season;
use together::{Together, normal_deviate};

/// Values are remembered for so many windows.
const WINDOWS: f32 = 32.0;
/// Metrics of a class that are watched; of more, the first by name.
const MOST_METRICS: usize = 64;
/// Values of a first window that level and scale are taken from.
const FIRST_VALUES: usize = 64;
/// With fewer siblings nobody knows which of them is odd.
const LEAST_SIBLINGS: usize = 4;
/// Siblings are never taken to agree better than this, in scales.
const LEAST_SPREAD: f32 = 0.5;
/// A deviation says no more for being larger than this: one wild metric is told by its name, trouble by many.
const LARGEST: f32 = 10.0;
/// How much of the way down the score has gone a tick after an anomaly.
const FALLING: f32 = 0.07;
/// A metric whose newest values are missing for more steps than this is not judged.
const MOST_STALE_STEPS: usize = 4;

/// The memory of all cells. Pure: windows and places go in, what is unusual and what is to be expected come out.
///
/// Bounded: 32 bytes a metric of a cell and some 600 bytes a metric of a class; all of it can be written down. Levels, seasons and
/// covariances come back by themselves, so the loop stores [`Fleet::hazards`] alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    hazards: Hazards,
    cells: BTreeMap<CellId, Habits>,
    classes: BTreeMap<ServiceId, Vec<Class>>,
}

/// Of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Habits {
    service: ServiceId,
    role: CellRole,
    /// As the metrics of the class.
    metrics: Vec<Habit>,
    /// The end of the newest window.
    at: Timestamp,
    /// The score, which rises at once and falls slowly, and the tick it was last judged at.
    held: f32,
    judged_at: Timestamp,
}

/// Of the cells of one service and role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Class {
    role: CellRole,
    names: Vec<MetricName>,
    seasons: Vec<Season>,
    together: Together,
    /// Of the tick under way: the deviations of each metric over the cells.
    now: Vec<Vec<f32>>,
    /// What became of it: for each metric with enough siblings their median and spread.
    siblings: Vec<Option<(f32, f32)>>,
    at: Timestamp,
}

impl Fleet {
    /// Nothing is known but how often cells failed.
    #[must_use]
    pub fn new(hazards: Hazards) -> Self {
        Self { hazards, ..Self::default() }
    }

    /// How often cells failed: the part that can't be learned again.
    #[must_use]
    pub fn hazards(&self) -> &Hazards {
        &self.hazards
    }

    /// Shows the windows of one cell, once a tick.
    pub fn observe(&mut self, windows: &Windows, place: &Place<'_>) {
        self.hazards.look(&windows.cell, place, windows.at);
        let classes = match self.classes.get_mut(place.service) {
            Some(classes) => classes,
            None => self.classes.entry(place.service.clone()).or_default(),
        };
        let at = classes.iter().position(|class| class.role == place.role).unwrap_or_else(|| {
            classes.push(Class::new(place.role));
            classes.len() - 1
        });
        let class = &mut classes[at];
        class.begin(windows);
        let habits = match self.cells.get_mut(&windows.cell) {
            Some(habits) if habits.service == *place.service && habits.role == place.role => habits,
            _ => {
                let habits = Habits::first(class, windows, place);
                self.cells.entry(windows.cell.clone()).insert_entry(habits).into_mut()
            }
        };
        habits.observe(class, windows);
    }

    /// How unusual a cell is, when all of the tick have been shown: each metric by the largest of its distance from what is usual
    /// at this hour, of what has added up of such distances, of its distance from its siblings and from what the other metrics
    /// let expect. `None` where nothing is known of the cell.
    ///
    /// The score is not that of the farthest metric, since one of many is always far: it is how far all are together, or what has added up, or
    /// how far the cell is from its siblings. It rises at once and falls slowly.
    #[must_use]
    pub fn unusual(&mut self, cell: &CellId) -> Option<Unusual> {
        let habits = self.cells.get_mut(cell)?;
        let class =
            self.classes.get_mut(&habits.service)?.iter_mut().find(|class| class.role == habits.role)?;
        class.compare();
        let deviations: Vec<f32> = habits.metrics.iter().map(|habit| habit.z).collect();
        let together = class.together.judge(&deviations);
        let mut metrics: Vec<Anomaly> = Vec::new();
        let (mut squares, mut most) = (0.0f32, 0.0f32);
        for (n, habit) in habits.metrics.iter().enumerate() {
            let beside = class.siblings.get(n).copied().flatten();
            let unlike =
                beside.filter(|_| habit.z != 0.0).map_or(0.0, |(middle, spread)| (habit.z - middle) / spread);
            let parted = together.as_ref().and_then(|(_, parts)| parts.get(n)).copied().unwrap_or(0.0);
            let z = [habit.shifted(), unlike, parted]
                .into_iter()
                .fold(habit.z, |most, z| if z.abs() > most.abs() { z } else { most });
            squares += habit.z.clamp(-LARGEST, LARGEST).powi(2);
            most = most.max(habit.shifted().abs()).max(unlike.abs().min(LARGEST));
            if z.abs() >= crate::day_zero::NAMED_FROM_Z as f32 {
                metrics.push(Anomaly { metric: class.names[n].clone(), z: f64::from(z.clamp(-99.0, 99.0)) });
            }
        }
        metrics.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()).then_with(|| a.metric.cmp(&b.metric)));
        let all = normal_deviate(squares, habits.metrics.len());
        let score = most.max(all).max(together.map_or(0.0, |(normal, _)| normal)).clamp(0.0, 99.0);
        Some(Unusual { score: f64::from(habits.hold(score)), metrics })
    }

    /// Failures per second to be expected of a cell, whatever its metrics say; see [`Hazards::rate_per_s`].
    #[must_use]
    pub fn prior_rate_per_s(
        &self,
        cell: &CellId,
        place: &Place<'_>,
        now: Timestamp,
        horizon: Duration,
    ) -> f64 {
        self.hazards.rate_per_s(cell, place, now, horizon)
    }

    /// Forgets cells that are no more.
    pub fn keep_only(&mut self, known: impl Fn(&CellId) -> bool) {
        self.hazards.keep_only(&known);
        self.cells.retain(|cell, _| known(cell));
        let cells = &self.cells;
        if self.classes.len() > cells.len() {
            self.classes.retain(|service, _| cells.values().any(|habits| habits.service == *service));
        }
    }
}

impl Class {
    fn new(role: CellRole) -> Self {
        Self {
            role,
            names: Vec::new(),
            seasons: Vec::new(),
            together: Together::new(0),
            now: Vec::new(),
            siblings: Vec::new(),
            at: Timestamp::default(),
        }
    }

    /// A cell of the class comes: with the first of a tick, what was now is over; with a metric that is new, the class begins
    /// anew to learn how they move together.
    fn begin(&mut self, windows: &Windows) {
        if self.at != windows.at {
            self.at = windows.at;
            self.now.iter_mut().for_each(Vec::clear);
            self.siblings.clear();
        }
        // Both are in order.
        let mut names = self.names.iter();
        let all_known = windows.metrics.len() <= self.names.len()
            && windows.metrics.keys().all(|name| names.any(|known| known == name));
        if all_known || self.names.len() >= MOST_METRICS {
            return;
        }
        let mut names: Vec<MetricName> = self.names.iter().chain(windows.metrics.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names.truncate(MOST_METRICS);
        let season = |name: &MetricName| {
            self.names.binary_search(name).map_or_else(|_| Season::default(), |n| self.seasons[n])
        };
        self.seasons = names.iter().map(season).collect();
        self.together = Together::new(names.len());
        self.now = vec![Vec::new(); names.len()];
        self.names = names;
    }

    /// Makes what siblings do now of the deviations of the tick, once.
    fn compare(&mut self) {
        if !self.siblings.is_empty() {
            return;
        }
        self.siblings = self
            .now
            .iter_mut()
            .map(|now| {
                if now.len() < LEAST_SIBLINGS {
                    return None;
                }
                let middle = median(now)?;
                now.iter_mut().for_each(|z| *z = (*z - middle).abs());
                let spread = (1.4826 * median(now)?).max(LEAST_SPREAD);
                // They are spent.
                now.clear();
                Some((middle, spread))
            })
            .collect();
    }
}

impl Habits {
    /// A cell that is seen for the first time: what is usual is taken from its window, all but the newest values.
    fn first(class: &Class, windows: &Windows, place: &Place<'_>) -> Self {
        let mut metrics = vec![Habit::default(); class.names.len()];
        for (name, metric) in &windows.metrics {
            if let Ok(n) = class.names.binary_search(name) {
                let mut values = past(metric);
                metrics[n] = Habit::of(&mut values);
            }
        }
        // The newest value is yet to be judged.
        let at =
            Timestamp::from_unix_ms(windows.at.unix_ms().saturating_sub(windows.step.as_millis() as u64));
        Self {
            service: place.service.clone(),
            role: place.role,
            metrics,
            at,
            held: 0.0,
            judged_at: Timestamp::default(),
        }
    }

    /// The score of a tick, held; once a tick however often it is asked for.
    fn hold(&mut self, score: f32) -> f32 {
        if self.judged_at != self.at {
            self.judged_at = self.at;
            self.held += FALLING * (score - self.held);
        }
        self.held = self.held.max(score);
        self.held
    }

    /// Takes what is new of each metric, and tells the class.
    fn observe(&mut self, class: &mut Class, windows: &Windows) {
        if self.metrics.len() != class.names.len() {
            self.widen(class, windows);
        }
        let since = std::mem::replace(&mut self.at, windows.at);
        // Both are in order.
        let mut windows_left = windows.metrics.iter().peekable();
        for (n, (name, habit)) in class.names.iter().zip(&mut self.metrics).enumerate() {
            // Names are mostly the same and shared: that they are equal is seen at once, which one is less is not.
            let mut found = windows_left.next_if(|(other, _)| *other == name);
            while found.is_none() && windows_left.next_if(|(other, _)| *other < name).is_some() {
                found = windows_left.next_if(|(other, _)| *other == name);
            }
            let Some((_, metric)) = found else {
                habit.miss();
                continue;
            };
            let memory = WINDOWS * metric.samples.len() as f32;
            let season = &mut class.seasons[n];
            let begin = metric.samples.iter().rposition(|s| s.at <= since).map_or(0, |last| last + 1);
            for sample in &metric.samples[begin..] {
                let Some(value) = sample.value.filter(|v| v.is_finite()) else { continue };
                habit.push(value as f32, season.expected(sample.at), memory);
                season.learn(sample.at, habit.raw);
            }
            match metric.latest() {
                Some((age, _)) if age <= MOST_STALE_STEPS => class.now[n].push(habit.z),
                _ => habit.miss(),
            }
        }
        if windows.at > since {
            let deviations: Vec<f32> = self.metrics.iter().map(|habit| habit.z).collect();
            class.together.learn(&deviations);
        }
    }

    /// The class has more metrics than when the cell was seen last.
    fn widen(&mut self, class: &Class, windows: &Windows) {
        // Which was which is lost: what is usual is taken from the window again.
        let mut metrics = vec![Habit::default(); class.names.len()];
        for (name, metric) in &windows.metrics {
            if let Ok(n) = class.names.binary_search(name) {
                metrics[n] = Habit::of(&mut past(metric));
            }
        }
        self.metrics = metrics;
    }
}

/// Some values of a window, without the newest.
fn past(metric: &MetricWindow) -> Vec<f32> {
    let samples = &metric.samples[..metric.samples.len().saturating_sub(1)];
    let every = samples.len().div_ceil(FIRST_VALUES).max(1);
    let values = samples.iter().rev().step_by(every).filter_map(|s| s.value);
    values.map(|v| v as f32).filter(|v| v.is_finite()).collect()
}
