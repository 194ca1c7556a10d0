//! What a setting can do: be read, be described in the schema, be shown as the file would write it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::{
    reading::{Reading, Trail},
    schema::Definitions,
    tree::{Node, Value},
};

pub(crate) use crate::scalars::quantity;
pub(crate) use crate::scalars::{Cpu, Share, Size};

/// A part of a file that can be read, described and shown. Made by [`crate::section!`], [`crate::scalar!`] and
/// [`crate::words!`], or by hand for one of several shapes.
pub trait Setting: Sized {
    /// Reads it from `node`, which stands `at` there; problems are noted in `cx`.
    ///
    /// `None` when something was wrong, which is then among the problems.
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self>;
    /// Its JSON Schema, a reference to the definitions where it has a name.
    fn schema(defs: &mut Definitions) -> Json;
    /// As the file would write it; null for what is not set.
    fn shown(&self) -> Json;
    /// The value when it is left out and no default is named; `None`: it is required.
    fn absent() -> Option<Self> {
        None
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        if node.is_null() { Some(None) } else { T::read(node, at, cx).map(Some) }
    }
    fn schema(defs: &mut Definitions) -> Json {
        T::schema(defs)
    }
    fn shown(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::shown)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            let remedy = "write a list: `[a, b]`, or one item per line, each beginning with `- `";
            cx.wrong(node, at, format!("{} stands where a list belongs", node.kind()), remedy);
            return None;
        };
        // Bad items are left out (they are among the problems), so that the others are checked further.
        Some(items.iter().enumerate().filter_map(|(i, item)| T::read(item, &at.index(i), cx)).collect())
    }
    fn schema(defs: &mut Definitions) -> Json {
        json!({ "type": "array", "items": T::schema(defs) })
    }
    fn shown(&self) -> Json {
        self.iter().map(T::shown).collect()
    }
}

/// The key of a map: a name.
pub trait Name: Sized + Ord {
    /// What it looks like, as a regular expression (ECMA 262).
    const PATTERN: &'static str;
    /// From the text of a file.
    ///
    /// # Errors
    /// Why it can't be such a name, in words.
    fn of(text: &str) -> Result<Self, String>;
    /// As text.
    fn text(&self) -> &str;
}

impl Name for String {
    const PATTERN: &'static str = "^.+$";
    fn of(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("an empty name is no name".into()) } else { Ok(text.to_owned()) }
    }
    fn text(&self) -> &str {
        self
    }
}

impl<K: Name, V: Setting> Setting for BTreeMap<K, V> {
    fn read(node: &Node, at: &Trail<'_>, cx: &mut Reading<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let what = format!("{} stands where a section with names belongs", node.kind());
            cx.wrong(node, at, what, "write one line `name:` for each, and its settings indented below");
            return None;
        };
        let mut map = Self::new();
        for (key, value) in entries {
            let at = at.key(key);
            match K::of(key) {
                Ok(key) => {
                    if let Some(value) = V::read(value, &at, cx) {
                        map.insert(key, value);
                    }
                }
                Err(why) => cx.wrong_at(value.key.unwrap_or(value.place), &at, why, "choose another name"),
            }
        }
        Some(map)
    }
    fn schema(defs: &mut Definitions) -> Json {
        json!({ "type": "object", "propertyNames": { "pattern": K::PATTERN }, "additionalProperties": V::schema(defs) })
    }
    fn shown(&self) -> Json {
        Json::Object(self.iter().map(|(k, v)| (k.text().to_owned(), v.shown())).collect())
    }
}

/// A setting that is one word or number: how it is parsed, described and shown.
#[macro_export]
macro_rules! scalar {
    ($type:ty, $name:literal, $doc:literal, $schema:expr, $wanted:literal,
     |$text:ident| $parse:expr, |$value:ident| $show:expr) => {
        impl $crate::sections::Setting for $type {
            fn read(
                node: &$crate::sections::Node,
                at: &$crate::sections::Trail<'_>,
                cx: &mut $crate::sections::Reading<'_>,
            ) -> Option<Self> {
                let $text = cx.text(node, at, $wanted)?;
                let parsed: Result<$type, (String, String)> = $parse;
                match parsed {
                    Ok(value) => Some(value),
                    Err((what, remedy)) => {
                        cx.wrong(node, at, what, remedy);
                        None
                    }
                }
            }
            fn schema(defs: &mut $crate::sections::Definitions) -> $crate::sections::Json {
                defs.scalar($name, $doc, $schema)
            }
            fn shown(&self) -> $crate::sections::Json {
                let $value = self;
                $show.into()
            }
        }
    };
}

