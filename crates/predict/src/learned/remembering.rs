//! A long short-term memory above the other models, asked about suspects alone.

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{Basis, Driver, HealthScore, Prediction, Windows};
use serde::{Deserialize, Serialize};

use super::{
    Lately, Lstm, Stacked,
    lately::{LOOKS, lately_names},
    predictor::{WORTH_EXPLAINING, newest},
};
use crate::{Curve, DayZero, Known, Levels, Predictor};

/// Layers and cells of memory that a model may have: what it costs to serve is bounded by what a file may say.
const MOST_LAYERS: usize = 4;
const MOST_HIDDEN: usize = 128;

/// What a [`Remembering`] is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RememberingParts {
    /// The model below, which looks at everybody; `None`: that of the first day.
    pub below: Option<Stacked>,
    /// Over the numbers of [`lately_names`], in seconds.
    pub lstm: Lstm,
    /// Steps of a window in a look, 1 or more; as in training.
    pub steps: usize,
    /// How much it counts beside the model below, from 0 to 1.
    pub share: f64,
    /// P(fail within [`Lstm::reach`]) by the model below from which on a cell is a suspect, 0 to 1; 0: everybody is one.
    pub suspect_from: f64,
    /// Where the curve of a suspect is read for the ends of its interval; `None`: nobody has checked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Levels>,
}

/// A long short-term memory that reads the window of a suspect from its beginning, and is pooled with the model that made it a suspect.
///
/// Nothing is remembered from tick to tick: the state is built anew from the window each time. So it is the same after a restart, after a gap, in a
/// backtest and beside the gate, and a look at which nothing was measured holds it where it was. That costs some tens of steps a cell
/// instead of one, which is why the models below choose who is worth it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RememberingParts", into = "RememberingParts")]
pub struct Remembering {
    parts: RememberingParts,
}

impl From<Remembering> for RememberingParts {
    fn from(model: Remembering) -> Self {
        model.parts
    }
}

impl TryFrom<RememberingParts> for Remembering {
    type Error = String;

    fn try_from(parts: RememberingParts) -> Result<Self, String> {
        Self::new(parts)
    }
}

impl Remembering {
    /// A model of these parts.
    ///
    /// # Errors
    /// Says what is out of range: shares, steps, or a network larger than may serve.
    pub fn new(parts: RememberingParts) -> Result<Self, String> {
        let RememberingParts { lstm, steps, share, suspect_from, .. } = &parts;
        for (what, value) in [("share", share), ("suspect_from", suspect_from)] {
            if !(0.0..=1.0).contains(value) {
                return Err(format!("`{what}` is {value}, not from 0 to 1; train the model again"));
            }
        }
        if *steps == 0 {
            return Err("a look has no steps; train the model again".to_owned());
        }
        let layers = &lstm.parts().layers;
        let hidden = layers.iter().map(|layer| layer.hidden).max().unwrap_or(0);
        if layers.len() > MOST_LAYERS || hidden > MOST_HIDDEN {
            let have = layers.len();
            return Err(format!(
                "{have} layers of up to {hidden} cells are more than the {MOST_LAYERS} of {MOST_HIDDEN} that may serve; train a smaller one"
            ));
        }
        Ok(Self { parts })
    }

    /// What it is made of.
    #[must_use]
    pub fn parts(&self) -> &RememberingParts {
        &self.parts
    }

    /// What it was trained on and no window can give.
    #[must_use]
    pub(super) fn unknown_features(&self) -> Vec<String> {
        let known = lately_names();
        let features = &self.parts.lstm.parts().features;
        let mut unknown: Vec<String> = features.iter().filter(|f| !known.contains(f)).cloned().collect();
        // The right names in another order would be read as each other.
        if unknown.is_empty() && *features != known {
            unknown.push("the order of what is read of a window".to_owned());
        }
        unknown
    }

    /// Whether the memory is asked about a cell of which the model below says this. Whatever horizon was asked for, it is the risk over the memory's own
    /// reach that counts, as far as the curve tells it.
    #[must_use]
    pub fn is_suspect(&self, below: &Prediction) -> bool {
        let reach = self.parts.lstm.reach();
        let risk = match below.horizon == reach {
            true => below.probability.get(),
            false => within(&below.curve, reach.as_secs_f64()),
        };
        risk >= self.parts.suspect_from
    }

