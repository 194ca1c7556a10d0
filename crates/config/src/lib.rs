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
pub mod model;
mod problem;
mod reading;
mod reference;
mod scalars;
mod schema;
mod tree;
mod units;
mod weights;

use std::{fs::File, io::Read, path::Path};

pub use convert::{ConfiguredCell, default_policy};
pub use diff::{diff, needs_restart};
pub use model::Config;
pub use problem::{ConfigErrors, Place, Problem};
pub use reference::reference;
pub use scalars::{Cpu, Share, Size};
pub use schema::schema;

use crate::{
    reading::{Reading, Trail},
    setting::Setting,
};

/// Larger files are refused: some 10 000 cells fit.
pub const MAX_FILE_BYTES: usize = 2 << 20;

/// Reads and checks the file.
///
/// # Errors
/// Everything that is wrong with it: that it can't be read, isn't UTF-8, isn't YAML, or says what can't be.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    if let Err(error) = read {
        let remedy = "name an existing file that this user may read";
        return Err(whole_file(&name, &format!("the file can't be read: {error}"), remedy));
    }
    parse_bytes(&bytes, &name)
}

/// Like [`parse`] for bytes that may not be text.
///
/// # Errors
/// As [`parse`], and when they are not UTF-8.
pub fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Config, ConfigErrors> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(text, file_name),
        Err(error) => error,
    };
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_large(file_name));
    }
    let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    let all = String::from_utf8_lossy(bytes);
    let line = good.matches('\n').count() + 1;
    let column = good.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    let mut reading = Reading::new(file_name, &all);
    reading.wrong_at(
        Place { line, column, length: 1 },
        &Trail::ROOT,
        "this is not UTF-8 text",
        "save the file in UTF-8, the encoding of YAML",
    );
    Err(ConfigErrors::new(reading.problems))
}

/// Reads and checks `text`; `file_name` is for the messages, and relative paths in it are relative to its directory.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    if text.len() > MAX_FILE_BYTES {
        return Err(too_large(file_name));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reading = Reading::new(file_name, text);
    let (root, flaws) = match tree::parse(text) {
        Ok(parsed) => parsed,
        Err(flaw) => (None, vec![flaw]),
    };
    let stopped = root.is_none() && !flaws.is_empty();
    for flaw in flaws {
        reading.wrong_at(flaw.place, &Trail::ROOT, flaw.what, flaw.remedy);
    }
    let config = match root.filter(|root| !root.is_null()) {
        Some(root) => {
            let config = Config::read(&root, &Trail::ROOT, &mut reading);
            if let Some(config) = &config {
                check::check(config, &root, &mut reading);
            }
            config
        }
        None => {
            if !stopped {
                reading.wrong_file(
                    "the file is empty",
                    "begin with `version: 1`, `regions:` and `services:`; see examples/",
                );
            }
            None
        }
    };
    match config {
        Some(config) if reading.problems.is_empty() => Ok(config),
        _ => Err(ConfigErrors::new(reading.problems)),
    }
}

fn too_large(file_name: &str) -> ConfigErrors {
    let what = format!("the file is larger than {}", units::show_size(MAX_FILE_BYTES as u64));
    whole_file(file_name, &what, "a configuration this large is probably another kind of file")
}

fn whole_file(file_name: &str, what: &str, remedy: &str) -> ConfigErrors {
    let mut reading = Reading::new(file_name, "");
    reading.wrong_file(what, remedy);
    ConfigErrors::new(reading.problems)
}
