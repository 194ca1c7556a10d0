use super::{bins::UNKNOWN, histogram::Sums};

/// What a split has to keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) min_rows: u32,
    pub(super) min_hessian: f64,
    pub(super) l2: f64,
}

/// Between which values a leaf must stay for the sake of monotone features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Bounds {
    pub(super) const NONE: Self = Self { low: f64::NEG_INFINITY, high: f64::INFINITY };
}

/// The best that can be asked of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Split {
    pub(super) gain: f64,
    pub(super) column: usize,
    /// The last code that goes left.
    pub(super) code: u8,
    pub(super) unknown_left: bool,
    pub(super) left: Side,
    pub(super) right: Side,
}

/// One of the two nodes that a split makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Side {
    pub(super) sums: Sums,
    pub(super) value: f64,
    pub(super) bounds: Bounds,
}

/// A split that makes less of the loss than this share of what is at stake is rounding.
const LEAST_GAIN: f64 = 1e-10;

impl Rules {
    /// The best value of a leaf with these rows: the minimum of the loss to the second order (Chen & Guestrin, KDD 2016,
    /// <https://doi.org/10.1145/2939672.2939785>).
    pub(super) fn value(&self, sums: Sums, bounds: Bounds) -> f64 {
        let curvature = sums.hessian + self.l2;
        let best = if curvature > 0.0 { -sums.gradient / curvature } else { 0.0 };
        best.max(bounds.low).min(bounds.high)
    }

    /// Twice of what the loss falls by when these rows get `value`.
    fn fall(&self, sums: Sums, value: f64) -> f64 {
        -(2.0 * sums.gradient + (sums.hessian + self.l2) * value) * value
    }

    fn allows(&self, sums: Sums) -> bool {
        sums.rows >= self.min_rows && sums.hessian >= self.min_hessian
    }

