use serde::{Deserialize, Serialize};

use super::forest::Forest;

/// A sum of regression trees (Friedman, Annals of Statistics 29, 2001, <https://doi.org/10.1214/aos/1013203451>).
///
/// A feature is an `f32`; NaN is "not known" and legal, and so is a row that is too short: what it lacks is not known. All
/// numbers of the model are `f32` as well, which a decimal text gives back exactly; sums are `f64`.
///
/// A value of this type is sound: indices are in range, numbers finite, no walk goes in circles. [`Self::new`] and
/// deserialisation refuse anything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenTrees")]
pub struct Trees {
    feature_count: u32,
    base: f32,
    trees: Vec<Tree>,
    /// The same, to be asked all at once; `None`: some tree is too large for that.
    #[serde(skip)]
    forest: Option<Box<Forest>>,
}

/// One tree as a flat list of nodes. The root is first, and every other node stands behind its one parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Node>", into = "Vec<Node>")]
pub struct Tree {
    nodes: Vec<Node>,
}

/// A node of a [`Tree`]. Written as a list of the fields in this order, or as the bare value of a leaf: a model has
/// thousands of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenNode", into = "WrittenNode")]
pub enum Node {
    /// Asks one feature and goes on to one of two nodes.
    Split {
        /// Which feature, from 0.
        feature: u32,
        /// Values up to and including it go left, greater ones right.
        threshold: f32,
        /// Index of the node for smaller values.
        left: u32,
        /// Index of the node for greater values.
        right: u32,
        /// On which side rows with an unknown value were in training. It is not asked when the model is served: there, an unknown
        /// value ends the way, and the answer is `expected`.
        unknown_left: bool,
        /// Mean of the leaves below, each weighted by the training rows that reach it: the answer without this question.
        expected: f32,
    },
    /// Answers.
    Leaf {
        /// What the tree adds to the score.
        value: f32,
    },
}

impl Node {
    /// The mean answer of the training rows that reach this node.
    #[must_use]
    pub fn expected(&self) -> f32 {
        match self {
            Self::Split { expected, .. } => *expected,
            Self::Leaf { value } => *value,
        }
    }
}

impl Tree {
    /// A tree of these nodes.
    ///
    /// # Errors
    /// Says which node is wrong: none at all, a child that isn't behind its parent or has several, a number that isn't finite.
    pub fn new(nodes: Vec<Node>) -> Result<Self, String> {
        if nodes.is_empty() {
            return Err("a tree has no nodes".into());
        }
        let mut has_parent = vec![false; nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            if !node.expected().is_finite() {
                return Err(format!("node {at} of a tree is not finite"));
            }
            let Node::Split { threshold, left, right, .. } = node else { continue };
            if !threshold.is_finite() {
                return Err(format!("the threshold of node {at} of a tree is not finite"));
            }
            for child in [*left as usize, *right as usize] {
                match has_parent.get_mut(child) {
                    Some(taken) if child > at && !*taken => *taken = true,
                    Some(_) => return Err(format!("node {child} of a tree can't be a child of node {at}")),
                    None => return Err(format!("node {at} of a tree has a child {child} that isn't there")),
                }
            }
        }
        match has_parent.iter().skip(1).position(|has| !has) {
            Some(orphan) => Err(format!("node {} of a tree has no parent", orphan + 1)),
            None => Ok(Self { nodes }),
        }
    }

    /// The nodes, root first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The value of the leaf that these features lead to.
    #[must_use]
    pub fn value(&self, features: &[f32]) -> f64 {
        let mut node = &self.nodes[0];
        while let Some((_, next)) = self.next(node, features) {
            node = next;
        }
        f64::from(node.expected())
    }

    /// The feature that a node asks for and the node that comes next; nothing at a leaf, and nothing where the feature is not
    /// known: the answer is then what is expected here.
    fn next(&self, node: &Node, features: &[f32]) -> Option<(u32, &Node)> {
        let Node::Split { feature, threshold, left, right, .. } = node else { return None };
        let value = features.get(*feature as usize).copied().filter(|value| !value.is_nan())?;
        Some((*feature, &self.nodes[if value <= *threshold { *left } else { *right } as usize]))
    }

