//! What a `no` takes back where no row of the language says it.
//!
//! As in FRR, `no` before a line, or before the beginning of one, undoes what the line did. Rows that need more say so
//! themselves (`[no] …`); for all others the earlier lines are found here and do not count any more. So every row has its
//! `no`, whoever writes it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    grammar::{Args, By, Spelling},
    language::Section,
};

/// A line that was read, and where it was found to belong.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) section: Section,
    /// The section that it begins.
    pub(crate) enters: Option<Section>,
}

/// What has been taken back so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsaid {
    /// By line: it does not count, or it counts as this text instead.
    lines: BTreeMap<usize, Option<String>>,
    /// The `no` lines that have done their work.
    done: BTreeSet<usize>,
}

/// What is to be read in the place of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    AsWritten,
    Skip,
    As(String),
}

impl Unsaid {
    /// What is to be read in the place of line `number`.
    pub(crate) fn reading(&self, number: usize) -> Reading {
        match self.lines.get(&number) {
            _ if self.done.contains(&number) => Reading::Skip,
            Some(None) => Reading::Skip,
            Some(Some(text)) => Reading::As(text.clone()),
            None => Reading::AsWritten,
        }
    }

    /// The `no` in line `number` made these changes.
    fn note(&mut self, number: usize, changes: BTreeMap<usize, Option<String>>) {
        self.done.insert(number);
        self.lines.extend(changes);
    }
}

/// What came of a `no`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It took something back.
    TookBack {
        /// The speaker as a whole is gone: what follows means something else than it did.
        speaker: bool,
    },
    /// It is understood, and there is nothing to take back.
    Nothing,
    /// No line begins like this.
    Unknown,
}

/// The lines before a `no`.
pub(crate) struct Before<'a> {
    pub(crate) said: &'a [Said],
    /// The text of a line.
    pub(crate) text: &'a dyn Fn(usize) -> String,
    pub(crate) unsaid: &'a mut Unsaid,
}

/// A line's words in full, and which of them are values that repeat.
struct Line {
    number: usize,
    words: Vec<String>,
}

impl Before<'_> {
    /// `no` before `tail`, in line `number`; `sections` are those that it may be about, in the order to try them.
    pub(crate) fn take_back(mut self, number: usize, tail: &str, spelling: Spelling, sections: &[Section]) -> Outcome {
        let mut outcome = Outcome::Unknown;
        for section in sections {
            let Some(words) = section.tree().words(tail, spelling) else { continue };
            outcome = Outcome::Nothing;
            let changes = self.find(section, &words);
            if !changes.is_empty() {
                let speaker = |said: &Said| said.enters == Some(Section::Bgp) && changes.contains_key(&said.number);
                let speaker = self.said.iter().any(speaker);
                self.unsaid.note(number, changes);
                return Outcome::TookBack { speaker };
            }
        }
        outcome
    }

    fn find(&mut self, section: &Section, tail: &[String]) -> BTreeMap<usize, Option<String>> {
        let tail: Vec<&str> = tail.iter().map(String::as_str).collect();
        if let (Section::Bgp, ["neighbor", name, rest @ ..]) = (section, tail.as_slice())
            && let Some(changes) = self.find_neighbor(name, rest)
        {
            return changes;
        }
        let here = self.lines(|said| said.section == *section);
        let chosen: Vec<usize> =
            here.iter().filter(|line| begins_with(&line.words, &tail)).map(|line| line.number).collect();
        if !chosen.is_empty() {
            return self.with_sections(&chosen);
        }
        here.iter()
            .find_map(|line| lessened(section, &line.words, &tail).map(|text| (line.number, text)))
            .into_iter()
            .collect()
    }

    /// The neighbor itself, or the group: with everything that is said of it anywhere.
    fn find_neighbor(&self, name: &str, rest: &[&str]) -> Option<BTreeMap<usize, Option<String>>> {
        let all = self.lines(|said| matches!(said.section, Section::Bgp | Section::Family(_)));
        let about = |line: &Line, name: &str| subject(&line.words) == Some(name);
        let says = |line: &Line, name: &str, rest: &[&str]| {
            about(line, name) && line.words.iter().skip(2).map(String::as_str).eq(rest.iter().copied())
        };
        let is_group = all.iter().any(|line| says(line, name, &["peer-group"]));
        let mut gone: BTreeSet<&str> = BTreeSet::new();
        let mut changes = BTreeMap::new();
        // Whoever is in a group and has no AS of its own cannot be without the group.
        let orphan = |member: &str| {
            !all.iter().any(|line| about(line, member) && line.words.get(2).is_some_and(|word| word == "remote-as"))
        };
        match rest {
            [] => drop(gone.insert(name)),
            ["remote-as", ..] if !is_group => drop(gone.insert(name)),
            ["interface", ..] if name.parse::<std::net::IpAddr>().is_err() => drop(gone.insert(name)),
            ["peer-group"] => drop(gone.insert(name)),
            ["peer-group", group] => {
                for line in all.iter().filter(|line| says(line, name, &["peer-group", group])) {
                    changes.insert(line.number, None);
                }
                if orphan(name) && !changes.is_empty() {
                    gone.insert(name);
                }
            }
            _ => return None,
        }
        if is_group && gone.contains(name) {
            for line in all.iter().filter(|line| line.words.ends_with(&["peer-group".into(), name.into()])) {
                changes.insert(line.number, None);
                gone.extend(subject(&line.words).filter(|member| orphan(member)));
            }
        }
        let lines = all.iter().filter(|line| subject(&line.words).is_some_and(|subject| gone.contains(subject)));
        changes.extend(lines.map(|line| (line.number, None)));
        Some(changes)
    }

    /// Lines that still count, of the sections that `of` chooses.
    fn lines(&self, of: impl Fn(&Said) -> bool) -> Vec<Line> {
        let line = |said: &Said| {
            let text = match self.unsaid.reading(said.number) {
                Reading::AsWritten => (self.text)(said.number),
                Reading::As(text) => text,
                Reading::Skip => return None,
            };
            let words = said.section.tree().words(&text, Spelling::Abbreviated)?;
            Some(Line { number: said.number, words })
        };
        self.said.iter().filter(|said| of(said)).filter_map(line).collect()
    }

    /// The lines `chosen`, and all that stands in the sections that they begin.
    fn with_sections(&self, chosen: &[usize]) -> BTreeMap<usize, Option<String>> {
        let begun = self.said.iter().filter(|said| chosen.contains(&said.number));
        let begun: Vec<&Section> = begun.filter_map(|said| said.enters.as_ref()).collect();
        let inside = |said: &&Said| {
            std::iter::successors(Some(said.section.clone()), Section::parent).any(|around| begun.contains(&&around))
        };
        let numbers = self.said.iter().filter(inside).map(|said| said.number);
        numbers.chain(chosen.iter().copied()).map(|number| (number, None)).collect()
    }
}

