use serde_json::Value as Json;

use super::{Label, VERSION};

/// Longer lines are refused: no label is that long.
const MAX_LINE_BYTES: usize = 64 << 10;

/// A line that is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct LabelError {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: LabelProblem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelProblem {
    /// The text is not UTF-8 or the line is too long.
    #[error("it is not a line of text of at most {MAX_LINE_BYTES} bytes")]
    NotText,
    /// It is not JSON, or not with the fields of a label.
    #[error("it is no label: {0}")]
    NotALabel(String),
    /// A newer or unknown version.
    #[error("it has version {0}, this program reads version {VERSION}")]
    Version(String),
    /// Fields that contradict each other.
    #[error("{0}")]
    Nonsense(String),
    /// The id was there before.
    #[error("the id `{0}` stands here a second time")]
    Twice(String),
}

/// One label as a line, its end included.
///
/// # Errors
/// [`LabelProblem::Nonsense`] when its fields contradict each other or a number is not finite.
pub fn write(label: &Label) -> Result<String, LabelProblem> {
    check(label)?;
    let line = serde_json::to_string(label).map_err(|e| LabelProblem::NotALabel(e.to_string()))?;
    Ok(line + "\n")
}

/// Reads labels, one a line. Empty lines are passed over; everything else must be a label of this version.
///
/// # Errors
/// The first line that is none. What is learnt from must be right: nothing is passed over in silence.
pub fn read(bytes: &[u8]) -> Result<Vec<Label>, LabelError> {
    let mut ids = std::collections::BTreeSet::new();
    let mut labels = Vec::new();
    for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let wrong = |problem| LabelError { line: i + 1, problem };
        if line.len() > MAX_LINE_BYTES {
            return Err(wrong(LabelProblem::NotText));
        }
        let text = std::str::from_utf8(line).map_err(|_| wrong(LabelProblem::NotText))?;
        if text.trim().is_empty() {
            continue;
        }
        let label = parse(text).map_err(wrong)?;
        if !ids.insert(label.id.clone()) {
            return Err(wrong(LabelProblem::Twice(label.id)));
        }
        labels.push(label);
    }
    Ok(labels)
}

fn parse(text: &str) -> Result<Label, LabelProblem> {
    let not = |e: serde_json::Error| LabelProblem::NotALabel(e.to_string());
    // The version first: fields of another one would only confuse.
    let value: Json = serde_json::from_str(text).map_err(not)?;
    match value.get("v") {
        Some(v) if *v == VERSION => {}
        Some(v) => return Err(LabelProblem::Version(v.to_string())),
        None => return Err(LabelProblem::NotALabel("it has no version `v`".into())),
    }
    // From the text again, not from the value: numbers keep their digits and keys that stand twice are found.
    let label: Label = serde_json::from_str(text).map_err(not)?;
    check(&label)?;
    Ok(label)
}

fn check(label: &Label) -> Result<(), LabelProblem> {
    let nonsense = |what: &str| Err(LabelProblem::Nonsense(what.to_owned()));
    if label.v != VERSION {
        return Err(LabelProblem::Version(label.v.to_string()));
    }
    if label.id.is_empty() || label.run.is_empty() || label.experiment.is_empty() {
        return nonsense("`id`, `run` and `experiment` must not be empty");
    }
    let share = |x: f64| (0.0..=1.0).contains(&x);
    if !share(label.intensity) || !share(label.peak_level) || !share(label.mean_level) || !share(label.weight)
    {
        return nonsense("intensity, levels and weight must be from 0 to 1");
    }
    if label.mean_level > label.peak_level + 1e-9 {
        return nonsense("`mean_level` is above `peak_level`");
    }
    if label.ended.is_some_and(|ended| ended < label.begun) {
        return nonsense("`ended` is before `begun`");
    }
    match (label.ended, label.undone) {
        (None, Some(_)) => return nonsense("`undone` is there, `ended` is not"),
        (Some(ended), Some(undone)) if undone < ended => return nonsense("`undone` is before `ended`"),
        (Some(_) | None, None) | (Some(_), Some(_)) => {}
    }
    if let Err(problem) = label.fault.check() {
        return Err(LabelProblem::Nonsense(problem.to_string()));
    }
    Ok(())
}