/// One of several words.
#[macro_export]
macro_rules! words {
    ($type:ty, $name:literal, $doc:literal, { $($word:literal => $value:path),+ $(,)? }) => {
        impl $crate::sections::Setting for $type {
            fn read(node: &$crate::sections::Node, at: &$crate::sections::Trail<'_>, cx: &mut $crate::sections::Reading<'_>) -> Option<Self> {
                let words = [$($word),+];
                let wanted = format!("one of: {}", words.join(", "));
                match cx.text(node, at, &wanted)? {
                    $($word => Some($value),)+
                    other => {
                        let remedy = $crate::sections::suggestion(other, words.into_iter());
                        cx.wrong(node, at, format!("`{other}` is no value of `{}`", at.name()), remedy);
                        None
                    }
                }
            }
            fn schema(defs: &mut $crate::sections::Definitions) -> $crate::sections::Json {
                defs.scalar($name, $doc, $crate::sections::json!({ "type": "string", "enum": [$($word),+] }))
            }
            fn shown(&self) -> $crate::sections::Json {
                match self { $($value => $word.into(),)+ }
            }
        }
    };
}

/// A section: one list of keys that gives the type, the reading, the schema, the reference and the showing.
///
/// A field without `=` is required unless its type is optional.
#[macro_export]
macro_rules! section {
    ($(#[doc = $doc:literal])* pub struct $name:ident {
        $( $(#[doc = $fdoc:literal])* $field:ident : $type:ty $(= $default:expr)? ),* $(,)?
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $( $(#[doc = $fdoc])* pub $field: $type, )* }

        impl $crate::sections::Setting for $name {
            fn read(node: &$crate::sections::Node, at: &$crate::sections::Trail<'_>, cx: &mut $crate::sections::Reading<'_>) -> Option<Self> {
                cx.section(node, at, &[$(stringify!($field)),*])?;
                $(
                    let default: Option<$type> = $crate::section!(@default $type $(, $default)?);
                    let written = node.get(stringify!($field)).filter(|n| !n.is_null());
                    let $field = match written {
                        // With a default at hand the rest can still be checked; the problem is noted already.
                        Some(n) => <$type as $crate::sections::Setting>::read(n, &at.key(stringify!($field)), cx).or(default),
                        None => {
                            if default.is_none() {
                                cx.missing(node, at, stringify!($field), concat!($($fdoc),*));
                            }
                            default
                        }
                    };
                )*
                Some(Self { $($field: $field?),* })
            }
            fn schema(defs: &mut $crate::sections::Definitions) -> $crate::sections::Json {
                defs.section(stringify!($name), &[$($doc),*], |defs| vec![
                    $({
                        let default: Option<$type> = $crate::section!(@default $type $(, $default)?);
                        $crate::sections::Field {
                            name: stringify!($field),
                            doc: [$($fdoc),*].concat().trim().to_owned(),
                            schema: <$type as $crate::sections::Setting>::schema(defs),
                            required: default.is_none(),
                            default: default.map_or($crate::sections::Json::Null, |d| $crate::sections::Setting::shown(&d)),
                        }
                    }),*
                ])
            }
            fn shown(&self) -> $crate::sections::Json {
                let mut map = $crate::sections::Map::new();
                $( map.insert(stringify!($field).to_owned(), $crate::sections::Setting::shown(&self.$field)); )*
                $crate::sections::Json::Object(map)
            }
        }
    };
    (@default $type:ty, $default:expr) => { Some($default) };
    (@default $type:ty) => { <$type as $crate::sections::Setting>::absent() };
}

/// The value of a section in which nothing is written.
///
/// # Panics
/// When the section has a required key: a mistake in the definition, which every test would meet.
#[must_use]
pub fn all_defaults<T: Setting>() -> T {
    let empty = Node {
        place: crate::problem::Place { line: 1, column: 1, length: 1 },
        key: None,
        value: Value::Map(Vec::new()),
    };
    T::read(&empty, &Trail::ROOT, &mut Reading::new("", ""))
        .expect("a section with defaults for all of its keys")
}
