use std::fmt;

/// A quantity was outside its range when it was constructed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what} must be {expected}, but is {found}")]
pub struct OutOfRange {
    /// The quantity, for example `probability`.
    pub what: &'static str,
    /// The range it must lie in, in words.
    pub expected: &'static str,
    /// What was given.
    pub found: String,
}

impl OutOfRange {
    pub(crate) fn new(what: &'static str, expected: &'static str, found: impl fmt::Display) -> Self {
        Self { what, expected, found: found.to_string() }
    }
}

/// A value of this crate could not be constructed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DomainError {
    /// A number was out of its range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// A name is empty, too long, or holds a character that names must not hold.
    #[error(
        "`{name}` is not a valid {kind}: use 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit"
    )]
    BadName {
        /// What sort of name it is, for example `cell id`.
        kind: &'static str,
        /// The name as given.
        name: String,
    },
    /// The weights of one level do not add up.
    #[error("weights of {level} add up to {sum} bp, not to 10000 bp")]
    WeightsDontAddUp {
        /// Which level: `regions` or the region's name.
        level: String,
        /// Their sum in basis points.
        sum: u32,
    },
}
