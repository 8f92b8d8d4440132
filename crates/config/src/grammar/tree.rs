//! The tree of all syntaxes of a context.
//!
//! A line walks it on every branch at once, so that `sh b s` finds its one meaning even where `b` alone has two. There are
//! at most as many places as the tree has nodes, so the time a line takes is bounded by its length times the grammar's size.

use super::{
    args::{Args, By, Matched},
    leaf::Leaf,
    syntax::{self, Part},
    vocabulary,
    words::{Word, split},
};

/// How literals may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// In full.
    Full,
    /// By any beginning that leaves one meaning.
    Abbreviated,
}

/// The syntaxes of one context, each with the number of its row.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    conflicts: Vec<String>,
}

#[derive(Clone, Debug)]
struct Node {
    token: Token,
    children: Vec<usize>,
    /// The value may be followed by another of its kind.
    repeats: bool,
    /// The row that ends here.
    row: Option<usize>,
    /// What the row does, for the help of its last word.
    help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Root,
    Word(&'static str),
    Value(Leaf),
}

/// Something that may stand at a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    /// A literal, or a picture of a value such as `A.B.C.D/M`.
    pub text: String,
    /// Whether it is literal, so that it can be completed.
    pub literal: bool,
    /// What it means.
    pub help: String,
}

/// Why a line has no meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Nothing fits the word at `start..end`.
    Unknown {
        /// Words that fitted before it.
        depth: usize,
        /// Where it begins.
        start: usize,
        /// Where it ends.
        end: usize,
        /// What a value at this place has against it.
        why: Option<String>,
        /// What would have fitted.
        expected: Vec<Choice>,
    },
    /// The line ends too early.
    Incomplete {
        /// Words that fitted.
        depth: usize,
        /// What could follow.
        expected: Vec<Choice>,
    },
    /// Abbreviations leave more than one meaning.
    Ambiguous {
        /// Where the word that could be several begins.
        start: usize,
        /// Where it ends.
        end: usize,
        /// What it could be.
        candidates: Vec<Choice>,
    },
}

/// How well a word fits; smaller is better, and earlier words weigh more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Full,
    Value,
    VagueValue,
    Abbreviated,
}

/// One word taken, and the way that led there. Ways share their beginnings.
#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    fit: Fit,
    matched: Matched<'a>,
    before: Option<usize>,
}

/// All ways to read the words of a line.
#[derive(Debug, Default)]
struct Walk<'a> {
    steps: Vec<Step<'a>>,
    /// Where each way ends: its node, and its last step.
    ends: Vec<(usize, Option<usize>)>,
}

impl<'a> Walk<'a> {
    fn last_fit(&self, end: &(usize, Option<usize>)) -> Option<Fit> {
        end.1.and_then(|step| self.steps.get(step)).map(|step| step.fit)
    }

    /// The whole way that ends with `step`.
    fn retrace(&self, step: Option<usize>) -> (Vec<Fit>, Vec<Matched<'a>>) {
        let steps = std::iter::successors(step.and_then(|step| self.steps.get(step)), |step| {
            step.before.and_then(|before| self.steps.get(before))
        });
        let (mut fits, mut matched): (Vec<_>, Vec<_>) = steps.map(|step| (step.fit, step.matched)).unzip();
        fits.reverse();
        matched.reverse();
        (fits, matched)
    }
}

impl Tree {
    /// The tree of `(syntax, help)` rows; the number of a row is its place among them.
    pub fn new(rows: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let mut tree = Self { nodes: vec![Node::new(Token::Root)], conflicts: Vec::new() };
        for (row, (syntax, help)) in rows.into_iter().enumerate() {
            match syntax::read(syntax) {
                Some(parts) => {
                    for end in tree.add(vec![0], &parts) {
                        tree.finish(end, row, syntax, help);
                    }
                }
                None => tree.conflicts.push(format!("\"{syntax}\" is not well-formed")),
            }
        }
        tree
    }

    /// What is wrong with the grammar itself: syntaxes that are not well-formed, or that cannot be told apart.
    pub fn conflicts(&self) -> &[String] {
        &self.conflicts
    }

