//! The control packet (RFC 5880 §4.1).

use std::{fmt, num::NonZeroU32, time::Duration};

/// Octets of a packet without authentication section.
pub const PACKET_LEN: usize = 24;

/// Session state as it stands on the wire, two bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Held down by configuration.
    AdminDown = 0,
    /// Nothing heard, or not from somebody who hears us.
    #[default]
    Down = 1,
    /// The peer is heard, but does not say that it hears us.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }
}

impl fmt::Display for State {
    /// In FRR's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AdminDown => "shutdown",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        })
    }
}

/// Why a session last left the state Up (RFC 5880 §4.1), five bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Diagnostic {
    /// 0
    #[default]
    None,
    /// 1
    DetectionTimeExpired,
    /// 2
    EchoFailed,
    /// 3
    NeighborSignaledDown,
    /// 7
    AdministrativelyDown,
    /// Any other: forwarding plane reset (4), path down (5, 6, 8), reserved.
    Other(u8),
}

impl Diagnostic {
    /// The number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::DetectionTimeExpired => 1,
            Self::EchoFailed => 2,
            Self::NeighborSignaledDown => 3,
            Self::AdministrativelyDown => 7,
            Self::Other(code) => code & 0x1f,
        }
    }
}

impl From<u8> for Diagnostic {
    fn from(code: u8) -> Self {
        match code & 0x1f {
            0 => Self::None,
            1 => Self::DetectionTimeExpired,
            2 => Self::EchoFailed,
            3 => Self::NeighborSignaledDown,
            7 => Self::AdministrativelyDown,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "ok",
            Self::DetectionTimeExpired => "control detection time expired",
            Self::EchoFailed => "echo function failed",
            Self::NeighborSignaledDown => "neighbor signaled session down",
            Self::Other(4) => "forwarding plane reset",
            Self::Other(5) => "path down",
            Self::Other(6) => "concatenated path down",
            Self::AdministrativelyDown => "administratively down",
            Self::Other(8) => "reverse concatenated path down",
            Self::Other(_) => "unknown",
        })
    }
}

/// A control packet that passed every check which needs no session (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender's session last left Up.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P: the sender wants an answer with `final` set.
    pub poll: bool,
    /// F: this answers a poll.
    pub r#final: bool,
    /// C: the sender's BFD does not share fate with its control plane.
    pub control_plane_independent: bool,
    /// A: an authentication section follows. It is not kept.
    pub authenticated: bool,
    /// D: the sender asks us not to send periodically while both ends are Up.
    pub demand: bool,
    /// Packets that may go missing in a row before the sender is taken to be gone.
    pub detect_multiplier: u8,
    /// The sender's name for the session.
    pub my_discriminator: NonZeroU32,
    /// Our name for it, as far as the sender knows.
    pub your_discriminator: Option<NonZeroU32>,
    /// The shortest interval at which the sender would like to send.
    pub desired_min_tx: Duration,
    /// The shortest interval at which the sender can receive; zero asks for no periodic packets.
    pub required_min_rx: Duration,
    /// The shortest interval at which the sender can reflect Echo packets; zero for not at all.
    pub required_min_echo_rx: Duration,
}

/// Why a packet was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Cut short.
    #[error("{0} octets, expected at least {PACKET_LEN}")]
    Short(usize),
    /// Another version of the protocol.
    #[error("version {0}, expected 1")]
    Version(u8),
    /// The length field cannot be right.
    #[error("length field says {stated} octets, the datagram has {found}, expected {least} or more")]
    Length {
        /// In the packet.
        stated: u8,
        /// Of the datagram.
        found: usize,
        /// With or without authentication section.
        least: u8,
    },
    /// No packet may ever go missing.
    #[error("detection multiplier 0")]
    Multiplier,
    /// Reserved for multipoint BFD, which this is not.
    #[error("multipoint bit is set")]
    Multipoint,
    /// The sender does not say who it is.
    #[error("discriminator of the sender is 0")]
    MyDiscriminator,
    /// A state that needs to know us, from one who does not.
    #[error("discriminator of the receiver is 0 in state {0}")]
    YourDiscriminator(State),
}

impl Packet {
    /// Reads a datagram's payload.
    ///
    /// # Errors
    /// When RFC 5880 §6.8.6 wants it discarded, whatever the session.
    pub fn parse(datagram: &[u8]) -> Result<Self, PacketError> {
        let Some(octets) = datagram.first_chunk::<PACKET_LEN>() else {
            return Err(PacketError::Short(datagram.len()));
        };
        let [version_diagnostic, state_flags, detect_multiplier, stated, ..] = *octets;
        let word = |at: usize| {
            let mut word = [0; 4];
            word.iter_mut().zip(octets.iter().skip(at)).for_each(|(to, from)| *to = *from);
            u32::from_be_bytes(word)
        };
        let version = version_diagnostic >> 5;
        if version != 1 {
            return Err(PacketError::Version(version));
        }
        let authenticated = state_flags & 0x04 != 0;
        let least = if authenticated { 26 } else { 24 };
        if stated < least || usize::from(stated) > datagram.len() {
            return Err(PacketError::Length { stated, found: datagram.len(), least });
        }
        if detect_multiplier == 0 {
            return Err(PacketError::Multiplier);
        }
        if state_flags & 0x01 != 0 {
            return Err(PacketError::Multipoint);
        }
        let my_discriminator = NonZeroU32::new(word(4)).ok_or(PacketError::MyDiscriminator)?;
        let your_discriminator = NonZeroU32::new(word(8));
        let state = State::from_bits(state_flags >> 6);
        if your_discriminator.is_none() && !matches!(state, State::Down | State::AdminDown) {
            return Err(PacketError::YourDiscriminator(state));
        }
        let interval = |at| Duration::from_micros(u64::from(word(at)));
        Ok(Self {
            diagnostic: Diagnostic::from(version_diagnostic),
            state,
            poll: state_flags & 0x20 != 0,
            r#final: state_flags & 0x10 != 0,
            control_plane_independent: state_flags & 0x08 != 0,
            authenticated,
            demand: state_flags & 0x02 != 0,
            detect_multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: interval(12),
            required_min_rx: interval(16),
            required_min_echo_rx: interval(20),
        })
    }

