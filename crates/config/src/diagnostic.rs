//! What is wrong with a file, all of it, each with its place.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Whether it keeps the file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but it may not be what is meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it keeps the file from being used.
    pub severity: Severity,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Octets of the file that it is about.
    pub(crate) span: (usize, usize),
    /// What was found, and what is wrong with it.
    pub message: String,
    /// What was expected instead.
    pub expected: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

/// All that is wrong with a file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether anything keeps the file from being used.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// For people at a terminal: each with its line of `source`, which is the text of the file `name`.
    pub fn render(&self, name: &str, source: &str) -> String {
        let renderer = Renderer::plain();
        let reports: Vec<String> = self.0.iter().map(|diagnostic| diagnostic.render(&renderer, name, source)).collect();
        reports.join("\n\n")
    }

    /// For logs: one line each.
    pub fn lines(&self, name: &str) -> impl Iterator<Item = String> {
        self.0.iter().map(move |diagnostic| format!("{name}:{diagnostic}"))
    }
}

impl Diagnostic {
    fn render(&self, renderer: &Renderer, name: &str, source: &str) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let before = source.get(..self.span.0).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let text = source.get(before..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let mark = AnnotationKind::Primary.span(self.span.0 - before..(self.span.1 - before).min(text.len()));
        let mark = match &self.expected {
            Some(expected) => mark.label(format!("expected {expected}")),
            None => mark,
        };
        let snippet = Snippet::source(text).line_start(self.line).path(name).annotation(mark);
        let group = level.primary_title(self.message.as_str()).element(snippet);
        let group = match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        };
        renderer.render(&[group]).to_string()
    }
}

impl fmt::Display for Diagnostic {
    /// `LINE:COLUMN: error: …`, to follow the name of the file and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {severity}: {}", self.line, self.column, self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The candidate that `word` is most likely meant to be, if any is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong; a word much longer than any of ours is not worth the time.
    let limit = (word.chars().count() / 3).max(1);
    let near = candidates.filter(|_| word.len() <= 40).map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, change or swap with their neighbor to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let (mut before_last, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    let mut previous = None;
    for (i, letter) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            // Every row has one cell more than `b` has letters, so these are all within.
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let change = cell(&last, j) + usize::from(letter != *other);
            let mut best = change.min(cell(&last, j + 1) + 1).min(cell(&row, j) + 1);
            if j > 0 && previous == Some(*other) && b.get(j - 1) == Some(&letter) {
                best = best.min(cell(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        previous = Some(letter);
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_slips() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("nieghbor", "neighbor", 1),
            ("neighbour", "neighbor", 1),
            ("adress", "address", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let words = || ["neighbor", "network", "no"].into_iter();
        assert_eq!(nearest("nieghbor", words()), Some("neighbor"));
        assert_eq!(nearest("zebra", words()), None);
    }
}
