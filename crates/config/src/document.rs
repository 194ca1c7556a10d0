//! Files of any kind that sections describe: read, checked, refused with all that is wrong.

use std::{fs::File, io::Read, path::Path};

use crate::{
    problem::{ConfigErrors, Place},
    reading::{Reading, Trail},
    setting::Setting,
    tree::{self, Node},
    units,
};

/// Larger files are refused: some 10 000 cells fit.
pub const MAX_FILE_BYTES: usize = 2 << 20;

/// A section that is the whole of a file.
pub trait Document: Setting {
    /// What such a file is called: `a configuration`.
    const CALLED: &'static str;
    /// How one begins, for somebody whose file is empty.
    const BEGINNING: &'static str;

    /// Checks what no single value can tell, noting problems in the reading; `root` is the whole file.
    fn check(&self, root: &Node, reading: &mut Reading<'_>);
}

/// Reads and checks a file.
///
/// # Errors
/// Everything that is wrong with it: that it can't be read, isn't UTF-8, isn't YAML, or says what can't be.
pub fn load<T: Document>(path: &Path) -> Result<T, ConfigErrors> {
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
pub fn parse_bytes<T: Document>(bytes: &[u8], file_name: &str) -> Result<T, ConfigErrors> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(text, file_name),
        Err(error) => error,
    };
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_large::<T>(file_name));
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
pub fn parse<T: Document>(text: &str, file_name: &str) -> Result<T, ConfigErrors> {
    if text.len() > MAX_FILE_BYTES {
        return Err(too_large::<T>(file_name));
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
    let document = match root.filter(|root| !root.is_null()) {
        Some(root) => {
            let document = T::read(&root, &Trail::ROOT, &mut reading);
            if let Some(document) = &document {
                document.check(&root, &mut reading);
            }
            document
        }
        None => {
            if !stopped {
                reading.wrong_file("the file is empty", T::BEGINNING);
            }
            None
        }
    };
    match document {
        Some(document) if reading.problems.is_empty() => Ok(document),
        _ => Err(ConfigErrors::new(reading.problems)),
    }
}

fn too_large<T: Document>(file_name: &str) -> ConfigErrors {
    let what = format!("the file is larger than {}", units::show_size(MAX_FILE_BYTES as u64));
    whole_file(file_name, &what, &format!("{} this large is probably another kind of file", T::CALLED))
}

fn whole_file(file_name: &str, what: &str, remedy: &str) -> ConfigErrors {
    let mut reading = Reading::new(file_name, "");
    reading.wrong_file(what, remedy);
    ConfigErrors::new(reading.problems)
}
