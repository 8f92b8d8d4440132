//! Lines into words, with their places.

/// A word and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The word itself.
    pub text: &'a str,
    /// Octets of the line before it.
    pub start: usize,
}

impl Word<'_> {
    /// Octets of the line up to its end.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// The words of a line; white space separates them, nothing else does.
pub fn split(line: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = 0;
    for text in line.split_ascii_whitespace() {
        // `split_ascii_whitespace` gives the words in order, so each is found at or after the end of the last.
        let Some(start) = line.get(rest..).and_then(|tail| tail.find(text)).map(|at| rest + at) else { break };
        words.push(Word { text, start });
        rest = start + text.len();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_their_places() {
        let line = "  a aa\ta  ä";
        let places: Vec<(&str, usize)> = split(line).iter().map(|word| (word.text, word.start)).collect();
        assert_eq!(places, [("a", 2), ("aa", 4), ("a", 7), ("ä", 10)]);
        assert_eq!(split(" \t"), []);
    }
}
