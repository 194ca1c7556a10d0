use serde::{Deserialize, Serialize};

/// More requests for a while.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Burst {
    pub(crate) at_s: f64,
    pub(crate) for_s: f64,
    /// Times the rate.
    pub(crate) factor: f64,
}

/// The load of an episode: open loop, Poisson arrivals at a rate that follows a day, with noise and bursts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadProfile {
    /// Requests per second, the mean of a day.
    pub(crate) base_per_s: f64,
    /// Share of the base by which the day's rate goes up and down.
    pub(crate) season: f64,
    /// The length of a day, compressed.
    pub(crate) day_s: f64,
    /// Where in the day it begins, as a share of it.
    pub(crate) phase: f64,
    /// Standard deviation of the slow noise on the logarithm of the rate.
    pub(crate) noise: f64,
    pub(crate) bursts: Vec<Burst>,
    /// Share of requests that write.
    pub(crate) write_share: f64,
    /// Share of requests on connections of their own.
    pub(crate) fresh_share: f64,
    /// Share of requests that are costly.
    pub(crate) heavy_share: f64,
    /// How often a client tries again, with other data, before its user sees an error.
    pub(crate) retries: u32,
}

/// So compressed are the days of the load: a day lasts tens of seconds.
pub(crate) const DAY_S: f64 = 86_400.0;

impl LoadProfile {
    /// Requests per second at `t_s`, without noise.
    pub(crate) fn rate_per_s(&self, t_s: f64) -> f64 {
        let angle = std::f64::consts::TAU * (t_s / self.day_s + self.phase);
        // A day has one broad hump and a smaller one in the evening.
        let day = 0.8 * angle.sin() + 0.2 * (2.0 * angle + 1.0).sin();
        let burst: f64 = self
            .bursts
            .iter()
            .filter(|b| t_s >= b.at_s && t_s < b.at_s + b.for_s)
            .map(|b| b.factor)
            .fold(1.0, f64::max);
        self.base_per_s * (1.0 + self.season * day) * burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_goes_up_and_down_with_the_day_and_in_bursts() {
        let load = LoadProfile {
            base_per_s: 40.0,
            season: 0.5,
            day_s: 40.0,
            phase: 0.0,
            noise: 0.0,
            bursts: vec![Burst { at_s: 20.0, for_s: 2.0, factor: 3.0 }],
            write_share: 0.0,
            fresh_share: 0.0,
            heavy_share: 0.0,
            retries: 0,
        };
        let rates: Vec<f64> = (0..400).map(|i| load.rate_per_s(f64::from(i) / 10.0)).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!((38.0..48.0).contains(&mean), "{mean}");
        assert!(rates.iter().all(|r| *r > 0.0));
        assert!(load.rate_per_s(20.5) > 2.5 * load.rate_per_s(19.9));
    }
}
