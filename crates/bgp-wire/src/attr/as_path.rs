//! AS_PATH, path attribute type 2: well-known, mandatory (RFC 4271 §5.1.2, RFC 5065 §3, RFC 6793 §4).

use std::fmt;

use bytes::BufMut;
use net_types::Asn;
use smallvec::{SmallVec, smallvec};

use crate::cursor::Cursor;

/// Most AS numbers in one segment: its count field has one octet.
const MAX_SEGMENT: usize = 255;

/// What the AS numbers of a segment mean to each other (RFC 4271 §4.3, RFC 5065 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// AS_SET: unordered, made by aggregation.
    Set = 1,
    /// AS_SEQUENCE: in the order the route passed them, latest first.
    Sequence = 2,
    /// AS_CONFED_SEQUENCE: the same, of member ASes of our confederation.
    ConfedSequence = 3,
    /// AS_CONFED_SET.
    ConfedSet = 4,
}

impl SegmentKind {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Set,
            2 => Self::Sequence,
            3 => Self::ConfedSequence,
            4 => Self::ConfedSet,
            _ => return None,
        })
    }

    /// Whether it belongs to a confederation (RFC 5065 §3).
    pub fn is_confed(self) -> bool {
        matches!(self, Self::ConfedSequence | Self::ConfedSet)
    }
}

/// AS numbers of a segment. Most paths are no longer than this, and take no memory of their own.
pub type Asns = SmallVec<[Asn; 8]>;

/// One segment of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// What its numbers mean to each other.
    pub kind: SegmentKind,
    /// Its AS numbers, in wire order.
    pub asns: Asns,
}

impl Segment {
    /// What it adds to the path's length (RFC 4271 §9.1.2.2 a, RFC 5065 §5.3).
    fn hops(&self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.asns.len(),
            SegmentKind::Set => usize::from(!self.asns.is_empty()),
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        }
    }
}

/// The ASes that a route came through. Empty for routes that originate in our AS.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath {
    segments: SmallVec<[Segment; 1]>,
}

/// Why an AS_PATH is malformed (RFC 7606 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsPathError {
    /// A segment type that does not exist.
    #[error("segment type {0} is undefined (RFC 7606 §7.2)")]
    Kind(u8),
    /// A segment without AS numbers.
    #[error("a segment is empty (RFC 7606 §7.2)")]
    EmptySegment,
    /// A segment longer than the attribute.
    #[error("a segment of {count} AS numbers needs {needed} octets where {left} are left (RFC 7606 §7.2)")]
    Overrun {
        /// AS numbers announced.
        count: u8,
        /// Octets they take.
        needed: usize,
        /// Octets there are.
        left: usize,
    },
    /// One octet after the last segment.
    #[error("one octet is left after the last segment (RFC 7606 §7.2)")]
    Underrun,
    /// AS 0 on the path.
    #[error("AS 0 is on the path (RFC 7607 §2)")]
    AsZero,
    /// A confederation segment from outside of the confederation.
    #[error("a confederation segment came from an external peer (RFC 5065 §5)")]
    Confed,
    /// No AS_CONFED_SEQUENCE in front, from a peer in another member AS.
    #[error("no AS_CONFED_SEQUENCE stands first, though the peer is in our confederation (RFC 5065 §5)")]
    NoConfed,
    /// The leftmost AS is not the peer's.
    #[error("the leftmost AS is {found}, expected the peer's own AS{expected} (RFC 4271 §6.3)", found = Leftmost(*.found))]
    FirstAs {
        /// The leftmost AS; `None` when the path starts with a set or is empty.
        found: Option<Asn>,
        /// The peer's AS.
        expected: Asn,
    },
}

struct Leftmost(Option<Asn>);

impl fmt::Display for Leftmost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(asn) => write!(f, "AS{asn}"),
            None => f.write_str("absent"),
        }
    }
}

