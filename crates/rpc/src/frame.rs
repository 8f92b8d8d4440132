//! Frames: four octets of length, most significant first, then so many octets of [`Envelope`].
//!
//! Sans I/O: the codec works on buffers that its owner fills and drains. The length is checked against the ceiling before
//! anything is done with it, and memory is only taken for octets that have arrived.

use bytes::{Buf, BufMut};
use prost::Message;

// What it takes to use the codec without a transport.
pub use bytes::BytesMut;
pub use tokio_util::codec::{Decoder, Encoder};

use crate::envelope::Envelope;

/// Longest envelope, in octets. Large answers are streams of small events.
pub const CEILING: usize = 1 << 20;

/// Octets of the length.
const PREFIX: usize = 4;

/// Octets taken at a time for what is to come, however long the frame says it is.
const STEP: usize = 16 << 10;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced, or we tried to send, a frame above the ceiling.
    #[error("a frame of {0} octets is longer than the {CEILING} allowed")]
    TooLong(usize),
    /// Not an [`Envelope`].
    #[error("a frame does not decode: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The transport failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Cuts a stream of octets into envelopes, and the other way round.
#[derive(Debug, Default)]
pub struct EnvelopeCodec;

impl Decoder for EnvelopeCodec {
    type Item = Envelope;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Envelope>, FrameError> {
        let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        // A length that does not fit usize is above any ceiling.
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > CEILING {
            return Err(FrameError::TooLong(length));
        }
        let missing = (PREFIX + length).saturating_sub(buffer.len());
        if missing > 0 {
            buffer.reserve(missing.min(STEP));
            return Ok(None);
        }
        buffer.advance(PREFIX);
        Ok(Some(Envelope::decode(buffer.split_to(length).freeze())?))
    }
}

impl Encoder<Envelope> for EnvelopeCodec {
    type Error = FrameError;

    fn encode(&mut self, envelope: Envelope, buffer: &mut BytesMut) -> Result<(), FrameError> {
        let length = envelope.encoded_len();
        let prefix = u32::try_from(length).ok().filter(|_| length <= CEILING).ok_or(FrameError::TooLong(length))?;
        buffer.reserve(PREFIX + length);
        buffer.put_u32(prefix);
        envelope.encode_raw(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::envelope::{Body, CallBody, Cancel, End, ErrorBody, Hello};

    fn encoded(envelopes: &[Envelope]) -> BytesMut {
        let mut buffer = BytesMut::new();
        for envelope in envelopes {
            EnvelopeCodec.encode(envelope.clone(), &mut buffer).unwrap();
        }
        buffer
    }

    fn octets() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..64).prop_map(Bytes::from)
    }

    fn any_envelope() -> impl Strategy<Value = Envelope> {
        let body = prop_oneof![
            (any::<u32>(), any::<u32>(), vec(".{0,8}", 0..3), ".{0,8}").prop_map(
                |(version, oldest, features, program)| {
                    Body::Hello(Hello { version, oldest, features, software: program.clone(), program })
                }
            ),
            (".{0,16}", octets(), any::<u32>()).prop_map(|(method, request, credit)| Body::Call(CallBody {
                method,
                request,
                credit
            })),
            octets().prop_map(Body::Reply),
            octets().prop_map(Body::Event),
            Just(Body::End(End {})),
            (any::<u32>(), ".{0,16}").prop_map(|(code, message)| Body::Error(ErrorBody { code, message })),
            any::<u32>().prop_map(Body::Credit),
            Just(Body::Cancel(Cancel {})),
        ];
        (any::<u64>(), proptest::option::of(body)).prop_map(|(id, body)| Envelope { id, body })
    }

    #[test]
    fn a_length_above_the_ceiling_ends_the_connection_and_takes_no_memory() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert!(matches!(EnvelopeCodec.decode(&mut buffer), Err(FrameError::TooLong(_))));
        let mut buffer = BytesMut::from(&(CEILING as u32).to_be_bytes()[..]);
        assert!(matches!(EnvelopeCodec.decode(&mut buffer), Ok(None)));
        assert!(buffer.capacity() < 2 * STEP, "{} octets taken on the word of a length", buffer.capacity());
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let envelope = Envelope::new(1, Body::Event(vec![0; CEILING].into()));
        assert!(matches!(EnvelopeCodec.encode(envelope, &mut BytesMut::new()), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn frames_survive_any_fragmentation(envelopes in vec(any_envelope(), 0..8), sizes in vec(1usize..40, 1..64)) {
            let wire = encoded(&envelopes);
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            let (mut rest, mut sizes) = (&wire[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                buffer.extend_from_slice(piece);
                rest = later;
                while let Some(envelope) = EnvelopeCodec.decode(&mut buffer).unwrap() {
                    got.push(envelope);
                }
            }
            prop_assert_eq!(got, envelopes);
        }

        #[test]
        fn any_octets_are_decoded_or_refused(mut octets in vec(any::<u8>(), 0..512), short in any::<bool>()) {
            if short {
                // Random lengths are mostly beyond the ceiling: let half of the cases reach the envelope.
                octets.splice(0..0, u32::try_from(octets.len()).unwrap().to_be_bytes());
            }
            let mut buffer = BytesMut::from(&octets[..]);
            while let Ok(Some(_)) = EnvelopeCodec.decode(&mut buffer) {}
        }
    }
}
