//! `| include`, `| exclude`, `| begin` and `| count`, on lines as they come.

use regex::Regex;

/// What is left of the output.
#[derive(Debug)]
enum Filter {
    Include(Regex),
    Exclude(Regex),
    /// From the first match on.
    Begin {
        pattern: Regex,
        begun: bool,
    },
    Count(u64),
}

/// Filters one after the other.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    filters: Vec<Filter>,
}

/// Why a filter cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("unknown filter \"{0}\"; there are include, exclude, begin and count")]
    Unknown(String),
    #[error("\"| {0}\" needs a text or regular expression")]
    NoPattern(&'static str),
    #[error("\"| count\" takes nothing")]
    CountTakesNothing,
    #[error("the pattern of \"| {0}\" is wrong: {1}")]
    Pattern(&'static str, String),
}

/// Largest compiled pattern.
const PATTERN_OCTETS: usize = 1 << 20;

impl Pipeline {
    /// Divides a line into the command and its filters.
    pub(crate) fn split(line: &str) -> Result<(&str, Self), FilterError> {
        let mut parts = Vec::new();
        let (mut rest, mut start) = (line, 0);
        // A bar begins a filter only where a filter's name follows: patterns have bars too.
        for (at, _) in line.match_indices('|') {
            let after = line.get(at + 1..).unwrap_or_default();
            if parts.is_empty() && start == 0 || names_filter(after) {
                parts.push(line.get(start..at).unwrap_or_default());
                start = at + 1;
                rest = after;
            }
        }
        parts.push(rest);
        let mut parts = parts.into_iter();
        let command = parts.next().unwrap_or_default().trim();
        Ok((command, Self { filters: parts.map(Filter::parse).collect::<Result<_, _>>()? }))
    }

    /// Whether nothing is filtered.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Whether `line` is shown.
    pub(crate) fn admits(&mut self, line: &str) -> bool {
        self.filters.iter_mut().all(|filter| filter.admits(line))
    }

    /// What is shown after the last line.
    pub(crate) fn finish(&self) -> Option<String> {
        let mut counts = self.filters.iter().filter_map(|filter| match filter {
            Filter::Count(lines) => Some(format!("{lines}\n")),
            _ => None,
        });
        counts.next_back()
    }
}

const NAMES: [&str; 4] = ["include", "exclude", "begin", "count"];

fn name_of(word: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|name| !word.is_empty() && name.starts_with(word))
}

/// Whether a filter stands here: its name in full, since an abbreviation could be part of a pattern.
fn names_filter(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(|word| NAMES.contains(&word))
}

impl Filter {
    fn parse(text: &str) -> Result<Self, FilterError> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let name = name_of(word).ok_or_else(|| FilterError::Unknown(word.to_owned()))?;
        let rest = rest.trim();
        if name == "count" {
            return if rest.is_empty() { Ok(Self::Count(0)) } else { Err(FilterError::CountTakesNothing) };
        }
        if rest.is_empty() {
            return Err(FilterError::NoPattern(name));
        }
        let pattern = regex::RegexBuilder::new(rest)
            .size_limit(PATTERN_OCTETS)
            .build()
            .map_err(|error| FilterError::Pattern(name, error.to_string()))?;
        Ok(match name {
            "include" => Self::Include(pattern),
            "exclude" => Self::Exclude(pattern),
            _ => Self::Begin { pattern, begun: false },
        })
    }

    fn admits(&mut self, line: &str) -> bool {
        match self {
            Self::Include(pattern) => pattern.is_match(line),
            Self::Exclude(pattern) => !pattern.is_match(line),
            Self::Begin { pattern, begun } => {
                *begun |= pattern.is_match(line);
                *begun
            }
            Self::Count(lines) => {
                *lines += 1;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(line: &str, output: &str) -> String {
        let (_, mut pipeline) = Pipeline::split(line).unwrap();
        let mut shown: String =
            output.lines().filter(|line| pipeline.admits(line)).map(|line| format!("{line}\n")).collect();
        shown.extend(pipeline.finish());
        shown
    }

    #[test]
    fn lines_are_chosen_in_turn() {
        let output = "10.0.0.1 up\n10.0.0.2 down\n10.0.0.3 up\n";
        assert_eq!(filtered("show x | include up", output), "10.0.0.1 up\n10.0.0.3 up\n");
        assert_eq!(filtered("show x | inc [12] (up|down)", output), "10.0.0.1 up\n10.0.0.2 down\n");
        assert_eq!(filtered("show x | exclude up", output), "10.0.0.2 down\n");
        assert_eq!(filtered("show x | begin \\.2", output), "10.0.0.2 down\n10.0.0.3 up\n");
        assert_eq!(filtered("show x | include up | exclude \\.1", output), "10.0.0.3 up\n");
        assert_eq!(filtered("show x | include up | count", output), "2\n");
        assert_eq!(filtered("show x|c", output), "3\n");
    }

    #[test]
    fn a_bar_in_a_pattern_is_part_of_it() {
        let (command, pipeline) = Pipeline::split(" show x | include a|b ").unwrap();
        assert_eq!((command, pipeline.filters.len()), ("show x", 1));
        assert_eq!(filtered("show x | include a|b", "a\nb\nc\n"), "a\nb\n");
        assert!(Pipeline::split("show x").unwrap().1.is_empty());
    }

    #[test]
    fn wrong_filters_are_refused_by_name() {
        for (line, expected) in [
            ("show x | grep a", "unknown filter \"grep\""),
            ("show x |", "unknown filter \"\""),
            ("show x | include", "needs a text"),
            ("show x | include (", "is wrong"),
            ("show x | count 5", "takes nothing"),
        ] {
            let error = Pipeline::split(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
