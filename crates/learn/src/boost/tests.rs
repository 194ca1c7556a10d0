use std::time::Instant;

use forefend_predict::learned::{Node, Tree, Trees};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Rows of even random numbers from 0 to 1, and targets made of them.
fn made_up(seed: u64, rows: usize, columns: usize, target: impl Fn(&[f32]) -> f32) -> (Matrix, Vec<f32>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..rows * columns).map(|_| random.random()).collect();
    let matrix = Matrix::new(columns, values).unwrap();
    let targets = (0..rows).map(|row| target(matrix.row(row))).collect();
    (matrix, targets)
}

/// Without chance: all rows and columns in every round.
fn plain() -> Settings {
    Settings { rounds: 40, leaves: 8, row_share: 1.0, column_share: 1.0, ..Settings::default() }
}

/// What a tree answered in training, where an unknown value took a side; served, it ends the way.
fn in_training(tree: &Tree, row: &[f32]) -> f64 {
    let mut at = 0;
    loop {
        match &tree.nodes()[at] {
            Node::Leaf { value } => return f64::from(*value),
            Node::Split { feature, threshold, left, right, unknown_left, .. } => {
                let value = row[*feature as usize];
                let goes_left = if value.is_nan() { *unknown_left } else { value <= *threshold };
                at = if goes_left { *left } else { *right } as usize;
            }
        }
    }
}

/// The score of a row in training.
fn score_in_training(trees: &Trees, row: &[f32]) -> f64 {
    let served: f64 = trees.trees().iter().map(|tree| tree.value(row)).sum();
    let trained: f64 = trees.trees().iter().map(|tree| in_training(tree, row)).sum();
    trees.score(row) - served + trained
}

fn splits(trees: &Trees) -> impl Iterator<Item = u32> + '_ {
    trees.trees().iter().flat_map(|tree| tree.nodes()).filter_map(|node| match node {
        Node::Split { feature, .. } => Some(*feature),
        Node::Leaf { .. } => None,
    })
}

fn yes(is: bool) -> f32 {
    f32::from(u8::from(is))
}

#[test]
fn exclusive_or_is_learned_though_no_feature_alone_says_anything() {
    let truth = |row: &[f32]| yes((row[0] > 0.5) != (row[1] > 0.3));
    let (matrix, targets) = made_up(1, 2_000, 3, truth);
    let trees = train(&matrix, &targets, None, None, &plain()).unwrap();
    let (fresh, truths) = made_up(2, 1_000, 3, truth);
    let right = (0..1_000).filter(|row| yes(trees.score(fresh.row(*row)) > 0.0) == truths[*row]).count();
    assert!(right > 970, "{right} of 1000");
}

#[test]
fn a_step_is_learned_at_its_place_and_height() {
    let (matrix, targets) = made_up(3, 2_000, 1, |row| if row[0] > 0.7 { 50.0 } else { 10.0 });
    let settings = Settings { loss: Loss::Squared, rounds: 80, leaves: 2, l2: 0.0, ..plain() };
    let trees = train(&matrix, &targets, None, None, &settings).unwrap();
    for (x, wanted) in [(0.0, 10.0), (0.68, 10.0), (0.72, 50.0), (1.0, 50.0)] {
        let score = trees.score(&[x]);
        assert!((score - wanted).abs() < 0.1, "{score} at {x}");
    }
}

#[test]
fn probabilities_are_those_of_the_rows_though_failures_are_rare() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let rate = |x: f32| if x > 0.9 { 0.2 } else { 0.005 };
    let (matrix, _) = made_up(5, 20_000, 2, |_| 0.0);
    let targets: Vec<f32> =
        (0..matrix.rows()).map(|row| yes(random.random::<f32>() < rate(matrix.row(row)[0]))).collect();
    let settings = Settings { rounds: 30, leaves: 3, ..plain() };
    let trees = train(&matrix, &targets, None, None, &settings).unwrap();
    let mean = |above: bool| {
        let rows: Vec<usize> =
            (0..matrix.rows()).filter(|row| (matrix.row(*row)[0] > 0.9) == above).collect();
        let p = |row: &usize| 1.0 / (1.0 + (-trees.score(matrix.row(*row))).exp());
        rows.iter().map(p).sum::<f64>() / rows.len() as f64
    };
    assert!((mean(true) - 0.2).abs() < 0.03, "{}", mean(true));
    assert!((mean(false) - 0.005).abs() < 0.003, "{}", mean(false));
}