impl AsPath {
    /// A path of one sequence.
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        Self::from_segments([Segment { kind: SegmentKind::Sequence, asns: asns.into_iter().collect() }])
    }

    /// A path of these segments; empty ones are left out.
    pub fn from_segments(segments: impl IntoIterator<Item = Segment>) -> Self {
        Self { segments: segments.into_iter().filter(|segment| !segment.asns.is_empty()).collect() }
    }

    /// The segments, in wire order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether there is no AS on it: the route originates in our AS.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Its length for the decision process: a set counts one, confederation segments none
    /// (RFC 4271 §9.1.2.2 a, RFC 5065 §5.3).
    pub fn hop_count(&self) -> usize {
        self.segments.iter().map(Segment::hops).sum()
    }

    /// How many member ASes of the confederation it went through: a set counts one (RFC 5065 §5.3).
    pub fn confed_count(&self) -> usize {
        let hops = |segment: &Segment| match segment.kind {
            SegmentKind::ConfedSequence => segment.asns.len(),
            SegmentKind::ConfedSet => 1,
            SegmentKind::Sequence | SegmentKind::Set => 0,
        };
        self.segments.iter().map(hops).sum()
    }

    /// Whether a segment of it is a set, within a confederation or not (RFC 6472).
    pub fn has_sets(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment.kind, SegmentKind::Set | SegmentKind::ConfedSet))
    }

    /// Every AS number on it, in wire order.
    pub fn asns(&self) -> impl Iterator<Item = Asn> {
        self.segments.iter().flat_map(|segment| segment.asns.iter().copied())
    }

    /// Whether `asn` is on it, for loop detection (RFC 4271 §9.1.2).
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|other| other == asn)
    }

    /// How often `asn` is on it, for `allowas-in`.
    pub fn count(&self, asn: Asn) -> usize {
        self.asns().filter(|other| *other == asn).count()
    }

    /// The neighboring AS, which MEDs are compared within: the leftmost, if the path starts with a sequence
    /// (RFC 4271 §9.1.2.2 c). Confederation segments are skipped (RFC 5065 §5.3).
    pub fn first(&self) -> Option<Asn> {
        let first = self.segments.iter().find(|segment| !segment.kind.is_confed())?;
        (first.kind == SegmentKind::Sequence).then(|| first.asns.first().copied()).flatten()
    }

    /// The AS that originated the route: the rightmost, if the path ends with a sequence.
    pub fn origin(&self) -> Option<Asn> {
        let last = self.segments.last()?;
        (last.kind == SegmentKind::Sequence).then(|| last.asns.last().copied()).flatten()
    }

    /// Puts `asn` in front, `times` over (RFC 4271 §5.1.2 b).
    pub fn prepend(&mut self, asn: Asn, times: usize) {
        (0..times).for_each(|_| self.put_in_front(SegmentKind::Sequence, asn));
    }

    /// Puts the member AS `asn` in front, towards another member AS of the confederation (RFC 5065 §4.1 c).
    pub fn prepend_confed(&mut self, asn: Asn) {
        self.put_in_front(SegmentKind::ConfedSequence, asn);
    }

    fn put_in_front(&mut self, kind: SegmentKind, asn: Asn) {
        match self.segments.first_mut() {
            // RFC 4271 §5.1.2 b: a full segment is followed by a new one in front.
            Some(first) if first.kind == kind && first.asns.len() < MAX_SEGMENT => first.asns.insert(0, asn),
            _ => self.segments.insert(0, Segment { kind, asns: smallvec![asn] }),
        }
    }

    /// Replaces each AS number by what `change` makes of it; those that it makes nothing of are taken out, and segments
    /// that have none left with them.
    pub fn map(&mut self, change: impl Fn(Asn) -> Option<Asn>) {
        for segment in &mut self.segments {
            segment.asns = segment.asns.iter().filter_map(|asn| change(*asn)).collect();
        }
        self.segments.retain(|segment| !segment.asns.is_empty());
    }

    /// Reads the attribute's value; `four_octets` says how wide its AS numbers are (RFC 6793 §4).
    ///
    /// # Errors
    /// When it is malformed (RFC 7606 §7.2).
    pub fn parse(body: &[u8], four_octets: bool) -> Result<Self, AsPathError> {
        let width = if four_octets { 4 } else { 2 };
        let mut cursor = Cursor::new(body);
        let mut segments = SmallVec::new();
        while let Some(code) = cursor.u8() {
            let kind = SegmentKind::from_code(code).ok_or(AsPathError::Kind(code))?;
            let count = cursor.u8().ok_or(AsPathError::Underrun)?;
            if count == 0 {
                return Err(AsPathError::EmptySegment);
            }
            let (needed, left) = (usize::from(count) * width, cursor.remaining());
            let octets = cursor.take(needed).ok_or(AsPathError::Overrun { count, needed, left })?;
            let number = |octets: &[u8]| octets.iter().fold(0u32, |sum, octet| sum << 8 | u32::from(*octet));
            let asns = octets
                .chunks_exact(width)
                .map(|octets| Asn::try_from(number(octets)).map_err(|_| AsPathError::AsZero))
                .collect::<Result<_, _>>()?;
            segments.push(Segment { kind, asns });
        }
        Ok(Self { segments })
    }

    /// Octets that [`emit`](Self::emit) writes.
    pub fn octets(&self, four_octets: bool) -> usize {
        let width = if four_octets { 4 } else { 2 };
        let segment = |s: &Segment| s.asns.len().div_ceil(MAX_SEGMENT) * 2 + s.asns.len() * width;
        self.segments.iter().map(segment).sum()
    }

    /// Writes the attribute's value. In two octets, AS_TRANS stands for what does not fit (RFC 6793 §4.2.2).
    pub fn emit(&self, four_octets: bool, out: &mut impl BufMut) {
        for segment in &self.segments {
            for chunk in segment.asns.chunks(MAX_SEGMENT) {
                out.put_u8(segment.kind as u8);
                out.put_u8(chunk.len() as u8); // at most MAX_SEGMENT
                for asn in chunk {
                    if four_octets { out.put_u32(asn.get()) } else { out.put_u16(asn.two_octets()) }
                }
            }
        }
    }

    /// Whether two octets hold every AS number on it, so that no AS4_PATH is needed (RFC 6793 §4.2.2).
    pub fn fits_two_octets(&self) -> bool {
        self.asns().all(|asn| u16::try_from(asn.get()).is_ok())
    }

    /// The same path without confederation segments, for peers outside (RFC 5065 §4, RFC 6793 §4.2.2).
    pub fn without_confederation(&self) -> Self {
        Self { segments: self.segments.iter().filter(|segment| !segment.kind.is_confed()).cloned().collect() }
    }
}

