use std::{collections::BTreeMap, time::Duration};

use forefend_domain::Timestamp;

/// The load of a service from that of its cells: sums of means over even stretches of time, in seconds since 1970.
///
/// A stretch in which a cell was not measured that was measured before and afterwards has no sum: what is missing is not nothing.
#[must_use]
pub fn load_of(cells: &[&[(Timestamp, f64)]], every: Duration) -> Vec<(f64, f64)> {
    let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut sums: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
    let mut spans = Vec::new();
    for cell in cells {
        let mut means: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
        for (at, value) in cell.iter().filter(|(_, value)| value.is_finite()) {
            let of = means.entry(at.unix_ms() / every_ms).or_default();
            *of = (of.0 + value, of.1 + 1);
        }
        if let (Some((first, _)), Some((last, _))) = (means.first_key_value(), means.last_key_value()) {
            spans.push((*first, *last));
        }
        for (stretch, (sum, count)) in means {
            let of = sums.entry(stretch).or_default();
            *of = (of.0 + sum / count as f64, of.1 + 1);
        }
    }
    let there =
        |stretch: u64| spans.iter().filter(|(first, last)| (*first..=*last).contains(&stretch)).count();
    let whole = sums.into_iter().filter(|(stretch, (_, measured))| *measured == there(*stretch));
    whole.map(|(stretch, (sum, _))| ((stretch as f64 + 0.5) * every_ms as f64 / 1_000.0, sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_add_up_and_what_was_not_measured_is_no_fall() {
        let at = |s: u64| Timestamp::from_unix_ms(s * 1_000);
        let one: Vec<(Timestamp, f64)> = (0..60).map(|s| (at(s), 10.0)).collect();
        // Begins at 20 and is not seen from 30 to 39.
        let other: Vec<(Timestamp, f64)> =
            (20..60).filter(|s| !(30..40).contains(s)).map(|s| (at(s), 5.0)).collect();
        let sums = load_of(&[&one, &other, &[]], Duration::from_secs(10));
        assert_eq!(sums, [(5.0, 10.0), (15.0, 10.0), (25.0, 15.0), (45.0, 15.0), (55.0, 15.0)]);
        assert_eq!(load_of(&[], Duration::ZERO), []);
    }
}
