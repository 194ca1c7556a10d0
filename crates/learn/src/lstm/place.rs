//! Where networks learn: asked for, chosen, and what became of it.

use serde::{Deserialize, Serialize};

/// Where networks shall learn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// On the CPU: the same rows make the same bytes.
    #[default]
    Cpu,
    /// On a GPU, if there is one that works.
    Gpu,
    /// On a GPU, if there is one that works and the work is large enough for it to be faster.
    Auto,
}

/// Where networks learned, and why there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedOn {
    /// `cpu`, or `gpu` and what its driver calls it.
    pub device: String,
    /// In words.
    pub why: String,
    /// Whether a GPU began and the CPU had to go on.
    #[serde(default)]
    pub failed: bool,
    /// How many trainings this holds for.
    pub trainings: usize,
}

/// Counts a training; those of which the same is to be said are one entry.
#[cfg(feature = "lstm")]
pub(crate) fn note(all: &mut Vec<TrainedOn>, one: TrainedOn) {
    let alike = |other: &&mut TrainedOn| {
        (&other.device, &other.why, other.failed) == (&one.device, &one.why, one.failed)
    };
    match all.iter_mut().find(alike) {
        Some(known) => known.trainings += one.trainings,
        None => all.push(one),
    }
}

#[cfg(feature = "lstm")]
pub(super) use chosen::Place;
#[cfg(feature = "gpu")]
pub(super) use chosen::words;

#[cfg(feature = "lstm")]
mod chosen {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use burn::tensor::Device;

    use super::{DeviceChoice, TrainedOn};
    use crate::{TrainError, lstm::gpu};

    /// Multiply-adds of one step of a batch, forwards, from which on a GPU is taken by [`DeviceChoice::Auto`].
    ///
    /// A step is some forty sums, forwards and back, and a GPU is reckoned to want 5 to 10 µs to begin each, however small it is: 0.2 to 0.4 ms. One
    /// core of a CPU takes some ten times as long for a step of this size (ADR 0031), which leaves room for what else a GPU costs: finding it,
    /// translating its programs, carrying rows there and weights back. No GPU was there to measure it on.
    const LEAST_WORK: usize = 8_000_000;

    /// Where a network learns.
    pub(in crate::lstm) struct Place {
        pub(in crate::lstm) device: Device,
        pub(in crate::lstm) on: TrainedOn,
        is_gpu: bool,
    }

    impl Place {
        /// `work`: multiply-adds of one step of a batch, forwards.
        pub(in crate::lstm) fn choose(choice: DeviceChoice, work: usize) -> Self {
            match choice {
                DeviceChoice::Cpu => Self::cpu("asked for".to_owned(), false),
                DeviceChoice::Auto if !Self::is_worth_a_gpu(work) => {
                    Self::cpu("networks of this size are too little work for a GPU".to_owned(), false)
                }
                DeviceChoice::Auto | DeviceChoice::Gpu => match gpu::find() {
                    Err(why) => Self::cpu(why, false),
                    Ok(gpu::Gpu { device, name, .. }) => {
                        let why =
                            if choice == DeviceChoice::Gpu { "asked for" } else { "there is work for it" };
                        let on = TrainedOn {
                            device: format!("gpu {name}"),
                            why: why.to_owned(),
                            failed: false,
                            trainings: 1,
                        };
                        Self { device, on, is_gpu: true }
                    }
                },
            }
        }

        pub(in crate::lstm) fn is_worth_a_gpu(work: usize) -> bool {
            work >= LEAST_WORK
        }

        fn cpu(why: String, failed: bool) -> Self {
            // Pure Rust.
            let on = TrainedOn { device: "cpu".to_owned(), why, failed, trainings: 1 };
            Self { device: Device::flex().autodiff(), on, is_gpu: false }
        }

        /// Does something here. Where a GPU can't do it, whichever way that shows, the CPU is the place from then on, and does it `otherwise`.
        pub(in crate::lstm) fn attempt<T>(
            &mut self,
            what: &str,
            first: impl FnOnce(&Device) -> Result<T, TrainError>,
            otherwise: impl FnOnce(&Device) -> Result<T, TrainError>,
        ) -> Result<T, TrainError> {
            if !self.is_gpu {
                return first(&self.device);
            }
            // What is left half done is thrown away.
            let why = match catch_unwind(AssertUnwindSafe(|| first(&self.device))) {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => brief(&error.to_string()),
                Err(panic) => words(panic.as_ref()),
            };
            gpu::gave_out(&why);
            *self =
                Self::cpu(format!("{} failed in {what}, and the CPU went on: {why}", self.on.device), true);
            otherwise(&self.device)
        }
    }

    /// What a panic said.
    pub(in crate::lstm) fn words(panic: &(dyn std::any::Any + Send)) -> String {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        brief(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it said nothing"))
    }

    /// A driver's words may be pages long.
    fn brief(text: &str) -> String {
        text.lines().next().unwrap_or_default().chars().take(300).collect()
    }
}
