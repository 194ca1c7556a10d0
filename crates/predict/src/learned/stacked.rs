use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{Driver, HealthScore, MetricName, Prediction, Windows};
use serde::{Deserialize, Serialize};

use super::{Beyond, Hazard, Learned, beyond::Exceeded};
use crate::{Curve, DayZero, Known, Levels, Predictor, Unusual, curve::log_odds};

/// What was learned and what the model of the first day says, on one curve: at every time the log odds of both are averaged (a logarithmic
/// opinion pool; Genest & Zidek, Statistical Science 1, 1986, <https://doi.org/10.1214/ss/1177013825>).
///
/// Of failures of a kind that was never seen, limits and trends tell as much as ever; of others, experience tells more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stacked {
    /// What was learned.
    pub learned: Learned,
    /// How much what was learned counts, from 0 to 1. What is outside is taken to be the nearer end.
    pub share: f64,
    /// Where the curve of both is read for the ends of the time to failure, from failures that were held out; `None`: too few of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Levels>,
    /// What cells that stayed well never held, a cause of its own beside both; `None`: too little is known, or it foretells nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<Beyond>,
}

impl Predictor for Stacked {
    fn predict(&self, windows: &Windows, horizon: Duration) -> Option<Prediction> {
        self.predict_knowing(windows, horizon, &Known::default())
    }

    fn predict_knowing(&self, windows: &Windows, horizon: Duration, known: &Known) -> Option<Prediction> {
        // The prior of the cell counts once: in the model of the first day. What was learned has its own.
        let mut first_days =
            DayZero::default().foreseen(windows, horizon, &[None, known.prior_rate_per_s])?.into_iter();
        let ((of_any, _), (of_this, curve)) = (first_days.next()?, first_days.next()?);
        let (learned, cumulative) = self.learned.point_beside(windows, horizon, &of_any)?;
        let odds = [odds(&self.learned.hazard, &cumulative, horizon), curve.log_odds().to_vec()];
        let unusual = known.unusual.clone().unwrap_or_else(|| Unusual::of_windows(windows));
        let known = Known { unusual: Some(unusual), ..Known::default() };
        let beyond = self.beyond.as_ref().and_then(|beyond| Some((beyond, Some(beyond.exceeded(windows)?))));
        let beside = (self.levels.as_ref(), beyond);
        let pooled = Self::pooled(self.share, (learned, &of_this), odds, horizon, beside);
        Some(known.told(pooled))
    }
}

impl Stacked {
    /// Puts two predictions for the same horizon on one curve, the first with this share, and adds what cells never held that stayed well where
    /// the cell does. The metric behind that is not named.
    #[must_use]
    pub fn pool(
        share: f64,
        learned: Prediction,
        first_day: &Prediction,
        horizon: Duration,
        exceeded: Option<&Beyond>,
    ) -> Prediction {
        Self::pool_at(share, (learned, first_day), horizon, (None, exceeded))
    }

    /// The same, with the levels at which the ends of the interval are read.
    pub(super) fn pool_at(
        share: f64,
        (learned, first_day): (Prediction, &Prediction),
        horizon: Duration,
        (levels, exceeded): (Option<&Levels>, Option<&Beyond>),
    ) -> Prediction {
        let grid = Curve::new(horizon);
        // Both curves stand on the grid of this horizon, which is asked for in its order.
        let odds = [&learned, first_day].map(|said| {
            let mut curve = said.curve.as_slice();
            grid.times_s().iter().map(|t| log_odds(at(&mut curve, *t))).collect()
        });
        let beside = (levels, exceeded.map(|beyond| (beyond, None)));
        Self::pooled(share, (learned, first_day), odds, horizon, beside)
    }

