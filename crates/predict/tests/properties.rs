//! What holds of every prediction, whatever the telemetry.

mod support;

use std::time::Duration;

use forefend_domain::{Basis, Family, MetricKind, MetricName, MetricWindow, Prediction, Windows};
use forefend_predict::{DayZero, Known, Predictor, Unusual};
use proptest::prelude::*;
use support::{HORIZON, memory, metric, predict, prior, probability, windows};

/// Noise of a fixed seedless sequence in [-1, 1].
fn tremble(i: usize) -> f64 {
    ((i * 7_919 + 104_729) % 1_009) as f64 / 504.5 - 1.0
}

/// A course with level, slope, jump and noise: everything a metric does, in a window of 20 to 140 samples.
fn course() -> impl Strategy<Value = Vec<Option<f64>>> {
    (20usize..140, 0.0f64..100.0, -0.5f64..2.0, 0.0f64..30.0, 0.0f64..1.0, 0.0f64..5.0).prop_map(
        |(n, level, slope, jump, jump_at, noise)| {
            let value = |i: usize| {
                let jumped = if i as f64 > jump_at * n as f64 { jump } else { 0.0 };
                level + slope * i as f64 + jumped + noise * tremble(i)
            };
            (0..n).map(|i| Some(value(i))).collect()
        },
    )
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(vec![Family::Saturation, Family::Latency, Family::Errors, Family::Custom])
}

/// Up to four metrics with limits.
fn cell() -> impl Strategy<Value = Vec<MetricWindow>> {
    prop::collection::vec((family(), 20.0f64..200.0, course()), 1..5).prop_map(|metrics| {
        let named = |(i, (family, limit, values)): (usize, (Family, f64, Vec<Option<f64>>))| {
            metric(&format!("metric_{i}"), family, limit, &values)
        };
        metrics.into_iter().enumerate().map(named).collect()
    })
}

/// Values that no reader should let through, and that must not do harm if one does.
fn nasty() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        4 => (0.0f64..100.0).prop_map(Some),
        1 => prop::sample::select(vec![
            None,
            Some(f64::NAN),
            Some(f64::INFINITY),
            Some(f64::NEG_INFINITY),
            Some(f64::MAX),
            Some(-f64::MAX),
            Some(f64::MIN_POSITIVE),
            Some(0.0),
            Some(-0.0),
            Some(1e300),
        ]),
    ]
}

