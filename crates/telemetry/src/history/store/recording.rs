use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use forefend_domain::{CellId, ServiceId, Timestamp, Windows};

use super::{
    folder,
    outcome::Outcomes,
    recorder::{CellNow, Recorder, SegmentBounds},
    writer::Writer,
};
use crate::history::{
    error::HistoryError,
    load::{self, LoadOptions},
    recorded::History,
};

/// After a loss, how long nothing is tried: a full disk need not be asked every tick.
const QUIET: Duration = Duration::from_secs(10);

/// Where and how much is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingOptions {
    /// The folder, which is made if it is missing. Nobody else may write there.
    pub folder: PathBuf,
    /// The length of a step of what is recorded.
    pub step: Duration,
    /// Sealed segments that are older go.
    pub keep: Duration,
    /// The oldest go when all together are larger.
    pub max_bytes: u64,
    /// When a segment ends.
    pub segment: SegmentBounds,
}

/// The engine's own recent history, being written.
pub struct Recording {
    recorder: Recorder,
    writer: Writer,
    lost: u64,
    quiet_until: Option<Timestamp>,
}

impl Recording {
    /// Opens the store. What is there of `cells` since `since` is returned, and what could not be read of it; none of that hinders
    /// the recording.
    ///
    /// # Errors
    /// [`HistoryError`] when the folder can't be made or there can be no thread.
    pub fn open(
        options: RecordingOptions,
        now: Timestamp,
        since: Timestamp,
        cells: BTreeSet<CellId>,
    ) -> Result<(Self, Option<History>, Vec<HistoryError>), HistoryError> {
        let path = options.folder.clone();
        std::fs::create_dir_all(&path).map_err(HistoryError::write(&path))?;
        let wanted = LoadOptions {
            step: Some(options.step),
            from: Some(since),
            to: Some(now),
            cells: Some(cells),
            ..LoadOptions::default()
        };
        let (past, mut errors) = load::what_can_be_read(&path, &wanted);
        let outcomes = folder::outcomes(&path).unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        });
        let recorder = Recorder::new(options.step, options.segment, now, &Outcomes::of(outcomes));
        let writer = Writer::start(options).map_err(HistoryError::write(&path))?;
        Ok((Self { recorder, writer, lost: 0, quiet_until: None }, past, errors))
    }

    /// Begins a look at every cell, as [`Recorder::begin`] does. `false`: nothing is recorded now, and none is to be looked at.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        let is_loud = !self.is_quiet(now);
        if is_loud {
            self.recorder.begin(now);
        }
        is_loud
    }

    /// Takes what is aligned of one cell.
    pub fn look(&mut self, of_cell: &Windows, service: Option<&ServiceId>) {
        self.recorder.look(of_cell, service);
    }

    /// Every cell has been looked at.
    pub fn end(&mut self) {
        self.recorder.end();
    }

    /// Takes what became of cells, and hands all over to be written. Never waits.
    pub fn outcomes(&mut self, now: Timestamp, cells: &[CellNow]) {
        if self.is_quiet(now) {
            return;
        }
        self.recorder.outcomes(now, cells);
        let batch = self.recorder.take_batch();
        if !batch.bytes.is_empty() {
            self.writer.write(batch);
        }
        let lost = self.writer.status().lost;
        if lost > self.lost {
            self.lost = lost;
            self.recorder.lost();
            self.quiet_until = Some(now + QUIET);
        }
    }

    /// Waits until all that was taken is written, or lost. Not for the loop; dropping it waits too.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// What does not work at the moment, in words.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.writer.status().problem.map(|why| format!("telemetry is not recorded as it should be: {why}"))
    }

    fn is_quiet(&self, now: Timestamp) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }
}
