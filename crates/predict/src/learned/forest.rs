//! Trees laid out so that all of them are asked at once, feature by feature: nothing is guessed on the way down, and what is read lies
//! side by side (QuickScorer; Lucchese et al., SIGIR 2015, <https://doi.org/10.1145/2766462.2767733>).
//!
//! Every node of a tree is a bit, its children's before its own, the left child's first. A row strikes out what it can't come to: at a
//! node whose answer is "greater", all that lies to the left; at one whose feature is not known, all that lies below. The lowest bit that
//! is left is where the row ends.

use super::trees::{Node, Tree};

/// Nodes that a tree may have here.
const MOST_NODES: usize = 64;

/// Trees that are asked all at once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Forest {
    /// Features that are asked for but for the last, each with the end of its questions; those of one begin where those before end.
    features: Vec<(u32, u32)>,
    /// In the order of their features, and of their thresholds within one.
    questions: Vec<Question>,
    trees: Vec<Laid>,
    /// The answers of all trees, bit by bit.
    answers: Vec<f32>,
    /// What trees ask of the last feature, tree by tree and in the order of thresholds.
    last: Vec<(f32, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Question {
    threshold: f32,
    tree: u32,
    /// What is left where the value is greater.
    greater: u64,
    /// What is left where it is not known.
    unknown: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Laid {
    answers: u32,
    /// The end of its questions for the last feature.
    last: u32,
}

impl Forest {
    /// `None`: one of the trees has more nodes than there are bits.
    pub(super) fn of(trees: &[Tree], last: u32) -> Option<Self> {
        let mut forest = Self {
            features: Vec::new(),
            questions: Vec::new(),
            trees: Vec::new(),
            answers: Vec::new(),
            last: Vec::new(),
        };
        let mut asked: Vec<(u32, Question)> = Vec::new();
        for (number, tree) in trees.iter().enumerate() {
            let places = Places::of(tree.nodes())?;
            let before = forest.last.len();
            for (at, node) in tree.nodes().iter().enumerate() {
                let Node::Split { feature, threshold, left, right, .. } = *node else { continue };
                let greater = !places.below_and(left as usize);
                if feature == last {
                    forest.last.push((threshold, greater));
                    continue;
                }
                let unknown = greater & !places.below_and(right as usize);
                let tree = u32::try_from(number).ok()?;
                asked.push((feature, Question { threshold, tree, greater, unknown }));
                debug_assert!(unknown & places.bit(at) != 0);
            }
            forest.last[before..].sort_by(|a, b| a.0.total_cmp(&b.0));
            let answers = u32::try_from(forest.answers.len()).ok()?;
            forest.answers.extend(places.in_order(tree.nodes()));
            forest.trees.push(Laid { answers, last: u32::try_from(forest.last.len()).ok()? });
        }
        asked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.threshold.total_cmp(&b.1.threshold)));
        for (feature, question) in asked {
            forest.questions.push(question);
            let end = u32::try_from(forest.questions.len()).ok()?;
            match forest.features.last_mut().filter(|(before, _)| *before == feature) {
                Some((_, ends)) => *ends = end,
                None => forest.features.push((feature, end)),
            }
        }
        Some(forest)
    }

    /// Adds the answers of all trees for each number `0, 1, …` of the last feature to its place in `sums`; the rest of the row is the same.
    pub(super) fn add_for_each(&self, row: &[f32], sums: &mut [f64]) {
        let mut left = vec![u64::MAX; self.trees.len()];
        let mut begin = 0;
        for (feature, end) in &self.features {
            let questions = &self.questions[begin..*end as usize];
            begin = *end as usize;
            let value = row.get(*feature as usize).copied().unwrap_or(f32::NAN);
            if value.is_nan() {
                questions.iter().for_each(|question| left[question.tree as usize] &= question.unknown);
                continue;
            }
            for question in questions {
                // Values up to the threshold go left.
                if value <= question.threshold {
                    break;
                }
                left[question.tree as usize] &= question.greater;
            }
        }
        let mut begin = 0;
        for (mut left, tree) in left.into_iter().zip(&self.trees) {
            let answer = |left: u64| f64::from(self.answers[(tree.answers + left.trailing_zeros()) as usize]);
            let mut questions = &self.last[begin..tree.last as usize];
            begin = tree.last as usize;
            let mut said = answer(left);
            if questions.is_empty() {
                sums.iter_mut().for_each(|sum| *sum += said);
                continue;
            }
            for (number, sum) in sums.iter_mut().enumerate() {
                while let [(threshold, greater), rest @ ..] = questions
                    && number as f32 > *threshold
                {
                    left &= greater;
                    questions = rest;
                    said = answer(left);
                }
                *sum += said;
            }
        }
    }
}

/// Where the nodes of a tree stand among its bits.
struct Places {
    /// Of each node its own, and the lowest below it.
    of: [(u8, u8); MOST_NODES],
}

impl Places {
    fn of(nodes: &[Node]) -> Option<Self> {
        if nodes.len() > MOST_NODES {
            return None;
        }
        let mut places = Self { of: [(0, 0); MOST_NODES] };
        places.put(nodes, 0, 0);
        Some(places)
    }

    /// Gives a node and all below it places from `next` on; the place after them.
    fn put(&mut self, nodes: &[Node], at: usize, next: u8) -> u8 {
        let own = match nodes[at] {
            Node::Leaf { .. } => next,
            Node::Split { left, right, .. } => {
                let between = self.put(nodes, left as usize, next);
                self.put(nodes, right as usize, between)
            }
        };
        self.of[at] = (own, next);
        own + 1
    }

    fn bit(&self, at: usize) -> u64 {
        1 << self.of[at].0
    }

    /// The bits of a node and of all below it.
    fn below_and(&self, at: usize) -> u64 {
        let (own, lowest) = self.of[at];
        (u64::MAX >> (63 - own)) & (u64::MAX << lowest)
    }

    /// What each node answers, by place.
    fn in_order(&self, nodes: &[Node]) -> Vec<f32> {
        let mut answers = vec![0.0; nodes.len()];
        for (node, (own, _)) in nodes.iter().zip(self.of) {
            answers[usize::from(own)] = node.expected();
        }
        answers
    }
}
