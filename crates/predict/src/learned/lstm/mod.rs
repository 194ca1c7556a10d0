mod layer;
mod predictor;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Calibration;
use layer::{Memory, add_rows};

pub use layer::LstmLayer;

/// Standardised features say no more than this many scales.
const FAR: f32 = 8.0;

/// What an [`Lstm`] is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmParts {
    /// Where intervals of time end, ascending, above 0, in the unit that the model was trained in.
    pub edges: Vec<f64>,
    /// Names of the features, in the order in which a row gives them.
    pub features: Vec<String>,
    /// What each feature is measured from, in its own unit.
    pub centre: Vec<f32>,
    /// What each feature is measured in, in its own unit; positive.
    pub scale: Vec<f32>,
    /// The first sees features, each other what the one before it says.
    pub layers: Vec<LstmLayer>,
    /// By row, a row a cell of the last layer, a number an interval.
    pub head: Vec<f32>,
    /// A number an interval, in log odds.
    pub head_bias: Vec<f32>,
    /// Of the probabilities.
    pub calibration: Calibration,
}

/// A long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000) that says hazards: after each row of a cell it
/// says for each interval of time how likely the failure falls into it, given that there was none before. Whatever the
/// horizon, it is read off this one survival curve, as with [`super::Hazard`].
///
/// What it remembers of a cell is a value, [`LstmState`], that goes into a step and comes out of it; so a tick costs one step, however long the past.
/// A feature that isn't known stands at its centre and says nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "LstmParts", into = "LstmParts")]
pub struct Lstm {
    parts: LstmParts,
}

/// What a model remembers of one cell. A model can't use what another remembered: it begins anew then.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LstmState {
    layers: Vec<Memory>,
}

impl From<Lstm> for LstmParts {
    fn from(lstm: Lstm) -> Self {
        lstm.parts
    }
}

impl TryFrom<LstmParts> for Lstm {
    type Error = String;

    fn try_from(parts: LstmParts) -> Result<Self, String> {
        Self::new(parts)
    }
}

impl Lstm {
    /// A model of these parts.
    ///
    /// # Errors
    /// Says what is wrong: edges that do not ascend, lists whose lengths don't fit, a number that isn't finite.
    pub fn new(parts: LstmParts) -> Result<Self, String> {
        let LstmParts { edges, features, centre, scale, layers, head, head_bias, .. } = &parts;
        let ascending = edges.windows(2).all(|pair| pair[0] < pair[1]);
        if edges.is_empty() || !ascending || !edges.iter().all(|edge| edge.is_finite() && *edge > 0.0) {
            return Err(format!("the edges {edges:?} do not ascend from above 0; train the model again"));
        }
        if centre.len() != features.len() || scale.len() != features.len() {
            let (features, centre, scale) = (features.len(), centre.len(), scale.len());
            return Err(format!("{centre} centres and {scale} scales for {features} features"));
        }
        let mut numbers = centre.iter().chain(scale).chain(head).chain(head_bias);
        if !numbers.all(|number| number.is_finite()) || scale.iter().any(|scale| *scale <= 0.0) {
            return Err("a number of the model is not finite, or a scale not positive".into());
        }
        let mut sees = features.len();
        for (n, layer) in layers.iter().enumerate() {
            if let Some(fault) = layer.fault() {
                return Err(format!("layer {n}: {fault}"));
            }
            if layer.inputs != sees {
                return Err(format!("layer {n} is made for {} inputs and gets {sees}", layer.inputs));
            }
            sees = layer.hidden;
        }
        if layers.is_empty() || head_bias.len() != edges.len() || head.len() != sees * edges.len() {
            let (layers, head, bias, edges) = (layers.len(), head.len(), head_bias.len(), edges.len());
            return Err(format!(
                "{layers} layers, {head} and {bias} weights of the head do not make {edges} intervals"
            ));
        }
        Ok(Self { parts })
    }

    /// What it is made of.
    #[must_use]
    pub fn parts(&self) -> &LstmParts {
        &self.parts
    }

    /// Where intervals end.
    #[must_use]
    pub fn edges(&self) -> &[f64] {
        &self.parts.edges
    }

    /// How far the curve reaches, where time is in seconds: to its last edge. Features that look ahead look as far.
    #[must_use]
    pub fn reach(&self) -> Duration {
        Duration::try_from_secs_f64(self.last_edge()).unwrap_or(Duration::MAX)
    }

    fn last_edge(&self) -> f64 {
        self.parts.edges.last().copied().unwrap_or(0.0)
    }

    /// With another calibration of its probabilities.
    #[must_use]
    pub fn calibrated(mut self, calibration: Calibration) -> Self {
        self.parts.calibration = calibration;
        self
    }

    /// What it remembers of a cell that it never saw.
    #[must_use]
    pub fn fresh(&self) -> LstmState {
        LstmState { layers: self.parts.layers.iter().map(Memory::of).collect() }
    }

