//! Typed calls and streams.

use std::fmt;

use bytes::Bytes;
use prost::Message;

use crate::envelope::ErrorBody;

/// A value with a form on the wire. The form is a prost message; the value is checked when it is read.
pub trait Wire: Sized + Send + Sync + 'static {
    /// Its form on the wire.
    type Proto: Message + Default;

    /// The form of this value.
    fn to_proto(&self) -> Self::Proto;

    /// The value that a form stands for.
    ///
    /// # Errors
    /// What is wrong with it.
    fn from_proto(proto: Self::Proto) -> Result<Self, String>;

    /// Encoded.
    fn to_bytes(&self) -> Bytes {
        self.to_proto().encode_to_vec().into()
    }

    /// Decoded and checked.
    ///
    /// # Errors
    /// What is wrong with it.
    fn from_bytes(octets: Bytes) -> Result<Self, String> {
        Self::from_proto(Self::Proto::decode(octets).map_err(|error| error.to_string())?)
    }
}

/// A request with one answer.
pub trait Call: Wire {
    /// Its name on the wire.
    const METHOD: &'static str;
    /// The answer.
    type Reply: Wire;
}

/// A request that is answered by events until it ends.
pub trait Stream: Wire {
    /// Its name on the wire.
    const METHOD: &'static str;
    /// What comes.
    type Event: Wire;
}

/// Why a call failed, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The method is not served here.
    UnknownMethod,
    /// The request does not decode or does not make sense.
    BadRequest,
    /// The caller may not.
    Denied,
    /// What it names does not exist.
    NotFound,
    /// Too much at once; later may work.
    Busy,
    /// No common version.
    Version,
    /// It was tried and did not work.
    Failed,
    /// A defect of the server.
    Internal,
    /// One from the future.
    Other(u32),
}

impl Code {
    const KNOWN: [(Self, u32); 8] = [
        (Self::UnknownMethod, 1),
        (Self::BadRequest, 2),
        (Self::Denied, 3),
        (Self::NotFound, 4),
        (Self::Busy, 5),
        (Self::Version, 6),
        (Self::Failed, 7),
        (Self::Internal, 8),
    ];
}

impl From<u32> for Code {
    fn from(number: u32) -> Self {
        Self::KNOWN.iter().find(|(_, known)| *known == number).map_or(Self::Other(number), |(code, _)| *code)
    }
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        match code {
            Code::Other(number) => number,
            known => Code::KNOWN.iter().find(|(code, _)| *code == known).map_or(0, |(_, number)| *number),
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Failure {
    /// Longest message sent, so that a failure always fits a frame.
    const LONGEST: usize = 64 << 10;

    /// A failure of kind `code`.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        let mut message = message.to_string();
        if message.len() > Self::LONGEST {
            let end = (0..=Self::LONGEST).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(end);
        }
        Self { code, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for ErrorBody {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code.into(), message: failure.message }
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self { code: body.code.into(), message: body.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_their_numbers_and_unknown_ones_pass_through() {
        for number in 0..20 {
            assert_eq!(u32::from(Code::from(number)), number);
        }
        assert_eq!(Code::from(5), Code::Busy);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let failure = Failure::new(Code::Failed, "ä".repeat(Failure::LONGEST));
        assert!(failure.message.len() <= Failure::LONGEST && failure.message.ends_with('ä'));
    }
}
