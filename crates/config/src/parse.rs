//! A file into a configuration.
//!
//! Sections need no indentation: as in FRR a line that does not belong into the section it stands in is tried in those
//! around it. Some of our statements mean one thing in a section and another outside (`wan`), so where a section is indented,
//! a line that is not stands outside of it.

use std::collections::BTreeSet;

use net_types::Family;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Severity, nearest},
    grammar::{Args, Choice, Complaint, Kind, Mismatch, Reference, Spelling, Word, split},
    language::{Done, Draft, Leave, Problem, Section},
    model::{Bgp, Config, Name},
};

/// Longest file that is read; a route-map of ten thousand entries has a tenth of that.
pub const MAX_OCTETS: usize = 16 << 20;
/// Longest line that is read.
const MAX_LINE: usize = 4096;
/// Most mistakes, and most warnings, that are reported.
const MAX_REPORTS: usize = 100;

/// A file that can be used.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it says.
    pub config: Config,
    /// What may not be what is meant.
    pub warnings: Diagnostics,
}

/// Reads the text of a file.
///
/// # Errors
/// Everything that is wrong with it, and with warnings among them, if anything keeps it from being used.
pub fn parse(source: &str) -> Result<Parsed, Diagnostics> {
    let mut reader = Reader::default();
    if source.len() > MAX_OCTETS {
        let message = format!("the file has {} octets, more than the {MAX_OCTETS} that are read", source.len());
        reader.report(Line::default(), None, Severity::Error, message, None, None);
        return Err(Diagnostics(reader.reports));
    }
    let mut start = 0;
    for (number, text) in source.split_inclusive('\n').enumerate() {
        let line = Line { number: number + 1, start, text: text.trim_end_matches(['\n', '\r']) };
        start += text.len();
        reader.draft.line = line.number;
        reader.lines.push((line.start, line.text.len()));
        reader.read(line);
    }
    reader.finish(source)
}

/// One line of the file.
#[derive(Clone, Copy, Debug, Default)]
struct Line<'a> {
    number: usize,
    /// Octets of the file before it.
    start: usize,
    text: &'a str,
}

/// Something that was named: checked when all is known.
#[derive(Debug)]
struct Mention {
    reference: Reference,
    name: String,
    line: usize,
    place: (usize, usize),
}

#[derive(Debug)]
struct Reader {
    draft: Draft,
    section: Section,
    /// Whether the lines of the section are indented.
    indented: bool,
    mentions: Vec<Mention>,
    reports: Vec<Diagnostic>,
    /// Start and length of every line read so far.
    lines: Vec<(usize, usize)>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            draft: Draft::default(),
            section: Section::Top,
            indented: false,
            mentions: Vec::new(),
            reports: Vec::new(),
            lines: Vec::new(),
        }
    }
}

impl Reader {
    fn read(&mut self, line: Line<'_>) {
        let words = split(line.text);
        let Some(first) = words.first() else { return };
        if first.text.starts_with(['!', '#']) {
            return;
        }
        if line.text.len() > MAX_LINE || line.text.contains('\0') {
            let message =
                format!("the line has {} octets, at most {MAX_LINE} are read, and none may be zero", line.text.len());
            return self.error(line, None, message);
        }
        let outside = first.start == 0 && self.indented && self.section != Section::Top;
        let mut failures = Vec::new();
        for section in self.candidates(outside) {
            match section.tree().find(line.text, Spelling::Full) {
                Ok((row, args)) => return self.apply(line, first, section, row, &args),
                Err(mismatch) => failures.push((section, mismatch)),
            }
        }
        // The section that understood most explains best, the innermost of equals.
        let best = failures.into_iter().reduce(|best, next| if next.1.depth() > best.1.depth() { next } else { best });
        if let Some((section, mismatch)) = best {
            self.explain(line, &words, &section, mismatch);
        }
    }

    /// Sections that a line may belong to, in the order to try them.
    fn candidates(&self, outside: bool) -> Vec<Section> {
        let mut sections: Vec<Section> = std::iter::successors(Some(self.section.clone()), Section::parent).collect();
        // FRR's older files say of IPv4 unicast in `router bgp` itself what belongs into the address family.
        if let Some(at) = sections.iter().position(|section| *section == Section::Bgp)
            && at == 0
        {
            sections.insert(1, Section::Family(Family::Ipv4Unicast));
        }
        if outside {
            sections.reverse();
        }
        sections
    }

