use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{Basis, Driver, HealthScore, MetricName, Prediction, Windows};

use super::{
    super::features::{Row, features, features_beside},
    Lstm, LstmState,
};
use crate::{Curve, DayZero, Predictor};

/// A driver below this share is not worth a line.
const LEAST_CONTRIBUTION: f64 = 0.01;

impl Lstm {
    /// One tick of one cell: takes in what the windows show now, and predicts, for features of [`super::super::feature_names`] in seconds.
    ///
    /// `None` where nothing at all was measured: then nothing is taken in either, and what is remembered stays.
    #[must_use]
    pub fn tick(
        &self,
        state: LstmState,
        windows: &Windows,
        horizon: Duration,
    ) -> (LstmState, Option<Prediction>) {
        let Some(first_day) = DayZero::default().predict(windows, horizon) else { return (state, None) };
        // Features look as far ahead as they did in training, whatever is asked for.
        let own = self.reach();
        let row = match own == horizon {
            true => features_beside(windows, horizon, &first_day),
            false => match features(windows, own) {
                Some(row) => row,
                None => return (state, None),
            },
        };
        let before = state.clone();
        let (state, hazards) = self.step(state, &row.values);
        let cumulative = self.cumulative(&hazards);
        let curve = Curve::new(horizon).with_probabilities(|t| self.within(&cumulative, t));
        let probability = curve.probability_within(horizon);
        let prediction = Prediction {
            probability,
            time_to_failure: curve.time_to_failure(),
            health: HealthScore::from_failure(probability),
            basis: Basis::Calibrated,
            drivers: self.named(&before, &row, windows, &first_day),
            curve: curve.points(),
            ..first_day
        };
        (state, Some(prediction))
    }

    /// Drivers by metric, as people read them.
    fn named(&self, before: &LstmState, row: &Row, windows: &Windows, first_day: &Prediction) -> Vec<Driver> {
        let names = self.parts.features.iter().map(String::as_str);
        let sources: BTreeMap<&str, &MetricName> =
            names.zip(&row.from).filter_map(|(feature, metric)| Some((feature, metric.as_ref()?))).collect();
        let mut parts: BTreeMap<&MetricName, f64> = BTreeMap::new();
        for (feature, part) in self.drivers(before, &row.values) {
            if let Some(metric) = sources.get(feature).filter(|_| part > 0.0) {
                *parts.entry(metric).or_default() += part;
            }
        }
        let total: f64 = parts.values().sum();
        parts.retain(|_, part| total > 0.0 && *part >= LEAST_CONTRIBUTION * total);
        let named: f64 = parts.values().sum();
        let driver = |(metric, part): (&MetricName, f64)| {
            let window = windows.metrics.get(metric)?;
            let told = first_day.drivers.iter().find(|driver| driver.metric == *metric);
            let newest = || match window.latest() {
                Some((_, value)) => crate::day_zero::quantity(value, window.unit.as_str()),
                None => "not measured now".to_owned(),
            };
            let detail = told.map_or_else(newest, |driver| driver.detail.clone());
            let (metric, family) = (metric.clone(), window.family);
            Some(Driver { metric, family, contribution: part / named, detail })
        };
        let mut drivers: Vec<Driver> = parts.into_iter().filter_map(driver).collect();
        drivers
            .sort_by(|a, b| b.contribution.total_cmp(&a.contribution).then_with(|| a.metric.cmp(&b.metric)));
        drivers
    }
}
