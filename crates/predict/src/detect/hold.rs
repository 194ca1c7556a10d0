/// A score that rises at once and falls slowly: trouble that was seen a moment ago is not over because one sample looks usual.
///
/// The opposite of a moving average, which sees trouble late and spreads it over what came before the end of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hold {
    falling: f64,
    value: f64,
}

impl Hold {
    /// `falling` is how much of the way down is gone each sample, from 0 (never) to 1 (at once).
    #[must_use]
    pub fn new(falling: f64) -> Self {
        Self { falling: if falling.is_nan() { 1.0 } else { falling.clamp(0.0, 1.0) }, value: 0.0 }
    }

    /// What the held score will be if the next one is 0.
    pub(super) fn faded(&self) -> f64 {
        (1.0 - self.falling) * self.value
    }

    /// The score, held.
    pub fn push(&mut self, score: f64) -> f64 {
        let fallen = self.value + self.falling * (score - self.value);
        self.value = if score.is_nan() { self.value } else { score.max(fallen) };
        self.value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_rises_at_once_and_falls_by_a_share() {
        let mut hold = Hold::new(0.25);
        let held: Vec<f64> = [0.0, 8.0, 0.0, 0.0, 10.0].map(|v| hold.push(v)).to_vec();
        assert_eq!(held, [0.0, 8.0, 6.0, 4.5, 10.0]);
        assert_eq!(hold.push(f64::NAN), 10.0);
    }

    proptest! {
        #[test]
        fn it_is_never_below_the_score(scores in prop::collection::vec(0.0..1e9_f64, 1..50), falling in any::<f64>()) {
            let mut hold = Hold::new(falling);
            for score in scores {
                prop_assert!(hold.push(score) >= score);
            }
        }
    }
}
