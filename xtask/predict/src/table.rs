//! Parquet files of others, column by column.

use std::{collections::BTreeMap, fs::File, path::Path};

use anyhow::{Context, Result, bail};
use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    file::reader::{FileReader, SerializedFileReader},
};

/// A table in memory. Numbers of every width are `f64`; what is null is NaN, or an empty text.
#[derive(Debug, Default)]
pub(crate) struct Table {
    numbers: BTreeMap<String, Vec<f64>>,
    texts: BTreeMap<String, Vec<String>>,
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read, or has a column of a type that is neither number nor text.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let open = || -> Result<_> { Ok(SerializedFileReader::new(File::open(path)?)?) };
        let reader = open().with_context(|| format!("can't read {}", path.display()))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let names: Vec<String> = schema.columns().iter().map(|c| c.name().to_owned()).collect();
        let mut table = Self::default();
        for number in 0..reader.num_row_groups() {
            let group = reader.get_row_group(number)?;
            let rows = usize::try_from(group.metadata().num_rows())?;
            for (n, name) in names.iter().enumerate() {
                table
                    .take(name, group.get_column_reader(n)?, rows)
                    .with_context(|| format!("column {name} of {}", path.display()))?;
            }
        }
        Ok(table)
    }

    fn take(&mut self, name: &str, reader: ColumnReader, rows: usize) -> Result<()> {
        let numbers = match reader {
            ColumnReader::BoolColumnReader(r) => values(r, rows, |v| f64::from(u8::from(*v)), f64::NAN)?,
            ColumnReader::Int32ColumnReader(r) => values(r, rows, |v| f64::from(*v), f64::NAN)?,
            ColumnReader::Int64ColumnReader(r) => values(r, rows, |v| *v as f64, f64::NAN)?,
            ColumnReader::FloatColumnReader(r) => values(r, rows, |v| f64::from(*v), f64::NAN)?,
            ColumnReader::DoubleColumnReader(r) => values(r, rows, |v| *v, f64::NAN)?,
            ColumnReader::ByteArrayColumnReader(r) => {
                let text = |v: &parquet::data_type::ByteArray| String::from_utf8_lossy(v.data()).into_owned();
                let texts = values(r, rows, text, String::new())?;
                self.texts.entry(name.to_owned()).or_default().extend(texts);
                return Ok(());
            }
            _ => bail!("is of a type that is not read here"),
        };
        self.numbers.entry(name.to_owned()).or_default().extend(numbers);
        Ok(())
    }

    /// A column of numbers.
    ///
    /// # Errors
    /// When there is none of this name.
    pub(crate) fn numbers(&self, name: &str) -> Result<&[f64]> {
        self.numbers.get(name).map(Vec::as_slice).with_context(|| format!("there is no column {name}"))
    }

    /// A column of texts.
    ///
    /// # Errors
    /// When there is none of this name.
    pub(crate) fn texts(&self, name: &str) -> Result<&[String]> {
        self.texts.get(name).map(Vec::as_slice).with_context(|| format!("there is no column {name}"))
    }
}

fn values<T: DataType, V: Clone>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    of: impl Fn(&T::T) -> V,
    null: V,
) -> Result<Vec<V>> {
    let (mut found, mut there) = (Vec::new(), Vec::new());
    reader.read_records(rows, Some(&mut there), None, &mut found)?;
    if found.len() == rows {
        return Ok(found.iter().map(of).collect());
    }
    let mut found = found.iter();
    Ok(there
        .iter()
        .map(|t| if *t > 0 { found.next().map_or(null.clone(), &of) } else { null.clone() })
        .collect())
}
