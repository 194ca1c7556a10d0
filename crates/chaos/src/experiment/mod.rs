//! Experiments as files: what is believed, what is done to which cells, when, and what keeps it from doing harm.
//!
//! A file is read like the configuration: every problem is told at once, with its place and what would be right. What is
//! left out has a safe default. Start from [`load`] and [`Experiment`].

mod calendar;
mod check;
mod faults;
mod hypothesis;
mod limits;
mod outage;
pub mod parameters;
mod ramp;
mod schedule;
mod target;

use std::{collections::BTreeMap, path::Path, time::Duration};

pub use calendar::{Date, TimeOfDay, Weekday, show_instant};
pub use faults::FaultEntry;
use forefend_config::{
    ConfigErrors,
    model::Version,
    scalar, section,
    sections::{self, Document, Json, Node, Reading, all_defaults, json},
};
use forefend_domain::{CellId, ServiceId, Timestamp};
pub use hypothesis::{Hypothesis, Objectives};
pub use limits::{Approvals, GuardRails, StopConditions};
pub use outage::{Outage, OutageFault};
pub use ramp::Intermittent;
pub use schedule::{BlockWindow, Due, Past, Schedule};
pub use target::{BlastRadius, Role, TargetConfig, Whole};

section! {
    /// The whole file. It has `target` and `faults`, or `outage`.
    pub struct Experiment {
        /// The version of this format; always 1.
        version: Version,
        /// Its name, by which runs and labels are known.
        name: ExperimentName,
        /// What it is for.
        description: String = String::new(),
        /// What is believed.
        hypothesis: Hypothesis,
        /// Which cells the faults are done to.
        target: Option<TargetConfig>,
        /// What is done to them.
        faults: Vec<FaultEntry> = Vec::new(),
        /// The drill of a region, in place of `target` and `faults`.
        outage: Option<Outage>,
        /// When it begins by itself. Left out: by hand only.
        schedule: Schedule = all_defaults(),
        /// When it is refused.
        guard_rails: GuardRails = all_defaults(),
        /// When it ends at once.
        stop_conditions: StopConditions = all_defaults(),
        /// When nothing may run. Left out: it may always.
        block_windows: Vec<BlockWindow> = Vec::new(),
        /// Who must agree first.
        approvals: Approvals = all_defaults(),
    }
}

/// The name of an experiment: like that of a cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExperimentName(String);

impl ExperimentName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

scalar!(
    ExperimentName,
    "name",
    "A name: 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit.",
    json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" }),
    "a name",
    |text| CellId::new(text).map(|_| ExperimentName(text.to_owned())).map_err(|_| (
        format!("`{}` can't be the name of an experiment", text.escape_debug()),
        "use 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit".into()
    )),
    |value| value.as_str()
);

impl Document for Experiment {
    const CALLED: &'static str = "an experiment";
    const BEGINNING: &'static str =
        "begin with `version: 1`, `name:`, `hypothesis:`, `target:` and `faults:`; see examples/experiments/";

    fn check(&self, root: &Node, reading: &mut Reading<'_>) {
        check::check(self, root, reading);
    }
}

/// Reads and checks an experiment's file.
///
/// # Errors
/// Everything that is wrong with it, with places and remedies.
pub fn load(path: &Path) -> Result<Experiment, ConfigErrors> {
    sections::load(path)
}

/// Reads and checks an experiment; `file_name` is for the messages, and relative paths in it are relative to its directory.
///
/// # Errors
/// Everything that is wrong with it, with places and remedies.
pub fn parse(text: &str, file_name: &str) -> Result<Experiment, ConfigErrors> {
    sections::parse(text, file_name)
}

/// Like [`parse`] for bytes that may not be text.
///
/// # Errors
/// As [`parse`], and when they are not UTF-8.
pub fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Experiment, ConfigErrors> {
    sections::parse_bytes(bytes, file_name)
}

/// The JSON Schema (draft 2020-12) of an experiment's file.
#[must_use]
pub fn experiment_schema() -> Json {
    let id = "https://forefend.dev/schema/forefend-experiment-1.json";
    sections::schema_of::<Experiment>(id, "Forefend experiment")
}

/// The reference manual of an experiment's file in Markdown: every key with type, default and meaning.
#[must_use]
pub fn experiment_reference() -> String {
    let intro = include_str!("reference_intro.md");
    intro.to_owned() + &sections::reference_of::<Experiment>()
}

impl Experiment {
    /// The service that it is done to.
    ///
    /// # Panics
    /// Never for an experiment that was read: it has a target or an outage.
    #[must_use]
    pub fn service(&self) -> &ServiceId {
        let target = self.target.as_ref().map(|target| &target.service);
        let outage = self.outage.as_ref().map(|outage| &outage.service);
        // The check of the file refuses an experiment with neither.
        outage.or(target).expect("an experiment has a target or an outage")
    }

    /// Whether it is a drill: the outage of a region, not faults.
    #[must_use]
    pub fn is_drill(&self) -> bool {
        self.outage.is_some()
    }

    /// The services that are watched, each with what it keeps when it is well.
    #[must_use]
    pub fn steady_state(&self) -> BTreeMap<ServiceId, Objectives> {
        let mut all = self.hypothesis.steady_state.clone();
        all.entry(self.service().clone()).or_insert_with(all_defaults);
        all
    }

    /// How long it takes at most from the beginning of what is done until it must have recovered, as far as it can be known.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        let faults = self.faults.iter().map(FaultEntry::ends).max().unwrap_or_default();
        let outage = self.outage.as_ref().map(|o| o.moves_within + o.hold).unwrap_or_default();
        faults.max(outage)
    }

    /// The first instant from `from` to `to` at which nothing may run, and why in words.
    #[must_use]
    pub fn blocked(&self, from: Timestamp, to: Timestamp) -> Option<(Timestamp, &str)> {
        let windows = self.block_windows.iter();
        windows.filter_map(|w| Some((w.first_in(from, to)?, w.why.as_str()))).min_by_key(|(at, _)| *at)
    }
}
