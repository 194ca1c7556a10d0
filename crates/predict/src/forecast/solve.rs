//! Penalised least squares in normal equations.

/// A symmetric system `gram · weights = moment`, gathered row by row.
#[derive(Debug, Clone)]
pub(super) struct Normal {
    size: usize,
    /// Lower triangle, row by row in a square.
    gram: Vec<f64>,
    moment: Vec<f64>,
}

impl Normal {
    pub(super) fn new(size: usize) -> Self {
        Self { size, gram: vec![0.0; size * size], moment: vec![0.0; size] }
    }

    /// Adds an observation.
    pub(super) fn add(&mut self, row: &[f64], value: f64, weight: f64) {
        for (i, x) in row.iter().enumerate() {
            let times = weight * x;
            if times == 0.0 {
                continue;
            }
            self.moment[i] += times * value;
            let line = &mut self.gram[i * self.size..i * self.size + i + 1];
            line.iter_mut().zip(row).for_each(|(sum, other)| *sum += times * other);
        }
    }

    /// The weights, where each is drawn to 0 by half its penalty times its square.
    ///
    /// By Cholesky's decomposition. What depends on nothing but what came before gets no weight.
    pub(super) fn solve(&self, penalties: &[f64]) -> Vec<f64> {
        let n = self.size;
        let mut lower = self.gram.clone();
        for (i, penalty) in penalties.iter().enumerate() {
            lower[i * n + i] += penalty;
        }
        for i in 0..n {
            for j in 0..=i {
                let (before, line) = lower.split_at_mut(i * n);
                let other = if j < i { &before[j * n..j * n + j] } else { &[][..] };
                if j < i {
                    let dot: f64 = line[..j].iter().zip(other).map(|(a, b)| a * b).sum();
                    let diagonal = before[j * n + j];
                    line[j] = if diagonal > 0.0 { (line[j] - dot) / diagonal } else { 0.0 };
                } else {
                    let whole = line[i];
                    let rest = whole - line[..i].iter().map(|a| a * a).sum::<f64>();
                    line[i] = if rest > 1e-12 * whole.abs() { rest.sqrt() } else { 0.0 };
                }
            }
        }
        let mut weights = self.moment.clone();
        for i in 0..n {
            let dot: f64 = (0..i).map(|j| lower[i * n + j] * weights[j]).sum();
            weights[i] = over(weights[i] - dot, lower[i * n + i]);
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|j| lower[j * n + i] * weights[j]).sum();
            weights[i] = over(weights[i] - dot, lower[i * n + i]);
        }
        weights
    }
}

fn over(value: f64, by: f64) -> f64 {
    if by > 0.0 { value / by } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(rows: &[[f64; 3]], values: &[f64]) -> Normal {
        let mut normal = Normal::new(3);
        rows.iter().zip(values).for_each(|(row, value)| normal.add(row, *value, 1.0));
        normal
    }

    #[test]
    fn a_system_that_has_a_solution_gets_it() {
        let rows = [[1.0, 0.0, 2.0], [1.0, 1.0, 0.0], [1.0, 2.0, -1.0], [1.0, 5.0, 3.0]];
        let values = rows.map(|row| 2.0 * row[0] - row[1] + 0.5 * row[2]);
        let weights = gathered(&rows, &values).solve(&[0.0; 3]);
        for (found, wanted) in weights.iter().zip([2.0, -1.0, 0.5]) {
            assert!((found - wanted).abs() < 1e-9, "{weights:?}");
        }
    }

    #[test]
    fn a_penalty_draws_to_nothing_and_a_column_twice_does_no_harm() {
        let rows = [[1.0, 1.0, 1.0], [1.0, 1.0, 2.0], [1.0, 1.0, 3.0]];
        let normal = gathered(&rows, &[1.0, 2.0, 3.0]);
        let weights = normal.solve(&[0.0; 3]);
        assert!((weights[2] - 1.0).abs() < 1e-6 && weights.iter().all(|w| w.is_finite()), "{weights:?}");
        let held = normal.solve(&[0.0, 1e12, 1e12]);
        assert!(held[2].abs() < 1e-6 && (held[0] - 2.0).abs() < 1e-6, "{held:?}");
    }
}
