//! Netlink framing: messages being written, answers being read.

use std::{fmt, io};

use zerocopy::{FromBytes, Immutable, IntoBytes};
use zeroize::Zeroizing;

/// `NLM_F_*`
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const ACK: u16 = 4;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const DUMP: u16 = 0x300;
}

/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLMSG_DONE`
const DONE: u16 = 3;
/// "Bad message"; the number is the same on every architecture that Linux has left but three.
const EBADMSG: i32 = 74;
/// `NLMSGERR_ATTR_MSG`
const ERROR_TEXT: u16 = 1;
/// `NLM_F_CAPPED` and `NLM_F_ACK_TLVS`: how much of our message an error quotes, and whether attributes follow.
const CAPPED: u16 = 0x100;
const WITH_ATTRIBUTES: u16 = 0x200;
/// Bits of an attribute's type that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE: u16 = 0x3fff;

/// A request to the kernel, which may hold a key: wiped when dropped, never shown.
///
/// It is acknowledged and has sequence number 0 until [`Self::set_sequence`].
pub struct Message {
    octets: Zeroizing<Vec<u8>>,
    /// What it may grow to.
    room: usize,
}

/// Octets that a message may grow to without moving: a key that is left behind elsewhere would not be wiped.
const ROOM: usize = 2048;

impl Message {
    pub(crate) fn new(kind: u16, flags: u16, body: &(impl IntoBytes + Immutable)) -> Self {
        Self::with_room(ROOM, kind, flags, body)
    }

    pub(crate) fn with_room(room: usize, kind: u16, flags: u16, body: &(impl IntoBytes + Immutable)) -> Self {
        let mut octets = Zeroizing::new(Vec::with_capacity(room));
        octets.extend_from_slice(&[0; 4]); // length, set as it grows
        octets.extend_from_slice(&kind.to_ne_bytes());
        octets.extend_from_slice(&(flags | flag::REQUEST).to_ne_bytes());
        octets.extend_from_slice(&[0; 8]); // sequence number and sender
        octets.extend_from_slice(body.as_bytes());
        let mut message = Self { octets, room };
        message.finish();
        message
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &(impl IntoBytes + Immutable + ?Sized)) -> &mut Self {
        self.attribute_of(kind, &[value.as_bytes()])
    }

    /// An attribute whose value is written in several parts.
    pub(crate) fn attribute_of(&mut self, kind: u16, parts: &[&[u8]]) -> &mut Self {
        let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
        debug_assert!(length <= usize::from(u16::MAX), "an attribute of {length} octets");
        self.octets.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
        self.octets.extend_from_slice(&kind.to_ne_bytes());
        for part in parts {
            self.octets.extend_from_slice(part);
        }
        self.finish();
        self
    }

    fn finish(&mut self) {
        debug_assert!(self.octets.len() <= self.room, "a message of {} octets has moved", self.octets.len());
        let padded = self.octets.len().next_multiple_of(4);
        self.octets.resize(padded, 0);
        let length = u32::try_from(padded).unwrap_or(u32::MAX).to_ne_bytes();
        self.octets[..4].copy_from_slice(&length);
    }

    /// Numbers the message, so that the answer can be told from others.
    pub fn set_sequence(&mut self, sequence: u32) {
        self.octets[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    /// As it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = u16::from_ne_bytes([self.octets[4], self.octets[5]]);
        write!(f, "Message({kind:#x}, {} octets)", self.octets.len())
    }
}

/// Something that the kernel sent.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    pub(crate) kind: u16,
    /// Of the request that it answers; 0 for events.
    pub sequence: u32,
    flags: u16,
    pub(crate) body: &'a [u8],
}

/// What the kernel said is not of the form that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel sent a netlink message that is cut off or has impossible lengths")]
pub struct Malformed;

/// The kernel's no: its error number, and its own words where it has some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `EINVAL` and its like.
    pub errno: i32,
    /// What the kernel adds.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno).fmt(f)?;
        self.text.iter().try_for_each(|text| write!(f, ": {text}"))
    }
}

impl std::error::Error for Refusal {}

/// How a request, or a part of it, was answered.
#[derive(Debug)]
pub enum Answer<'a> {
    /// Done.
    Acknowledged,
    /// Refused.
    Refused(Refusal),
    /// The last of a dump.
    Done,
    /// What was asked for.
    Data(Received<'a>),
}

impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({:#x}, {} octets)", self.kind, self.body.len())
    }
}

impl<'a> Received<'a> {
    /// What kind of answer it is.
    pub fn answer(self) -> Answer<'a> {
        match self.kind {
            // A dump that failed on the way says so with its last message.
            DONE => match self.body.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code)) {
                Some(code @ ..0) => Answer::Refused(self.refusal(code)),
                _ => Answer::Done,
            },
            ERROR => match self.body.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code)) {
                Some(0) => Answer::Acknowledged,
                Some(code) => Answer::Refused(self.refusal(code)),
                None => Answer::Refused(Refusal { errno: EBADMSG, text: None }),
            },
            _ => Answer::Data(self),
        }
    }

    fn refusal(self, code: i32) -> Refusal {
        let text = (self.flags & WITH_ATTRIBUTES != 0).then(|| {
            let quoted = self.body.get(4..)?;
            let ours = match quoted.first_chunk::<4>() {
                Some(length) if self.flags & CAPPED == 0 => u32::from_ne_bytes(*length) as usize,
                _ => HEADER,
            };
            let text = Attributes(quoted.get(ours.next_multiple_of(4)..)?).find(|(kind, _)| *kind == ERROR_TEXT)?.1;
            Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
        });
        Refusal { errno: code.saturating_neg(), text: text.flatten() }
    }

    /// The fixed part as `T`, and the attributes behind it.
    pub(crate) fn split<T: FromBytes>(&self) -> Option<(T, Attributes<'a>)> {
        let (head, _) = T::read_from_prefix(self.body).ok()?;
        Some((head, Attributes(self.body.get(size_of::<T>().next_multiple_of(4)..).unwrap_or_default())))
    }
}

/// The messages of one read.
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Of these octets.
    pub fn new(read: &'a [u8]) -> Self {
        Self(read)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Received<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0); // after a message that cannot be, nothing more
        let parsed = (|| {
            let head: &[u8; HEADER] = rest.first_chunk()?;
            let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
            let length = word(0) as usize;
            let body = rest.get(HEADER..length)?;
            self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some(Received { kind: half(4), flags: half(6), sequence: word(8), body })
        })();
        Some(parsed.ok_or(Malformed))
    }
}

/// Attributes: type and value. Ends where the lengths make no sense.
#[derive(Clone)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head: &[u8; 4] = self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([head[2], head[3]]) & TYPE, value))
    }
}

/// An attribute by itself, to be put into another one.
pub(crate) fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut out = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// An attribute that is one number.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_message_states_its_length_and_is_padded() {
        let mut message = Message::new(0x10, flag::ACK, &7u32);
        message.attribute(31, &9u16).set_sequence(5);
        assert_eq!(message.as_bytes().len(), 16 + 4 + 8);
        let read: Vec<_> = Messages::new(message.as_bytes()).map(Result::unwrap).collect();
        assert_eq!((read.len(), read[0].kind, read[0].sequence), (1, 0x10, 5));
        let (head, mut rest) = read[0].split::<u32>().unwrap();
        assert_eq!(head, 7);
        assert_eq!(rest.next(), Some((31, &9u16.to_ne_bytes()[..])));
        assert_eq!(rest.next(), None);
        assert_eq!(format!("{message:?}"), "Message(0x10, 28 octets)");
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let mut body = (-22i32).to_ne_bytes().to_vec();
        body.extend([0; 16]);
        let text = b"Replay window must be 0\0";
        body.extend((4 + text.len() as u16).to_ne_bytes());
        body.extend(ERROR_TEXT.to_ne_bytes());
        body.extend(text);
        let received = Received { kind: ERROR, sequence: 1, flags: CAPPED | WITH_ATTRIBUTES, body: &body };
        let Answer::Refused(error) = received.answer() else { panic!("no refusal") };
        assert_eq!(error.to_string(), "Invalid argument (os error 22): Replay window must be 0");
    }

    #[test]
    fn a_dump_that_failed_is_not_done() {
        let answer = |body| Received { kind: DONE, sequence: 1, flags: 0, body }.answer();
        let (well, badly) = (0i32.to_ne_bytes(), (-12i32).to_ne_bytes());
        assert!(matches!(answer(&well), Answer::Done));
        assert!(matches!(answer(&[]), Answer::Done));
        assert!(matches!(answer(&badly), Answer::Refused(Refusal { errno: 12, .. })));
    }

    proptest! {
        #[test]
        fn whatever_is_read_ends(octets in vec(any::<u8>(), 0..200)) {
            let count = Messages::new(&octets).count();
            prop_assert!(count <= octets.len());
            for received in Messages::new(&octets).flatten() {
                let _answer = received.answer();
                prop_assert!(Attributes(received.body).count() <= octets.len());
            }
        }
    }
}
