//! A file into a configuration.
//!
//! Sections need no indentation: as in FRR a line that does not belong into the section it stands in is tried in those
//! around it. Some of our statements mean one thing in a section and another outside (`wan`), so where a section is indented,
//! a line that is not stands outside of it.

use std::collections::BTreeSet;

use net_types::Family;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Severity, nearest},
    foreign::{Foreign, Verdict},
    grammar::{Args, Choice, Complaint, Kind, Mismatch, Reference, Spelling, Word, split},
    language::{Done, Draft, Leave, Problem, Section, vrrp},
    model::{Bgp, Config, Name},
    unsay::{Before, Outcome, Reading, Said, Unsaid},
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

/// What becomes of a line that this version cannot use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownLines {
    /// The text is refused.
    #[default]
    Refuse,
    /// It is told among the warnings and passed over, with what stands in the section that it begins.
    Warn,
}

/// How a text is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) unknown: UnknownLines,
    /// Number of the first line whose words may be abbreviated.
    pub(crate) abbreviated_from: usize,
}

/// Reads the text of a file.
///
/// # Errors
/// Everything that is wrong with it, and with warnings among them, if anything keeps it from being used.
pub fn parse(source: &str) -> Result<Parsed, Diagnostics> {
    parse_with(source, UnknownLines::Refuse)
}

/// Reads the text of a file that may have lines that this version does not know.
///
/// # Errors
/// As [`parse`]; of what is merely unknown, only if `unknown` says so.
pub fn parse_with(source: &str, unknown: UnknownLines) -> Result<Parsed, Diagnostics> {
    // FRR reads abbreviations in its files.
    let abbreviated_from = if unknown == UnknownLines::Warn { 1 } else { usize::MAX };
    read(source, Manner { unknown, abbreviated_from })
}

/// Reads `source`, and again as often as a `no` changes what the lines before it mean.
pub(crate) fn read(source: &str, manner: Manner) -> Result<Parsed, Diagnostics> {
    let mut unsaid = Unsaid::default();
    if source.len() > MAX_OCTETS {
        let message = format!("the file has {} octets, more than the {MAX_OCTETS} that are read", source.len());
        let mut reader = Reader::new(source, manner, unsaid);
        reader.report(Line::default(), None, Severity::Error, message, None, None);
        return Err(Diagnostics(reader.reports));
    }
    loop {
        let mut reader = Reader::new(source, manner, unsaid);
        let mut start = 0;
        for (number, text) in source.split_inclusive('\n').enumerate() {
            let line = Line { number: number + 1, start, text: text.trim_end_matches(['\n', '\r']) };
            start += text.len();
            reader.draft.line = line.number;
            reader.lines.push((line.start, line.text.len()));
            reader.read(line);
            if reader.again == Again::AtOnce {
                break;
            }
        }
        if reader.again == Again::No {
            return reader.finish();
        }
        unsaid = reader.unsaid;
    }
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

/// Whether the text is to be read once more, without what has been taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    No,
    AtTheEnd,
    AtOnce,
}

