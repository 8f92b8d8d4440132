//! Associations: put in, changed, taken out, read.

use std::net::IpAddr;

use net_types::Spi;
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    layout::{
        AF_UNSPEC, Address, DONT_ENCAP_DSCP, ESP_IN_UDP, IPPROTO_ESP, MODE_TRANSPORT, MODE_TUNNEL, RawEncapsulation,
        RawId, RawLimits, RawOffload, RawReplay, RawSa, RawSaId, attribute, family_of, kind, sa_flag,
    },
    message::{Attributes, Message, Received, flag, number},
};

/// What names an association in the kernel: where its packets go, and the SPI. The protocol is ESP always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaId {
    /// The outer destination: ours for an inbound association.
    pub destination: IpAddr,
    /// The number.
    pub spi: Spi,
}

/// Which way an association carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Opens.
    Inbound,
    /// Seals.
    Outbound,
}

/// What of a packet is sealed (RFC 4303 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of it, behind another header.
    Tunnel,
    /// What follows its header, which stays; of the family of its addresses.
    Transport,
}

impl Mode {
    pub(crate) fn raw(self) -> u8 {
        match self {
            Self::Tunnel => MODE_TUNNEL,
            Self::Transport => MODE_TRANSPORT,
        }
    }

    pub(crate) fn read(raw: u8) -> Option<Self> {
        match raw {
            MODE_TUNNEL => Some(Self::Tunnel),
            MODE_TRANSPORT => Some(Self::Transport),
            _ => None,
        }
    }
}

/// The kernel's names of algorithms, with their keys. Not to be printed.
pub enum Algorithms<'k> {
    /// A combined-mode cipher; the salt stands behind the key.
    Aead {
        /// As in `/proc/crypto`.
        name: &'static str,
        /// Key and salt.
        key: &'k [u8],
        /// Bits of integrity check value.
        icv_bits: u32,
    },
    /// A cipher, and another algorithm that authenticates.
    CipherAndAuth {
        /// As in `/proc/crypto`.
        cipher: &'static str,
        /// Its key.
        cipher_key: &'k [u8],
        /// As in `/proc/crypto`.
        auth: &'static str,
        /// Its key.
        auth_key: &'k [u8],
        /// Bits of the integrity check value that are sent.
        icv_bits: u32,
    },
}

/// ESP in UDP (RFC 3948).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's.
    pub destination_port: u16,
}

/// Limits of an association, of outer octets and packets; the kernel tells of the soft ones and ends it at the hard ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Tell after so many octets.
    pub soft_octets: Option<u64>,
    /// End after so many.
    pub hard_octets: Option<u64>,
    /// Tell after so many packets.
    pub soft_packets: Option<u64>,
    /// End after so many.
    pub hard_packets: Option<u64>,
}

/// What becomes of the inner header's DF, DSCP and ECN (RFC 4301 §5.1.2, RFC 6040).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterHeader {
    /// The outer header forbids fragmentation where the inner one does.
    pub copy_df: bool,
    /// DSCP is copied outward.
    pub copy_dscp: bool,
    /// DSCP is copied inward.
    pub restore_dscp: bool,
    /// ECN goes both ways.
    pub ecn: bool,
}

impl Default for OuterHeader {
    fn default() -> Self {
        Self { copy_df: true, copy_dscp: true, restore_dscp: false, ecn: true }
    }
}

impl OuterHeader {
    /// Those that mean something in a direction; a kernel that knows of directions refuses the others.
    fn flags(self, direction: Direction) -> u8 {
        let set = |on: bool, bits: u8| if on { bits } else { 0 };
        let of_direction = match direction {
            Direction::Inbound => set(self.restore_dscp, sa_flag::DECAP_DSCP),
            Direction::Outbound => set(!self.copy_df, sa_flag::NO_PMTU_DISC),
        };
        of_direction | set(!self.ecn, sa_flag::NO_ECN)
    }
}

