//! Logistic regression with a quadratic penalty (le Cessie & van Houwelingen, Applied Statistics 41, 1992): the model to beat,
//! and the one to take where failures are few.

use forefend_predict::learned::Linear;

use crate::matrix::{Matrix, TrainError, Weights, check_lengths, share_of_yes};

/// How weights are found.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Half of this times the sum of the squared standardised weights is added to the summed loss: they are believed to be
    /// about `1 / √l2` before anything is seen. Above 0; the intercept is free.
    pub l2: f64,
    /// After so many steps it gives up.
    pub max_iterations: usize,
    /// It is done where a step promises to lower the loss by less than this share of it.
    pub tolerance: f64,
}

impl Default for Settings {
    /// Weights of about one log odd per deviation.
    fn default() -> Self {
        Self { l2: 1.0, max_iterations: 100, tolerance: 1e-12 }
    }
}

/// Trains on `matrix`: every column is centred at its weighted mean and divided by its weighted deviation, and what isn't known
/// stands at the mean. Targets are 0 or 1, or shares of yes between.
///
/// Newton's method, halving steps that go too far: time grows with rows × columns², which is fine for some 200 columns.
///
/// # Errors
/// Where lengths differ, there are no rows, a weight, a target or a setting is out of range, all rows that count are of one
/// class, or [`TrainError::NotConverged`].
pub fn train(
    matrix: &Matrix,
    targets: &[f32],
    weights: Option<&[f32]>,
    settings: &Settings,
) -> Result<Linear, TrainError> {
    settings.check()?;
    check_lengths(matrix, targets)?;
    let weights = Weights::new(weights, targets.len())?;
    let share = share_of_yes(targets, weights)?.clamp(1e-15, 1.0 - 1e-15);
    let (centre, scale) = standards(matrix, weights);
    let problem = Problem { matrix, targets, weights, l2: settings.l2, centre: &centre, scale: &scale };

    // The intercept is last.
    let mut solution = vec![0.0; matrix.columns() + 1];
    solution[matrix.columns()] = (share / (1.0 - share)).ln();
    let mut loss = problem.loss(&solution);
    for _ in 0..settings.max_iterations {
        let (gradient, curvature) = problem.derivatives(&solution);
        let step = solve(curvature, &gradient);
        let promise: f64 = step.iter().zip(&gradient).map(|(step, slope)| step * slope).sum::<f64>() / 2.0;
        if promise <= settings.tolerance * (1.0 + loss) {
            return problem.model(&solution);
        }
        let mut length = 1.0;
        loop {
            let next: Vec<f64> = solution.iter().zip(&step).map(|(at, step)| at - length * step).collect();
            let next_loss = problem.loss(&next);
            if next_loss <= loss - 1e-4 * length * promise {
                (solution, loss) = (next, next_loss);
                break;
            }
            length /= 2.0;
            if length < 1e-9 {
                // No number between here and the promised place is better: this is as near as rounding lets us.
                return problem.model(&solution);
            }
        }
    }
    Err(TrainError::NotConverged(settings.max_iterations))
}

impl Settings {
    fn check(&self) -> Result<(), TrainError> {
        let positive = |number: f64| number.is_finite() && number > 0.0;
        for (fine, name, allowed) in [
            (positive(self.l2), "l2", "above 0 and finite"),
            (positive(self.tolerance), "tolerance", "above 0 and finite"),
            (self.max_iterations >= 1, "max_iterations", "1 or more"),
        ] {
            if !fine {
                return Err(TrainError::Setting { name, allowed });
            }
        }
        Ok(())
    }
}

/// Weighted mean and deviation of what is known of every column; a column that is always the same is left as it is.
fn standards(matrix: &Matrix, weights: Weights<'_>) -> (Vec<f32>, Vec<f32>) {
    let standard = |column: usize| {
        let known = || {
            let values = matrix.column(column).enumerate().filter(|(_, value)| !value.is_nan());
            values.map(|(row, value)| (f64::from(value), weights.of(row)))
        };
        let total: f64 = known().map(|(_, weight)| weight).sum();
        if total <= 0.0 {
            return (0.0, 1.0);
        }
        let mean = known().map(|(value, weight)| value * (weight / total)).sum::<f64>();
        let centre = mean as f32;
        let square = |value: f64| (value - f64::from(centre)).powi(2);
        let deviation =
            known().map(|(value, weight)| square(value) * (weight / total)).sum::<f64>().sqrt() as f32;
        // Below the precision of the mean there is no deviation, only rounding.
        let varies = deviation.is_normal() && deviation > centre.abs() * f32::EPSILON;
        (centre, if varies { deviation } else { 1.0 })
    };
    (0..matrix.columns()).map(standard).unzip()
}

