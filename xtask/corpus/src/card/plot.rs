//! Small multiples and strips as SVG, readable on light and dark pages, without fonts or libraries.

use std::fmt::Write as _;

/// A course over time.
pub(super) struct Line {
    /// A class of the style sheet: `a`, `b` or `c`.
    pub(super) class: &'static str,
    /// Seconds and value; 1 is the limit.
    pub(super) points: Vec<(f64, f64)>,
}

/// One plot of a grid.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) lines: Vec<Line>,
    pub(super) onset_s: Option<f64>,
    pub(super) failed_s: Option<f64>,
    /// The right end of the axis.
    pub(super) end_s: f64,
}

/// One row of a strip.
pub(super) struct Strip {
    pub(super) name: String,
    pub(super) values: Vec<f64>,
    pub(super) median: Option<f64>,
}

const STYLE: &str = "\
text{font:11px system-ui,sans-serif;fill:#57606a}\
.t{font-weight:600;fill:#1f2328}\
.g{stroke:#d0d7de;stroke-width:1;fill:none}\
.l{stroke:#8c959f;stroke-width:1;stroke-dasharray:3 3;fill:none}\
.f{stroke:#cf222e;stroke-width:1.5;fill:none}\
.o{stroke:#8c959f;stroke-width:1;fill:none}\
.a{stroke:#0969da;stroke-width:1.6;fill:none}\
.b{stroke:#bc4c00;stroke-width:1.2;fill:none}\
.c{stroke:#8250df;stroke-width:1.2;fill:none}\
.d{fill:#0969da;fill-opacity:.45}\
.bg{fill:#ffffff}\
@media (prefers-color-scheme:dark){\
text{fill:#9198a1}.t{fill:#f0f6fc}.g{stroke:#3d444d}.l,.o{stroke:#656c76}.f{stroke:#ff7b72}\
.a{stroke:#58a6ff}.b{stroke:#ffa657}.c{stroke:#d2a8ff}.d{fill:#58a6ff}.bg{fill:#0d1117}}";

const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 150.0;
/// Around the plot proper of a panel: left, top, right, bottom.
const FRAME: (f64, f64, f64, f64) = (26.0, 36.0, 12.0, 22.0);
/// Values above are cut off.
const TOP: f64 = 1.25;

/// Panels side by side, with a legend above.
pub(super) fn grid(panels: &[Panel], columns: usize, legend: &[(&str, &str)]) -> String {
    let rows = panels.len().div_ceil(columns);
    let (width, height) = (WIDTH * columns as f64, HEIGHT * rows as f64 + 24.0);
    let mut svg = begin(width, height);
    let mut x = 8.0;
    for (class, name) in legend {
        let _ = write!(
            svg,
            "<path class=\"{class}\" d=\"M{x} 13h18\"/><text x=\"{}\" y=\"17\">{name}</text>",
            x + 23.0
        );
        x += 40.0 + name.chars().count() as f64 * 6.2;
    }
    for (n, panel) in panels.iter().enumerate() {
        let (x, y) = ((n % columns) as f64 * WIDTH, (n / columns) as f64 * HEIGHT + 24.0);
        let _ = write!(svg, "<g transform=\"translate({x} {y})\">");
        panel.draw(&mut svg);
        svg.push_str("</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        let (left, top, right, bottom) = FRAME;
        let (width, height) = (WIDTH - left - right, HEIGHT - top - bottom);
        let x = |s: f64| left + (s / self.end_s).clamp(0.0, 1.0) * width;
        let y = |v: f64| top + (1.0 - v.clamp(0.0, TOP) / TOP) * height;
        let (base, end) = (y(0.0), x(self.end_s));
        let _ = write!(svg, "<text class=\"t\" x=\"{left}\" y=\"14\">{}</text>", self.title);
        let _ = write!(svg, "<text x=\"{left}\" y=\"28\">{}</text>", self.subtitle);
        let _ = write!(svg, "<path class=\"g\" d=\"M{left} {top}V{base}H{end}\"/>");
        let _ = write!(svg, "<path class=\"l\" d=\"M{left} {:.1}H{end}\"/>", y(1.0));
        for (value, label) in [(0.0, "0"), (1.0, "1")] {
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 5.0,
                y(value) + 4.0
            );
        }
        for s in (0..=self.end_s as u32).step_by(20) {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{s}</text>",
                x(f64::from(s)),
                base + 14.0
            );
        }
        for (class, at) in [("o", self.onset_s), ("f", self.failed_s)] {
            if let Some(at) = at.filter(|at| *at <= self.end_s) {
                let _ = write!(svg, "<path class=\"{class}\" d=\"M{:.1} {top}V{base}\"/>", x(at));
            }
        }
        for line in &self.lines {
            let path: Vec<String> =
                line.points.iter().map(|(s, v)| format!("{:.1} {:.1}", x(*s), y(*v))).collect();
            if !path.is_empty() {
                let _ = write!(svg, "<path class=\"{}\" d=\"M{}\"/>", line.class, path.join("L"));
            }
        }
    }
}

