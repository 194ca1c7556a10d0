//! What the engine records of telemetry, and takes up again after a start.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use forefend_config::Config;
use forefend_control::Snapshot;
use forefend_domain::{
    CellId, ServiceId, Timestamp, Weight, Windows,
    ports::{ProbeOutcome, TelemetrySource},
};
use forefend_telemetry::{
    Collector,
    history::store::{CellNow, Recording, RecordingOptions, SegmentBounds},
};

use super::ports::Telemetry;

/// The loop's telemetry, of which all that passes is recorded.
pub(crate) struct Recorded {
    recording: Option<Recording>,
    /// Why there is none, if there should be.
    refused: Option<String>,
    services: BTreeMap<CellId, ServiceId>,
    told: Option<String>,
}

impl Recorded {
    /// Opens the record, and gives the windows of `collector` what it holds of the cells that the file declares. What does not work is told
    /// with every snapshot and hinders no start.
    pub(crate) fn start(config: &Config, state_dir: &Path, collector: &Collector, now: Timestamp) -> Self {
        let services: BTreeMap<CellId, ServiceId> =
            config.cells().into_iter().map(|of| (of.cell.id, of.cell.service)).collect();
        let mut recorded = Self { recording: None, refused: None, services, told: None };
        let (history, window) = (&config.engine.history, &config.engine.window);
        if !history.enabled {
            return recorded;
        }
        let options = RecordingOptions {
            folder: state_dir.join("history"),
            step: window.step,
            keep: history.keep,
            max_bytes: history.size.0,
            segment: SegmentBounds::default(),
        };
        let cells: BTreeSet<CellId> = recorded.services.keys().cloned().collect();
        match Recording::open(options, now, now - window.length, cells) {
            Ok((recording, past, errors)) => {
                for error in errors {
                    tracing::warn!(%error, "a part of the recorded telemetry can't be read and is left out");
                }
                let metrics = past.map_or(0, |past| collector.restore(&past));
                tracing::info!(metrics, "windows go on with what was recorded");
                recorded.recording = Some(recording);
            }
            Err(error) => recorded.refused = Some(format!("telemetry is not recorded: {error}")),
        }
        recorded
    }

    /// What the loop reads its telemetry through.
    pub(crate) fn over(&mut self, telemetry: Telemetry) -> Tee<'_> {
        Tee { telemetry, recorded: self }
    }

    /// Records what became of cells, and tells what does not work.
    pub(crate) fn after(&mut self, snapshot: &mut Snapshot) {
        let Some(recording) = &mut self.recording else {
            self.tell(self.refused.clone(), snapshot);
            return;
        };
        let away: BTreeMap<&CellId, Weight> =
            snapshot.shifts.iter().map(|shift| (&shift.from, shift.moved)).collect();
        let views = snapshot.world.services.values().flat_map(|service| &service.cells);
        let cells: Vec<CellNow> = views
            .map(|(id, view)| CellNow {
                cell: id.clone(),
                objective: view.objective,
                away: away.get(id).copied().unwrap_or(Weight::ZERO),
            })
            .collect();
        recording.outcomes(snapshot.world.now, &cells);
        let problem = recording.problem();
        // Cells that were made since belong to services too.
        for (service, view) in &snapshot.world.services {
            for cell in view.cells.keys() {
                if self.services.get(cell) != Some(service) {
                    self.services.insert(cell.clone(), service.clone());
                }
            }
        }
        self.services.retain(|cell, service| {
            snapshot.world.services.get(service).is_none_or(|view| view.cells.contains_key(cell))
        });
        self.tell(problem, snapshot);
    }

    fn tell(&mut self, problem: Option<String>, snapshot: &mut Snapshot) {
        if problem != self.told {
            match &problem {
                Some(problem) => tracing::error!("{problem}"),
                None => tracing::info!("telemetry is recorded again"),
            }
            self.told.clone_from(&problem);
        }
        snapshot.degraded.extend(problem);
    }
}

/// Telemetry on its way to the loop.
pub(crate) struct Tee<'a> {
    telemetry: Telemetry,
    recorded: &'a mut Recorded,
}

impl TelemetrySource for Tee<'_> {
    fn windows(&mut self, now: Timestamp) -> Vec<Windows> {
        let mut all = Vec::new();
        self.each_windows(now, &mut |windows| all.push(windows.clone()));
        all
    }

    fn each_windows(&mut self, now: Timestamp, look: &mut dyn FnMut(&mut Windows)) {
        let Recorded { recording, services, .. } = &mut *self.recorded;
        let mut recording =
            recording.as_mut().and_then(|recording| recording.begin(now).then_some(recording));
        self.telemetry.each_windows(now, &mut |windows| {
            if let Some(recording) = &mut recording {
                // First, for whoever looks may change them.
                recording.look(windows, services.get(&windows.cell));
            }
            look(windows);
        });
        if let Some(recording) = recording {
            recording.end();
        }
    }

    fn probes(&mut self) -> Vec<ProbeOutcome> {
        self.telemetry.probes()
    }
}
