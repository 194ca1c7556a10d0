use super::triangle::{Factor, Square, dot};

/// A metric that varied by less than this was constant, and has no part.
const LEAST_DEVIATION: f64 = 1e-9;

/// Hotelling's T²: how far a row is from the mean of reference rows, measured along the ways in which they vary (Hotelling 1947).
///
/// The covariance is shrunk towards independence as far as the reference is too short to tell (Ledoit & Wolf 2004,
/// <https://doi.org/10.1016/S0047-259X(03)00096-4>). Neither order in time nor what comes after the reference plays a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Hotelling {
    mean: Vec<f64>,
    /// 0 for a metric that was constant.
    deviation: Vec<f64>,
    factor: Factor,
    shrinkage: f64,
}

impl Hotelling {
    /// Learns from rows of one value a metric. `None` with fewer than two rows, without a metric that varies, with values
    /// that aren't finite or rows that differ in length.
    #[must_use]
    pub fn fit(rows: &[Vec<f64>]) -> Option<Self> {
        let width = rows.first()?.len();
        if rows.len() < 2 || rows.iter().any(|row| row.len() != width || row.iter().any(|v| !v.is_finite())) {
            return None;
        }
        let count = rows.len() as f64;
        let mean: Vec<f64> = (0..width).map(|m| rows.iter().map(|row| row[m] / count).sum()).collect();
        let deviation: Vec<f64> = (0..width)
            .map(|m| rows.iter().map(|row| (row[m] - mean[m]).powi(2) / count).sum::<f64>().sqrt())
            .map(|d| if d.is_finite() && d > LEAST_DEVIATION { d } else { 0.0 })
            .collect();
        let side = deviation.iter().filter(|d| **d > 0.0).count();
        if side == 0 {
            return None;
        }
        let mut covariance = Square::zero(side);
        let mut fourth = 0.0;
        for row in rows {
            let z = standardised(&mean, &deviation, row);
            covariance.blend(1.0, 1.0 / count, &z, &z);
            fourth += dot(&z, &z).powi(2) / count;
        }
        let shrinkage = shrink(&mut covariance, fourth, count);
        Some(Self { factor: Factor::of(&covariance), mean, deviation, shrinkage })
    }

    /// T² of a row: about as much as there are metrics that vary, for a usual one. A value that isn't finite, or is missing at the end,
    /// is taken to be at its mean.
    #[must_use]
    pub fn t2(&self, row: &[f64]) -> f64 {
        let white = self.factor.whitened(&standardised(&self.mean, &self.deviation, row));
        dot(&white, &white)
    }

    /// How far the covariance was drawn towards independence: 0 not at all, 1 entirely.
    #[must_use]
    pub fn shrinkage(&self) -> f64 {
        self.shrinkage
    }
}

fn standardised(mean: &[f64], deviation: &[f64], row: &[f64]) -> Vec<f64> {
    let value = |n: usize| row.get(n).copied().filter(|v| v.is_finite()).unwrap_or(mean[n]);
    (0..mean.len()).filter(|n| deviation[*n] > 0.0).map(|n| (value(n) - mean[n]) / deviation[n]).collect()
}

/// Draws the covariance of `count` rows, of whose lengths the mean fourth power is given, towards its mean variance.
fn shrink(covariance: &mut Square, fourth: f64, count: f64) -> f64 {
    let side = covariance.side();
    let mean = (0..side).map(|n| covariance.at(n, n)).sum::<f64>() / side as f64;
    let squares: f64 = (0..side)
        .map(|n| {
            let row = covariance.row(n);
            2.0 * dot(&row[..n], &row[..n]) + row[n] * row[n]
        })
        .sum();
    let from_target = squares - side as f64 * mean * mean;
    let from_truth = ((fourth - squares) / count).max(0.0);
    let shrinkage = if from_target > from_truth { from_truth / from_target } else { 1.0 };
    for n in 0..side {
        let row = covariance.row_mut(n);
        row.iter_mut().for_each(|cell| *cell *= 1.0 - shrinkage);
        row[n] += shrinkage * mean;
    }
    shrinkage
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Rows of noise in which the first two metrics move together.
    fn reference(rows: usize, width: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut row = || {
            let mut row: Vec<f64> = (0..width).map(|_| random.random_range(-1.0..1.0)).collect();
            row[1] = row[0] + 0.1 * row[1];
            row
        };
        (0..rows).map(|_| row()).collect()
    }

    #[test]
    fn a_pair_that_parts_is_far_though_each_is_usual() {
        let model = Hotelling::fit(&reference(500, 4, 1)).unwrap();
        assert!(model.t2(&[0.8, 0.8, 0.1, -0.1]) < 8.0);
        assert!(model.t2(&[0.8, -0.8, 0.1, -0.1]) > 100.0);
        assert_eq!(model.t2(&[]), 0.0);
    }

    #[test]
    fn usual_rows_are_about_as_far_as_there_are_metrics() {
        let rows = reference(2_000, 6, 2);
        let model = Hotelling::fit(&rows).unwrap();
        let mean = rows.iter().map(|row| model.t2(row)).sum::<f64>() / 2_000.0;
        // A little nearer than six, as the pair that moves together is shrunk apart.
        assert!((5.0..6.01).contains(&mean), "{mean}");
    }

    #[test]
    fn shrinkage_is_what_the_formula_of_the_paper_says() {
        // With the mean known to be 0: by hand for (1, 1), (-1, -1), (1, -1), (-1, 1) doubled in the first two.
        let rows = [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]];
        let model = Hotelling::fit(&rows.map(|row| row.to_vec())).unwrap();
        // Covariance 1 and 1/3: squares 2 + 2/9; all lengths² are 2, so (4 - 20/9) / 6 over 2/9 is above 1.
        assert_eq!(model.shrinkage(), 1.0);
        let many: Vec<Vec<f64>> = (0..20).flat_map(|_| rows.map(|row| row.to_vec())).collect();
        let expected = (4.0 - 20.0 / 9.0) / 120.0 / (2.0 / 9.0);
        assert!((Hotelling::fit(&many).unwrap().shrinkage() - expected).abs() < 1e-12);
    }

    #[test]
    fn nothing_to_learn_from_is_no_model() {
        assert_eq!(Hotelling::fit(&[]), None);
        assert_eq!(Hotelling::fit(&[vec![1.0, 2.0]]), None);
        assert_eq!(Hotelling::fit(&[vec![1.0, 2.0], vec![1.0]]), None);
        assert_eq!(Hotelling::fit(&vec![vec![3.0]; 50]), None);
        assert_eq!(Hotelling::fit(&[vec![1.0], vec![f64::NAN]]), None);
        assert!(Hotelling::fit(&reference(8, 20, 3)).unwrap().t2(&[0.5; 20]).is_finite());
    }
}
