use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::first_passage;

fn drifting(mixture: &TrendMixture) -> f64 {
    mixture.trends.iter().filter(|t| t.drift > 0.0).map(|t| t.weight).sum()
}

fn at(values: impl IntoIterator<Item = f64>) -> Vec<(f64, f64)> {
    values.into_iter().enumerate().map(|(i, v)| (i as f64 * 0.25, v)).collect()
}

fn noise(i: usize) -> f64 {
    // A fixed, unpatterned sequence in [-1, 1].
    ((i * 7919 + 104_729) % 1009) as f64 / 504.5 - 1.0
}

#[test]
fn an_even_climb_is_a_trend_soon() {
    let samples =
        at((0..60).map(|i| 20.0 + 0.1 * noise(i) + if i < 48 { 0.0 } else { (i - 48) as f64 * 1.5 }));
    let mixture = estimate(&samples, 96.0).unwrap();
    assert!(drifting(&mixture) > 0.95, "{mixture:?}");
    let best = mixture.trends[0];
    assert!((best.drift - 6.0).abs() < 1.0, "{best:?}");
}

#[test]
fn a_step_is_no_trend() {
    let samples = at((0..60).map(|i| 20.0 + 0.1 * noise(i) + if i < 50 { 0.0 } else { 30.0 }));
    assert!(drifting(&estimate(&samples, 96.0).unwrap()) < 0.2);
}

#[test]
fn noise_and_spikes_are_no_trend() {
    let mut values: Vec<f64> = (0..60).map(|i| 20.0 + 5.0 * noise(i)).collect();
    assert!(drifting(&estimate(&at(values.clone()), 96.0).unwrap()) < 0.1);
    values[58] = 300.0;
    let mixture = estimate(&at(values), 96.0).unwrap();
    assert!(drifting(&mixture) < 0.1);
    assert!(mixture.level < 60.0, "one spike is not the level: {}", mixture.level);
}

#[test]
fn freed_memory_is_no_reason_to_fear_the_limit() {
    let samples = at((0..60).map(|i| if i < 40 { 80.0 } else { 20.0 } + 0.1 * noise(i)));
    let mixture = estimate(&samples, 96.0).unwrap();
    assert!(mixture.variance < 0.1, "{mixture:?}");
}

#[test]
fn too_few_samples_are_no_opinion() {
    assert_eq!(estimate(&at((0..7).map(f64::from)), 96.0), None);
}

/// The same by the definitions, each suffix for itself and none left out.
fn directly(samples: &[(f64, f64)], scale: f64) -> Option<TrendMixture> {
    let n = samples.len();
    if n < SUFFIXES[0] {
        return None;
    }
    let floor = (scale.abs() * 1e-4).max(f64::MIN_POSITIVE);
    let longest = &samples[n.saturating_sub(SUFFIXES[SUFFIXES.len() - 1])..];
    let still = around(longest, 0.0, floor, Moves::Upward);
    let candidates: Vec<(f64, Trend)> = SUFFIXES
        .iter()
        .filter(|length| **length <= n)
        .filter_map(|length| candidate(&samples[n - length..], floor))
        .collect();
    let prior_each = PRIOR_DRIFT / SUFFIXES.len() as f64;
    let total = (1.0 - PRIOR_DRIFT) + candidates.iter().map(|(bf, _)| prior_each * bf).sum::<f64>();
    let mut trends: Vec<Trend> = candidates
        .into_iter()
        .map(|(bf, trend)| Trend { weight: prior_each * bf / total, ..trend })
        .filter(|trend| trend.weight >= LEAST_WEIGHT)
        .collect();
    trends.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    Some(TrendMixture { trends, level: still.level(longest, 0.0), variance: still.walk })
}

/// The Bayes factor of "drifts since the first of these samples" against "does not drift", and the drift.
fn candidate(samples: &[(f64, f64)], floor: f64) -> Option<(f64, Trend)> {
    let n = samples.len() as f64;
    let (t0, t1) = (samples.first()?.0, samples.last()?.0);
    let seconds = t1 - t0;
    if seconds <= 0.0 {
        return None;
    }
    let mean_t = samples.iter().map(|s| s.0).sum::<f64>() / n;
    let mean_y = samples.iter().map(|s| s.1).sum::<f64>() / n;
    let sxx: f64 = samples.iter().map(|s| (s.0 - mean_t).powi(2)).sum();
    let sxy: f64 = samples.iter().map(|s| (s.0 - mean_t) * (s.1 - mean_y)).sum();
    let drift = sxy / sxx;
    let noise = around(samples, drift, floor, Moves::All);
    // Variance of the least-squares slope under a random walk is 6/5 · σ²/T, under white noise r²/Sxx.
    let variance_of_drift = 1.2 * noise.walk / seconds + noise.white / sxx;
    let t = drift / variance_of_drift.sqrt();
    // Student's t with few degrees of freedom, for the noise is estimated from the same few samples; the factor in
    // front is the Occam factor of a drift whose prior scale is as wide as what the window could show.
    let dof = n - 2.0;
    let ln_bf = 0.5 * (dof + 1.0) * (t * t / dof).ln_1p() - 0.5 * (1.0 + t * t).ln() - 0.5 * n.ln();
    let standard_error = (variance_of_drift + (MODEL_ERROR * drift).powi(2)).sqrt();
    let trend = Trend {
        drift,
        standard_error,
        seconds,
        weight: 0.0,
        level: noise.level(samples, drift),
        variance: noise.walk,
    };
    Some((ln_bf.clamp(-50.0, 50.0).exp(), trend))
}

