//! The configuration file: read, checked, explained.
//!
//! One YAML file says what is protected and how. Serde alone would stop at the first mistake and often not know where
//! it stands, so the file is read in three passes of our own: text to a tree that knows its places ([`granit_parser`]'s
//! events, bounded in depth and size), tree to typed sections, sections checked against each other. Every problem of a
//! pass is told at once, with line, column, and what would be right.
//!
//! A section is defined once, by the `section!` macro: its keys' types, defaults and meanings give the reading, the
//! JSON Schema ([`schema`]) and the reference manual ([`reference`]).
//!
//! Start from [`load`], [`parse`] and [`Config`]. Nothing here reads a clock or a variable; only [`load`] does I/O, and
//! [`parse`] asks for the working directory where a path in the file is relative.

#[macro_use]
mod setting;
mod check;
mod convert;
mod diff;
mod document;
pub mod model;
mod problem;
mod reading;
mod reference;
mod scalars;
mod schema;
pub mod sections;
mod tree;
mod units;
mod weights;

use std::path::Path;

pub use convert::{ConfiguredCell, default_policy};
pub use diff::{diff, needs_restart};
pub use document::MAX_FILE_BYTES;
pub use model::{Config, ForecastConfig, LearningConfig, Promotion};
pub use problem::{ConfigErrors, Place, Problem};
pub use reference::reference;
pub use scalars::{Cpu, Share, Size};
pub use schema::schema;

use crate::{document::Document, reading::Reading, tree::Node};

impl Document for Config {
    const CALLED: &'static str = "a configuration";
    const BEGINNING: &'static str = "begin with `version: 1`, `regions:` and `services:`; see examples/";

    fn check(&self, root: &Node, reading: &mut Reading<'_>) {
        check::check(self, root, reading);
    }
}

/// Reads and checks the file.
///
/// # Errors
/// Everything that is wrong with it: that it can't be read, isn't UTF-8, isn't YAML, or says what can't be.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    document::load(path)
}

/// Like [`parse`] for bytes that may not be text.
///
/// # Errors
/// As [`parse`], and when they are not UTF-8.
pub fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Config, ConfigErrors> {
    document::parse_bytes(bytes, file_name)
}

/// Reads and checks `text`; `file_name` is for the messages, and relative paths in it are relative to its directory.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    document::parse(text, file_name)
}