    /// The same of what a hazard says, by the way on which it is served: without drawing its curve. `learned` tells what it is of; its probability and curve are not looked at.
    #[must_use]
    pub fn pool_hazard(
        share: f64,
        (hazard, cumulative): (&Hazard, &[f64]),
        learned: Prediction,
        first_day: &Prediction,
        horizon: Duration,
        exceeded: Option<&Beyond>,
    ) -> Prediction {
        let mut curve = first_day.curve.as_slice();
        let of_first_day =
            Curve::new(horizon).times_s().iter().map(|t| log_odds(at(&mut curve, *t))).collect();
        let odds = [odds(hazard, cumulative, horizon), of_first_day];
        let beside = (None, exceeded.map(|beyond| (beyond, None)));
        Self::pooled(share, (learned, first_day), odds, horizon, beside)
    }

    /// The same of the log odds of both at each time of the grid, whether their curves are drawn or not.
    fn pooled(
        share: f64,
        (learned, first_day): (Prediction, &Prediction),
        [of_learned, of_first_day]: [Vec<f64>; 2],
        horizon: Duration,
        (levels, beyond): (Option<&Levels>, Option<(&Beyond, Option<Exceeded<'_>>)>),
    ) -> Prediction {
        let share = if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) };
        let (mut curve, mut points) =
            Curve::new(horizon).with_log_odds(|n| share * of_learned[n] + (1.0 - share) * of_first_day[n]);
        let horizon_s = horizon.as_secs_f64();
        let of_both = curve.hazard_at(horizon_s);
        if let Some((beyond, _)) = beyond {
            curve.add(&beyond.curve(horizon));
            points = curve.points();
        }
        let probability = curve.probability_within(horizon);
        let mut drivers: BTreeMap<MetricName, Driver> = BTreeMap::new();
        for (of, share) in [(&learned, share), (first_day, 1.0 - share)] {
            for driver in of.drivers.iter().filter(|_| share > 0.0) {
                let part = share * driver.contribution;
                drivers
                    .entry(driver.metric.clone())
                    .and_modify(|known| known.contribution += part)
                    .or_insert_with(|| Driver { contribution: part, ..driver.clone() });
            }
        }
        let named: f64 = drivers.values().map(|driver| driver.contribution).sum();
        if let Some((_, Some(exceeded))) = beyond {
            let both = of_both / curve.hazard_at(horizon_s).max(f64::MIN_POSITIVE);
            drivers.values_mut().for_each(|driver| driver.contribution *= both);
            let driver = exceeded.driver(named.max(LEAST_NAMED) * (1.0 - both));
            drivers
                .entry(driver.metric.clone())
                .and_modify(|known| {
                    if driver.contribution > known.contribution {
                        known.detail.clone_from(&driver.detail);
                    }
                    known.contribution += driver.contribution;
                })
                .or_insert_with(|| driver.clone());
        }
        let named: f64 = drivers.values().map(|driver| driver.contribution).sum();
        let mut drivers: Vec<Driver> = drivers.into_values().collect();
        drivers.iter_mut().filter(|_| named > 0.0).for_each(|driver| driver.contribution /= named);
        drivers
            .sort_by(|a, b| b.contribution.total_cmp(&a.contribution).then_with(|| a.metric.cmp(&b.metric)));
        let (time_to_failure, interval) = Levels::told(levels, &curve);
        Prediction {
            probability,
            time_to_failure,
            interval,
            health: HealthScore::from_failure(probability),
            drivers,
            curve: points,
            exceeds: beyond.is_some(),
            ..learned
        }
    }
}

/// The log odds of having failed by each time of the grid, by a hazard.
fn odds(hazard: &Hazard, cumulative: &[f64], horizon: Duration) -> Vec<f64> {
    Curve::new(horizon).times_s().iter().map(|t| log_odds(hazard.within(cumulative, *t))).collect()
}

/// What the others' drivers come to where nothing was worth naming, beside one that is.
const LEAST_NAMED: f64 = 1e-9;

