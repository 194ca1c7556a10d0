//! How engines wear towards their failure, counted back from it, and what that says of one that still runs.
//!
//! Counted back from the failure, the course of either axis of [`Point`]s is a sum of a level and some exponentials. How much there is
//! of each differs from engine to engine: normally distributed, around a mean that depends on how long the engine lives
//! (a mixed model: Laird & Ware 1982, <https://doi.org/10.2307/2529876>; learned by expectation and maximisation). Of an engine that still runs,
//! every number of cycles that it may have left says where its course should have been all along. How well that fits, times how usual such
//! a life is, is Bayes' rule.

use super::{
    linear::{Factor, Square, dot, times},
    posterior::Posterior,
    wear::Point,
};

/// The cycles in which the exponentials fall to a third, in an engine of ordinary life.
const FALLS: [f64; 3] = [15.0, 40.0, 100.0];
/// A level and the exponentials.
const PARTS: usize = FALLS.len() + 1;
/// Those of both axes.
const BOTH: usize = 2 * PARTS;
/// An engine that lives twice as long falls more slowly by two to this power: 0 would be no slower, 1 half as fast.
const STRETCH: f64 = 0.75;
/// Rounds of learning.
const ROUNDS: usize = 60;
/// The spread of the parts is learned as if so many engines more had been seen, all of this variance.
const BEFORE: (f64, f64) = (4.0, 0.01);
/// No engine has more cycles left than this.
const MOST_LEFT: usize = 260;

/// What was learned of the courses of engines.
#[derive(Debug, Clone)]
pub(super) struct Courses {
    /// Lives of engines, by which their courses differ.
    lives: Lives,
    /// Lives of engines that are looked at while they run.
    looked_at: Lives,
    /// The parts of an engine of ordinary life, and what a life that is one deviation longer adds.
    mean: [[f64; BOTH]; 2],
    /// How parts differ between engines: the inverse of their covariance, and the logarithm of its determinant.
    inverse: Square<BOTH>,
    log_det: f64,
    /// Variance of a point around its course.
    noise: f64,
}

/// How long engines live: log-normal.
#[derive(Debug, Clone, Copy)]
struct Lives {
    mean: f64,
    deviation: f64,
}

impl Lives {
    /// From lives that count so much each.
    fn of(lives: &[usize], weights: &[f64]) -> Self {
        let whole: f64 = weights.iter().sum();
        let logs = || lives.iter().map(|life| (*life as f64).ln()).zip(weights);
        let mean = logs().map(|(log, weight)| weight * log).sum::<f64>() / whole;
        let square = logs().map(|(log, weight)| weight * (log - mean).powi(2)).sum::<f64>() / whole;
        Self { mean, deviation: square.sqrt().max(1e-6) }
    }

    /// In deviations from the ordinary.
    fn standard(self, life: usize) -> f64 {
        ((life as f64).ln() - self.mean) / self.deviation
    }

    /// The logarithm of how usual a life is, up to a constant.
    fn log_density(self, life: usize) -> f64 {
        -0.5 * self.standard(life).powi(2) - (life as f64).ln()
    }

    /// By what each exponential falls in a cycle of an engine of this life; the level does not.
    fn falls(self, life: usize) -> [f64; PARTS] {
        let pace = (self.deviation * self.standard(life) * -STRETCH).exp();
        let mut falls = [1.0; PARTS];
        falls[1..].iter_mut().zip(FALLS).for_each(|(fall, cycles)| *fall = (-pace / cycles).exp());
        falls
    }
}

/// What the points of an engine come down to, given how many cycles it had left.
struct Sums {
    /// Of products of two parts, the same for either axis.
    parts: Square<PARTS>,
    /// Of products of a part and the point.
    points: [f64; BOTH],
}

impl Sums {
    fn of(points: &[Point], left: usize, falls: &[f64; PARTS]) -> Self {
        let mut sums = Self { parts: [[0.0; PARTS]; PARTS], points: [0.0; BOTH] };
        // Horner: the newest point has fallen by none of the cycles, each older one by one more.
        for point in points {
            for (k, fall) in falls.iter().enumerate() {
                for (axis, value) in point.iter().enumerate() {
                    let sum = &mut sums.points[axis * PARTS + k];
                    *sum = *sum * fall + value;
                }
            }
        }
        let (seen, left) = (points.len() as i32, left as i32);
        for (k, fall) in falls.iter().enumerate() {
            let begun = fall.powi(left);
            (0..2).for_each(|axis| sums.points[axis * PARTS + k] *= begun);
            for (l, other) in falls.iter().enumerate() {
                let both = fall * other;
                let geometric =
                    if both < 1.0 { (1.0 - both.powi(seen)) / (1.0 - both) } else { f64::from(seen) };
                sums.parts[k][l] = both.powi(left) * geometric;
            }
        }
        sums
    }

