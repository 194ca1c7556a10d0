//! The long format as Parquet (<https://parquet.apache.org/docs/file-format/>), compressed by Zstandard.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::{ParquetError, Result},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};

use crate::history::{
    error::HistoryError,
    recorded::History,
    rows::{Row, rows_of},
};

/// Where the file says its step, in milliseconds.
pub(in crate::history) const STEP_KEY: &str = "forefend.step_ms";

const SCHEMA: &str = "message history {
    REQUIRED BYTE_ARRAY cell (UTF8);
    REQUIRED BYTE_ARRAY service (UTF8);
    REQUIRED BYTE_ARRAY metric (UTF8);
    REQUIRED BYTE_ARRAY family (UTF8);
    REQUIRED BYTE_ARRAY kind (UTF8);
    REQUIRED BYTE_ARRAY unit (UTF8);
    OPTIONAL DOUBLE limit;
    REQUIRED INT64 at (TIMESTAMP(MILLIS,true));
    OPTIONAL DOUBLE value;
}";

/// Zstandard's own default: higher levels take several times the CPU time for some percent.
const ZSTD_LEVEL: i32 = 3;

/// Rows that are held until they are written: some 40 MB.
const ROWS_OF_A_GROUP: usize = 256 * 1_024;

/// Writes what was recorded as one Parquet file, which is there whole or not at all. Gaps and metrics without any sample or limit are not
/// written.
///
/// # Errors
/// [`HistoryError::Write`] when the file can't be written.
pub fn write_parquet(path: impl AsRef<Path>, history: &History) -> Result<(), HistoryError> {
    write_whole(path.as_ref(), |file| write_rows(file, history.step, rows_of(history)))
}

/// Writes under another name first, so that nobody reads half a file.
pub(in crate::history) fn write_whole(
    path: &Path,
    write: impl FnOnce(File) -> Result<File>,
) -> Result<(), HistoryError> {
    let unfinished = unfinished(path);
    let done = || -> std::io::Result<()> {
        let file = write(File::create(&unfinished)?).map_err(io)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    };
    done().map_err(|source| {
        // What is left of it takes room on a disk that may be full.
        let _ = std::fs::remove_file(&unfinished);
        HistoryError::Write { path: path.to_owned(), source }
    })
}

/// How the names of files end that are not written to their end yet.
pub(in crate::history) fn unfinished_suffix() -> &'static str {
    ".unfinished"
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(unfinished_suffix());
    PathBuf::from(name)
}

fn io(error: ParquetError) -> std::io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(io) => *io,
            Err(other) => std::io::Error::other(other),
        },
        other => std::io::Error::other(other),
    }
}

pub(in crate::history) fn write_rows<'a, W: Write + Send>(
    to: W,
    step: Duration,
    rows: impl Iterator<Item = Row<'a>>,
) -> Result<W> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(to, schema, Arc::new(properties(step)?))?;
    let mut group = Group::default();
    for row in rows {
        group.push(&row);
        if group.at.len() >= ROWS_OF_A_GROUP {
            std::mem::take(&mut group).write(&mut writer)?;
        }
    }
    if !group.at.is_empty() {
        group.write(&mut writer)?;
    }
    writer.into_inner()
}

fn properties(step: Duration) -> Result<WriterProperties> {
    let step = KeyValue::new(STEP_KEY.to_owned(), step.as_millis().to_string());
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_key_value_metadata(Some(vec![step]));
    // Instants are evenly apart; values move little, and so do their bytes, each with its own kind.
    for (column, encoding) in [("at", Encoding::DELTA_BINARY_PACKED), ("value", Encoding::BYTE_STREAM_SPLIT)]
    {
        let path = ColumnPath::from(column);
        properties =
            properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
    }
    Ok(properties.build())
}

/// The columns of rows that are not written yet.
#[derive(Default)]
struct Group {
    text: [Vec<ByteArray>; 6],
    limit: Maybe,
    at: Vec<i64>,
    value: Maybe,
}

#[derive(Default)]
struct Maybe {
    there: Vec<i16>,
    values: Vec<f64>,
}

impl Maybe {
    fn push(&mut self, value: Option<f64>) {
        self.there.push(i16::from(value.is_some()));
        self.values.extend(value);
    }
}

impl Group {
    fn push(&mut self, row: &Row<'_>) {
        let words = [
            row.cell,
            row.service.unwrap_or_default(),
            row.metric,
            row.family.unwrap_or_default(),
            row.kind.unwrap_or_default(),
            row.unit.unwrap_or_default(),
        ];
        for (column, word) in self.text.iter_mut().zip(words) {
            // Neighbours mostly agree, and share the bytes then.
            let shared = column.last().filter(|last| last.data() == word.as_bytes()).cloned();
            column.push(shared.unwrap_or_else(|| ByteArray::from(word)));
        }
        self.limit.push(row.limit);
        self.at.push(i64::try_from(row.at.unix_ms()).unwrap_or(i64::MAX));
        self.value.push(row.value);
    }

    fn write<W: Write + Send>(self, writer: &mut SerializedFileWriter<W>) -> Result<()> {
        let Self { text, limit, at, value } = self;
        let mut group = writer.next_row_group()?;
        let mut text = text.into_iter();
        let mut maybes = [limit, value].into_iter();
        while let Some(mut column) = group.next_column()? {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(w) => {
                    w.write_batch(&text.next().unwrap_or_default(), None, None)?;
                }
                ColumnWriter::Int64ColumnWriter(w) => {
                    w.write_batch(&at, None, None)?;
                }
                ColumnWriter::DoubleColumnWriter(w) => {
                    let Maybe { there, values } = maybes.next().unwrap_or_default();
                    w.write_batch(&values, Some(&there), None)?;
                }
                _ => return Err(ParquetError::General("a column of an unforeseen type".to_owned())),
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}