    /// Literals that the vocabulary does not explain.
    pub fn unexplained(&self) -> Vec<&'static str> {
        let words = self.nodes.iter().filter_map(|node| match node.token {
            Token::Word(word) if vocabulary::explain(word).is_none() => Some(word),
            _ => None,
        });
        words.collect()
    }

    fn add(&mut self, mut ends: Vec<usize>, parts: &[Part]) -> Vec<usize> {
        for part in parts {
            ends = match part {
                Part::Word(word) => self.extend(&ends, Token::Word(word), false),
                Part::Value { leaf, repeats } => self.extend(&ends, Token::Value(*leaf), *repeats),
                Part::Choice(alternatives) => {
                    alternatives.iter().flat_map(|parts| self.add(ends.clone(), parts)).collect()
                }
                Part::Optional(parts) => {
                    let with = self.add(ends.clone(), parts);
                    ends.into_iter().chain(with).collect()
                }
            };
        }
        ends
    }

    fn extend(&mut self, parents: &[usize], token: Token, repeats: bool) -> Vec<usize> {
        let mut ends = Vec::new();
        for &parent in parents {
            let known = self.children(parent).find(|child| {
                self.nodes.get(*child).is_some_and(|node| node.token == token && node.repeats == repeats)
            });
            let end = known.unwrap_or_else(|| {
                let new = self.nodes.len();
                self.nodes.push(Node { repeats, ..Node::new(token) });
                if let Some(parent) = self.nodes.get_mut(parent) {
                    parent.children.push(new);
                }
                new
            });
            ends.push(end);
        }
        ends
    }

    fn finish(&mut self, end: usize, row: usize, syntax: &str, help: &'static str) {
        let Some(node) = self.nodes.get_mut(end) else { return };
        match node.row {
            Some(other) if other != row => self.conflicts.push(format!("\"{syntax}\" cannot be told from row {other}")),
            _ => (node.row, node.help) = (Some(row), help),
        }
    }

    fn children(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let node = self.nodes.get(parent);
        let again = node.is_some_and(|node| node.repeats).then_some(parent);
        node.into_iter().flat_map(|node| node.children.iter().copied()).chain(again)
    }

    /// The row that `line` means, and what it says.
    pub(crate) fn find<'a>(&self, line: &'a str, spelling: Spelling) -> Result<(usize, Args<'a>), Mismatch> {
        let words = split(line);
        let walk = self.walk(line, &words, spelling)?;
        let whole = walk.ends.iter().filter_map(|(node, step)| Some((self.nodes.get(*node)?.row?, *step)));
        let mut whole: Vec<_> = whole
            .map(|(row, step)| {
                let (fits, matched) = walk.retrace(step);
                (fits, row, matched)
            })
            .collect();
        whole.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        let mut whole = whole.into_iter();
        let Some((fits, row, matched)) = whole.next() else {
            return Err(Mismatch::Incomplete { depth: words.len(), expected: self.following(&walk.ends) });
        };
        match whole.find(|(other_fits, other, _)| *other_fits == fits && *other != row) {
            Some((_, _, rival)) => Err(ambiguous(&matched, &rival)),
            None => Ok((row, Args { matched })),
        }
    }

    /// The words of `line` in full, if it is the beginning of a line with a meaning.
    pub(crate) fn words(&self, line: &str, spelling: Spelling) -> Option<Vec<String>> {
        let walk = self.walk(line, &split(line), spelling).ok()?;
        let ways = walk.ends.iter().map(|(_, step)| walk.retrace(*step));
        let (_, matched) = ways.min_by(|a, b| a.0.cmp(&b.0))?;
        let word = |matched: &Matched<'_>| match matched.by {
            By::Word(word) => vec![word.to_owned()],
            // Values that take the line have white space in them.
            By::Value(_) => matched.word.text.split_ascii_whitespace().map(str::to_owned).collect(),
        };
        Some(matched.iter().flat_map(word).collect())
    }

    /// What may stand at the end of `line`: in place of its last word, or after it if white space follows.
    pub fn choices(&self, line: &str, spelling: Spelling) -> Vec<Choice> {
        let mut words = split(line);
        let begun = if line.ends_with(|c: char| c.is_ascii_whitespace()) { None } else { words.pop() };
        let Ok(walk) = self.walk(line, &words, spelling) else { return Vec::new() };
        let begun = begun.map_or("", |word| word.text);
        let mut choices = self.following(&walk.ends);
        choices.retain(|choice| !choice.literal || choice.text.starts_with(begun));
        if !begun.is_empty() {
            choices.retain(|choice| choice.text != END);
        }
        choices
    }

    /// Walks the words; every way has taken all of them.
    fn walk<'a>(&self, line: &'a str, words: &[Word<'a>], spelling: Spelling) -> Result<Walk<'a>, Mismatch> {
        let mut walk = Walk { steps: Vec::new(), ends: vec![(0, None)] };
        // Ways whose last value has taken the rest of the line.
        let mut finished = Vec::new();
        for (depth, &word) in words.iter().enumerate() {
            let (mut next, mut why) = (Vec::new(), None);
            for &(at, before) in &walk.ends {
                for child in self.children(at) {
                    let Some(node) = self.nodes.get(child) else { continue };
                    let (fit, matched) = match node.fits(line, word, spelling) {
                        Ok(Some(fits)) => fits,
                        Ok(None) => continue,
                        Err(error) => {
                            why.get_or_insert(error);
                            continue;
                        }
                    };
                    let step = Step { fit, matched, before };
                    let end = (child, Some(walk.steps.len()));
                    walk.steps.push(step);
                    if matched.by.takes_line() { finished.push(end) } else { next.push(end) }
                }
            }
            if next.is_empty() && finished.is_empty() {
                let expected = self.following(&walk.ends);
                return Err(Mismatch::Unknown { depth, start: word.start, end: word.end(), why, expected });
            }
            // A literal given in full is not the beginning of another.
            if next.iter().any(|end| walk.last_fit(end) == Some(Fit::Full)) {
                next.retain(|end| walk.last_fit(end) != Some(Fit::Abbreviated));
            }
            walk.ends = next;
        }
        walk.ends.append(&mut finished);
        Ok(walk)
    }

    /// What may follow any of the ways that end at `ends`.
    fn following(&self, ends: &[(usize, Option<usize>)]) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (at, _) in ends {
            choices.extend(self.children(*at).filter_map(|child| self.nodes.get(child).and_then(Node::choice)));
            if let Some(node) = self.nodes.get(*at).filter(|node| node.row.is_some()) {
                choices.push(Choice { text: END.to_owned(), literal: false, help: node.help.to_owned() });
            }
        }
        choices.sort();
        choices.dedup_by(|a, b| a.text == b.text);
        choices
    }
}