#[derive(Debug)]
struct Reader<'a> {
    source: &'a str,
    manner: Manner,
    unsaid: Unsaid,
    said: Vec<Said>,
    foreign: Option<Foreign>,
    again: Again,
    draft: Draft,
    section: Section,
    /// Whether the lines of the section are indented.
    indented: bool,
    mentions: Vec<Mention>,
    reports: Vec<Diagnostic>,
    /// Start and length of every line read so far.
    lines: Vec<(usize, usize)>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str, manner: Manner, unsaid: Unsaid) -> Self {
        Self {
            source,
            manner,
            unsaid,
            said: Vec::new(),
            foreign: None,
            again: Again::No,
            draft: Draft::default(),
            section: Section::Top,
            indented: false,
            mentions: Vec::new(),
            reports: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn read(&mut self, line: Line<'_>) {
        match self.unsaid.reading(line.number) {
            Reading::AsWritten => self.read_line(line),
            Reading::Skip => {}
            Reading::As(text) => {
                let indent = line.text.len() - line.text.trim_start().len();
                let text = format!("{:indent$}{text}", "");
                self.read_line(Line { text: &text, ..line });
            }
        }
    }

    fn spelling(&self, number: usize) -> Spelling {
        if number >= self.manner.abbreviated_from { Spelling::Abbreviated } else { Spelling::Full }
    }

    fn read_line(&mut self, line: Line<'_>) {
        let words = split(line.text);
        let Some(first) = words.first() else { return };
        if first.text.starts_with(['!', '#']) {
            return;
        }
        if let Some(foreign) = &mut self.foreign {
            match foreign.judge(&words) {
                Verdict::Within => return,
                Verdict::Ends => return self.foreign = None,
                Verdict::Beyond => self.foreign = None,
            }
        }
        if line.text.len() > MAX_LINE || line.text.contains('\0') {
            let message =
                format!("the line has {} octets, at most {MAX_LINE} are read, and none may be zero", line.text.len());
            return self.error(line, None, message);
        }
        let outside = first.start == 0 && self.indented && self.section != Section::Top;
        let mut failures = Vec::new();
        // As in FRR, whoever loses its AS is gone with all that is said of it, which no row can do.
        let disowns = matches!(words.as_slice(), [no, neighbor, _, remote_as, ..]
            if (no.text, neighbor.text, remote_as.text) == ("no", "neighbor", "remote-as"));
        if disowns && self.take_back(line, &words, outside) {
            return;
        }
        let spelling = self.spelling(line.number);
        for section in self.candidates(outside) {
            match section.tree().find(line.text, spelling) {
                Ok((row, args)) => return self.apply(line, first, section, row, &args),
                Err(mismatch) => failures.push((section, mismatch)),
            }
        }
        if first.text == "no" && self.take_back(line, &words, outside) {
            return;
        }
        // The section that understood most explains best, the innermost of equals.
        let best = failures.into_iter().reduce(|best, next| if next.1.depth() > best.1.depth() { next } else { best });
        if let Some((section, mismatch)) = best {
            self.explain(line, &words, &section, mismatch);
        }
        if self.manner.unknown == UnknownLines::Warn {
            self.foreign = Foreign::begun_by(&words);
        }
    }

    /// `no` where no row says it. Whether that is what the line means.
    fn take_back(&mut self, line: Line<'_>, words: &[Word<'_>], outside: bool) -> bool {
        let Some(tail) = words.get(1).and_then(|word| line.text.get(word.start..)) else { return false };
        let sections = self.candidates(outside);
        let spelling = self.spelling(line.number);
        let (source, lines) = (self.source, &self.lines);
        let text = |number: usize| line_at(source, lines, number).text.to_owned();
        let before = Before { said: &self.said, text: &text, unsaid: &mut self.unsaid };
        match before.take_back(line.number, tail, spelling, &sections) {
            Outcome::TookBack { speaker: true } => self.again = Again::AtOnce,
            Outcome::TookBack { speaker: false } => self.again = Again::AtTheEnd,
            Outcome::Nothing => {
                let message = "there is nothing to take back".to_owned();
                self.report(line, None, Severity::Warning, message, None, None);
            }
            Outcome::Unknown => return false,
        }
        true
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
                let enters = if let Done::Enter(section) = &done { Some(section.clone()) } else { None };
                self.said.push(Said { number: line.number, section: section.clone(), enters });
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
            Err(Complaint { place, message }) => {
                self.report(line, place, self.unusable(), message, None, None);
                // What follows belongs to the section that this line did not get to begin.
                if self.manner.unknown == UnknownLines::Warn {
                    self.foreign = Foreign::begun_by(&split(line.text));
                }
            }
        }
    }

    fn note_mentions(&mut self, line: Line<'_>, section: &Section, args: &Args<'_>) {
        if args.has("no") {
            return; // What is taken back need not exist.
        }
        for matched in args.matched() {
            let Some(Kind::Reference(reference)) = matched.kind() else { continue };
            let reference = match (reference, section) {
                (Reference::PrefixList(None), Section::Family(family)) => Reference::PrefixList(Some(family.unicast())),
                (Reference::AccessList(None), Section::Family(family)) => Reference::AccessList(Some(family.unicast())),
                _ => reference,
            };
            let place = (matched.word.start, matched.word.end());
            self.mentions.push(Mention { reference, name: matched.word.text.to_owned(), line: line.number, place });
        }
    }

    fn explain(&mut self, line: Line<'_>, words: &[Word<'_>], section: &Section, mismatch: Mismatch) {
        let severity = self.unusable();
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
                self.report(line, Some((start, end)), severity, message, Some(expected), help);
            }
            Mismatch::Incomplete { expected, .. } => {
                let last = words.last().map_or((0, 0), |word| (word.start, word.end()));
                let message = "the line ends too early".to_owned();
                self.report(line, Some(last), severity, message, Some(list(&expected)), None);
            }
            Mismatch::Ambiguous { start, end, candidates } => {
                let message = "this can be read in two ways".to_owned();
                self.report(line, Some((start, end)), severity, message, Some(list(&candidates)), None);
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

    /// How bad it is that a line cannot be used.
    fn unusable(&self) -> Severity {
        match self.manner.unknown {
            UnknownLines::Refuse => Severity::Error,
            UnknownLines::Warn => Severity::Warning,
        }
    }

    fn finish(mut self) -> Result<Parsed, Diagnostics> {
        let draft = std::mem::take(&mut self.draft);
        let (mut config, problems) = draft.finish();
        // What is incomplete is not undefined; that it is incomplete is said once.
        let incomplete = problems.iter().map(|problem| (problem.kind, problem.name.clone()));
        let defined: BTreeSet<(&str, String)> = definitions(&config).chain(incomplete).collect();
        let groups = config.bgp.iter().flat_map(groups_used).map(ToString::to_string).collect::<BTreeSet<_>>();
        for mention in std::mem::take(&mut self.mentions) {
            // A group that a later line took back took its members along.
            let gone = mention.reference == Reference::PeerGroup && !groups.contains(&mention.name);
            if !gone && !defined.contains(&(kind_of(mention.reference), mention.name.clone())) {
                self.undefined(&mention, &defined);
            }
        }
        for Problem { line, kind, name, message } in problems {
            let line = line_at(self.source, &self.lines, line);
            // A neighbor or a virtual router that is incomplete can be left out; what tunnels say cannot be half meant.
            let severity = if ["neighbor", vrrp::PROBLEM].contains(&kind) { self.unusable() } else { Severity::Error };
            match (severity, &mut config.bgp) {
                (Severity::Warning, _) if kind == vrrp::PROBLEM => {
                    config.vrrp.retain(|(interface, vrid), _| vrrp::problem_name(interface, *vrid) != name);
                }
                (Severity::Warning, Some(bgp)) => bgp.neighbors.retain(|key, _| key.to_string() != name),
                _ => {}
            }
            self.report(line, None, severity, format!("{kind} {name}: {message}"), None, None);
        }
        self.reports.sort_by_key(|report| report.span);
        let diagnostics = Diagnostics(self.reports);
        if diagnostics.has_errors() { Err(diagnostics) } else { Ok(Parsed { config, warnings: diagnostics }) }
    }

    fn undefined(&mut self, mention: &Mention, defined: &BTreeSet<(&'static str, String)>) {
        let Mention { reference, name, line, place } = mention;
        let kind = kind_of(*reference);
        let (severity, consequence) = match reference {
            Reference::Wan
            | Reference::Identity
            | Reference::Proposal
            | Reference::PeerGroup
            | Reference::KeyChain
            | Reference::Tunnel => (Severity::Error, ""),
            Reference::BfdProfile if self.manner.unknown == UnknownLines::Refuse => (Severity::Error, ""),
            Reference::BfdProfile => (Severity::Warning, "; until it is, the default timing holds"),
            // As FRR does: better no route than one that somebody meant to filter.
            _ => (Severity::Warning, "; until it is, it denies everything"),
        };
        if self.is_full(severity) {
            return; // A near name is not worth looking for.
        }
        let known = defined.range((kind, String::new())..).take_while(|(of, _)| *of == kind);
        let near = nearest(name, known.map(|(_, name)| name.as_str()));
        let help = near.map(|near| format!("did you mean \"{near}\"?"));
        let message = format!("{kind} \"{name}\" is not defined{consequence}");
        let line = line_at(self.source, &self.lines, *line);
        self.report(line, Some(*place), severity, message, None, help);
    }
}

/// Peer-groups that somebody is a member of.
fn groups_used(bgp: &Bgp) -> impl Iterator<Item = &Name> {
    bgp.neighbors.values().filter_map(|neighbor| neighbor.peer_group.as_ref()).chain(bgp.listen_ranges.values())
}

/// The line of that number; `lines` are the starts and lengths of those read so far.
fn line_at<'a>(source: &'a str, lines: &[(usize, usize)], number: usize) -> Line<'a> {
    let (start, length) = number.checked_sub(1).and_then(|at| lines.get(at)).copied().unwrap_or((0, 0));
    Line { number, start, text: source.get(start..start + length).unwrap_or_default() }
}

