use burn::{
    grad_clipping::GradientClippingConfig,
    optim::{AdamWConfig, GradientsParams, ModuleOptimizer},
    tensor::{Device, Tensor, TensorData},
};
use forefend_predict::learned::{Calibration, Lstm, LstmParts};
use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use super::{
    Settings, TrainedOn,
    network::{Network, drawn, loss},
    place::Place,
    sequence::{Sequence, check, counts, scales},
};
use crate::{TrainError, hazard::Watched};

/// Standardised features say no more than this many scales, as in service.
const FAR: f32 = 8.0;
/// The length of a gradient, for each list of weights, above which it is cut.
const STEEP: f32 = 1.0;

/// What came of training.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model, not calibrated.
    pub model: Lstm,
    /// Epochs after which it stood so.
    pub epochs: usize,
    /// Negative log likelihood of held-out rows, for each unit of weight, after each epoch; empty without any.
    pub held_out: Vec<f64>,
    /// Where it learned.
    pub on: TrainedOn,
}

/// Trains on sequences, with time cut at `edges`; `held_out` sequences tell when to stop, and which epoch to keep.
///
/// A row of weight 0 is read and not judged. Rows of one sequence follow each other at even intervals of time.
///
/// # Errors
/// When rows differ in length, times are not above 0, nothing failed or nothing survived, or a setting is out of range.
pub fn train(
    sequences: &[Watched],
    held_out: &[Watched],
    features: &[String],
    edges: &[f64],
    settings: &Settings,
) -> Result<Trained, TrainError> {
    settings.check()?;
    let columns = features.len();
    check(sequences, columns)?;
    if !held_out.is_empty() {
        check(held_out, columns)?;
    }
    let (centre, scale) = scales(sequences, columns);
    let mut parts = LstmParts {
        edges: edges.to_vec(),
        features: features.to_vec(),
        centre,
        scale,
        layers: Vec::new(),
        head: Vec::new(),
        head_bias: Vec::new(),
        calibration: Calibration::Identity,
    };
    let read = |of: &[Watched]| of.iter().map(|watched| Sequence::of(watched, &parts)).collect::<Vec<_>>();
    let (read, judged) = (read(sequences), read(held_out));
    let counts = counts(&read, edges.len());
    let failed: f64 = counts.iter().map(|count| count.1).sum();
    let at_risk: f64 = counts.iter().map(|count| count.0).sum();
    if failed == 0.0 || failed >= at_risk {
        return Err(TrainError::OneClass(f32::from(u8::from(failed > 0.0))));
    }
    parts = drawn(parts, &counts, settings);
    let mut place = Place::choose(settings.device, settings.work(columns));
    let mut now = sound(parts)?;
    let mut best = Trained { model: now.clone(), epochs: 0, held_out: Vec::new(), on: place.on.clone() };
    // Another stream than that of the first weights.
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed ^ 0x5eed);
    let mut school = None;
    for epoch in 0..settings.epochs {
        let share = epoch as f64 / settings.epochs as f64;
        let rate = settings.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * share).cos());
        // After a failure, from where the epoch before had come to; what an optimiser gathered is gathered again.
        let afresh = |device: &Device| School::new(now.parts(), settings, random.clone(), device);
        let lesson = |school: School| school.lesson(&read, now.parts(), rate);
        let (before, what) = (school.take(), format!("epoch {}", epoch + 1));
        let (learned, model) = place.attempt(
            &what,
            |device| lesson(before.unwrap_or_else(|| afresh(device))),
            |device| lesson(afresh(device)),
        )?;
        random = learned.random.clone();
        (school, now) = (Some(learned), model);
        if judged.is_empty() {
            best = Trained { model: now.clone(), epochs: epoch + 1, ..best };
            continue;
        }
        let error = judge(&now, held_out, &judged);
        if best.held_out.iter().all(|before| error < *before) {
            (best.model, best.epochs) = (now.clone(), epoch + 1);
        }
        best.held_out.push(error);
        if epoch + 1 >= best.epochs + settings.patience {
            break;
        }
    }
    Ok(Trained { on: place.on, ..best })
}

fn sound(parts: LstmParts) -> Result<Lstm, TrainError> {
    Lstm::new(parts).map_err(|why| TrainError::Model { why })
}

