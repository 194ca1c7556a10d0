//! What holds of predictions of a model that was trained, whatever the telemetry: the same as of the model of the first day.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up is wrong")]

use std::{collections::BTreeMap, time::Duration};

use forefend_domain::{
    Basis, CellId, Family, MetricKind, MetricName, MetricWindow, Sample, Timestamp, Windows,
};
use forefend_learn::{
    boost,
    hazard::{Learner, Watched, train},
};
use forefend_predict::{
    Known, Predictor,
    learned::{Learned, Stacked, feature_names, features, never_falls},
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const HORIZON: Duration = Duration::from_secs(30);
const EDGES_S: [f64; 4] = [4.0, 8.0, 15.0, 30.0];
/// Name, family, limit and usual level of each metric.
const METRICS: [(&str, Family, f64, f64); 5] = [
    ("memory_bytes", Family::Saturation, 100.0, 40.0),
    ("open_fds", Family::Saturation, 1_000.0, 200.0),
    ("latency_p99_ms", Family::Latency, 250.0, 40.0),
    ("error_ratio", Family::Errors, 0.05, 0.002),
    ("queue", Family::Custom, 500.0, 50.0),
];

/// The courses of all metrics, one of which may climb.
type Courses = Vec<(MetricName, Family, f64, Vec<f64>)>;

fn windows(courses: &Courses) -> Windows {
    let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
    let metrics = courses.iter().map(|(name, family, limit, values)| {
        let window = MetricWindow {
            name: name.clone(),
            family: *family,
            kind: MetricKind::Exhaustible,
            unit: String::new(),
            limit: Some(*limit),
            samples: values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: Some(*v) }).collect(),
        };
        (name.clone(), window)
    });
    let metrics: BTreeMap<_, _> = metrics.collect();
    Windows { cell: CellId::new("a").unwrap(), at: at(100), step: Duration::from_millis(500), metrics }
}

/// Sixty samples; metric `climbing` has climbed for some of them, and has so many seconds left to its limit.
fn courses(random: &mut ChaCha8Rng, climbing: Option<usize>, left_s: f64) -> Courses {
    let noise = random.random_range(0.005..0.05);
    METRICS
        .iter()
        .enumerate()
        .map(|(n, (name, family, limit, usual))| {
            let pace = (limit - usual) / random.random_range(20.0..90.0);
            let now = if climbing == Some(n) { (limit - pace * left_s * 2.0).max(*usual) } else { *usual };
            let values = (0..60)
                .map(|i| {
                    let level = if climbing == Some(n) { now - pace * f64::from(59 - i) } else { *usual };
                    level.max(*usual) + noise * usual * random.random_range(-1.0..1.0)
                })
                .collect();
            (MetricName::new(name), *family, *limit, values)
        })
        .collect()
}

/// Boosted trees that have seen each of the metrics run into its limit, beside many cells that were well.
fn trained() -> Stacked {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut watched = Watched::default();
    for look in 0..1_500 {
        let climbing = (look % 5 == 0).then_some(look / 5 % METRICS.len());
        let left_s = random.random_range(1.0..40.0);
        let mut courses = courses(&mut random, climbing, left_s);
        // Some cells don't tell everything, as in life.
        if look % 3 == 0 {
            let gone = random.random_range(0..METRICS.len());
            courses.remove(gone);
        }
        let row = features(&windows(&courses), HORIZON).unwrap();
        let fails = climbing.is_some() && left_s < 30.0;
        watched.push(row.values, if fails { left_s } else { 30.0 }, fails, 1.0);
    }
    let mut monotone: Vec<i8> = never_falls().into_iter().map(i8::from).collect();
    monotone.push(0);
    let settings =
        boost::Settings { rounds: 60, leaves: 10, monotone, patience: None, ..boost::Settings::default() };
    let hazard = train(&watched, None, &feature_names(), &EDGES_S, &Learner::Trees(settings)).unwrap();
    Stacked { learned: Learned { hazard }, share: 0.75, levels: None, beyond: None }
}

fn p(model: &Stacked, courses: &Courses) -> f64 {
    model.predict(&windows(courses), HORIZON).unwrap().probability.get()
}

#[test]
fn a_metric_that_goes_missing_neither_raises_nor_lowers_the_risk_of_a_healthy_cell() {
    let model = trained();
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..20 {
        let healthy = courses(&mut random, None, 0.0);
        let whole = p(&model, &healthy);
        assert!(whole < 0.05, "{whole}");
        for gone in 0..METRICS.len() {
            let mut rest = healthy.clone();
            let (name, ..) = rest.remove(gone);
            let without = p(&model, &rest);
            let factor = without / whole;
            assert!((0.25..=4.0).contains(&factor), "without {name}: {without} from {whole}");
        }
    }
}

#[test]
fn each_metric_is_seen_alone_where_the_others_are_missing() {
    let model = trained();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for (n, (name, ..)) in METRICS.iter().enumerate() {
        let mut climbing = courses(&mut random, Some(n), 5.0);
        climbing = vec![climbing.swap_remove(n)];
        let prediction = model.predict(&windows(&climbing), HORIZON).unwrap();
        assert!(prediction.probability.get() > 0.2, "{name}: {:?}", prediction.probability);
        assert_eq!(prediction.drivers[0].metric.as_str(), *name);
        assert_ne!(prediction.basis, Basis::Prior);
    }
}

#[test]
fn predictions_never_contradict_themselves() {
    let model = trained();
    let config = ProptestConfig { cases: 100, ..ProptestConfig::default() };
    let any = (any::<u64>(), prop::option::of(0..METRICS.len()), 0.0f64..60.0);
    let run = proptest::test_runner::TestRunner::new(config).run(&any, |(seed, climbing, left_s)| {
        let courses = courses(&mut ChaCha8Rng::seed_from_u64(seed), climbing, left_s);
        let said = model.predict(&windows(&courses), HORIZON).unwrap();
        prop_assert!(said.time_to_failure.is_ordered());
        prop_assert!(said.curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let p = said.probability.get();
        prop_assert!((said.health.get() - 100.0 * (1.0 - p)).abs() < 1e-9);
        let farther = model.predict(&windows(&courses), HORIZON * 2).unwrap().probability.get();
        prop_assert!(farther >= p - 0.02, "{p}, then {farther} for twice as long");
        // In the opposite order, so that nothing can hang on who comes first.
        let renamed: Courses = courses
            .iter()
            .enumerate()
            .map(|(n, (_, family, limit, values))| {
                (MetricName::new(&format!("other_{}", 9 - n)), *family, *limit, values.clone())
            })
            .collect();
        let again = model.predict(&windows(&renamed), HORIZON).unwrap().probability.get();
        prop_assert!((p - again).abs() < 1e-6, "{p} and {again}");
        Ok(())
    });
    run.unwrap();
}

#[test]
fn the_prior_of_a_cell_counts_in_the_model_of_the_first_day_and_alone_moves_nothing() {
    let model = trained();
    let healthy = windows(&courses(&mut ChaCha8Rng::seed_from_u64(6), None, 0.0));
    let with = |rate: f64| {
        let known = Known { prior_rate_per_s: Some(rate), ..Known::default() };
        model.predict_knowing(&healthy, HORIZON, &known).unwrap().probability.get()
    };
    let most = 0.05 / HORIZON.as_secs_f64();
    assert!(with(most) > with(1e-9));
    assert!(with(most) < 0.1, "{}", with(most));
}
