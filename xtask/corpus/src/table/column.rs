use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    column::{reader::ColumnReader, writer::ColumnWriter},
    data_type::ByteArray,
    file::{
        metadata::KeyValue,
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column {
    Int(Vec<i32>),
    Float(Vec<f32>),
    MaybeDouble(Vec<Option<f64>>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

impl Column {
    fn declared(&self, name: &str) -> String {
        match self {
            Self::Int(_) => format!("REQUIRED INT32 {name};"),
            Self::Float(_) => format!("REQUIRED FLOAT {name};"),
            Self::MaybeDouble(_) => format!("OPTIONAL DOUBLE {name};"),
            Self::Bool(_) => format!("REQUIRED BOOLEAN {name};"),
            Self::Text(_) => format!("REQUIRED BYTE_ARRAY {name} (UTF8);"),
        }
    }

    pub(super) fn ints(self) -> Result<Vec<i32>> {
        match self {
            Self::Int(values) => Ok(values),
            other => bail!("not a column of whole numbers: {}", other.declared("it")),
        }
    }

    pub(super) fn floats(self) -> Result<Vec<f32>> {
        match self {
            Self::Float(values) => Ok(values),
            other => bail!("not a column of numbers: {}", other.declared("it")),
        }
    }

    pub(super) fn doubles(self) -> Result<Vec<Option<f64>>> {
        match self {
            Self::MaybeDouble(values) => Ok(values),
            other => bail!("not a column of numbers with gaps: {}", other.declared("it")),
        }
    }

    pub(super) fn bools(self) -> Result<Vec<bool>> {
        match self {
            Self::Bool(values) => Ok(values),
            other => bail!("not a column of truths: {}", other.declared("it")),
        }
    }

    pub(super) fn text(self) -> Result<Vec<String>> {
        match self {
            Self::Text(values) => Ok(values),
            other => bail!("not a column of text: {}", other.declared("it")),
        }
    }
}

/// The highest: the corpus is written once and read by everybody.
const ZSTD_LEVEL: i32 = 19;
const ABOUT: &str = "about";

/// Writes a table of columns of the same length. `about` is kept with it.
pub(super) fn save(path: &Path, columns: Vec<(&str, Column)>, about: Option<&str>) -> Result<()> {
    let fields: String = columns.iter().map(|(name, column)| column.declared(name)).collect();
    let schema = Arc::new(parse_message_type(&format!("message table {{ {fields} }}"))?);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_key_value_metadata(about.map(|text| vec![KeyValue::new(ABOUT.to_owned(), text.to_owned())]));
    for (name, column) in &columns {
        let path = ColumnPath::from(*name);
        properties = match column {
            // Telemetry moves little from step to step, and so do its bytes, each with its own kind.
            Column::Float(_) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT),
            Column::Int(_) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            Column::MaybeDouble(_) | Column::Bool(_) | Column::Text(_) => properties,
        };
    }
    let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))?;
    let mut group = writer.next_row_group()?;
    for (_, column) in columns {
        let mut open = group.next_column()?.context("fewer columns than declared")?;
        match (open.untyped(), column) {
            (ColumnWriter::Int32ColumnWriter(w), Column::Int(values)) => {
                w.write_batch(&values, None, None)?
            }
            (ColumnWriter::FloatColumnWriter(w), Column::Float(values)) => {
                w.write_batch(&values, None, None)?
            }
            (ColumnWriter::BoolColumnWriter(w), Column::Bool(values)) => {
                w.write_batch(&values, None, None)?
            }
            (ColumnWriter::DoubleColumnWriter(w), Column::MaybeDouble(values)) => {
                let there: Vec<i16> = values.iter().map(|v| i16::from(v.is_some())).collect();
                let values: Vec<f64> = values.into_iter().flatten().collect();
                w.write_batch(&values, Some(&there), None)?
            }
            (ColumnWriter::ByteArrayColumnWriter(w), Column::Text(values)) => {
                let values: Vec<ByteArray> = values.iter().map(|v| ByteArray::from(v.as_str())).collect();
                w.write_batch(&values, None, None)?
            }
            _ => bail!("a column is not of the type declared"),
        };
        open.close()?;
    }
    group.close()?;
    writer.close()?;
    Ok(())
}

/// Reads a table, and what was kept with it.
pub(super) fn read(path: &Path) -> Result<(BTreeMap<String, Column>, Option<String>)> {
    let open = || -> Result<_> { Ok(SerializedFileReader::new(File::open(path)?)?) };
    let reader = open().with_context(|| format!("can't read {}", path.display()))?;
    let file = reader.metadata().file_metadata();
    let about =
        file.key_value_metadata().and_then(|all| all.iter().find(|kept| kept.key == ABOUT)?.value.clone());
    let names: Vec<String> = file.schema_descr().columns().iter().map(|c| c.name().to_owned()).collect();
    let mut columns = BTreeMap::new();
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number)?;
        let rows = usize::try_from(group.metadata().num_rows())?;
        for (n, name) in names.iter().enumerate() {
            let more = read_column(group.get_column_reader(n)?, rows)?;
            match (columns.get_mut(name), more) {
                (None, more) => drop(columns.insert(name.clone(), more)),
                (Some(Column::Int(all)), Column::Int(more)) => all.extend(more),
                (Some(Column::Float(all)), Column::Float(more)) => all.extend(more),
                (Some(Column::MaybeDouble(all)), Column::MaybeDouble(more)) => all.extend(more),
                (Some(Column::Bool(all)), Column::Bool(more)) => all.extend(more),
                (Some(Column::Text(all)), Column::Text(more)) => all.extend(more),
                _ => bail!("column {name} changes its type"),
            }
        }
    }
    Ok((columns, about))
}

fn read_column(reader: ColumnReader, rows: usize) -> Result<Column> {
    Ok(match reader {
        ColumnReader::Int32ColumnReader(mut reader) => {
            let mut values = Vec::new();
            reader.read_records(rows, None, None, &mut values)?;
            Column::Int(values)
        }
        ColumnReader::FloatColumnReader(mut reader) => {
            let mut values = Vec::new();
            reader.read_records(rows, None, None, &mut values)?;
            Column::Float(values)
        }
        ColumnReader::BoolColumnReader(mut reader) => {
            let mut values = Vec::new();
            reader.read_records(rows, None, None, &mut values)?;
            Column::Bool(values)
        }
        ColumnReader::DoubleColumnReader(mut reader) => {
            let (mut values, mut there) = (Vec::new(), Vec::new());
            reader.read_records(rows, Some(&mut there), None, &mut values)?;
            let mut values = values.into_iter();
            Column::MaybeDouble(there.iter().map(|t| if *t > 0 { values.next() } else { None }).collect())
        }
        ColumnReader::ByteArrayColumnReader(mut reader) => {
            let mut values = Vec::new();
            reader.read_records(rows, None, None, &mut values)?;
            let text: Result<Vec<String>, _> =
                values.iter().map(|v| v.as_utf8().map(str::to_owned)).collect();
            Column::Text(text?)
        }
        _ => bail!("a column of a type that no table of a corpus has"),
    })
}
