//! One fleet, ticked by the real loop: a process of its own, so that its memory is its own.

use std::{
    io::{BufRead, Write},
    time::Duration,
};

use anyhow::{Context, Result};
use forefend_control::{Controller, Ports};
use forefend_predict::{
    Known, Predictor, Unusual,
    learned::{Lately, Remembering, hazards_after},
};
use forefend_store::MemoryStore;
use forefend_telemetry::{
    MetricSpec, SeriesStore, StoreOptions,
    exposition::{Format, Limits, parse},
};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::{
    fleet::{self, LENGTH, TICK},
    model,
    world::{NoDriver, Now, Open, Plane, Telemetry},
};

/// Ticks before anything is counted.
const WARM_UP: u32 = 3;
/// Ticks of a round.
const TICKS: u32 = 2;
/// Cells whose scrapes are parsed and recorded under the clock.
const SCRAPED: usize = 1_000;

/// What one round cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Round {
    /// CPU seconds of a tick.
    pub(crate) tick_s: f64,
    /// CPU seconds of parsing and recording what arrives between two ticks.
    pub(crate) ingest_s: f64,
    /// Of a tick, what making windows takes when it is done alone.
    pub(crate) windows_s: f64,
    /// Of a tick, what predicting takes when it is done alone.
    pub(crate) predict_s: f64,
    /// The share of cells about which the memory is asked.
    pub(crate) lstm_share: f64,
    /// CPU microseconds that one of them takes beside what all take.
    pub(crate) lstm_us: f64,
    /// Resident memory at its highest, less that of the process before there was a fleet.
    pub(crate) kib_per_cell: f64,
}

/// CPU time of this thread.
fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begin = cpu()?;
    let done = work()?;
    Ok((done, (cpu()? - begin).as_secs_f64()))
}

/// A line of `/proc/self/status`, in KiB.
fn status(field: &str) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such line")?;
    Ok(line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?)
}

/// Says "ready", then answers every line with a round, until there are no more.
///
/// # Errors
/// When the fleet can't be made or the loop does not start.
pub(crate) fn serve(cells: usize) -> Result<()> {
    // What learning leaves behind counts as the fleet's: an allocator would hand it on unseen.
    let before_kib = status("VmRSS")?;
    let predictor = model::learned()?;
    let mut fleet = Fleet::new(cells, predictor)?;
    for _ in 0..WARM_UP {
        fleet.arrive()?;
        fleet.tick()?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let round = fleet.round(before_kib)?;
        writeln!(out, "{}", serde_json::to_string(&round)?)?;
        out.flush()?;
    }
    Ok(())
}

/// What parts of a tick take when they are done alone.
struct Parts {
    windows_s: f64,
    predict_s: f64,
    lstm_share: f64,
    lstm_us: f64,
}

struct Fleet {
    specs: Vec<MetricSpec>,
    totals: Vec<Vec<f64>>,
    step: u64,
    telemetry: Telemetry,
    plane: Plane,
    store: MemoryStore,
    controller: Controller<Remembering>,
    predictor: Remembering,
}

impl Fleet {
    fn new(cells: usize, predictor: Remembering) -> Result<Self> {
        let options =
            StoreOptions { step: TICK, length: LENGTH, max_cells: cells.max(1), ..StoreOptions::default() };
        let ids = (0..cells).map(fleet::cell_id).collect::<Result<Vec<_>>>()?;
        let mut store = MemoryStore::default();
        let controller =
            Controller::new(predictor.clone(), fleet::topology(cells)?, (TICK, TICK), &mut store)?;
        let now = fleet::instant(0);
        let telemetry = Telemetry { store: SeriesStore::new(options), cells: ids.clone(), now };
        let totals = vec![vec![0.0; fleet::counters()]; cells];
        let plane = Plane { cells: ids, ..Plane::default() };
        let mut fleet =
            Self { specs: fleet::specs(), totals, step: 0, telemetry, plane, store, controller, predictor };
        for _ in 0..LENGTH {
            fleet.arrive()?;
        }
        Ok(fleet)
    }

    /// The telemetry of a step arrives.
    fn arrive(&mut self) -> Result<()> {
        self.step += 1;
        let at = fleet::instant(self.step);
        let mut values = Vec::new();
        for (n, totals) in self.totals.iter_mut().enumerate() {
            fleet::values(n, self.step, totals, &mut values);
            for (spec, value) in self.specs.iter().zip(&values) {
                self.telemetry.store.record(&self.telemetry.cells[n], spec, at, Some(*value))?;
            }
        }
        self.telemetry.now = at;
        Ok(())
    }

