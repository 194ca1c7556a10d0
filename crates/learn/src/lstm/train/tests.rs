use super::*;
use crate::lstm::{DeviceChoice, from_bytes, to_bytes};

const EDGES: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// Cells whose first row alone says how they will fare: lives from each row on are exponential with rate 0.05 or 0.5, each lost
/// sight of at some time.
fn cells(seed: u64, count: usize) -> Vec<Watched> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|n| {
            let sick = n % 2 == 1;
            let rate = if sick { 0.5 } else { 0.05 };
            let mut watched = Watched::default();
            for step in 0..8 {
                let told = if step == 0 { f32::from(u8::from(sick)) } else { f32::NAN };
                let life = -(1.0 - random.random::<f64>()).ln() / rate;
                let seen = random.random_range(2.0..12.0);
                watched.push(vec![told, random.random()], life.min(seen).max(1e-6), life <= seen, 1.0);
            }
            watched
        })
        .collect()
}

fn names() -> Vec<String> {
    vec!["sick".to_owned(), "noise".to_owned()]
}

fn settings() -> Settings {
    Settings {
        hidden: 8,
        epochs: 30,
        learning_rate: 0.02,
        batch: 16,
        span: 5,
        offset: 0.0,
        ..Settings::default()
    }
}

/// What a model says of a cell after its rows.
fn curve(model: &Lstm, rows: &[Vec<f32>]) -> Vec<f64> {
    let (_, hazards) =
        rows.iter().fold((model.fresh(), Vec::new()), |(state, _), row| model.step(state, row));
    model.cumulative(&hazards)
}

#[test]
fn what_was_said_at_the_beginning_is_remembered_and_the_true_curve_found() {
    let trained = train(&cells(1, 400), &[], &names(), &EDGES, &settings()).unwrap();
    for (sick, rate) in [(0.0, 0.05f64), (1.0, 0.5)] {
        let mut rows = vec![vec![f32::NAN, 0.5]; 8];
        rows[0][0] = sick;
        // Longer than the span that errors are traced back through.
        for (edge, p) in EDGES.iter().zip(curve(&trained.model, &rows)) {
            let truth = 1.0 - (-rate * edge).exp();
            assert!((p - truth).abs() < 0.1, "{sick} {edge}: {p} for {truth}");
        }
    }
    assert_eq!((trained.epochs, trained.held_out.len()), (30, 0));
}

#[test]
fn the_same_seed_makes_the_same_model_bit_by_bit_and_another_another() {
    let some = cells(2, 40);
    let made = |seed: u64| {
        let settings = Settings { seed, epochs: 3, layers: 2, offset: 0.2, ..settings() };
        to_bytes(&train(&some, &[], &names(), &EDGES, &settings).unwrap().model)
    };
    let first = made(1);
    assert_eq!(first, made(1));
    assert_ne!(first, made(2));
    assert_eq!(to_bytes(&from_bytes(&first).unwrap()), first);
}

#[test]
fn what_learns_says_what_is_served() {
    let some = cells(3, 6);
    let settings = Settings { epochs: 4, layers: 2, ..settings() };
    let model = train(&some, &[], &names(), &EDGES, &settings).unwrap().model;
    agrees(&model, &some, &Device::flex().autodiff(), 1e-5);
}

/// What learns on a device says what is served.
fn agrees(model: &Lstm, cells: &[Watched], device: &Device, within: f64) {
    let parts = model.parts();
    for watched in cells {
        let sequence = Sequence::of(watched, parts);
        let school = School::new(parts, &settings(), ChaCha8Rng::seed_from_u64(1), device);
        let steps = (0..sequence.len()).map(|n| school.step(&[&sequence], n, 2, &[0.0; 2])).collect();
        let log_odds = school.network.read(steps, &mut school.network.fresh(1, device));
        let theirs = super::super::network::numbers(log_odds).unwrap();
        let mut state = model.fresh();
        for (row, theirs) in watched.rows.iter().zip(theirs.chunks_exact(EDGES.len())) {
            let hazards;
            (state, hazards) = model.step(state, row);
            for (ours, theirs) in hazards.iter().zip(theirs) {
                let theirs = 1.0 / (1.0 + (-f64::from(*theirs)).exp());
                assert!((ours - theirs).abs() < within, "{ours} is not {theirs}");
            }
        }
    }
}

#[test]
fn training_ends_when_held_out_cells_gain_no_more_and_keeps_the_best() {
    let settings = Settings { epochs: 40, patience: 4, hidden: 16, learning_rate: 0.05, ..settings() };
    // So few that it learns them by heart.
    let trained = train(&cells(4, 12), &cells(5, 100), &names(), &EDGES, &settings).unwrap();
    let errors = &trained.held_out;
    assert!(errors.len() < 40, "{errors:?}");
    assert_eq!(errors.len(), trained.epochs + 4);
    let best = errors.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(errors[trained.epochs - 1], best);
    let held_out = cells(5, 100);
    let read: Vec<_> = held_out.iter().map(|w| Sequence::of(w, trained.model.parts())).collect();
    assert_eq!(judge(&trained.model, &held_out, &read), best);
}

