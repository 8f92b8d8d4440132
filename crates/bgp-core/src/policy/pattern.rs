//! Regular expressions over what attributes look like when they are printed.

use regex::Regex;

/// A compiled expression; equal to another if it was written the same way.
///
/// The configuration translates what FRR and POSIX spell differently and bounds the size before one is made, so that a
/// peer's path of any length is matched in time proportional to it.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it matches anywhere in `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Self {
        Self(regex)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}
