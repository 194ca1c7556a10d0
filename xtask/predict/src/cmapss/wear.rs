//! Fourteen sensors, two things that wear. Measured in their own noise, the sensors of these engines move in a plane: what
//! leaves it is noise. In that plane there is one direction along which every engine fails at the same mark.

use super::{
    data::{NEW, Unit},
    linear::{Factor, dot, leading},
};

/// Where an engine stands in the plane, with a noise of variance 1 along either axis. The first is how worn it is.
pub(super) type Point = [f64; 2];

/// So many last cycles stand for where an engine failed.
const LAST: usize = 8;

/// How sensors become points.
#[derive(Debug, Clone)]
pub(super) struct Plane {
    centre: Vec<f64>,
    axes: [Vec<f64>; 2],
    /// How worn engines were when they failed.
    pub(super) mark: f64,
}

impl Plane {
    /// From engines that ran until they failed.
    pub(super) fn of(units: &[Unit]) -> Self {
        let sensors = units.first().and_then(|unit| unit.cycles.first()).map_or(0, Vec::len);
        let centre = mean(units.iter().flat_map(|unit| unit.cycles.iter().take(NEW)), sensors);
        let noise = noise(units, sensors);
        let mut spread = vec![vec![0.0; sensors]; sensors];
        let mut n = 0.0;
        for row in units.iter().flat_map(|unit| &unit.cycles) {
            let row: Vec<f64> = (0..sensors).map(|s| (row[s] - centre[s]) / noise[s]).collect();
            n += 1.0;
            for (line, a) in spread.iter_mut().zip(&row) {
                line.iter_mut().zip(&row).for_each(|(cell, b)| *cell += a * b);
            }
        }
        spread.iter_mut().flatten().for_each(|cell| *cell /= n);
        let axes = leading::<2>(&spread).map(|axis| axis.iter().zip(&noise).map(|(a, n)| a / n).collect());
        Self { centre, axes, mark: 0.0 }.turned(units)
    }

    /// Turned so that the first axis is the one along which engines fail closest to one mark, for how far they have come.
    fn turned(mut self, units: &[Unit]) -> Self {
        let ends: Vec<Point> = units.iter().map(|unit| self.end(unit)).collect();
        let n = ends.len() as f64;
        let mean = [0, 1].map(|d| ends.iter().map(|end| end[d]).sum::<f64>() / n);
        let with =
            |a: usize, b: usize| ends.iter().map(|e| (e[a] - mean[a]) * (e[b] - mean[b])).sum::<f64>() / n;
        let spread = [[with(0, 0), with(0, 1)], [with(1, 0), with(1, 1)]];
        let direction = Factor::of(&spread).solve(&mean);
        let length = dot(&direction, &direction).sqrt().max(f64::MIN_POSITIVE);
        let (c, s) = (direction[0] / length, direction[1] / length);
        let [first, second] = &self.axes;
        let mixed = |a: f64, b: f64| first.iter().zip(second).map(|(x, y)| a * x + b * y).collect();
        self.axes = [mixed(c, s), mixed(-s, c)];
        self.mark = units.iter().map(|unit| self.end(unit)[0]).sum::<f64>() / n;
        self
    }

    fn end(&self, unit: &Unit) -> Point {
        let points = self.points(&unit.cycles[unit.cycles.len().saturating_sub(LAST)..]);
        [0, 1].map(|d| points.iter().map(|point| point[d]).sum::<f64>() / points.len() as f64)
    }

    /// The points of rows of sensors.
    pub(super) fn points(&self, rows: &[Vec<f64>]) -> Vec<Point> {
        let one = |row: &Vec<f64>, axis: &Vec<f64>| -> f64 {
            row.iter().zip(&self.centre).zip(axis).map(|((v, c), a)| (v - c) * a).sum()
        };
        rows.iter().map(|row| [one(row, &self.axes[0]), one(row, &self.axes[1])]).collect()
    }
}

fn mean<'a>(rows: impl Iterator<Item = &'a Vec<f64>>, sensors: usize) -> Vec<f64> {
    let mut sums = vec![0.0; sensors];
    let mut n = 0.0;
    for row in rows {
        n += 1.0;
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
    }
    sums.iter().map(|sum| sum / n).collect()
}

/// The noise of each sensor: from a cycle to the next, engines wear next to nothing, so what differs is noise twice.
fn noise(units: &[Unit], sensors: usize) -> Vec<f64> {
    let mut squares = vec![0.0; sensors];
    let mut n = 0.0;
    for pair in units.iter().flat_map(|unit| unit.cycles.windows(2)) {
        n += 1.0;
        for (s, square) in squares.iter_mut().enumerate() {
            *square += (pair[1][s] - pair[0][s]).powi(2);
        }
    }
    squares.iter().map(|square| (square / (2.0 * n)).sqrt().max(1e-9)).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Engines whose five sensors show two hidden courses: wear, which always ends at 30, and another that ends anywhere.
    fn engines() -> Vec<Unit> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let shows = [[1.0, 0.5], [-0.8, 1.0], [0.0, 1.2], [0.3, -0.3], [1.2, 0.0]];
        (0..40)
            .map(|_| {
                let other = random.random_range(-30.0..30.0);
                let life = random.random_range(100..200usize);
                let row = |t: usize| {
                    let grown = (3.0 * (t as f64 / life as f64 - 1.0)).exp();
                    shows
                        .iter()
                        .map(|[a, b]| {
                            let noise: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
                            100.0 + (a * 30.0 + b * other) * grown + noise
                        })
                        .collect()
                };
                Unit { cycles: (1..=life).map(row).collect(), left: 0.0 }
            })
            .collect()
    }

    #[test]
    fn engines_fail_at_the_mark_whatever_else_they_do() {
        let units = engines();
        let plane = Plane::of(&units);
        let ends: Vec<Point> = units.iter().map(|unit| plane.end(unit)).collect();
        assert!(plane.mark > 20.0, "{}", plane.mark);
        for end in &ends {
            assert!((end[0] / plane.mark - 1.0).abs() < 0.2, "{end:?} for {}", plane.mark);
        }
        assert!(ends.iter().any(|end| end[1] > 20.0) && ends.iter().any(|end| end[1] < -20.0));
    }

    #[test]
    fn the_noise_along_either_axis_is_1() {
        let units = engines();
        let plane = Plane::of(&units);
        for axis in 0..2 {
            let still = units.iter().flat_map(|unit| {
                let points = plane.points(&unit.cycles[..40]);
                points
                    .windows(2)
                    .map(|pair| (pair[1][axis] - pair[0][axis]).powi(2) / 2.0)
                    .collect::<Vec<_>>()
            });
            let (sum, n) = still.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
            assert!((0.8..1.2).contains(&(sum / n)), "{axis}: {}", sum / n);
        }
    }
}
