//! The long format from Parquet, ours or that of others.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use forefend_domain::Timestamp;
use parquet::{
    basic::{LogicalType, TimeUnit, Type},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType},
    errors::ParquetError,
    file::reader::{ChunkReader, FileReader, SerializedFileReader},
    schema::types::ColumnDescriptor,
};

use super::parquet_write::STEP_KEY;
use crate::history::{
    error::Complaint,
    rows::{COLUMNS, NEEDED, Row},
    words,
};

/// Rows that are decoded at a time.
const BATCH: usize = 8_192;

/// Reads all rows. `each` may complain; the row is then named, counted from 1. Returns the step that the file tells.
pub(in crate::history) fn rows<R: ChunkReader + 'static>(
    from: R,
    mut each: impl FnMut(&Row<'_>) -> Result<(), Complaint>,
) -> Result<Option<Duration>, Complaint> {
    // The decoder promises errors for damaged files, but has met files on which it panicked.
    catch_unwind(AssertUnwindSafe(|| read(from, &mut each)))
        .unwrap_or_else(|_| Err(damaged("file", &"its decoder gave up")))
}

fn damaged(place: &str, why: &impl ToString) -> Complaint {
    Complaint::new(
        place,
        format!("it can't be read as Parquet ({})", why.to_string()),
        "see whether the file is whole, and compressed by nothing but zstd or snappy",
    )
}

fn read<R: ChunkReader + 'static>(
    from: R,
    each: &mut impl FnMut(&Row<'_>) -> Result<(), Complaint>,
) -> Result<Option<Duration>, Complaint> {
    let broken = |error: ParquetError| damaged("file", &error);
    let reader = SerializedFileReader::new(from).map_err(broken)?;
    let about = reader.metadata().file_metadata();
    let step = about
        .key_value_metadata()
        .and_then(|all| all.iter().find(|kept| kept.key == STEP_KEY)?.value.as_deref())
        .map(|ms| ms.parse().map(Duration::from_millis))
        .transpose()
        .map_err(|_| {
            Complaint::new("file", format!("{STEP_KEY} is no number"), "write milliseconds there")
        })?;
    let columns = columns(about.schema_descr().columns())?;
    let mut before = 0;
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number).map_err(broken)?;
        let mut open = Vec::with_capacity(columns.len());
        for column in &columns {
            open.push((column, group.get_column_reader(column.index).map_err(broken)?));
        }
        let rows = u64::try_from(group.metadata().num_rows()).unwrap_or(0);
        let mut done = 0;
        while done < rows {
            let wanted = usize::try_from(rows - done).map_or(BATCH, |left| left.min(BATCH));
            let mut batch = Batch::default();
            for (column, reader) in &mut open {
                batch.fill(column, reader, wanted, before + done)?;
            }
            for n in 0..wanted {
                let row = before + done + n as u64 + 1;
                batch.row(n).and_then(|r| each(&r)).map_err(|complaint| complaint.in_row(row))?;
            }
            done += wanted as u64;
        }
        before += rows;
    }
    Ok(step)
}

struct Column {
    name: &'static str,
    index: usize,
    /// How many units of an instant are a millisecond.
    per_ms: i64,
    optional: bool,
}

fn columns(all: &[std::sync::Arc<ColumnDescriptor>]) -> Result<Vec<Column>, Complaint> {
    let mut columns: Vec<Column> = Vec::new();
    for (index, described) in all.iter().enumerate() {
        let path = described.path().string();
        let Some(name) = COLUMNS.into_iter().find(|name| *name == path) else {
            return Err(Complaint::new(
                "schema",
                format!("`{path}` is no column that means anything here"),
                format!("leave it out; the columns are {}", COLUMNS.join(", ")),
            ));
        };
        if described.max_rep_level() > 0 || described.max_def_level() > 1 {
            return Err(Complaint::new("schema", format!("column {name} is nested"), "write plain values"));
        }
        if columns.iter().any(|known| known.name == name) {
            let what = format!("column {name} stands there twice");
            return Err(Complaint::new("schema", what, "leave one of them out"));
        }
        let optional = described.max_def_level() > 0;
        columns.push(Column { name, index, per_ms: check(name, described)?, optional });
    }
    for name in NEEDED {
        if !columns.iter().any(|column| column.name == name) {
            let remedy = format!("the file needs the columns {}", NEEDED.join(", "));
            return Err(Complaint::new("schema", format!("column {name} is missing"), remedy));
        }
    }
    Ok(columns)
}