/// Everything that can be referred to, as [`kind_of`] and its name.
fn definitions(config: &Config) -> impl Iterator<Item = (&'static str, String)> {
    let named = |reference, names: Vec<String>| names.into_iter().map(move |name| (kind_of(reference), name));
    named(Reference::Wan, texts(config.wans.keys()))
        .chain(named(Reference::Identity, texts(config.identities.keys())))
        .chain(named(Reference::Proposal, texts(config.proposals.keys())))
        .chain(named(Reference::Tunnel, texts(config.tunnels.keys())))
        .chain(named(Reference::KeyChain, texts(config.key_chains.keys())))
        .chain(named(Reference::BfdProfile, texts(config.bfd_profiles.keys())))
        .chain(named(Reference::RouteMap, texts(config.route_maps.keys())))
        .chain(named(Reference::AsPathList, texts(config.as_path_lists.keys())))
        .chain(named(Reference::CommunityList, texts(config.community_lists.keys())))
        .chain(named(Reference::LargeCommunityList, texts(config.large_community_lists.keys())))
        .chain(named(Reference::ExtCommunityList, texts(config.ext_community_lists.keys())))
        .chain(
            config
                .access_lists
                .keys()
                .map(|(family, name)| (kind_of(Reference::AccessList(Some(*family))), name.to_string())),
        )
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
        Reference::KeyChain => "key chain",
        Reference::Tunnel => "ipsec tunnel",
        Reference::BfdProfile => "bfd profile",
        Reference::RouteMap => "route-map",
        Reference::PeerGroup => "peer-group",
        Reference::AccessList(Some(Family::Ipv6Unicast)) => "ipv6 access-list",
        Reference::AccessList(_) => "access-list",
        Reference::AsPathList => "as-path access-list",
        Reference::CommunityList => "community-list",
        Reference::LargeCommunityList => "large-community-list",
        Reference::ExtCommunityList => "extcommunity-list",
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
