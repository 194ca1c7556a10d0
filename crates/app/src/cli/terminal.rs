//! Plots for a terminal, of block characters.

const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One line of blocks, from `low` to `high`; a gap is a dot.
pub(super) fn sparkline(values: &[Option<f64>], low: f64, high: f64) -> String {
    values
        .iter()
        .map(|value| match value.filter(|v| v.is_finite()) {
            None => '·',
            Some(v) if high > low => {
                // Even the lowest is seen.
                let level = ((v - low) / (high - low)).clamp(0.0, 1.0) * 7.0;
                BLOCKS[1 + level.round() as usize]
            }
            Some(_) => BLOCKS[4],
        })
        .collect()
}

/// An area of so many columns and lines, for values from 0 to 1, one a column, the top line first.
pub(super) fn area(values: &[f64], lines: usize) -> Vec<String> {
    let eighths =
        |v: f64| (if v.is_finite() { v.clamp(0.0, 1.0) } else { 0.0 } * lines as f64 * 8.0).round() as usize;
    let line = |from_bottom: usize| {
        values.iter().map(|v| BLOCKS[eighths(*v).saturating_sub(from_bottom * 8).min(8)]).collect()
    };
    (0..lines).rev().map(line).collect()
}

/// The line between points, read at `x`; before the first point it rises from nothing, after the last it stays.
pub(super) fn read_at(points: &[(f64, f64)], x: f64) -> f64 {
    let i = points.partition_point(|(at, _)| *at < x);
    let before = i.checked_sub(1).map_or((0.0, 0.0), |i| points[i]);
    match points.get(i) {
        Some(after) if after.0 > before.0 => {
            before.1 + (after.1 - before.1) * (x - before.0) / (after.0 - before.0)
        }
        Some(after) => after.1,
        None => before.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_blocks() {
        assert_eq!(sparkline(&[Some(0.0), Some(1.0), None, Some(0.5), Some(9.0)], 0.0, 1.0), "▁█·▅█");
        assert_eq!(sparkline(&[Some(3.0), Some(f64::NAN)], 3.0, 3.0), "▄·");
        assert_eq!(area(&[0.0, 0.25, 0.5, 1.0, f64::NAN, 7.0], 2), ["   █ █", " ▄██ █"]);
    }

    #[test]
    fn a_curve_is_read_between_its_points() {
        let points = [(2.0, 0.2), (4.0, 0.6)];
        for (x, y) in [(1.0, 0.1), (2.0, 0.2), (3.0, 0.4), (9.0, 0.6)] {
            assert!((read_at(&points, x) - y).abs() < 1e-12, "{x}");
        }
        assert_eq!(read_at(&[], 1.0), 0.0);
    }
}
