use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Three metrics: a slow walk around 50, its double with a little noise, and noise of its own.
struct Cell {
    random: ChaCha8Rng,
    level: f64,
}

impl Cell {
    fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), level: 0.0 }
    }

    fn row(&mut self) -> Vec<f64> {
        let mut noise = || self.random.random_range(-1.0..1.0);
        self.level = 0.95 * self.level + noise();
        vec![50.0 + self.level, 100.0 + 2.0 * self.level + 0.2 * noise(), 5.0 * noise()]
    }

    fn detector(&mut self, rows: usize) -> Joint {
        let mut learner = Learner::new(3);
        (0..rows).for_each(|_| learner.push(&self.row()));
        learner.finish().unwrap()
    }
}

#[test]
fn usual_rows_score_about_one_and_a_pair_that_parts_far_more() {
    let mut cell = Cell::new(1);
    let mut detector = cell.detector(2_000);
    let usual: Vec<f64> = (0..500).map(|_| detector.push(&cell.row()).score).collect();
    let mean = usual.iter().sum::<f64>() / 500.0;
    assert!((0.8..1.8).contains(&mean), "{mean}");
    let found = detector.push(&[55.0, 90.0, 0.0]).clone();
    assert!(found.score > 5.0 * mean, "{found:?}");
    assert!(found.parts[0] + found.parts[1] > 0.9 * found.score, "{found:?}");
}

#[test]
fn a_step_within_the_usual_range_of_a_slow_metric_is_a_surprise() {
    let mut cell = Cell::new(2);
    let mut detector = cell.detector(3_000);
    cell.level = -3.0;
    (0..300).for_each(|_| drop(detector.push(&[47.0, 94.0, 0.0]).clone()));
    let before = detector.push(&[47.0, 94.0, 0.0]).score;
    let found = detector.push(&[53.0, 106.0, 0.0]).score;
    assert!(found > 2.5 * before, "{before} {found}");
}

#[test]
fn trouble_is_held_and_fades() {
    let mut cell = Cell::new(3);
    let mut detector = cell.detector(1_000);
    let peak = detector.push(&[50.0, 100.0, 500.0]).score;
    (0..DELAYS[0]).for_each(|_| drop(detector.push(&cell.row()).clone()));
    let soon = detector.push(&cell.row()).score;
    (0..200).for_each(|_| drop(detector.push(&cell.row()).clone()));
    let later = detector.push(&cell.row()).score;
    assert!(soon > 0.4 * peak && later < 3.0, "{peak} {soon} {later}");
}

#[test]
fn what_lasts_becomes_usual_and_what_is_short_does_not() {
    let mut cell = Cell::new(4);
    let mut detector = cell.detector(1_000);
    let mut shifted = || {
        let mut row = cell.row();
        row[2] += 20.0;
        row
    };
    let first = detector.push(&shifted()).score;
    (0..60).for_each(|_| drop(detector.push(&shifted()).clone()));
    let after_an_hour = detector.push(&shifted()).score;
    (0..200_000).for_each(|_| drop(detector.push(&shifted()).clone()));
    let after_weeks = detector.push(&shifted()).score;
    assert!(
        after_an_hour > 0.8 * first && after_weeks < 0.6 * first,
        "{first} {after_an_hour} {after_weeks}"
    );
}

#[test]
fn a_metric_that_never_moved_is_told_when_it_does() {
    let mut cell = Cell::new(5);
    let mut learner = Learner::new(2);
    (0..500).for_each(|_| learner.push(&[cell.row()[0], 0.0]));
    let mut detector = learner.finish().unwrap();
    (0..50).for_each(|_| drop(detector.push(&[cell.row()[0], 0.0]).clone()));
    let found = detector.push(&[50.0, 1.0]);
    assert!(found.score > 20.0 && found.parts[1] > 0.9 * found.score, "{found:?}");
}

#[test]
fn too_little_is_no_detector() {
    assert_eq!(Learner::new(3).finish(), None);
    assert_eq!(Learner::new(0).finish(), None);
    let mut learner = Learner::new(1);
    (0..24).for_each(|n| learner.push(&[f64::from(n)]));
    assert_eq!(learner.clone().finish(), None);
    learner.push(&[24.0]);
    assert!(learner.finish().is_some());
    let mut huge = Learner::new(1);
    (0..50).for_each(|n| huge.push(&[if n % 2 == 0 { 1e300 } else { -1e300 }]));
    assert_eq!(huge.finish(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn parts_add_up_whatever_comes(
        rows in prop::collection::vec(prop::collection::vec(prop_oneof![-9.0..9.0_f64, prop::num::f64::ANY], 0..5), 1..80),
    ) {
        let mut detector = Cell::new(6).detector(200);
        for row in rows {
            let found = detector.push(&row);
            prop_assert!(found.score.is_finite() && found.score >= 0.0);
            prop_assert!(found.parts.len() == 3 && found.parts.iter().all(|part| *part >= 0.0));
            prop_assert!((found.parts.iter().sum::<f64>() - found.score).abs() <= 1e-9 * (1.0 + found.score));
        }
    }

    #[test]
    fn the_unit_of_a_metric_changes_nothing(scale in 0.001..1e6_f64, shift in -1e3..1e3_f64) {
        let moved = |row: Vec<f64>| -> Vec<f64> { row.iter().map(|v| scale * (v + shift)).collect() };
        let (mut cell, mut learner) = (Cell::new(7), Learner::new(3));
        let mut plain = Cell::new(7).detector(300);
        (0..300).for_each(|_| learner.push(&moved(cell.row())));
        let mut other = learner.finish().unwrap();
        for _ in 0..120 {
            let row = cell.row();
            let (before, after) = (plain.push(&row).score, other.push(&moved(row)).score);
            prop_assert!((before - after).abs() < 1e-4 * (1.0 + before), "{before} {after}");
        }
    }
}
