use std::ops::Range;

use forefend_predict::learned::{Node, Tree};

use super::{
    Settings,
    bins::{Bins, Column, UNKNOWN},
    histogram::{Gradient, Layout, Sums, fill, subtract},
    split::{Bounds, Rules, Side, Split},
};
use crate::matrix::{TrainError, Weights};

/// Below so many rows times columns, starting a thread takes longer than the work.
const WORTH_A_THREAD: usize = 1 << 15;

/// No leaf says more than this, so that sums stay finite whatever the targets.
const MOST: f64 = 1e30;

/// Grows trees, and keeps the memory for the next one.
pub(super) struct Grower<'a> {
    bins: &'a Bins,
    weights: Weights<'a>,
    settings: &'a Settings,
    rules: Rules,
    free: Vec<Vec<Sums>>,
    gathered: Vec<Gradient>,
    aside: Vec<u32>,
}

/// A tree and which of the rows it was grown on reached which leaf.
pub(super) struct Grown {
    pub(super) tree: Tree,
    rows: Vec<u32>,
    leaves: Vec<(Range<usize>, f64)>,
}

impl Grown {
    /// Tells for every row that the tree was grown on what it answers.
    pub(super) fn answers(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.leaves.iter().flat_map(|(rows, answer)| {
            self.rows[rows.clone()].iter().map(move |row| (*row as usize, *answer))
        })
    }
}

/// A node that isn't split, or not yet.
struct Leaf {
    node: usize,
    /// Where its rows stand in the list of all.
    rows: Range<usize>,
    side: Side,
    /// The histograms of all columns; empty where no split is looked for.
    cells: Vec<Sums>,
    best: Option<Split>,
}

impl<'a> Grower<'a> {
    pub(super) fn new(bins: &'a Bins, weights: Weights<'a>, settings: &'a Settings) -> Self {
        let rules = Rules {
            min_rows: u32::try_from(settings.min_rows_in_leaf).unwrap_or(u32::MAX),
            min_hessian: settings.min_hessian,
            l2: settings.l2,
        };
        Self { bins, weights, settings, rules, free: Vec::new(), gathered: Vec::new(), aside: Vec::new() }
    }

    /// Grows one tree on these rows and columns: always the leaf whose split makes the loss fall most is split next. `None`
    /// where not even the first split would.
    ///
    /// `gradients` has one entry for each row of the matrix.
    pub(super) fn grow(
        &mut self,
        mut rows: Vec<u32>,
        columns: &[usize],
        gradients: &[Gradient],
    ) -> Result<Option<Grown>, TrainError> {
        let layout = Layout::new(self.bins, columns);
        let mut leaves = vec![self.root(&rows, &layout, gradients)];
        let mut nodes = vec![Node::Leaf { value: 0.0 }];
        while leaves.len() < self.settings.leaves {
            let Some((at, split)) = most_promising(&mut leaves) else { break };
            let column = self.bins.column(split.column);
            let leaf = &mut leaves[at];
            let begin = leaf.rows.start;
            let middle = begin + self.partition(&mut rows[leaf.rows.clone()], column, &split);
            let (left, right) = (nodes.len(), nodes.len() + 1);
            nodes[leaf.node] = Node::Split {
                feature: split.column as u32,
                threshold: column.threshold(split.code),
                left: left as u32,
                right: right as u32,
                unknown_left: split.unknown_left,
                expected: 0.0,
            };
            nodes.extend([Node::Leaf { value: 0.0 }; 2]);
            let cells = std::mem::take(&mut leaf.cells);
            let mut left = Leaf::new(left, begin..middle, split.left);
            let mut right = Leaf::new(right, middle..leaf.rows.end, split.right);
            if leaves.len() + 1 < self.settings.leaves {
                self.measure([&mut left, &mut right], cells, &layout, &rows, gradients);
            } else {
                self.free.push(cells);
            }
            leaves[at] = left;
            leaves.push(right);
        }
        let grew = nodes.len() > 1;
        let answers = self.settle(&mut nodes, &leaves, &rows);
        self.free.extend(leaves.iter_mut().map(|leaf| std::mem::take(&mut leaf.cells)));
        if !grew {
            return Ok(None);
        }
        let tree = Tree::new(nodes).map_err(|why| TrainError::Model { why })?;
        let leaves = leaves.into_iter().map(|leaf| leaf.rows).zip(answers).collect();
        Ok(Some(Grown { tree, rows, leaves }))
    }

    /// The leaf of all rows, and the best that can be asked of it.
    fn root(&mut self, rows: &[u32], layout: &Layout<'_>, gradients: &[Gradient]) -> Leaf {
        self.gather(rows, gradients);
        let sums = Sums::over(&self.gathered);
        let side = Side { sums, value: self.rules.value(sums, Bounds::NONE), bounds: Bounds::NONE };
        let mut root = Leaf::new(0, 0..rows.len(), side);
        if self.may_split(&root) {
            self.count(&mut root, layout, rows);
        }
        root
    }

