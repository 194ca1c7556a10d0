use std::collections::BTreeMap;

use forefend_domain::{
    CellId, Family, Interval, MetricKind, MetricName, MetricWindow, Prediction, Sample, TimeToFailure,
    Timestamp,
};
use proptest::prelude::*;

use super::*;
use crate::learned::{Beyond, BeyondParts};
use crate::learned::{
    Calibration, Hazard, Learned, Linear, LstmLayer, LstmParts, Model, Scorer, feature_names,
};

const HORIZON: Duration = Duration::from_secs(30);
const STEPS: usize = 3;

fn column(name: &str) -> usize {
    lately_names().iter().position(|n| n == name).unwrap()
}

/// Two cells of memory: the first holds for ever that errors once stood out, the second hears of logs only while the first holds
/// something; what the second holds makes a failure likely. So errors before logs are feared, and logs before errors are not.
fn order() -> Lstm {
    let inputs = lately_names();
    let width = 8;
    let mut input = vec![0.0; inputs.len() * width];
    // Columns: input, forget, output, candidate; two each. Inputs are standardised to about 0 in the quiet and 1 at a mark.
    input[column("lately.errors.high") * width] = 12.0;
    input[column("lately.errors.high") * width + 6] = 4.0;
    input[column("lately.logs.high") * width + 1] = 12.0;
    input[column("lately.logs.high") * width + 7] = 4.0;
    let mut recurrent = vec![0.0; 2 * width];
    recurrent[1] = 16.0;
    let bias = vec![-6.0, -22.0, 8.0, 8.0, 8.0, 8.0, 0.0, 0.0];
    let layer = LstmLayer { inputs: inputs.len(), hidden: 2, input, recurrent, bias };
    let count = inputs.len();
    Lstm::new(LstmParts {
        edges: vec![5.0, 15.0, 30.0],
        features: inputs,
        centre: vec![1.0; count],
        scale: vec![1.0; count],
        layers: vec![layer],
        head: vec![0.0, 0.0, 0.0, 6.0, 6.0, 6.0],
        head_bias: vec![-5.0; 3],
        calibration: Calibration::Identity,
    })
    .unwrap()
}

/// Takes the fullness of saturation for all there is to know.
fn below() -> Stacked {
    let names = feature_names();
    let weight = |name: &String| if name == "saturation.fill.max" { 6.0 } else { 0.0 };
    let mut weights: Vec<f32> = names.iter().map(weight).collect();
    weights.extend([0.5; 2]);
    let (zeros, ones) = (vec![0.0; weights.len()], vec![1.0; weights.len()]);
    let linear = Linear::new(-6.0, weights, zeros, ones).unwrap();
    let hazard =
        Hazard::new(vec![5.0, 15.0, 30.0], names, Scorer::Linear(linear), Calibration::Identity).unwrap();
    Stacked { learned: Learned { hazard }, share: 1.0, levels: None, beyond: None }
}

fn parts() -> RememberingParts {
    let (lstm, steps) = (order(), STEPS);
    RememberingParts { below: Some(below()), lstm, steps, share: 1.0, suspect_from: 0.0, levels: None }
}

fn model() -> Remembering {
    Remembering::new(parts()).unwrap()
}