/// What stands among the choices where the line may end.
const END: &str = "<cr>";

fn ambiguous(best: &[Matched<'_>], rival: &[Matched<'_>]) -> Mismatch {
    let differ = best.iter().zip(rival).find(|(ours, theirs)| ours.by != theirs.by);
    let candidates = differ.map(|(ours, theirs)| [ours.by, theirs.by].map(By::choice)).into_iter().flatten();
    let (start, end) = differ.map_or((0, 0), |(ours, _)| (ours.word.start, ours.word.end()));
    Mismatch::Ambiguous { start, end, candidates: candidates.collect() }
}

impl By {
    fn takes_line(self) -> bool {
        matches!(self, Self::Value(leaf) if leaf.kind.takes_line())
    }

    fn choice(self) -> Choice {
        match self {
            Self::Word(word) => Choice {
                text: word.to_owned(),
                literal: true,
                help: vocabulary::explain(word).unwrap_or_default().to_owned(),
            },
            Self::Value(leaf) => {
                Choice { text: leaf.to_string(), literal: false, help: vocabulary::explain_value(&leaf).to_owned() }
            }
        }
    }
}

impl Node {
    fn new(token: Token) -> Self {
        Self { token, children: Vec::new(), repeats: false, row: None, help: "" }
    }

    /// How `word` fits here, and what it is then; or what a value has against it.
    fn fits<'a>(
        &self,
        line: &'a str,
        word: Word<'a>,
        spelling: Spelling,
    ) -> Result<Option<(Fit, Matched<'a>)>, String> {
        Ok(match self.token {
            Token::Word(text) if text == word.text => Some((Fit::Full, Matched { word, by: By::Word(text) })),
            Token::Word(text) if spelling == Spelling::Abbreviated && text.starts_with(word.text) => {
                Some((Fit::Abbreviated, Matched { word, by: By::Word(text) }))
            }
            Token::Root | Token::Word(_) => None,
            Token::Value(leaf) => {
                let rest = || line.get(word.start..).map_or(word.text, str::trim_end);
                let word = if leaf.kind.takes_line() { Word { text: rest(), ..word } } else { word };
                leaf.kind.check(word.text)?;
                let fit = if leaf.kind.is_vague() { Fit::VagueValue } else { Fit::Value };
                Some((fit, Matched { word, by: By::Value(leaf) }))
            }
        })
    }

    fn choice(&self) -> Option<Choice> {
        match self.token {
            Token::Root => None,
            Token::Word(word) => Some(By::Word(word).choice()),
            Token::Value(leaf) => Some(By::Value(leaf).choice()),
        }
    }
}

