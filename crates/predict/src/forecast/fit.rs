use serde::{Deserialize, Serialize};

use super::{
    Forecast,
    design::{Column, Design, EARLY, Held},
    errors,
    solve::Normal,
    widen::widening,
};

/// A day, in seconds.
const DAY: f64 = 86_400.0;

/// How a forecast is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Which seasons.
    pub seasons: Seasons,
    /// What happens now and then and is known beforehand.
    pub events: Vec<Event>,
    /// Places at which the slope may change, evenly in the first four fifths of the history.
    pub changes: usize,
    /// How large changes of slope are thought to be before anything is seen, in standard deviations of the values for each length of the history.
    pub flexibility: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seasons: Seasons::Found, events: Vec::new(), changes: 25, flexibility: 0.1 }
    }
}

/// Which seasons a series has.
#[derive(Debug, Clone, PartialEq)]
pub enum Seasons {
    /// Day, week and year, each where the history has it twice and points are near enough to show it.
    Found,
    /// These.
    Given(Vec<Season>),
}

/// Something that comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Season {
    /// How long it takes, in seconds, above 0.
    pub period_s: f64,
    /// Sines and cosines with up to so many waves in it: how sharp it can be.
    pub order: usize,
    /// Of which those that are multiples of this are left to a shorter season; 0: none.
    pub beside: usize,
}

impl Season {
    pub(super) fn harmonics(&self) -> impl Iterator<Item = usize> + '_ {
        (1..=self.order).filter(|n| self.beside == 0 || n % self.beside != 0)
    }
}

/// A kind of event, in whose windows the value is off by about the same: a holiday, a nightly backup, a sale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What people call it.
    pub name: String,
    /// From when until before when, in the seconds of the points; past ones teach, coming ones are forecast.
    pub windows_s: Vec<(f64, f64)>,
}

impl Event {
    pub(super) fn holds(&self, at_s: f64) -> bool {
        self.windows_s.iter().any(|(from, to)| (*from..*to).contains(&at_s))
    }
}

/// Why nothing can be forecast.
#[derive(Debug, Clone, PartialEq)]
pub enum FitError {
    /// Too little was seen.
    TooFew {
        /// Values that are finite.
        have: usize,
        /// How many it takes.
        need: usize,
    },
    /// Instants are not finite, or do not ascend.
    NotAscending {
        /// The first such point, from 0.
        point: usize,
    },
}

impl std::fmt::Display for FitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooFew { have, need } => {
                write!(f, "{have} values are too few for a forecast; it takes {need}")
            }
            Self::NotAscending { point } => {
                write!(
                    f,
                    "point {point} is not after the one before; sort points by time, and keep one of an instant"
                )
            }
        }
    }
}

impl std::error::Error for FitError {}

/// The fewest values of which anything is forecast.
const LEAST: usize = 10;
/// Rows that the fit is made on; of more points, medians of neighbours are taken.
const ROWS: usize = 2_048;
/// The first share of the history that errors are learned from having seen.
const SEEN: f64 = 0.8;
/// The share of the history after which they are looked at.
const JUDGED: f64 = 0.6;
/// Points that residuals are looked at, the newest.
const NEWEST: usize = 16_384;
/// How often outliers are weighed anew.
const ROUNDS: usize = 6;
/// Residuals beyond this many standard deviations count less (Huber's choice, 95% efficient for normal ones).
const OUTLYING: f64 = 1.345;

impl Forecast {
    /// Fits a forecast to `points`: instants in seconds, ascending, and values; values that are not finite are gaps.
    ///
    /// Allocates no more than a few thousand rows of a hundred numbers, however many points there are.
    ///
    /// # Errors
    /// [`FitError`].
    pub fn fit(points: &[(f64, f64)], settings: &Settings) -> Result<Self, FitError> {
        let forecast = Self::narrow(points, settings)?;
        let known: Vec<(f64, f64)> = points.iter().copied().filter(|point| point.1.is_finite()).collect();
        Ok(Self { widen: widening(&known, settings), ..forecast })
    }

