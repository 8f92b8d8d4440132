//! The notation of a syntax.

use super::leaf::Leaf;

/// A part of a syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// This word.
    Word(&'static str),
    /// A value, at least once, or once.
    Value { leaf: Leaf, repeats: bool },
    /// One of these.
    Choice(Vec<Vec<Part>>),
    /// This or nothing.
    Optional(Vec<Part>),
}

/// Reads a syntax. `None` when it is not well-formed, which a test makes sure of for every row.
pub(super) fn read(syntax: &'static str) -> Option<Vec<Part>> {
    let mut tokens = tokens(syntax);
    let mut alternatives = read_alternatives(&mut tokens)?;
    match (tokens.next(), alternatives.pop()) {
        (None, Some(parts)) if alternatives.is_empty() => Some(parts),
        _ => None,
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<&'static str>>;

fn tokens(syntax: &'static str) -> Tokens {
    const MARKS: [char; 5] = ['[', ']', '(', ')', '|'];
    let mut tokens = Vec::new();
    for word in syntax.split(' ') {
        let mut rest = word;
        while !rest.is_empty() {
            // A mark is a token of its own, and so is what stands between two.
            let cut = if rest.starts_with(MARKS) { 1 } else { rest.find(MARKS).unwrap_or(rest.len()) };
            let (token, tail) = rest.split_at(cut);
            tokens.push(token);
            rest = tail;
        }
    }
    tokens.into_iter().peekable()
}

fn read_alternatives(tokens: &mut Tokens) -> Option<Vec<Vec<Part>>> {
    let mut alternatives = vec![Vec::new()];
    while let Some(token) = tokens.next_if(|token| !matches!(*token, "]" | ")")) {
        let parts = alternatives.last_mut()?;
        match token {
            "|" => alternatives.push(Vec::new()),
            "[" => {
                let mut inner = read_alternatives(tokens)?;
                (tokens.next() == Some("]")).then_some(())?;
                let inner = if inner.len() == 1 { inner.pop()? } else { vec![Part::Choice(inner)] };
                parts.push(Part::Optional(inner));
            }
            "(" => {
                let inner = read_alternatives(tokens)?;
                (tokens.next() == Some(")")).then_some(())?;
                parts.push(Part::Choice(inner));
            }
            // `Null0` is a word.
            value
                if value.starts_with(|c: char| c.is_ascii_uppercase())
                    && !value.contains(|c: char| c.is_ascii_lowercase()) =>
            {
                let (name, repeats) = value.strip_suffix("...").map_or((value, false), |name| (name, true));
                parts.push(Part::Value { leaf: Leaf::from_syntax(name)?, repeats });
            }
            word => parts.push(Part::Word(word)),
        }
    }
    Some(alternatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_nest() {
        let parts = read("a [b (c|d)] [x|y] ASN...").unwrap();
        assert_eq!(parts.len(), 4);
        assert_eq!(
            parts[1],
            Part::Optional(vec![Part::Word("b"), Part::Choice(vec![vec![Part::Word("c")], vec![Part::Word("d")]])])
        );
        assert!(
            matches!(&parts[2], Part::Optional(inner) if matches!(&inner[..], [Part::Choice(both)] if both.len() == 2))
        );
        assert!(matches!(parts[3], Part::Value { repeats: true, .. }));
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for bad in ["a [b", "a b]", "(a|b", "NONSENSE", "a|b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
