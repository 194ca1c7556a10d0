//! Does a metric climb and fall back, again and again?

/// A fall counts when it takes back so much of the climb before it.
const TAKEN_BACK: f64 = 0.5;
/// A climb counts when it is so much of all that was seen.
const LEAST_CLIMB: f64 = 0.3;
/// Teeth that make a pattern.
const LEAST: usize = 2;
/// A level so much of a tooth above all peaks is no tooth any more.
const BEYOND: f64 = 0.1;
/// Peaks that rise by so much of a tooth, each over the one before, are no pattern that ends: what is given back is less each time.
const RISING: f64 = 0.1;

/// How often a metric has climbed and fallen back, and from how high.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Teeth {
    count: usize,
    highest: f64,
    height: f64,
}

impl Teeth {
    /// Of `(seconds, value)` samples, oldest first; `None` where there is no pattern of that kind.
    pub(crate) fn of(samples: &[(f64, f64)]) -> Option<Self> {
        let values = || samples.iter().map(|s| s.1);
        let range = values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min);
        let mut peaks = Vec::new();
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut height = 0.0f64;
        for value in values() {
            high = high.max(value);
            let climb = high - low;
            if climb >= LEAST_CLIMB * range && high - value > TAKEN_BACK * climb {
                peaks.push(high);
                height = height.max(climb);
                (low, high) = (value, value);
            } else if value < low {
                (low, high) = (value, value);
            }
        }
        let rising = peaks.windows(2).all(|pair| pair[1] > pair[0] + RISING * height);
        let highest = peaks.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (peaks.len() >= LEAST && !rising).then_some(Self { count: peaks.len(), highest, height })
    }

    /// The probability that a climb that has come to `level` goes beyond where all teeth before it ended: Laplace's rule of
    /// succession, and 1 once it has.
    pub(crate) fn goes_beyond(&self, level: f64) -> f64 {
        if level > self.highest + BEYOND * self.height { 1.0 } else { 1.0 / (self.count as f64 + 2.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: impl Fn(usize) -> f64) -> Option<Teeth> {
        Teeth::of(&(0..90).map(|i| (i as f64, value(i))).collect::<Vec<_>>())
    }

    fn tremble(i: usize) -> f64 {
        ((i * 7_919 + 104_729) % 1_009) as f64 / 504.5 - 1.0
    }

    #[test]
    fn a_sawtooth_is_seen_and_its_next_tooth_is_believed_less_until_it_is_a_record() {
        let teeth = of(|i| 30.0 + 1.5 * (i % 20) as f64 + 0.3 * tremble(i)).unwrap();
        assert_eq!(teeth.count, 4);
        assert!(teeth.goes_beyond(55.0) < 0.2);
        assert_eq!(teeth.goes_beyond(64.0), 1.0);
    }

    #[test]
    fn leaks_plateaus_and_steps_have_no_teeth() {
        assert_eq!(of(|i| 20.0 + 0.5 * i as f64 + tremble(i)), None);
        assert_eq!(of(|i| 20.0 + 0.5 * i.min(40) as f64 + 0.2 * tremble(i)), None);
        assert_eq!(of(|i| if i < 50 { 20.0 } else { 60.0 } + 0.2 * tremble(i)), None);
        assert_eq!(of(|_| 20.0), None);
    }

    #[test]
    fn a_leak_under_a_collector_keeps_its_trend() {
        // Each tooth gives back less than it took.
        assert_eq!(of(|i| 20.0 + 6.0 * (i / 20) as f64 + 1.0 * (i % 20) as f64), None);
    }
}