/// Whom a line is about: `neighbor X …`, or `no neighbor X …` where that is a row of its own.
fn subject(words: &[String]) -> Option<&str> {
    let words = if words.first().is_some_and(|word| word == "no") { &words[1..] } else { words };
    words.first().filter(|word| *word == "neighbor").and(words.get(1)).map(String::as_str)
}

/// Whether the line begins with `tail`; a sequence number that `tail` does not name may be any.
fn begins_with(words: &[String], tail: &[&str]) -> bool {
    let whole = |words: &mut dyn Iterator<Item = &String>| {
        tail.iter().all(|said| words.next().is_some_and(|word| word == said))
    };
    if whole(&mut words.iter()) {
        return true;
    }
    match words.iter().position(|word| word == "seq") {
        Some(at) if at >= 2 => whole(
            &mut words.iter().enumerate().filter(|(index, _)| *index != at && *index != at + 1).map(|(_, word)| word),
        ),
        _ => false,
    }
}

/// The line without what `tail` takes from it: some of the values of a list, or the one value that the line has, whatever
/// the `no` says that it is. The outer `None` if `tail` is not about this line.
fn lessened(section: &Section, words: &[String], tail: &[&str]) -> Option<Option<String>> {
    let (line, taken) = (words.join(" "), tail.join(" "));
    let (row, ours) = section.tree().find(&line, Spelling::Full).ok()?;
    let (other, theirs) = section.tree().find(&taken, Spelling::Full).ok()?;
    if row != other {
        return None;
    }
    let values = |args: &Args<'_>| -> Vec<(&'static str, String)> {
        let values = args.matched().iter().filter_map(|matched| match matched.by {
            By::Value(leaf) => Some((leaf.label, matched.word.text.to_owned())),
            By::Word(_) => None,
        });
        values.collect()
    };
    let (mine, taken) = (values(&ours), values(&theirs));
    let repeats = mine.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if repeats {
        if !taken.iter().all(|value| mine.contains(value)) {
            return None;
        }
        let last = mine.last().map(|(label, _)| *label)?;
        let kept = words.iter().filter(|word| !taken.iter().any(|(label, text)| *label == last && text == *word));
        return Some(Some(kept.map(String::as_str).collect::<Vec<_>>().join(" ")));
    }
    // Of these a section has one line for each neighbor, so its value need not be known to be taken back.
    let single = matches!(words.first()?.as_str(), "neighbor" | "bgp" | "timers" | "maximum-paths" | "distance");
    let speaks = single && matches!(section, Section::Bgp | Section::Family(_));
    let plain =
        theirs.matched().iter().take_while(|matched| !matches!(matched.by, By::Value(leaf) if is_plain(leaf.label)));
    let beginning: Vec<&str> = tail.iter().take(plain.count()).copied().collect();
    (speaks && begins_with(words, &beginning)).then_some(None)
}

/// Whether a value of this kind says how much, and not which line is meant.
fn is_plain(label: &str) -> bool {
    const PLAIN: [&str; 10] =
        ["NUMBER", "SECONDS", "KEEPALIVE", "HOLD", "PERCENT", "MINUTES", "PASSWORD", "TEXT", "IPV4", "ROUTER-ID"];
    PLAIN.contains(&label)
}
