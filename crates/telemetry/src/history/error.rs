use std::path::{Path, PathBuf};

/// A history could not be read or written. Each error says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file or folder can't be read.
    #[error("can't read {}: {source}; see whether it is there and may be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file can't be written.
    #[error("can't write {}: {source}; see whether its folder is there and the disk has room", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {place}: {what}; {remedy}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Where in it: `row 3, column at`.
        place: String,
        /// What is wrong there.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The source holds more than may be read at once.
    #[error(
        "{source_name} holds more than {max_rows} rows; read a shorter time or fewer cells, or raise the bound where there is memory for it (24 bytes a row)"
    )]
    TooMuch {
        /// Which source.
        source_name: String,
        /// The bound.
        max_rows: u64,
    },
    /// There is nothing to read.
    #[error("{source_name} holds no sample{within}; {remedy}")]
    Nothing {
        /// Which source.
        source_name: String,
        /// ` of the time and the cells asked for`, or nothing.
        within: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The step is neither told nor to be seen.
    #[error(
        "the step of {source_name} can't be seen, because no metric has two samples; say it, for example 10s"
    )]
    NoStep {
        /// Which source.
        source_name: String,
    },
    /// A Prometheus does not answer a question as it should.
    #[error("{source_name}: `{expression}`: {what}; {remedy}")]
    Query {
        /// Which.
        source_name: String,
        /// The expression that was asked.
        expression: String,
        /// What is wrong.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// What should name a source does not.
    #[error("`{text}` names no history: {why}")]
    NoSource {
        /// As given.
        text: String,
        /// Why not, and what would.
        why: String,
    },
}

impl HistoryError {
    pub(super) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Write { path: path.to_owned(), source }
    }

    /// Whether a file went away between being listed and being read.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// What is wrong at a place of a file whose name somebody else knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; {remedy}")]
pub struct Complaint {
    /// Where: `row 3, column at`.
    pub place: String,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Complaint {
    pub(super) fn new(place: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Of a column whose row somebody else knows.
    pub(super) fn in_row(self, row: u64) -> Self {
        Self { place: format!("row {row}, {}", self.place), ..self }
    }

    pub(super) fn of(self, path: &Path) -> HistoryError {
        let Self { place, what, remedy } = self;
        HistoryError::Wrong { path: path.to_owned(), place, what, remedy }
    }
}
