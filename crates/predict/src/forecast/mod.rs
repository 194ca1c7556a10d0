//! Forecasts of slow metrics and of load, from their own past: a trend that changes its slope, seasons, events, and how long what is off stays off.
//!
//! In the manner of Taylor & Letham, *Forecasting at scale* (The American Statistician 72, 2018,
//! <https://doi.org/10.1080/00031305.2017.1380080>), with three differences. What the newest values are off by is
//! carried on and fades, as fast as it did in the past, where theirs forgets it. Outliers count less (Huber 1964). And the uncertainty
//! is read off the errors of the past, horizon by horizon, rather than drawn from a normal distribution; so a forecast needs no
//! randomness. Only the chance of crossing a limit does, and its seed is passed in.
//!
//! Straight lines through a window, the obvious alternative, take a daily rise for a disk that fills up.
//!
//! Start from [`Forecast::fit`]. Values may be irregular in time; a gap is no value. Scale and level of the values do not matter.

mod crossing;
mod design;
mod errors;
mod fit;
mod limit;
mod load;
mod parts;
mod solve;
mod widen;

use serde::{Deserialize, Serialize};

use crate::normal;
use design::{Design, Part};
use errors::{Errors, Fading};

pub use crossing::Crossing;
pub use fit::{Event, FitError, Season, Seasons, Settings};
pub use limit::{LimitForecast, Limited, thinned, with_forecasts};
pub use load::load_of;
pub use parts::Change;

/// A forecast of one series, fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    design: Design,
    /// One for each column of the design, in units of `unit`.
    weights: Vec<f64>,
    /// What a weight of 0 says, and what 1 is, in the unit of the values.
    level: f64,
    unit: f64,
    fading: Fading,
    errors: Errors,
    /// Mean size of a change of slope, in `unit` for each length of the history.
    change: f64,
    /// Changes of slope to be expected in a length of the history.
    change_rate: f64,
    /// How much wider intervals are than errors of the fit had them.
    #[serde(default = "as_wide")]
    widen: f64,
}

fn as_wide() -> f64 {
    1.0
}

impl Forecast {
    /// When the newest value was, in the seconds of the points.
    #[must_use]
    pub fn newest_s(&self) -> f64 {
        self.design.end_s()
    }

    /// Where the value is expected, in its own unit: half of what comes lies below.
    #[must_use]
    pub fn at(&self, at_s: f64) -> f64 {
        let ahead = self.ahead(at_s);
        self.expected(at_s) + self.unit * self.errors.quantile(ahead, 0.5)
    }

    /// From where to where the value lies with this probability, 0 to 1, as much outside below as above. Holds [`Self::at`].
    #[must_use]
    pub fn interval(&self, at_s: f64, coverage: f64) -> (f64, f64) {
        let outside = 0.5 * (1.0 - coverage.clamp(0.0, 1.0));
        (self.quantile(at_s, outside), self.quantile(at_s, 1.0 - outside))
    }

    /// What the value stays below with probability `p`. At the ends of what was seen of errors beyond which nothing is known, 1 and 99 of 100.
    #[must_use]
    pub fn quantile(&self, at_s: f64, p: f64) -> f64 {
        let p = p.clamp(0.01, 0.99);
        let ahead = self.ahead(at_s);
        let median = self.errors.quantile(ahead, 0.5);
        let error = self.errors.quantile(ahead, p) - median;
        let trend = normal::quantile(p) * self.trend_deviation(at_s);
        self.expected(at_s) + self.unit * (median + self.widen * error.hypot(trend).copysign(p - 0.5))
    }

    /// The trend alone, in the unit of the values.
    #[must_use]
    pub fn trend(&self, at_s: f64) -> f64 {
        self.level + self.unit * self.design.sum(at_s, &self.weights, |part| matches!(part, Part::Trend))
    }

    /// What the seasons add to the trend.
    #[must_use]
    pub fn season(&self, at_s: f64) -> f64 {
        self.unit * self.design.sum(at_s, &self.weights, |part| matches!(part, Part::Season))
    }

    /// What events add.
    #[must_use]
    pub fn events(&self, at_s: f64) -> f64 {
        self.unit * self.design.sum(at_s, &self.weights, |part| matches!(part, Part::Event))
    }

    /// All of it, and what is still left of what the newest values were off by.
    fn expected(&self, at_s: f64) -> f64 {
        let sum = self.design.sum(at_s, &self.weights, |_| true);
        self.level + self.unit * (sum + self.fading.left(self.ahead(at_s)))
    }

    fn ahead(&self, at_s: f64) -> f64 {
        (at_s - self.newest_s()).max(0.0)
    }

    /// Standard deviation of the trend, in `unit`: slopes will change as often and as much as they did. Each change of Laplace's distribution of
    /// mean size `b` at a time `u` ago adds 2 b² u² to the variance; over all times that is a third of a cube.
    fn trend_deviation(&self, at_s: f64) -> f64 {
        let ahead = self.ahead(at_s) / self.design.span_s();
        (self.change_rate * 2.0 * self.change.powi(2) * ahead.powi(3) / 3.0).sqrt()
    }
}

#[cfg(test)]
mod tests;
