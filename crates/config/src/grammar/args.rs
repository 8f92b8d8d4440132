//! What a matched line gives to the statement that it matched.

use std::{fmt, str::FromStr};

use super::{
    leaf::{Kind, Leaf},
    words::Word,
};

/// The words of a line, each with what it matched.
#[derive(Clone, Debug)]
pub(crate) struct Args<'a> {
    pub(super) matched: Vec<Matched<'a>>,
}

/// One word, or the rest of the line, and what it matched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matched<'a> {
    pub(crate) word: Word<'a>,
    pub(crate) by: By,
}

impl Matched<'_> {
    /// What kind of value it is, if it is one.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self.by {
            By::Value(leaf) => Some(leaf.kind),
            By::Word(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Word(&'static str),
    Value(Leaf),
}

/// What a statement has against a line that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// Octets of the line before and up to the end of what it is about; the whole line without.
    pub(crate) place: Option<(usize, usize)>,
    pub(crate) message: String,
}

impl Complaint {
    /// About the line as a whole.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { place: None, message: message.to_string() }
    }
}

impl<'a> Args<'a> {
    /// Whether the literal `word` was given.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.matched.iter().any(|matched| matches!(matched.by, By::Word(known) if known == word))
    }

    /// All that was matched.
    pub(crate) fn matched(&self) -> &[Matched<'a>] {
        &self.matched
    }

    /// The value labelled `label`.
    pub(crate) fn get<T: FromStr>(&self, label: &str) -> Result<T, Complaint>
    where
        T::Err: fmt::Display,
    {
        self.opt(label)?.ok_or_else(|| Complaint::new(format!("{label} is missing")))
    }

    /// The value labelled `label`, if the line has it.
    pub(crate) fn opt<T: FromStr>(&self, label: &str) -> Result<Option<T>, Complaint>
    where
        T::Err: fmt::Display,
    {
        self.values(label).next().transpose()
    }

    /// Every value labelled `label`.
    pub(crate) fn all<T: FromStr>(&self, label: &str) -> Result<Vec<T>, Complaint>
    where
        T::Err: fmt::Display,
    {
        self.values(label).collect()
    }

    /// A complaint about the value labelled `label`.
    pub(crate) fn complain(&self, label: &str, message: impl fmt::Display) -> Complaint {
        let place = self.labelled(label).next().map(|word| (word.start, word.end()));
        Complaint { place, message: message.to_string() }
    }

    fn values<T: FromStr>(&self, label: &str) -> impl Iterator<Item = Result<T, Complaint>>
    where
        T::Err: fmt::Display,
    {
        self.labelled(label).map(|word| {
            let place = Some((word.start, word.end()));
            word.text.parse().map_err(|error: T::Err| Complaint { place, message: error.to_string() })
        })
    }

    fn labelled(&self, label: &str) -> impl Iterator<Item = Word<'a>> {
        self.matched
            .iter()
            .filter(move |matched| matches!(matched.by, By::Value(leaf) if leaf.label == label))
            .map(|matched| matched.word)
    }
}
