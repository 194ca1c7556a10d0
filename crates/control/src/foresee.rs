//! From the windows of every cell to its prediction, one cell after the other: the windows of a whole fleet at once would be many
//! times larger than everything else that the loop holds.

use std::collections::{BTreeMap, BTreeSet};

use forefend_domain::{
    CellId, CellView, LifeState, Prediction, Service, ServiceId, ServiceView, Timestamp, Windows,
    ports::{DataGate, TelemetrySource},
};
use forefend_predict::{Fleet, Hazards, Known, Place, Predictor, Unusual};

use crate::{limits::LimitKeeper, observe, persisted::Persisted};

/// What is remembered between ticks to foresee. How often cells failed is stored with the memory of decisions; what is usual
/// of them comes back by itself from their telemetry.
#[derive(Debug)]
pub(crate) struct Foresight {
    fleet: Fleet,
    limits: LimitKeeper,
}

/// What is foreseen in a tick, as far as it has come.
pub(crate) struct Foreseen<'a> {
    now: Timestamp,
    /// Cells whose windows have not come yet.
    waiting: BTreeMap<CellId, (&'a Service, &'a mut CellView)>,
    predictions: BTreeMap<CellId, Prediction>,
    learned: Vec<(ServiceId, String)>,
}

impl<'a> Foreseen<'a> {
    /// Nothing yet of these services.
    pub(crate) fn of(now: Timestamp, services: &'a mut BTreeMap<ServiceId, ServiceView>) -> Self {
        let waiting = services
            .values_mut()
            .flat_map(|view| {
                let service = &view.service;
                view.cells.iter_mut().map(move |(id, cell)| (id.clone(), (service, cell)))
            })
            .collect();
        Self { now, waiting, predictions: BTreeMap::new(), learned: Vec::new() }
    }
}

impl Foreseen<'_> {
    /// The predictions, and the limits that were learned, in words.
    pub(crate) fn done(self) -> (BTreeMap<CellId, Prediction>, Vec<(ServiceId, String)>) {
        (self.predictions, self.learned)
    }
}

impl Foresight {
    /// Takes up where the store's memory ends.
    pub(crate) fn new(kept: &Persisted) -> Self {
        Self { fleet: Fleet::new(kept.hazards.clone()), limits: LimitKeeper::default() }
    }

    /// What is to be stored.
    pub(crate) fn hazards(&self) -> Hazards {
        self.fleet.hazards().to_keep()
    }

    /// Forgets cells that are no more.
    pub(crate) fn keep_only(&mut self, known: &BTreeSet<CellId>) {
        self.fleet.keep_only(|cell| known.contains(cell));
    }

    /// Looks at every cell's windows, completes what is seen of it, and predicts.
    pub(crate) fn look<P: Predictor>(
        &mut self,
        predictor: &P,
        foreseen: &mut Foreseen<'_>,
        telemetry: &mut dyn TelemetrySource,
        gate: &mut dyn DataGate,
        kept: &mut Persisted,
    ) {
        telemetry.each_windows(foreseen.now, &mut |windows| {
            if let Some((service, view)) = foreseen.waiting.remove(&windows.cell) {
                self.cell(predictor, (service, view), windows, foreseen, (&mut *gate, &mut *kept));
            }
        });
        for (service, view) in std::mem::take(&mut foreseen.waiting).into_values() {
            observe::complete(view, &service.policy, None, gate);
        }
        // Only now has every sibling been seen.
        for (cell, prediction) in &mut foreseen.predictions {
            if let Some(unusual) = self.fleet.unusual(cell) {
                let known = Known { unusual: Some(unusual), ..Known::default() };
                known.tell(prediction);
            }
        }
    }

    fn cell<P: Predictor>(
        &mut self,
        predictor: &P,
        (service, view): (&Service, &mut CellView),
        windows: &mut Windows,
        foreseen: &mut Foreseen<'_>,
        (gate, kept): (&mut dyn DataGate, &mut Persisted),
    ) {
        observe::complete(view, &service.policy, Some(windows), gate);
        let new = self.limits.learn(view, windows, &mut kept.limits);
        foreseen.learned.extend(new.into_iter().map(|what| (service.id.clone(), what)));
        let place = Place {
            service: &service.id,
            role: view.cell.role,
            zone: &view.cell.zone,
            failed: view.objective.is_failed() || view.life == LifeState::Failed,
        };
        self.fleet.observe(windows, &place);
        let horizon = service.policy.horizon;
        let prior = self.fleet.prior_rate_per_s(&windows.cell, &place, windows.at, horizon);
        // How unusual it is is told when its siblings have been seen too.
        let known = Known { prior_rate_per_s: Some(prior), unusual: Some(Unusual::default()) };
        if let Some(prediction) = predictor.predict_knowing(windows, horizon, &known) {
            foreseen.predictions.insert(windows.cell.clone(), prediction);
        }
    }
}
