//! Plots as inline SVG: drawn for a column of some 400 pixels, coloured by the page's style sheet, readable by programs.

use std::fmt::Write as _;

use super::words::esc;

/// A frame with axes. What is drawn in it is clipped to it.
pub(super) struct Plot {
    width: f64,
    height: f64,
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    /// What its coordinates are.
    pub(super) x: Scale,
    /// Upwards.
    pub(super) y: Scale,
    svg: String,
    label: String,
}

/// From values to shares of an axis.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// From one value to another.
    Linear(f64, f64),
    /// From 0 to a value, even steps being factors from a smallest value on.
    Log { least: f64, most: f64 },
}

impl Scale {
    pub(super) fn share(self, v: f64) -> f64 {
        let share = match self {
            Self::Linear(from, to) if to > from => (v - from) / (to - from),
            Self::Log { least, most } if most > 0.0 && least > 0.0 => {
                (1.0 + v.max(0.0) / least).ln() / (1.0 + most / least).ln()
            }
            Self::Linear(..) | Self::Log { .. } => 0.5,
        };
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    /// Seconds along the axis that are round on a clock, at most about so many.
    pub(super) fn time_ticks(self, about: usize) -> Vec<f64> {
        let Self::Linear(from, to) = self else { return self.ticks(about) };
        let rough = (to - from) / about.max(1) as f64;
        match CLOCK_S.into_iter().find(|step| *step >= rough) {
            Some(step) if rough > 0.5 => {
                let first = (from / step).ceil() as i64;
                (0..50).map(|n| (first + n) as f64 * step).take_while(|v| *v <= to).collect()
            }
            _ => self.ticks(about),
        }
    }

    /// Round values along the axis, at most about so many.
    pub(super) fn ticks(self, about: usize) -> Vec<f64> {
        match self {
            Self::Linear(from, to) => linear_ticks(from, to, about),
            Self::Log { least, most } => {
                let mut ticks = vec![0.0];
                let mut decade = 10f64.powf(least.max(1e-12).log10().ceil());
                let skip = ((most / decade).log10() / about.max(1) as f64).ceil().max(1.0) as i32;
                while decade <= most * 1.000_1 && ticks.len() < 20 {
                    ticks.push(decade);
                    decade *= 10f64.powi(skip);
                }
                ticks
            }
        }
    }
}

/// Steps of a clock, in seconds.
const CLOCK_S: [f64; 20] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_200.0, 1_800.0, 3_600.0,
    7_200.0, 14_400.0, 21_600.0, 43_200.0, 86_400.0,
];

fn linear_ticks(from: f64, to: f64, about: usize) -> Vec<f64> {
    let span = to - from;
    if !(span.is_finite() && span > 0.0) {
        return vec![from];
    }
    let rough = span / about.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
    let first = (from / step).ceil() as i64;
    (0..50).map(|n| (first + n) as f64 * step).take_while(|v| *v <= to + span * 1e-9).collect()
}

impl Plot {
    /// A plot of so many pixels, with room for labels on the left and below. `label` tells it to those who can't see it.
    pub(super) fn new(width: f64, height: f64, x: Scale, y: Scale, label: &str) -> Self {
        Self {
            width,
            height,
            left: 46.0,
            top: 12.0,
            right: 12.0,
            bottom: 38.0,
            x,
            y,
            svg: String::new(),
            label: label.to_owned(),
        }
    }

    pub(super) fn margins(mut self, left: f64, top: f64, right: f64, bottom: f64) -> Self {
        (self.left, self.top, self.right, self.bottom) = (left, top, right, bottom);
        self
    }

    pub(super) fn px(&self, x: f64) -> f64 {
        self.left + self.x.share(x) * (self.width - self.left - self.right)
    }

    pub(super) fn py(&self, y: f64) -> f64 {
        self.top + (1.0 - self.y.share(y)) * (self.height - self.top - self.bottom)
    }

    fn edges(&self) -> (f64, f64, f64, f64) {
        (self.left, self.top, self.width - self.right, self.height - self.bottom)
    }

    /// Grid lines with their labels.
    pub(super) fn axes(
        &mut self,
        (xs, x_label): (&[f64], impl Fn(f64) -> String),
        (ys, y_label): (&[f64], impl Fn(f64) -> String),
    ) {
        let (left, top, right, bottom) = self.edges();
        for y in ys {
            let at = self.py(*y);
            let _ = write!(self.svg, "<path class=\"grid\" d=\"M{left:.1} {at:.1}H{right:.1}\"/>");
            self.text(left - 6.0, at + 3.5, "end", "", &y_label(*y));
        }
        for x in xs {
            let at = self.px(*x);
            let _ = write!(self.svg, "<path class=\"grid\" d=\"M{at:.1} {top:.1}V{bottom:.1}\"/>");
            // Labels at the right edge would stick out.
            let anchor = if at > right - 8.0 { "end" } else { "middle" };
            self.text(
                if at > right - 8.0 { right + 6.0 } else { at },
                bottom + 14.0,
                anchor,
                "",
                &x_label(*x),
            );
        }
    }

    /// A name below the horizontal axis.
    pub(super) fn x_title(&mut self, title: &str) {
        let (left, _, right, _) = self.edges();
        self.text((left + right) / 2.0, self.height - 5.0, "middle", "axis", title);
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let _ = write!(
            self.svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
            esc(text)
        );
    }

