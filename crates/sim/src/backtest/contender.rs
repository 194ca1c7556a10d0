use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use forefend_domain::{
    Basis, CellId, Driver, HealthScore, MetricWindow, Prediction, Probability, TimeToFailure, Timestamp,
    Windows,
};
use forefend_learn::{
    evaluate::rules::{Among, fullest, soonest},
    practice::outlooks,
};
use forefend_predict::{
    DayZero, Known, Predictor,
    forecast::{LimitForecast, with_forecasts},
};
use forefend_telemetry::history::History;
use serde::{Deserialize, Serialize};

use super::Outlooks;

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

/// A model with forecasts from days of the past beside it, made anew as an engine does, of what was recorded until then.
pub(crate) struct Foreseeing<'p> {
    pub(crate) predictor: &'p dyn Predictor,
    pub(crate) history: &'p History,
    pub(crate) outlooks: Outlooks,
    /// By cell: when they are made again, and what there is.
    pub(crate) made: RefCell<BTreeMap<CellId, (Timestamp, Vec<LimitForecast>)>>,
}

impl Predictor for Foreseeing<'_> {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        self.predict_knowing(windows, horizon, &Known::default())
    }

    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        let said = self.predictor.predict_knowing(windows, horizon, known)?;
        let Some(recorded) = self.history.cells.get(&windows.cell) else { return Some(said) };
        let mut made = self.made.borrow_mut();
        let (due, forecasts) = made.entry(windows.cell.clone()).or_default();
        if windows.at >= *due {
            *due = windows.at + self.outlooks.every;
            *forecasts = outlooks(recorded, windows.at, self.outlooks.least).forecasts;
        }
        Some(with_forecasts(said, forecasts, windows))
    }
}

/// Between two samples nothing new is known, and the same windows give the same prediction: what is known beside them counts as it was when they came.
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
        self.predict_knowing(windows, horizon, &Known::default())
    }

    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        let mut last = self.last.borrow_mut();
        if let Some((seen, of, said)) = last.get(&windows.cell)
            && *of == horizon
            && seen == windows
        {
            return said.clone();
        }
        let said = self.predictor.predict_knowing(windows, horizon, known);
        last.insert(windows.cell.clone(), (windows.clone(), horizon, said.clone()));
        said
    }
}

#[cfg(test)]
mod tests {
    use forefend_domain::{Family, MetricKind, MetricName};
    use forefend_telemetry::history::{CellHistory, RecordedSeries};

    use super::*;

    const HOUR_S: u64 = 3_600;
    const BEGIN_S: u64 = 1_700_000_000;
    const HORIZON: Duration = Duration::from_secs(6 * HOUR_S);

    fn at(hour: u64) -> Timestamp {
        Timestamp::from_unix_ms((BEGIN_S + hour * HOUR_S) * 1_000)
    }

    /// Free space that goes by a tenth a day, until `turns`, an hour at which all of it is free again.
    fn history(turns: u64) -> History {
        let free = |hour: u64| if hour < turns { 1.0 - hour as f64 / 240.0 } else { 1.0 };
        let wobble = |hour: u64| (hour * 7_919 % 101) as f64 / 101.0 * 0.01;
        let series = RecordedSeries {
            family: Family::Saturation,
            kind: MetricKind::Depletable,
            unit: "ratio".to_owned(),
            limits: vec![(at(0), Some(0.0))],
            samples: (0..300).map(|hour| (at(hour), free(hour) + wobble(hour))).collect(),
        };
        let series = BTreeMap::from([(MetricName::new("free"), series)]);
        let recorded = CellHistory { service: "shop".parse().unwrap(), series };
        History {
            step: Duration::from_secs(HOUR_S),
            cells: BTreeMap::from([("a".parse().unwrap(), recorded)]),
        }
    }

    /// When the space is gone, in days, as told each hour of a past.
    fn told(history: &History, outlooks: Outlooks) -> Vec<Option<f64>> {
        let predictor = DayZero::default();
        let model = Foreseeing { predictor: &predictor, history, outlooks, made: RefCell::default() };
        let cell: CellId = "a".parse().unwrap();
        (1..200)
            .map(|hour| {
                let windows = history.windows(&cell, at(hour), 24).unwrap();
                let said = model.predict(&windows, HORIZON).unwrap();
                let gone = said.outlooks.first()?.reaches.p50?;
                Some(gone.as_secs_f64() / 86_400.0)
            })
            .collect()
    }

    #[test]
    fn forecasts_are_made_as_an_engine_makes_them_and_know_nothing_of_what_comes() {
        let outlooks = Outlooks { every: Duration::from_secs(12 * HOUR_S), ..Outlooks::default() };
        let (goes, turns) = (history(300), history(180));
        let (told, until) = (told(&goes, outlooks), told(&turns, outlooks));
        assert!(told[..71].iter().all(Option::is_none), "less than three days are known: {told:?}");
        let after_six_days = told[144].unwrap();
        assert!((after_six_days - 4.0).abs() < 1.0, "{after_six_days}");
        assert_eq!(told[..178], until[..178], "the future changes nothing");
        assert_eq!(until[190], None, "somebody made room");
        // Between two forecasts only time goes on.
        let gone = told[144].unwrap() - told[145].unwrap();
        assert!((gone - 1.0 / 24.0).abs() < 0.02, "{gone}");
    }

    #[test]
    fn what_is_known_beside_windows_counts_and_nothing_is_asked_twice_of_the_same() {
        let past = history(300);
        let windows = |hour| past.windows(&"a".parse().unwrap(), at(hour), 24).unwrap();
        let first_day = DayZero::default();
        let model = Remembering::new(&first_day);
        let p = |hour, rate: f64| {
            let known = Known { prior_rate_per_s: Some(rate), ..Known::default() };
            model.predict_knowing(&windows(hour), HORIZON, &known).unwrap().probability.get()
        };
        let (seldom, often) = (p(30, 1e-7), p(31, 1e-5));
        assert!(often > 10.0 * seldom, "{seldom} and {often}");
        assert_eq!(p(31, 1e-7), often, "as it was when the windows came");
    }
}