    /// The sums of products of parts, for both axes at once.
    fn square(&self) -> Square<BOTH> {
        let mut square = [[0.0; BOTH]; BOTH];
        for axis in [0, PARTS] {
            for (k, row) in self.parts.iter().enumerate() {
                square[axis + k][axis..axis + PARTS].copy_from_slice(row);
            }
        }
        square
    }
}

fn squares(points: &[Point]) -> f64 {
    points.iter().flatten().map(|value| value * value).sum()
}

impl Courses {
    /// Learns from whole lives. `voices` say how much each speaks for the life of an engine that is looked at while it runs.
    pub(super) fn of(lives: &[Vec<Point>], voices: &[f64]) -> Self {
        let lengths: Vec<usize> = lives.iter().map(Vec::len).collect();
        let usual = Lives::of(&lengths, &vec![1.0; lives.len()]);
        let looked_at = Lives::of(&lengths, voices);
        let engines: Vec<Engine> = lives
            .iter()
            .map(|points| {
                let sums = Sums::of(points, 0, &usual.falls(points.len()));
                let standard = usual.standard(points.len());
                Engine { standard, square: sums.square(), points: sums.points, squares: squares(points) }
            })
            .collect();
        let values = 2.0 * lengths.iter().sum::<usize>() as f64;
        // To begin with, all engines are nearly free to differ.
        let mut wide = [[0.0; BOTH]; BOTH];
        (0..BOTH).for_each(|k| wide[k][k] = 1e-3);
        let mut learned =
            Self { lives: usual, looked_at, mean: [[0.0; BOTH]; 2], inverse: wide, log_det: 0.0, noise: 1.0 };
        for _ in 0..ROUNDS {
            learned.learn(&engines, values);
        }
        learned
    }

    fn expected(&self, standard: f64) -> [f64; BOTH] {
        std::array::from_fn(|k| self.mean[0][k] + standard * self.mean[1][k])
    }

    /// A round of expectation and maximisation.
    fn learn(&mut self, engines: &[Engine], values: f64) {
        let believed: Vec<([f64; BOTH], Square<BOTH>)> = engines.iter().map(|e| self.believe(e)).collect();
        let (n, squared) = (engines.len() as f64, engines.iter().map(|e| e.standard.powi(2)).sum::<f64>());
        // The deviations of lives have mean 0: level and slope of the regression part.
        for k in 0..BOTH {
            self.mean[0][k] = believed.iter().map(|(parts, _)| parts[k]).sum::<f64>() / n;
            let with =
                engines.iter().zip(&believed).map(|(e, (parts, _))| e.standard * parts[k]).sum::<f64>();
            self.mean[1][k] = with / squared.max(1e-9);
        }
        let mut spread = [[0.0; BOTH]; BOTH];
        let mut left_over = 0.0;
        for (engine, (parts, doubt)) in engines.iter().zip(&believed) {
            let expected = self.expected(engine.standard);
            for k in 0..BOTH {
                for l in 0..BOTH {
                    spread[k][l] += doubt[k][l] + (parts[k] - expected[k]) * (parts[l] - expected[l]);
                }
            }
            left_over += engine.squares - 2.0 * dot(parts, &engine.points)
                + dot(parts, &times(&engine.square, parts))
                + engine.square.iter().zip(doubt).map(|(a, b)| dot(a, b)).sum::<f64>();
        }
        for (k, row) in spread.iter_mut().enumerate() {
            row[k] += BEFORE.0 * BEFORE.1;
            row.iter_mut().for_each(|cell| *cell /= n + BEFORE.0);
        }
        let factor = Factor::of(&spread);
        (self.inverse, self.log_det) = (factor.inverse(), factor.log_det());
        self.noise = (left_over / values).max(1e-9);
    }

    /// What is believed of the parts of an engine that was seen all its life: the mean and the covariance.
    fn believe(&self, engine: &Engine) -> ([f64; BOTH], Square<BOTH>) {
        let (precision, expected) = (self.precision(&engine.square), self.expected(engine.standard));
        let before = times(&self.inverse, &expected);
        let pull = std::array::from_fn(|k| before[k] + engine.points[k] / self.noise);
        let factor = Factor::of(&precision);
        (factor.solve(&pull), factor.inverse())
    }

    fn precision(&self, square: &Square<BOTH>) -> Square<BOTH> {
        let mut precision = self.inverse;
        for (row, more) in precision.iter_mut().zip(square) {
            row.iter_mut().zip(more).for_each(|(cell, more)| *cell += more / self.noise);
        }
        precision
    }

    /// How likely each number of cycles is that an engine with these points has left.
    pub(super) fn left(&self, points: &[Point]) -> Posterior {
        let squares = squares(points);
        let log_weights = (1..=MOST_LEFT).map(|left| {
            let life = points.len() + left;
            self.log_likelihood(points, squares, left) + self.looked_at.log_density(life)
        });
        Posterior::new(&log_weights.collect::<Vec<_>>())
    }

