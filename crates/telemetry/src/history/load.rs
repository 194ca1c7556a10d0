use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use forefend_domain::{CellId, Timestamp};

use super::{
    error::{Complaint, HistoryError},
    file::{csv, parquet_read},
    recorded::History,
    rows::{Gathered, Row},
    source::HistorySource,
};

/// What of a source is read, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// The distance between samples; `None`: what the source tells, else the median distance of its samples.
    pub step: Option<Duration>,
    /// Nothing before this instant.
    pub from: Option<Timestamp>,
    /// Nothing after this instant.
    pub to: Option<Timestamp>,
    /// Only these cells.
    pub cells: Option<BTreeSet<CellId>>,
    /// The bound of rows that are kept, at 24 bytes each while they are read and 16 afterwards.
    pub max_rows: u64,
}

impl Default for LoadOptions {
    /// All, up to 20 million rows: half a gigabyte.
    fn default() -> Self {
        Self { step: None, from: None, to: None, cells: None, max_rows: 20_000_000 }
    }
}

impl LoadOptions {
    fn wants(&self, row: &Row<'_>) -> bool {
        self.from.is_none_or(|from| row.at >= from)
            && self.to.is_none_or(|to| row.at <= to)
            && self.cells.as_ref().is_none_or(|cells| cells.contains(row.cell))
    }

    fn selects(&self) -> bool {
        self.from.is_some() || self.to.is_some() || self.cells.is_some()
    }
}

/// Reads a history. Of a folder all files are read whose names end in `.parquet` or `.csv`, in the order of their names, none of its folders,
/// and no `incidents.csv`.
///
/// # Errors
/// [`HistoryError`] names the file, the row and the column, and what to do.
pub fn load(source: &HistorySource, options: &LoadOptions) -> Result<History, HistoryError> {
    match source {
        HistorySource::Files(path) => load_files(path, options),
    }
}

fn load_files(path: &Path, options: &LoadOptions) -> Result<History, HistoryError> {
    let mut gathered = Gathered::default();
    for file in files(path)? {
        read_file(&file, options, &mut gathered)?;
    }
    let source_name = path.display().to_string();
    if gathered.rows() == 0 {
        let (within, remedy) = if options.selects() {
            (" of the time and the cells asked for", "ask for more")
        } else {
            ("", "name a file with rows, or a folder with .parquet or .csv files")
        };
        return Err(HistoryError::Nothing { source_name, within, remedy });
    }
    gathered.finish(options.step).ok_or(HistoryError::NoStep { source_name })
}

fn files(path: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    if !path.metadata().map_err(HistoryError::read(path))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(HistoryError::read(path))? {
        let file = entry.map_err(HistoryError::read(path))?.path();
        let incidents = file.file_name().is_some_and(|name| name == "incidents.csv");
        if Format::of(&file).is_some() && !incidents && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

enum Format {
    Parquet,
    Csv,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

fn read_file(path: &Path, options: &LoadOptions, into: &mut Gathered) -> Result<(), HistoryError> {
    let Some(format) = Format::of(path) else {
        let what = "its name ends in neither .parquet nor .csv";
        return Err(Complaint::new("file", what, "name the file by what it is").of(path));
    };
    let file = File::open(path).map_err(HistoryError::read(path))?;
    let read = gather(into, options, |keep| match format {
        Format::Csv => csv::rows(file, keep).map(|()| None),
        Format::Parquet => parquet_read::rows(file, keep),
    });
    let step = read.map_err(|stopped| match stopped {
        Stopped::Complaint(complaint) => complaint.of(path),
        Stopped::TooMuch => {
            let source_name = path.display().to_string();
            HistoryError::TooMuch { source_name, max_rows: options.max_rows }
        }
    })?;
    if let Some(step) = step {
        into.told_step(step);
    }
    Ok(())
}

/// Reads a table of CSV from memory; `None` when its step is neither told nor to be seen.
///
/// # Errors
/// [`Complaint`] names the row and the column, and what to do.
pub fn parse_csv(text: &[u8], options: &LoadOptions) -> Result<Option<History>, Complaint> {
    let mut gathered = Gathered::default();
    gather(&mut gathered, options, |keep| csv::rows(text, keep)).map_err(|stopped| match stopped {
        Stopped::Complaint(complaint) => complaint,
        Stopped::TooMuch => {
            let what = format!("there are more than {} rows", options.max_rows);
            Complaint::new("file", what, "read a shorter time or fewer cells")
        }
    })?;
    Ok(gathered.finish(options.step))
}

enum Stopped {
    Complaint(Complaint),
    TooMuch,
}

/// What takes a row, and may stop the reading.
type Keep<'a> = dyn FnMut(&Row<'_>) -> Result<(), Complaint> + 'a;

/// Lets `read` read, and keeps the rows that are wanted within the bound.
fn gather<T>(
    into: &mut Gathered,
    options: &LoadOptions,
    read: impl FnOnce(&mut Keep<'_>) -> Result<T, Complaint>,
) -> Result<T, Stopped> {
    let mut too_much = false;
    let result = read(&mut |row| {
        if !options.wants(row) {
            return Ok(());
        }
        too_much = into.rows() >= options.max_rows;
        if too_much {
            return Err(Complaint::new("file", "too many rows", "read fewer"));
        }
        into.add(row)
    });
    match result {
        _ if too_much => Err(Stopped::TooMuch),
        result => result.map_err(Stopped::Complaint),
    }
}
