use super::triangle::{Factor, Square};

/// A row is judged together with the rows so many samples before it, the oldest first.
const DELAYS: [usize; 2] = [5, 1];
/// Share of independent metrics of the reference's variance that is mixed into the covariance: what no reference is long enough
/// to deny.
const INDEPENDENT: f64 = 0.003;
/// Rows, as usual as they should be, after which most of what was known of usual rows is forgotten.
const MEMORY_ROWS: f64 = 100_000.0;
/// A row counts for as many rows as it is nearer than usual, up to the inverse of this; a row that is far hardly counts.
const NEAREST: f64 = 0.2;
/// Rows after which what was learned is put to use.
const REFRESH_ROWS: usize = 50;
/// How much of the way down the score has gone one sample after an anomaly.
const FALLING: f64 = 0.07;
/// A metric that never moved is taken to move by this share of its level, or of 1 where it stood near zero.
const TREMBLE: f64 = 0.1;
/// No value is taken to be farther from its mean, in standard deviations, so that all sums stay finite.
const FARTHEST: f64 = 1e9;
/// Fewer rows say nothing of how metrics move together.
const LEAST_ROWS: usize = 20;

/// What is known of the metrics of a cell, seen together, before there is enough to judge by.
///
/// Rows go in one by one; what is kept does not grow with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Learner {
    past: Past,
    rows: f64,
    mean: Vec<f64>,
    /// Sums of products of distances from the mean, lower triangle.
    products: Square,
}

/// Watches the metrics of a cell together, without labels: how far is a row, with the rows a moment before it, from what is
/// usual; and how far from what the rows before let expect?
///
/// Both are distances of Mahalanobis, read off one factor of one covariance over metrics and delays. The first sees levels and
/// relations that are off, the second steps and spikes that a slow metric hides from the first (the residual of a vector autoregression). A
/// row is learned after it was judged, and the less the farther it is, so that what lasts for weeks becomes usual and
/// what lasts for an hour doesn't. The score rises at once and falls slowly ([`super::Hold`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Joint {
    past: Past,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// Of rows with their delays, in standard deviations of the reference.
    centre: Vec<f64>,
    covariance: Square,
    factor: Factor,
    until_refresh: usize,
    held: Finding,
}

/// What a detector says of a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finding {
    /// How unlike the reference, from 0; about 1 for a usual row. In standard deviations, roughly.
    pub score: f64,
    /// What each metric adds to the score: none is negative, and they add up.
    pub parts: Vec<f64>,
}

/// The newest rows, as many as the longest delay asks for.
#[derive(Debug, Clone, PartialEq)]
struct Past {
    width: usize,
    rows: Vec<Vec<f64>>,
}

impl Learner {
    /// Nothing is known yet of a cell with `metrics` metrics.
    #[must_use]
    pub fn new(metrics: usize) -> Self {
        let side = metrics * (DELAYS.len() + 1);
        let past = Past { width: metrics, rows: Vec::new() };
        Self { past, rows: 0.0, mean: vec![0.0; side], products: Square::zero(side) }
    }

    /// One more row of one value a metric. A value that is not finite, or missing at the end, is taken to be what it was before.
    pub fn push(&mut self, row: &[f64]) {
        let Some(seen) = self.past.push(row) else { return };
        self.rows += 1.0;
        let before: Vec<f64> = seen.iter().zip(&self.mean).map(|(v, m)| v - m).collect();
        self.mean.iter_mut().zip(&before).for_each(|(m, b)| *m += b / self.rows);
        let after: Vec<f64> = seen.iter().zip(&self.mean).map(|(v, m)| v - m).collect();
        self.products.blend(1.0, 1.0, &after, &before);
    }

    /// A detector for what comes next. `None` without metrics, with fewer than 20 rows, or where values are too
    /// large to be squared.
    #[must_use]
    pub fn finish(self) -> Option<Joint> {
        let (width, side) = (self.past.width, self.mean.len());
        let enough = self.rows >= LEAST_ROWS as f64 && width > 0;
        if !enough || (0..side).any(|n| !self.products.at(n, n).is_finite()) {
            return None;
        }
        let mean = self.mean[side - width..].to_vec();
        let deviation: Vec<f64> = (0..width)
            .map(|m| {
                let n = side - width + m;
                let deviation = (self.products.at(n, n) / self.rows).sqrt();
                let level = mean[m].abs();
                if deviation > 1e-9 * level.max(1e-300) { deviation } else { TREMBLE * level.max(1.0) }
            })
            .collect();
        let mut covariance = Square::zero(side);
        for a in 0..side {
            for b in 0..=a {
                let scale = deviation[a % width] * deviation[b % width] * self.rows;
                covariance.row_mut(a)[b] = self.products.at(a, b) / scale;
            }
        }
        Some(Joint {
            centre: (0..side).map(|n| (self.mean[n] - mean[n % width]) / deviation[n % width]).collect(),
            factor: factor(&covariance),
            held: Finding { score: 0.0, parts: vec![0.0; width] },
            past: self.past,
            until_refresh: REFRESH_ROWS,
            mean,
            deviation,
            covariance,
        })
    }
}

