//! Templates by Drain: lines that say the same with other values get one template, found online in a tree of fixed depth.
//!
//! Pinjia He, Jieming Zhu, Zibin Zheng, Michael R. Lyu: *Drain: An Online Log Parsing Approach with Fixed Depth Tree*, ICWS 2017,
//! <https://doi.org/10.1109/ICWS.2017.13>. Parameters and their meanings are those of the Python package `drain3`, with which
//! this agrees line by line as long as nothing is forgotten (tests/it/logs/golden.rs).
//!
//! Unlike there everything is bounded: where a template too many is found the one that was not met for longest is
//! forgotten, and with it the part of the tree that only it needed.

use std::collections::BTreeMap;

use super::mask::WILDCARD;

/// How lines are put together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrainOptions {
    /// Levels of the tree: the root, the number of tokens, `depth - 3` first tokens, the templates. At least 3.
    pub depth: usize,
    /// A line belongs to a template when at least this share of its tokens is the same. 0 to 1.
    pub similarity: f64,
    /// Children of a node of the tree; what comes later shares one. At least 2.
    pub max_children: usize,
    /// Templates that are remembered. At least 1.
    pub max_templates: usize,
    /// Tokens of a line that are looked at; one more stands for the rest. At least 1.
    pub max_tokens: usize,
}

impl Default for DrainOptions {
    /// The defaults of `drain3`, and bounds: 512 templates are more than the programs of one cell print.
    fn default() -> Self {
        Self { depth: 4, similarity: 0.4, max_children: 100, max_templates: 512, max_tokens: 64 }
    }
}

/// A template, for as long as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId(u64);

/// What a line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// Its template.
    pub template: TemplateId,
    /// Whether it is the first of its template.
    pub new: bool,
    /// Whether the template's text is another than before this line.
    pub changed: bool,
    /// The template that was forgotten for this one.
    pub forgotten: Option<TemplateId>,
}

/// What is known of a template.
#[derive(Debug)]
struct Template {
    tokens: Vec<Box<str>>,
    /// The way through the tree to its leaf.
    way: Vec<Box<str>>,
    /// When it was last met, in lines.
    met: u64,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<str>, Node>,
    /// In the order in which they came.
    templates: Vec<TemplateId>,
}

/// Stands for the tokens beyond the bound.
const REST: &str = "…";

/// The templates of one stream of lines. Pure and deterministic: the same lines in the same order give the same templates.
#[derive(Debug)]
pub struct Drain {
    options: DrainOptions,
    by_length: BTreeMap<usize, Node>,
    templates: BTreeMap<TemplateId, Template>,
    /// By when they were last met: each line has its own number.
    by_age: BTreeMap<u64, TemplateId>,
    lines: u64,
    created: u64,
    forgotten: u64,
}

impl Drain {
    /// Knows nothing yet. Options below their least are raised to it.
    #[must_use]
    pub fn new(options: DrainOptions) -> Self {
        let options = DrainOptions {
            depth: options.depth.max(3),
            max_children: options.max_children.max(2),
            max_templates: options.max_templates.max(1),
            max_tokens: options.max_tokens.max(1),
            ..options
        };
        Self {
            options,
            by_length: BTreeMap::new(),
            templates: BTreeMap::new(),
            by_age: BTreeMap::new(),
            lines: 0,
            created: 0,
            forgotten: 0,
        }
    }

    /// Takes a line, masked where that is wanted; tokens are what whitespace separates.
    pub fn learn(&mut self, line: &str) -> Learned {
        let mut tokens: Vec<&str> = line.split_whitespace().take(self.options.max_tokens + 1).collect();
        if let Some(last) = tokens.get_mut(self.options.max_tokens) {
            *last = REST;
        }
        self.lines += 1;
        match self.find(&tokens) {
            Some(id) => {
                let changed = self.generalise(id, &tokens);
                Learned { template: id, new: false, changed, forgotten: None }
            }
            None => {
                let forgotten = self.make_room();
                let id = self.create(&tokens);
                Learned { template: id, new: true, changed: true, forgotten }
            }
        }
    }

    /// The text of a template: tokens with one space between them. `None` when it was forgotten.
    #[must_use]
    pub fn text(&self, template: TemplateId) -> Option<String> {
        self.templates.get(&template).map(|template| template.tokens.join(" "))
    }

    /// All that are remembered, oldest first.
    pub fn templates(&self) -> impl Iterator<Item = TemplateId> {
        self.templates.keys().copied()
    }