#[test]
fn early_stopping_stops_and_keeps_the_best_prefix() {
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let (matrix, clean) = made_up(7, 600, 5, |row| yes(row[0] > 0.5));
    let targets: Vec<f32> =
        clean.iter().map(|y| if random.random::<f32>() < 0.3 { 1.0 - y } else { *y }).collect();
    let rows: Vec<usize> = (0..600).collect();
    let (train_on, valid_on) = (matrix.select(&rows[..300]), matrix.select(&rows[300..]));
    let valid = Valid { matrix: &valid_on, targets: &targets[300..], weights: None };
    let settings = Settings { rounds: 300, patience: Some(10), ..plain() };
    let stopped = train(&train_on, &targets[..300], None, Some(valid), &settings).unwrap();
    let kept = stopped.trees().len();
    assert!((1..200).contains(&kept), "{kept} trees");

    let all = Settings { rounds: kept + 10, patience: None, ..settings };
    let whole = train(&train_on, &targets[..300], None, None, &all).unwrap();
    assert_eq!(stopped.trees(), &whole.trees()[..kept], "it is the beginning of what is grown without");
    let loss = |trees: &[forefend_predict::learned::Tree]| -> f64 {
        let model = Trees::new(5, whole.base() as f32, trees.to_vec()).unwrap();
        (0..300).map(|row| Loss::Log.of(model.score(valid_on.row(row)), targets[300 + row])).sum()
    };
    let best = loss(stopped.trees());
    assert!((0..kept + 10).all(|count| loss(&whole.trees()[..count]) >= best));
}

#[test]
fn unknown_values_are_told_apart_in_training_and_those_never_seen_unknown_go_with_the_majority() {
    let (known, _) = made_up(8, 1_000, 2, |_| 0.0);
    let mut matrix = Matrix::new(2, vec![]).unwrap();
    let mut targets = Vec::new();
    for row in 0..1_000 {
        let [a, b] = [known.row(row)[0], known.row(row)[1]];
        let is_unknown = row % 3 == 0;
        matrix.push(&[if is_unknown { f32::NAN } else { a }, b]).unwrap();
        targets.push(if is_unknown { 5.0 } else { yes(b > 0.8) });
    }
    let settings = Settings { loss: Loss::Squared, rounds: 80, l2: 0.0, ..plain() };
    let trees = train(&matrix, &targets, None, None, &settings).unwrap();
    let score = |row: &[f32]| score_in_training(&trees, row);
    assert!((score(&[f32::NAN, 0.5]) - 5.0).abs() < 0.1);
    assert!(score(&[0.5, 0.5]).abs() < 0.1);
    assert!(score(&[0.5, f32::NAN]).abs() < 0.1, "four in five of those are 0");
    // Served, that something is not known is no reason to expect anything else than usual.
    assert!((trees.score(&[f32::NAN, f32::NAN]) - targets.iter().sum::<f32>() as f64 / 1_000.0).abs() < 0.1);
}

#[test]
fn weights_count_like_repeated_rows_and_rows_of_weight_0_not_at_all() {
    let (matrix, targets) = made_up(9, 400, 3, |row| yes(row[0] + row[1] > 1.1));
    let weights: Vec<f32> = (0..400).map(|row| (row % 3) as f32).collect();
    let repeated: Vec<usize> = (0..400).flat_map(|row| std::iter::repeat_n(row, row % 3)).collect();
    let repeated_targets: Vec<f32> = repeated.iter().map(|row| targets[*row]).collect();
    let settings = Settings { min_rows_in_leaf: 1, min_hessian: 1.0, ..plain() };
    let weighted = train(&matrix, &targets, Some(&weights), None, &settings).unwrap();
    let plain = train(&matrix.select(&repeated), &repeated_targets, None, None, &settings).unwrap();
    for row in repeated {
        let (a, b) = (weighted.score(matrix.row(row)), plain.score(matrix.row(row)));
        assert!((a - b).abs() < 1e-3, "{a} is not {b}");
    }
}

