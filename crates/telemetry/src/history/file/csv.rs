//! The long format as comma-separated values (RFC 4180) with a header.

use std::io::Read;

use csv::{ReaderBuilder, StringRecord, Trim};

use crate::history::{
    error::Complaint,
    rows::{COLUMNS, NEEDED, Row},
    words,
};

/// A header, read: where each column stands.
pub(in crate::history) struct Header<const N: usize> {
    places: [Option<usize>; N],
    columns: [&'static str; N],
}

impl<const N: usize> Header<N> {
    pub(in crate::history) fn read(
        header: &StringRecord,
        columns: [&'static str; N],
        needed: &[&str],
    ) -> Result<Self, Complaint> {
        let mut places = [None; N];
        for (place, name) in header.iter().enumerate() {
            let Some(known) = columns.iter().position(|column| *column == name) else {
                return Err(Complaint::new(
                    "header",
                    format!("`{name}` is no column that means anything here"),
                    format!("leave it out; the columns are {}", columns.join(", ")),
                ));
            };
            if places[known].replace(place).is_some() {
                let what = format!("column {name} stands there twice");
                return Err(Complaint::new("header", what, "leave one of them out"));
            }
        }
        for column in needed {
            if columns.iter().position(|c| c == column).is_none_or(|known| places[known].is_none()) {
                return Err(Complaint::new(
                    "header",
                    format!("column {column} is missing"),
                    format!("begin the file with a line of names such as {}", needed.join(",")),
                ));
            }
        }
        Ok(Self { places, columns })
    }

    /// The text of a column; `None` when there is no such column, or nothing in it.
    pub(in crate::history) fn text<'a>(&self, record: &'a StringRecord, column: &str) -> Option<&'a str> {
        let known = self.columns.iter().position(|c| *c == column)?;
        record.get(self.places[known]?).filter(|text| !text.is_empty())
    }

    pub(in crate::history) fn must<'a>(
        &self,
        record: &'a StringRecord,
        column: &'static str,
    ) -> Result<&'a str, Complaint> {
        self.text(record, column).ok_or_else(|| {
            Complaint::new(format!("column {column}"), "nothing stands there", "every row needs it")
        })
    }
}

/// Reads records; `each` is given the number of the line on which a record began.
pub(in crate::history) fn records<const N: usize>(
    from: impl Read,
    columns: [&'static str; N],
    needed: &[&str],
    mut each: impl FnMut(u64, &Header<N>, &StringRecord) -> Result<(), Complaint>,
) -> Result<(), Complaint> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).from_reader(from);
    let header = Header::read(reader.headers().map_err(|e| complaint(&e))?, columns, needed)?;
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|e| complaint(&e))? {
        let line = record.position().map_or(0, csv::Position::line);
        each(line, &header, &record).map_err(|complaint| complaint.in_row(line))?;
    }
    Ok(())
}

fn complaint(error: &csv::Error) -> Complaint {
    let line = error.position().map(csv::Position::line);
    let (what, remedy) = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => (
            format!("{len} fields, where the header has {expected_len}"),
            "give every row as many fields as the header; quote text that holds commas",
        ),
        csv::ErrorKind::Utf8 { .. } => ("it is not UTF-8".to_owned(), "write the file as UTF-8"),
        csv::ErrorKind::Io(error) => (error.to_string(), "see whether the file can be read"),
        _ => (error.to_string(), "see whether this is a CSV file"),
    };
    let place = line.map_or_else(|| "file".to_owned(), |line| format!("row {line}"));
    Complaint::new(place, what, remedy)
}

/// Reads all rows of samples. A row is named by its line in the file.
pub(in crate::history) fn rows(
    from: impl Read,
    mut each: impl FnMut(&Row<'_>) -> Result<(), Complaint>,
) -> Result<(), Complaint> {
    records(from, COLUMNS, &NEEDED, |_, header, record| {
        let at = words::instant(header.must(record, "at")?)
            .map_err(|what| Complaint::new("column at", what, words::HOW_INSTANTS_ARE_WRITTEN))?;
        each(&Row {
            cell: header.must(record, "cell")?,
            service: header.text(record, "service"),
            metric: header.must(record, "metric")?,
            family: header.text(record, "family"),
            kind: header.text(record, "kind"),
            unit: header.text(record, "unit"),
            limit: number(header.text(record, "limit"), "limit")?,
            at,
            value: number(header.text(record, "value"), "value")?,
        })
    })
}

fn number(text: Option<&str>, column: &str) -> Result<Option<f64>, Complaint> {
    text.map(|text| {
        text.parse().map_err(|_| {
            Complaint::new(
                format!("column {column}"),
                format!("`{text}` is no number"),
                "write it with a point, without a unit, or leave it empty",
            )
        })
    })
    .transpose()
}
