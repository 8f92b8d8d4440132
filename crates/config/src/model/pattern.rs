//! Regular expressions as operators of FRR write them.

use std::{fmt, str::FromStr};

use regex::{Regex, RegexBuilder};

/// A POSIX extended regular expression in which `_` stands for whatever separates or ends numbers, compiled.
///
/// It is matched anywhere in the text unless `^` or `$` tie it. Matching takes time proportional to the text, whatever the
/// expression.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It cannot be read.
    #[error("\"{text}\" is not a regular expression: {why}")]
    Syntax {
        /// The expression.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It would take too much memory.
    #[error("the regular expression takes more than {LARGEST} octets when compiled; make several lines of it")]
    Size,
}

/// Most octets that a compiled expression may take.
const LARGEST: usize = 1 << 20;

impl Pattern {
    /// The expression, ready to match.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}

/// What `_` stands for: the beginning, the end, a space, or what stands around sets and confederations.
const BOUNDARY: &str = "(?:^|[,{}() ]|$)";

/// Spells a POSIX expression for the engine: `_` is a boundary wherever it stands, as in FRR, even within brackets, where
/// POSIX has no such thing; braces that repeat nothing are themselves.
fn translate(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    let mut within = false;
    while let Some(letter) = rest.next() {
        match letter {
            '\\' if !within => {
                out.push('\\');
                // POSIX escapes any letter to itself; the engine gives some of them a meaning.
                match rest.next() {
                    Some(escaped) if escaped.is_ascii_alphanumeric() => {
                        out.pop();
                        out.push(escaped);
                    }
                    escaped => out.extend(escaped),
                }
            }
            '[' if !within => {
                within = true;
                out.push('[');
                out.extend(rest.next_if_eq(&'^'));
                // A bracket that comes first closes nothing.
                if rest.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' if rest.peek() == Some(&':') => {
                // A class such as [:digit:], whose end is not that of the brackets.
                out.push('[');
                out.extend(rest.next());
                while let Some(inner) = rest.next() {
                    out.push(inner);
                    if inner == ':' && rest.peek() == Some(&']') {
                        out.extend(rest.next());
                        break;
                    }
                }
            }
            ']' if within => {
                within = false;
                out.push(']');
            }
            '\\' | '[' | '&' | '~' => {
                out.push('\\');
                out.push(letter);
            }
            '_' if within => out.push_str(",{}() "),
            '_' => out.push_str(BOUNDARY),
            '{' if !within && !rest.peek().is_some_and(char::is_ascii_digit) => out.push_str("\\{"),
            other => out.push(other),
        }
    }
    out
}

impl FromStr for Pattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let syntax = |why: String| PatternError::Syntax { text: text.chars().take(64).collect(), why };
        if text.is_empty() || text.len() > 1024 || !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            return Err(syntax("expected 1 to 1024 printable ASCII characters".to_owned()));
        }
        let regex = RegexBuilder::new(&translate(text)).size_limit(LARGEST).dfa_size_limit(LARGEST).build();
        match regex {
            Ok(regex) => Ok(Self { text: text.to_owned(), regex }),
            Err(regex::Error::CompiledTooBig(_)) => Err(PatternError::Size),
            // The engine draws a picture of several lines, of which the last says what is wrong.
            Err(error) => {
                let picture = error.to_string();
                let last = picture.lines().last().unwrap_or_default();
                Err(syntax(last.trim().trim_start_matches("error: ").to_owned()))
            }
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_as_in_frr() {
        for (pattern, path, matches) in [
            ("^$", "", true),
            ("^$", "65001", false),
            ("_65001_", "65001", true),
            ("_65001_", "1 65001 2", true),
            ("_65001_", "165001 2", false),
            ("_65001_", "1 {65001,2}", true),
            ("_65001_", "(65001) 7", true),
            ("^65001_", "65001 2", true),
            ("^65001_", "650012", false),
            ("_65001$", "1 65001", true),
            ("^6500[0-9]$", "65007", true),
            ("^6500[^0-9]$", "65007", false),
            ("^[[:digit:]]+ 2$", "77 2", true),
            ("^[[:digit:] ]+$", "77 2", true),
            ("^[[:digit:]]+[x]$", "77x", true),
            ("^(1|2)( 3)*$", "2 3 3", true),
            ("^1 {2,3}$", "1 {2,3}", false), // a repetition: one and two or three spaces
            ("\\{2,3\\}", "1 {2,3}", true),
            ("{2", "{2", false), // not a repetition that could be read
            (".*", "anything", true),
            ("^(65001_)+$", "65001 65001", true),
            ("\\.", "1.2", true),
        ] {
            match pattern.parse::<Pattern>() {
                Ok(compiled) => assert_eq!(compiled.regex().is_match(path), matches, "{pattern} on {path:?}"),
                Err(error) => assert!(!matches, "{pattern}: {error}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_too_large_is_refused() {
        let error = "(65001".parse::<Pattern>().unwrap_err().to_string();
        assert!(error.contains("unclosed group"), "{error}");
        assert!("".parse::<Pattern>().is_err());
        assert_eq!("((([0-9]{1,99}){1,99}){1,99}){1,99}".parse::<Pattern>(), Err(PatternError::Size));
    }
}
