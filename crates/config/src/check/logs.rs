use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Check;
use crate::{
    model::{LogLimitConfig, LogsConfig, ServiceConfig},
    reading::Trail,
};

/// Endings of files that were rotated away and packed: nothing is written to them.
const PACKED: [&str; 5] = ["gz", "bz2", "xz", "zst", "zip"];

impl Check<'_, '_, '_> {
    pub(super) fn logs(&mut self, at: &Trail<'_>, service: &ServiceConfig) {
        let cells = at.key("cells");
        for (i, cell) in service.cells.iter().enumerate() {
            let here = cells.index(i);
            let here = here.key("logs");
            self.log_paths(&here, &cell.logs);
            if !cell.logs.is_empty() && service.logs.is_none() && self.reading.clean(&at.key("logs")) {
                let remedy = "add `logs: {}` to the service";
                self.wrong(&here, "logs of this service are not read", remedy);
            }
        }
        let Some(logs) = &service.logs else { return };
        let at = at.key("logs");
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        self.log_paths(&at.key("paths"), &logs.paths);
        self.range(&at.key("interval"), &logs.interval, ms(100), s(10));
        self.range(&at.key("templates"), &logs.templates, 0, 64);
        self.range(&at.key("novel_for"), &logs.novel_for, s(10), s(86_400));
        self.shared_log(&at, service, logs);
        self.log_limits(&at.key("limits"), logs);
    }

    fn log_paths(&mut self, at: &Trail<'_>, paths: &[PathBuf]) {
        let ending = |path: &Path| path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
        for (i, path) in paths.iter().enumerate() {
            if PACKED.contains(&ending(path).as_str()) {
                let what = format!("{} is packed, and nothing is written to it any more", path.display());
                self.wrong(&at.index(i), what, "name the file that the log is written to");
            }
            if paths[..i].contains(path) {
                self.wrong(&at.index(i), "the file is named twice", "keep one of them");
            }
        }
    }

    /// Lines of a file that is every cell's would speak for each of them.
    fn shared_log(&mut self, at: &Trail<'_>, service: &ServiceConfig, logs: &LogsConfig) {
        let foreign = service.cells.iter().filter(|cell| cell.address.is_some()).count();
        let paths = at.key("paths");
        for (i, path) in logs.paths.iter().enumerate().filter(|_| foreign > 1) {
            if !path.to_string_lossy().contains("{cell}") && self.reading.clean(&paths) {
                let what = format!("{} would be the log of each of {foreign} cells", path.display());
                let remedy = "write `{cell}` where the cell's name stands, or name the file at the cell: `cells[].logs`";
                self.wrong(&paths.index(i), what, remedy);
            }
        }
    }

    fn log_limits(&mut self, at: &Trail<'_>, logs: &LogsConfig) {
        const MOST: usize = 16;
        if logs.limits.len() > MOST {
            self.wrong(at, format!("{} limits are too many", logs.limits.len()), "keep at most 16");
        }
        let mut seen = BTreeSet::new();
        for (i, limit) in logs.limits.iter().enumerate() {
            let at = at.index(i);
            let LogLimitConfig { severity, line, limit } = limit;
            match (severity, line) {
                (Some(_), Some(_)) => {
                    self.wrong(&at, "a limit has both `severity` and `line`", "make two limits of it");
                }
                (None, None) if self.reading.clean(&at) => {
                    let remedy = "add `severity: error`, or `line: \"connection to <*> refused\"`";
                    self.wrong(&at, "a limit has neither `severity` nor `line`", remedy);
                }
                (_, Some(line)) if is_any_line(line) => {
                    let remedy = "write words that stand in each of the lines";
                    self.wrong(&at.key("line"), "that would be every line", remedy);
                }
                _ => {}
            }
            if !seen.insert((*severity, line.clone())) {
                self.wrong(&at, "two limits are for the same lines", "keep the lower one");
            }
            if limit.value <= 0.0 {
                let remedy = "write the rate that must not be reached, for example `5/s`";
                self.wrong(&at.key("limit"), "a limit must be above 0", remedy);
            }
        }
    }
}

/// Whether nothing is left without what stands for anything, as names of templates show it.
fn is_any_line(text: &str) -> bool {
    const ANYTHING: [&str; 6] = ["<*>", "<num>", "<ip>", "<hex>", "<uuid>", "<path>"];
    ANYTHING.iter().fold(text.to_owned(), |text, any| text.replace(any, "")).trim().is_empty()
}