type Courses = Vec<(&'static str, Family, Vec<Option<f64>>)>;

/// Sixty steps; a mark of errors and one of logs, each some steps ago, and a full memory or an empty one.
fn courses(errors_ago: usize, logs_ago: usize, fill: f64) -> Courses {
    let quiet = |ago: usize| {
        let mut values: Vec<Option<f64>> = (0..60).map(|n| Some(10.0 + 0.5 * f64::from(n % 3))).collect();
        if let Some(place) = 59usize.checked_sub(ago) {
            values[place] = Some(40.0);
        }
        values
    };
    vec![
        ("errors", Family::Errors, quiet(errors_ago)),
        ("logs", Family::Logs, quiet(logs_ago)),
        ("memory", Family::Saturation, vec![Some(100.0 * fill); 60]),
    ]
}

fn windows(courses: &Courses) -> Windows {
    let at = |n: usize| Timestamp::from_unix_ms(1_000_000 + 500 * n as u64);
    let metric = |(name, family, values): &(&'static str, Family, Vec<Option<f64>>)| {
        let name = MetricName::new(name);
        let samples = values.iter().enumerate().map(|(n, v)| Sample { at: at(n), value: *v }).collect();
        let (kind, unit) = (MetricKind::Saturable, "bytes".into());
        let limit = (*family == Family::Saturation).then_some(100.0);
        (name.clone(), MetricWindow { name, family: *family, kind, unit, limit, samples })
    };
    let metrics: BTreeMap<_, _> = courses.iter().map(metric).collect();
    Windows { cell: CellId::new("a").unwrap(), at: at(59), step: Duration::from_millis(500), metrics }
}

fn p(model: &impl Predictor, courses: &Courses) -> f64 {
    model.predict(&windows(courses), HORIZON).unwrap().probability.get()
}

fn p_below(courses: &Courses) -> f64 {
    p(&below(), courses)
}

const FEARED: (usize, usize) = (50, 30);
const HARMLESS: (usize, usize) = (30, 50);

#[test]
fn what_a_suspect_holds_is_told_whoever_speaks_of_it() {
    let parts_of = BeyondParts {
        most: BTreeMap::from([(Family::Saturation, 0.5)]),
        edges_s: vec![30.0],
        failed: vec![0.8],
    };
    let beyond = Some(Beyond::new(parts_of).unwrap());
    let model =
        Remembering::new(RememberingParts { below: Some(Stacked { beyond, ..below() }), ..parts() }).unwrap();
    let exceeds =
        |fill: f64| model.predict(&windows(&courses(FEARED.0, FEARED.1, fill)), HORIZON).unwrap().exceeds;
    assert!(exceeds(0.7) && !exceeds(0.3));
}

#[test]
fn the_order_of_two_marks_is_remembered_and_told_of() {
    let model = model();
    let (feared, harmless) = (courses(FEARED.0, FEARED.1, 0.1), courses(HARMLESS.0, HARMLESS.1, 0.1));
    assert!(p(&model, &feared) > 0.5, "{}", p(&model, &feared));
    assert!(p(&model, &harmless) < 0.1, "{}", p(&model, &harmless));
    assert!((p(&below(), &feared) - p(&below(), &harmless)).abs() < 1e-9, "nothing below can tell");
    let said = model.predict(&windows(&feared), HORIZON).unwrap();
    let named: Vec<&str> = said.drivers.iter().map(|driver| driver.metric.as_str()).collect();
    assert!(named.contains(&"errors") && named.contains(&"logs"), "{named:?}");
    let sum: f64 = said.drivers.iter().map(|driver| driver.contribution).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
}

#[test]
fn only_suspects_are_asked_about() {
    let strict = Remembering::new(RememberingParts { suspect_from: 0.3, ..parts() }).unwrap();
    let (empty, full) = (courses(FEARED.0, FEARED.1, 0.1), courses(FEARED.0, FEARED.1, 0.9));
    assert_eq!(p(&strict, &empty), p(&below(), &empty), "below, nobody suspects it");
    assert_ne!(p(&strict, &full), p(&below(), &full));
    assert_eq!(p(&strict, &full), p(&model(), &full));
    let suspects = |horizon: u64, courses: &Courses| {
        strict.is_suspect(&below().predict(&windows(courses), Duration::from_secs(horizon)).unwrap())
    };
    assert!(suspects(30, &full) && !suspects(30, &empty));
    // The same hazard, over a shorter time: the same suspects.
    assert!(suspects(15, &full) && !suspects(15, &empty));
    let everybody = model().is_suspect(&below().predict(&windows(&empty), HORIZON).unwrap());
    assert!(everybody);
}

#[test]
fn levels_are_of_suspects_alone_and_move_nothing_but_the_ends() {
    let levels = Some(Levels::new(0.02, 0.97));
    let with = Remembering::new(RememberingParts { suspect_from: 0.3, levels, ..parts() }).unwrap();
    let without = Remembering::new(RememberingParts { suspect_from: 0.3, ..parts() }).unwrap();
    let (empty, full) = (courses(FEARED.0, FEARED.1, 0.1), courses(FEARED.0, FEARED.1, 0.9));
    let said = |model: &Remembering, courses| model.predict(&windows(courses), HORIZON).unwrap();
    assert_eq!(said(&with, &empty), said(&without, &empty), "nobody suspects it");
    let (there, plain) = (said(&with, &full), said(&without, &full));
    assert_eq!((there.interval, plain.interval), (Interval::Calibrated, Interval::Plain));
    assert!(there.time_to_failure.p10.unwrap() < plain.time_to_failure.p10.unwrap());
    let ends = |of: Prediction| Prediction {
        interval: Interval::Plain,
        time_to_failure: TimeToFailure { p10: None, p90: None, ..of.time_to_failure },
        ..of
    };
    assert_eq!(ends(there), ends(plain));
    // One that was kept before there were levels is read as it was.
    let text = serde_json::to_string(&without).unwrap();
    assert!(!text.contains("\"levels\"") && serde_json::from_str::<Remembering>(&text).unwrap() == without);
    assert_eq!(serde_json::from_str::<Remembering>(&serde_json::to_string(&with).unwrap()).unwrap(), with);
}

#[test]
fn what_is_missing_holds_what_was_remembered() {
    let model = model();
    let (feared, harmless) = (courses(FEARED.0, FEARED.1, 0.1), courses(HARMLESS.0, HARMLESS.1, 0.1));
    for (courses, what) in [(feared, "feared"), (harmless, "harmless")] {
        let whole = p(&model, &courses);
        // Nothing comes any more for the newest six steps.
        let mut cut = courses.clone();
        cut.iter_mut().for_each(|(_, _, values)| values[54..].fill(None));
        let odds = |p: f64| (p / (1.0 - p)).ln();
        assert!(
            (odds(p(&model, &cut)) - odds(whole)).abs() < 0.7,
            "{what}: {} from {whole}",
            p(&model, &cut)
        );
        // A metric that tells nothing of failures is gone.
        let mut rest = courses.clone();
        rest.pop();
        let share = (odds(p(&model, &rest)) - odds(whole)).abs();
        assert!(share < 0.7, "{what}: {} from {whole}", p(&model, &rest));
    }
    let nothing: Courses = vec![("errors", Family::Errors, vec![None; 60])];
    assert!(model.predict(&windows(&nothing), HORIZON).is_none());
    // Too few values to know what is usual: the model below speaks.
    let few: Courses = vec![("memory", Family::Saturation, vec![Some(50.0); 5])];
    assert_eq!(p(&model, &few), p(&below(), &few));
}

#[test]
fn it_is_the_same_after_a_restart_and_a_damaged_file_is_told() {
    let model = Model::Remembering(Box::new(model()));
    assert_eq!(model.unknown_features(), Vec::<String>::new());
    let text = serde_json::to_string(&model).unwrap();
    let back: Model = serde_json::from_str(&text).unwrap();
    assert_eq!(back, model);
    let feared = windows(&courses(FEARED.0, FEARED.1, 0.1));
    // Whoever has seen nothing before says the same as who has looked all the time.
    for _ in 0..3 {
        let _ = model.predict(&feared, HORIZON);
    }
    assert_eq!(back.predict(&feared, HORIZON), model.predict(&feared, HORIZON));
    assert_eq!(back.reach(), Some(HORIZON));
    let why = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        serde_json::from_str::<Model>(&text.replacen(from, to, 1)).unwrap_err().to_string()
    };
    assert!(why("\"steps\":3", "\"steps\":0").contains("no steps"));
    assert!(why("\"suspect_from\":0.0", "\"suspect_from\":1.5").contains("suspect_from"));
    assert!(
        why(
            "\"edges\":[5.0,15.0,30.0],\"features\":[\"lately",
            "\"edges\":[5.0,15.0,3.0],\"features\":[\"lately"
        )
        .contains("ascend")
    );
    let foreign = text.replacen("lately.errors.high", "lately.errors.tomorrow", 1);
    let foreign: Model = serde_json::from_str(&foreign).unwrap();
    assert_eq!(foreign.unknown_features(), ["lately.errors.tomorrow"]);
    let mut large = order().parts().clone();
    large.layers = vec![LstmLayer {
        inputs: large.features.len(),
        hidden: 129,
        input: vec![0.0; large.features.len() * 4 * 129],
        recurrent: vec![0.0; 129 * 4 * 129],
        bias: vec![0.0; 4 * 129],
    }];
    large.head = vec![0.0; 129 * 3];
    let large = RememberingParts { lstm: Lstm::new(large).unwrap(), ..parts() };
    assert!(Remembering::new(large).unwrap_err().contains("129 cells"));
}

