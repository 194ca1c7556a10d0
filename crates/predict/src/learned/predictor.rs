use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{Basis, Driver, HealthScore, MetricName, Prediction, Windows};
use serde::{Deserialize, Serialize};

use super::{
    Hazard,
    features::{features, features_beside},
};
use crate::{Curve, DayZero, Predictor};

/// A driver below this share is not worth a line.
const LEAST_CONTRIBUTION: f64 = 0.01;

/// A model that learned from failures, over features that carry over between services.
///
/// What the model of the first day foresees is one of its features; where nothing could be learned from a metric with a limit, that feature
/// still speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Learned {
    /// Over the features of [`super::feature_names`], in seconds.
    pub hazard: Hazard,
}

impl Predictor for Learned {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        let first_day = DayZero::default().predict(windows, horizon)?;
        // Features look as far ahead as they did in training, whatever is asked for.
        let own = self.hazard.reach();
        let row = if own == horizon {
            features_beside(windows, horizon, &first_day)
        } else {
            features(windows, own)?
        };
        let cumulative = self.hazard.cumulative(&row.values);
        let curve = Curve::new(horizon).with_probabilities(|t| self.hazard.within(&cumulative, t));
        let probability = curve.probability_within(horizon);
        let mut parts: BTreeMap<&MetricName, f64> = BTreeMap::new();
        let sources: BTreeMap<&str, &MetricName> = self
            .hazard
            .features()
            .iter()
            .map(String::as_str)
            .zip(&row.from)
            .filter_map(|(feature, metric)| Some((feature, metric.as_ref()?)))
            .collect();
        for (feature, part) in self.hazard.drivers(&row.values) {
            if let Some(metric) = sources.get(feature).filter(|_| part > 0.0) {
                *parts.entry(metric).or_default() += part;
            }
        }
        let total: f64 = parts.values().sum();
        let mut drivers: Vec<Driver> = parts
            .into_iter()
            .filter(|(_, part)| total > 0.0 && *part >= LEAST_CONTRIBUTION * total)
            .filter_map(|(metric, part)| {
                let window = windows.metrics.get(metric)?;
                let told = first_day.drivers.iter().find(|driver| driver.metric == *metric);
                let detail = told.map_or_else(|| newest(window), |driver| driver.detail.clone());
                let (metric, family) = (metric.clone(), window.family);
                Some(Driver { metric, family, contribution: part / total, detail })
            })
            .collect();
        let named: f64 = drivers.iter().map(|d| d.contribution).sum();
        drivers.iter_mut().for_each(|d| d.contribution /= named);
        drivers
            .sort_by(|a, b| b.contribution.total_cmp(&a.contribution).then_with(|| a.metric.cmp(&b.metric)));
        Some(Prediction {
            probability,
            time_to_failure: curve.time_to_failure(),
            health: HealthScore::from_failure(probability),
            basis: Basis::Calibrated,
            drivers,
            curve: curve.points(),
            ..first_day
        })
    }
}

fn newest(window: &forefend_domain::MetricWindow) -> String {
    window.latest().map_or_else(
        || "not measured now".to_owned(),
        |(_, value)| crate::day_zero::quantity(value, window.unit.as_str()),
    )
}
