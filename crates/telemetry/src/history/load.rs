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
    prometheus,
    recorded::History,
    rows::{Gathered, Row},
    source::HistorySource,
    store::{self, Outcomes},
};
use crate::access::Access;

/// What of a source is read, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// The distance between samples; `None`: what the source tells, else the median distance of its samples; of a Prometheus 15 s.
    pub step: Option<Duration>,
    /// Nothing before this instant. A Prometheus needs it.
    pub from: Option<Timestamp>,
    /// Nothing after this instant. A Prometheus needs it.
    pub to: Option<Timestamp>,
    /// Only these cells.
    pub cells: Option<BTreeSet<CellId>>,
    /// The bound of rows that are kept, at 24 bytes each while they are read and 16 afterwards.
    pub max_rows: u64,
    /// Of a Prometheus: the file that says which expressions are which metrics of which cells.
    pub mapping: Option<PathBuf>,
    /// Of a Prometheus: what it wants to be shown, and who vouches for it.
    pub access: Access,
}

impl Default for LoadOptions {
    /// All, up to 20 million rows: half a gigabyte.
    fn default() -> Self {
        Self {
            step: None,
            from: None,
            to: None,
            cells: None,
            max_rows: 20_000_000,
            mapping: None,
            access: Access::default(),
        }
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

/// Reads a history. Of a folder all files are read whose names end in `.parquet`, `.csv` or `.journal`, in the order of their names, none of its
/// folders, and no `incidents.csv`. The folder of an engine's store may be read while the engine runs.
///
/// # Errors
/// [`HistoryError`] names the file, the row and the column, and what to do.
pub fn load(source: &HistorySource, options: &LoadOptions) -> Result<History, HistoryError> {
    match source {
        HistorySource::Files(path) => load_files(path, options),
        HistorySource::Prometheus(url) => {
            let mut gathered = Gathered::default();
            prometheus::read(url, options, &mut gathered)?;
            finish(gathered, options, source.to_string())
        }
    }
}

/// How often a folder is listed anew because a file of it was gone: the engine's store seals and drops files while it is read.
const LISTINGS: usize = 5;

fn load_files(path: &Path, options: &LoadOptions) -> Result<History, HistoryError> {
    let mut listings = 1;
    let gathered = loop {
        let mut gathered = Gathered::default();
        match files(path, options)?.iter().try_for_each(|file| read_file(file, options, &mut gathered)) {
            Ok(()) => break gathered,
            Err(error) if error.is_gone() && path.is_dir() && listings < LISTINGS => listings += 1,
            Err(error) => return Err(error),
        }
    };
    finish(gathered, options, path.display().to_string())
}

fn finish(gathered: Gathered, options: &LoadOptions, source_name: String) -> Result<History, HistoryError> {
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

/// What can be read of a folder, and the errors of what can't.
pub(super) fn what_can_be_read(folder: &Path, options: &LoadOptions) -> (Option<History>, Vec<HistoryError>) {
    let mut gathered = Gathered::default();
    let files = match files(folder, options) {
        Ok(files) => files,
        Err(error) => return (None, vec![error]),
    };
    let errors = files.iter().filter_map(|file| read_file(file, options, &mut gathered).err()).collect();
    (Some(gathered).filter(|g| g.rows() > 0).and_then(|g| g.finish(options.step)), errors)
}

/// What became of cells, as recorded in the folder of an engine's store.
///
/// # Errors
/// [`HistoryError`] names the file and what to do.
pub fn load_outcomes(source: &HistorySource) -> Result<Outcomes, HistoryError> {
    let HistorySource::Files(folder) = source else {
        let why = "it knows no failures; name a file of incidents".to_owned();
        return Err(HistoryError::NoSource { text: source.to_string(), why });
    };
    let mut listings = 1;
    loop {
        match store::folder::outcomes(folder) {
            Err(error) if error.is_gone() && folder.is_dir() && listings < LISTINGS => listings += 1,
            read => return read.map(Outcomes::of),
        }
    }
}

fn files(path: &Path, options: &LoadOptions) -> Result<Vec<PathBuf>, HistoryError> {
    if !path.metadata().map_err(HistoryError::read(path))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(HistoryError::read(path))? {
        let file = entry.map_err(HistoryError::read(path))?.path();
        let incidents = file.file_name().is_some_and(|name| name == "incidents.csv");
        // Files of the engine's store say in their names what time they hold.
        let outside = store::folder::span(&file).is_some_and(|(first, last)| {
            options.from.is_some_and(|from| last < from) || options.to.is_some_and(|to| first > to)
        });
        if Format::of(&file).is_some() && !incidents && !outside && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

enum Format {
    Parquet,
    Csv,
    Journal,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "journal" => Some(Self::Journal),
            _ => None,
        }
    }
}

fn read_file(path: &Path, options: &LoadOptions, into: &mut Gathered) -> Result<(), HistoryError> {
    let Some(format) = Format::of(path) else {
        let what = "its name ends in neither .parquet nor .csv";
        return Err(Complaint::new("file", what, "name the file by what it is").of(path));
    };
    let open = || File::open(path).map_err(HistoryError::read(path));
    let read = gather(into, options, |keep| match format {
        Format::Csv => csv::rows(open()?, keep).map(|()| None).map_err(|complaint| complaint.of(path)),
        Format::Parquet => parquet_read::rows(open()?, keep).map_err(|complaint| complaint.of(path)),
        Format::Journal => store::folder::read_journal(path, keep).map(|end| end.step),
    });
    let step = read.map_err(|stopped| match stopped {
        Stopped::Error(error) => error,
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
        Stopped::Error(complaint) => complaint,
        Stopped::TooMuch => {
            let what = format!("there are more than {} rows", options.max_rows);
            Complaint::new("file", what, "read a shorter time or fewer cells")
        }
    })?;
    Ok(gathered.finish(options.step))
}

enum Stopped<E> {
    Error(E),
    TooMuch,
}

/// What takes a row, and may stop the reading.
type Keep<'a> = dyn FnMut(&Row<'_>) -> Result<(), Complaint> + 'a;

/// Lets `read` read, and keeps the rows that are wanted within the bound.
fn gather<T, E>(
    into: &mut Gathered,
    options: &LoadOptions,
    read: impl FnOnce(&mut Keep<'_>) -> Result<T, E>,
) -> Result<T, Stopped<E>> {
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
        result => result.map_err(Stopped::Error),
    }
}