    fn tick(&mut self) -> Result<f64> {
        let clock = Now(fleet::instant(self.step));
        let mut ports = Ports {
            clock: &clock,
            telemetry: &mut self.telemetry,
            data_plane: &mut self.plane,
            cells: &mut NoDriver,
            gate: &mut Open,
            store: &mut self.store,
        };
        let controller = &mut self.controller;
        // The snapshot is what the API holds until the next tick; giving it back is part of the price.
        let ((), took) = timed(|| {
            drop(controller.tick(&mut ports));
            Ok(())
        })?;
        Ok(took)
    }

    fn round(&mut self, before_kib: f64) -> Result<Round> {
        std::fs::write("/proc/self/clear_refs", "5").context("the highest memory can't be reset")?;
        let mut tick_s = 0.0;
        for _ in 0..TICKS {
            self.arrive()?;
            tick_s += self.tick()? / f64::from(TICKS);
        }
        let kib_per_cell = (status("VmHWM")? - before_kib) / self.totals.len() as f64;
        let Parts { windows_s, predict_s, lstm_share, lstm_us } = self.parts()?;
        let ingest_s = self.ingest()?;
        Ok(Round { tick_s, ingest_s, windows_s, predict_s, lstm_share, lstm_us, kib_per_cell })
    }

    /// Windows alone, what predictions take beside them, cell by cell as in a tick, and the memory of some cells.
    fn parts(&mut self) -> Result<Parts> {
        let now = fleet::instant(self.step);
        let store = &mut self.telemetry.store;
        let (_, windows_s) = timed(|| {
            store.each_windows(now, &mut |windows| {
                std::hint::black_box(&*windows);
            });
            Ok(())
        })?;
        let horizon = model::HORIZON;
        let mut sum = 0.0;
        let predictor = &self.predictor;
        // As in a tick: how unusual a cell is is told by the fleet's memory.
        let known = Known { unusual: Some(Unusual::default()), ..Known::default() };
        let (_, both_s) = timed(|| {
            store.each_windows(now, &mut |windows| {
                let said = predictor.predict_knowing(windows, horizon, &known);
                sum += said.map_or(0.0, |said| said.probability.get());
            });
            Ok(())
        })?;
        std::hint::black_box(sum);
        let some = SCRAPED.min(self.totals.len());
        let memory = predictor.parts();
        let (mut seen, mut suspects, mut lstm_s) = (0, 0, Ok(0.0));
        // Not of windows that were kept for it: they would count as the fleet's.
        store.each_windows(now, &mut |windows| {
            seen += 1;
            let Ok(so_far) = lstm_s.as_ref().copied().map_err(drop) else { return };
            if seen > some {
                return;
            }
            let below = memory.below.as_ref().and_then(|below| below.predict(windows, horizon));
            suspects += usize::from(below.is_some_and(|below| predictor.is_suspect(&below)));
            let asked = timed(|| {
                Ok(std::hint::black_box(hazards_after(&memory.lstm, &Lately::of(windows, memory.steps).rows)))
            });
            lstm_s = asked.map(|(_, took)| so_far + took);
        });
        let (lstm_share, lstm_us) = (suspects as f64 / some as f64, lstm_s? * 1e6 / some as f64);
        Ok(Parts { windows_s, predict_s: both_s - windows_s, lstm_share, lstm_us })
    }

    /// Parses and records the scrapes of some cells, and scales what that took to all.
    fn ingest(&mut self) -> Result<f64> {
        self.step += 1;
        let at = fleet::instant(self.step);
        let cells = self.totals.len();
        let some = SCRAPED.min(cells);
        let mut values = Vec::new();
        let mut bodies = Vec::new();
        for (n, totals) in self.totals.iter_mut().enumerate() {
            fleet::values(n, self.step, totals, &mut values);
            if n < some {
                bodies.push(fleet::body(&values));
                continue;
            }
            for (spec, value) in self.specs.iter().zip(&values) {
                self.telemetry.store.record(&self.telemetry.cells[n], spec, at, Some(*value))?;
            }
        }
        let limits = Limits::default();
        let (_, took) = timed(|| {
            for (cell, body) in self.telemetry.cells.iter().zip(&bodies) {
                let exposition = parse(body.as_bytes(), Format::Text, &limits)?;
                for ((_, sample), spec) in exposition.samples().zip(&self.specs) {
                    self.telemetry.store.record(cell, spec, at, Some(sample.value))?;
                }
            }
            Ok(())
        })?;
        self.telemetry.now = at;
        Ok(took * cells as f64 / some as f64)
    }
}
