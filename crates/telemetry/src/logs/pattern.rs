use super::mask;

/// Text in which placeholders stand for anything: `connection to <*> refused`. Any of the masks is a placeholder, so that
/// the name of a template can be used as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<String>,
}

impl Pattern {
    /// `None` when there is nothing but placeholders and spaces: that would be every line.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let same = mask::ALL.iter().fold(text.clone(), |text, mask| text.replace(mask, mask::WILDCARD));
        let parts: Vec<String> =
            same.split(mask::WILDCARD).filter(|part| !part.trim().is_empty()).map(str::to_owned).collect();
        (!parts.is_empty()).then_some(Self { text, parts })
    }

    /// As it was written, with one space between words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether its parts stand in `text`, in their order. `text` has one space between words.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let mut rest = text;
        self.parts.iter().all(|part| match rest.find(part.as_str()) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_in_their_order() {
        let pattern = Pattern::new("connection to <*>  refused").unwrap();
        assert_eq!(pattern.text(), "connection to <*> refused");
        for (text, fits) in [
            ("connection to 10.0.0.1 refused", true),
            ("the connection to db refused by peer", true),
            ("connection to <*> refused", true),
            ("connection refused", false),
            ("refused connection to me", false),
        ] {
            assert_eq!(pattern.fits(text), fits, "{text}");
        }
        assert!(Pattern::new("x <num> ms").unwrap().fits("x 12 ms"));
        for all in ["", "  ", "<*>", "<num> <ip>"] {
            assert_eq!(Pattern::new(all), None, "{all:?} is every line");
        }
    }
}