    /// Adds the value for each number `0, 1, …` of the last feature to its place in `sums`; the rest of the row is the same.
    /// `ways` is a place to work in.
    fn add_for_each(
        &self,
        features: &[f32],
        last: u32,
        sums: &mut [f64],
        ways: &mut Vec<(usize, usize, usize)>,
    ) {
        // Ways that part where a node asks for the last feature, each with the numbers that go there.
        ways.clear();
        ways.push((0, 0, sums.len()));
        while let Some((mut at, mut from, to)) = ways.pop() {
            loop {
                let node = &self.nodes[at];
                let Node::Split { feature, threshold, left, right, .. } = node else { break };
                if *feature == last {
                    // Numbers up to the threshold go left.
                    let parting = (from..to).take_while(|n| *n as f32 <= *threshold).count() + from;
                    if from < parting && parting < to {
                        ways.push((*left as usize, from, parting));
                    }
                    (at, from) =
                        if parting < to { (*right as usize, parting) } else { (*left as usize, from) };
                    continue;
                }
                let value = features.get(*feature as usize).copied().unwrap_or(f32::NAN);
                if value.is_nan() {
                    break;
                }
                at = if value <= *threshold { *left } else { *right } as usize;
            }
            let value = f64::from(self.nodes[at].expected());
            sums[from..to].iter_mut().for_each(|sum| *sum += value);
        }
    }
}

impl Trees {
    /// The sum of `base` and these trees over rows of `feature_count` features.
    ///
    /// # Errors
    /// Says what is wrong: a base that isn't finite, a split on a feature beyond the last.
    pub fn new(feature_count: u32, base: f32, trees: Vec<Tree>) -> Result<Self, String> {
        if !base.is_finite() {
            return Err("the base of the trees is not finite".into());
        }
        for (number, tree) in trees.iter().enumerate() {
            for node in &tree.nodes {
                if let Node::Split { feature, .. } = node
                    && *feature >= feature_count
                {
                    return Err(format!("tree {number} asks for feature {feature} of {feature_count}"));
                }
            }
        }
        let forest = Forest::of(&trees, feature_count.saturating_sub(1)).map(Box::new);
        Ok(Self { feature_count, base, trees, forest })
    }

    /// How many features a row has.
    #[must_use]
    pub fn feature_count(&self) -> usize {
        self.feature_count as usize
    }

    /// The score before any tree has spoken.
    #[must_use]
    pub fn base(&self) -> f64 {
        f64::from(self.base)
    }

    /// The trees in the order in which they were made.
    #[must_use]
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// The score of a row: log odds for a model of a yes or no, the quantity itself for a model of a quantity. Always finite.
    #[must_use]
    pub fn score(&self, features: &[f32]) -> f64 {
        self.trees.iter().fold(self.base(), |score, tree| score + tree.value(features))
    }

    /// The score for each number `0, 1, … count − 1` of the last feature, whatever the row has there: what [`Self::score`] gives, but
    /// each tree is walked once, but for ways that part at that feature.
    #[must_use]
    pub fn scores_by_last(&self, features: &[f32], count: usize) -> Vec<f64> {
        let mut sums = vec![self.base(); count];
        if let Some(forest) = &self.forest {
            forest.add_for_each(features, &mut sums);
            return sums;
        }
        let last = self.feature_count.saturating_sub(1);
        let mut ways = Vec::new();
        for tree in &self.trees {
            tree.add_for_each(features, last, &mut sums, &mut ways);
        }
        sums
    }

    /// Shares the score out: `out[i]` becomes the part of feature `i`, and the return value is the score expected of any row. Both
    /// together add up to [`Self::score`].
    ///
    /// This is path attribution (Saabas 2014, <https://blog.datadive.net/interpreting-random-forests/>): every split on the
    /// row's way credits its feature with the change of the expected answer. It costs no more than the score itself. Its known
    /// limit: a feature's part depends on where in a tree it stands, and of features that matter only together the one
    /// asked last gets most of the credit, which Shapley values would share evenly (Lundberg et al. 2018,
    /// <https://arxiv.org/abs/1802.03888>).
    ///
    /// # Panics
    /// Where `out` has no place for every feature.
    pub fn contributions(&self, features: &[f32], out: &mut [f64]) -> f64 {
        assert!(
            out.len() >= self.feature_count(),
            "{} places for {} features",
            out.len(),
            self.feature_count
        );
        out.fill(0.0);
        let mut expected = self.base();
        for tree in &self.trees {
            let mut node = &tree.nodes[0];
            expected += f64::from(node.expected());
            while let Some((feature, next)) = tree.next(node, features) {
                out[feature as usize] += f64::from(next.expected()) - f64::from(node.expected());
                node = next;
            }
        }
        expected
    }
}

/// [`Trees`] before they are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTrees {
    feature_count: u32,
    base: f32,
    trees: Vec<Tree>,
}

impl TryFrom<WrittenTrees> for Trees {
    type Error = String;

    fn try_from(written: WrittenTrees) -> Result<Self, String> {
        Self::new(written.feature_count, written.base, written.trees)
    }
}