impl Joint {
    /// Judges a row of one value a metric, then learns from it. A value that is not finite, or missing at the end, is taken to
    /// be what it was before.
    pub fn push(&mut self, row: &[f64]) -> &Finding {
        let Some(seen) = self.past.push(row) else { return &self.held };
        let width = self.mean.len();
        let off: Vec<f64> = (0..seen.len())
            .map(|n| (seen[n] - self.mean[n % width]) / self.deviation[n % width])
            .map(|z| z.clamp(-FARTHEST, FARTHEST))
            .zip(&self.centre)
            .map(|(z, centre)| z - centre)
            .collect();
        let (found, distance) = self.judge(&off);
        self.hold(found);
        self.learn(&off, distance);
        &self.held
    }

    /// What is found, and the squared distance per metric and delay: about 1 for a usual row.
    fn judge(&self, off: &[f64]) -> (Finding, f64) {
        let (width, side) = (self.mean.len(), off.len());
        let white = self.factor.whitened(off);
        let squares = |of: &[f64]| of.iter().map(|v| v * v).sum::<f64>() / of.len() as f64;
        let distance = squares(&white);
        let surprise = squares(&white[side - width..]);
        // By how much the squared distance would fall if one value were not known.
        let pull = self.factor.pull(&white);
        let falls: Vec<f64> =
            pull.iter().zip(self.factor.diagonal_of_inverse()).map(|(p, d)| p * p / d).collect();
        let newest = &falls[side - width..];
        let of_metric = |m: usize| falls.iter().skip(m).step_by(width).sum::<f64>();
        let (all, all_newest): (f64, f64) = (falls.iter().sum(), newest.iter().sum());
        let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 1.0 / width as f64 };
        let parts: Vec<f64> = (0..width)
            .map(|m| {
                0.5 * (distance.sqrt() * share(of_metric(m), all)
                    + surprise.sqrt() * share(newest[m], all_newest))
            })
            .collect();
        (Finding { score: parts.iter().sum(), parts }, distance)
    }

    /// The parts fall as the score does, so that they keep adding up.
    fn hold(&mut self, found: Finding) {
        if found.score >= self.held.score {
            self.held = found;
            return;
        }
        let falls = |held: f64, now: f64| held + FALLING * (now - held);
        self.held.score = falls(self.held.score, found.score);
        self.held.parts.iter_mut().zip(&found.parts).for_each(|(held, now)| *held = falls(*held, *now));
    }

    fn learn(&mut self, off: &[f64], distance: f64) {
        let rate = 1.0 / (MEMORY_ROWS * distance.max(NEAREST));
        self.covariance.blend(1.0 - rate, rate, off, off);
        self.centre.iter_mut().zip(off).for_each(|(centre, off)| *centre += rate * off);
        self.until_refresh -= 1;
        if self.until_refresh == 0 {
            self.until_refresh = REFRESH_ROWS;
            self.factor = factor(&self.covariance);
        }
    }
}

/// The factor of the covariance with some independence mixed in.
fn factor(covariance: &Square) -> Factor {
    let mut mixed = covariance.clone();
    for n in 0..mixed.side() {
        let row = mixed.row_mut(n);
        row.iter_mut().for_each(|cell| *cell *= 1.0 - INDEPENDENT);
        row[n] += INDEPENDENT;
    }
    Factor::of(&mixed)
}

impl Past {
    /// The row after its delayed ones; `None` until there are as many.
    fn push(&mut self, row: &[f64]) -> Option<Vec<f64>> {
        let value = |m: usize| {
            let before = self.rows.last().map_or(0.0, |row| row[m]);
            row.get(m).copied().filter(|v| v.is_finite()).unwrap_or(before)
        };
        let row: Vec<f64> = (0..self.width).map(value).collect();
        let have = self.rows.len();
        let seen = (have >= DELAYS[0]).then(|| {
            let mut seen: Vec<f64> =
                DELAYS.iter().flat_map(|delay| &self.rows[have - delay]).copied().collect();
            seen.extend(&row);
            seen
        });
        if have >= DELAYS[0] {
            self.rows.remove(0);
        }
        self.rows.push(row);
        seen
    }
}

#[cfg(test)]
mod tests;