/// Rows of dots on one axis of seconds.
pub(super) fn strips(title: &str, strips: &[Strip]) -> String {
    const LEFT: f64 = 150.0;
    const ROW: f64 = 22.0;
    let most = strips.iter().flat_map(|s| s.values.iter().copied()).fold(10.0, f64::max);
    let end = (most / 10.0).ceil() * 10.0;
    let width = 760.0;
    let height = 60.0 + ROW * strips.len() as f64;
    let mut svg = begin(width, height);
    let x = |s: f64| LEFT + s / end * (width - LEFT - 20.0);
    let _ = write!(svg, "<text class=\"t\" x=\"8\" y=\"17\">{title}</text>");
    let base = 32.0 + ROW * strips.len() as f64;
    for s in (0..=end as u32).step_by(10) {
        let at = x(f64::from(s));
        let _ = write!(svg, "<path class=\"g\" d=\"M{at:.1} 28V{base}\"/>");
        let _ = write!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{s}</text>", base + 15.0);
    }
    for (n, strip) in strips.iter().enumerate() {
        let y = 44.0 + ROW * n as f64;
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            y + 4.0,
            strip.name
        );
        for (n, value) in strip.values.iter().enumerate() {
            // A little up and down, so that equal ones are seen.
            let jitter = (n % 5) as f64 * 2.0 - 4.0;
            let _ = write!(
                svg,
                "<circle class=\"d\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"/>",
                x(*value),
                y + jitter
            );
        }
        if let Some(median) = strip.median {
            let _ = write!(svg, "<path class=\"f\" d=\"M{:.1} {:.1}v16\"/>", x(median), y - 8.0);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn begin(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <style>{STYLE}</style><rect class=\"bg\" width=\"{width}\" height=\"{height}\"/>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_lies_within_the_picture() {
        let line = Line { class: "a", points: vec![(0.0, 0.2), (30.0, 9.0), (90.0, 0.5)] };
        let panel = Panel {
            title: "leak".into(),
            subtitle: "redis".into(),
            lines: vec![line],
            onset_s: Some(10.0),
            failed_s: Some(400.0),
            end_s: 60.0,
        };
        let svg = grid(&[panel], 1, &[("a", "level")]);
        let path =
            svg.split("class=\"a\" d=\"M").last().and_then(|rest| rest.split('"').next()).expect("a path");
        for point in path.split('L') {
            let (x, y) = point.split_once(' ').expect("two numbers");
            let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
            assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
        }
        assert!(!svg.contains("class=\"f\""), "a failure beyond the axis is not drawn");
    }

    #[test]
    fn a_strip_has_a_dot_for_every_value() {
        let svg =
            strips("t", &[Strip { name: "leak".into(), values: vec![1.0, 2.0, 3.0], median: Some(2.0) }]);
        assert_eq!(svg.matches("<circle").count(), 3);
    }
}
