use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use forefend_domain::{
    Basis, CellId, Driver, HealthScore, MetricWindow, Prediction, Probability, TimeToFailure, Windows,
};
use forefend_learn::evaluate::rules::{Among, fullest, soonest};
use forefend_predict::{DayZero, Predictor};
use serde::{Deserialize, Serialize};

/// Who watches the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// The model that is put to the test.
    Forefend,
    /// The same loop with nothing foreseen: traffic moves when the objective has been broken for as long as the policy says.
    Reactive,
    /// Nobody moves anything.
    Nothing,
    /// A resource is at [`STATIC_LEVEL`] of its limit.
    StaticThreshold,
    /// A straight line takes a resource to its limit within the horizon.
    PredictLinear,
}

/// Where most people set their alarms.
pub(crate) const STATIC_LEVEL: f64 = 0.9;

/// The newest steps through which the straight line is laid.
pub(crate) const LINE_STEPS: usize = 60;

impl Contender {
    /// Those that take a replay of their own.
    pub(crate) const REPLAYED: [Self; 4] =
        [Self::Forefend, Self::Reactive, Self::StaticThreshold, Self::PredictLinear];

    /// What it is, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Forefend => "the prediction put to the test",
            Self::Reactive => "the same loop without prediction: fails over once the objective was broken",
            Self::Nothing => "no failover at all",
            Self::StaticThreshold => "moves when a resource is at 90% of its limit",
            Self::PredictLinear => {
                "moves when a straight line through a resource's newest steps reaches its limit within the horizon"
            }
        }
    }
}

/// A rule in the place of a model: certain, or silent.
pub(crate) struct Rule(pub(crate) Contender);

impl Predictor for Rule {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        let silent = DayZero { forecast: false, ..DayZero::default() }.predict(windows, horizon)?;
        let fired = match self.0 {
            Contender::StaticThreshold => fill(windows).filter(|(share, _)| *share >= STATIC_LEVEL),
            Contender::PredictLinear => left_s(windows).filter(|(s, _)| *s <= horizon.as_secs_f64()),
            Contender::Forefend | Contender::Reactive | Contender::Nothing => None,
        };
        let Some((_, metric)) = fired else { return Some(silent) };
        let now = Some(Duration::ZERO);
        Some(Prediction {
            probability: Probability::ONE,
            time_to_failure: TimeToFailure { p10: now, p50: now, p90: now },
            health: HealthScore::from_failure(Probability::ONE),
            drivers: vec![Driver {
                metric: metric.name.clone(),
                family: metric.family,
                contribution: 1.0,
                detail: "the rule holds".to_owned(),
            }],
            basis: Basis::FirstPassage,
            ..silent
        })
    }
}

/// How full the fullest resource is.
pub(crate) fn fill(windows: &Windows) -> Option<(f64, &MetricWindow)> {
    fullest(windows, Among::Resources)
}

/// Seconds until a straight line takes a resource to its limit.
pub(crate) fn left_s(windows: &Windows) -> Option<(f64, &MetricWindow)> {
    let step_s = windows.step.as_secs_f64();
    soonest(windows, Among::Resources, LINE_STEPS).map(|(steps, metric)| (steps * step_s, metric))
}

/// Between two samples nothing new is known, and the same windows give the same prediction.
pub(crate) struct Remembering<'p> {
    predictor: &'p dyn Predictor,
    last: RefCell<BTreeMap<CellId, Said>>,
}

/// Of which windows, how far ahead, and what.
type Said = (Windows, Duration, Option<Prediction>);

impl<'p> Remembering<'p> {
    pub(crate) fn new(predictor: &'p dyn Predictor) -> Self {
        Self { predictor, last: RefCell::default() }
    }
}

impl Predictor for Remembering<'_> {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        let mut last = self.last.borrow_mut();
        if let Some((seen, of, said)) = last.get(&windows.cell)
            && *of == horizon
            && seen == windows
        {
            return said.clone();
        }
        let said = self.predictor.predict(windows, horizon);
        last.insert(windows.cell.clone(), (windows.clone(), horizon, said.clone()));
        said
    }
}