fn any_values() -> impl Strategy<Value = Vec<Option<f64>>> {
    prop::collection::vec(prop::option::weighted(0.85, 0.0f64..100.0), 20..80)
}

proptest! {
    #[test]
    fn predictions_with_memory_never_contradict_themselves(
        errors in any_values(),
        logs in any_values(),
        memory in any_values(),
        share in 0.0f64..1.0,
        suspect_from in 0.0f64..0.5,
    ) {
        let model = Remembering::new(RememberingParts { share, suspect_from, ..parts() }).unwrap();
        let courses = vec![
            ("errors", Family::Errors, errors),
            ("logs", Family::Logs, logs),
            ("memory", Family::Saturation, memory),
        ];
        let Some(said) = model.predict(&windows(&courses), HORIZON) else { return Ok(()) };
        prop_assert!(said.time_to_failure.is_ordered());
        prop_assert!(said.curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let p = said.probability.get();
        prop_assert!((said.health.get() - 100.0 * (1.0 - p)).abs() < 1e-9);
        let named: f64 = said.drivers.iter().map(|driver| driver.contribution).sum();
        prop_assert!(said.drivers.is_empty() || (named - 1.0).abs() < 1e-9, "{named}");
        let twice = model.predict(&windows(&courses), HORIZON * 2).unwrap().probability.get();
        // Who is at the edge of being a suspect may be one over one grid of times and none over the other.
        let risk = p_below(&courses);
        prop_assert!(twice >= p - 0.02 || (risk - suspect_from).abs() < 0.02, "{p}, then {twice} for twice as long");
        let renamed: Courses = [("z", 0), ("y", 1), ("x", 2)]
            .into_iter()
            .map(|(name, n)| (name, courses[n].1, courses[n].2.clone()))
            .collect();
        let again = model.predict(&windows(&renamed), HORIZON).unwrap().probability.get();
        prop_assert!((p - again).abs() < 1e-9, "{p} and {again}");
    }
}
