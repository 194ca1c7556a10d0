//! YAML text to a tree in which every key and value knows its place. Bounded in depth and in size, aliases counted
//! at their expanded size.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::Place;

/// A part of a file, with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// Where its key stands, if it is the value of one.
    pub key: Option<Place>,
    /// What stands there.
    pub value: Value,
}

/// What stands at a place of a file.
#[derive(Debug, Clone)]
pub enum Value {
    /// One word, number or text.
    Scalar {
        /// As written, without quotes.
        text: String,
        /// Not quoted: `null`, `true` and the like have their special meaning.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A section: keys, each once, in the order of the file.
    Map(Vec<(String, Node)>),
}

/// What is wrong with the YAML itself.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) place: Place,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// Deeper than any configuration needs, far from what recursion could not stand.
const MAX_DEPTH: usize = 32;
/// Characters and nodes (each counted as 16) after expansion of aliases: some five times the largest file.
const MAX_SIZE: usize = 8 << 20;

impl Node {
    /// Whether nothing is written here.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key, if this is a section that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, node)| node),
            Value::Scalar { .. } | Value::List(_) => None,
        }
    }

    /// What it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a section with keys",
        }
    }
}

/// The tree of the one document in `text` (`None` when there is none), and what is wrong that did not stop the reading.
///
/// # Errors
/// What stopped it.
pub(crate) fn parse(text: &str) -> Result<(Option<Node>, Vec<Flaw>), Flaw> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            // The parser's marks of errors at the end of the file may lie behind it.
            Flaw {
                place: Place { line: mark.line().max(1), column: mark.col() + 1, length: 1 },
                what: format!("this is not YAML: {}", error.info()),
                remedy: if error.info().contains("anchor") {
                    "an alias `*name` needs its anchor `&name` before it; quote the value if it is meant as text".into()
                } else {
                    remedy_for(text, mark.line())
                },
            }
        })?;
        builder.event(event, span)?;
    }
    Ok((builder.root, builder.flaws))
}

fn remedy_for(text: &str, line: usize) -> String {
    let near = text.lines().skip(line.saturating_sub(2)).take(2);
    if near.into_iter().any(|l| l.trim_start_matches(' ').starts_with('\t')) {
        "indent with spaces: YAML forbids tabs for indentation".into()
    } else {
        "check the indentation, the quotes and the brackets here and in the line above".into()
    }
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    documents: usize,
    open: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize)>,
    size: usize,
    flaws: Vec<Flaw>,
}

struct Frame {
    place: Place,
    anchor: usize,
    size_before: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(String, Node)>, seen: HashSet<String>, pending: Option<Pending> },
}

struct Pending {
    key: String,
    place: Place,
    duplicate: bool,
}

fn place_of(span: Span) -> Place {
    let (start, end) = (span.start, span.end);
    let same_line = start.line() == end.line();
    let length = if same_line { end.col().saturating_sub(start.col()).max(1) } else { 1 };
    Place { line: start.line().max(1), column: start.col() + 1, length }
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Flaw> {
        let place = place_of(span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Flaw {
                        place,
                        what: "a second YAML document begins here".into(),
                        remedy: "keep one document in the file: remove the `---` and what follows".into(),
                    });
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                let plain = style == ScalarStyle::Plain;
                self.grow(16 + text.len(), place)?;
                let size = 16 + text.len();
                let node = Node { place, key: None, value: Value::Scalar { text: text.into_owned(), plain } };
                self.remember(anchor, &node, size, place)?;
                self.place_node(node)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.open(place, anchor, Content::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.open(
                    place,
                    anchor,
                    Content::Map { entries: Vec::new(), seen: HashSet::new(), pending: None },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.open.pop() {
                    let value = match frame.content {
                        Content::List(items) => Value::List(items),
                        Content::Map { entries, .. } => Value::Map(entries),
                    };
                    let place = Place { length: 1, ..frame.place };
                    let node = Node { place, key: None, value };
                    self.remember(frame.anchor, &node, self.size - frame.size_before, place)?;
                    self.place_node(node)?;
                }
            }
            Event::Alias(id) => {
                let Some((_, size)) = self.anchors.get(&id) else {
                    return Err(Flaw {
                        place,
                        what: "this alias stands inside of what it refers to".into(),
                        remedy: "write the value out instead of the alias".into(),
                    });
                };
                self.grow(*size, place)?;
                let node = Node { place, ..self.anchors[&id].0.clone() };
                self.place_node(node)?;
            }
            // Streams' ends, and the events that only tools for editing ask for.
            _ => {}
        }
        Ok(())
    }

    fn grow(&mut self, by: usize, place: Place) -> Result<(), Flaw> {
        self.size = self.size.saturating_add(by);
        if self.size <= MAX_SIZE {
            return Ok(());
        }
        Err(Flaw {
            place,
            what: "the configuration is too large once its aliases are expanded".into(),
            remedy: format!("stay below {} MiB; don't nest aliases in aliases", MAX_SIZE >> 20),
        })
    }

    fn remember(&mut self, anchor: usize, node: &Node, size: usize, place: Place) -> Result<(), Flaw> {
        if anchor > 0 {
            // The remembered copy takes memory too: nested anchors would multiply it unseen.
            self.grow(size, place)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(())
    }

    fn open(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), Flaw> {
        if let Some(Frame { content: Content::Map { pending: None, .. }, .. }) = self.open.last() {
            return Err(complex_key(place));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(Flaw {
                place,
                what: format!("sections are nested more than {MAX_DEPTH} deep"),
                remedy: "no setting lies that deep: check the indentation and the brackets".into(),
            });
        }
        let size_before = self.size;
        self.grow(16, place)?;
        self.open.push(Frame { place, anchor, size_before, content });
        Ok(())
    }

    fn place_node(&mut self, mut node: Node) -> Result<(), Flaw> {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, seen, pending } => match pending.take() {
                Some(Pending { key, place, duplicate }) => {
                    node.key = Some(place);
                    if !duplicate {
                        entries.push((key, node));
                    }
                }
                None => {
                    let Value::Scalar { text: key, plain } = node.value else {
                        return Err(complex_key(node.place));
                    };
                    if plain && key == "<<" {
                        return Err(Flaw {
                            place: node.place,
                            what: "merge keys (`<<`) are not supported".into(),
                            remedy: "write the keys out, or use an alias for a whole value".into(),
                        });
                    }
                    let duplicate = !seen.insert(key.clone());
                    if duplicate {
                        self.flaws.push(Flaw {
                            place: node.place,
                            what: format!("the key `{key}` stands here a second time"),
                            remedy: "keep one of the two: a section holds each key once".into(),
                        });
                    }
                    *pending = Some(Pending { key, place: node.place, duplicate });
                }
            },
        }
        Ok(())
    }
}

fn refuse_tag(tagged: bool, place: Place) -> Result<(), Flaw> {
    if !tagged {
        return Ok(());
    }
    Err(Flaw {
        place,
        what: "YAML tags are not supported".into(),
        remedy:
            "remove the tag (the word that begins with `!`); put the value in quotes if it is meant as text"
                .into(),
    })
}

fn complex_key(place: Place) -> Flaw {
    Flaw {
        place,
        what: "a list or section is used as a key".into(),
        remedy: "a key is one word; a value that begins with `{` or `[` must be quoted".into(),
    }
}