fn is_sound(prediction: &Prediction) -> Result<(), TestCaseError> {
    let p = prediction.probability.get();
    prop_assert!((0.0..=1.0).contains(&p));
    prop_assert!((prediction.health.get() - 100.0 * (1.0 - p)).abs() < 1e-9);
    prop_assert!(prediction.time_to_failure.is_ordered(), "{:?}", prediction.time_to_failure);
    prop_assert!(prediction.anomaly.is_finite());
    prop_assert!(prediction.anomalies.iter().all(|a| a.z.is_finite() && a.z.abs() >= 3.0));
    for pair in prediction.curve.windows(2) {
        prop_assert!(pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1, "{pair:?}");
    }
    for (t, p) in &prediction.curve {
        prop_assert!(t.is_finite() && (0.0..=1.0).contains(p));
    }
    let shares: Vec<f64> = prediction.drivers.iter().map(|d| d.contribution).collect();
    prop_assert!(shares.iter().all(|s| (0.0..=1.0 + 1e-9).contains(s)), "{shares:?}");
    if !shares.is_empty() {
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
        prop_assert!(shares.windows(2).all(|w| w[0] >= w[1]), "most important first");
    }
    prop_assert!(prediction.basis == Basis::Prior || !prediction.drivers.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_used_up_and_what_is_left_say_the_same(metrics in cell()) {
        // Less than zero and rising from below, and the same in a mirror: falling from above.
        let below = |mut m: MetricWindow| {
            m.samples.iter_mut().for_each(|s| s.value = s.value.map(|v| v - 500.0));
            m.limit = m.limit.map(|l| l - 500.0);
            m
        };
        let mirrored = |m: &MetricWindow| {
            let mut m = m.clone();
            m.kind = MetricKind::Depletable;
            m.samples.iter_mut().for_each(|s| s.value = s.value.map(|v| -v));
            m.limit = m.limit.map(|l| -l);
            m
        };
        let used: Vec<MetricWindow> = metrics.into_iter().map(below).collect();
        let left = windows(used.iter().map(mirrored));
        let (used, left) = (predict(&windows(used)), predict(&left));
        // Only the least noise that is believed is another: a ten-thousandth of the limit, or of what is left.
        let (a, b) = (used.probability.get(), left.probability.get());
        prop_assert!((a - b).abs() <= 1e-3 + 0.02 * a.max(b), "{a} and {b}");
        prop_assert_eq!(used.basis, left.basis);
    }

    #[test]
    fn a_prediction_never_contradicts_itself(metrics in cell()) {
        is_sound(&predict(&windows(metrics)))?;
    }

    #[test]
    fn the_farther_one_looks_the_likelier_it_fails(metrics in cell(), seconds in 1u64..300, more in 1u64..300) {
        // Within one prediction that is exact (see above). Two horizons mean two grids; what may differ is the
        // interpolation between their points.
        let windows = windows(metrics);
        let at = |s: u64| {
            DayZero::default().predict(&windows, Duration::from_secs(s)).unwrap().probability.get()
        };
        prop_assert!(at(seconds + more) >= at(seconds) - 0.02, "{} then {}", at(seconds), at(seconds + more));
    }

    #[test]
    fn health_falls_as_risk_rises(one in cell(), other in cell()) {
        let (one, other) = (predict(&windows(one)), predict(&windows(other)));
        if one.probability > other.probability {
            prop_assert!(one.health <= other.health);
        }
    }

    #[test]
    fn names_mean_nothing(metrics in cell()) {
        let before = predict(&windows(metrics.clone()));
        // In the opposite order, so that nothing can hang on who comes first.
        let renamed = |(i, m): (usize, &MetricWindow)| {
            MetricWindow { name: MetricName::new(&format!("other_{}", 9 - i)), ..m.clone() }
        };
        let after = predict(&windows(metrics.iter().enumerate().map(renamed)));
        prop_assert!((before.probability.get() - after.probability.get()).abs() < 1e-12);
        prop_assert_eq!(before.basis, after.basis);
        prop_assert_eq!(before.drivers.len(), after.drivers.len());
        for (a, b) in before.curve.iter().zip(&after.curve) {
            prop_assert!((a.1 - b.1).abs() < 1e-12);
        }
    }

    #[test]
    fn units_mean_nothing(metrics in cell(), power in -20i32..40) {
        // Powers of two, so that not even rounding differs before the first logarithm.
        let k = 2f64.powi(power);
        let scaled = metrics.iter().map(|m| {
            let mut m = m.clone();
            m.limit = m.limit.map(|l| l * k);
            m.samples.iter_mut().for_each(|s| s.value = s.value.map(|v| v * k));
            m
        });
        let (a, b) = (predict(&windows(metrics.clone())), predict(&windows(scaled)));
        prop_assert!((a.probability.get() - b.probability.get()).abs() < 1e-6, "{} {}", a.probability.get(), b.probability.get());
        prop_assert!((a.anomaly - b.anomaly).abs() < 1e-6);
    }

    #[test]
    fn a_constant_far_below_its_limit_predicts_the_prior(level in 0.0f64..0.9, n in 1usize..200, limit in 0.1f64..1e12) {
        let values = vec![Some(level * limit); n];
        let prediction = predict(&windows([metric("m", Family::Saturation, limit, &values)]));
        prop_assert!((prediction.probability.get() - prior()).abs() < 1e-9);
        prop_assert_eq!(prediction.basis, Basis::Prior);
    }

    #[test]
    fn nothing_that_is_measured_can_make_it_stumble(
        values in prop::collection::vec(nasty(), 0..140),
        limit in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(0.0), Just(-5.0), Just(1e300), 1.0f64..200.0],
        family in family(),
    ) {
        let windows = windows([metric("m", family, limit, &values), memory(&[10.0; 30])]);
        is_sound(&predict(&windows))?;
    }

    #[test]
    fn gaps_alone_foretell_nothing(level in 0.0f64..80.0, noise in 0.0f64..2.0, gaps in prop::collection::vec(any::<bool>(), 140)) {
        // A quiet stream stays the prior whichever samples are missing: absent telemetry never raises risk.
        let values: Vec<Option<f64>> =
            gaps.iter().enumerate().map(|(i, gap)| (!gap).then(|| level + noise * tremble(i))).collect();
        prop_assume!(values.iter().any(Option::is_some));
        let p = probability(&windows([metric("m", Family::Saturation, 96.0, &values)]));
        prop_assert!(p < 0.1, "{p}");
    }

    #[test]
    fn gaps_do_not_hide_a_leak(missing in 0.0f64..0.5, seed in 0usize..1_000, slope in 0.3f64..1.0) {
        // A leak that is a second or two from the limit is seen though up to half of its samples are missing.
        let n = 100;
        let values: Vec<Option<f64>> = (0..n)
            .map(|i| {
                let gone = (tremble(i * 31 + seed) + 1.0) / 2.0 < missing;
                (!gone).then(|| 90.0 - slope * (n - 1 - i) as f64 + 0.05 * tremble(i))
            })
            .collect();
        // A metric whose newest samples are missing is left out altogether; see the test below.
        prop_assume!(values.iter().rev().take(4).any(Option::is_some));
        let p = probability(&windows([metric("m", Family::Saturation, 96.0, &values)]));
        prop_assert!(p > 0.6, "{p}");
    }

    #[test]
    fn a_metric_that_is_gone_says_nothing(metrics in cell(), gone in prop::collection::vec(any::<bool>(), 5)) {
        // All samples missing is exactly the same as the metric not being there: neither better nor worse.
        let mut with_gaps = metrics.clone();
        let mut without: Vec<MetricWindow> = Vec::new();
        for (m, gone) in with_gaps.iter_mut().zip(&gone) {
            if *gone {
                m.samples.iter_mut().for_each(|s| s.value = None);
            } else {
                without.push(m.clone());
            }
        }
        prop_assume!(!without.is_empty());
        let (a, b) = (predict(&windows(with_gaps)), predict(&windows(without)));
        prop_assert_eq!((a.probability, a.time_to_failure, a.drivers), (b.probability, b.time_to_failure, b.drivers));
    }

    #[test]
    fn one_more_metric_never_lowers_the_risk(metrics in cell(), extra in course(), limit in 20.0f64..200.0, family in family()) {
        // Causes add. So a metric that goes missing can lower the prediction by what it alone foretold, and can never
        // raise it.
        let before = probability(&windows(metrics.clone()));
        let mut more = metrics;
        more.push(metric("one_more", family, limit, &extra));
        prop_assert!(probability(&windows(more)) >= before - 1e-9);
    }
}

