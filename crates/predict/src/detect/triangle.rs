//! Positive definite matrices, as many rows as there are metrics and delays: some hundreds at most.

/// A square matrix, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Square {
    side: usize,
    cells: Vec<f64>,
}

impl Square {
    pub(super) fn zero(side: usize) -> Self {
        Self { side, cells: vec![0.0; side * side] }
    }

    pub(super) fn side(&self) -> usize {
        self.side
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.cells[row * self.side..(row + 1) * self.side]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.cells[row * self.side..(row + 1) * self.side]
    }

    pub(super) fn at(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.side + column]
    }

    /// This times `keep`, plus `weight` times the product of a vector with another, entry by entry. Only the lower triangle is
    /// kept up.
    pub(super) fn blend(&mut self, keep: f64, weight: f64, left: &[f64], right: &[f64]) {
        for (n, left) in left.iter().enumerate() {
            let by = weight * left;
            for (cell, right) in self.row_mut(n).iter_mut().zip(&right[..=n]) {
                *cell = keep * *cell + by * right;
            }
        }
    }
}

/// Cholesky's factor of a positive definite matrix (Golub & Van Loan 2013, section 4.2).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factor {
    lower: Square,
    /// Of the matrix' inverse.
    diagonal_of_inverse: Vec<f64>,
}

/// What is left of a row of the matrix once the rows before it are known is never taken for less.
const LEAST_REST: f64 = 1e-12;

impl Factor {
    /// Reads the lower triangle only.
    pub(super) fn of(matrix: &Square) -> Self {
        let side = matrix.side();
        let mut lower = Square::zero(side);
        for i in 0..side {
            for j in 0..=i {
                let rest = matrix.at(i, j) - dot(&lower.row(i)[..j], &lower.row(j)[..j]);
                let cell = if i == j { rest.max(LEAST_REST).sqrt() } else { rest / lower.at(j, j) };
                lower.row_mut(i)[j] = cell;
            }
        }
        let mut diagonal_of_inverse = vec![0.0; side];
        let mut unit = vec![0.0; side];
        for (n, sum) in diagonal_of_inverse.iter_mut().enumerate() {
            unit.fill(0.0);
            unit[n] = 1.0;
            forward(&lower, &mut unit, n);
            *sum = unit[n..].iter().map(|v| v * v).sum();
        }
        Self { lower, diagonal_of_inverse }
    }

    pub(super) fn diagonal_of_inverse(&self) -> &[f64] {
        &self.diagonal_of_inverse
    }

    /// The vector in the coordinates in which the matrix is the identity: entry `n` is what is new about entry `n` of the
    /// vector once those before it are known, in standard deviations.
    pub(super) fn whitened(&self, vector: &[f64]) -> Vec<f64> {
        let mut white = vector.to_vec();
        forward(&self.lower, &mut white, 0);
        white
    }

    /// The inverse of the matrix times the vector that was [`Self::whitened`].
    pub(super) fn pull(&self, white: &[f64]) -> Vec<f64> {
        let mut pull = white.to_vec();
        for i in (0..pull.len()).rev() {
            let (before, from) = pull.split_at_mut(i);
            let value = from[0] / self.lower.at(i, i);
            from[0] = value;
            for (left, cell) in before.iter_mut().zip(self.lower.row(i)) {
                *left -= value * cell;
            }
        }
        pull
    }
}

/// Solves from row `first` on; the entries before it are zero.
fn forward(lower: &Square, vector: &mut [f64], first: usize) {
    for i in first..vector.len() {
        let known = dot(&lower.row(i)[first..i], &vector[first..i]);
        vector[i] = (vector[i] - known) / lower.at(i, i);
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some vectors' products with themselves, plus a bit of the identity.
    fn positive(side: usize, cells: &[f64]) -> Square {
        let mut made = Square::zero(side);
        for a in 0..side {
            for b in 0..side {
                let product = dot(&cells[a * side..(a + 1) * side], &cells[b * side..(b + 1) * side]);
                made.row_mut(a)[b] = product + if a == b { 0.1 } else { 0.0 };
            }
        }
        made
    }

    proptest! {
        #[test]
        fn whitening_and_pulling_solve(side in 1..7_usize, cells in prop::collection::vec(-2.0..2.0_f64, 36)) {
            let matrix = positive(side, &cells);
            let factor = Factor::of(&matrix);
            let vector = &cells[..side];
            let white = factor.whitened(vector);
            let pull = factor.pull(&white);
            for (n, value) in vector.iter().enumerate() {
                prop_assert!((dot(matrix.row(n), &pull) - value).abs() < 1e-6);
            }
            prop_assert!((dot(&white, &white) - dot(&pull, vector)).abs() < 1e-6 * (1.0 + dot(&white, &white)));
        }

        #[test]
        fn the_diagonal_is_that_of_the_inverse(side in 1..7_usize, cells in prop::collection::vec(-2.0..2.0_f64, 36)) {
            let factor = Factor::of(&positive(side, &cells));
            for n in 0..side {
                let unit: Vec<f64> = (0..side).map(|k| f64::from(u8::from(k == n))).collect();
                let column = factor.pull(&factor.whitened(&unit));
                prop_assert!((column[n] - factor.diagonal_of_inverse()[n]).abs() < 1e-6 * (1.0 + column[n]));
            }
        }

        #[test]
        fn blending_is_a_weighted_sum(left in prop::collection::vec(-2.0..2.0_f64, 4), keep in 0.0..1.0_f64) {
            let mut matrix = positive(4, &[0.5; 16]);
            let before = matrix.clone();
            matrix.blend(keep, 0.3, &left, &left);
            for a in 0..4 {
                for b in 0..=a {
                    let expected = keep * before.at(a, b) + 0.3 * left[a] * left[b];
                    prop_assert!((matrix.at(a, b) - expected).abs() < 1e-12);
                }
            }
        }
    }
}
