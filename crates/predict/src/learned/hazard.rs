use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Calibration, Linear, Trees};

/// What scores a row of features and an interval of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "kebab-case")]
pub enum Scorer {
    /// Boosted trees; they get the number of the interval as one more feature.
    Trees(Trees),
    /// A penalised logistic regression; it gets an indicator for every interval but the first.
    Linear(Linear),
}

impl Scorer {
    /// How many features the interval adds.
    #[must_use]
    pub fn time_columns(&self, intervals: usize) -> usize {
        match self {
            Self::Trees(_) => 1,
            Self::Linear(_) => intervals.saturating_sub(1),
        }
    }

    /// Writes what `time_columns` counts for interval `interval`, from 0.
    pub fn write_time(&self, interval: usize, columns: &mut [f32]) {
        match self {
            Self::Trees(_) => columns.fill(interval as f32),
            Self::Linear(_) => {
                for (n, column) in columns.iter_mut().enumerate() {
                    *column = if n + 1 == interval { 1.0 } else { 0.0 };
                }
            }
        }
    }

    /// Log odds that the failure falls into the interval, given that there was none before.
    #[must_use]
    pub fn log_odds(&self, row: &[f32]) -> f64 {
        match self {
            Self::Trees(trees) => trees.score(row),
            Self::Linear(linear) => linear.score(row),
        }
    }

    /// The log odds of each of so many intervals; the row has place for [`Self::time_columns`] at its end.
    fn log_odds_of_all(&self, row: &mut [f32], intervals: usize) -> Vec<f64> {
        match self {
            Self::Trees(trees) => trees.scores_by_last(row, intervals),
            Self::Linear(linear) => {
                let at = row.len().saturating_sub(self.time_columns(intervals));
                (0..intervals)
                    .map(|interval| {
                        self.write_time(interval, &mut row[at..]);
                        linear.score(row)
                    })
                    .collect()
            }
        }
    }

    /// Parts of the log odds by feature, which with the returned base add up to them.
    pub fn contributions(&self, row: &[f32], parts: &mut [f64]) -> f64 {
        match self {
            Self::Trees(trees) => trees.contributions(row, parts),
            Self::Linear(linear) => linear.contributions(row, parts),
        }
    }
}

/// A discrete-time hazard (Brown 1975; Singer & Willett 1993): time is cut at `edges`, and for each interval a model says how likely the
/// failure falls into it, given that there was none before. Whatever the horizon, it is read off this one survival curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Hazard {
    edges: Vec<f64>,
    features: Vec<String>,
    scorer: Scorer,
    calibration: Calibration,
}

#[derive(Clone, Serialize, Deserialize)]
struct Unchecked {
    edges: Vec<f64>,
    features: Vec<String>,
    scorer: Scorer,
    calibration: Calibration,
}

impl From<Hazard> for Unchecked {
    fn from(hazard: Hazard) -> Self {
        let Hazard { edges, features, scorer, calibration } = hazard;
        Self { edges, features, scorer, calibration }
    }
}

impl TryFrom<Unchecked> for Hazard {
    type Error = String;

    fn try_from(written: Unchecked) -> Result<Self, String> {
        Self::new(written.edges, written.features, written.scorer, written.calibration)
    }
}

impl Hazard {
    /// `edges`: where intervals end, ascending, above 0, in the unit of time that the model was trained in.
    ///
    /// # Errors
    /// When the edges do not ascend, or the model was not made for these features.
    pub fn new(
        edges: Vec<f64>,
        features: Vec<String>,
        scorer: Scorer,
        calibration: Calibration,
    ) -> Result<Self, String> {
        let ascending = edges.windows(2).all(|pair| pair[0] < pair[1]);
        let usable = edges.iter().all(|edge| edge.is_finite() && *edge > 0.0);
        if edges.is_empty() || !ascending || !usable {
            return Err(format!("the edges {edges:?} do not ascend from above 0; train the model again"));
        }
        let wanted = features.len() + scorer.time_columns(edges.len());
        let made_for = match &scorer {
            Scorer::Trees(trees) => trees.feature_count(),
            Scorer::Linear(linear) => linear.feature_count(),
        };
        if made_for != wanted {
            return Err(format!(
                "the model was made for {made_for} columns, here are {wanted}; train it again"
            ));
        }
        Ok(Self { edges, features, scorer, calibration })
    }

    /// Where intervals end.
    #[must_use]
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// How far the curve reaches, where time is in seconds: to its last edge. Features that look ahead look as far.
    #[must_use]
    pub fn reach(&self) -> Duration {
        let last = self.edges.last().copied().unwrap_or(0.0);
        Duration::try_from_secs_f64(last).unwrap_or(Duration::MAX)
    }