#[test]
fn nothing_measured_is_no_prediction() {
    let nothing = windows([metric("m", Family::Saturation, 96.0, &[None; 50])]);
    assert_eq!(DayZero::default().predict(&nothing, HORIZON), None);
    let no_metrics = Windows { metrics: Default::default(), ..nothing };
    assert_eq!(DayZero::default().predict(&no_metrics, HORIZON), None);
}

#[test]
fn a_metric_whose_newest_samples_are_missing_is_left_out() {
    let leak: Vec<f64> = (0..60).map(|i| 60.0 + 0.5 * f64::from(i)).collect();
    let mut metric = memory(&leak);
    assert!(probability(&windows([metric.clone()])) > 0.6);
    let n = metric.samples.len();
    metric.samples[n - 5..].iter_mut().for_each(|s| s.value = None);
    let p = probability(&windows([metric]));
    assert!((p - prior()).abs() < 1e-9, "five steps of silence, four are tolerated: {p}");
}

#[test]
fn what_is_no_failure_to_reach_moves_nothing() {
    let leak: Vec<f64> = (0..60).map(|i| 60.0 + 0.5 * f64::from(i)).collect();
    for kind in [MetricKind::Saturable, MetricKind::Unbounded] {
        let prediction = predict(&windows([MetricWindow { kind, ..memory(&leak) }]));
        assert_eq!(prediction.basis, Basis::Prior, "{kind:?}");
    }
    let unlimited = MetricWindow { limit: None, ..memory(&leak) };
    assert_eq!(predict(&windows([unlimited])).basis, Basis::Prior);
}

#[test]
fn two_views_of_one_cause_count_once() {
    let leak: Vec<f64> = (0..60).map(|i| 40.0 + 0.6 * f64::from(i)).collect();
    let one = probability(&windows([memory(&leak)]));
    let twin = MetricWindow { name: MetricName::new("memory_rss_bytes"), ..memory(&leak) };
    let both = predict(&windows([memory(&leak), twin.clone()]));
    assert!((both.probability.get() - one).abs() < 1e-12, "the same family is one cause");
    assert_eq!(both.drivers.len(), 2);
    let other_cause = MetricWindow { family: Family::Latency, ..twin };
    let added = probability(&windows([memory(&leak), other_cause]));
    assert!(added >= one, "another family is another cause");
}

/// Name, family and limit of one metric of each sort that is watched.
const WATCHED: [(&str, Family, f64); 8] = [
    ("cpu_utilisation_ratio", Family::Saturation, 1.0),
    ("memory_working_set_bytes", Family::Saturation, 96.0),
    ("disk_io_utilisation_ratio", Family::Saturation, 1.0),
    ("requests_per_second", Family::Traffic, 900.0),
    ("inter_zone_latency_ms", Family::Latency, 40.0),
    ("error_ratio", Family::Errors, 0.05),
    ("log.template{connection to <*> refused}", Family::Logs, 30.0),
    ("orders_waiting", Family::Custom, 5_000.0),
];