#[test]
fn what_can_not_be_learned_from_is_told() {
    let (matrix, targets) = made_up(10, 50, 2, |row| yes(row[0] > 0.5));
    let refused = |targets: &[f32], weights: Option<&[f32]>, settings: &Settings| {
        train(&matrix, targets, weights, None, settings).unwrap_err().to_string()
    };
    assert!(refused(&targets[1..], None, &plain()).contains("49 targets for 50"));
    assert!(refused(&[1.0; 50], None, &plain()).contains("all targets are 1"));
    assert!(refused(&[f32::NAN; 50], None, &plain()).contains("target of row 0"));
    assert!(refused(&targets, Some(&[1.0]), &plain()).contains("1 weights for 50"));
    let squared = Settings { loss: Loss::Squared, ..plain() };
    assert!(refused(&[f32::INFINITY; 50], None, &squared).contains("1e30"));
    for (settings, name) in [
        (Settings { bins: 256, ..plain() }, "bins"),
        (Settings { leaves: 1, ..plain() }, "leaves"),
        (Settings { monotone: vec![1], ..plain() }, "monotone"),
        (Settings { row_share: 0.0, ..plain() }, "row_share"),
        (Settings { learning_rate: f64::NAN, ..plain() }, "learning_rate"),
    ] {
        assert!(refused(&targets, None, &settings).contains(name));
    }
    let empty = Matrix::new(2, vec![]).unwrap();
    assert_eq!(train(&empty, &[], None, None, &plain()), Err(TrainError::NoRows));
    let other = Matrix::new(1, vec![0.0]).unwrap();
    let valid = Valid { matrix: &other, targets: &[0.0], weights: None };
    let error = train(&matrix, &targets, None, Some(valid), &plain()).unwrap_err();
    assert!(error.to_string().contains("1 columns to validate on for 2"));
}

#[test]
fn absurd_targets_and_weights_give_finite_scores() {
    let (matrix, targets) = made_up(11, 200, 2, |row| if row[0] > 0.5 { 1e30 } else { -1e30 });
    let settings = Settings { loss: Loss::Squared, l2: 0.0, min_hessian: 0.0, ..plain() };
    let trees = train(&matrix, &targets, Some(&[1e-30; 200]), None, &settings).unwrap();
    assert!(trees.score(&[0.9, 0.9]).is_finite());
}

#[test]
#[ignore = "measures: cargo test --release -p forefend-learn boost -- --ignored --nocapture"]
fn how_long_training_takes() {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let (matrix, signal) = made_up(13, 100_000, 40, |row| 4.0 * (row[0] - row[1] * row[2]) - 3.0);
    let targets: Vec<f32> =
        signal.iter().map(|s| yes(random.random::<f32>() < 1.0 / (1.0 + (-s).exp()))).collect();
    for (share, threads) in [(1.0, 1), (0.8, 1), (1.0, 2)] {
        let settings = Settings {
            rounds: 200,
            leaves: 31,
            row_share: share,
            column_share: share,
            threads,
            ..Settings::default()
        };
        let begin = Instant::now();
        let trees = train(&matrix, &targets, None, None, &settings).unwrap();
        let took_s = begin.elapsed().as_secs_f64();
        println!("shares {share}, {threads} threads: {} trees in {took_s:.2} s", trees.trees().len());
    }
}

/// Few values, so that there are ties, and unknown ones.
fn any_feature() -> impl Strategy<Value = f32> {
    prop_oneof![4 => (-5i8..5).prop_map(f32::from), 4 => -1e3f32..1e3, 1 => Just(f32::NAN)]
}

fn any_rows() -> impl Strategy<Value = Vec<([f32; 3], bool)>> {
    let row = (any_feature(), any_feature(), any_feature(), any::<bool>());
    prop::collection::vec(row.prop_map(|(a, b, c, y)| ([a, b, c], y)), 30..120)
}

fn matrix_of(rows: &[([f32; 3], bool)], order: [usize; 3]) -> (Matrix, Vec<f32>) {
    let values = rows.iter().flat_map(|(row, _)| order.map(|column| row[column])).collect();
    let mut targets: Vec<f32> = rows.iter().map(|(_, y)| yes(*y)).collect();
    (targets[0], targets[1]) = (0.0, 1.0);
    (Matrix::new(3, values).unwrap(), targets)
}

