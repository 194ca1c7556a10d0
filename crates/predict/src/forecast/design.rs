use serde::{Deserialize, Serialize};

use super::{Event, fit::Season};

/// What a column belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Trend,
    Season,
    Event,
}

/// What a value is thought to be made of, as columns of a linear model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Design {
    begin_s: f64,
    span_s: f64,
    /// When the slope may change, as shares of the span.
    changes: Vec<f64>,
    seasons: Vec<Season>,
    events: Vec<Event>,
}

/// A column: what it belongs to, how it is held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Column {
    pub(super) part: Part,
    pub(super) held: Held,
}

/// How a weight is held back: what it is thought to be before anything is seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Held {
    /// Anything.
    Free,
    /// Normally distributed with this standard deviation.
    Normal(f64),
    /// Laplace's distribution with this mean size: mostly nothing, now and then much.
    Laplace(f64),
}

/// The slope of a whole history, in units of its scatter.
const SLOPE: f64 = 5.0;
/// The first harmonic of a season; the second is half as large, the third a third.
const SEASON: f64 = 2.0;
/// An event.
const EVENT: f64 = 5.0;

impl Design {
    /// Over a history from `begin_s`, of `span_s` seconds above 0, with `changes` evenly in the part of it before the last fifth.
    pub(super) fn new(
        begin_s: f64,
        span_s: f64,
        changes: usize,
        seasons: Vec<Season>,
        events: Vec<Event>,
    ) -> Self {
        let step = EARLY / (changes + 1) as f64;
        let changes = (1..=changes).map(|n| n as f64 * step).collect();
        Self { begin_s, span_s, changes, seasons, events }
    }

    pub(super) fn span_s(&self) -> f64 {
        self.span_s
    }

    pub(super) fn end_s(&self) -> f64 {
        self.begin_s + self.span_s
    }

    /// What each column is, where a change of slope has this mean size.
    pub(super) fn columns(&self, change: f64) -> Vec<Column> {
        let column = |part, held| Column { part, held };
        let mut columns = vec![column(Part::Trend, Held::Free), column(Part::Trend, Held::Normal(SLOPE))];
        columns.extend(self.changes.iter().map(|_| column(Part::Trend, Held::Laplace(change))));
        for season in &self.seasons {
            for harmonic in season.harmonics() {
                let held = Held::Normal(SEASON / harmonic as f64);
                columns.extend([column(Part::Season, held); 2]);
            }
        }
        columns.extend(self.events.iter().map(|_| column(Part::Event, Held::Normal(EVENT))));
        columns
    }

    /// When the slope may change, in seconds.
    pub(super) fn change_instants_s(&self) -> Vec<f64> {
        self.changes.iter().map(|change| self.begin_s + change * self.span_s).collect()
    }

    /// How much the trend rises at an instant, for each span.
    pub(super) fn slope(&self, at_s: f64, weights: &[f64]) -> f64 {
        let share = (at_s - self.begin_s) / self.span_s;
        let changes = self.changes.iter().zip(&weights[self.change_columns()]);
        weights[1] + changes.filter(|(at, _)| **at < share).map(|(_, size)| size).sum::<f64>()
    }

    /// The periods of the seasons.
    pub(super) fn periods_s(&self) -> Vec<f64> {
        self.seasons.iter().map(|season| season.period_s).collect()
    }

    /// The weighted sum of the columns of one season.
    pub(super) fn season_of(&self, period_s: f64, at_s: f64, weights: &[f64]) -> f64 {
        let mut column = self.change_columns().end;
        let mut sum = 0.0;
        for season in &self.seasons {
            for harmonic in season.harmonics() {
                if season.period_s == period_s {
                    let turn = (at_s / period_s * harmonic as f64).fract() * std::f64::consts::TAU;
                    sum += weights[column] * turn.sin() + weights[column + 1] * turn.cos();
                }
                column += 2;
            }
        }
        sum
    }

    /// The columns of the changes of slope.
    pub(super) fn change_columns(&self) -> std::ops::Range<usize> {
        2..2 + self.changes.len()
    }

    /// Writes the row of an instant.
    pub(super) fn row(&self, at_s: f64, row: &mut Vec<f64>) {
        let share = (at_s - self.begin_s) / self.span_s;
        row.clear();
        row.extend([1.0, share - 0.5]);
        row.extend(self.changes.iter().map(|change| (share - change).max(0.0)));
        for season in &self.seasons {
            for harmonic in season.harmonics() {
                let turn = (at_s / season.period_s * harmonic as f64).fract() * std::f64::consts::TAU;
                row.extend([turn.sin(), turn.cos()]);
            }
        }
        row.extend(self.events.iter().map(|event| f64::from(u8::from(event.holds(at_s)))));
    }

    /// The weighted sum of the columns of some parts at an instant.
    pub(super) fn sum(&self, at_s: f64, weights: &[f64], of: impl Fn(Part) -> bool) -> f64 {
        let mut row = Vec::with_capacity(weights.len());
        self.row(at_s, &mut row);
        let columns = self.columns(1.0);
        let parts = row.iter().zip(weights).zip(columns).filter(|(_, column)| of(column.part));
        parts.map(|((x, weight), _)| x * weight).sum()
    }
}

/// Slopes may change in this first share of the history: what is newer is too short to tell a change from noise.
pub(super) const EARLY: f64 = 0.8;