    /// Points joined by straight lines; `None` is a gap.
    pub(super) fn line(&mut self, class: &str, points: impl IntoIterator<Item = (f64, Option<f64>)>) {
        let path = self.path(points);
        if !path.is_empty() {
            let _ = write!(self.svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }

    fn path(&self, points: impl IntoIterator<Item = (f64, Option<f64>)>) -> String {
        let mut path = String::new();
        let mut pen = false;
        for (x, y) in points {
            let Some(y) = y.filter(|y| y.is_finite()) else {
                pen = false;
                continue;
            };
            let _ = write!(path, "{}{:.1} {:.1}", if pen { 'L' } else { 'M' }, self.px(x), self.py(y));
            pen = true;
        }
        path
    }

    /// The area between points and the bottom; each value holds until the next.
    pub(super) fn steps(&mut self, class: &str, points: &[(f64, f64)]) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let (_, _, _, bottom) = self.edges();
        let mut path = format!("M{:.1} {bottom:.1}", self.px(first.0));
        for (x, y) in points {
            let _ = write!(path, "H{:.1}V{:.1}", self.px(*x), self.py(*y));
        }
        let _ = write!(path, "H{:.1}V{bottom:.1}Z", self.px(last.0));
        let _ = write!(self.svg, "<path class=\"{class}\" d=\"{path}\"/>");
    }

    /// The area between a line and the bottom.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, Option<f64>)]) {
        let (_, _, _, bottom) = self.edges();
        for run in points.split(|(_, y)| y.is_none()) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let path = self.path(run.iter().copied());
            let _ = write!(
                self.svg,
                "<path class=\"{class}\" d=\"{path}L{:.1} {bottom:.1}L{:.1} {bottom:.1}Z\"/>",
                self.px(last.0),
                self.px(first.0)
            );
        }
    }

    pub(super) fn vertical(&mut self, class: &str, x: f64) {
        let (_, top, _, bottom) = self.edges();
        let at = self.px(x);
        let _ = write!(self.svg, "<path class=\"{class}\" d=\"M{at:.1} {top:.1}V{bottom:.1}\"/>");
    }

    pub(super) fn horizontal(&mut self, class: &str, y: f64) {
        let (left, _, right, _) = self.edges();
        let at = self.py(y);
        let _ = write!(self.svg, "<path class=\"{class}\" d=\"M{left:.1} {at:.1}H{right:.1}\"/>");
    }

    pub(super) fn dot(&mut self, class: &str, x: f64, y: f64, radius: f64, told: &str) {
        let (x, y) = (self.px(x), self.py(y));
        let _ = write!(
            self.svg,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{}</title></circle>",
            esc(told)
        );
    }

    pub(super) fn bar(&mut self, class: &str, (from, to): (f64, f64), y: f64, told: &str) {
        let (_, _, _, bottom) = self.edges();
        let (x0, x1, top) = (self.px(from) + 1.0, self.px(to) - 1.0, self.py(y));
        let _ = write!(
            self.svg,
            "<rect class=\"{class}\" x=\"{x0:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"1.5\"><title>{}</title></rect>",
            (x1 - x0).max(1.0),
            (bottom - top).max(0.0),
            esc(told)
        );
    }

    /// The finished picture.
    pub(super) fn svg(self) -> String {
        let Self { width, height, svg, label, .. } = self;
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">{svg}</svg>",
            esc(&label)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(Scale::Linear(0.0, 1.0).ticks(4), [0.0, 0.5, 1.0]);
        assert_eq!(Scale::Linear(-70.0, 22.0).ticks(5), [-60.0, -40.0, -20.0, 0.0, 20.0]);
        assert_eq!(Scale::Linear(3.0, 3.0).ticks(5), [3.0]);
        assert_eq!(
            Scale::Linear(-1_200.0, 400.0).time_ticks(6),
            [-1_200.0, -900.0, -600.0, -300.0, 0.0, 300.0]
        );
        assert_eq!(Scale::Linear(0.0, 1.0).time_ticks(4), [0.0, 0.5, 1.0]);
        assert_eq!(Scale::Log { least: 0.5, most: 300.0 }.ticks(4), [0.0, 1.0, 10.0, 100.0]);
    }

    #[test]
    fn everything_lies_within_the_frame() {
        for scale in
            [Scale::Linear(0.0, 10.0), Scale::Log { least: 0.1, most: 10.0 }, Scale::Linear(1.0, 1.0)]
        {
            for v in [-5.0, 0.0, 3.0, 10.0, 99.0, f64::NAN, f64::INFINITY] {
                assert!((0.0..=1.0).contains(&scale.share(v)), "{scale:?} {v}");
            }
        }
        let mut plot = Plot::new(400.0, 200.0, Scale::Linear(0.0, 1.0), Scale::Linear(0.0, 1.0), "a <plot>");
        plot.line("a", [(0.0, Some(7.0)), (0.5, None), (2.0, Some(f64::NAN)), (1.0, Some(-3.0))]);
        let svg = plot.svg();
        assert!(svg.contains("d=\"M46.0 12.0M388.0 162.0\"") && svg.contains("a &lt;plot&gt;"), "{svg}");
    }
}