    fn apply(&mut self, line: Line<'_>, first: &Word<'_>, section: Section, row: usize, args: &Args<'_>) {
        let implied = matches!(section, Section::Family(_)) && self.section == Section::Bgp;
        match section.apply(row, &mut self.draft, args) {
            Ok(done) => {
                self.note_mentions(line, &section, args);
                if !implied && section != self.section {
                    self.section = section;
                    self.indented = self.section != Section::Top && first.start > 0;
                }
                match done {
                    Done::Stay => self.indented |= first.start > 0,
                    Done::Enter(section) => (self.section, self.indented) = (section, first.start > 0),
                    Done::Leave(Leave::All) => (self.section, self.indented) = (Section::Top, false),
                    Done::Leave(Leave::One) => {
                        self.section = self.section.parent().unwrap_or(Section::Top);
                        self.indented &= self.section != Section::Top;
                    }
                    Done::Ignored => {
                        let message = "this line of FRR's has no effect here".to_owned();
                        self.report(line, None, Severity::Warning, message, None, None);
                    }
                }
            }
            Err(Complaint { place, message }) => self.error(line, place, message),
        }
    }

    fn note_mentions(&mut self, line: Line<'_>, section: &Section, args: &Args<'_>) {
        if args.has("no") {
            return; // What is taken back need not exist.
        }
        for matched in args.matched() {
            let Some(Kind::Reference(reference)) = matched.kind() else { continue };
            let reference = match (reference, section) {
                (Reference::PrefixList(None), Section::Family(family)) => Reference::PrefixList(Some(*family)),
                _ => reference,
            };
            let place = (matched.word.start, matched.word.end());
            self.mentions.push(Mention { reference, name: matched.word.text.to_owned(), line: line.number, place });
        }
    }

    fn explain(&mut self, line: Line<'_>, words: &[Word<'_>], section: &Section, mismatch: Mismatch) {
        match mismatch {
            Mismatch::Unknown { start, end, why, expected, .. } => {
                let word = line.text.get(start..end).unwrap_or_default();
                let shown: String = word.chars().take(64).collect();
                let known = expected.iter().filter(|choice| choice.literal).map(|choice| choice.text.as_str());
                let help = nearest(word, known).map(|word| format!("did you mean \"{word}\"?"));
                let values = expected.iter().filter(|choice| !choice.literal && choice.text != "<cr>").count();
                let message = match why {
                    // With one value to be meant, what it has against the word says most.
                    Some(why) if values == 1 && help.is_none() => why,
                    _ => format!("\"{shown}\" does not fit here, in {}", section.describe()),
                };
                let expected = list(&expected);
                self.report(line, Some((start, end)), Severity::Error, message, Some(expected), help);
            }
            Mismatch::Incomplete { expected, .. } => {
                let last = words.last().map_or((0, 0), |word| (word.start, word.end()));
                let message = "the line ends too early".to_owned();
                self.report(line, Some(last), Severity::Error, message, Some(list(&expected)), None);
            }
            Mismatch::Ambiguous { start, end, candidates } => {
                let message = "this can be read in two ways".to_owned();
                self.report(line, Some((start, end)), Severity::Error, message, Some(list(&candidates)), None);
            }
        }
    }

    /// Whether there are enough reports of the kind. Each kind has its own bound: warnings must not displace the error that
    /// keeps the file from being used.
    fn is_full(&self, severity: Severity) -> bool {
        self.reports.iter().filter(|report| report.severity == severity).count() >= MAX_REPORTS
    }

    fn error(&mut self, line: Line<'_>, place: Option<(usize, usize)>, message: String) {
        self.report(line, place, Severity::Error, message, None, None);
    }

    fn report(
        &mut self,
        line: Line<'_>,
        place: Option<(usize, usize)>,
        severity: Severity,
        message: String,
        expected: Option<String>,
        help: Option<String>,
    ) {
        if self.is_full(severity) {
            return;
        }
        let text = line.text.trim_end();
        let (start, end) = place.unwrap_or_else(|| (text.len() - text.trim_start().len(), text.len()));
        let column = line.text.get(..start).map_or(0, |before| before.chars().count()) + 1;
        let span = (line.start + start, line.start + end);
        self.reports.push(Diagnostic { severity, line: line.number, column, span, message, expected, help });
    }

    fn finish(mut self, source: &str) -> Result<Parsed, Diagnostics> {
        let draft = std::mem::take(&mut self.draft);
        let (config, problems) = draft.finish();
        // What is incomplete is not undefined; that it is incomplete is said once.
        let incomplete = problems.iter().map(|problem| (problem.kind, problem.name.clone()));
        let defined: BTreeSet<(&str, String)> = definitions(&config).chain(incomplete).collect();
        let groups = config.bgp.iter().flat_map(groups_used).map(ToString::to_string).collect::<BTreeSet<_>>();
        for mention in std::mem::take(&mut self.mentions) {
            // A group that a later line took back took its members along.
            let gone = mention.reference == Reference::PeerGroup && !groups.contains(&mention.name);
            if !gone && !defined.contains(&(kind_of(mention.reference), mention.name.clone())) {
                self.undefined(source, &mention, &defined);
            }
        }
        for Problem { line, kind, name, message } in problems {
            let line = self.line(source, line);
            self.error(line, None, format!("{kind} {name}: {message}"));
        }
        self.reports.sort_by_key(|report| report.span);
        let diagnostics = Diagnostics(self.reports);
        if diagnostics.has_errors() { Err(diagnostics) } else { Ok(Parsed { config, warnings: diagnostics }) }
    }

    fn line<'a>(&self, source: &'a str, number: usize) -> Line<'a> {
        let (start, length) = number.checked_sub(1).and_then(|at| self.lines.get(at)).copied().unwrap_or((0, 0));
        Line { number, start, text: source.get(start..start + length).unwrap_or_default() }
    }

    fn undefined(&mut self, source: &str, mention: &Mention, defined: &BTreeSet<(&'static str, String)>) {
        let Mention { reference, name, line, place } = mention;
        let kind = kind_of(*reference);
        let (severity, consequence) = match reference {
            Reference::Wan
            | Reference::Identity
            | Reference::Proposal
            | Reference::BfdProfile
            | Reference::PeerGroup => (Severity::Error, ""),
            // As FRR does: better no route than one that somebody meant to filter.
            Reference::RouteMap | Reference::PrefixList(_) => {
                (Severity::Warning, "; until it is, it denies everything")
            }
        };
        if self.is_full(severity) {
            return; // A near name is not worth looking for.
        }
        let known = defined.range((kind, String::new())..).take_while(|(of, _)| *of == kind);
        let near = nearest(name, known.map(|(_, name)| name.as_str()));
        let help = near.map(|near| format!("did you mean \"{near}\"?"));
        let message = format!("{kind} \"{name}\" is not defined{consequence}");
        let line = self.line(source, *line);
        self.report(line, Some(*place), severity, message, None, help);
    }
}

