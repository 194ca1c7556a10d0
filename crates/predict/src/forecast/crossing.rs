use super::Forecast;
use crate::normal;

/// Instants at which a path is looked at.
const STEPS: usize = 96;

/// When a series crosses a limit, as drawn paths have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Crossing {
    /// Seconds after the newest value and the share of paths that have crossed by then; ascending in both.
    pub crossed: Vec<(f64, f64)>,
}

impl Crossing {
    /// The probability that it has crossed within so many seconds, 0 to 1; beyond what was asked for, as at its end.
    #[must_use]
    pub fn within(&self, ahead_s: f64) -> f64 {
        let i = self.crossed.partition_point(|(t, _)| *t <= ahead_s);
        i.checked_sub(1).map_or(0.0, |i| self.crossed[i].1)
    }

    /// Seconds until it has crossed with probability `p`; `None`: not within what was asked for.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Option<f64> {
        self.crossed.iter().find(|(_, crossed)| *crossed >= p).map(|(t, _)| *t)
    }
}

impl Forecast {
    /// How likely the series reaches `limit` from below (`upwards`) or from above, and when: `paths` ways on are drawn from the errors of the past, the
    /// changes of slope of the past, and how long residuals were alike, at even instants up to `within_s` seconds after the newest value.
    ///
    /// The same seed draws the same paths. Costs about 10 µs a path.
    #[must_use]
    pub fn crossing(&self, limit: f64, upwards: bool, within_s: f64, paths: usize, seed: u64) -> Crossing {
        let step_s = within_s / STEPS as f64;
        let ahead: Vec<f64> = (1..=STEPS).map(|n| n as f64 * step_s).collect();
        let expected: Vec<f64> = ahead.iter().map(|t| self.expected(self.newest_s() + t)).collect();
        let quantiles: Vec<Vec<f64>> = ahead.iter().map(|t| self.error_table(*t)).collect();
        let alike = self.errors.alike(step_s);
        let changes = self.change_rate * step_s / self.design.span_s();
        let mut random = Random(seed);
        let mut counts = vec![0usize; STEPS];
        for _ in 0..paths {
            let (mut slope, mut trend, mut like) = (0.0, 0.0, random.normal());
            for n in 0..STEPS {
                if random.share() < changes {
                    slope += self.change * random.laplace();
                }
                trend += slope * step_s / self.design.span_s();
                like = alike * like + (1.0 - alike * alike).sqrt() * random.normal();
                let error = of_table(&quantiles[n], normal::cdf(like));
                let value = expected[n] + self.unit * (trend + error);
                if if upwards { value >= limit } else { value <= limit } {
                    counts[n] += 1;
                    break;
                }
            }
        }
        let mut sum = 0;
        let share = |(t, count): (&f64, usize)| {
            sum += count;
            (*t, sum as f64 / paths.max(1) as f64)
        };
        Crossing { crossed: ahead.iter().zip(counts).map(share).collect() }
    }

    /// Quantiles of errors at even shares, so far ahead.
    fn error_table(&self, ahead_s: f64) -> Vec<f64> {
        let median = self.errors.quantile(ahead_s, 0.5);
        let wide = |n: usize| {
            median + self.widen * (self.errors.quantile(ahead_s, n as f64 / TABLE as f64) - median)
        };
        (0..=TABLE).map(wide).collect()
    }
}

const TABLE: usize = 50;

fn of_table(table: &[f64], p: f64) -> f64 {
    let at = p.clamp(0.0, 1.0) * TABLE as f64;
    let (low, high) = (table[at.floor() as usize], table[at.ceil() as usize]);
    low + at.fract() * (high - low)
}

/// SplitMix64 (Steele, Lea & Flood 2014, <https://doi.org/10.1145/2714064.2660195>): enough for paths, and no dependency of a pure crate.
struct Random(u64);

impl Random {
    /// Evenly from 0 to below 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (u, v) = (self.share(), self.share());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Laplace's distribution with a mean size of 1.
    fn laplace(&mut self) -> f64 {
        let p = self.share() - 0.5;
        -(1.0 - 2.0 * p.abs()).max(f64::MIN_POSITIVE).ln().copysign(-p)
    }
}
