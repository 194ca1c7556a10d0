//! What a forecast is made of, for people.

use super::Forecast;

/// A change of slope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// When, in the seconds of the points.
    pub at_s: f64,
    /// By how much the slope is steeper from then on, in the unit of the values for each second.
    pub by_per_s: f64,
}

/// In standard deviations of the values for each length of the history.
const WORTH_TELLING: f64 = 0.05;

impl Forecast {
    /// How much the trend rises each second, at an instant.
    #[must_use]
    pub fn slope_per_s(&self, at_s: f64) -> f64 {
        let per_span = self.design.slope(at_s, &self.weights);
        self.unit * per_span / self.design.span_s()
    }

    /// Where the slope changed, by what moves the value by a twentieth of its scatter over the length of the history or more; oldest first.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let sizes = &self.weights[self.design.change_columns()];
        let changes = self.design.change_instants_s().into_iter().zip(sizes);
        changes
            .filter(|(_, size)| size.abs() >= WORTH_TELLING)
            .map(|(at_s, size)| Change { at_s, by_per_s: self.unit * size / self.design.span_s() })
            .collect()
    }

    /// The seasons that it has, in seconds.
    #[must_use]
    pub fn seasons_s(&self) -> Vec<f64> {
        self.design.periods_s()
    }

    /// What one of the seasons adds at an instant; 0 for one that it does not have.
    #[must_use]
    pub fn season_of(&self, period_s: f64, at_s: f64) -> f64 {
        self.unit * self.design.season_of(period_s, at_s, &self.weights)
    }
}