impl fmt::Display for AsPath {
    /// As FRR prints it: `65001 65002 {1,2}`, confederation segments in `(1 2)` and `[1,2]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            let (open, between, close) = match segment.kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::ConfedSequence => ("(", " ", ")"),
                SegmentKind::ConfedSet => ("[", ",", "]"),
            };
            f.write_str(if i == 0 { "" } else { " " })?;
            f.write_str(open)?;
            for (j, asn) in segment.asns.iter().enumerate() {
                write!(f, "{}{asn}", if j == 0 { "" } else { between })?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asn(raw: u32) -> Asn {
        Asn::try_from(raw).unwrap()
    }

    fn path(numbers: &[u32]) -> AsPath {
        AsPath::sequence(numbers.iter().map(|n| asn(*n)))
    }

    #[test]
    fn each_malformation_is_told_apart() {
        assert_eq!(AsPath::parse(&[5, 1, 0, 1], false), Err(AsPathError::Kind(5)));
        assert_eq!(AsPath::parse(&[2, 0], false), Err(AsPathError::EmptySegment));
        assert_eq!(AsPath::parse(&[2], false), Err(AsPathError::Underrun));
        assert_eq!(AsPath::parse(&[2, 2, 0, 1], false), Err(AsPathError::Overrun { count: 2, needed: 4, left: 2 }));
        assert_eq!(AsPath::parse(&[2, 1, 0, 0], false), Err(AsPathError::AsZero));
        assert_eq!(AsPath::parse(&[], true), Ok(AsPath::default()));
    }

    #[test]
    fn sets_count_once_and_confederations_not_at_all() {
        let mixed = AsPath::from_segments([
            Segment { kind: SegmentKind::ConfedSequence, asns: smallvec![asn(64601)] },
            Segment { kind: SegmentKind::Sequence, asns: smallvec![asn(1), asn(2)] },
            Segment { kind: SegmentKind::Set, asns: smallvec![asn(3), asn(4), asn(5)] },
        ]);
        assert_eq!(mixed.hop_count(), 3);
        assert_eq!(mixed.first(), Some(asn(1)));
        assert_eq!(mixed.origin(), None);
        assert_eq!(mixed.to_string(), "(64601) 1 2 {3,4,5}");
        assert_eq!(mixed.without_confederation().to_string(), "1 2 {3,4,5}");
    }

    #[test]
    fn member_ases_stand_in_segments_of_their_own() {
        let mut crossing = path(&[7]);
        crossing.prepend_confed(asn(64601));
        crossing.prepend_confed(asn(64602));
        assert_eq!((crossing.to_string().as_str(), crossing.hop_count()), ("(64602 64601) 7", 1));
        crossing.map(|member| (member != asn(7)).then_some(asn(9)));
        assert_eq!(crossing.to_string(), "(9 9)");
    }

    #[test]
    fn prepending_starts_a_new_segment_when_the_first_is_full() {
        let mut long = path(&[7]);
        long.prepend(asn(9), 300);
        assert_eq!(long.hop_count(), 301);
        assert_eq!(long.segments().iter().map(|s| s.asns.len()).collect::<Vec<_>>(), [46, 255]);
        let mut out = Vec::new();
        long.emit(true, &mut out);
        assert_eq!(out.len(), long.octets(true));
        assert_eq!(AsPath::parse(&out, true), Ok(long));
    }

    #[test]
    fn as_trans_stands_for_what_two_octets_cannot_hold() {
        let wide = path(&[64500, 4_200_000_000]);
        assert!(!wide.fits_two_octets());
        let mut out = Vec::new();
        wide.emit(false, &mut out);
        assert_eq!(AsPath::parse(&out, false), Ok(path(&[64500, 23456])));
    }
}
