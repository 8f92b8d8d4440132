//! Lines into a configuration that is in force: what `configure terminal` does.
//!
//! The configuration is printed, the lines are put behind it, and all is read as one text. So a line means here exactly what
//! it means in a file, `no` takes back earlier lines in either, and what comes out is a whole configuration or none.

use std::fmt;

use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    model::Config,
    parse::{Manner, Parsed, UnknownLines, read},
};

/// Why lines cannot be put into a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong with the lines themselves, by their own numbers.
    pub lines: Diagnostics,
    /// What would be wrong with what is there already, each with its line.
    pub rest: Vec<String>,
}

impl Refused {
    /// For people at a terminal; `lines` are those that were refused.
    pub fn render(&self, lines: &str) -> String {
        let rendered = (!self.lines.0.is_empty()).then(|| self.lines.render("lines", lines));
        rendered.into_iter().chain(self.rest.iter().cloned()).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines.lines("line").chain(self.rest.iter().cloned());
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Refused {}

/// `running` with `lines` put into it; their words may be abbreviated. Warnings are about the lines alone.
///
/// # Errors
/// Everything that is wrong, if anything keeps the whole from being used.
pub fn edit(running: &Config, lines: &str, unknown: UnknownLines) -> Result<Parsed, Refused> {
    let printed = running.to_string();
    // Whatever section is printed last must not go on.
    let source = format!("{printed}end\n{lines}");
    let before = Before { lines: printed.lines().count() + 1, octets: source.len() - lines.len() };
    match read(&source, Manner { unknown, abbreviated_from: before.lines + 1 }) {
        Ok(Parsed { config, warnings }) => Ok(Parsed { config, warnings: before.divide(warnings, &source).lines }),
        Err(wrong) => Err(before.divide(wrong, &source)),
    }
}

/// How much of the text stands before the new lines.
struct Before {
    lines: usize,
    octets: usize,
}

impl Before {
    fn divide(&self, all: Diagnostics, source: &str) -> Refused {
        let mut divided = Refused { lines: Diagnostics::default(), rest: Vec::new() };
        for diagnostic in all.0 {
            match diagnostic.line.checked_sub(self.lines) {
                Some(line @ 1..) => {
                    let (start, end) = diagnostic.span;
                    let span = (start.saturating_sub(self.octets), end.saturating_sub(self.octets));
                    divided.lines.0.push(Diagnostic { line, span, ..diagnostic });
                }
                _ => {
                    let text = source.lines().nth(diagnostic.line.saturating_sub(1)).unwrap_or_default();
                    // Refusals reach terminals and logs, where no password belongs.
                    let secret = ["password", "key-string"].iter().any(|word| text.contains(word));
                    let text = if secret { "a line with a password" } else { text.trim() };
                    divided.rest.push(format!("\"{text}\", which is in force: {}", diagnostic.message));
                }
            }
        }
        divided
    }
}

/// The sections that lines typed one after another stand in: for the prompt, and to hand over each line with the lines
/// around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    around: Vec<String>,
}

/// What a typed line did to the [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It left the last section.
    Out,
    /// It is to be handed over; the sections around it may be others now.
    No,
}

impl Place {
    /// The lines that begin the sections around, outermost first.
    pub fn around(&self) -> &[String] {
        &self.around
    }

    /// What the prompt says: `config`, `config-router`, `config-router-af` and so on, as in FRR.
    pub fn prompt(&self) -> &'static str {
        let begins = |words: &str| self.around.last().is_some_and(|line| line.starts_with(words));
        match self.around.len() {
            0 => "config",
            _ if begins("router") => "config-router",
            _ if begins("address-family") => "config-router-af",
            _ if begins("route-map") => "config-route-map",
            _ if begins("interface") => "config-if",
            _ if begins("bfd") => "config-bfd",
            _ if begins("profile") => "config-bfd-profile",
            _ => "config-section",
        }
    }

    /// Takes a line, which is first brought to full words; sections that it leaves or enters are noted.
    pub fn take(&mut self, line: &str) -> Moved {
        use crate::{
            grammar::Spelling,
            language::{Done, Draft, Leave, Section},
        };
        // The sections are found again from the lines that began them: a line's meaning is the grammar's to say.
        let mut draft = Draft::default();
        let mut sections = vec![(Section::Top, 0)];
        for (depth, opener) in self.around.iter().enumerate() {
            let Some((section, _)) = sections.last() else { break };
            let Ok((row, args)) = section.tree().find(opener, Spelling::Full) else { break };
            if let Ok(Done::Enter(inner)) = section.apply(row, &mut draft, &args) {
                sections.push((inner, depth + 1));
            }
        }
        for (section, depth) in sections.iter().rev() {
            let Ok((row, args)) = section.tree().find(line, Spelling::Abbreviated) else { continue };
            match section.apply(row, &mut draft, &args) {
                Ok(Done::Enter(_)) => {
                    self.around.truncate(*depth);
                    let words = section.tree().words(line, Spelling::Abbreviated);
                    self.around.push(words.map_or_else(|| line.trim().to_owned(), |words| words.join(" ")));
                }
                Ok(Done::Leave(Leave::All)) => return Moved::Out,
                Ok(Done::Leave(Leave::One)) if self.around.pop().is_none() => return Moved::Out,
                Ok(Done::Leave(Leave::One)) => {}
                _ => self.around.truncate(*depth),
            }
            break;
        }
        Moved::No
    }
}