    /// The best split of a node by one column, if any makes the loss fall. `direction` says whether answers may only rise
    /// (1) or only fall (−1) with the column. Unknown values are tried on both sides, and alone against all others.
    pub(super) fn best(&self, node: &Side, column: usize, cells: &[Sums], direction: i8) -> Option<Split> {
        let unknown = cells[usize::from(UNKNOWN)];
        let before = self.fall(node.sums, node.value);
        let mut best: Option<Split> = None;
        let mut known = Sums::default();
        let mut consider = |code: usize, left: Sums, unknown_left: bool, in_order: bool| {
            let right = node.sums - left;
            if !(self.allows(left) && self.allows(right)) {
                return;
            }
            let (left_value, right_value) = (self.value(left, node.bounds), self.value(right, node.bounds));
            let rise = right_value - left_value;
            if in_order && f64::from(direction) * rise < 0.0 {
                return;
            }
            let after = self.fall(left, left_value) + self.fall(right, right_value);
            let gain = after - before;
            if gain <= LEAST_GAIN * (after.abs() + before.abs())
                || best.as_ref().is_some_and(|b| gain <= b.gain)
            {
                return;
            }
            // Whoever learns that more is below must stay there: both sides keep to their half.
            let mut bounds = [node.bounds; 2];
            if in_order && direction != 0 {
                let middle = f64::midpoint(left_value, right_value);
                let [left, right] = &mut bounds;
                let (lower, upper) = if direction > 0 { (left, right) } else { (right, left) };
                (lower.high, upper.low) = (middle, middle);
            }
            best = Some(Split {
                gain,
                column,
                code: u8::try_from(code).unwrap_or(u8::MAX),
                unknown_left,
                left: Side { sums: left, value: left_value, bounds: bounds[0] },
                right: Side { sums: right, value: right_value, bounds: bounds[1] },
            });
        };
        for code in 1..cells.len() {
            if cells[code].rows == 0 {
                continue;
            }
            known += cells[code];
            if known.rows + unknown.rows == node.sums.rows {
                // No known value is left for the other side.
                consider(cells.len() - 1, known, false, false);
                break;
            }
            // Where nothing was unknown, what will be goes with the majority.
            let majority = unknown.rows == 0 && 2 * known.rows >= node.sums.rows;
            consider(code, known, majority, true);
            if unknown.rows > 0 {
                let mut left = known;
                left += unknown;
                consider(code, left, true, true);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { min_rows: 1, min_hessian: 0.0, l2: 0.5 };

    fn node(cells: &[Sums]) -> Side {
        let mut sums = Sums::default();
        cells.iter().for_each(|cell| sums += *cell);
        Side { sums, value: RULES.value(sums, Bounds::NONE), bounds: Bounds::NONE }
    }

    /// Rows that want to be lifted by `up`, `rows` of them.
    fn cell(up: f64, rows: u32) -> Sums {
        Sums { gradient: -up * f64::from(rows), hessian: f64::from(rows), rows }
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        let cells = [cell(0.0, 0), cell(-1.0, 5), cell(-1.0, 4), cell(0.0, 0), cell(2.0, 9), cell(2.0, 1)];
        let split = RULES.best(&node(&cells), 3, &cells, 0).unwrap();
        assert_eq!((split.column, split.code, split.left.sums.rows, split.right.sums.rows), (3, 2, 9, 10));
        assert!(split.left.value < 0.0 && split.right.value > 0.0);
        assert!(RULES.best(&node(&cells), 3, &cells, 1).is_some());
        assert_eq!(RULES.best(&node(&cells), 3, &cells, -1), None);
    }

    #[test]
    fn the_unknown_goes_with_those_that_are_like_it_or_alone() {
        let like_high = [cell(2.0, 5), cell(-1.0, 5), cell(2.0, 5)];
        let split = RULES.best(&node(&like_high), 0, &like_high, 0).unwrap();
        assert_eq!((split.code, split.unknown_left), (1, false));
        let like_low = [cell(-1.0, 5), cell(-1.0, 5), cell(2.0, 5)];
        let split = RULES.best(&node(&like_low), 0, &like_low, 0).unwrap();
        assert_eq!((split.code, split.unknown_left), (1, true));
        let alone = [cell(2.0, 5), cell(-1.0, 5), cell(-1.0, 5), cell(0.0, 0)];
        let split = RULES.best(&node(&alone), 0, &alone, 0).unwrap();
        assert_eq!((split.code, split.unknown_left, split.right.sums.rows), (3, false, 5));
    }

    #[test]
    fn nothing_is_split_that_is_all_alike() {
        let cells = [cell(0.3, 7), cell(0.3, 5), cell(0.3, 11)];
        let whole = node(&cells);
        let rules = Rules { l2: 0.0, ..RULES };
        let whole = Side { value: rules.value(whole.sums, Bounds::NONE), ..whole };
        assert_eq!(rules.best(&whole, 0, &cells, 0), None);
    }

    proptest! {
        #[test]
        fn rules_are_kept_and_no_other_split_is_better(
            cells in prop::collection::vec((-3i8..4, 0u32..6), 2..9),
            min_rows in 1u32..8,
            direction in -1i8..=1,
        ) {
            let cells: Vec<Sums> = cells.iter().map(|(up, rows)| cell(f64::from(*up), *rows)).collect();
            let rules = Rules { min_rows, ..RULES };
            let node = node(&cells);
            let gain = |left: Sums, right: Sums| {
                let side = |sums: Sums| sums.gradient.powi(2) / (sums.hessian + rules.l2);
                side(left) + side(right) - side(node.sums)
            };
            let mut wanted: f64 = 0.0;
            for code in 1..cells.len() {
                for with_unknown in [false, true] {
                    let mut left = Sums::default();
                    cells[1..=code].iter().for_each(|cell| left += *cell);
                    if with_unknown {
                        left += cells[0];
                    }
                    let right = node.sums - left;
                    let rise = rules.value(right, Bounds::NONE) - rules.value(left, Bounds::NONE);
                    let known_on_the_right = cells[code + 1..].iter().any(|cell| cell.rows > 0);
                    let ordered = !known_on_the_right || f64::from(direction) * rise >= 0.0;
                    if left.rows >= min_rows && right.rows >= min_rows && ordered {
                        wanted = wanted.max(gain(left, right));
                    }
                }
            }
            match rules.best(&node, 0, &cells, direction) {
                None => prop_assert!(wanted < 1e-6, "{wanted} was missed"),
                Some(split) => {
                    prop_assert!((split.gain - wanted).abs() < 1e-9, "{} is not {wanted}", split.gain);
                    prop_assert!(split.left.sums.rows >= min_rows && split.right.sums.rows >= min_rows);
                    prop_assert!(split.left.bounds.low <= split.left.value && split.left.value <= split.left.bounds.high);
                }
            }
        }
    }
}