impl Mismatch {
    /// How far the line made sense: of several contexts, the one that understood most has the best explanation.
    pub fn depth(&self) -> usize {
        match self {
            Self::Unknown { depth, .. } | Self::Incomplete { depth, .. } => *depth,
            Self::Ambiguous { .. } => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::new([
            ("show bgp summary [json]", "a"),
            ("show bfd peers", "b"),
            ("show ip route [PREFIX4]", "c"),
            ("show interface IFNAME", "d"),
            ("set community COMMUNITY... [additive]", "e"),
            ("description TEXT", "f"),
            ("show ip route summary", "g"),
        ])
    }

    fn row(line: &str) -> Result<usize, Mismatch> {
        tree().find(line, Spelling::Abbreviated).map(|(row, _)| row)
    }

    #[test]
    fn abbreviations_count_when_one_meaning_is_left() {
        assert_eq!(row("sh b s j"), Ok(0), "b is ambiguous alone, b s is not");
        assert_eq!(row("sh bf p"), Ok(1));
        assert_eq!(row("sh ip ro 10.0.0.0/8"), Ok(2));
        assert_eq!(row("sh ip ro s"), Ok(6));
        assert!(matches!(row("sh"), Err(Mismatch::Incomplete { .. })));
        assert!(matches!(row("sh b x"), Err(Mismatch::Unknown { depth: 2, start: 5, end: 6, .. })));
        let full = tree().find("sh bgp summary", Spelling::Full);
        assert!(matches!(full, Err(Mismatch::Unknown { depth: 0, .. })));
    }

    #[test]
    fn two_meanings_are_told_with_both() {
        let tree = Tree::new([("clear bgp", ""), ("clear bfd", "")]);
        match tree.find("cl b", Spelling::Abbreviated) {
            Err(Mismatch::Ambiguous { start: 3, end: 4, candidates }) => {
                assert_eq!(candidates.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["bgp", "bfd"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_repeat_and_lines_are_taken_whole() {
        let tree = tree();
        let (row, args) = tree.find("set community 1:1 no-export additive", Spelling::Full).unwrap();
        assert_eq!((row, args.all::<String>("COMMUNITY").unwrap().len(), args.has("additive")), (4, 2, true));
        let (_, args) = tree.find("description  to  the  hub ", Spelling::Full).unwrap();
        assert_eq!(args.get::<String>("TEXT").unwrap(), "to  the  hub");
    }

    #[test]
    fn choices_are_what_may_stand_there() {
        let texts = |line: &str| -> Vec<String> {
            tree().choices(line, Spelling::Abbreviated).into_iter().map(|choice| choice.text).collect()
        };
        assert_eq!(texts("sh b"), ["bfd", "bgp"]);
        assert_eq!(texts("sh bgp "), ["summary"]);
        assert_eq!(texts("sh ip route "), ["<cr>", "A.B.C.D/M", "summary"]);
        assert_eq!(texts("sh bgp summary "), ["<cr>", "json"]);
        assert_eq!(texts("nonsense "), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_told_apart_is_reported() {
        assert_eq!(Tree::new([("a [b]", ""), ("a b", "")]).conflicts().len(), 1);
        assert_eq!(Tree::new([("a (b", "")]).conflicts().len(), 1);
        assert!(tree().conflicts().is_empty());
    }
}