/// Checks the type of a column. For instants: how many of their units are a millisecond.
fn check(name: &str, described: &ColumnDescriptor) -> Result<i64, Complaint> {
    let wrong = |remedy: &str| {
        let what = format!("column {name} is {}", described.physical_type());
        Err(Complaint::new("schema", what, remedy))
    };
    match (name, described.physical_type()) {
        ("at", Type::INT64) => match described.logical_type_ref() {
            Some(LogicalType::Timestamp(time)) => Ok(match time.unit {
                TimeUnit::MILLIS => 1,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1_000_000,
            }),
            None | Some(LogicalType::Integer(_)) => Ok(1),
            Some(_) => wrong("write instants as a timestamp, or as whole milliseconds since 1970"),
        },
        ("at", Type::BYTE_ARRAY) => Ok(1),
        ("at", _) => wrong("write instants as a timestamp, or as whole milliseconds since 1970"),
        ("limit" | "value", Type::DOUBLE | Type::FLOAT | Type::INT64 | Type::INT32) => Ok(1),
        ("limit" | "value", _) => wrong("write numbers"),
        (_, Type::BYTE_ARRAY) => Ok(1),
        _ => wrong("write text"),
    }
}

/// Some rows, column by column.
#[derive(Default)]
struct Batch {
    text: BTreeMap<&'static str, Vec<Option<ByteArray>>>,
    numbers: BTreeMap<&'static str, Vec<Option<f64>>>,
    at: Vec<Option<i64>>,
}

impl Batch {
    fn fill(
        &mut self,
        column: &Column,
        reader: &mut ColumnReader,
        wanted: usize,
        before: u64,
    ) -> Result<(), Complaint> {
        let name = column.name;
        let optional = column.optional;
        let read = match (reader, name) {
            (ColumnReader::ByteArrayColumnReader(r), _) => {
                take(r, wanted, optional).map(|values| drop(self.text.insert(name, values)))
            }
            (ColumnReader::Int64ColumnReader(r), "at") => take(r, wanted, optional).map(|values| {
                self.at = values.into_iter().map(|at| at.map(|at| at.div_euclid(column.per_ms))).collect();
            }),
            (ColumnReader::DoubleColumnReader(r), _) => {
                take(r, wanted, optional).map(|values| drop(self.numbers.insert(name, values)))
            }
            (ColumnReader::FloatColumnReader(r), _) => {
                take(r, wanted, optional).map(|values| self.numbers_from(name, values, f64::from))
            }
            (ColumnReader::Int64ColumnReader(r), _) => {
                take(r, wanted, optional).map(|values| self.numbers_from(name, values, |v| v as f64))
            }
            (ColumnReader::Int32ColumnReader(r), _) => {
                take(r, wanted, optional).map(|values| self.numbers_from(name, values, f64::from))
            }
            _ => Err(ParquetError::General("a column changes its type".to_owned())),
        };
        read.map_err(|error| damaged(&format!("column {name} after row {before}"), &error))
    }

    fn numbers_from<T>(&mut self, name: &'static str, values: Vec<Option<T>>, number: impl Fn(T) -> f64) {
        self.numbers.insert(name, values.into_iter().map(|value| value.map(&number)).collect());
    }

    fn word(&self, n: usize, name: &'static str) -> Result<Option<&str>, Complaint> {
        let Some(Some(bytes)) = self.text.get(name).and_then(|all| all.get(n)) else { return Ok(None) };
        let text = std::str::from_utf8(bytes.data()).map_err(|_| {
            Complaint::new(format!("column {name}"), "the text is not UTF-8", "write text as UTF-8")
        })?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn must(&self, n: usize, name: &'static str) -> Result<&str, Complaint> {
        self.word(n, name)?.ok_or_else(|| nothing(name))
    }

    fn instant(&self, n: usize) -> Result<Timestamp, Complaint> {
        let wrong = |what| Complaint::new("column at", what, words::HOW_INSTANTS_ARE_WRITTEN);
        match self.at.get(n) {
            Some(Some(at)) => u64::try_from(*at)
                .map(Timestamp::from_unix_ms)
                .map_err(|_| wrong(format!("{at} is before 1970"))),
            Some(None) => Err(nothing("at")),
            None => words::instant(self.must(n, "at")?).map_err(wrong),
        }
    }

    fn row(&self, n: usize) -> Result<Row<'_>, Complaint> {
        let number = |name| self.numbers.get(name).and_then(|all| all.get(n).copied().flatten());
        Ok(Row {
            cell: self.must(n, "cell")?,
            service: self.word(n, "service")?,
            metric: self.must(n, "metric")?,
            family: self.word(n, "family")?,
            kind: self.word(n, "kind")?,
            unit: self.word(n, "unit")?,
            limit: number("limit"),
            at: self.instant(n)?,
            value: number("value"),
        })
    }
}

fn nothing(name: &str) -> Complaint {
    Complaint::new(format!("column {name}"), "nothing stands there", "every row needs it")
}

fn take<D: DataType>(
    reader: &mut ColumnReaderImpl<D>,
    wanted: usize,
    optional: bool,
) -> Result<Vec<Option<D::T>>, ParquetError> {
    let (mut values, mut there) = (Vec::new(), Vec::new());
    let (records, _, _) = reader.read_records(wanted, Some(&mut there), None, &mut values)?;
    if records != wanted {
        return Err(ParquetError::General(format!("{records} values where {wanted} should stand")));
    }
    if !optional {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(there.iter().map(|level| if *level > 0 { values.next() } else { None }).collect())
}
