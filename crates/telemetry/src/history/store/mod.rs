//! The engine's own recent history: what it saw, on disk, so that a successor and the training can see it too.
//!
//! The loop hands over what was newly aligned; [`Recorder`] (pure) makes bytes of it; a thread appends them to the *journal*, the present
//! segment. Full or old journals are *sealed*: written as Parquet and removed. The folder is a source like any other ([`super::load`]), also
//! while it is written. Start from [`Recording`].

pub(super) mod folder;
mod journal;
mod outcome;
mod recorder;
mod recording;
mod writer;

pub use journal::{JournalEnd, Sampled, read_journal};
pub use outcome::{Absence, Happened, Outcome, Outcomes};
pub use recorder::{Batch, CellNow, Recorder, SegmentBounds};
pub use recording::{Recording, RecordingOptions};
