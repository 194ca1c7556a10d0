//! Days on which drives are looked at, and what became of them.
//!
//! The days are those of the calendar, the same for all drives. What is learned from is cut off at an instant: of a drive that fails
//! later it is only known that it lived until then.

use super::drives::{DAY_H, Drive};

pub(super) const HORIZON_H: f64 = 30.0 * DAY_H;
/// From look to look.
const EVERY_H: f64 = 15.0 * DAY_H;
/// From day to day of those on which a look may fall, for training.
const DENSE_H: f64 = 5.0 * DAY_H;
/// So many of those days from look to look.
const DAYS: u64 = (EVERY_H / DENSE_H) as u64;
/// So long before a failure looks are dense, and so far training looks ahead.
pub(super) const AHEAD_H: f64 = 2.0 * HORIZON_H;

/// A drive on a day.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    /// Its number.
    pub(super) drive: usize,
    /// Hours of its life.
    pub(super) hour: f64,
    /// Hours since 1970.
    pub(super) at: f64,
    /// Until it failed or was last seen.
    pub(super) left: f64,
    /// Whether it failed then.
    pub(super) failed: bool,
    /// How many looks it stands for.
    pub(super) weight: f32,
    /// Whether it would be there whatever becomes of the drive.
    pub(super) drawn: bool,
}

impl Look {
    /// Whether it failed within the horizon; `None`: it was lost sight of before.
    pub(super) fn outcome(&self) -> Option<bool> {
        let within = self.left <= HORIZON_H;
        if self.failed && within { Some(true) } else { (!within).then_some(false) }
    }
}

/// The looks at a drive from instant `from` to `until`, both in hours since 1970 and included.
pub(super) fn judged(number: usize, drive: &Drive, from: f64, until: f64) -> Vec<Look> {
    looks(number, drive, EVERY_H, f64::INFINITY).filter(|look| look.at >= from && look.at <= until).collect()
}

/// The looks at a drive to learn from, with nothing in them of what happened after `cut`, in hours since 1970.
///
/// Of each fifteen days one of three is drawn. Failures are few, so before one a drive is looked at on all three, and each such look counts a third.
/// Were the days the same for all drives, only those that fail would be looked at on the others: whatever tells one day from another (drives of a
/// rack are started together) would foretell failure.
pub(super) fn learned(number: usize, drive: &Drive, cut: f64) -> Vec<Look> {
    let share = (DENSE_H / EVERY_H) as f32;
    looks(number, drive, DENSE_H, cut)
        .filter_map(|look| {
            let fails = look.failed && look.left <= AHEAD_H;
            let weight = if fails { share } else { 1.0 };
            let drawn = is_drawn(number, (look.at / DENSE_H) as u64);
            (fails || drawn).then_some(Look { weight, drawn, ..look })
        })
        .collect()
}

/// Whether a day, counted in [`DENSE_H`], is the one of its fifteen days on which a drive is looked at. Mixed as in SplitMix64 (Steele et al. 2014).
fn is_drawn(number: usize, day: u64) -> bool {
    let mut mixed = (number as u64) << 32 | (day / DAYS);
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
        mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
    }
    (mixed ^ (mixed >> 31)) % DAYS == day % DAYS
}

/// Looks at every so many hours of the calendar before `cut`, and what was known at `cut` of their ends.
fn looks(number: usize, drive: &Drive, every: f64, cut: f64) -> impl Iterator<Item = Look> {
    let (born, begins, ends) = (drive.born, drive.begins(), drive.ends());
    let failed = drive.failed && born + ends <= cut;
    let until = (born + ends).min(cut);
    let first = ((born + begins) / every).ceil();
    (0u32..).map(move |n| (first + f64::from(n)) * every).take_while(move |at| *at < until).map(move |at| {
        Look { drive: number, hour: at - born, at, left: until - at, failed, weight: 1.0, drawn: true }
    })
}

#[cfg(test)]
mod tests {
    use super::{super::drives::made_up, *};

    fn days(looks: &[Look]) -> Vec<f64> {
        looks.iter().map(|look| look.at / DAY_H).collect()
    }

    #[test]
    fn days_are_those_of_the_calendar_whatever_becomes_of_the_drive() {
        let fails = made_up(&[(0.0, 0.0)], 100.0 * DAY_H, true);
        let lives = Drive { failed: false, ..fails.clone() };
        let from_to = |drive: &Drive| judged(7, drive, 20.0 * DAY_H, 75.0 * DAY_H);
        assert_eq!(days(&from_to(&fails)), [30.0, 45.0, 60.0, 75.0]);
        assert_eq!(days(&from_to(&fails)), days(&from_to(&lives)));
        assert!(from_to(&fails).iter().all(|look| look.drive == 7 && look.hour == look.at));
        let outcomes: Vec<_> = from_to(&fails).iter().map(Look::outcome).collect();
        assert_eq!(outcomes, [Some(false), Some(false), Some(false), Some(true)]);
        let late = judged(7, &lives, 80.0 * DAY_H, 90.0 * DAY_H);
        assert_eq!(late.iter().map(Look::outcome).collect::<Vec<_>>(), [None], "lost sight of");
    }

    #[test]
    fn nothing_is_learned_of_what_happens_after_the_cut() {
        let fails = made_up(&[(0.0, 0.0)], 100.0 * DAY_H, true);
        let lives = Drive { failed: false, ..fails.clone() };
        let cut = 99.0 * DAY_H;
        assert_eq!(learned(0, &fails, cut), learned(0, &lives, cut));
        assert!(learned(0, &fails, cut).iter().all(|look| !look.failed && look.at + look.left == cut));
        assert_ne!(learned(0, &fails, 101.0 * DAY_H), learned(0, &lives, 101.0 * DAY_H));
    }

    #[test]
    fn looks_are_dense_before_a_failure_and_count_as_much_as_before() {
        let fails = made_up(&[(1.0, 0.0)], 100.0 * DAY_H, true);
        let looks = learned(0, &fails, 1e9);
        let dense: Vec<f64> = days(&looks).into_iter().filter(|day| *day >= 40.0).collect();
        assert_eq!(dense, [40.0, 45.0, 50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0]);
        let weight: f32 = looks.iter().filter(|look| look.at >= 45.0 * DAY_H).map(|look| look.weight).sum();
        assert!((weight - 11.0 / 3.0).abs() < 1e-5, "{weight} for 55 days");
        assert_eq!(days(&looks).iter().filter(|day| (15.0..30.0).contains(*day)).count(), 1);
    }

    #[test]
    fn the_day_says_nothing_of_what_becomes_of_a_drive() {
        let lives = made_up(&[(1.0, 0.0)], 3_000.0 * DAY_H, false);
        let fails = Drive { failed: true, ..lives.clone() };
        let drawn = |number, drive: &Drive| -> Vec<f64> {
            days(&learned(number, drive, 1e9).into_iter().filter(|look| look.drawn).collect::<Vec<_>>())
        };
        let mut on = [0; 3];
        for number in 0..50 {
            assert_eq!(drawn(number, &lives), drawn(number, &fails));
            drawn(number, &lives).iter().for_each(|day| on[*day as usize / 5 % 3] += 1);
        }
        let all: i32 = on.iter().sum();
        assert!(on.iter().all(|n| (n - all / 3).abs() < all / 30), "{on:?}");
    }
}
