//! Days, weekdays and times of day in UTC, without leap seconds, as [`Timestamp`] has none.

use std::{fmt, time::Duration};

use forefend_config::{scalar, sections::json, words};
use forefend_domain::Timestamp;
use serde::{Deserialize, Serialize};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

words!(Weekday, "weekday", "A day of the week, in UTC.", {
    "mon" => Weekday::Mon,
    "tue" => Weekday::Tue,
    "wed" => Weekday::Wed,
    "thu" => Weekday::Thu,
    "fri" => Weekday::Fri,
    "sat" => Weekday::Sat,
    "sun" => Weekday::Sun,
});

/// A time of day in UTC, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeOfDay {
    /// Minutes since midnight, at most 1440 (the end of the day).
    minutes: u16,
}

impl TimeOfDay {
    /// The beginning of the day, `00:00`.
    pub const MIDNIGHT: Self = Self { minutes: 0 };
    /// The end of the day, `24:00`.
    pub const END: Self = Self { minutes: 1_440 };

    /// From the beginning of the day.
    #[must_use]
    pub fn since_midnight(self) -> Duration {
        Duration::from_secs(u64::from(self.minutes) * 60)
    }

    fn parse(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let two = |s: &str| {
            (s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse::<u16>().ok()).flatten()
        };
        let (hour, minute) = (two(hour)?, two(minute)?);
        let minutes = hour * 60 + minute;
        (minute < 60 && minutes <= 1_440).then_some(Self { minutes })
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

scalar!(
    TimeOfDay,
    "time of day",
    "Hours and minutes in UTC: `03:00`, up to `24:00`.",
    json!({ "type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$" }),
    "a time of day, for example `03:00`",
    |text| TimeOfDay::parse(text).ok_or_else(|| (
        format!("`{text}` is not a time of day"),
        "write hours and minutes in UTC with two digits each, for example `03:00`".into()
    )),
    |value| value.to_string()
);

/// A day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Date {
    /// Days since 1970-01-01.
    days: u64,
}

impl Date {
    /// The day of an instant.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self { days: at.unix_ms() / DAY_MS }
    }

    /// Its first instant.
    #[must_use]
    pub fn begins(self) -> Timestamp {
        Timestamp::from_unix_ms(self.days.saturating_mul(DAY_MS))
    }

    /// The day after.
    #[must_use]
    pub fn next(self) -> Self {
        Self { days: self.days + 1 }
    }

    /// The day before; the first day of all has none.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        self.days.checked_sub(1).map(|days| Self { days })
    }

    /// Its day of the week.
    #[must_use]
    pub fn weekday(self) -> Weekday {
        // 1970-01-01 was a Thursday.
        match (self.days + 3) % 7 {
            0 => Weekday::Mon,
            1 => Weekday::Tue,
            2 => Weekday::Wed,
            3 => Weekday::Thu,
            4 => Weekday::Fri,
            5 => Weekday::Sat,
            _ => Weekday::Sun,
        }
    }

    /// Year, month (from 1), day of the month (from 1).
    ///
    /// Days are counted in eras of 400 years that begin on 1 March, so that the leap day is a year's last
    /// (Hinnant, `chrono`-Compatible Low-Level Date Algorithms, <https://howardhinnant.github.io/date_algorithms.html>).
    fn civil(self) -> (u64, u64, u64) {
        let z = self.days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (era * 400 + year_of_era + u64::from(month <= 2), month, day)
    }

    fn from_civil(year: u64, month: u64, day: u64) -> Option<Self> {
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let year = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (year / 400, year % 400);
        let shifted = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
        Some(Self { days })
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts.as_slice() else { return None };
        let number = |s: &str, digits: usize| {
            (s.len() == digits && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok()).flatten()
        };
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        // A day that the month has not (30 February) comes out as another one.
        Self::from_civil(year, month, day).filter(|date| date.civil() == (year, month, day))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

scalar!(
    Date,
    "date",
    "A day in UTC: `2026-12-24`.",
    json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" }),
    "a day, for example `2026-12-24`",
    |text| Date::parse(text).ok_or_else(|| (
        format!("`{text}` is not a day"),
        "write year, month and day, for example `2026-12-24`".into()
    )),
    |value| value.to_string()
);

/// An instant for people: `2026-11-21 13:05:42 UTC`.
#[must_use]
pub fn show_instant(at: Timestamp) -> String {
    let in_day = at.unix_ms() % DAY_MS;
    let (minutes, seconds) = (in_day / MINUTE_MS, in_day % MINUTE_MS / 1_000);
    format!("{} {:02}:{:02}:{seconds:02} UTC", Date::of(at), minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_days() {
        let at = Timestamp::from_unix_ms(1_795_267_542_000);
        assert_eq!(show_instant(at), "2026-11-21 13:25:42 UTC");
        assert_eq!(Date::of(at).weekday(), Weekday::Sat);
        assert_eq!(Date::parse("1970-01-01"), Some(Date { days: 0 }));
        assert_eq!(Date::parse("2024-02-29").map(Date::weekday), Some(Weekday::Thu));
        for bad in ["2026-02-29", "2026-13-01", "2026-1-1", "24-12-2026", "", "1969-12-31", "2026-04-31"] {
            assert_eq!(Date::parse(bad), None, "{bad}");
        }
        assert_eq!(TimeOfDay::parse("24:00"), Some(TimeOfDay::END));
        for bad in ["24:01", "3:00", "03:60", "0300", "-1:00", "03:00:00"] {
            assert_eq!(TimeOfDay::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_day_reads_back_and_is_followed_by_the_next(days in 0u64..2_900_000) {
            let date = Date { days };
            prop_assert_eq!(Date::parse(&date.to_string()), Some(date));
            prop_assert!(date.to_string() < date.next().to_string());
            prop_assert_eq!(Date::of(date.begins()), date);
            prop_assert_eq!(date.next().previous(), Some(date));
        }
    }
}
