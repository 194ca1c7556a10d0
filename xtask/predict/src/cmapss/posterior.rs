//! What is believed of the cycles that an engine has left.

/// How likely it is that 1, 2, 3 … cycles are left.
#[derive(Debug, Clone)]
pub(super) struct Posterior {
    mass: Vec<f64>,
}

impl Posterior {
    /// From logarithms of weights, the first of 1 cycle, up to a constant that they share.
    pub(super) fn new(log_weights: &[f64]) -> Self {
        let highest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mass: Vec<f64> = log_weights.iter().map(|w| (w - highest).exp()).collect();
        let sum: f64 = mass.iter().sum();
        Self { mass: mass.iter().map(|m| m / sum).collect() }
    }

    fn by_left(&self) -> impl Iterator<Item = (f64, f64)> {
        self.mass.iter().enumerate().map(|(i, mass)| ((i + 1) as f64, *mass))
    }

    /// The mean, where whatever is beyond `longest` counts as that.
    pub(super) fn mean(&self, longest: f64) -> f64 {
        self.by_left().map(|(left, mass)| left.min(longest) * mass).sum()
    }

    /// The probability that fewer than so many are left.
    pub(super) fn below(&self, left: f64) -> f64 {
        self.by_left().filter(|(some, _)| *some < left).map(|(_, mass)| mass).sum()
    }

    /// Numbers of cycles in the order in which an interval that grows from the likeliest takes them in, always the likelier neighbour
    /// next; and the mass that it has before each. All beyond `longest` are one.
    fn growth(&self, longest: usize) -> Vec<(usize, f64)> {
        let mut mass: Vec<f64> = self.mass.iter().take(longest).copied().collect();
        let beyond: f64 = self.mass.iter().skip(longest).sum();
        mass.last_mut().into_iter().for_each(|last| *last += beyond);
        let at = (0..mass.len()).max_by(|a, b| mass[*a].total_cmp(&mass[*b])).unwrap_or(0);
        let (mut low, mut high, mut have) = (at, at, 0.0);
        let mut order = vec![(at + 1, have)];
        while high - low + 1 < mass.len() {
            have = mass[low..=high].iter().sum();
            let below = low.checked_sub(1).map(|i| mass[i]);
            let above = mass.get(high + 1).copied();
            if below > above {
                low -= 1;
                order.push((low + 1, have));
            } else {
                high += 1;
                order.push((high + 1, have));
            }
        }
        order
    }

    /// The shortest interval that has a share of the mass, where whatever is beyond `longest` counts as that.
    pub(super) fn interval(&self, longest: usize, share: f64) -> (f64, f64) {
        self.interval_by(longest, |_| share)
    }

    /// From the least to the most of the numbers that are in the interval of the share asked for each.
    pub(super) fn interval_by(&self, longest: usize, share: impl Fn(usize) -> f64) -> (f64, f64) {
        let inside = self.growth(longest).into_iter().filter(|(left, before)| *before <= share(*left));
        let (low, high) =
            inside.fold((usize::MAX, 0), |(low, high), (left, _)| (low.min(left), high.max(left)));
        (low as f64, high as f64)
    }

    /// The least share at which [`Self::interval`] holds `left`.
    pub(super) fn reaches(&self, longest: usize, left: f64) -> f64 {
        let left = (left.round().max(1.0) as usize).min(longest);
        self.growth(longest).into_iter().find(|(some, _)| *some == left).map_or(1.0, |(_, before)| before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 to 6 cycles.
    fn some() -> Posterior {
        Posterior::new(&[0.05f64, 0.2, 0.4, 0.15, 0.1, 0.1].map(|m| m.ln() - 700.0))
    }

    #[test]
    fn the_mass_is_1_and_the_mean_is_clipped() {
        let whole: f64 = some().mass.iter().sum();
        assert!((whole - 1.0).abs() < 1e-12);
        assert!((some().mean(9.0) - 3.35).abs() < 1e-12);
        assert!((some().mean(4.0) - (0.05 + 0.4 + 1.2 + 0.35 * 4.0)).abs() < 1e-12);
    }

    #[test]
    fn fewer_than_three_are_one_or_two() {
        assert!((some().below(3.0) - 0.25).abs() < 1e-12);
    }

    #[test]
    fn the_interval_grows_to_the_likelier_side() {
        assert_eq!(some().interval(6, 0.0), (3.0, 3.0));
        assert_eq!(some().interval(6, 0.5), (2.0, 3.0));
        assert_eq!(some().interval(6, 0.7), (2.0, 4.0));
        assert_eq!(some().interval(6, 1.0), (1.0, 6.0));
        // All from 4 on are one, which outweighs 2.
        assert_eq!(some().interval(4, 0.5), (3.0, 4.0));
    }

    #[test]
    fn numbers_may_ask_for_shares_of_their_own() {
        // 3 is in whatever the share; 2 comes before 4, 5 before 6 and 1.
        let only = |wanted: usize| some().interval_by(6, |left| if left == wanted { 1.0 } else { 0.0 });
        assert_eq!(only(2), (2.0, 3.0));
        assert_eq!(only(6), (3.0, 6.0));
        assert_eq!(some().interval_by(6, |_| 0.5), some().interval(6, 0.5));
    }

    #[test]
    fn an_interval_of_the_share_that_reaches_a_number_holds_it_and_none_of_less_does() {
        for longest in [4, 6] {
            for left in 1..=6 {
                let left = f64::from(left);
                let share = some().reaches(longest, left);
                let (low, high) = some().interval(longest, share);
                let clipped = left.min(longest as f64);
                assert!((low..=high).contains(&clipped), "{left}: {low} to {high}");
                if share > 0.0 {
                    let (low, high) = some().interval(longest, share - 1e-9);
                    assert!(!(low..=high).contains(&clipped), "{left}");
                }
            }
        }
    }
}
