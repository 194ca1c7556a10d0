//! The network while it learns: the same sums as [`forefend_predict::learned::Lstm`] makes, over tensors that know their derivatives.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, TensorData, activation},
};
use forefend_predict::learned::{LstmLayer, LstmParts};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Settings, sequence::Look};
use crate::TrainError;

/// Where forget gates begin: open, or nothing would be remembered long enough to learn from it (Jozefowicz et al. 2015).
const REMEMBER: f32 = 1.5;

#[derive(Module, Debug)]
struct Layer {
    input: Param<Tensor<2>>,
    recurrent: Param<Tensor<2>>,
    bias: Param<Tensor<2>>,
}

/// Weights that are learned.
#[derive(Module, Debug)]
pub(super) struct Network {
    layers: Vec<Layer>,
    head: Param<Tensor<2>>,
    head_bias: Param<Tensor<2>>,
}

/// What is remembered of each sequence of a batch: what was said and what is held, `[batch, hidden]` for each layer.
pub(super) type Memory = Vec<(Tensor<2>, Tensor<2>)>;

fn parameter(values: Vec<f32>, columns: usize, device: &Device) -> Param<Tensor<2>> {
    let rows = values.len() / columns;
    Param::<Tensor<2>>::from_data(TensorData::new(values, [rows, columns]), device)
}

/// A model before it learned: weights drawn evenly from ±1/√hidden, hazards those of all rows together.
pub(super) fn drawn(mut parts: LstmParts, counts: &[(f64, f64)], settings: &Settings) -> LstmParts {
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let hidden = settings.hidden;
    let reach = 1.0 / (hidden as f32).sqrt();
    let mut draw =
        |count: usize| (0..count).map(|_| random.random_range(-reach..reach)).collect::<Vec<f32>>();
    let mut inputs = parts.features.len();
    for _ in 0..settings.layers {
        let mut bias = vec![0.0; 4 * hidden];
        bias[hidden..2 * hidden].fill(REMEMBER);
        let (input, recurrent) = (draw(inputs * 4 * hidden), draw(hidden * 4 * hidden));
        parts.layers.push(LstmLayer { inputs, hidden, input, recurrent, bias });
        inputs = hidden;
    }
    parts.head = draw(hidden * parts.edges.len());
    // Half a failure more, and half a survivor more, so that none is certain.
    let odds = |(at_risk, failed): &(f64, f64)| ((failed + 0.5) / (at_risk - failed + 0.5)).ln() as f32;
    parts.head_bias = counts.iter().map(odds).collect();
    parts
}

impl Network {
    pub(super) fn of(parts: &LstmParts, device: &Device) -> Self {
        let layer = |layer: &LstmLayer| {
            let columns = 4 * layer.hidden;
            Layer {
                input: parameter(layer.input.clone(), columns, device),
                recurrent: parameter(layer.recurrent.clone(), columns, device),
                bias: parameter(layer.bias.clone(), columns, device),
            }
        };
        Self {
            layers: parts.layers.iter().map(layer).collect(),
            head: parameter(parts.head.clone(), parts.edges.len(), device),
            head_bias: parameter(parts.head_bias.clone(), parts.edges.len(), device),
        }
    }

    /// Puts the weights into a model of the same sizes.
    pub(super) fn write(&self, parts: &mut LstmParts) -> Result<(), TrainError> {
        for (layer, of) in self.layers.iter().zip(&mut parts.layers) {
            of.input = numbers(layer.input.val())?;
            of.recurrent = numbers(layer.recurrent.val())?;
            of.bias = numbers(layer.bias.val())?;
        }
        parts.head = numbers(self.head.val())?;
        parts.head_bias = numbers(self.head_bias.val())?;
        Ok(())
    }

    /// Of sequences that were never seen.
    pub(super) fn fresh(&self, batch: usize, device: &Device) -> Memory {
        let zeros = |layer: &Layer| Tensor::zeros([batch, layer.recurrent.val().dims()[0]], device);
        self.layers.iter().map(|layer| (zeros(layer), zeros(layer))).collect()
    }

    /// Log odds of each interval after each step, `[steps · batch, intervals]`, step by step.
    ///
    /// `steps`: what each reads, `[batch, features]`.
    pub(super) fn read(&self, steps: Vec<Tensor<2>>, memory: &mut Memory) -> Tensor<2> {
        let mut said = Vec::with_capacity(steps.len());
        for step in steps {
            let mut x = step;
            for (layer, (before, held)) in self.layers.iter().zip(memory.iter_mut()) {
                let hidden = held.dims()[1];
                let told = x.matmul(layer.input.val())
                    + before.clone().matmul(layer.recurrent.val())
                    + layer.bias.val();
                let gates = activation::sigmoid(told.clone().narrow(1, 0, 3 * hidden));
                let candidate = activation::tanh(told.narrow(1, 3 * hidden, hidden));
                let gate = |n: usize| gates.clone().narrow(1, n * hidden, hidden);
                *held = gate(1) * held.clone() + gate(0) * candidate;
                *before = gate(2) * activation::tanh(held.clone());
                x = before.clone();
            }
            said.push(x);
        }
        Tensor::cat(said, 0).matmul(self.head.val()) + self.head_bias.val()
    }
}

/// The negative log likelihood of what was watched, for each unit of weight; `looks` in the order of the rows of `log_odds`. `None` where nothing
/// has weight.
pub(super) fn loss(log_odds: Tensor<2>, looks: &[Option<Look>], device: &Device) -> Option<Tensor<1>> {
    let shape = log_odds.dims();
    let intervals = shape[1];
    let (mut counts, mut failed) = (vec![0.0f32; shape[0] * intervals], vec![0.0f32; shape[0] * intervals]);
    let mut whole = 0.0;
    for (n, look) in looks.iter().enumerate() {
        let Some(look) = look.filter(|look| look.weight > 0.0) else { continue };
        whole += f64::from(look.weight);
        counts[n * intervals..n * intervals + look.seen].fill(look.weight);
        if look.failed {
            failed[n * intervals + look.seen - 1] = look.weight;
        }
    }
    if whole <= 0.0 {
        return None;
    }
    let tensor = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, shape), device);
    // ln(1 + exp(x)) − y · x, where neither a large x nor a small one overflows.
    let survived = activation::log_sigmoid(log_odds.clone().neg()) * tensor(counts);
    let likelihood = survived + log_odds * tensor(failed);
    Some(likelihood.sum().neg() / whole)
}

/// The numbers of a tensor, row by row.
pub(super) fn numbers<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|e| TrainError::Model { why: format!("weights can't be read: {e:?}") })
}
