//! What is seen of an engine after so many cycles.

/// Cycles of the windows that are averaged.
const WINDOWS: [usize; 4] = [5, 10, 20, 40];

/// Cycles of the windows whose slope counts.
const SLOPES: [usize; 3] = [15, 30, 60];

/// A row of features of an engine of which `rows` (scaled, oldest first) were seen. `health` weighs sensors into one.
pub(super) fn features(rows: &[Vec<f64>], health: &[f64]) -> Vec<f32> {
    let mut row = Vec::with_capacity(120);
    let sensors = rows.first().map_or(0, Vec::len);
    let course = |s: usize| -> Vec<f64> { rows.iter().map(|row| row[s]).collect() };
    for s in 0..sensors {
        let values = course(s);
        for window in [WINDOWS[0], WINDOWS[2]] {
            row.push(last_mean(&values, window) as f32);
        }
        row.push(smooth(&values, 0.1) as f32);
        row.push(slope(&values, SLOPES[1]) as f32);
    }
    let values: Vec<f64> =
        rows.iter().map(|row| row.iter().zip(health).map(|(v, w)| v * w).sum::<f64>()).collect();
    for window in WINDOWS {
        row.push(last_mean(&values, window) as f32);
    }
    for window in SLOPES {
        row.push(slope(&values, window) as f32);
    }
    for rate in [0.03, 0.06, 0.12] {
        row.push(smooth(&values, rate) as f32);
    }
    let (level, pace, bend) = parabola(&values);
    row.extend([level as f32, pace as f32, bend as f32]);
    let begun = values.iter().take(super::data::NEW).sum::<f64>() / values.len().min(super::data::NEW) as f64;
    row.push(begun as f32);
    row.push((last_mean(&values, WINDOWS[1]) - begun) as f32);
    row.push(rows.len() as f32);
    row
}

/// The names of the features, in order.
pub(super) fn names(sensors: usize) -> Vec<String> {
    let mut names = Vec::new();
    for s in 0..sensors {
        names.extend([
            format!("{s}.mean5"),
            format!("{s}.mean20"),
            format!("{s}.smooth"),
            format!("{s}.slope30"),
        ]);
    }
    names.extend(WINDOWS.map(|w| format!("health.mean{w}")));
    names.extend(SLOPES.map(|w| format!("health.slope{w}")));
    names.extend(
        ["smooth3", "smooth6", "smooth12", "level", "pace", "bend", "begun", "risen", "cycles"]
            .map(|n| format!("health.{n}")),
    );
    names
}

pub(super) fn last_mean(values: &[f64], window: usize) -> f64 {
    let last = &values[values.len().saturating_sub(window)..];
    last.iter().sum::<f64>() / last.len() as f64
}

/// Exponential smoothing, begun at the mean of the first few.
fn smooth(values: &[f64], rate: f64) -> f64 {
    let begun = &values[..values.len().min(10)];
    let begun = begun.iter().sum::<f64>() / begun.len() as f64;
    values.iter().fold(begun, |level, v| level + rate * (v - level))
}

fn slope(values: &[f64], window: usize) -> f64 {
    let last = &values[values.len().saturating_sub(window)..];
    let n = last.len() as f64;
    let (mx, my) = ((n - 1.0) / 2.0, last.iter().sum::<f64>() / n);
    let sxy: f64 = last.iter().enumerate().map(|(i, v)| (i as f64 - mx) * (v - my)).sum();
    let sxx: f64 = (0..last.len()).map(|i| (i as f64 - mx).powi(2)).sum();
    if sxx > 0.0 { sxy / sxx } else { 0.0 }
}

/// Level, slope and curvature at the newest value, of a parabola through all values that weighs new ones more.
fn parabola(values: &[f64]) -> (f64, f64, f64) {
    const MEMORY: f64 = 50.0;
    let n = values.len();
    let (mut a, mut b) = ([[0.0f64; 3]; 3], [0.0f64; 3]);
    for (i, v) in values.iter().enumerate() {
        let t = (i as f64 - (n as f64 - 1.0)) / MEMORY;
        let (basis, weight) = ([1.0, t, t * t], (t).exp());
        for (r, x) in basis.iter().enumerate() {
            b[r] += weight * x * v;
            for (c, y) in basis.iter().enumerate() {
                a[r][c] += weight * x * y;
            }
        }
    }
    // Early in a life little is known of slope and less of curvature: a ridge keeps them small.
    a[1][1] += 1.0;
    a[2][2] += 2.0;
    let solved = solve(a, b);
    (solved[0], solved[1], solved[2])
}

fn solve(mut a: [[f64; 3]; 3], mut b: [f64; 3]) -> [f64; 3] {
    for i in 0..3 {
        let pivot = if a[i][i].abs() < 1e-12 { 1e-12 } else { a[i][i] };
        for r in i + 1..3 {
            let factor = a[r][i] / pivot;
            let above = a[i];
            for (cell, above) in a[r].iter_mut().zip(above).skip(i) {
                *cell -= factor * above;
            }
            b[r] -= factor * b[i];
        }
    }
    let mut x = [0.0; 3];
    for i in (0..3).rev() {
        let rest: f64 = (i + 1..3).map(|c| a[i][c] * x[c]).sum();
        let pivot = if a[i][i].abs() < 1e-12 { 1e-12 } else { a[i][i] };
        x[i] = (b[i] - rest) / pivot;
    }
    x
}
