//! As much linear algebra as small symmetric matrices need.

/// A small matrix, row by row.
pub(super) type Square<const N: usize> = [[f64; N]; N];

/// The lower factor `L` of a symmetric, positive definite matrix: `L Lᵀ` is the matrix.
#[derive(Debug, Clone)]
pub(super) struct Factor<const N: usize>(Square<N>);

impl<const N: usize> Factor<N> {
    /// Factorises. A pivot that is not above 0 is taken as the least that is, so that rounding breaks nothing.
    pub(super) fn of(a: &Square<N>) -> Self {
        let mut l = [[0.0; N]; N];
        for i in 0..N {
            for j in 0..=i {
                let known: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
                let rest = a[i][j] - known;
                l[i][j] = if i == j { rest.max(1e-12).sqrt() } else { rest / l[j][j] };
            }
        }
        Self(l)
    }

    /// What the matrix turns into `b`.
    pub(super) fn solve(&self, b: &[f64; N]) -> [f64; N] {
        let l = &self.0;
        let mut x = *b;
        for i in 0..N {
            let known: f64 = (0..i).map(|k| l[i][k] * x[k]).sum();
            x[i] = (x[i] - known) / l[i][i];
        }
        for i in (0..N).rev() {
            let known: f64 = (i + 1..N).map(|k| l[k][i] * x[k]).sum();
            x[i] = (x[i] - known) / l[i][i];
        }
        x
    }

    /// The logarithm of the determinant of the matrix.
    pub(super) fn log_det(&self) -> f64 {
        2.0 * (0..N).map(|i| self.0[i][i].ln()).sum::<f64>()
    }

    /// The inverse of the matrix.
    pub(super) fn inverse(&self) -> Square<N> {
        let mut inverse = [[0.0; N]; N];
        for i in 0..N {
            let mut unit = [0.0; N];
            unit[i] = 1.0;
            inverse[i] = self.solve(&unit);
        }
        inverse
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A matrix times a vector.
pub(super) fn times<const N: usize>(a: &Square<N>, x: &[f64; N]) -> [f64; N] {
    let mut product = [0.0; N];
    product.iter_mut().zip(a).for_each(|(cell, row)| *cell = dot(row, x));
    product
}

/// The directions of a symmetric matrix in which it stretches most, of length 1, by power iteration. They are found
/// only where the matrix stretches clearly more than in all that follow.
pub(super) fn leading<const N: usize>(a: &[Vec<f64>]) -> [Vec<f64>; N] {
    let mut found: Vec<Vec<f64>> = Vec::new();
    std::array::from_fn(|start| {
        // Begun along the row that is longest once what was found is taken away.
        let without = |mut v: Vec<f64>, found: &[Vec<f64>]| {
            for known in found {
                let share = dot(&v, known);
                v.iter_mut().zip(known).for_each(|(v, known)| *v -= share * known);
            }
            v
        };
        let rows = a.iter().map(|row| without(row.clone(), &found));
        let longest = rows.max_by(|a, b| dot(a, a).total_cmp(&dot(b, b)));
        let mut v = longest.unwrap_or_else(|| vec![start as f64]);
        for _ in 0..300 {
            let length = dot(&v, &v).sqrt().max(f64::MIN_POSITIVE);
            v.iter_mut().for_each(|v| *v /= length);
            v = without(a.iter().map(|row| dot(row, &v)).collect(), &found);
        }
        let length = dot(&v, &v).sqrt().max(f64::MIN_POSITIVE);
        v.iter_mut().for_each(|v| *v /= length);
        found.push(v.clone());
        v
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Square<3> = [[4.0, 1.0, 0.5], [1.0, 3.0, -0.2], [0.5, -0.2, 2.0]];

    #[test]
    fn what_is_solved_gives_the_right_side_back() {
        let b = [1.0, -2.0, 0.3];
        let back = times(&A, &Factor::of(&A).solve(&b));
        assert!(back.iter().zip(b).all(|(back, b)| (back - b).abs() < 1e-12), "{back:?}");
    }

    #[test]
    fn the_determinant_is_that_of_the_rule_for_three() {
        let by_hand = 4.0 * (6.0 - 0.04) - (2.0 + 0.1) + 0.5 * (-0.2 - 1.5);
        assert!((Factor::of(&A).log_det() - f64::ln(by_hand)).abs() < 1e-12);
    }

    #[test]
    fn the_inverse_undoes_the_matrix() {
        let inverse = Factor::of(&A).inverse();
        for (i, row) in inverse.iter().enumerate() {
            let unit = times(&A, row);
            assert!(unit.iter().enumerate().all(|(j, u)| (u - f64::from(u8::from(i == j))).abs() < 1e-12));
        }
    }

    #[test]
    fn leading_directions_are_at_right_angles_and_in_order() {
        // 9 along (0.6, 0.8, 0), 4 along (−0.8, 0.6, 0), 1 along the last.
        let a = [
            vec![9.0 * 0.36 + 4.0 * 0.64, (9.0 - 4.0) * 0.48, 0.0],
            vec![(9.0 - 4.0) * 0.48, 9.0 * 0.64 + 4.0 * 0.36, 0.0],
            vec![0.0, 0.0, 1.0],
        ];
        let [first, second] = leading::<2>(&a);
        assert!((dot(&first, &[0.6, 0.8, 0.0]).abs() - 1.0).abs() < 1e-9, "{first:?}");
        assert!((dot(&second, &[-0.8, 0.6, 0.0]).abs() - 1.0).abs() < 1e-9, "{second:?}");
    }
}