struct Problem<'a> {
    matrix: &'a Matrix,
    targets: &'a [f32],
    weights: Weights<'a>,
    l2: f64,
    centre: &'a [f32],
    scale: &'a [f32],
}

impl Problem<'_> {
    /// The standardised features of a row, and 1 for the intercept.
    fn fill(&self, row: usize, features: &mut [f64]) {
        let standards = self.centre.iter().zip(self.scale);
        for ((feature, value), (centre, scale)) in
            features.iter_mut().zip(self.matrix.row(row)).zip(standards)
        {
            let known = (f64::from(*value) - f64::from(*centre)) / f64::from(*scale);
            *feature = if value.is_nan() { 0.0 } else { known };
        }
    }

    /// Calls with every row that counts: its features, target and weight.
    fn each_row(&self, mut call: impl FnMut(&[f64], f64, f64)) {
        let mut features = vec![1.0; self.matrix.columns() + 1];
        for (row, target) in self.targets.iter().enumerate() {
            let weight = self.weights.of(row);
            if weight > 0.0 {
                self.fill(row, &mut features);
                call(&features, f64::from(*target), weight);
            }
        }
    }

    /// The summed loss with the penalty.
    fn loss(&self, solution: &[f64]) -> f64 {
        let mut loss = 0.0;
        self.each_row(|features, target, weight| {
            let score = dot(solution, features);
            loss += weight * (score.max(0.0) - score * target + (-score.abs()).exp().ln_1p());
        });
        let squares: f64 = solution[..solution.len() - 1].iter().map(|weight| weight * weight).sum();
        loss + self.l2 / 2.0 * squares
    }

    /// First and second derivatives of the loss; of the second, what is on and below the diagonal, row after row.
    fn derivatives(&self, solution: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let size = solution.len();
        let (mut gradient, mut curvature) = (vec![0.0; size], vec![0.0; size * size]);
        self.each_row(|features, target, weight| {
            let p = 1.0 / (1.0 + (-dot(solution, features)).exp());
            let (slope, bend) = (weight * (p - target), weight * p * (1.0 - p));
            for (i, feature) in features.iter().enumerate() {
                gradient[i] += slope * feature;
                let bend = bend * feature;
                if bend != 0.0 {
                    let line = &mut curvature[i * size..=i * size + i];
                    line.iter_mut().zip(features).for_each(|(cell, other)| *cell += bend * other);
                }
            }
        });
        for i in 0..size - 1 {
            gradient[i] += self.l2 * solution[i];
            curvature[i * size + i] += self.l2;
        }
        (gradient, curvature)
    }

    fn model(&self, solution: &[f64]) -> Result<Linear, TrainError> {
        let (intercept, weights) = (solution[solution.len() - 1], &solution[..solution.len() - 1]);
        let weights = weights.iter().map(|weight| *weight as f32).collect();
        Linear::new(intercept as f32, weights, self.centre.to_vec(), self.scale.to_vec())
            .map_err(|why| TrainError::Model { why })
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves `matrix · x = right` by Cholesky's decomposition. `matrix` is symmetric; what is above its diagonal isn't looked at.
fn solve(mut matrix: Vec<f64>, right: &[f64]) -> Vec<f64> {
    let size = right.len();
    // Where rounding leaves nothing of a diagonal element, a little of what it was does no harm: steps are checked.
    let least: Vec<f64> = (0..size).map(|i| (matrix[i * size + i] * 1e-12).max(f64::MIN_POSITIVE)).collect();
    for i in 0..size {
        let (above, from_i) = matrix.split_at_mut(i * size);
        let line = &mut from_i[..size];
        for j in 0..i {
            let other = &above[j * size..j * size + j + 1];
            line[j] = (line[j] - dot(&line[..j], &other[..j])) / other[j];
        }
        line[i] = (line[i] - dot(&line[..i], &line[..i])).max(least[i]).sqrt();
    }
    let mut x = right.to_vec();
    for i in 0..size {
        let line = &matrix[i * size..i * size + i + 1];
        x[i] = (x[i] - dot(&line[..i], &x[..i])) / line[i];
    }
    for i in (0..size).rev() {
        x[i] /= matrix[i * size + i];
        let (before, from_i) = x.split_at_mut(i);
        let line = &matrix[i * size..i * size + i];
        before.iter_mut().zip(line).for_each(|(x, cell)| *x -= from_i[0] * cell);
    }
    x
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn yes(is: bool) -> f32 {
        f32::from(u8::from(is))
    }

    /// Rows whose log odds are `intercept + Σ weight · feature`, features even from −2 to 2.
    fn made_up(seed: u64, rows: usize, intercept: f32, truth: &[f32]) -> (Matrix, Vec<f32>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut matrix = Matrix::new(truth.len(), vec![]).unwrap();
        let mut targets = Vec::new();
        for _ in 0..rows {
            let row: Vec<f32> = truth.iter().map(|_| random.random_range(-2.0..2.0)).collect();
            let score: f32 = intercept + row.iter().zip(truth).map(|(a, b)| a * b).sum::<f32>();
            targets.push(yes(random.random::<f32>() < 1.0 / (1.0 + (-score).exp())));
            matrix.push(&row).unwrap();
        }
        (matrix, targets)
    }

    #[test]
    fn known_weights_are_recovered() {
        let truth = [1.0, -0.5, 0.0];
        let (matrix, targets) = made_up(1, 20_000, -2.0, &truth);
        let model = train(&matrix, &targets, None, &Settings::default()).unwrap();
        for (column, wanted) in truth.iter().enumerate() {
            let per_unit = model.weights()[column] / model.scale()[column];
            assert!((per_unit - wanted).abs() < 0.08, "{per_unit} for {wanted}");
        }
        assert!((model.score(&[0.0; 3]) + 2.0).abs() < 0.1);
    }

    #[test]
    fn rows_that_can_be_told_apart_perfectly_make_finite_weights() {
        let matrix = Matrix::new(1, (0..40).map(|x| x as f32).collect()).unwrap();
        let targets: Vec<f32> = (0..40).map(|x| yes(x >= 20)).collect();
        let gentle = Settings { l2: 1e-6, ..Settings::default() };
        let loose = train(&matrix, &targets, None, &gentle).unwrap();
        let firm = train(&matrix, &targets, None, &Settings::default()).unwrap();
        assert!(loose.weights()[0] > firm.weights()[0] && firm.weights()[0] > 0.5);
        assert!(loose.score(&[0.0]) < -10.0 && loose.score(&[39.0]) > 10.0);
    }

    #[test]
    fn columns_that_say_nothing_get_no_weight() {
        let (matrix, targets) = made_up(2, 500, 0.0, &[1.0]);
        let mut wider = Matrix::new(4, vec![]).unwrap();
        for row in 0..500 {
            let x = matrix.row(row)[0];
            wider.push(&[x, 7e9, f32::NAN, 1e-30]).unwrap();
        }
        let model = train(&wider, &targets, None, &Settings::default()).unwrap();
        assert!(model.weights()[0] > 0.5);
        assert!(model.weights()[1..].iter().all(|weight| weight.abs() < 1e-6), "{:?}", model.weights());
    }

    #[test]
    fn two_columns_of_the_same_share_the_weight() {
        let (matrix, targets) = made_up(3, 2_000, 0.0, &[1.0]);
        let twice = matrix.column(0).flat_map(|x| [x, x]).collect();
        let model = train(&Matrix::new(2, twice).unwrap(), &targets, None, &Settings::default()).unwrap();
        let [a, b] = [model.weights()[0], model.weights()[1]];
        assert!((a - b).abs() < 1e-4 && a > 0.3, "{a} and {b}");
    }

    #[test]
    fn unknown_values_stand_at_the_mean() {
        let (matrix, targets) = made_up(4, 2_000, -1.0, &[1.5]);
        let mut holes = Matrix::new(1, vec![]).unwrap();
        (0..2_000).for_each(|row| {
            let x = if row % 4 == 0 { f32::NAN } else { matrix.row(row)[0] + 100.0 };
            holes.push(&[x]).unwrap();
        });
        let model = train(&holes, &targets, None, &Settings::default()).unwrap();
        assert!((model.centre()[0] - 100.0).abs() < 0.2);
        assert_eq!(model.score(&[f32::NAN]), model.intercept());
        assert!(model.weights()[0] > 0.8);
    }

    #[test]
    fn weights_count_like_repeated_rows() {
        let (matrix, targets) = made_up(5, 300, 0.5, &[1.0, -1.0]);
        let weights: Vec<f32> = (0..300).map(|row| (row % 3) as f32).collect();
        let repeated: Vec<usize> = (0..300).flat_map(|row| std::iter::repeat_n(row, row % 3)).collect();
        let repeated_targets: Vec<f32> = repeated.iter().map(|row| targets[*row]).collect();
        let weighted = train(&matrix, &targets, Some(&weights), &Settings::default()).unwrap();
        let plain = train(&matrix.select(&repeated), &repeated_targets, None, &Settings::default()).unwrap();
        for row in 0..300 {
            assert!((weighted.score(matrix.row(row)) - plain.score(matrix.row(row))).abs() < 1e-4);
        }
    }

    #[test]
    fn what_can_not_be_learned_from_is_told() {
        let matrix = Matrix::new(1, vec![1.0, 2.0]).unwrap();
        let refused = |targets: &[f32], settings: &Settings| {
            train(&matrix, targets, None, settings).unwrap_err().to_string()
        };
        assert!(refused(&[0.0, 0.0], &Settings::default()).contains("all targets are 0"));
        assert!(refused(&[0.0], &Settings::default()).contains("1 targets for 2"));
        assert!(refused(&[0.0, 1.0], &Settings { l2: 0.0, ..Settings::default() }).contains("l2"));
        let hasty = Settings { max_iterations: 1, l2: 1e-3, ..Settings::default() };
        assert!(refused(&[0.0, 1.0], &hasty).contains("max_iterations"));
    }

    proptest! {
        #[test]
        fn the_solution_is_a_minimum_whatever_the_rows(
            rows in prop::collection::vec(([-1e3f32..1e3, -5f32..5.0, -1e-3f32..1e-3], any::<bool>()), 4..60),
            l2 in 0.01f64..10.0,
        ) {
            let values = rows.iter().flat_map(|(row, _)| *row).collect();
            let matrix = Matrix::new(3, values).unwrap();
            let mut targets: Vec<f32> = rows.iter().map(|(_, y)| yes(*y)).collect();
            (targets[0], targets[1]) = (0.0, 1.0);
            let model = train(&matrix, &targets, None, &Settings { l2, ..Settings::default() }).unwrap();
            let weights = Weights::new(None, rows.len()).unwrap();
            let (centre, scale) = standards(&matrix, weights);
            let problem =
                Problem { matrix: &matrix, targets: &targets, weights, l2, centre: &centre, scale: &scale };
            let mut solution: Vec<f64> = model.weights().iter().map(|w| f64::from(*w)).collect();
            solution.push(model.intercept());
            let (gradient, _) = problem.derivatives(&solution);
            prop_assert!(gradient.iter().all(|slope| slope.abs() < 1e-3), "{gradient:?}");
        }

        #[test]
        fn the_order_of_the_columns_does_not_matter(seed in any::<u64>()) {
            let (matrix, targets) = made_up(seed, 200, 0.0, &[1.0, -2.0, 0.3]);
            let turned = (0..200).flat_map(|row| [2, 0, 1].map(|column| matrix.row(row)[column])).collect();
            let turned = Matrix::new(3, turned).unwrap();
            let model = train(&matrix, &targets, None, &Settings::default()).unwrap();
            let other = train(&turned, &targets, None, &Settings::default()).unwrap();
            for row in 0..200 {
                prop_assert!((model.score(matrix.row(row)) - other.score(turned.row(row))).abs() < 1e-4);
            }
        }

        #[test]
        fn equations_are_solved(
            factors in prop::collection::vec(-3f64..3.0, 16),
            wanted in prop::collection::vec(-3f64..3.0, 4),
        ) {
            // A · Aᵀ + 1 is symmetric and positive.
            let cell = |i: usize, j: usize| {
                dot(&factors[i * 4..i * 4 + 4], &factors[j * 4..j * 4 + 4]) + if i == j { 1.0 } else { 0.0 }
            };
            let matrix: Vec<f64> = (0..16).map(|at| cell(at / 4, at % 4)).collect();
            let right: Vec<f64> = (0..4).map(|i| dot(&matrix[i * 4..i * 4 + 4], &wanted)).collect();
            let found = solve(matrix, &right);
            prop_assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        }
    }
}
