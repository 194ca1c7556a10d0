use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{Basis, Driver, HealthScore, MetricName, Prediction, TimeToFailure, Windows};
use serde::{Deserialize, Serialize};

use super::{
    Hazard,
    features::{Seen, seen_beside},
};
use crate::{Curve, DayZero, Known, Predictor, Unusual};

/// A driver below this share is not worth a line.
const LEAST_CONTRIBUTION: f64 = 0.01;

/// A probability within the horizon below which nobody asks what drives it, and most cells stay below it.
pub(super) const WORTH_EXPLAINING: f64 = 0.005;

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
        self.predict_knowing(windows, horizon, &Known::default())
    }

    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        // How many failures are to be expected was learned too: no other prior is put in its place.
        let (first_day, _) = DayZero::default().foreseen(windows, horizon, &[None])?.pop()?;
        let unusual = known.unusual.clone().unwrap_or_else(|| Unusual::of_windows(windows));
        let known = Known { unusual: Some(unusual), ..Known::default() };
        self.beside(windows, horizon, &first_day).map(|prediction| known.told(prediction))
    }
}

impl Learned {
    /// The prediction where that of the first day, for the same horizon and any cell's prior, is there already. Its anomalies are
    /// those of the first day.
    pub(super) fn beside(
        &self,
        windows: &Windows,
        horizon: Duration,
        first_day: &Prediction,
    ) -> Option<Prediction> {
        let (prediction, cumulative) = self.point_beside(windows, horizon, first_day)?;
        let curve = Curve::new(horizon).with_probabilities(|t| self.hazard.within(&cumulative, t));
        Some(Prediction { time_to_failure: curve.time_to_failure(), curve: curve.points(), ..prediction })
    }

    /// The same without its curve and what is read off that but the probability, and P(fail ≤ edge) for each edge of the hazard.
    pub(super) fn point_beside(
        &self,
        windows: &Windows,
        horizon: Duration,
        first_day: &Prediction,
    ) -> Option<(Prediction, Vec<f64>)> {
        // Features look as far ahead as they did in training, whatever is asked for.
        let own = self.hazard.reach();
        let of_own;
        let row = if own == horizon {
            seen_beside(windows, horizon, first_day)
        } else {
            (of_own, _) = DayZero::default().foreseen(windows, own, &[None])?.pop()?;
            seen_beside(windows, own, &of_own)
        };
        let cumulative = self.hazard.cumulative(&row.values);
        let probability = Curve::new(horizon).probability_by(horizon, |t| self.hazard.within(&cumulative, t));
        let drivers = if probability.get() >= WORTH_EXPLAINING {
            self.explained(&row, windows, first_day)
        } else {
            Vec::new()
        };
        let prediction = Prediction {
            cell: first_day.cell.clone(),
            at: first_day.at,
            horizon: first_day.horizon,
            probability,
            time_to_failure: TimeToFailure::default(),
            interval: first_day.interval,
            outlooks: first_day.outlooks.clone(),
            exceeds: false,
            health: HealthScore::from_failure(probability),
            anomaly: first_day.anomaly,
            anomalies: first_day.anomalies.clone(),
            basis: Basis::Calibrated,
            drivers,
            curve: Vec::new(),
        };
        Some((prediction, cumulative))
    }

    /// The metrics behind a prediction, largest share first; the shares add up to 1.
    fn explained(&self, row: &Seen<'_>, windows: &Windows, first_day: &Prediction) -> Vec<Driver> {
        let mut parts: BTreeMap<&MetricName, f64> = BTreeMap::new();
        let sources: BTreeMap<&str, &MetricName> = self
            .hazard
            .features()
            .iter()
            .map(String::as_str)
            .zip(&row.from)
            .filter_map(|(feature, metric)| Some((feature, (*metric)?)))
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
        drivers
    }
}

pub(super) fn newest(window: &forefend_domain::MetricWindow) -> String {
    window.latest().map_or_else(
        || "not measured now".to_owned(),
        |(_, value)| crate::day_zero::quantity(value, window.unit.as_str()),
    )
}
