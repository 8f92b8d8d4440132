//! MPLS labels, which stand in front of the prefixes of VPNs (RFC 8277 §2, RFC 3032 §2.1).

use std::fmt;

use bytes::BufMut;
use smallvec::SmallVec;

use crate::cursor::Cursor;

/// A label: twenty bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u32);

/// The labels of one prefix, outermost first; nearly always one.
pub type Labels = SmallVec<[Label; 1]>;

/// A number that is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no label, which is a number below 1048576 (RFC 3032 §2.1)")]
pub struct LabelError(u32);

impl Label {
    /// Packets for the prefix need no label (RFC 3032 §2.1).
    pub const IMPLICIT_NULL: Self = Self(3);
    /// The lowest that is free for use.
    pub const FIRST: Self = Self(16);
    /// The greatest.
    pub const LAST: Self = Self((1 << 20) - 1);

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Label {
    type Error = LabelError;
    fn try_from(raw: u32) -> Result<Self, LabelError> {
        if raw <= Self::LAST.0 { Ok(Self(raw)) } else { Err(LabelError(raw)) }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Octets of a label with its three bits of traffic class and the mark of the last one.
pub(crate) const OCTETS: usize = 3;
/// The mark of the last label of a stack.
const BOTTOM: u32 = 1;
/// What stands in the place of labels where a prefix is withdrawn (RFC 8277 §2.4).
const WITHDRAWN: u32 = 0x80_0000;

/// Reads labels up to the one marked as last. RFC 8277 §2.2 has one label and the mark ignored where several were not
/// agreed on, but speakers of RFC 3107 send stacks; all of them mark the last.
pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Option<Labels> {
    let mut labels = Labels::new();
    loop {
        let raw = next(cursor)?;
        labels.push(Label(raw >> 4));
        if raw & BOTTOM != 0 {
            return Some(labels);
        }
    }
}

/// Passes over what stands in front of a prefix that is withdrawn: it means nothing, but its end has to be found.
pub(crate) fn skip_withdrawn(cursor: &mut Cursor<'_>) -> Option<()> {
    loop {
        // RFC 8277 §2.4: one field of any value. Older speakers put 0 there, or the labels that were announced.
        let raw = next(cursor)?;
        if matches!(raw, WITHDRAWN | 0) || raw & BOTTOM != 0 {
            return Some(());
        }
    }
}

fn next(cursor: &mut Cursor<'_>) -> Option<u32> {
    cursor.array::<OCTETS>().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
}

/// Octets that `labels` take; a prefix without any gets the one that says that none is needed.
pub(crate) fn octets(labels: &[Label]) -> usize {
    labels.len().max(1) * OCTETS
}

/// Writes the labels of a prefix that is announced.
pub(crate) fn emit(labels: &[Label], out: &mut impl BufMut) {
    let labels = if labels.is_empty() { &[Label::IMPLICIT_NULL] } else { labels };
    for (at, label) in labels.iter().enumerate() {
        let last = if at + 1 == labels.len() { BOTTOM } else { 0 };
        put(label.0 << 4 | last, out);
    }
}

/// Writes what stands in the place of labels in front of a prefix that is withdrawn.
pub(crate) fn emit_withdrawn(out: &mut impl BufMut) {
    put(WITHDRAWN, out);
}

fn put(raw: u32, out: &mut impl BufMut) {
    let [_, a, b, c] = raw.to_be_bytes();
    out.put_slice(&[a, b, c]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_ends_with_the_label_that_is_marked() {
        let octets = [0x00, 0x01, 0x00, 0x00, 0x02, 0x01, 0xff];
        let mut cursor = Cursor::new(&octets);
        assert_eq!(parse(&mut cursor).unwrap().as_slice(), [Label(16), Label(32)]);
        assert_eq!((cursor.remaining(), parse(&mut cursor)), (1, None));
        let mut out = Vec::new();
        emit(&[Label(16), Label(32)], &mut out);
        assert_eq!(out, octets[..6]);
        out.clear();
        emit(&[], &mut out);
        assert_eq!(out, [0, 0, 0x31]);
    }

    #[test]
    fn what_stands_before_a_withdrawn_prefix_ends_in_each_of_the_usual_ways() {
        for octets in [&[0x80, 0, 0, 9][..], &[0, 0, 0, 9], &[0, 1, 1, 9], &[0, 1, 0, 0, 2, 1, 9]] {
            let mut cursor = Cursor::new(octets);
            assert_eq!(skip_withdrawn(&mut cursor), Some(()));
            assert_eq!(cursor.rest(), [9], "{octets:?}");
        }
        assert_eq!(skip_withdrawn(&mut Cursor::new(&[0, 1, 0])), None);
    }

    #[test]
    fn labels_have_twenty_bits() {
        assert_eq!(Label::try_from(1_048_575), Ok(Label::LAST));
        assert!(Label::try_from(1_048_576).is_err());
    }
}