/// The negative log likelihood of rows, for each unit of weight, by the model as it is served.
fn judge(model: &Lstm, watched: &[Watched], sequences: &[Sequence]) -> f64 {
    let (mut sum, mut whole) = (0.0, 0.0);
    for (watched, sequence) in watched.iter().zip(sequences) {
        let mut state = model.fresh();
        for (row, look) in watched.rows.iter().zip(&sequence.looks) {
            let hazards;
            (state, hazards) = model.step(state, row);
            let likelihood = |(n, hazard): (usize, &f64)| {
                let p = if look.failed && n + 1 == look.seen { *hazard } else { 1.0 - hazard };
                p.max(1e-12).ln()
            };
            let weight = f64::from(look.weight);
            sum -= weight * hazards[..look.seen].iter().enumerate().map(likelihood).sum::<f64>();
            whole += weight;
        }
    }
    sum / whole
}

/// What learns, and by what.
struct School {
    network: Network,
    optimiser: ModuleOptimizer,
    random: ChaCha8Rng,
    device: Device,
    settings: Settings,
}

impl School {
    fn new(parts: &LstmParts, settings: &Settings, random: ChaCha8Rng, device: &Device) -> Self {
        let optimiser = AdamWConfig::new()
            .with_epsilon(1e-8)
            .with_weight_decay(settings.weight_decay)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(STEEP)))
            .init();
        let (network, device) = (Network::of(parts, device), device.clone());
        Self { network, optimiser, random, device, settings: settings.clone() }
    }

    /// An epoch, and the model that came of it; `parts` are of its sizes.
    fn lesson(
        self,
        sequences: &[Sequence],
        parts: &LstmParts,
        rate: f64,
    ) -> Result<(Self, Lstm), TrainError> {
        let mut parts = parts.clone();
        let learned = self.epoch(sequences, parts.features.len(), rate)?;
        learned.network.write(&mut parts)?;
        Ok((learned, sound(parts)?))
    }

    /// Goes through all sequences once, in an order of its own.
    fn epoch(mut self, sequences: &[Sequence], columns: usize, rate: f64) -> Result<Self, TrainError> {
        let mut order: Vec<&Sequence> = sequences.iter().filter(|sequence| sequence.len() > 0).collect();
        order.shuffle(&mut self.random);
        for batch in order.chunks(self.settings.batch) {
            self = self.batch(batch, columns, rate)?;
        }
        Ok(self)
    }

    fn batch(mut self, batch: &[&Sequence], columns: usize, rate: f64) -> Result<Self, TrainError> {
        let longest = batch.iter().map(|sequence| sequence.len()).max().unwrap_or(0);
        let offset = self.settings.offset;
        let normal = |random: &mut ChaCha8Rng| offset * standard_normal(random);
        let offsets: Vec<f32> = (0..batch.len() * columns).map(|_| normal(&mut self.random)).collect();
        let mut memory = self.network.fresh(batch.len(), &self.device);
        for begin in (0..longest).step_by(self.settings.span) {
            let end = (begin + self.settings.span).min(longest);
            let steps = (begin..end).map(|n| self.step(batch, n, columns, &offsets)).collect();
            let looks: Vec<_> = (begin..end)
                .flat_map(|n| batch.iter().map(move |sequence| sequence.looks.get(n).copied()))
                .collect();
            let log_odds = self.network.read(steps, &mut memory);
            memory.iter_mut().for_each(|(said, held)| {
                *said = said.clone().detach();
                *held = held.clone().detach();
            });
            let Some(loss) = loss(log_odds, &looks, &self.device) else { continue };
            let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
            self.network = self.optimiser.step(rate, self.network, gradients);
        }
        Ok(self)
    }

    /// What step `n` reads, `[batch, features]`: unknown features stand at their centre, and so do sequences that are over.
    fn step(&self, batch: &[&Sequence], n: usize, columns: usize, offsets: &[f32]) -> Tensor<2> {
        let mut values = vec![0.0f32; batch.len() * columns];
        for ((sequence, to), offsets) in
            batch.iter().zip(values.chunks_exact_mut(columns)).zip(offsets.chunks_exact(columns))
        {
            if n >= sequence.len() {
                continue;
            }
            for ((to, value), offset) in to.iter_mut().zip(sequence.row(n, columns)).zip(offsets) {
                *to = if value.is_nan() { 0.0 } else { (value + offset).clamp(-FAR, FAR) };
            }
        }
        Tensor::from_data(TensorData::new(values, [batch.len(), columns]), &self.device)
    }
}

/// A number from the standard normal distribution (Box & Muller 1958).
fn standard_normal(random: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}

#[cfg(test)]
mod tests;
