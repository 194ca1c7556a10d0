//! Reading the tree into settings, noting every problem on the way instead of stopping at the first.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    problem::{Place, Problem},
    setting::Setting,
    tree::{Node, Value},
};

/// Where in the configuration we are: `services.shop.cells[0].zone`, as a list on the stack.
#[derive(Clone, Copy)]
pub struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

/// A trail that outlives the stack.
pub(crate) type Way = Vec<WayStep>;

pub(crate) enum WayStep {
    Key(String),
    Index(usize),
}

impl<'a> Trail<'a> {
    /// The file as a whole.
    pub const ROOT: Trail<'static> = Trail { parent: None, step: Step::Root };

    /// One key further.
    #[must_use]
    pub fn key(&'a self, key: &'a str) -> Trail<'a> {
        Trail { parent: Some(self), step: Step::Key(key) }
    }

    /// One item of the list further.
    #[must_use]
    pub fn index(&'a self, index: usize) -> Trail<'a> {
        Trail { parent: Some(self), step: Step::Index(index) }
    }

    pub(crate) fn way(&self) -> Way {
        let mut way = self.parent.map(Self::way).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Key(key) => way.push(WayStep::Key(key.to_owned())),
            Step::Index(index) => way.push(WayStep::Index(index)),
        }
        way
    }

    /// The last key on the way.
    #[must_use]
    pub fn name(&self) -> &str {
        match (self.step, self.parent) {
            (Step::Key(key), _) => key,
            (Step::Index(_), Some(parent)) => parent.name(),
            (Step::Root | Step::Index(_), _) => "the file",
        }
    }

    /// The node at the end of the way, or the last one that exists.
    #[must_use]
    pub fn find<'n>(&self, root: &'n Node) -> &'n Node {
        let Some(parent) = self.parent else { return root };
        let node = parent.find(root);
        let next = match (self.step, &node.value) {
            (Step::Key(key), _) => node.get(key),
            (Step::Index(i), Value::List(items)) => items.get(i),
            (Step::Index(_) | Step::Root, _) => None,
        };
        next.unwrap_or(node)
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) if parent.parent.is_none() => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The file being read, and what was found wrong with it so far.
pub struct Reading<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    base: PathBuf,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        let base = match Path::new(file).parent() {
            Some(parent) if parent != Path::new("") => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        // Without a working directory only absolute paths have a meaning, and those stay as they are.
        let base = std::path::absolute(&base).unwrap_or(base);
        Self { file, lines: text.lines().collect(), base, problems: Vec::new() }
    }

    /// Relative paths are relative to the file's directory.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Notes a problem at a place of the file.
    pub fn wrong_at(
        &mut self,
        place: Place,
        at: &Trail<'_>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        // A problem at the end of the file points behind its last line; point at the last line instead.
        let last = self.lines.len().max(1);
        let place = if place.line > last {
            let column = self.lines.last().map_or(0, |l| l.chars().count()) + 1;
            Place { line: last, column, length: 1 }
        } else {
            place
        };
        self.problems.push(Problem {
            file: self.file.to_owned(),
            place: Some(place),
            path: at.to_string(),
            what: what.into(),
            remedy: remedy.into(),
            snippet: self.lines.get(place.line - 1).map(|&l| l.to_owned()),
        });
    }

    /// Notes a problem with a node.
    pub fn wrong(&mut self, node: &Node, at: &Trail<'_>, what: impl Into<String>, remedy: impl Into<String>) {
        // A section is pointed at by its key, not by the first of its contents.
        let place = match (&node.value, node.key) {
            (Value::Map(_) | Value::List(_), Some(key)) => key,
            _ if node.is_null() => node.key.unwrap_or(node.place),
            _ => node.place,
        };
        self.wrong_at(place, at, what, remedy);
    }

    pub(crate) fn wrong_file(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            place: None,
            path: String::new(),
            what: what.into(),
            remedy: remedy.into(),
            snippet: None,
        });
    }

    /// Notes a value of the file under `root` that is out of range.
    pub fn range<T: Setting + PartialOrd>(
        &mut self,
        root: &Node,
        at: &Trail<'_>,
        value: &T,
        lowest: T,
        highest: T,
    ) {
        if *value < lowest || *value > highest {
            let what = format!("{} is out of range", written(value));
            let remedy = format!("choose a value from `{}` to `{}`", written(&lowest), written(&highest));
            self.wrong(at.find(root), at, what, remedy);
        }
    }

    /// Notes a value of the file under `root` that is more than another, `bound_name`, allows.
    pub fn at_most<T: Setting + PartialOrd>(
        &mut self,
        root: &Node,
        at: &Trail<'_>,
        value: &T,
        bound: &T,
        bound_name: &str,
    ) {
        if value > bound {
            let what = format!("{} is more than `{bound_name}` ({})", written(value), written(bound));
            let remedy = format!("choose at most `{}`, or raise `{bound_name}`", written(bound));
            self.wrong(at.find(root), at, what, remedy);
        }
    }

    /// Whether nothing at all was found to be wrong so far.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether nothing is wrong at or below the trail.
    #[must_use]
    pub fn clean(&self, at: &Trail<'_>) -> bool {
        let prefix = at.to_string();
        !self.problems.iter().any(|p| {
            p.path.strip_prefix(&prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The text of a single value.
    pub fn text<'n>(&mut self, node: &'n Node, at: &Trail<'_>, wanted: &str) -> Option<&'n str> {
        if node.is_null() {
            self.wrong(node, at, format!("`{}` has no value", at.name()), format!("write {wanted}"));
            return None;
        }
        match &node.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => {
                self.wrong(
                    node,
                    at,
                    format!("{} stands where a single value belongs", node.kind()),
                    format!("write {wanted}"),
                );
                None
            }
        }
    }

    /// Checks that the node is a section with no keys but `known`.
    pub fn section(&mut self, node: &Node, at: &Trail<'_>, known: &[&str]) -> Option<()> {
        let Value::Map(entries) = &node.value else {
            if node.is_null() {
                return Some(());
            }
            let what = format!("{} stands where a section with keys belongs", node.kind());
            self.wrong(node, at, what, format!("its keys are: {}", known.join(", ")));
            return None;
        };
        for (key, value) in entries {
            if !known.contains(&key.as_str()) {
                let place = value.key.unwrap_or(value.place);
                let remedy = suggestion(key, known.iter().copied());
                self.wrong_at(place, &at.key(key), format!("unknown key `{key}`"), remedy);
            }
        }
        Some(())
    }

    /// Notes that a section lacks a key; `what_for` is the key's meaning.
    pub fn missing(&mut self, node: &Node, at: &Trail<'_>, key: &str, what_for: &str) {
        let place = node.key.unwrap_or(node.place);
        let owner = match at.to_string() {
            path if path.is_empty() => "the file".to_owned(),
            path => format!("`{path}`"),
        };
        let meaning = what_for.trim();
        self.wrong_at(place, at, format!("{owner} lacks `{key}`"), format!("add `{key}:` ({meaning})"));
    }
}

/// A value as a file would write it, for messages.
#[must_use]
pub fn written<T: Setting>(value: &T) -> String {
    match value.shown() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// “Did you mean”, or all that there is.
#[must_use]
pub fn suggestion<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    let plain = |s: &str| s.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(&plain(found), &plain(k)), *k))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, k)| {
            *distance <= (k.len() / 3).max(1) || (found.len() > 3 && found.starts_with(k))
        });
    // A long list helps less than its size hurts.
    let many = known.len() > 24;
    known.truncate(24);
    let all = format!("{}{}", known.join(", "), if many { ", …" } else { "" });
    match near {
        Some((_, near)) => format!("did you mean `{near}`? Possible here: {all}"),
        None if known.is_empty() => "there is none yet: add it where such things are named".into(),
        None => format!("possible here: {all}"),
    }
}
