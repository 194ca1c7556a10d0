//! The engines: 26 numbers a line, unit, cycle, three settings, 21 sensors.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Remaining life beyond this is not told apart (Heimes 2008): a new engine shows no wear.
pub(super) const LONGEST: f64 = 125.0;

/// Sensors that move at all in FD001, counted from 0.
const MOVING: [usize; 14] = [1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 16, 19, 20];

/// An engine.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// A row a cycle, a value a moving sensor.
    pub(super) cycles: Vec<Vec<f64>>,
    /// Cycles that it still ran after the last row.
    pub(super) left: f64,
}

impl Unit {
    /// Remaining life after `seen` rows, clipped.
    pub(super) fn remaining(&self, seen: usize) -> f64 {
        ((self.cycles.len() - seen) as f64 + self.left).min(LONGEST)
    }
}

/// The training units, which all ran until they failed.
pub(super) fn train(folder: &Path) -> Result<Vec<Unit>> {
    units(&folder.join("cmapss/train_FD001.txt"))
}

/// The test units, with the life they still had.
pub(super) fn test(folder: &Path) -> Result<Vec<Unit>> {
    let mut units = units(&folder.join("cmapss/test_FD001.txt"))?;
    let path = folder.join("cmapss/RUL_FD001.txt");
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let left: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(left.len() == units.len(), "{} is of other units", path.display());
    for (unit, left) in units.iter_mut().zip(left) {
        unit.left = left;
    }
    Ok(units)
}

fn units(path: &Path) -> Result<Vec<Unit>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let mut units: Vec<Unit> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let numbers: Vec<f64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("{}:{}", path.display(), n + 1))?;
        ensure!(numbers.len() == 26, "{}:{}: {} numbers, not 26", path.display(), n + 1, numbers.len());
        let (unit, cycle) = (numbers[0] as usize, numbers[1] as usize);
        if cycle == 1 {
            ensure!(unit == units.len() + 1, "{}:{}: unit {unit} is out of order", path.display(), n + 1);
            units.push(Unit { cycles: Vec::new(), left: 0.0 });
        }
        let last =
            units.last_mut().with_context(|| format!("{}:{}: no unit begins", path.display(), n + 1))?;
        last.cycles.push(MOVING.iter().map(|sensor| numbers[5 + sensor]).collect());
    }
    ensure!(!units.is_empty(), "{} is empty", path.display());
    Ok(units)
}

/// So many first cycles count as new.
pub(super) const NEW: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(lines: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("cmapss")).unwrap();
        std::fs::write(folder.path().join("cmapss/train_FD001.txt"), lines.join("\n")).unwrap();
        folder
    }

    fn line(unit: usize, cycle: usize) -> String {
        let sensors: Vec<String> = (0..24).map(|n| format!("{}.5", 100 * unit + n)).collect();
        format!("{unit} {cycle} {}", sensors.join(" "))
    }

    #[test]
    fn engines_are_read_with_the_sensors_that_move() {
        let there = folder(&[&line(1, 1), &line(1, 2), &line(2, 1)]);
        let units = train(there.path()).unwrap();
        assert_eq!(units.iter().map(|unit| unit.cycles.len()).collect::<Vec<_>>(), [2, 1]);
        // Three settings come before the sensors; the first that moves is the second.
        assert_eq!(units[1].cycles[0][..2], [204.5, 205.5]);
        assert_eq!(units[0].remaining(1), 1.0);
    }

    #[test]
    fn files_that_are_not_of_engines_are_told() {
        for (lines, told) in [
            (vec!["1 1 2.0".to_owned()], "3 numbers"),
            (vec![line(2, 1)], "out of order"),
            (vec![line(1, 2)], "no unit begins"),
            (vec![line(1, 1).replace("100.5", "much")], "FD001.txt:1"),
            (vec![], "empty"),
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let error = format!("{:#}", train(folder(&lines).path()).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }
}