    /// Looks for the best splits of two children: counts the smaller, and takes it from the histograms of the parent.
    fn measure(
        &mut self,
        children: [&mut Leaf; 2],
        mut cells: Vec<Sums>,
        layout: &Layout<'_>,
        rows: &[u32],
        gradients: &[Gradient],
    ) {
        let [left, right] = children;
        let (small, large) = if left.rows.len() <= right.rows.len() { (left, right) } else { (right, left) };
        if !self.may_split(large) {
            self.free.push(cells);
            return;
        }
        let rows = &rows[small.rows.clone()];
        self.gather(rows, gradients);
        self.count(small, layout, rows);
        let threads = self.threads(layout.cells());
        let (counted, side) = (&small.cells, &large.side);
        let found = layout.each(&mut cells, threads, |place, cells| {
            subtract(cells, &counted[place.cells.clone()]);
            self.rules.best(side, place.index, cells, self.direction(place.index))
        });
        large.best = best_of(found);
        large.cells = cells;
    }

    /// Makes the histograms of a leaf from its rows, whose gradients are gathered, and finds its best split.
    fn count(&mut self, leaf: &mut Leaf, layout: &Layout<'_>, rows: &[u32]) {
        let mut cells = self.free.pop().unwrap_or_default();
        cells.clear();
        cells.resize(layout.cells(), Sums::default());
        let threads = self.threads(rows.len() * layout.columns());
        let may_split = self.may_split(leaf);
        let found = layout.each(&mut cells, threads, |place, cells| {
            fill(cells, place.column.codes(), rows, &self.gathered);
            let direction = self.direction(place.index);
            may_split.then(|| self.rules.best(&leaf.side, place.index, cells, direction)).flatten()
        });
        leaf.best = best_of(found);
        leaf.cells = cells;
    }

    /// Brings the gradients of these rows together, in their order.
    fn gather(&mut self, rows: &[u32], gradients: &[Gradient]) {
        self.gathered.clear();
        self.gathered.extend(rows.iter().map(|row| gradients[*row as usize]));
    }

    fn may_split(&self, leaf: &Leaf) -> bool {
        leaf.rows.len() >= 2 * self.settings.min_rows_in_leaf
    }

    fn threads(&self, work: usize) -> usize {
        if work < WORTH_A_THREAD { 1 } else { self.settings.threads }
    }

    fn direction(&self, column: usize) -> i8 {
        self.settings.monotone.get(column).copied().unwrap_or(0)
    }

    /// Puts the rows that go left before the others, each in the order they had, and counts them.
    fn partition(&mut self, rows: &mut [u32], column: &Column, split: &Split) -> usize {
        let codes = column.codes();
        self.aside.clear();
        let mut left = 0;
        for at in 0..rows.len() {
            let row = rows[at];
            let code = codes[row as usize];
            let goes_left = if code == UNKNOWN { split.unknown_left } else { code <= split.code };
            if goes_left {
                rows[left] = row;
                left += 1;
            } else {
                self.aside.push(row);
            }
        }
        rows[left..].copy_from_slice(&self.aside);
        left
    }

    /// Gives the leaves their answers, and every node above them the mean of those. The answers are in the order of the leaves.
    fn settle(&self, nodes: &mut [Node], leaves: &[Leaf], rows: &[u32]) -> Vec<f64> {
        let mut reached = vec![(0.0, 0.0); nodes.len()];
        let mut answers = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let value = (leaf.side.value * self.settings.learning_rate).clamp(-MOST, MOST) as f32;
            nodes[leaf.node] = Node::Leaf { value };
            let weight: f64 = rows[leaf.rows.clone()].iter().map(|row| self.weights.of(*row as usize)).sum();
            reached[leaf.node] = (weight, f64::from(value));
            answers.push(f64::from(value));
        }
        // Children stand behind their parents.
        for at in (0..nodes.len()).rev() {
            if let Node::Split { left, right, expected, .. } = &mut nodes[at] {
                let (left, right) = (reached[*left as usize], reached[*right as usize]);
                let weight = left.0 + right.0;
                let mean = (left.0 * left.1 + right.0 * right.1) / weight;
                *expected = mean as f32;
                reached[at] = (weight, mean);
            }
        }
        answers
    }
}

impl Leaf {
    fn new(node: usize, rows: Range<usize>, side: Side) -> Self {
        Self { node, rows, side, cells: Vec::new(), best: None }
    }
}

/// Takes out the split that makes the loss fall most; of equals the first.
fn most_promising(leaves: &mut [Leaf]) -> Option<(usize, Split)> {
    let gains = leaves.iter().enumerate().filter_map(|(at, leaf)| Some((at, leaf.best.as_ref()?.gain)));
    let (at, _) = gains.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    Some((at, leaves[at].best.take()?))
}

/// The split that makes the loss fall most; of equals that of the first column.
fn best_of(splits: Vec<Option<Split>>) -> Option<Split> {
    splits.into_iter().flatten().reduce(|best, next| if next.gain > best.gain { next } else { best })
}
