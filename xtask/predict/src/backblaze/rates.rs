//! How often drives of a model fail.

use std::collections::BTreeMap;

use super::{
    drives::{DAY_H, Drive},
    looks::Look,
};

/// The provider writes all attributes down from February 2014 on; rates before are of other drives in another time.
pub(super) const SINCE_H: f64 = 16_125.0 * DAY_H;
/// A model's own rate counts as much as its manufacturer's once it has failed so often.
const PRIOR: f64 = 20.0;
/// A manufacturer of which nothing is known fails once in so many looks.
const RARE: f64 = 400.0;
/// A drive that is learned from must not see its own end in its model's rate: that of a training row is of the other parts.
const PARTS: usize = 10;

/// Log rates of failures per look, by model and, where a model is new, by manufacturer.
pub(super) struct Rates {
    all: Table,
    without: Vec<Table>,
}

#[derive(Default)]
struct Table {
    models: BTreeMap<usize, Count>,
    makers: BTreeMap<usize, Count>,
}

#[derive(Default, Clone, Copy)]
struct Count {
    looks: f64,
    failures: f64,
}

impl Rates {
    /// Of looks whose outcome is known; those that are there for a failure's sake are left out.
    pub(super) fn of(looks: &[Look], drives: &[Drive]) -> Self {
        let mut rates = Self { all: Table::default(), without: Vec::new() };
        rates.without.resize_with(PARTS, Table::default);
        for look in looks.iter().filter(|look| look.drawn && look.at >= SINCE_H) {
            let Some(failed) = look.outcome() else { continue };
            let drive = &drives[look.drive];
            rates.all.add(drive, failed);
            for (part, table) in rates.without.iter_mut().enumerate() {
                if part != part_of(look.drive) {
                    table.add(drive, failed);
                }
            }
        }
        rates
    }

    /// Of a drive that was not learned from.
    pub(super) fn of_other(&self, drive: &Drive) -> f32 {
        self.all.rate(drive)
    }

    /// Of a drive that was learned from, going by others alone.
    pub(super) fn of_own(&self, number: usize, drive: &Drive) -> f32 {
        self.without[part_of(number)].rate(drive)
    }
}

impl Table {
    fn add(&mut self, drive: &Drive, failed: bool) {
        let counts =
            [self.models.entry(drive.model).or_default(), self.makers.entry(drive.maker).or_default()];
        for count in counts {
            count.looks += 1.0;
            count.failures += f64::from(u8::from(failed));
        }
    }

    fn rate(&self, drive: &Drive) -> f32 {
        let of = |counts: &BTreeMap<usize, Count>, n: usize| counts.get(&n).copied().unwrap_or_default();
        let maker = of(&self.makers, drive.maker);
        let usual = (maker.failures + 1.0) / (maker.looks + RARE);
        let model = of(&self.models, drive.model);
        ((model.failures + PRIOR) / (model.looks + PRIOR / usual)).ln() as f32
    }
}

/// Neighbours by serial number come in different parts, though every third drive is missing.
fn part_of(number: usize) -> usize {
    (number / 3) % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(drive: usize, failed: bool) -> Look {
        let left = if failed { 1.0 } else { 1e6 };
        // The first regular day after the rates begin.
        Look { drive, hour: 0.0, at: SINCE_H, left, failed, weight: 1.0, drawn: true }
    }

    fn fleet() -> Vec<Drive> {
        (0..60).map(|n| Drive { model: n % 2, maker: 0, ..Drive::default() }).collect()
    }

    #[test]
    fn bad_models_are_told_from_good_ones_and_new_ones_are_as_their_manufacturer() {
        let drives = fleet();
        let looks: Vec<Look> =
            (0..6_000).map(|n| look(n % 60, n % 2 == 1 && n % 60 < 30 && n < 3_000)).collect();
        let rates = Rates::of(&looks, &drives);
        let (good, bad) = (rates.of_other(&drives[0]), rates.of_other(&drives[1]));
        let new = rates.of_other(&Drive { model: 9, ..Drive::default() });
        assert!(good < new && new < bad, "{good} {new} {bad}");
        let usual = (751.0f64 / 6_400.0).ln() as f32;
        assert!((new - usual).abs() < 1e-6, "{new} is not {usual}");
    }

    #[test]
    fn the_end_of_a_drive_is_not_in_the_rate_that_it_learns_with() {
        let drives = fleet();
        let rate = |fails: bool| {
            let looks: Vec<Look> = (0..60).map(|n| look(n, n == 7 && fails)).collect();
            let rates = Rates::of(&looks, &drives);
            (rates.of_own(7, &drives[7]), rates.of_own(15, &drives[15]))
        };
        assert_eq!(rate(true).0, rate(false).0);
        assert!(rate(true).1 > rate(false).1, "other drives of the model do learn of it");
    }

    #[test]
    fn what_is_not_known_does_not_count() {
        let drives = fleet();
        let lost = Look { left: 1.0, ..look(1, false) };
        let early = Look { at: SINCE_H - 15.0 * DAY_H, ..look(1, true) };
        let rates = Rates::of(&[lost, early], &drives);
        assert_eq!(rates.of_other(&drives[1]), (1.0 / RARE).ln() as f32);
    }
}
