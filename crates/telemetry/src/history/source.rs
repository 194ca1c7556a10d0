use std::{fmt, path::PathBuf, str::FromStr};

use super::error::HistoryError;

/// Where a history is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistorySource {
    /// A file, Parquet or CSV by its ending, or a folder of such files.
    Files(PathBuf),
}

impl FromStr for HistorySource {
    type Err = HistoryError;

    /// A path as it is.
    fn from_str(text: &str) -> Result<Self, HistoryError> {
        if text.is_empty() {
            let why = "it is empty; name a file or a folder".to_owned();
            return Err(HistoryError::NoSource { text: text.to_owned(), why });
        }
        Ok(Self::Files(PathBuf::from(text)))
    }
}

impl fmt::Display for HistorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path) => path.display().fmt(f),
        }
    }
}