    /// The names of the features, in the order in which a row gives them.
    #[must_use]
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// With another calibration of its probabilities.
    #[must_use]
    pub fn calibrated(self, calibration: Calibration) -> Self {
        Self { calibration, ..self }
    }

    /// P(fail ≤ edge) for every edge: rising, from 0 to 1. `row` has one value per feature; NaN: not known.
    ///
    /// A row of another length is as good as unknown: every probability is then that of a row of NaN.
    #[must_use]
    pub fn cumulative(&self, row: &[f32]) -> Vec<f64> {
        let mut columns = vec![f32::NAN; self.features.len()];
        if row.len() == columns.len() {
            columns.copy_from_slice(row);
        }
        let at = columns.len();
        columns.resize(at + self.scorer.time_columns(self.edges.len()), 0.0);
        let mut survival = 1.0;
        let mut failed = 0.0f64;
        let log_odds = self.scorer.log_odds_of_all(&mut columns, self.edges.len());
        log_odds
            .into_iter()
            .map(|log_odds| {
                survival *= 1.0 - logistic(log_odds);
                // Calibration is monotone, up to rounding.
                failed = self.calibration.apply(1.0 - survival).max(failed);
                failed
            })
            .collect()
    }

    /// P(fail ≤ time), between the edges by straight line, beyond the last as at the last.
    #[must_use]
    pub fn within(&self, cumulative: &[f64], time: f64) -> f64 {
        let i = self.edges.partition_point(|edge| *edge < time);
        let point = |i: usize| Some((*self.edges.get(i)?, *cumulative.get(i)?));
        let before = i.checked_sub(1).and_then(point).unwrap_or((0.0, 0.0));
        let Some(after) = point(i) else { return before.1 };
        let share = ((time - before.0) / (after.0 - before.0)).clamp(0.0, 1.0);
        before.1 + share * (after.1 - before.1)
    }

    /// The mean of min(time to failure, last edge), in the unit of the edges: what minimises the squared error of a clipped
    /// remaining life.
    #[must_use]
    pub fn restricted_mean(&self, cumulative: &[f64]) -> f64 {
        let mut mean = 0.0;
        let mut before = (0.0, 0.0);
        for (edge, failed) in self.edges.iter().zip(cumulative) {
            mean += (edge - before.0) * (1.0 - f64::midpoint(before.1, *failed));
            before = (*edge, *failed);
        }
        mean
    }

    /// The time by which it has failed with probability `p`; `None`: beyond the last edge.
    #[must_use]
    pub fn quantile(&self, cumulative: &[f64], p: f64) -> Option<f64> {
        let i = cumulative.iter().position(|failed| *failed >= p)?;
        let before = i.checked_sub(1).map_or((0.0, 0.0), |i| (self.edges[i], cumulative[i]));
        let rise = cumulative[i] - before.1;
        let share = if rise > 0.0 { ((p - before.1) / rise).clamp(0.0, 1.0) } else { 1.0 };
        Some(before.0 + share * (self.edges[i] - before.0))
    }

    /// How much each feature speaks for a failure: its part of the log odds, averaged over the intervals by how likely the failure
    /// falls into each. Largest first.
    #[must_use]
    pub fn drivers(&self, row: &[f32]) -> Vec<(&str, f64)> {
        let mut columns = row.to_vec();
        columns.resize(self.features.len(), f32::NAN);
        let at = columns.len();
        columns.resize(at + self.scorer.time_columns(self.edges.len()), 0.0);
        let mut parts = vec![0.0; columns.len()];
        let mut sums = vec![0.0; self.features.len()];
        let (mut survival, mut total) = (1.0, 0.0);
        for interval in 0..self.edges.len() {
            self.scorer.write_time(interval, &mut columns[at..]);
            parts.fill(0.0);
            let base = self.scorer.contributions(&columns, &mut parts);
            let hazard = logistic(base + parts.iter().sum::<f64>());
            let falls_here = survival * hazard;
            for (sum, part) in sums.iter_mut().zip(&parts) {
                *sum += falls_here * part;
            }
            total += falls_here;
            survival *= 1.0 - hazard;
        }
        let scale = if total > 0.0 { 1.0 / total } else { 0.0 };
        let mut drivers: Vec<(&str, f64)> =
            self.features.iter().map(String::as_str).zip(sums.iter().map(|sum| sum * scale)).collect();
        drivers.sort_by(|a, b| b.1.total_cmp(&a.1));
        drivers
    }
}

fn logistic(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}