fn quick() -> Settings {
    Settings { rounds: 6, leaves: 6, min_rows_in_leaf: 3, ..Settings::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn same_seed_same_model_whatever_the_number_of_threads(rows in any_rows(), seed in any::<u64>()) {
        let (matrix, targets) = matrix_of(&rows, [0, 1, 2]);
        let run = |threads| {
            train(&matrix, &targets, None, None, &Settings { seed, threads, ..quick() }).unwrap()
        };
        prop_assert_eq!(run(1), run(1));
        prop_assert_eq!(run(1), run(2));
        prop_assert_eq!(run(1), run(5));
    }

    #[test]
    fn leaves_hold_enough_rows_and_nodes_the_mean_of_what_is_below(rows in any_rows(), min in 1usize..20) {
        let (matrix, targets) = matrix_of(&rows, [0, 1, 2]);
        let settings = Settings { min_rows_in_leaf: min, row_share: 1.0, ..quick() };
        let trees = train(&matrix, &targets, None, None, &settings).unwrap();
        for tree in trees.trees() {
            let leaves = tree.nodes().iter().filter(|n| matches!(n, Node::Leaf { .. })).count();
            prop_assert!(leaves <= 6);
            let answers: Vec<f64> = (0..matrix.rows()).map(|row| in_training(tree, matrix.row(row))).collect();
            let mean = answers.iter().sum::<f64>() / answers.len() as f64;
            prop_assert!((mean - f64::from(tree.nodes()[0].expected())).abs() < 1e-5);
            for answer in &answers {
                prop_assert!(answers.iter().filter(|a| *a == answer).count() >= min);
            }
        }
    }

    #[test]
    fn monotone_constraints_hold_everywhere(
        rows in any_rows(),
        direction in prop::sample::select(vec![1i8, -1]),
        probe in prop::collection::vec((any_feature(), any_feature()), 1..8),
    ) {
        let (matrix, targets) = matrix_of(&rows, [0, 1, 2]);
        let settings = Settings { rounds: 12, monotone: vec![direction, 0, -direction], ..quick() };
        let trees = train(&matrix, &targets, None, None, &settings).unwrap();
        for (b, other) in probe {
            let steps = (-40i16..40).map(|x| f32::from(x) * 0.51).chain([-1e9, 1e9]);
            let mut steps: Vec<f32> = steps.collect();
            steps.sort_by(f32::total_cmp);
            let up: Vec<f64> = steps.iter().map(|a| f64::from(direction) * trees.score(&[*a, b, other])).collect();
            prop_assert!(up.is_sorted(), "{up:?}");
            let down: Vec<f64> = steps.iter().map(|c| -f64::from(direction) * trees.score(&[other, b, *c])).collect();
            prop_assert!(down.is_sorted(), "{down:?}");
        }
    }

    #[test]
    fn the_order_of_the_columns_does_not_matter(rows in any_rows()) {
        let settings = Settings { row_share: 1.0, column_share: 1.0, ..quick() };
        let order = [2, 0, 1];
        let ((matrix, targets), (permuted, _)) = (matrix_of(&rows, [0, 1, 2]), matrix_of(&rows, order));
        // No two sets of rows weigh the same, so that no two splits are as good.
        let weights: Vec<f32> = (0..rows.len()).map(|row| 1.0 + (row as f32 * 0.618).fract()).collect();
        let trees = train(&matrix, &targets, Some(&weights), None, &settings).unwrap();
        let others = train(&permuted, &targets, Some(&weights), None, &settings).unwrap();
        for row in 0..matrix.rows() {
            // Of two columns that part the rows alike, either may be asked; only in training are they the same where one is not known.
            let a = score_in_training(&trees, matrix.row(row));
            let b = score_in_training(&others, permuted.row(row));
            prop_assert!((a - b).abs() < 1e-4, "{a} is not {b}");
        }
    }

    #[test]
    fn a_constant_column_is_never_asked_for(rows in any_rows(), constant in -1e3f32..1e3) {
        let rows: Vec<_> = rows.iter().map(|([a, _, c], y)| ([*a, constant, *c], *y)).collect();
        let (matrix, targets) = matrix_of(&rows, [0, 1, 2]);
        let trees = train(&matrix, &targets, None, None, &quick()).unwrap();
        prop_assert!(splits(&trees).all(|feature| feature != 1));
        let (blank, _) = matrix_of(&rows.iter().map(|(_, y)| ([f32::NAN; 3], *y)).collect::<Vec<_>>(), [0, 1, 2]);
        let trees = train(&blank, &targets, None, None, &quick()).unwrap();
        prop_assert_eq!(trees.trees().len(), 0, "nothing is known of any row");
        prop_assert!(trees.score(&[1.0, 2.0, 3.0]).is_finite());
    }

    #[test]
    fn scores_are_finite_parts_add_up_and_the_model_survives_being_written_down(
        rows in any_rows(),
        probe in [any_feature(), any_feature(), any_feature()],
        squared in any::<bool>(),
    ) {
        let (matrix, targets) = matrix_of(&rows, [0, 1, 2]);
        let loss = if squared { Loss::Squared } else { Loss::Log };
        let trees = train(&matrix, &targets, None, None, &Settings { loss, ..quick() }).unwrap();
        let score = trees.score(&probe);
        prop_assert!(score.is_finite());
        let mut parts = [0.0; 3];
        let sum = trees.contributions(&probe, &mut parts) + parts.iter().sum::<f64>();
        prop_assert!((sum - score).abs() < 1e-9);
        let text = serde_json::to_string(&trees).unwrap();
        prop_assert_eq!(serde_json::from_str::<Trees>(&text).unwrap(), trees);
    }
}