    /// Whether a line, masked as it was when learned, fits the template.
    #[must_use]
    pub fn fits(&self, template: TemplateId, line: &str) -> bool {
        let Some(template) = self.templates.get(&template) else { return false };
        let mut tokens = line.split_whitespace();
        let same = template.tokens.iter().enumerate().all(|(i, expected)| {
            i == self.options.max_tokens
                || tokens.next().is_some_and(|token| **expected == *WILDCARD || **expected == *token)
        });
        same && (template.tokens.len() > self.options.max_tokens || tokens.next().is_none())
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether no line was learned yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// How many were forgotten for want of room.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Nodes of the tree, for tests of its bound.
    #[must_use]
    pub fn nodes(&self) -> usize {
        fn below(node: &Node) -> usize {
            1 + node.children.values().map(below).sum::<usize>()
        }
        self.by_length.values().map(below).sum()
    }

    /// How many first tokens lead to the leaf of a line of so many tokens.
    fn levels(&self, tokens: usize) -> usize {
        (self.options.depth - 3).min(tokens.saturating_sub(1))
    }

    fn find(&self, tokens: &[&str]) -> Option<TemplateId> {
        let mut node = self.by_length.get(&tokens.len())?;
        for token in &tokens[..self.levels(tokens.len())] {
            node = node.children.get(*token).or_else(|| node.children.get(WILDCARD))?;
        }
        // Most tokens alike; among equals the more general, then the older.
        let mut best: Option<(usize, usize, TemplateId)> = None;
        for id in &node.templates {
            let Some(template) = self.templates.get(id) else { continue };
            let (same, wild) = alike(&template.tokens, tokens);
            if best.is_none_or(|(most, wildest, _)| (same, wild) > (most, wildest)) {
                best = Some((same, wild, *id));
            }
        }
        let (same, _, id) = best?;
        let share = if tokens.is_empty() { 1.0 } else { same as f64 / tokens.len() as f64 };
        (share >= self.options.similarity).then_some(id)
    }

    /// Makes wildcards of the tokens that differ; whether there were any.
    fn generalise(&mut self, id: TemplateId, tokens: &[&str]) -> bool {
        let Some(template) = self.templates.get_mut(&id) else { return false };
        self.by_age.remove(&template.met);
        template.met = self.lines;
        self.by_age.insert(self.lines, id);
        let mut changed = false;
        for (known, token) in template.tokens.iter_mut().zip(tokens) {
            if **known != **token && **known != *WILDCARD {
                *known = WILDCARD.into();
                changed = true;
            }
        }
        changed
    }

    fn create(&mut self, tokens: &[&str]) -> TemplateId {
        self.created += 1;
        let id = TemplateId(self.created);
        let levels = self.levels(tokens.len());
        let most = self.options.max_children;
        let mut node = self.by_length.entry(tokens.len()).or_default();
        let mut way: Vec<Box<str>> = Vec::with_capacity(levels);
        for token in &tokens[..levels] {
            let key: Box<str> = node.key_of_new(token, most).into();
            node = node.children.entry(key.clone()).or_default();
            way.push(key);
        }
        node.templates.push(id);
        let tokens = tokens.iter().map(|token| Box::from(*token)).collect();
        self.templates.insert(id, Template { tokens, way, met: self.lines });
        self.by_age.insert(self.lines, id);
        id
    }

    fn make_room(&mut self) -> Option<TemplateId> {
        if self.templates.len() < self.options.max_templates {
            return None;
        }
        let (_, id) = self.by_age.pop_first()?;
        let template = self.templates.remove(&id)?;
        let length = template.tokens.len();
        if let Some(node) = self.by_length.get_mut(&length) {
            node.remove(&template.way, id);
            if node.is_bare() {
                self.by_length.remove(&length);
            }
        }
        self.forgotten += 1;
        Some(id)
    }
}

/// Tokens that are the same, and wildcards of the template.
fn alike(template: &[Box<str>], tokens: &[&str]) -> (usize, usize) {
    let mut counts = (0, 0);
    for (known, token) in template.iter().zip(tokens) {
        if **known == *WILDCARD {
            counts.1 += 1;
        } else if **known == **token {
            counts.0 += 1;
        }
    }
    counts
}

impl Node {
    /// The child that a new template with this token goes to. What holds digits is a value, not a word; and the last free
    /// place is kept for all that find none.
    fn key_of_new<'a>(&self, token: &'a str, most: usize) -> &'a str {
        if self.children.contains_key(token) {
            return token;
        }
        let has_digit = token.chars().any(char::is_numeric);
        let shared = self.children.contains_key(WILDCARD);
        let room = if shared { self.children.len() < most } else { self.children.len() + 1 < most };
        if has_digit || !room { WILDCARD } else { token }
    }

    fn remove(&mut self, way: &[Box<str>], id: TemplateId) {
        let Some((first, rest)) = way.split_first() else {
            self.templates.retain(|known| *known != id);
            return;
        };
        if let Some(child) = self.children.get_mut(first) {
            child.remove(rest, id);
            if child.is_bare() {
                self.children.remove(first);
            }
        }
    }

    fn is_bare(&self) -> bool {
        self.children.is_empty() && self.templates.is_empty()
    }
}