    fn below(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        match &self.parts.below {
            None => DayZero::default().predict_knowing(windows, horizon, known),
            Some(stacked) => stacked.predict_knowing(windows, horizon, known),
        }
    }

    /// What the memory alone says, in place of `below`; `None` where the window shows it nothing.
    fn remembered(&self, windows: &Windows, horizon: Duration, below: &Prediction) -> Option<Prediction> {
        let lstm = &self.parts.lstm;
        let lately = Lately::of(windows, self.parts.steps);
        let cumulative = lstm.cumulative(&hazards_after(lstm, &lately.rows)?);
        let curve = Curve::new(horizon).with_probabilities(|t| lstm.within(&cumulative, t));
        let probability = curve.probability_within(horizon);
        let worth_it = probability.get() >= WORTH_EXPLAINING;
        Some(Prediction {
            probability,
            time_to_failure: curve.time_to_failure(),
            health: HealthScore::from_failure(probability),
            basis: Basis::Calibrated,
            drivers: if worth_it { self.drivers(&lately, windows, below) } else { Vec::new() },
            curve: curve.points(),
            ..below.clone()
        })
    }

    /// How much likelier the failure is for what was seen of each family, told of its metric that stood out most: by how much the log odds of
    /// failing before the last edge would be lower if the whole family stood at its centre. The shares add up to 1.
    fn drivers(&self, lately: &Lately, windows: &Windows, below: &Prediction) -> Vec<Driver> {
        let risk = |rows: &[f32]| {
            let hazards = hazards_after(&self.parts.lstm, rows)?;
            let survival: f64 = hazards.iter().map(|hazard| (1.0 - hazard).max(1e-12).ln()).sum();
            Some((-survival.exp_m1()).max(1e-12).ln() - survival)
        };
        let Some(whole) = risk(&lately.rows) else { return Vec::new() };
        let parts: BTreeMap<_, f64> = lately
            .without_each()
            .filter_map(|(metric, rows)| Some((metric, whole - risk(&rows)?)))
            .filter(|(_, part)| *part > 0.0)
            .collect();
        let total: f64 = parts.values().sum();
        let driver = |(metric, part): (&forefend_domain::MetricName, f64)| {
            let window = windows.metrics.get(metric)?;
            let told = below.drivers.iter().find(|driver| driver.metric == *metric);
            let detail = told.map_or_else(|| newest(window), |driver| driver.detail.clone());
            let (metric, family) = (metric.clone(), window.family);
            Some(Driver { metric, family, contribution: part / total, detail })
        };
        let mut drivers: Vec<Driver> = parts.into_iter().filter_map(driver).collect();
        drivers.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
        drivers
    }
}

impl Predictor for Remembering {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        self.predict_knowing(windows, horizon, &Known::default())
    }

    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        let below = self.below(windows, horizon, known)?;
        if !self.is_suspect(&below) {
            return Some(below);
        }
        match self.remembered(windows, horizon, &below) {
            None => Some(below),
            Some(said) => {
                // What the cell holds is no matter of who speaks.
                let levels = self.parts.levels.as_ref();
                let pooled = Stacked::pool_at(self.parts.share, (said, &below), horizon, (levels, None));
                Some(Prediction { exceeds: below.exceeds, ..pooled })
            }
        }
    }
}

/// P(fail ≤ `time_s`) by a curve, between its points by straight line, beyond its end as there.
fn within(curve: &[(f64, f64)], time_s: f64) -> f64 {
    let i = curve.partition_point(|(t, _)| *t < time_s);
    let before = i.checked_sub(1).map_or((0.0, 0.0), |i| curve[i]);
    let Some(after) = curve.get(i) else { return before.1 };
    before.1 + (after.1 - before.1) * (time_s - before.0) / (after.0 - before.0).max(f64::MIN_POSITIVE)
}

/// The hazards after the rows of [`Lately`], read from the beginning by a network that saw nothing before; `None` without any row.
#[must_use]
pub fn hazards_after(lstm: &Lstm, rows: &[f32]) -> Option<Vec<f64>> {
    let mut state = lstm.fresh();
    let mut hazards = None;
    for look in rows.chunks_exact(Lately::width()).take(LOOKS) {
        let said;
        (state, said) = lstm.step(state, look);
        hazards = Some(said);
    }
    hazards
}

#[cfg(test)]
mod tests;