#[test]
fn rows_without_weight_are_read_and_not_judged() {
    let lie = |watched: &mut Watched| {
        for n in 0..watched.len() {
            if n % 2 == 0 {
                (watched.times[n], watched.failed[n], watched.weights[n]) = (0.5, true, 0.0);
            }
        }
    };
    let mut some = cells(6, 200);
    some.iter_mut().for_each(lie);
    let settings = Settings { epochs: 12, ..settings() };
    let model = train(&some, &[], &names(), &EDGES, &settings).unwrap().model;
    let healthy = curve(&model, &[vec![0.0, 0.5], vec![f32::NAN, 0.5]]);
    assert!(healthy[0] < 0.2, "{healthy:?}");
}

#[test]
fn what_can_not_be_learned_from_is_told() {
    let why = |change: fn(&mut Watched), settings: &Settings| {
        let mut some = cells(7, 4);
        some.iter_mut().skip(2).take(1).for_each(change);
        train(&some, &[], &names(), &EDGES, settings).unwrap_err().to_string()
    };
    let usual = settings();
    let told = why(|watched| watched.times[3] = 0.0, &usual);
    assert!(told.contains("row 3 of sequence 2"), "{told}");
    let told = why(|watched| watched.rows[1].truncate(1), &usual);
    assert!(told.contains("1 features, not 2"), "{told}");
    assert!(why(|watched| watched.rows[1][0] = f32::INFINITY, &usual).contains("infinite"));
    assert!(why(|watched| watched.weights[1] = -1.0, &usual).contains("weight"));
    assert!(why(|watched| watched.weights.truncate(1), &usual).contains("of the rest"));
    let no = Settings { span: 0, ..usual.clone() };
    assert!(why(|_| {}, &no).contains("`span` must be above 0"));
    let nobody_fails: Vec<Watched> = cells(8, 4)
        .into_iter()
        .map(|watched| Watched { failed: vec![false; watched.len()], ..watched })
        .collect();
    let told = train(&nobody_fails, &[], &names(), &EDGES, &usual).unwrap_err();
    assert_eq!(told, TrainError::OneClass(0.0));
    assert_eq!(train(&[], &[], &names(), &EDGES, &usual).unwrap_err(), TrainError::NoRows);
}

#[test]
fn a_place_is_chosen_by_what_was_asked_for_and_by_the_work_and_told() {
    let small = Place::choose(DeviceChoice::Auto, settings().work(2));
    assert_eq!((small.on.device.as_str(), small.on.failed), ("cpu", false));
    assert!(small.on.why.contains("too little work"), "{}", small.on.why);
    // What the ladder trains stays on the CPU; what would be worth a GPU is four hundred cells of memory wide.
    let wide = |hidden| Settings { hidden, batch: 32, ..settings() }.work(21);
    assert_eq!(wide(24), 32 * 4 * 24 * (21 + 24));
    assert!(Place::is_worth_a_gpu(wide(512)) && !Place::is_worth_a_gpu(wide(64)));
    assert_eq!(Place::choose(DeviceChoice::Cpu, usize::MAX).on.why, "asked for");
    if !cfg!(feature = "gpu") {
        let none = Place::choose(DeviceChoice::Gpu, usize::MAX).on;
        assert!(none.device == "cpu" && none.why.contains("feature `gpu`"), "{none:?}");
    }
}

#[test]
fn what_fails_on_the_cpu_is_an_error_and_not_tried_again() {
    let mut place = Place::choose(DeviceChoice::Cpu, 0);
    let no = || TrainError::NoRows;
    let told = place.attempt("it", |_| Err::<(), _>(no()), |_| unreachable!("only a GPU is replaced"));
    assert_eq!((told, place.on.failed), (Err(no()), false));
}

/// Where a GPU begins to pay, for the machine at hand.
#[test]
#[ignore = "measures: `cargo test --release -p forefend-learn --features gpu --lib -- --ignored --nocapture a_step`"]
fn a_step_takes_so_long() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut watched = || {
        let mut watched = Watched::default();
        for _ in 0..20 {
            watched.push((0..21).map(|_| random.random()).collect(), 3.0, random.random(), 1.0);
        }
        watched
    };
    let cells: Vec<Watched> = (0..32).map(|_| watched()).collect();
    let names: Vec<String> = (0..21).map(|n| n.to_string()).collect();
    for hidden in [8, 24, 64, 128, 256, 512] {
        let settings = Settings { hidden, epochs: 1, batch: 32, span: 20, ..settings() };
        let model = train(&cells, &[], &names, &EDGES, &settings).unwrap().model;
        let read: Vec<_> = cells.iter().map(|watched| Sequence::of(watched, model.parts())).collect();
        for choice in [DeviceChoice::Cpu, DeviceChoice::Gpu] {
            let place = Place::choose(choice, 0);
            let random = ChaCha8Rng::seed_from_u64(1);
            let mut school = School::new(model.parts(), &settings, random, &place.device);
            // The first finds memory and translates programs; the quickest of the rest was disturbed least.
            let mut quickest = f64::INFINITY;
            for epoch in 0..10 {
                let begin = std::time::Instant::now();
                school = school.lesson(&read, model.parts(), 1e-3).unwrap().0;
                if epoch > 0 {
                    quickest = quickest.min(begin.elapsed().as_secs_f64());
                }
            }
            let (us, work) = (quickest * 1e6 / 20.0, settings.work(21));
            println!("{hidden:>4} cells, {work:>9} multiply-adds: {us:>8.0} µs a step, {}", place.on.device);
        }
    }
}

#[cfg(feature = "gpu")]
mod gpu;