    /// The packet as it goes out, without authentication section (whatever `authenticated` says).
    pub fn emit(&self) -> [u8; PACKET_LEN] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.poll, 0x20)
            | flag(self.r#final, 0x10)
            | flag(self.control_plane_independent, 0x08)
            | flag(self.demand, 0x02);
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator.map_or(0, NonZeroU32::get),
            micros(self.desired_min_tx),
            micros(self.required_min_rx),
            micros(self.required_min_echo_rx),
        ];
        let mut octets = [0; PACKET_LEN];
        let (head, tail) = octets.split_at_mut(4);
        let length = PACKET_LEN as u8;
        let first = 1 << 5 | self.diagnostic.code();
        head.copy_from_slice(&[first, (self.state as u8) << 6 | flags, self.detect_multiplier, length]);
        for (field, word) in tail.chunks_exact_mut(4).zip(words) {
            field.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }
}

fn micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// UDP payloads of the captures in `testdata`, see the README there.
    fn captured(name: &str) -> Vec<Vec<u8>> {
        let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read(path).unwrap();
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), 0xa1b2_c3d4, "a little-endian pcap file");
        let mut payloads = Vec::new();
        let mut at = 24;
        while at < file.len() {
            let length = word(at + 8) as usize;
            let frame = &file[at + 16..at + 16 + length];
            at += 16 + length;
            let mut kind = 12;
            while frame[kind..kind + 2] == [0x81, 0x00] {
                kind += 4; // a VLAN tag
            }
            let ip = &frame[kind + 2..];
            let udp = match frame[kind..kind + 2] {
                [0x08, 0x00] => &ip[usize::from(ip[0] & 15) * 4..],
                [0x86, 0xdd] => &ip[40..],
                _ => continue,
            };
            let udp_length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
            payloads.push(udp[8..udp_length.min(udp.len())].to_vec());
        }
        payloads
    }

    #[test]
    fn captured_packets_parse_and_emit_as_they_were() {
        for (name, count) in [("bfd-lag.pcap", 5), ("bfd-multihop.pcap", 40), ("bfd_source_port_49152.pcap", 1)] {
            let payloads = captured(name);
            assert_eq!(payloads.len(), count, "{name}");
            for payload in payloads {
                let packet = Packet::parse(&payload).unwrap();
                assert_eq!(packet.emit(), payload[..], "{name}: {packet:?}");
            }
        }
    }

    #[test]
    fn captured_authenticated_packets_are_recognised() {
        for name in ["bfd-raw-auth-md5.pcap", "bfd-raw-auth-sha1.pcap", "bfd-raw-auth-simple.pcap"] {
            let payloads = captured(name);
            assert!(!payloads.is_empty(), "{name}");
            for payload in payloads {
                assert!(Packet::parse(&payload).unwrap().authenticated, "{name}");
            }
        }
    }

    fn good() -> Packet {
        Packet {
            diagnostic: Diagnostic::None,
            state: State::Up,
            poll: false,
            r#final: false,
            control_plane_independent: false,
            authenticated: false,
            demand: false,
            detect_multiplier: 3,
            my_discriminator: NonZeroU32::new(1).unwrap(),
            your_discriminator: NonZeroU32::new(2),
            desired_min_tx: Duration::from_millis(10),
            required_min_rx: Duration::from_millis(10),
            required_min_echo_rx: Duration::ZERO,
        }
    }

    #[test]
    fn what_the_rfc_wants_discarded_is_refused() {
        let with = |at: usize, value: u8| {
            let mut octets = good().emit();
            octets[at] = value;
            Packet::parse(&octets)
        };
        assert_eq!(Packet::parse(&good().emit()), Ok(good()));
        assert_eq!(Packet::parse(&good().emit()[..23]), Err(PacketError::Short(23)));
        assert_eq!(with(0, 0x40), Err(PacketError::Version(2)));
        assert_eq!(with(3, 23), Err(PacketError::Length { stated: 23, found: 24, least: 24 }));
        assert_eq!(with(3, 25), Err(PacketError::Length { stated: 25, found: 24, least: 24 }));
        assert_eq!(with(1, 0xc4), Err(PacketError::Length { stated: 24, found: 24, least: 26 }));
        assert_eq!(with(2, 0), Err(PacketError::Multiplier));
        assert_eq!(with(1, 0xc1), Err(PacketError::Multipoint));
        assert_eq!(with(7, 0), Err(PacketError::MyDiscriminator));
        assert_eq!(with(11, 0), Err(PacketError::YourDiscriminator(State::Up)));
    }

    proptest! {
        #[test]
        fn any_octets_are_survived_and_what_parses_emits_back(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = Packet::parse(&octets) {
                let again = Packet::parse(&packet.emit()).unwrap();
                prop_assert_eq!(again, Packet { authenticated: false, ..packet });
            }
        }

        #[test]
        fn damaged_captures_are_survived(which in 0..4usize, at in 0..24usize, value: u8, cut in 0..30usize) {
            let mut octets = captured("bfd-lag.pcap").swap_remove(which);
            octets[at] = value;
            octets.truncate(cut);
            let _ = Packet::parse(&octets);
        }
    }
}
