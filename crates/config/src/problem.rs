use std::fmt;

use serde::Serialize;

/// One thing that is wrong with a configuration file: where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named.
    pub file: String,
    /// Where in it; `None` when the file as a whole is meant (it can't be read, say).
    pub place: Option<Place>,
    /// Where in the configuration: `services.shop.policy.horizon`. Empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: String,
    /// The line of the file that `place` points into.
    pub snippet: Option<String>,
}

/// A place in the file. Lines and columns begin with 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// How many characters are meant; at least 1.
    pub length: usize,
}

/// Everything that is wrong with a configuration file. `Display` is for people, `Serialize` for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigErrors {
    /// The problems in the order of the file.
    pub problems: Vec<Problem>,
    /// How many more there are than are told.
    pub left_out: usize,
}

/// More problems than this are counted, not told: nobody reads them, and the file is probably another kind of file.
const TOLD: usize = 100;

impl ConfigErrors {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        // What belongs to no place comes last; the sort is stable, so problems of one place keep their order.
        problems.sort_by_key(|p| p.place.map_or((usize::MAX, 0), |place| (place.line, place.column)));
        let left_out = problems.len().saturating_sub(TOLD);
        problems.truncate(TOLD);
        Self { problems, left_out }
    }

    /// As a JSON object: `{"problems":[{"file","place":{"line","column","length"},"path","what","remedy","snippet"}],"left_out"}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.problems.len() + self.left_out {
            1 => write!(f, "1 problem"),
            n if self.left_out == 0 => write!(f, "{n} problems"),
            n => write!(f, "{n} problems, of which {} are not shown", self.left_out),
        }
    }
}

/// Longer lines are cut around the place, so that one line of a foreign file can't flood the terminal.
const SNIPPET_CHARS: usize = 120;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.what)?;
        let Some(place) = self.place else {
            writeln!(f, "  --> {}", self.file)?;
            return writeln!(f, "   = help: {}", self.remedy);
        };
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "{gutter}--> {}:{}:{}", self.file, place.line, place.column)?;
        if let Some(line) = &self.snippet {
            let (shown, indent) = window(line, place.column - 1);
            let room = shown.chars().count().saturating_sub(indent).max(1);
            let carets = "^".repeat(place.length.clamp(1, room));
            writeln!(f, "{gutter} |")?;
            writeln!(f, "{number} | {shown}")?;
            writeln!(f, "{gutter} | {}{carets}", " ".repeat(indent))?;
        }
        if !self.path.is_empty() {
            writeln!(f, "{gutter} = at: {}", self.path)?;
        }
        writeln!(f, "{gutter} = help: {}", self.remedy)
    }
}

/// The part of `line` around character `at` that fits, free of control characters, and where `at` is in it.
fn window(line: &str, at: usize) -> (String, usize) {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let chars: Vec<char> = line.chars().map(printable).collect();
    if chars.len() <= SNIPPET_CHARS {
        return (chars.into_iter().collect(), at.min(line.chars().count()));
    }
    let from = at.saturating_sub(SNIPPET_CHARS / 2).min(chars.len() - SNIPPET_CHARS);
    (chars[from..from + SNIPPET_CHARS].iter().collect(), (at - from).min(SNIPPET_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: &str, column: usize) -> Problem {
        Problem {
            file: "f.yaml".into(),
            place: Some(Place { line: 12, column, length: 900 }),
            path: "engine.tick".into(),
            what: "wrong".into(),
            remedy: "right".into(),
            snippet: Some(line.into()),
        }
    }

    #[test]
    fn the_caret_stands_under_the_place_even_in_long_lines() {
        let long = format!("{}!{}", "a".repeat(500), "b".repeat(500));
        let shown = problem(&long, 501).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[4].find('^').unwrap();
        assert_eq!(lines[3].as_bytes()[caret], b'!');
        assert!(lines.iter().all(|l| l.len() < 140));
        assert_eq!(lines[1], "  --> f.yaml:12:501");
    }

    #[test]
    fn problems_are_told_in_the_order_of_the_file_and_not_endlessly() {
        let all = (1..=150).rev().map(|column| problem("x", column)).collect();
        let errors = ConfigErrors::new(all);
        assert_eq!(errors.problems.len(), 100);
        assert_eq!(errors.problems[0].place.unwrap().column, 1);
        assert!(errors.to_string().ends_with("150 problems, of which 50 are not shown"));
        assert_eq!(errors.to_json()["problems"][0]["place"]["line"], 12);
    }
}