    /// The same with intervals as wide as errors of the fit have them.
    pub(super) fn narrow(points: &[(f64, f64)], settings: &Settings) -> Result<Self, FitError> {
        let ascending = |i: usize| points[i].0.is_finite() && (i == 0 || points[i - 1].0 < points[i].0);
        if let Some(point) = (0..points.len()).find(|i| !ascending(*i)) {
            return Err(FitError::NotAscending { point });
        }
        let known: Vec<(f64, f64)> = points.iter().copied().filter(|point| point.1.is_finite()).collect();
        if known.len() < LEAST {
            return Err(FitError::TooFew { have: known.len(), need: LEAST });
        }
        let rows = thinned(&known);
        let (begin, end) = (known[0].0, known[known.len() - 1].0);
        let (level, unit) = level_and_unit(&rows);
        let standard = |(at, value): &(f64, f64)| (*at, (value - level) / unit);
        let rows: Vec<(f64, f64)> = rows.iter().map(standard).collect();
        let seasons = match &settings.seasons {
            Seasons::Found => found(end - begin, spacing(&rows)),
            Seasons::Given(seasons) => seasons.clone(),
        };
        let changes = settings.changes.min(rows.len() / 3);
        let design = Design::new(begin, end - begin, changes, seasons, settings.events.clone());
        let weights = weigh(&design, &rows, settings.flexibility);
        let newest = &known[known.len().saturating_sub(NEWEST)..];
        let residuals = |weights: &[f64]| -> Vec<(f64, f64)> {
            let residual = |point: &(f64, f64)| {
                let (at, value) = standard(point);
                (at, value - design.sum(at, weights, |_| true))
            };
            newest.iter().map(residual).collect()
        };
        // Errors are those of a fit that saw less: its own are too small.
        let unseen = begin + SEEN * (end - begin);
        let seen = &rows[..rows.partition_point(|row| row.0 < unseen)];
        let honest = residuals(&weigh(&design, seen, settings.flexibility));
        let from = begin + JUDGED * (end - begin);
        let judged = &honest[honest.partition_point(|residual| residual.0 < from).min(honest.len() - 2)..];
        let (habits, errors) = errors::learn(judged);
        let fading = habits.of(&residuals(&weights));
        let sizes = &weights[design.change_columns()];
        let change = sizes.iter().map(|size| size.abs()).sum::<f64>() / (sizes.len().max(1) as f64);
        let change_rate = sizes.len() as f64 / EARLY;
        Ok(Self { design, weights, level, unit, fading, errors, change, change_rate, widen: 1.0 })
    }
}

/// At most [`ROWS`] of them: medians of neighbours, at the mean of their instants.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(ROWS);
    let median = |neighbours: &[(f64, f64)]| {
        let mut values: Vec<f64> = neighbours.iter().map(|point| point.1).collect();
        values.sort_by(f64::total_cmp);
        let at =
            neighbours.iter().map(|point| point.0 - neighbours[0].0).sum::<f64>() / neighbours.len() as f64;
        (neighbours[0].0 + at, quantile_of(&values, 0.5))
    };
    if each == 1 { points.to_vec() } else { points.chunks(each).map(median).collect() }
}

/// The median, and what is one: the standard deviation, as the middle nine tenths of the values have it, or whatever is not 0.
fn level_and_unit(rows: &[(f64, f64)]) -> (f64, f64) {
    let mut values: Vec<f64> = rows.iter().map(|row| row.1).collect();
    values.sort_by(f64::total_cmp);
    let level = quantile_of(&values, 0.5);
    let middle = (quantile_of(&values, 0.95) - quantile_of(&values, 0.05)) / 3.29;
    let whole = (values[values.len() - 1] - values[0]) / 6.0;
    let least = level.abs() * 1e-12;
    let unit = [middle, whole].into_iter().find(|unit| *unit > least && unit.is_finite());
    (level, unit.unwrap_or(1.0))
}

/// The quantile of ascending values, between them by straight line.
pub(super) fn quantile_of(ascending: &[f64], p: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return 0.0 };
    let at = p.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (ascending[at.floor() as usize], ascending[at.ceil() as usize]);
    low + at.fract() * (high - low)
}

/// The usual time from one row to the next.
fn spacing(rows: &[(f64, f64)]) -> f64 {
    let mut steps: Vec<f64> = rows.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    steps.sort_by(f64::total_cmp);
    quantile_of(&steps, 0.5)
}