/// Sealing and opening by a network card (`XFRMA_OFFLOAD_DEV`); the kernel does it itself where the card cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The card.
    pub ifindex: u32,
}

/// An association to put into the kernel.
pub struct Sa<'k> {
    /// Its name.
    pub id: SaId,
    /// The outer source.
    pub source: IpAddr,
    /// Which way it carries packets.
    pub direction: Direction,
    /// What of a packet it seals.
    pub mode: Mode,
    /// Ties it to policies; 0 ties nothing.
    pub reqid: u32,
    /// The xfrm interface that it belongs to; 0 for none.
    pub if_id: u32,
    /// How it encrypts and authenticates.
    pub algorithms: Algorithms<'k>,
    /// Extended sequence numbers (RFC 4303 §2.2.1).
    pub esn: bool,
    /// Packets of replay window, at most 4096; for an inbound association at least 1.
    pub replay_window: u32,
    /// Where it begins to count; not 0 for one that takes another's place.
    pub replay: Replay,
    /// ESP in UDP, or plain ESP.
    pub encapsulation: Option<Encapsulation>,
    /// The mark that leads outer packets to their routing table.
    pub output_mark: Option<u32>,
    /// When it ends.
    pub lifetimes: Lifetimes,
    /// What goes from the inner header to the outer one.
    pub outer: OuterHeader,
    /// Whether a network card does the work.
    pub offload: Option<Offload>,
    /// Whether the kernel knows of directions (`XFRMA_SA_DIR`, Linux 6.10): it is stricter then, and wants no window for an
    /// outbound association; before, it refused one with extended numbers and no window.
    pub directed: bool,
}

/// How far an association has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The last number sent.
    pub sent: u64,
    /// The highest accepted.
    pub received: u64,
}

/// The kernel's largest window, in packets (`XFRMA_REPLAY_ESN_MAX`).
pub(crate) const WINDOW_MAX: u32 = 4096;
/// A peer that has moved is told once in so many seconds, not with each packet (Linux 5.17).
const MAPPING_SECONDS: u32 = 1;

impl Sa<'_> {
    /// The message that puts it in. The kernel refuses an SPI that it has for that destination.
    pub fn add(&self) -> Message {
        self.message(kind::NEW_SA, flag::CREATE | flag::EXCL)
    }

    fn message(&self, kind: u16, flags: u16) -> Message {
        let inbound = self.direction == Direction::Inbound;
        // In transport mode there is one header, and so one family.
        let families = if self.mode == Mode::Tunnel { sa_flag::AF_UNSPEC } else { 0 };
        let flags_of_sa = families | if self.esn { sa_flag::ESN } else { 0 };
        let raw = RawSa {
            id: raw_id(self.id),
            source: Address::new(self.source),
            limits: limits(self.lifetimes),
            reqid: self.reqid,
            family: family_of(self.id.destination),
            mode: self.mode.raw(),
            flags: flags_of_sa | self.outer.flags(self.direction),
            ..RawSa::default()
        };
        let mut message = Message::new(kind, flags | flag::ACK, &raw);
        put_algorithms(&mut message, &self.algorithms);
        if let Some(encapsulation) = self.encapsulation {
            message.attribute(attribute::ENCAP, &raw_encapsulation(encapsulation));
            if inbound {
                message.attribute(attribute::MTIMER_THRESH, &MAPPING_SECONDS);
            }
        }
        message.attribute(attribute::IF_ID, &self.if_id);
        let window = match (inbound, self.directed, self.esn) {
            (true, ..) => self.replay_window.clamp(1, WINDOW_MAX),
            (false, false, true) => 1, // never consulted, but has to be there
            // Without this attribute the kernel would keep, and tell of, numbers of 32 bits in another form.
            (false, ..) => 0,
        };
        put_replay(&mut message, self.replay, window, inbound);
        if let Some(mark) = self.output_mark.filter(|_| !inbound) {
            message.attribute(attribute::SET_MARK, &mark).attribute(attribute::SET_MARK_MASK, &u32::MAX);
        }
        if !self.outer.copy_dscp && !inbound {
            message.attribute(attribute::SA_EXTRA_FLAGS, &DONT_ENCAP_DSCP);
        }
        if let Some(Offload { ifindex }) = self.offload {
            const INBOUND: u8 = 2; // XFRM_OFFLOAD_INBOUND
            let raw = RawOffload {
                ifindex: i32::try_from(ifindex).unwrap_or(0),
                flags: if inbound { INBOUND } else { 0 },
                pad: [0; 3],
            };
            message.attribute(attribute::OFFLOAD_DEV, &raw);
        }
        if self.directed {
            message.attribute(attribute::SA_DIR, &if inbound { 1u8 } else { 2u8 });
        }
        message
    }
}

