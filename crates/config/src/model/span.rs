//! Spans of time that may be shorter than a second.

use std::{fmt, str::FromStr, time::Duration};

use super::ValueError;

/// Whole seconds (`10` or `10s`), or milliseconds (`200ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::new(text, "seconds such as 10, or milliseconds such as 200ms");
        let (digits, unit): (_, fn(u64) -> Duration) = match text.strip_suffix("ms") {
            Some(digits) => (digits, Duration::from_millis),
            None => (text.strip_suffix('s').unwrap_or(text), Duration::from_secs),
        };
        super::digits::<u32>(digits).map(|number| Self(unit(number.into()))).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => self.0.as_secs().fmt(out),
            _ => write!(out, "{}ms", self.0.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_milliseconds_are_read_and_printed() {
        for (text, millis, printed) in
            [("0", 0, "0"), ("10", 10_000, "10"), ("10s", 10_000, "10"), ("200ms", 200, "200ms"), ("3000ms", 3000, "3")]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.0, span.to_string()), (Duration::from_millis(millis), printed.to_owned()));
        }
        for text in ["", "ms", "s", "1.5", "-1", "1m", "10 ms", "99999999999", "+1"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