/// Which moves count as scatter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moves {
    /// Both ways.
    All,
    /// Only upwards, counted twice: of the same size for a walk without preference, and nothing for a memory that was
    /// freed or a cache that was dropped, which bring no limit nearer.
    Upward,
}

/// By the variances of differences over one and over four steps: a walk's grows with the distance, white noise's
/// doesn't.
fn around(samples: &[(f64, f64)], drift: f64, floor: f64, moves: Moves) -> Noise {
    let squares = |lag: usize| {
        let pairs = samples.iter().zip(&samples[lag..]);
        let (sum, time) = pairs.fold((0.0, 0.0), |(sum, time), (a, b)| {
            let dt = b.0 - a.0;
            let moved = match moves {
                Moves::All => (b.1 - a.1 - drift * dt).powi(2),
                Moves::Upward => 2.0 * (b.1 - a.1 - drift * dt).max(0.0).powi(2),
            };
            (sum + moved, time + dt)
        });
        let count = (samples.len() - lag) as f64;
        (sum / count, time / count)
    };
    let (near, near_s) = squares(1);
    let (far, far_s) = squares(4);
    let walk = ((far - near) / (far_s - near_s).max(f64::MIN_POSITIVE)).max(0.0);
    let white = ((near - walk * near_s) / 2.0).max(0.0);
    Noise { walk, white: white + floor * floor }
}

/// Levels, climbs, steps, walks and gaps.
fn any_course() -> impl Strategy<Value = Vec<(f64, f64)>> {
    let parts = (8usize..130, 0.0f64..100.0, -0.5f64..1.5, -30.0f64..30.0, 0.0f64..1.0, 0.0f64..6.0);
    (parts, 0.0f64..0.3, any::<u32>()).prop_map(|((n, level, slope, jump, jump_at, white), walk, seed)| {
        let mut wandered = 0.0;
        (0..n)
            .filter(|i| i % 17 != (seed % 19) as usize)
            .map(|i| {
                wandered += walk * noise(i + seed as usize % 1_000);
                let jumped = if i as f64 > jump_at * n as f64 { jump } else { 0.0 };
                let trembles = white * noise(i * 31 + seed as usize % 500);
                (i as f64 * 0.25 - 100.0, level + slope * i as f64 + jumped + trembles + wandered)
            })
            .collect()
    })
}

fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-6 * scale.max(a.abs()).max(b.abs())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn sums_give_what_the_definitions_give(samples in any_course(), limit in 50.0f64..200.0) {
        let (fast, direct) = (estimate(&samples, limit), directly(&samples, limit));
        let (Some(fast), Some(direct)) = (fast, direct) else {
            prop_assert!(samples.len() < SUFFIXES[0]);
            return Ok(());
        };
        prop_assert!(close(fast.level, direct.level, limit));
        prop_assert!(close(fast.variance, direct.variance, 1e-6));
        // One that is on the edge of being kept may fall on either side.
        for (ours, other) in [(&fast, &direct), (&direct, &fast)] {
            for trend in ours.trends.iter().filter(|t| t.weight > LEAST_WEIGHT * 1.001) {
                let same = other.trends.iter().find(|t| close(t.seconds, trend.seconds, 1.0));
                prop_assert!(same.is_some(), "{trend:?} is not in {other:?}");
                let same = same.copied().unwrap_or(*trend);
                prop_assert!(close(same.drift, trend.drift, 1e-3), "{same:?} {trend:?}");
                prop_assert!(close(same.weight, trend.weight, 1.0), "{same:?} {trend:?}");
                prop_assert!(close(same.level, trend.level, limit), "{same:?} {trend:?}");
            }
        }
    }

    #[test]
    fn what_is_not_looked_at_would_have_said_nothing(samples in any_course(), limit in 50.0f64..2_000.0, reach_s in 1.0f64..4_000.0) {
        let Some(course) = Course::new(&samples, limit) else { return Ok(()) };
        if course.is_negligible(limit, reach_s) {
            let mixture = directly(&samples, limit).unwrap();
            prop_assert!(mixture.trends.is_empty(), "{mixture:?}");
            let p = first_passage::probability_within(reach_s, limit - mixture.level, 0.0, 0.5 * mixture.variance);
            prop_assert!(p <= NEGLIGIBLE, "{p}");
        }
    }
}