    /// Of the points, if so many cycles were left; up to a constant.
    fn log_likelihood(&self, points: &[Point], squares: f64, left: usize) -> f64 {
        let life = points.len() + left;
        let sums = Sums::of(points, left, &self.lives.falls(life));
        let square = sums.square();
        let expected = self.expected(self.lives.standard(life));
        let of_expected = times(&square, &expected);
        let off = squares - 2.0 * dot(&expected, &sums.points) + dot(&expected, &of_expected);
        let pull: [f64; BOTH] = std::array::from_fn(|k| (sums.points[k] - of_expected[k]) / self.noise);
        let factor = Factor::of(&self.precision(&square));
        let explained = dot(&pull, &factor.solve(&pull));
        -0.5 * (off / self.noise - explained + factor.log_det() + self.log_det)
    }
}

/// An engine that was seen until it failed.
struct Engine {
    standard: f64,
    square: Square<BOTH>,
    points: [f64; BOTH],
    squares: f64,
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn normal(random: &mut ChaCha8Rng) -> f64 {
        (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
    }

    /// A life whose wear grows to 20 at the failure, by a pace of its own; the other axis goes anywhere.
    fn life(random: &mut ChaCha8Rng) -> Vec<Point> {
        let life = (5.3 + 0.2 * normal(random)).exp() as usize;
        let (begun, other) = (2.0 * normal(random), 15.0 * normal(random));
        let pace = 40.0 * (1.0 + 0.1 * normal(random)) * (life as f64 / 200.0);
        (0..life)
            .rev()
            .map(|left| {
                let grown = (-(left as f64) / pace).exp();
                [begun + (20.0 - begun) * grown + normal(random), other * grown + normal(random)]
            })
            .collect()
    }

    fn lives(seed: u64, count: usize) -> Vec<Vec<Point>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| life(&mut random)).collect()
    }

    fn learned(seed: u64) -> Courses {
        Courses::of(&lives(seed, 60), &[1.0; 60])
    }

    #[test]
    fn sums_are_those_of_the_parts_written_out() {
        let points = [[1.0, -2.0], [0.5, 3.0], [2.0, 0.1]];
        let falls = [1.0, 0.9, 0.8, 0.7];
        let sums = Sums::of(&points, 4, &falls);
        for (k, fall) in falls.iter().enumerate() {
            let part = |i: usize, fall: f64| fall.powi(4 + 2 - i as i32);
            for axis in 0..2 {
                let written: f64 = points.iter().enumerate().map(|(i, p)| part(i, *fall) * p[axis]).sum();
                assert!((sums.points[axis * PARTS + k] - written).abs() < 1e-12);
            }
            for (l, other) in falls.iter().enumerate() {
                let written: f64 = (0..3).map(|i| part(i, *fall) * part(i, *other)).sum();
                assert!((sums.parts[k][l] - written).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_noise_around_courses_is_found() {
        let learned = learned(1);
        assert!((learned.noise - 1.0).abs() < 0.1, "{}", learned.noise);
    }

    #[test]
    fn other_engines_are_foretold_closely_when_near_and_honestly_when_far() {
        let learned = learned(2);
        let (mut near, mut inside, mut asked) = (0.0, 0, 0);
        for points in lives(3, 40) {
            let foretold = learned.left(&points[..points.len() - 10]);
            near += (foretold.mean(125.0) - 10.0).powi(2) / 40.0;
            for left in [10, 30, 60, 90] {
                let (low, high) = learned.left(&points[..points.len() - left]).interval(125, 0.9);
                inside += i32::from((low..=high).contains(&(left as f64)));
                asked += 1;
            }
        }
        assert!(near.sqrt() < 3.0, "{}", near.sqrt());
        let share = f64::from(inside) / f64::from(asked);
        assert!((0.84..0.98).contains(&share), "{share}");
    }

    #[test]
    fn of_an_engine_hardly_seen_the_usual_life_is_believed() {
        let learned = learned(4);
        let points = &lives(5, 1)[0][..5];
        let mean = learned.left(points).mean(f64::INFINITY);
        assert!((150.0..240.0).contains(&mean), "{mean}");
    }

    #[test]
    fn voices_of_the_short_lived_make_lives_shorter() {
        let seen = lives(4, 60);
        let voices: Vec<f64> = seen.iter().map(|points| f64::from(u8::from(points.len() < 190))).collect();
        let points = &lives(5, 1)[0][..5];
        let usual = learned(4).left(points).mean(f64::INFINITY);
        let short = Courses::of(&seen, &voices).left(points).mean(f64::INFINITY);
        assert!(short < usual - 10.0, "{short} {usual}");
    }
}
