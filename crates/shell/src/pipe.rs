//! `| include PATTERN` and its kin: filters on the text that a command prints, applied here and line by line.

use regex::Regex;

/// Longest line that is held back for its end; a longer one is filtered in parts of this size.
const LONGEST_LINE: usize = 1 << 20;

/// One filter.
#[derive(Clone, Debug)]
enum Filter {
    Include(Regex),
    Exclude(Regex),
    /// From the first line that matches; `true` once it has come.
    Begin(Regex, bool),
    Count(u64),
}

/// Why what stands behind a `|` is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipeError {
    /// No such filter.
    #[error("% \"{0}\" is no filter: expected include, exclude, begin or count behind the \"|\"")]
    Unknown(String),
    /// A filter that wants a pattern has none.
    #[error("% \"{0}\" wants a pattern, as in \"| {0} Established\"")]
    NoPattern(&'static str),
    /// Text behind one that wants none.
    #[error("% \"count\" takes nothing behind it, found \"{0}\"")]
    Trailing(String),
    /// Not a regular expression.
    #[error("% \"{0}\" is not a regular expression; put a \\ before a character that is meant as it is")]
    Pattern(String),
}

/// A command's output on its way through its filters.
#[derive(Clone, Debug, Default)]
pub struct Pipe {
    filters: Vec<Filter>,
    /// The start of a line whose end has not come.
    partial: String,
}

impl Pipe {
    /// Splits `line` into the command and what its output passes through. A `|` within quotes is text.
    ///
    /// # Errors
    /// When a filter is unknown or its pattern is none.
    pub fn split(line: &str) -> Result<(&str, Self), PipeError> {
        let mut parts = line.split(" |");
        let command = parts.next().unwrap_or_default().trim();
        let filters = parts.map(filter).collect::<Result<_, _>>()?;
        Ok((command, Self { filters, partial: String::new() }))
    }

    /// Whether output passes as it is.
    pub fn is_open(&self) -> bool {
        self.filters.is_empty()
    }

    /// Takes in a piece of output, which may end anywhere; gives what may be printed.
    pub fn feed(&mut self, piece: &str) -> String {
        if self.is_open() {
            return piece.to_owned();
        }
        let mut out = String::new();
        for part in piece.split_inclusive('\n') {
            self.partial.push_str(part);
            if part.ends_with('\n') || self.partial.len() > LONGEST_LINE {
                let line = std::mem::take(&mut self.partial);
                self.pass(&line, &mut out);
            }
        }
        out
    }

    /// The output has ended: gives what was held back, and the count where one was asked for.
    pub fn finish(mut self) -> String {
        let mut out = String::new();
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() {
            self.pass(&last, &mut out);
        }
        if let Some(Filter::Count(lines)) = self.filters.last() {
            out.push_str(&format!("{lines}\n"));
        }
        out
    }

    fn pass(&mut self, line: &str, out: &mut String) {
        let text = line.trim_end_matches('\n');
        for filter in &mut self.filters {
            let passes = match filter {
                Filter::Include(pattern) => pattern.is_match(text),
                Filter::Exclude(pattern) => !pattern.is_match(text),
                Filter::Begin(pattern, begun) => {
                    *begun = *begun || pattern.is_match(text);
                    *begun
                }
                Filter::Count(lines) => {
                    *lines += 1;
                    false
                }
            };
            if !passes {
                return;
            }
        }
        out.push_str(line);
    }
}

fn filter(text: &str) -> Result<Filter, PipeError> {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let pattern = |name: &'static str| match rest {
        "" => Err(PipeError::NoPattern(name)),
        _ => Regex::new(rest).map_err(|_| PipeError::Pattern(rest.to_owned())),
    };
    let names = ["include", "exclude", "begin", "count"];
    let mut fitting = names.into_iter().filter(|name| !word.is_empty() && name.starts_with(word));
    match (fitting.next(), fitting.next()) {
        (Some("include"), None) => pattern("include").map(Filter::Include),
        (Some("exclude"), None) => pattern("exclude").map(Filter::Exclude),
        (Some("begin"), None) => pattern("begin").map(|pattern| Filter::Begin(pattern, false)),
        (Some("count"), None) if rest.is_empty() => Ok(Filter::Count(0)),
        (Some("count"), None) => Err(PipeError::Trailing(rest.to_owned())),
        _ => Err(PipeError::Unknown(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of `line` when the command prints `pieces`.
    fn run(line: &str, pieces: &[&str]) -> String {
        let (_, mut pipe) = Pipe::split(line).unwrap();
        let mut out: String = pieces.iter().map(|piece| pipe.feed(piece)).collect();
        out.push_str(&pipe.finish());
        out
    }

    #[test]
    fn lines_are_filtered_wherever_pieces_end() {
        let pieces = ["tun1 U", "p\ntun2 Down\nt", "un3 Up"];
        assert_eq!(run("show x | include Up", &pieces), "tun1 Up\ntun3 Up");
        assert_eq!(run("show x | exclude Up", &pieces), "tun2 Down\n");
        assert_eq!(run("show x | begin tun2", &pieces), "tun2 Down\ntun3 Up");
        assert_eq!(run("show x | i Up | count", &pieces), "2\n");
        assert_eq!(run("show x", &pieces), "tun1 Up\ntun2 Down\ntun3 Up");
    }

    #[test]
    fn patterns_are_regular_expressions() {
        assert_eq!(run("show x | include ^tun[12] ", &["tun1 a\ntun3 b\n"]), "tun1 a\n");
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let error = |line: &str| Pipe::split(line).map(|_| ()).unwrap_err();
        assert_eq!(error("show x | grep y"), PipeError::Unknown("grep".into()));
        assert_eq!(error("show x | include"), PipeError::NoPattern("include"));
        assert_eq!(error("show x | count y"), PipeError::Trailing("y".into()));
        assert_eq!(error("show x | include ["), PipeError::Pattern("[".into()));
        assert_eq!(error("show x |"), PipeError::Unknown(String::new()));
    }
}