#[test]
fn most_quiet_metrics_are_not_looked_at() {
    let left = (0..100).filter(|seed| {
        let mut random = ChaCha8Rng::seed_from_u64(*seed);
        let quiet = at((0..120).map(|_| 40.0 + random.random_range(-1.0..1.0)));
        Course::new(&quiet, 100.0).unwrap().is_negligible(100.0, 60.0)
    });
    let left = left.count();
    assert!(left > 50, "{left} of 100");
}

#[test]
fn the_least_t2_is_where_a_trend_begins_to_weigh() {
    for (length, t2) in SUFFIXES.iter().zip(LEAST_T2) {
        let (n, dof) = (*length as f64, *length as f64 - 2.0);
        let ln_bf = |t2: f64| 0.5 * (dof + 1.0) * (t2 / dof).ln_1p() - 0.5 * (1.0 + t2).ln() - 0.5 * n.ln();
        let weight = |t2: f64| PRIOR_DRIFT / SUFFIXES.len() as f64 * ln_bf(t2).exp() / (1.0 - PRIOR_DRIFT);
        assert!(weight(t2) < LEAST_WEIGHT && weight(t2 + 0.002) > LEAST_WEIGHT, "{length}: {}", weight(t2));
    }
}

fn window(values: &[f64], step_ms: u64) -> forefend_domain::MetricWindow {
    let at = |n: usize| forefend_domain::Timestamp::from_unix_ms(1_000_000 + step_ms * n as u64);
    let sample = |(n, value): (usize, &f64)| forefend_domain::Sample { at: at(n), value: Some(*value) };
    forefend_domain::MetricWindow {
        name: forefend_domain::MetricName::new("m"),
        family: forefend_domain::Family::Custom,
        kind: forefend_domain::MetricKind::Exhaustible,
        unit: String::new(),
        limit: Some(100.0),
        samples: values.iter().enumerate().map(sample).collect(),
    }
}

proptest! {
    #[test]
    fn stretch_by_stretch_or_sample_by_sample_the_same_is_believed(
        noise in prop::collection::vec(-1.0..1.0f64, 2..140),
        scale in 0.1..10.0f64,
        slope in -1.0..1.0f64,
        since in 0usize..140,
        step_ms in prop::sample::select(vec![250u64, 500, 1_000, 10_000, 123]),
    ) {
        let climb = |n: usize| slope * n.saturating_sub(since) as f64;
        let values: Vec<f64> = noise.iter().enumerate().map(|(n, v)| 30.0 + scale * v + climb(n)).collect();
        let step_s = step_ms as f64 / 1_000.0;
        let samples: Vec<(f64, f64)> = values.iter().enumerate().map(|(n, v)| (n as f64 * step_s, *v)).collect();
        let newest = &samples[samples.len().saturating_sub(LONGEST)..];
        let mut place = Vec::new();
        let even = Course::of_even(&window(&values, step_ms), 100.0, &mut place).map(|even| even.with(newest));
        let plain = Course::new(&samples, 100.0);
        prop_assert_eq!(even.is_some(), plain.is_some());
        let (Some(even), Some(plain)) = (even, plain) else { return Ok(()) };
        for reach_s in [10.0, 1e3, 1e5] {
            prop_assert_eq!(even.is_negligible(100.0, reach_s), plain.is_negligible(100.0, reach_s));
        }
        let (even, plain) = (even.mixture(), plain.mixture());
        let alike = |a: f64, b: f64| (a - b).abs() <= 1e-8 * a.abs().max(b.abs()).max(1e-9);
        prop_assert!(alike(even.level, plain.level) && alike(even.variance, plain.variance));
        prop_assert_eq!(even.trends.len(), plain.trends.len());
        for (a, b) in even.trends.iter().zip(&plain.trends) {
            let same = alike(a.drift, b.drift) && alike(a.standard_error, b.standard_error)
                && alike(a.seconds, b.seconds) && alike(a.weight, b.weight)
                && alike(a.level, b.level) && alike(a.variance, b.variance);
            prop_assert!(same, "{a:?} and {b:?}");
        }
    }
}