/// The probability of a curve at the first of its times that is not before `t`, or at its last; what lies before is left behind.
fn at(curve: &mut &[(f64, f64)], t: f64) -> f64 {
    while let [(time, _), rest @ ..] = *curve
        && *time < t
        && !rest.is_empty()
    {
        *curve = rest;
    }
    curve.first().map_or(0.0, |(_, p)| *p)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use forefend_domain::{CellId, Family, Interval, MetricKind, MetricWindow, Sample, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::learned::{BeyondParts, Calibration, Linear, Scorer, feature_names};

    const HORIZON: Duration = Duration::from_secs(30);

    /// A model that takes fullness of saturation, and how fast it grows, for all there is to know.
    fn learned() -> Learned {
        let names = feature_names();
        let weight = |name: &String| match name.as_str() {
            "saturation.fill.max" => 6.0,
            "saturation.pace.max" => 1.5,
            _ => 0.0,
        };
        let mut weights: Vec<f32> = names.iter().map(weight).collect();
        weights.extend([0.5; 2]);
        let zeros = vec![0.0; weights.len()];
        let ones = vec![1.0; weights.len()];
        let linear = Linear::new(-6.0, weights, zeros, ones).unwrap();
        let edges = vec![5.0, 15.0, 30.0];
        let hazard = Hazard::new(edges, names, Scorer::Linear(linear), Calibration::Identity).unwrap();
        Learned { hazard }
    }

    fn windows(values: &[f64]) -> Windows {
        let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
        let samples = values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: Some(*v) }).collect();
        let name = MetricName::new("memory");
        let metric = MetricWindow {
            name: name.clone(),
            family: Family::Saturation,
            kind: MetricKind::Exhaustible,
            unit: "bytes".into(),
            limit: Some(100.0),
            samples,
        };
        Windows {
            cell: CellId::new("a").unwrap(),
            at: at(values.len() - 1),
            step: Duration::from_millis(500),
            metrics: BTreeMap::from([(name, metric)]),
        }
    }

    proptest! {
        #[test]
        fn the_ends_are_the_two_models_and_between_lies_between(
            from in 5.0f64..60.0,
            slope in 0.0f64..0.5,
            share in 0.0f64..1.0,
        ) {
            let windows = windows(&(0..60).map(|n| from + slope * f64::from(n)).collect::<Vec<_>>());
            let p = |share: f64| {
                let said = Stacked { learned: learned(), share, levels: None, beyond: None }.predict(&windows, HORIZON).unwrap();
                let named: f64 = said.drivers.iter().map(|driver| driver.contribution).sum();
                assert!(said.drivers.is_empty() || (named - 1.0).abs() < 1e-9);
                assert!(said.time_to_failure.is_ordered());
                assert!(said.curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
                said.probability.get()
            };
            let alone = learned().predict(&windows, HORIZON).unwrap().probability.get();
            let first_day = DayZero::default().predict(&windows, HORIZON).unwrap().probability.get();
            prop_assert!((p(1.0) - alone).abs() < 1e-6, "{} and {alone}", p(1.0));
            prop_assert!((p(0.0) - first_day).abs() < 1e-6, "{} and {first_day}", p(0.0));
            let (low, high) = (alone.min(first_day) - 1e-6, alone.max(first_day) + 1e-6);
            prop_assert!((low..=high).contains(&p(share)), "{} is not between {low} and {high}", p(share));
        }
    }

    #[test]
    fn what_was_learned_does_not_change_with_the_horizon_that_is_asked_for() {
        let windows = windows(&(0..60).map(|n| 30.0 + 0.4 * f64::from(n)).collect::<Vec<_>>());
        let p = |horizon: u64| {
            learned().predict(&windows, Duration::from_secs(horizon)).unwrap().probability.get()
        };
        let far = learned().predict(&windows, HORIZON).unwrap().curve;
        let at = far.partition_point(|(t, _)| *t < 15.0);
        let (before, after) = (far[at - 1].1, far[at].1);
        assert!(p(15) > before - 1e-6 && p(15) < after + 1e-6, "{} is not from {before} to {after}", p(15));
        assert!(p(15) < p(30));
    }

    #[test]
    fn levels_move_the_ends_and_nothing_else() {
        let windows = windows(&(0..60).map(|n| 40.0 + 0.75 * f64::from(n)).collect::<Vec<_>>());
        let said = |levels: Option<Levels>| {
            Stacked { learned: learned(), share: 0.5, levels, beyond: None }
                .predict(&windows, HORIZON)
                .unwrap()
        };
        let (plain, moved) = (said(None), said(Some(Levels::new(0.02, 0.97))));
        assert_eq!((plain.interval, moved.interval), (Interval::Plain, Interval::Calibrated));
        let (before, after) = (plain.time_to_failure, moved.time_to_failure);
        assert!(after.p10.unwrap() < before.p10.unwrap() && after.p50 == before.p50 && after.is_ordered());
        assert_eq!((&plain.curve, plain.probability), (&moved.curve, moved.probability));
        // A model that was kept before there were levels is read as it was.
        let text =
            serde_json::to_string(&Stacked { learned: learned(), share: 0.5, levels: None, beyond: None })
                .unwrap();
        assert!(!text.contains("levels"));
        assert_eq!(serde_json::from_str::<Stacked>(&text).unwrap().levels, None);
    }

    #[test]
    fn what_cells_that_stay_well_never_hold_is_a_cause_of_its_own() {
        let most = BTreeMap::from([(Family::Saturation, 0.5)]);
        let parts = BeyondParts { most, edges_s: vec![10.0, 30.0, 90.0], failed: vec![0.5, 0.8, 0.95] };
        let beyond = Beyond::new(parts).unwrap();
        let said = |level: f64, beyond: Option<&Beyond>| {
            Stacked { learned: learned(), share: 0.5, levels: None, beyond: beyond.cloned() }
                .predict(&windows(&[level; 60]), HORIZON)
                .unwrap()
        };
        assert_eq!(said(40.0, Some(&beyond)), said(40.0, None), "no more than others hold");
        let (with, without) = (said(70.0, Some(&beyond)), said(70.0, None));
        assert!(with.exceeds && !without.exceeds);
        let (p, q) = (with.probability.get(), without.probability.get());
        assert!((p - (1.0 - (1.0 - q) * (1.0 - 0.8))).abs() < 0.01, "{p} and {q}");
        assert_eq!(with.health, HealthScore::from_failure(with.probability));
        assert!(with.time_to_failure.p10.unwrap() < Duration::from_secs(4));
        assert!(without.time_to_failure.p10.is_none_or(|p10| p10 > with.time_to_failure.p10.unwrap()));
        let named: f64 = with.drivers.iter().map(|driver| driver.contribution).sum();
        assert!(
            (named - 1.0).abs() < 1e-9 && with.drivers[0].metric.as_str() == "memory",
            "{:?}",
            with.drivers
        );
        assert!(
            with.drivers[0].detail.ends_with("cells that stayed well held 50% at most"),
            "{:?}",
            with.drivers
        );
        // Pooled by hand it is the same, but for the name.
        let windows = windows(&[70.0; 60]);
        let first_day = DayZero::default().predict(&windows, HORIZON).unwrap();
        let alone = learned().predict(&windows, HORIZON).unwrap();
        let pooled = Stacked::pool(0.5, alone, &first_day, HORIZON, Some(&beyond));
        assert!((pooled.probability.get() - p).abs() < 1e-9 && pooled.exceeds);
    }

    #[test]
    fn a_share_that_is_none_is_taken_to_be_the_nearest() {
        let windows = windows(&[50.0; 60]);
        let p = |share: f64| {
            Stacked { learned: learned(), share, levels: None, beyond: None }
                .predict(&windows, HORIZON)
                .unwrap()
                .probability
        };
        assert_eq!(p(7.0), p(1.0));
        assert_eq!(p(-1.0), p(0.0));
        assert_eq!(p(f64::NAN), p(1.0));
    }
}