impl TryFrom<Vec<Node>> for Tree {
    type Error = String;

    fn try_from(nodes: Vec<Node>) -> Result<Self, String> {
        Self::new(nodes)
    }
}

impl From<Tree> for Vec<Node> {
    fn from(tree: Tree) -> Self {
        tree.nodes
    }
}

/// A [`Node`] without the names of its fields.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenNode {
    Leaf(f32),
    Split(u32, f32, u32, u32, bool, f32),
}

impl From<WrittenNode> for Node {
    fn from(written: WrittenNode) -> Self {
        match written {
            WrittenNode::Leaf(value) => Self::Leaf { value },
            WrittenNode::Split(feature, threshold, left, right, unknown_left, expected) => {
                Self::Split { feature, threshold, left, right, unknown_left, expected }
            }
        }
    }
}

impl From<Node> for WrittenNode {
    fn from(node: Node) -> Self {
        match node {
            Node::Leaf { value } => Self::Leaf(value),
            Node::Split { feature, threshold, left, right, unknown_left, expected } => {
                Self::Split(feature, threshold, left, right, unknown_left, expected)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FEATURES: u32 = 4;

    /// Above 2.0 (feature 0) the answer is 3, else it is −1. A quarter of the rows were above.
    fn stump() -> Tree {
        let root =
            Node::Split { feature: 0, threshold: 2.0, left: 1, right: 2, unknown_left: false, expected: 0.0 };
        Tree::new(vec![root, Node::Leaf { value: -1.0 }, Node::Leaf { value: 3.0 }]).unwrap()
    }

    /// Splits leaves, chosen by number, until the list of questions is used up.
    fn any_tree() -> impl Strategy<Value = Tree> {
        let number = || -1e6f32..1e6;
        let threshold = prop_oneof![number(), -1f32..12.0];
        let question = (any::<u16>(), 0..FEATURES, threshold, any::<bool>(), number(), number());
        prop::collection::vec(question, 0..12).prop_map(|questions| {
            let mut nodes = vec![Node::Leaf { value: 0.5 }];
            for (pick, feature, threshold, unknown_left, low, high) in questions {
                let leaves: Vec<usize> =
                    (0..nodes.len()).filter(|at| matches!(nodes[*at], Node::Leaf { .. })).collect();
                let at = leaves[usize::from(pick) % leaves.len()];
                let (left, right) = (nodes.len() as u32, nodes.len() as u32 + 1);
                let expected = nodes[at].expected();
                nodes[at] = Node::Split { feature, threshold, left, right, unknown_left, expected };
                nodes.extend([Node::Leaf { value: low }, Node::Leaf { value: high }]);
            }
            Tree::new(nodes).unwrap()
        })
    }

    fn any_trees() -> impl Strategy<Value = Trees> {
        (-10f32..10.0, prop::collection::vec(any_tree(), 0..6))
            .prop_map(|(base, trees)| Trees::new(FEATURES, base, trees).unwrap())
    }

    #[test]
    fn values_up_to_the_threshold_go_left_and_unknown_ones_nowhere() {
        let trees = Trees::new(1, 0.5, vec![stump(), stump()]).unwrap();
        assert_eq!(trees.score(&[2.0]), -1.5);
        assert_eq!(trees.score(&[2.1]), 6.5);
        assert_eq!(trees.score(&[f32::NAN]), 0.5, "what is expected of any row");
        assert_eq!(trees.score(&[]), 0.5, "a row that is too short lacks what it lacks");
        assert_eq!(trees.score(&[f32::NEG_INFINITY]), -1.5);
    }

    #[test]
    fn the_part_of_a_feature_is_what_its_answer_changed() {
        let trees = Trees::new(2, 0.5, vec![stump()]).unwrap();
        let mut parts = [7.0; 2];
        assert_eq!(trees.contributions(&[9.0, 1.0], &mut parts), 0.5);
        assert_eq!(parts, [3.0, 0.0]);
    }

    #[test]
    fn a_tree_of_any_depth_serves() {
        // So many questions in a row, each to the right of the one before.
        for splits in [31, 32, 100] {
            let question = |n: u32| Node::Split {
                feature: 0,
                threshold: n as f32,
                left: 2 * n + 1,
                right: 2 * n + 2,
                unknown_left: false,
                expected: 0.5,
            };
            let mut nodes = Vec::new();
            for n in 0..splits {
                nodes.extend([question(n), Node::Leaf { value: n as f32 }]);
            }
            nodes.push(Node::Leaf { value: splits as f32 });
            let trees = Trees::new(2, 0.0, vec![Tree::new(nodes).unwrap()]).unwrap();
            assert_eq!(trees.forest.is_some(), splits < 32);
            for value in [-1.0, 0.0, 0.5, 30.5, 31.0, 99.5] {
                assert_eq!(trees.scores_by_last(&[value], 2), [trees.score(&[value]); 2]);
            }
        }
    }

    #[test]
    fn damaged_models_are_refused_with_a_reason() {
        let split = |left, right| format!("[0,2.0,{left},{right},false,0.0]");
        let of = |nodes: &str| format!(r#"{{"feature_count":1,"base":0.5,"trees":[[{nodes}]]}}"#);
        assert!(serde_json::from_str::<Trees>(&of(&format!("{},-1.0,3", split(1, 2)))).is_ok());
        for (nodes, reason) in [
            (String::new(), "no nodes"),
            (format!("{},1.0,3.0", split(0, 2)), "can't be a child"),
            (format!("{},1.0,3.0", split(1, 1)), "can't be a child"),
            (format!("{},{},1.0,2.0", split(2, 3), split(2, 3)), "can't be a child"),
            (format!("{},1.0,3.0", split(1, 9)), "isn't there"),
            (format!("{},1.0,2.0,3.0", split(1, 2)), "has no parent"),
            (format!("{},1e39,2.0", split(1, 2)), "not finite"),
            ("[0,1e39,1,2,false,0.0],1.0,2.0".into(), ""),
            ("[1,2.0,1,2,false,0.0],1.0,2.0".into(), "asks for feature 1 of 1"),
            ("null".into(), ""),
            ("[-1,2.0,1,2,false,0.0],1.0,2.0".into(), ""),
            ("[0,2.0,1,2,false],1.0,2.0".into(), ""),
        ] {
            let error = serde_json::from_str::<Trees>(&of(&nodes)).unwrap_err().to_string();
            assert!(error.contains(reason), "{nodes}: {error}");
        }
        let base = r#"{"feature_count":1,"base":1e39,"trees":[]}"#;
        assert!(serde_json::from_str::<Trees>(base).is_err());
    }

    proptest! {
        #[test]
        fn scores_are_finite_and_parts_add_up(
            trees in any_trees(),
            features in prop::collection::vec(prop_oneof![any::<f32>(), -1e6f32..1e6, Just(f32::NAN)], 0..6),
        ) {
            let score = trees.score(&features);
            prop_assert!(score.is_finite());
            let mut parts = [0.0; FEATURES as usize];
            let base = trees.contributions(&features, &mut parts);
            let sum: f64 = base + parts.iter().sum::<f64>();
            prop_assert!((sum - score).abs() < 1e-9, "{sum} is not {score}");
        }

        #[test]
        fn all_numbers_of_the_last_feature_at_once_are_as_one_by_one(
            trees in any_trees(),
            mut features in prop::collection::vec(prop_oneof![-1e6f32..1e6, Just(f32::NAN)], 4),
            count in 0usize..12,
        ) {
            let scores = trees.scores_by_last(&features, count);
            prop_assert_eq!(scores.len(), count);
            for (number, score) in scores.into_iter().enumerate() {
                features[3] = number as f32;
                prop_assert_eq!(score, trees.score(&features));
            }
        }

        #[test]
        fn tree_by_tree_or_all_at_once_the_same_is_said(
            trees in any_trees(),
            features in prop::collection::vec(prop_oneof![-1e6f32..1e6, -1f32..12.0, Just(f32::NAN)], 0..6),
            count in 0usize..12,
        ) {
            prop_assert!(trees.forest.is_some());
            let all_at_once = trees.scores_by_last(&features, count);
            let tree_by_tree = Trees { forest: None, ..trees }.scores_by_last(&features, count);
            prop_assert_eq!(all_at_once, tree_by_tree);
        }

        #[test]
        fn a_model_that_is_written_down_comes_back_exactly(trees in any_trees()) {
            let text = serde_json::to_string(&trees).unwrap();
            prop_assert_eq!(serde_json::from_str::<Trees>(&text).unwrap(), trees);
        }

        #[test]
        fn one_wrong_character_is_an_error_or_a_model_but_never_a_panic(
            trees in any_trees(),
            place in any::<prop::sample::Index>(),
            character in prop::sample::select(b"0123456789-.e,[]{}n\"".to_vec()),
        ) {
            let mut text = serde_json::to_vec(&trees).unwrap();
            let place = place.index(text.len());
            text[place] = character;
            if let Ok(trees) = serde_json::from_slice::<Trees>(&text) {
                prop_assert!(trees.score(&[1.0, f32::NAN]).is_finite());
            }
        }
    }
}