    /// Takes in one row and says the hazard of each interval, not calibrated: P(fails in it | not before), 0 to 1.
    ///
    /// Rows are as far apart as in training. A number that is missing at the row's end is not known. A state that another model left counts as [`Self::fresh`].
    #[must_use]
    pub fn step(&self, state: LstmState, row: &[f32]) -> (LstmState, Vec<f64>) {
        let mut state = self.usable(state);
        let known = self.standardised(row);
        let told = self.parts.layers.first().map(|first| first.told(&known, &state.layers[0]));
        let log_odds = self.think(told.unwrap_or_default(), &mut state);
        (state, log_odds.into_iter().map(logistic).collect())
    }

    fn usable(&self, state: LstmState) -> LstmState {
        let fits = state.layers.len() == self.parts.layers.len()
            && state.layers.iter().zip(&self.parts.layers).all(|(memory, layer)| memory.fits(layer));
        if fits { state } else { self.fresh() }
    }

    fn standardised(&self, row: &[f32]) -> Vec<f32> {
        let scales = self.parts.centre.iter().zip(&self.parts.scale);
        let known = |(n, (centre, scale)): (usize, (&f32, &f32))| match row.get(n) {
            Some(value) if value.is_finite() => ((value - centre) / scale).clamp(-FAR, FAR),
            _ => 0.0,
        };
        scales.enumerate().map(known).collect()
    }

    /// From what the first layer's gates are told to the log odds of each interval.
    fn think(&self, told: Vec<f32>, state: &mut LstmState) -> Vec<f32> {
        let mut told = told;
        let mut said: &[f32] = &[];
        for (n, (layer, memory)) in self.parts.layers.iter().zip(&mut state.layers).enumerate() {
            if n > 0 {
                told = layer.told(said, memory);
            }
            layer.remember(&told, memory);
            said = &memory.said;
        }
        let mut log_odds = self.parts.head_bias.clone();
        add_rows(&mut log_odds, &self.parts.head, said);
        log_odds
    }

    /// P(fail ≤ edge) for every edge, calibrated: rising, from 0 to 1.
    #[must_use]
    pub fn cumulative(&self, hazards: &[f64]) -> Vec<f64> {
        let (mut survival, mut failed) = (1.0, 0.0f64);
        let fails = |hazard: &f64| {
            survival *= 1.0 - hazard;
            // Calibration is monotone, up to rounding.
            failed = self.parts.calibration.apply(1.0 - survival).max(failed);
            failed
        };
        hazards.iter().map(fails).collect()
    }

    /// P(fail ≤ time), between the edges by straight line, beyond the last as at the last.
    #[must_use]
    pub fn within(&self, cumulative: &[f64], time: f64) -> f64 {
        let i = self.parts.edges.partition_point(|edge| *edge < time);
        let point = |i: usize| Some((*self.parts.edges.get(i)?, *cumulative.get(i)?));
        let before = i.checked_sub(1).and_then(point).unwrap_or((0.0, 0.0));
        let Some(after) = point(i) else { return before.1 };
        let share = ((time - before.0) / (after.0 - before.0)).clamp(0.0, 1.0);
        before.1 + share * (after.1 - before.1)
    }

    /// The mean of min(time to failure, last edge), in the unit of the edges.
    #[must_use]
    pub fn restricted_mean(&self, cumulative: &[f64]) -> f64 {
        let mut before = (0.0, 0.0);
        let pieces = self.parts.edges.iter().zip(cumulative).map(|(edge, failed)| {
            let piece = (edge - before.0) * (1.0 - f64::midpoint(before.1, *failed));
            before = (*edge, *failed);
            piece
        });
        pieces.sum()
    }

    /// How much each feature of the newest row speaks for a failure: by how much the log odds of failing before the last edge would be lower if
    /// it stood at its centre. Largest first. What rows before it said stays as it is, and the parts do not add up: memory is no sum.
    #[must_use]
    pub fn drivers(&self, before: &LstmState, row: &[f32]) -> Vec<(&str, f64)> {
        let before = self.usable(before.clone());
        let known = self.standardised(row);
        let Some(first) = self.parts.layers.first() else { return Vec::new() };
        let told = first.told(&known, &before.layers[0]);
        let risk = |told: Vec<f32>| -> f64 {
            let log_odds = self.think(told, &mut before.clone());
            // ln S, which is exact where 1 − S is not.
            let survival: f64 =
                log_odds.into_iter().map(|odds| -f64::from(odds.clamp(-50.0, 50.0)).exp().ln_1p()).sum();
            (-survival.exp_m1()).max(f64::MIN_POSITIVE).ln() - survival
        };
        let whole = risk(told.clone());
        let part = |(n, value): (usize, &f32)| {
            if *value == 0.0 {
                return 0.0;
            }
            let mut without = told.clone();
            first.untell(&mut without, n, *value);
            whole - risk(without)
        };
        let mut drivers: Vec<(&str, f64)> =
            self.parts.features.iter().map(String::as_str).zip(known.iter().enumerate().map(part)).collect();
        drivers.sort_by(|a, b| b.1.total_cmp(&a.1));
        drivers
    }
}

fn logistic(log_odds: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(log_odds)).exp())
}

#[cfg(test)]
mod tests;
