//! How the metrics of a class move together.

use serde::{Deserialize, Serialize};

/// Rows after which an old one hardly counts.
const MEMORY_ROWS: f32 = 20_000.0;
/// Rows between two looks at what was learned.
const REFRESH_ROWS: u32 = 500;
/// Rows for each metric before anything is judged.
const LEAST_ROWS_PER_METRIC: f32 = 3.0;
/// Deviations are taken for no larger than this while it is learned how they move together.
const WINSOR: f32 = 3.0;
/// And for no larger than this while it is judged: a leap of one metric says nothing of how it moves with the others.
const FARTHEST: f32 = 5.0;
/// Share of independence that is mixed in however many rows there are.
const INDEPENDENT: f32 = 0.05;

/// Covariance of the deviations of a class' cells, and a factor of it: Hotelling's T² (Hotelling 1947) over what is usual of each
/// cell, drawn towards independence while there are few rows. Lower triangles, row by row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Together {
    side: usize,
    rows: f32,
    covariance: Vec<f32>,
    until_refresh: u32,
    /// Cholesky's; empty until there are enough rows.
    factor: Vec<f32>,
    /// The diagonal of the inverse.
    precision: Vec<f32>,
}

fn row(n: usize) -> usize {
    n * (n + 1) / 2
}

impl Together {
    pub(super) fn new(side: usize) -> Self {
        Self {
            side,
            covariance: vec![0.0; row(side)],
            until_refresh: REFRESH_ROWS.min(64),
            ..Self::default()
        }
    }

    /// A row of deviations, one a metric.
    pub(super) fn learn(&mut self, deviations: &[f32]) {
        if deviations.len() != self.side {
            return;
        }
        self.rows = (self.rows + 1.0).min(MEMORY_ROWS);
        let rate = 1.0 / self.rows;
        for (n, one) in deviations.iter().enumerate() {
            let one = rate * one.clamp(-WINSOR, WINSOR);
            let cells = &mut self.covariance[row(n)..=row(n) + n];
            for (cell, other) in cells.iter_mut().zip(deviations) {
                *cell += one * other.clamp(-WINSOR, WINSOR) - rate * *cell;
            }
        }
        self.until_refresh -= 1;
        if self.until_refresh == 0 {
            self.until_refresh = REFRESH_ROWS;
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        let side = self.side;
        if self.rows < LEAST_ROWS_PER_METRIC * side as f32 {
            return;
        }
        // As many rows as there are metrics leave half of it to chance.
        let shrink = (side as f32 / (self.rows + side as f32)).max(INDEPENDENT);
        // A metric that hardly ever moves must not be alarming when it does: its deviation is no less than half a scale.
        let mixed = |i: usize, j: usize| {
            let cell = self.covariance[row(i) + j];
            if i == j { cell.max(0.25) + shrink } else { (1.0 - shrink) * cell }
        };
        let mut factor = vec![0.0f32; row(side)];
        for i in 0..side {
            for j in 0..=i {
                let known: f32 = (0..j).map(|k| factor[row(i) + k] * factor[row(j) + k]).sum();
                let rest = mixed(i, j) - known;
                factor[row(i) + j] = if i == j { rest.max(1e-3).sqrt() } else { rest / factor[row(j) + j] };
            }
        }
        self.factor = factor;
        self.precision = (0..side)
            .map(|n| {
                let mut unit = vec![0.0; side];
                unit[n] = 1.0;
                self.forward(&mut unit, n);
                unit[n..].iter().map(|v| v * v).sum()
            })
            .collect();
    }

    fn forward(&self, vector: &mut [f32], first: usize) {
        for i in first..vector.len() {
            let cells = &self.factor[row(i)..=row(i) + i];
            let known: f32 = cells[first..i].iter().zip(&vector[first..i]).map(|(a, b)| a * b).sum();
            vector[i] = (vector[i] - known) / cells[i];
        }
    }

    /// T² as a normal deviate, and of each metric how far it is from what the others let expect, in
    /// standard deviations: the square of that is what T² would lose without it. `None` until enough was seen.
    pub(super) fn judge(&self, deviations: &[f32]) -> Option<(f32, Vec<f32>)> {
        if self.factor.is_empty() || deviations.len() != self.side {
            return None;
        }
        let mut white: Vec<f32> = deviations.iter().map(|z| z.clamp(-FARTHEST, FARTHEST)).collect();
        self.forward(&mut white, 0);
        let t2: f32 = white.iter().map(|v| v * v).sum();
        for i in (0..white.len()).rev() {
            let (before, from) = white.split_at_mut(i);
            let cells = &self.factor[row(i)..=row(i) + i];
            let value = from[0] / cells[i];
            from[0] = value;
            before.iter_mut().zip(cells).for_each(|(left, cell)| *left -= value * cell);
        }
        let parts =
            white.iter().zip(&self.precision).map(|(pull, precision)| pull / precision.sqrt()).collect();
        Some((normal_deviate(t2, self.side), parts))
    }
}

/// A sum of so many squares of standard deviations as a normal deviate (Wilson & Hilferty 1931).
pub(super) fn normal_deviate(squares: f32, count: usize) -> f32 {
    let count = count.max(1) as f32;
    let spread = 2.0 / (9.0 * count);
    ((squares / count).cbrt() - (1.0 - spread)) / spread.sqrt()
}
