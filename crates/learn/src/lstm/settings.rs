use super::DeviceChoice;
use crate::TrainError;

/// How a network is trained. The same sequences and settings make the same network on one machine, bit by bit if it learns on the CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Cells of memory in each layer.
    pub hidden: usize,
    /// Layers of memory.
    pub layers: usize,
    /// Times that all sequences are gone through, at most.
    pub epochs: usize,
    /// Where there are held-out sequences: training ends when so many epochs made them no likelier. The best network is kept.
    pub patience: usize,
    /// Of the first step; it falls to nothing at the last epoch, along half a cosine (Loshchilov & Hutter 2017).
    pub learning_rate: f64,
    /// By how much weights shrink in a step, as a share of the learning rate (AdamW; Loshchilov & Hutter 2019).
    pub weight_decay: f32,
    /// Sequences that are read side by side.
    pub batch: usize,
    /// Steps through which errors are traced back.
    pub span: usize,
    /// Each sequence is read with each feature off by as much as this, in standard deviations of a feature, anew each time: no cell is like
    /// another, and what is learned must not hang on a level.
    pub offset: f32,
    /// Of everything that is drawn.
    pub seed: u64,
    /// Where it is computed.
    pub device: DeviceChoice,
}

impl Default for Settings {
    /// Small enough to serve ten thousand cells; a span as long as the sequences is better where that can be afforded (ADR 0020).
    fn default() -> Self {
        Self {
            hidden: 32,
            layers: 1,
            epochs: 60,
            patience: 15,
            learning_rate: 5e-3,
            weight_decay: 1e-4,
            batch: 8,
            span: 128,
            offset: 0.2,
            seed: 1,
            device: DeviceChoice::Cpu,
        }
    }
}

impl Settings {
    /// Multiply-adds of one step of a batch, forwards.
    #[cfg(feature = "lstm")]
    pub(super) fn work(&self, features: usize) -> usize {
        let layer = |inputs: usize| 4 * self.hidden * (inputs + self.hidden);
        self.batch * (layer(features) + (self.layers - 1) * layer(self.hidden))
    }

    /// Whether anything can be trained by these.
    ///
    /// # Errors
    /// [`TrainError::Setting`] names the first that is out of range.
    pub fn check(&self) -> Result<(), TrainError> {
        let above_0 = [
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("epochs", self.epochs),
            ("patience", self.patience),
            ("batch", self.batch),
            ("span", self.span),
        ];
        if let Some((name, _)) = above_0.into_iter().find(|(_, value)| *value == 0) {
            return Err(TrainError::Setting { name, allowed: "above 0" });
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return Err(TrainError::Setting { name: "learning_rate", allowed: "above 0 and at most 1" });
        }
        let shares = [("weight_decay", self.weight_decay), ("offset", self.offset)];
        match shares.into_iter().find(|(_, value)| !(0.0..=10.0).contains(value)) {
            Some((name, _)) => Err(TrainError::Setting { name, allowed: "from 0 to 10" }),
            None => Ok(()),
        }
    }
}
