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

/// How sensors stand when engines are new, from the first cycles of the training units: the scale of everything else.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    centre: Vec<f64>,
    width: Vec<f64>,
}

/// So many first cycles count as new.
pub(super) const NEW: usize = 20;

impl Scale {
    pub(super) fn of(units: &[Unit]) -> Self {
        let rows: Vec<&Vec<f64>> = units.iter().flat_map(|u| u.cycles.iter().take(NEW)).collect();
        let n = rows.len() as f64;
        let sensors = rows.first().map_or(0, |row| row.len());
        let centre: Vec<f64> = (0..sensors).map(|s| rows.iter().map(|row| row[s]).sum::<f64>() / n).collect();
        let width = (0..sensors)
            .map(|s| (rows.iter().map(|row| (row[s] - centre[s]).powi(2)).sum::<f64>() / n).sqrt().max(1e-9))
            .collect();
        Self { centre, width }
    }

    /// The unit's rows in these terms.
    pub(super) fn apply(&self, unit: &Unit) -> Vec<Vec<f64>> {
        let one = |row: &Vec<f64>| {
            row.iter().zip(&self.centre).zip(&self.width).map(|((v, c), w)| (v - c) / w).collect()
        };
        unit.cycles.iter().map(one).collect()
    }
}