/// Peer-groups that somebody is a member of.
fn groups_used(bgp: &Bgp) -> impl Iterator<Item = &Name> {
    bgp.neighbors.values().filter_map(|neighbor| neighbor.peer_group.as_ref()).chain(bgp.listen_ranges.values())
}

/// Everything that can be referred to, as [`kind_of`] and its name.
fn definitions(config: &Config) -> impl Iterator<Item = (&'static str, String)> {
    let named = |reference, names: Vec<String>| names.into_iter().map(move |name| (kind_of(reference), name));
    named(Reference::Wan, texts(config.wans.keys()))
        .chain(named(Reference::Identity, texts(config.identities.keys())))
        .chain(named(Reference::Proposal, texts(config.proposals.keys())))
        .chain(named(Reference::BfdProfile, texts(config.bfd_profiles.keys())))
        .chain(named(Reference::RouteMap, texts(config.route_maps.keys())))
        .chain(named(Reference::PeerGroup, texts(config.bgp.iter().flat_map(|bgp| bgp.peer_groups.keys()))))
        .chain(
            config
                .prefix_lists
                .keys()
                .map(|(family, name)| (kind_of(Reference::PrefixList(Some(*family))), name.to_string())),
        )
}

/// As the statement that defines it begins.
fn kind_of(reference: Reference) -> &'static str {
    match reference {
        Reference::Wan => "wan",
        Reference::Identity => "ipsec identity",
        Reference::Proposal => "ipsec proposal",
        Reference::BfdProfile => "bfd profile",
        Reference::RouteMap => "route-map",
        Reference::PeerGroup => "peer-group",
        Reference::PrefixList(Some(Family::Ipv6Unicast)) => "ipv6 prefix-list",
        Reference::PrefixList(_) => "ip prefix-list",
    }
}

fn texts(names: impl Iterator<Item = impl ToString>) -> Vec<String> {
    names.map(|name| name.to_string()).collect()
}

/// Choices in a sentence.
fn list(choices: &[Choice]) -> String {
    let shown = choices.iter().map(|choice| match choice.text.as_str() {
        "<cr>" => "the end of the line".to_owned(),
        text if choice.literal => format!("\"{text}\""),
        text => text.to_owned(),
    });
    let mut shown: Vec<String> = shown.collect();
    match shown.pop() {
        None => "nothing".to_owned(),
        Some(last) if shown.is_empty() => last,
        Some(last) => format!("{} or {last}", shown.join(", ")),
    }
}
