//! Series of NAB, and what is asked of them.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// A day, in seconds.
pub(super) const DAY: f64 = 86_400.0;
/// The last days of a series that are forecast, each from what was before it.
const ORIGINS: usize = 4;
/// The least history, in days.
const LEAST_DAYS: f64 = 3.0;
/// The longest history, in days: what a metric is kept for.
const MOST_DAYS: f64 = 60.0;

/// A history and the day after it.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// Which series, from 0.
    pub(super) series: usize,
    /// Seconds since 1970 and values.
    pub(super) history: Vec<(f64, f64)>,
    pub(super) coming: Vec<(f64, f64)>,
}

impl Task {
    /// What a day before says, for each coming instant: the newest value that is at least whole days older.
    pub(super) fn day_before(&self) -> Vec<f64> {
        let at = |t: f64| {
            let i = self.history.partition_point(|point| point.0 <= t);
            self.history[i.saturating_sub(1)].1
        };
        self.coming.iter().map(|(t, _)| at(t - DAY)).collect()
    }

    /// What errors are measured in: how far a value of the history is from that of the day before, on average.
    pub(super) fn scale(&self) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        let mut i = 0;
        for (t, value) in &self.history {
            if t - DAY < self.history[0].0 {
                continue;
            }
            while self.history[i + 1].0 <= t - DAY {
                i += 1;
            }
            sum += (value - self.history[i].1).abs();
            count += 1.0;
        }
        sum / f64::max(count, 1.0)
    }
}

/// The tasks of all series in these folders, in the order of their names.
pub(super) fn tasks(nab: &Path, folders: &[&str]) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    let mut number = 0;
    for folder in folders {
        let path = nab.join("data").join(folder);
        let listed = fs::read_dir(&path).with_context(|| format!("can't read {}", path.display()))?;
        let mut files: Vec<_> = listed.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        for file in files {
            let points = read(&file).with_context(|| file.display().to_string())?;
            tasks.extend(cut(number, &points));
            number += 1;
        }
    }
    Ok(tasks)
}

fn cut(series: usize, points: &[(f64, f64)]) -> Vec<Task> {
    let Some((end, _)) = points.last() else { return Vec::new() };
    let from = |t: f64| points.partition_point(|point| point.0 < t);
    let task = |days: usize| {
        let origin = end - days as f64 * DAY;
        let history = points[from(origin - MOST_DAYS * DAY)..from(origin)].to_vec();
        let coming = points[from(origin)..from(origin + DAY)].to_vec();
        Task { series, history, coming }
    };
    let long_enough = |task: &Task| match (task.history.first(), task.history.last()) {
        (Some(first), Some(last)) => last.0 - first.0 >= LEAST_DAYS * DAY && !task.coming.is_empty(),
        _ => false,
    };
    // What never differs from the day before has no scale, and there is nothing to forecast.
    (1..=ORIGINS).rev().map(task).filter(long_enough).filter(|task| task.scale() > 0.0).collect()
}

fn read(path: &Path) -> Result<Vec<(f64, f64)>> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for line in fs::read_to_string(path)?.lines().skip(1) {
        let (at, value) = line.split_once(',').context("a row is a timestamp and a value")?;
        let at = unix_s(at).with_context(|| format!("{at:?} is no timestamp"))?;
        // Hours are repeated when clocks are set back; the first of them counts.
        if points.last().is_none_or(|last| last.0 < at) {
            points.push((at, value.trim().parse()?));
        }
    }
    Ok(points)
}

/// Of a timestamp such as `2014-02-26 22:05:00`, without a time zone.
fn unix_s(at: &str) -> Option<f64> {
    let (date, time) = at.split_once(' ')?;
    let numbers =
        |text: &str, by: char| text.split(by).map(str::parse::<i64>).collect::<Result<Vec<_>, _>>().ok();
    let (date, time) = (numbers(date, '-')?, numbers(time.split('.').next()?, ':')?);
    let ([year, month, day], [hour, minute, second]) = (date[..].try_into().ok()?, time[..].try_into().ok()?);
    // Days since 1970 of the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
    let (y, m): (i64, i64) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_seconds_since_1970() {
        assert_eq!(unix_s("1970-01-01 00:00:00"), Some(0.0));
        assert_eq!(unix_s("2014-02-26 22:05:01"), Some(1_393_452_301.0));
        assert_eq!(unix_s("2000-03-01 00:00:00.000000"), Some(951_868_800.0));
        assert_eq!(unix_s("2014-02-26"), None);
        assert_eq!(unix_s("2014-02 22:05:01"), None);
    }

    /// Ten days of hours that rise by one an hour.
    fn rising() -> Vec<(f64, f64)> {
        (0..240).map(|n| (f64::from(n) * 3_600.0, f64::from(n))).collect()
    }

    #[test]
    fn the_last_days_are_forecast_from_what_was_before_each() {
        let tasks = cut(0, &rising());
        assert_eq!(tasks.len(), 4);
        for task in &tasks {
            assert_eq!(task.coming.len(), 24);
            assert!(task.history.last().unwrap().0 < task.coming[0].0);
            assert_eq!(task.scale(), 24.0);
            let before = task.day_before();
            assert!(before.iter().zip(&task.coming).all(|(was, (_, is))| is - was == 24.0));
        }
        assert_eq!(tasks[3].coming[23].1, 238.0);
        assert!(cut(0, &rising()[..80]).is_empty());
        let flat: Vec<(f64, f64)> = rising().iter().map(|point| (point.0, 1.0)).collect();
        assert!(cut(0, &flat).is_empty());
    }
}
