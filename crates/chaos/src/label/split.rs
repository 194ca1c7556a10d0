use std::{collections::BTreeMap, time::Duration};

use forefend_domain::Timestamp;

use super::Label;

/// What is never divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// A run: another run of the same experiment may be on the other side. Asks: does it hold next week, too?
    Run,
    /// An experiment with all of its runs. Asks: does it hold for what was never tried? Only experiments with all runs on
    /// one side of the cut are used.
    Experiment,
}

/// Labels divided in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// To learn from: everything of them was over an embargo before the cut.
    pub train: Vec<Label>,
    /// To judge by: everything of them came after the cut.
    pub test: Vec<Label>,
    /// Used for neither.
    pub left_out: Vec<(Label, LeftOut)>,
}

/// A side of the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// To learn from.
    Train,
    /// To judge by.
    Test,
}

/// Why a label is used for neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// Its group was not over an embargo before the cut, and did not begin after it.
    Straddles,
    /// It had no end when it was written.
    NotEnded,
}

/// Divides labels at an instant.
///
/// What is learnt from ended `embargo` before the cut: windows and recoveries reach beyond a fault's end, and what follows it
/// would otherwise be known to the judge's side already (López de Prado 2018, Advances in Financial Machine Learning, §7.4).
#[must_use]
pub fn split(labels: &[Label], cut: Timestamp, embargo: Duration, by: GroupBy) -> Split {
    let mut groups: BTreeMap<&str, Vec<&Label>> = BTreeMap::new();
    for label in labels {
        let group = match by {
            GroupBy::Run => label.run.as_str(),
            GroupBy::Experiment => label.experiment.as_str(),
        };
        groups.entry(group).or_default().push(label);
    }
    let mut split = Split { train: Vec::new(), test: Vec::new(), left_out: Vec::new() };
    for group in groups.into_values() {
        match side(&group, cut, embargo) {
            Ok(Side::Train) => split.train.extend(group.into_iter().cloned()),
            Ok(Side::Test) => split.test.extend(group.into_iter().cloned()),
            Err(why) => split.left_out.extend(group.into_iter().map(|label| (label.clone(), why))),
        }
    }
    split
}

fn side(group: &[&Label], cut: Timestamp, embargo: Duration) -> Result<Side, LeftOut> {
    if group.iter().any(|label| last(label).is_none()) {
        return Err(LeftOut::NotEnded);
    }
    if group.iter().all(|label| label.begun >= cut) {
        return Ok(Side::Test);
    }
    // Added to the end, not taken from the cut, which could fall before the beginning of time.
    if group.iter().filter_map(|label| last(label)).all(|end| end + embargo <= cut) {
        return Ok(Side::Train);
    }
    Err(LeftOut::Straddles)
}

/// The last instant that a label tells of.
fn last(label: &Label) -> Option<Timestamp> {
    let ended = label.ended?;
    [Some(ended), label.undone, label.broke, label.emptied].into_iter().flatten().max()
}
