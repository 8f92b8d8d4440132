//! What links carry.

use crate::tcp::{Key, Segment};

/// A packet.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Bfd([u8; bfd::PACKET_LEN]),
    Tcp(Key, Segment),
}

impl simnet::Payload for Packet {
    fn octets(&self) -> usize {
        match self {
            Self::Bfd(octets) => octets.len(),
            Self::Tcp(_, Segment::Piece(_, octets)) => octets.len(),
            Self::Tcp(..) => 0,
        }
    }
}
