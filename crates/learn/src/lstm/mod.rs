//! Training of a long short-term memory that says hazards ([`Lstm`](forefend_predict::learned::Lstm)), and the file that it is kept in.
//!
//! A cell's rows, in the order in which they were seen and as far apart as ticks are, make one sequence. The network reads a sequence from
//! its beginning, as it will in service, and what it remembers is carried from one span of steps to the next (truncated
//! backpropagation through time; Williams & Peng 1990). After each row its hazards are judged by the likelihood of what was watched from there on, where what was lost
//! sight of counts for as long as it was seen (Gensheimer & Narasimhan 2019, <https://doi.org/10.7717/peerj.6257>). Rare failures get no more weight
//! than they have: probabilities would be wrong.
//!
//! Training needs the feature `lstm`, for it brings the ML framework, and `gpu` to do it on a GPU; models are served and files read without.

mod file;
mod place;
mod settings;

#[cfg(feature = "lstm")]
mod gpu;
#[cfg(feature = "lstm")]
mod network;
#[cfg(feature = "lstm")]
mod sequence;
#[cfg(feature = "lstm")]
mod train;

pub use file::{FileError, from_bytes, to_bytes};
#[cfg(feature = "lstm")]
pub(crate) use place::note;
pub use place::{DeviceChoice, TrainedOn};
pub use settings::Settings;
#[cfg(feature = "lstm")]
pub use train::{Trained, train};