fn raw_id(id: SaId) -> RawId {
    RawId { destination: Address::new(id.destination), spi: id.spi.get().into(), protocol: IPPROTO_ESP, pad: [0; 3] }
}

fn raw_encapsulation(of: Encapsulation) -> RawEncapsulation {
    RawEncapsulation {
        kind: ESP_IN_UDP,
        source_port: of.source_port.into(),
        destination_port: of.destination_port.into(),
        ..RawEncapsulation::default()
    }
}

fn limits(of: Lifetimes) -> RawLimits {
    let none = RawLimits::default();
    RawLimits {
        soft_octets: of.soft_octets.unwrap_or(none.soft_octets),
        hard_octets: of.hard_octets.unwrap_or(none.hard_octets),
        soft_packets: of.soft_packets.unwrap_or(none.soft_packets),
        hard_packets: of.hard_packets.unwrap_or(none.hard_packets),
        seconds: none.seconds,
    }
}

/// `struct xfrm_algo_aead`, or `struct xfrm_algo` and `struct xfrm_algo_auth`: a name, lengths in bits, the key.
fn put_algorithms(message: &mut Message, algorithms: &Algorithms<'_>) {
    let bits = |key: &[u8]| (u32::try_from(key.len()).unwrap_or(0) * 8).to_ne_bytes();
    match algorithms {
        Algorithms::Aead { name, key, icv_bits } => {
            let parts = [&name_of(name)[..], &bits(key), &icv_bits.to_ne_bytes(), key];
            message.attribute_of(attribute::ALG_AEAD, &parts);
        }
        Algorithms::CipherAndAuth { cipher, cipher_key, auth, auth_key, icv_bits } => {
            let parts = [&name_of(auth)[..], &bits(auth_key), &icv_bits.to_ne_bytes(), auth_key];
            message.attribute_of(attribute::ALG_AUTH_TRUNC, &parts);
            message.attribute_of(attribute::ALG_CRYPT, &[&name_of(cipher)[..], &bits(cipher_key), cipher_key]);
        }
    }
}

fn name_of(name: &str) -> [u8; 64] {
    let mut octets = [0; 64];
    for (octet, letter) in octets[..63].iter_mut().zip(name.bytes()) {
        *octet = letter;
    }
    octets
}

/// Counters and an empty bitmap.
fn put_replay(message: &mut Message, replay: Replay, window: u32, inbound: bool) {
    let words = window.div_ceil(32);
    let (sent, received) = if inbound { (0, replay.received) } else { (replay.sent, 0) };
    let raw = RawReplay {
        words,
        sent: low(sent),
        sent_high: high(sent),
        received: low(received),
        received_high: high(received),
        window,
    };
    let bitmap = [0u8; WINDOW_MAX as usize / 8];
    message.attribute_of(attribute::REPLAY_ESN_VAL, &[raw.as_bytes(), &bitmap[..words as usize * 4]]);
}

fn low(number: u64) -> u32 {
    (number & u64::from(u32::MAX)) as u32
}

fn high(number: u64) -> u32 {
    (number >> 32) as u32
}

