//! Figures that other programs compute from the same rows. `make.py` beside this made them, and names the programs' versions.

use forefend_learn::{
    Matrix,
    calibrate::isotonic,
    evaluate::{
        poisson, probability, rank, reliability,
        survival::{self, Followed, KaplanMeier},
        wilson,
    },
    logistic,
};
use serde_json::Value;

fn figures(part: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("figures.json")).expect("JSON");
    all[part].clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn outcomes(value: &Value) -> Vec<bool> {
    value.as_array().expect("a list").iter().map(|v| v.as_bool().expect("yes or no")).collect()
}

/// Relative to the larger of the expected value and 1.
#[track_caller]
fn near(found: impl Into<Option<f64>>, expected: &Value, within: f64) {
    let (found, expected) = (found.into().expect("a figure"), expected.as_f64().expect("a number"));
    assert!((found - expected).abs() <= within * expected.abs().max(1.0), "{found} instead of {expected}");
}

#[test]
fn ranks_agree_with_scikit_learn() {
    let of = figures("ranked");
    let (scores, truth, weights) =
        (numbers(&of["scores"]), outcomes(&of["outcomes"]), numbers(&of["weights"]));
    near(rank::auc(&scores, &truth, None), &of["auc"], 1e-12);
    near(rank::auc(&scores, &truth, Some(&weights)), &of["weighted_auc"], 1e-12);
    near(rank::average_precision(&scores, &truth, None), &of["average_precision"], 1e-12);
    near(rank::average_precision(&scores, &truth, Some(&weights)), &of["weighted_average_precision"], 1e-12);
}

#[test]
fn probabilities_agree_with_scikit_learn_and_calibration_with_statsmodels() {
    let of = figures("probable");
    let (risks, truth, weights) = (numbers(&of["risks"]), outcomes(&of["outcomes"]), numbers(&of["weights"]));
    near(probability::brier(&risks, &truth, None), &of["brier"], 1e-12);
    near(probability::brier(&risks, &truth, Some(&weights)), &of["weighted_brier"], 1e-12);
    near(probability::log_loss(&risks, &truth, None), &of["log_loss"], 1e-12);
    let line = reliability::recalibration(&risks, &truth).expect("a line");
    near(line.slope, &of["slope"], 1e-7);
    near(line.intercept, &of["intercept"], 1e-7);
    near(reliability::in_the_large(&risks, &truth), &of["in_the_large"], 1e-7);
}

#[test]
fn the_rising_line_agrees_with_scikit_learn() {
    let of = figures("probable");
    let targets: Vec<f32> = outcomes(&of["outcomes"]).iter().map(|yes| f32::from(u8::from(*yes))).collect();
    let weights: Vec<f32> = numbers(&of["weights"]).iter().map(|w| *w as f32).collect();
    let line = isotonic(&numbers(&of["risks"]), &targets, Some(&weights)).expect("a line");
    for (at, expected) in numbers(&of["isotonic_at"]).iter().zip(of["isotonic"].as_array().expect("a list")) {
        // What is learned is kept in single precision.
        near(line.apply(*at), expected, 1e-5);
    }
}

#[test]
fn survival_agrees_with_scikit_survival() {
    let of = figures("followed");
    let rows: Vec<Followed> = numbers(&of["time"])
        .into_iter()
        .zip(outcomes(&of["failed"]))
        .map(|(time_s, failed)| Followed { time_s, failed })
        .collect();
    let scores = numbers(&of["scores"]);
    let censoring = KaplanMeier::of_censoring(&rows).expect("rows");
    for (n, horizon) in numbers(&of["horizons"]).into_iter().enumerate() {
        near(survival::auc(horizon, &rows, &scores, &censoring), &of["auc"][n], 1e-9);
        let risks = numbers(&of["risks"][n]);
        near(survival::brier(horizon, &rows, &risks, &censoring), &of["brier"][n], 1e-9);
    }
    let tau = of["tau"].as_f64().expect("a number");
    near(survival::uno_c(tau, &rows, &scores, &censoring), &of["uno_c"], 1e-9);
    let failures = KaplanMeier::of_failures(&rows).expect("rows");
    for (at, expected) in numbers(&of["survival_at"]).iter().zip(of["survival"].as_array().expect("a list")) {
        near(failures.after(*at), expected, 1e-12);
    }
}

#[test]
fn the_penalised_regression_agrees_with_scikit_learn() {
    let of = figures("regression");
    let rows = of["columns"].as_array().expect("rows");
    let cells = rows.iter().flat_map(numbers).map(|v| v as f32).collect();
    let targets: Vec<f32> = outcomes(&of["outcomes"]).iter().map(|yes| f32::from(u8::from(*yes))).collect();
    let settings =
        logistic::Settings { l2: of["l2"].as_f64().expect("a number"), ..logistic::Settings::default() };
    let matrix = Matrix::new(3, cells).expect("a matrix");
    let model = logistic::train(&matrix, &targets, None, &settings).expect("a model");
    near(model.intercept(), &of["intercept"], 1e-5);
    for (weight, expected) in model.weights().iter().zip(of["weights"].as_array().expect("a list")) {
        near(f64::from(*weight), expected, 1e-5);
    }
}

#[test]
fn intervals_agree_with_statsmodels_and_scipy() {
    let of = figures("intervals");
    let pairs =
        |name: &str| -> Vec<Vec<f64>> { of[name].as_array().expect("pairs").iter().map(numbers).collect() };
    for (of, expected) in pairs("wilson_of").iter().zip(of["wilson"].as_array().expect("pairs")) {
        let found = wilson(of[0] as usize, of[1] as usize, 0.95).expect("an interval");
        near(found.low, &expected[0], 1e-12);
        near(found.high, &expected[1], 1e-12);
    }
    for (of, expected) in pairs("poisson_of").iter().zip(of["poisson"].as_array().expect("pairs")) {
        let found = poisson(of[0] as u64, of[1], 0.95).expect("an interval");
        near(found.low, &expected[0], 1e-9);
        near(found.high, &expected[1], 1e-9);
    }
}