/// All of them, quiet far below their limits but for the one with this number, which climbs to 95% of its own.
fn all_but_one_quiet(climbing: usize) -> Vec<MetricWindow> {
    let of = |(n, (name, family, limit)): (usize, &(&str, Family, f64))| {
        let share = |i: i32| if n == climbing { 0.3 + 0.65 * f64::from(i) / 99.0 } else { 0.2 };
        let tremble = |i: i32| 0.004 * f64::from((i * 37 + n as i32 * 11) % 17 - 8) / 8.0;
        let values: Vec<Option<f64>> = (0..100).map(|i| Some(limit * (share(i) + tremble(i)))).collect();
        metric(name, *family, *limit, &values)
    };
    WATCHED.iter().enumerate().map(of).collect()
}

#[test]
fn each_sort_of_metric_is_named_alone_when_it_alone_nears_its_limit() {
    for (n, (name, family, _)) in WATCHED.iter().enumerate() {
        let prediction = predict(&windows(all_but_one_quiet(n)));
        assert!(prediction.probability.get() > 0.6, "{name}: {:?}", prediction.probability);
        let drivers: Vec<(&str, Family)> =
            prediction.drivers.iter().map(|driver| (driver.metric.as_str(), driver.family)).collect();
        assert_eq!(drivers, [(*name, *family)]);
        assert!((prediction.drivers[0].contribution - 1.0).abs() < 1e-9, "{name}");
    }
}

#[test]
fn where_none_climbs_none_is_named() {
    let prediction = predict(&windows(all_but_one_quiet(WATCHED.len())));
    assert!(prediction.drivers.is_empty(), "{:?}", prediction.drivers);
    assert!(prediction.probability.get() < 0.01);
}

#[test]
fn no_prior_and_nothing_unusual_makes_a_failure_likely_or_moves_anything() {
    // Whatever a cell's class and zone have suffered: the largest prior that is ever given, and all metrics unusual.
    let quiet = windows(all_but_one_quiet(WATCHED.len()));
    let metric = MetricName::new("orders_waiting");
    let unusual = Unusual { score: 99.0, metrics: vec![forefend_domain::Anomaly { metric, z: 99.0 }] };
    let known = Known { prior_rate_per_s: Some(0.05 / HORIZON.as_secs_f64()), unusual: Some(unusual) };
    let said = DayZero::default().predict_knowing(&quiet, HORIZON, &known).unwrap();
    assert_eq!(said.basis, Basis::Prior);
    assert!(said.probability.get() < 0.05, "{:?}", said.probability);
    assert_eq!((said.anomaly, said.anomalies.len()), (99.0, 1));
    // Nor does it hide a metric that runs into its limit.
    let leak: Vec<f64> = (0..60).map(|i| 60.0 + 0.5 * f64::from(i)).collect();
    let said = DayZero::default().predict_knowing(&windows([memory(&leak)]), HORIZON, &known).unwrap();
    assert_eq!(said.basis, Basis::FirstPassage);
}

/// So many MiB left, of which `floor` must stay.
fn left(mib: &[f64], floor: f64) -> MetricWindow {
    let values: Vec<Option<f64>> = mib.iter().map(|v| Some(v * support::MIB)).collect();
    MetricWindow {
        kind: MetricKind::Depletable,
        ..metric("disk_free_bytes", Family::Saturation, floor * support::MIB, &values)
    }
}

#[test]
fn free_space_that_runs_out_is_foreseen_and_free_space_that_stays_or_grows_is_not() {
    for floor in [0.0, 10.0] {
        let falling: Vec<f64> = (0..120).map(|i| floor + 70.0 - 0.55 * i as f64 + 0.3 * tremble(i)).collect();
        let said = predict(&windows([left(&falling, floor)]));
        // 4.55 MiB are left, at 2.2 a second.
        assert!(said.probability.get() > 0.8, "{}", said.probability.get());
        assert_eq!(said.basis, Basis::FirstPassage);
        let p50 = said.time_to_failure.p50.unwrap().as_secs_f64();
        assert!((1.5..3.0).contains(&p50), "{p50} s");
        let [driver] = said.drivers.as_slice() else { panic!("{:?}", said.drivers) };
        let detail = &driver.detail;
        assert!(detail.contains(" left, must stay above ") && detail.contains(", −2."), "{detail}");
        assert!(!detail.contains("-"), "nothing less than nothing: {detail}");

        let growing: Vec<f64> = falling.iter().rev().copied().collect();
        for calm in [growing, vec![floor + 40.0; 120]] {
            assert!(probability(&windows([left(&calm, floor)])) < 1.5 * prior());
        }
        // It is there already.
        let gone = vec![floor; 120];
        assert!(probability(&windows([left(&gone, floor)])) > 0.99);
    }
}