/// The message that takes an association out.
pub fn delete_sa(id: SaId) -> Message {
    Message::new(kind::DELETE_SA, flag::ACK, &raw_sa_id(id))
}

/// The message that asks for one association; the answer is read by [`SaInfo::parse`], and holds keys.
pub fn get_sa(id: SaId) -> Message {
    Message::new(kind::GET_SA, 0, &raw_sa_id(id))
}

/// The message that asks for all; the answers hold keys.
pub fn dump_sas() -> Message {
    Message::new(kind::GET_SA, flag::DUMP, &RawSaId::default())
}

/// The message that takes all ESP associations of the network namespace out, whoever put them in.
pub fn flush_sas() -> Message {
    Message::new(kind::FLUSH_SA, flag::ACK, &[IPPROTO_ESP, 0, 0, 0])
}

fn raw_sa_id(id: SaId) -> RawSaId {
    RawSaId {
        destination: Address::new(id.destination),
        spi: id.spi.get().into(),
        family: family_of(id.destination),
        protocol: IPPROTO_ESP,
        pad: 0,
    }
}

/// What an association has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// Octets, with parts of the encapsulation.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Packets outside of the replay window.
    pub outside_window: u32,
    /// Packets that the replay window had seen.
    pub replayed: u32,
    /// Packets whose integrity check failed.
    pub forged: u32,
    /// Second of Unix time of the last packet, where the kernel tells (Linux 6.2).
    pub last_used: Option<u64>,
}

/// An association as the kernel tells of it, without its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaInfo {
    /// Its name.
    pub id: SaId,
    /// The outer source.
    pub source: IpAddr,
    /// What of a packet it seals.
    pub mode: Mode,
    /// What ties it to policies.
    pub reqid: u32,
    /// The xfrm interface that it belongs to, or 0.
    pub if_id: u32,
    /// Extended sequence numbers.
    pub esn: bool,
    /// How far it has counted.
    pub replay: Replay,
    /// ESP in UDP.
    pub encapsulation: Option<Encapsulation>,
    /// The mark of outer packets.
    pub output_mark: Option<u32>,
    /// What it has carried.
    pub current: Current,
}

impl SaInfo {
    /// Of an answer to [`get_sa`] or [`dump_sas`]; `None` for what is not an ESP association in one of our modes.
    pub fn parse(received: Received<'_>) -> Option<Self> {
        if received.kind != kind::NEW_SA {
            return None;
        }
        let (raw, attributes) = received.split::<RawSa>()?;
        Self::read(&raw, attributes)
    }

    pub(crate) fn read(raw: &RawSa, attributes: Attributes<'_>) -> Option<Self> {
        if raw.id.protocol != IPPROTO_ESP {
            return None;
        }
        let destination = raw.id.destination.get(raw.family)?;
        let mut info = Self {
            id: SaId { destination, spi: Spi::try_from(raw.id.spi.get()).ok()? },
            source: raw.source.get(raw.family)?,
            mode: Mode::read(raw.mode)?,
            reqid: raw.reqid,
            if_id: 0,
            esn: raw.flags & sa_flag::ESN != 0,
            replay: Replay::default(),
            encapsulation: None,
            output_mark: None,
            current: Current {
                octets: raw.current.octets,
                packets: raw.current.packets,
                outside_window: raw.outside_window,
                replayed: raw.replayed,
                forged: raw.forged,
                last_used: None,
            },
        };
        for (kind, value) in attributes {
            match kind {
                attribute::IF_ID => info.if_id = number(value)?,
                attribute::SET_MARK => info.output_mark = number(value),
                attribute::LASTUSED => {
                    info.current.last_used = value.first_chunk().map(|octets| u64::from_ne_bytes(*octets));
                }
                attribute::ENCAP => {
                    let (raw, _) = RawEncapsulation::read_from_prefix(value).ok()?;
                    info.encapsulation = (raw.kind == ESP_IN_UDP).then(|| Encapsulation {
                        source_port: raw.source_port.get(),
                        destination_port: raw.destination_port.get(),
                    });
                }
                attribute::REPLAY_ESN_VAL => {
                    let (raw, _) = RawReplay::read_from_prefix(value).ok()?;
                    let join = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
                    info.replay =
                        Replay { sent: join(raw.sent_high, raw.sent), received: join(raw.received_high, raw.received) };
                }
                _ => {}
            }
        }
        Some(info)
    }
}

