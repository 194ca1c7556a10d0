use std::collections::BTreeMap;

use forefend_domain::{CellId, Family, MetricKind, MetricName, MetricWindow, Sample, Timestamp, Windows};
use proptest::prelude::*;

use super::*;
use crate::learned::feature_names;

/// Numbers without pattern in [-1, 1].
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|n| (((n + seed) * 7919 + 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn layer(inputs: usize, hidden: usize, seed: usize) -> LstmLayer {
    LstmLayer {
        inputs,
        hidden,
        input: numbers(seed, inputs * 4 * hidden),
        recurrent: numbers(seed + 1, hidden * 4 * hidden),
        bias: numbers(seed + 2, 4 * hidden),
    }
}

/// Two layers over so many features, with four intervals.
fn parts(features: Vec<String>) -> LstmParts {
    let count = features.len();
    LstmParts {
        edges: vec![5.0, 10.0, 20.0, 40.0],
        features,
        centre: vec![1.0; count],
        scale: vec![2.0; count],
        layers: vec![layer(count, 5, 3), layer(5, 3, 17)],
        head: numbers(11, 12),
        head_bias: vec![-3.0; 4],
        calibration: Calibration::Identity,
    }
}

fn lstm() -> Lstm {
    Lstm::new(parts(["a", "b", "c"].map(str::to_owned).to_vec())).unwrap()
}

/// The same by the book: sums over columns, in 64 bits.
fn by_the_book(parts: &LstmParts, rows: &[Vec<f32>]) -> Vec<f64> {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut memory: Vec<(Vec<f64>, Vec<f64>)> =
        parts.layers.iter().map(|layer| (vec![0.0; layer.hidden], vec![0.0; layer.hidden])).collect();
    let mut hazards = Vec::new();
    for row in rows {
        let mut x: Vec<f64> = row
            .iter()
            .zip(parts.centre.iter().zip(&parts.scale))
            .map(|(v, (centre, scale))| f64::from((v - centre) / scale))
            .collect();
        for (layer, (said, held)) in parts.layers.iter().zip(&mut memory) {
            let width = 4 * layer.hidden;
            let gate = |column: usize| -> f64 {
                let of = |weights: &[f32], from: &[f64]| -> f64 {
                    from.iter().enumerate().map(|(n, v)| v * f64::from(weights[n * width + column])).sum()
                };
                f64::from(layer.bias[column]) + of(&layer.input, &x) + of(&layer.recurrent, said)
            };
            let gates: Vec<f64> = (0..width).map(gate).collect();
            for n in 0..layer.hidden {
                let at = |gate: usize| gates[n + gate * layer.hidden];
                held[n] = sigmoid(at(1)) * held[n] + sigmoid(at(0)) * at(3).tanh();
                said[n] = sigmoid(at(2)) * held[n].tanh();
            }
            x.clone_from(said);
        }
        let intervals = parts.edges.len();
        let odds = |interval: usize| -> f64 {
            let from = x.iter().enumerate();
            let sum: f64 = from.map(|(n, v)| v * f64::from(parts.head[n * intervals + interval])).sum();
            sum + f64::from(parts.head_bias[interval])
        };
        hazards = (0..intervals).map(|interval| sigmoid(odds(interval))).collect();
    }
    hazards
}

fn after(lstm: &Lstm, rows: &[Vec<f32>]) -> (LstmState, Vec<f64>) {
    rows.iter().fold((lstm.fresh(), Vec::new()), |(state, _), row| lstm.step(state, row))
}

proptest! {
    #[test]
    fn steps_are_those_of_the_book(rows in prop::collection::vec(prop::collection::vec(-5f32..5.0, 3), 1..20)) {
        let (_, hazards) = after(&lstm(), &rows);
        for (ours, book) in hazards.iter().zip(by_the_book(lstm().parts(), &rows)) {
            prop_assert!((ours - book).abs() < 1e-5, "{ours} is not {book}");
        }
    }

    #[test]
    fn whatever_comes_in_the_curve_rises_from_0_to_1(
        rows in prop::collection::vec(prop::collection::vec(any::<f32>(), 0..5), 1..8),
    ) {
        let lstm = lstm();
        let (_, hazards) = after(&lstm, &rows);
        let curve = lstm.cumulative(&hazards);
        prop_assert!(curve.iter().all(|p| (0.0..=1.0).contains(p)), "{curve:?}");
        prop_assert!(curve.windows(2).all(|pair| pair[0] <= pair[1]));
        let mut last = 0.0;
        for time in 0..60 {
            let p = lstm.within(&curve, f64::from(time));
            prop_assert!(p >= last);
            last = p;
        }
        prop_assert!((0.0..=40.0).contains(&lstm.restricted_mean(&curve)));
    }

    #[test]
    fn a_model_that_is_written_down_comes_back_exactly(seed in 0usize..1000) {
        let mut parts = lstm().parts().clone();
        parts.head = numbers(seed, 12);
        let lstm = Lstm::new(parts).unwrap();
        let text = serde_json::to_string(&lstm).unwrap();
        prop_assert_eq!(serde_json::from_str::<Lstm>(&text).unwrap(), lstm);
    }
}

#[test]
fn what_came_before_matters_and_what_is_not_known_says_nothing() {
    let lstm = lstm();
    let (first, second) = (vec![3.0, -2.0, 1.0], vec![0.0, 1.0, 4.0]);
    let (_, both) = after(&lstm, &[first, second.clone()]);
    assert_ne!(both, after(&lstm, std::slice::from_ref(&second)).1);
    let unknown = after(&lstm, &[vec![f32::NAN; 3]]).1;
    assert_eq!(unknown, after(&lstm, &[vec![]]).1);
    assert_eq!(unknown, after(&lstm, &[vec![1.0; 3]]).1);
}

#[test]
fn what_another_model_remembered_is_not_used() {
    let lstm = lstm();
    let row = [2.0, 0.0, 1.0];
    let fresh = lstm.step(lstm.fresh(), &row);
    assert_eq!(lstm.step(LstmState::default(), &row), fresh);
    let mut other = lstm.fresh();
    other.layers[1].held.push(0.0);
    assert_eq!(lstm.step(other, &row), fresh);
    let mut broken = lstm.fresh();
    broken.layers[0].said[0] = f32::NAN;
    assert_eq!(lstm.step(broken, &row), fresh);
}

#[test]
fn damaged_models_are_refused_with_a_reason() {
    type Damage = fn(&mut LstmParts);
    let damage: [(&str, Damage); 9] = [
        ("ascend", |parts| parts.edges[1] = 5.0),
        ("ascend", |parts| parts.edges.clear()),
        ("centres", |parts| parts.centre.truncate(2)),
        ("positive", |parts| parts.scale[0] = 0.0),
        ("finite", |parts| parts.head[3] = f32::INFINITY),
        ("layer 1: 24 recurrent weights", |parts| {
            parts.layers[1].recurrent.truncate(24);
        }),
        ("layer 0: one of the bias weights", |parts| parts.layers[0].bias[0] = f32::NAN),
        ("layer 0 is made for 3 inputs and gets 2", |parts| {
            parts.features.pop();
            parts.centre.pop();
            parts.scale.pop();
        }),
        ("4 intervals", |parts| parts.head.truncate(8)),
    ];
    for (reason, damage) in damage {
        let mut parts = lstm().parts().clone();
        damage(&mut parts);
        let said = Lstm::new(parts).unwrap_err();
        assert!(said.contains(reason), "{reason}: {said}");
    }
    let text = serde_json::to_string(&lstm()).unwrap().replace("40.0", "4.0");
    assert!(serde_json::from_str::<Lstm>(&text).unwrap_err().to_string().contains("ascend"));
}

#[test]
fn readings_of_the_curve_are_those_of_the_hand() {
    let lstm = lstm();
    let curve = lstm.cumulative(&[0.5, 0.0, 0.5, 0.0]);
    assert_eq!(curve, [0.5, 0.5, 0.75, 0.75]);
    assert_eq!(lstm.within(&curve, 2.5), 0.25);
    assert_eq!(lstm.within(&curve, 15.0), 0.625);
    assert_eq!(lstm.within(&curve, 1e9), 0.75);
    // 5 · 0.75 + 5 · 0.5 + 10 · 0.375 + 20 · 0.25.
    assert_eq!(lstm.restricted_mean(&curve), 15.0);
}

/// A model that fears the fullness of saturation, and remembers it.
fn afraid() -> Lstm {
    let mut parts = parts(feature_names());
    let at = parts.features.iter().position(|name| name == "saturation.fill.max").unwrap();
    let count = parts.features.len();
    parts.centre = vec![0.0; count];
    parts.scale = vec![1.0; count];
    let mut input = vec![0.0; count * 4];
    input[at * 4 + 3] = 4.0;
    // Gates stand open; what is held is forgotten by half.
    let bias = vec![4.0, 0.0, 4.0, 0.0];
    parts.layers = vec![LstmLayer { inputs: count, hidden: 1, input, recurrent: vec![0.0; 4], bias }];
    parts.head = vec![3.0; 4];
    Lstm::new(parts).unwrap()
}

fn windows(values: &[Option<f64>]) -> Windows {
    let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
    let metric = |name: &str, family: Family, values: Vec<Option<f64>>| {
        let name = MetricName::new(name);
        let samples = values.into_iter().enumerate().map(|(n, value)| Sample { at: at(n), value }).collect();
        let (kind, unit) = (MetricKind::Exhaustible, "bytes".into());
        (name.clone(), MetricWindow { name, family, kind, unit, limit: Some(100.0), samples })
    };
    let quiet = values.iter().map(|value| value.map(|_| 1.0)).collect();
    Windows {
        cell: CellId::new("a").unwrap(),
        at: at(values.len() - 1),
        step: Duration::from_millis(500),
        metrics: BTreeMap::from([
            metric("memory", Family::Saturation, values.to_vec()),
            metric("latency", Family::Latency, quiet),
        ]),
    }
}

#[test]
fn a_tick_predicts_and_names_the_metric_that_matters() {
    let lstm = afraid();
    let horizon = Duration::from_secs(30);
    let full: Vec<Option<f64>> = (0..60).map(|n| Some(60.0 + 0.6 * f64::from(n))).collect();
    let (state, first) = lstm.tick(lstm.fresh(), &windows(&full), horizon);
    let (state, second) = lstm.tick(state, &windows(&full), horizon);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(second.probability > first.probability, "what is remembered adds to what is seen");
    assert!(second.time_to_failure.is_ordered());
    assert_eq!(second.drivers[0].metric, MetricName::new("memory"));
    let named: f64 = second.drivers.iter().map(|driver| driver.contribution).sum();
    assert!((named - 1.0).abs() < 1e-9);
    // Another horizon reads the same curve.
    let (_, near) = lstm.tick(lstm.fresh(), &windows(&full), Duration::from_secs(10));
    assert!(near.unwrap().probability < first.probability);
    // Nothing measured: nothing said, nothing forgotten.
    let (kept, nothing) = lstm.tick(state.clone(), &windows(&[None; 60]), horizon);
    assert_eq!((kept, nothing), (state, None));
}

#[test]
fn drivers_stand_by_how_much_they_raise_the_risk() {
    let lstm = afraid();
    let at = feature_names().iter().position(|name| name == "saturation.fill.max").unwrap();
    let mut row = vec![0.5; feature_names().len()];
    row[at] = 0.9;
    let drivers = lstm.drivers(&lstm.fresh(), &row);
    assert_eq!(drivers[0].0, "saturation.fill.max");
    assert!(drivers[0].1 > 0.1 && drivers[1].1 == 0.0, "{:?}", &drivers[..2]);
}