/// Day, week and year, each where the history has it twice. A week's days may differ in their course, once there are three of them.
fn found(span_s: f64, spacing_s: f64) -> Vec<Season> {
    // A wave takes at least three points to be seen.
    let order = |period_s: f64, most: usize| most.min((period_s / (3.0 * spacing_s)) as usize);
    let mut seasons = Vec::new();
    let mut found = |period_s: f64, times: f64, most: usize, beside: usize| {
        let order = order(period_s, most);
        if order > 0 && span_s >= times * period_s {
            seasons.push(Season { period_s, order, beside });
        }
    };
    found(DAY, 2.0, 10, 0);
    let courses = if span_s >= 21.0 * DAY { 20 } else { 3 };
    found(7.0 * DAY, 2.0, courses, if order(DAY, 10) > 0 { 7 } else { 0 });
    found(365.25 * DAY, 2.0, 10, 0);
    seasons
}

/// The weights of the columns: the most plausible ones, where outliers count less and changes of slope are few.
///
/// Both are had by weighing anew: a residual beyond what is usual counts less the larger it is, and an absolute value is a square over what it was before.
fn weigh(design: &Design, rows: &[(f64, f64)], flexibility: f64) -> Vec<f64> {
    let columns = design.columns(flexibility);
    let mut table = Vec::with_capacity(rows.len() * columns.len());
    let mut row = Vec::with_capacity(columns.len());
    for (at, _) in rows {
        design.row(*at, &mut row);
        table.extend_from_slice(&row);
    }
    let lines = || table.chunks_exact(columns.len()).zip(rows);
    let mut weights = vec![0.0; columns.len()];
    let mut residuals: Vec<f64> = rows.iter().map(|row| row.1).collect();
    for round in 0..ROUNDS {
        let deviation = deviation(&residuals);
        let mut normal = Normal::new(columns.len());
        for ((line, (_, value)), residual) in lines().zip(&residuals) {
            let out = residual.abs() / (OUTLYING * deviation);
            // At first nothing is known to be an outlier.
            normal.add(line, *value, if round == 0 { 1.0 } else { 1.0 / out.max(1.0) });
        }
        // Residuals that are alike say as little as fewer of them would.
        let noise = if round == 0 { 1e-3 } else { deviation.powi(2) * repetition(&residuals) };
        for _ in 0..4 {
            let penalties: Vec<f64> = columns
                .iter()
                .zip(&weights)
                .map(|(column, weight)| penalty(column, *weight, noise))
                .collect();
            weights = normal.solve(&penalties);
        }
        for (residual, (line, (_, value))) in residuals.iter_mut().zip(lines()) {
            *residual = value - line.iter().zip(&weights).map(|(x, weight)| x * weight).sum::<f64>();
        }
    }
    weights
}

/// How much a square of the weight costs, if residuals have this variance.
fn penalty(column: &Column, weight: f64, noise: f64) -> f64 {
    match column.held {
        Held::Free => 0.0,
        Held::Normal(size) => noise / (size * size),
        Held::Laplace(size) => noise / (size * weight.abs().max(1e-3 * size)),
    }
}

/// The standard deviation, as the middle of them has it; never nothing.
fn deviation(residuals: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = residuals.iter().map(|residual| residual.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    (quantile_of(&sizes, 0.5) / 0.6745).max(0.1 * quantile_of(&sizes, 0.9)).max(1e-4)
}

/// How many residuals say as much as one that is independent of others: (1 + ρ) / (1 − ρ) for a correlation of ρ from one to the next.
fn repetition(residuals: &[f64]) -> f64 {
    let n = residuals.len();
    let limit = 3.0 * deviation(residuals);
    let cut: Vec<f64> = residuals.iter().map(|residual| residual.clamp(-limit, limit)).collect();
    let whole: f64 = cut.iter().map(|r| r * r).sum();
    let next: f64 = cut.windows(2).map(|pair| pair[0] * pair[1]).sum();
    let alike = if whole > 0.0 { (next / whole).clamp(0.0, 0.99) } else { 0.0 };
    ((1.0 + alike) / (1.0 - alike)).min((n as f64 / 10.0).max(1.0))
}