/// Another way for an association that exists: the copy of an answer to [`get_sa`], keys included, with other addresses.
///
/// The kernel cannot change the addresses of an association, and to delete and add it again would lose packets; with another
/// outer destination the copy may stand beside the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The outer source.
    pub source: IpAddr,
    /// The outer destination.
    pub destination: IpAddr,
    /// ESP in UDP; an association stays in UDP, or out of it.
    pub encapsulation: Option<Encapsulation>,
    /// The mark of outer packets.
    pub output_mark: Option<u32>,
    /// Numbers to skip, so that none is used twice by what is sent meanwhile; none for an inbound one, which sends nothing.
    pub skip: u32,
}

impl Moved {
    /// The message that puts the copy in; `None` when what was received is no association, or does not say how far it has
    /// counted in the form that [`Sa::add`] asks for: a copy that counted anew would use numbers twice.
    pub fn add(&self, received: Received<'_>) -> Option<Message> {
        self.message(received, kind::NEW_SA, flag::CREATE | flag::EXCL)
    }

    /// The message that changes ports and mark of the association in place; its addresses have to stay. `None` as for
    /// [`Self::add`].
    pub fn update(&self, received: Received<'_>) -> Option<Message> {
        self.message(received, kind::UPDATE_SA, 0)
    }

    fn message(&self, received: Received<'_>, kind: u16, flags: u16) -> Option<Message> {
        if received.kind != kind::NEW_SA {
            return None;
        }
        let (mut raw, attributes) = received.split::<RawSa>()?;
        raw.source = Address::new(self.source);
        raw.id.destination = Address::new(self.destination);
        raw.family = family_of(self.destination);
        raw.selector.family = AF_UNSPEC;
        (raw.current, raw.outside_window, raw.replayed, raw.forged) = Default::default();
        let room = received.body.len() + 256; // what it had, and the attributes below
        let mut message = Message::with_room(room, kind, flags | flag::ACK, &raw);
        let last = if raw.flags & sa_flag::ESN != 0 { u64::MAX } else { u64::from(u32::MAX) };
        let mut counted = false;
        for (kind, value) in attributes {
            match kind {
                attribute::ALG_AEAD
                | attribute::ALG_CRYPT
                | attribute::ALG_AUTH_TRUNC
                | attribute::IF_ID
                | attribute::SA_EXTRA_FLAGS
                | attribute::OFFLOAD_DEV
                | attribute::MTIMER_THRESH
                | attribute::SA_DIR => {
                    message.attribute(kind, value);
                }
                attribute::REPLAY_ESN_VAL => {
                    let (mut replay, bitmap) = RawReplay::read_from_prefix(value).ok()?;
                    let sent = u64::from(replay.sent_high) << 32 | u64::from(replay.sent);
                    // Behind the last number the kernel sends nothing more.
                    let sent = sent.saturating_add(u64::from(self.skip)).min(last);
                    counted = true;
                    (replay.sent, replay.sent_high) = (low(sent), high(sent));
                    message.attribute_of(kind, &[replay.as_bytes(), bitmap]);
                }
                _ => {}
            }
        }
        if let Some(encapsulation) = self.encapsulation {
            message.attribute(attribute::ENCAP, &raw_encapsulation(encapsulation));
        }
        if let Some(mark) = self.output_mark {
            message.attribute(attribute::SET_MARK, &mark).attribute(attribute::SET_MARK_MASK, &u32::MAX);
        }
        counted.then_some(message)
    }
}
