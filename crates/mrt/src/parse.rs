//! Reading.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use net_types::{Family, Prefix};

use crate::{
    BGP4MP, BGP4MP_ET, Body, Entry, HEADER, Peer, PeerIndex, Record, Rib, Session, TABLE_DUMP, TABLE_DUMP_V2, TableDump,
};

/// The longest record that is read, in octets: a prefix with 65,535 peers and hundreds of octets of attributes each.
const LONGEST: usize = 32 * 1024 * 1024;

/// Why a file cannot be cut into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {0} octets is longer than the {LONGEST} that are read")]
pub struct FrameError(u32);

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It ends too early.
    #[error("a record of type {kind}, subtype {subtype} ends too early")]
    Short {
        /// Type.
        kind: u16,
        /// Subtype.
        subtype: u16,
    },
    /// A prefix longer than its family's.
    #[error("a prefix of {bits} bits in a record of type {kind}, subtype {subtype}")]
    Prefix {
        /// Type.
        kind: u16,
        /// Subtype.
        subtype: u16,
        /// Its length.
        bits: u8,
    },
    /// An address family that the record cannot be of.
    #[error("address family {afi} in a record of type {kind}, subtype {subtype}")]
    Family {
        /// Type.
        kind: u16,
        /// Subtype.
        subtype: u16,
        /// What was found.
        afi: u16,
    },
}

/// How long the first record of `stream` is, as soon as that is known.
///
/// # Errors
/// When the file cannot be read any further.
pub fn frame_length(stream: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(length) = stream.get(8..HEADER).and_then(|octets| octets.try_into().ok()).map(u32::from_be_bytes) else {
        return Ok(None);
    };
    match usize::try_from(length) {
        Ok(octets) if octets <= LONGEST => Ok(Some(HEADER + octets)),
        _ => Err(FrameError(length)),
    }
}

/// What is left of a record.
struct Rest<'a> {
    kind: u16,
    subtype: u16,
    octets: &'a [u8],
    whole: &'a Bytes,
}

impl<'a> Rest<'a> {
    fn short(&self) -> ParseError {
        ParseError::Short { kind: self.kind, subtype: self.subtype }
    }

    fn take(&mut self, octets: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self.octets.split_at_checked(octets).ok_or_else(|| self.short())?;
        self.octets = rest;
        Ok(taken)
    }

    /// Octets that share the record's memory.
    fn bytes(&mut self, octets: usize) -> Result<Bytes, ParseError> {
        self.take(octets).map(|taken| self.whole.slice_ref(taken))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let (taken, rest) = self.octets.split_first_chunk::<N>().ok_or_else(|| self.short())?;
        self.octets = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, ParseError> {
        self.array::<1>().map(|[octet]| octet)
    }

    fn u16(&mut self) -> Result<u16, ParseError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    fn seconds(&mut self) -> Result<SystemTime, ParseError> {
        Ok(UNIX_EPOCH + Duration::from_secs(self.u32()?.into()))
    }

    fn asn(&mut self, four_octets: bool) -> Result<Option<net_types::Asn>, ParseError> {
        let number = if four_octets { self.u32()? } else { self.u16()?.into() };
        Ok(number.try_into().ok())
    }

    fn address(&mut self, v6: bool) -> Result<IpAddr, ParseError> {
        Ok(if v6 { Ipv6Addr::from(self.array::<16>()?).into() } else { Ipv4Addr::from(self.array::<4>()?).into() })
    }

    fn checked(&self, address: IpAddr, bits: u8) -> Result<Prefix, ParseError> {
        let (kind, subtype) = (self.kind, self.subtype);
        Prefix::new(address, bits).map_err(|_| ParseError::Prefix { kind, subtype, bits })
    }

    /// A prefix as in an UPDATE.
    fn prefix(&mut self, family: Family) -> Result<Prefix, ParseError> {
        let bits = self.u8()?;
        if bits > family.max_bits() {
            return Err(ParseError::Prefix { kind: self.kind, subtype: self.subtype, bits });
        }
        let taken = self.take(usize::from(bits).div_ceil(8))?;
        let mut octets = [0; 16];
        octets.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        let [a, b, c, d, ..] = octets;
        let address = match family {
            Family::Ipv4Unicast | Family::Ipv4Vpn => Ipv4Addr::new(a, b, c, d).into(),
            Family::Ipv6Unicast | Family::Ipv6Vpn => Ipv6Addr::from(octets).into(),
        };
        self.checked(address, bits)
    }

    fn entry(&mut self, add_path: bool) -> Result<Entry, ParseError> {
        let (peer, originated) = (self.u16()?, self.seconds()?);
        let path_id = if add_path { Some(self.u32()?) } else { None };
        let length = self.u16()?.into();
        Ok(Entry { peer, originated, path_id, attributes: self.bytes(length)? })
    }

    /// 1 or 2, as far as records have it.
    fn afi(&self, afi: u16) -> Result<bool, ParseError> {
        match afi {
            1 => Ok(false),
            2 => Ok(true),
            _ => Err(ParseError::Family { kind: self.kind, subtype: self.subtype, afi }),
        }
    }
}

impl Record {
    /// Reads a whole record, as [`frame_length`] cuts it.
    ///
    /// # Errors
    /// When it cannot be read; the next one may.
    pub fn parse(frame: &Bytes) -> Result<Self, ParseError> {
        let mut rest = Rest { kind: 0, subtype: 0, octets: frame, whole: frame };
        let mut at = rest.seconds()?;
        (rest.kind, rest.subtype) = (rest.u16()?, rest.u16()?);
        let _length = rest.u32()?;
        if rest.kind == BGP4MP_ET {
            at += Duration::from_micros(rest.u32()?.into());
        }
        let wide = is_wide(rest.subtype);
        let body = match (rest.kind, rest.subtype) {
            (TABLE_DUMP, 1 | 2) => table_dump(&mut rest)?,
            (TABLE_DUMP_V2, 1) => peer_index(&mut rest)?,
            (TABLE_DUMP_V2, 2) => rib(&mut rest, Family::Ipv4Unicast, false)?,
            (TABLE_DUMP_V2, 4) => rib(&mut rest, Family::Ipv6Unicast, false)?,
            (TABLE_DUMP_V2, 8) => rib(&mut rest, Family::Ipv4Unicast, true)?,
            (TABLE_DUMP_V2, 10) => rib(&mut rest, Family::Ipv6Unicast, true)?,
            (BGP4MP | BGP4MP_ET, 0 | 5) => {
                let session = session(&mut rest, wide)?;
                Body::StateChange { session, from: rest.u16()?, to: rest.u16()? }
            }
            (BGP4MP | BGP4MP_ET, 1 | 4 | 6 | 7 | 8 | 9 | 10 | 11) => {
                let session = session(&mut rest, wide)?;
                let message = rest.bytes(rest.octets.len())?;
                let (add_path, sent) = (rest.subtype >= 8, matches!(rest.subtype, 6 | 7 | 10 | 11));
                Body::Message { session, four_octet_as: wide, add_path, sent, message }
            }
            (kind, subtype) => Body::Other { kind, subtype },
        };
        Ok(Self { at, body })
    }
}

/// Subtypes with AS numbers of four octets (RFC 6396 §4.4, RFC 8050 §3).
fn is_wide(subtype: u16) -> bool {
    matches!(subtype, 4 | 5 | 7 | 9 | 11)
}

fn table_dump(rest: &mut Rest<'_>) -> Result<Body, ParseError> {
    let v6 = rest.afi(rest.subtype)?;
    let (view, sequence) = (rest.u16()?, rest.u16()?);
    let (address, bits) = (rest.address(v6)?, rest.u8()?);
    let prefix = rest.checked(address, bits)?;
    let _status = rest.u8()?; // always 1
    let originated = rest.seconds()?;
    let (peer_address, peer_asn) = (rest.address(v6)?, rest.asn(false)?);
    let length = rest.u16()?.into();
    let entry = Entry { peer: 0, originated, path_id: None, attributes: rest.bytes(length)? };
    Ok(Body::TableDump(TableDump { view, sequence, prefix, peer_address, peer_asn, entry }))
}

fn peer_index(rest: &mut Rest<'_>) -> Result<Body, ParseError> {
    let collector = Ipv4Addr::from(rest.array::<4>()?);
    let length = rest.u16()?.into();
    let view = String::from_utf8_lossy(rest.take(length)?).into_owned();
    let count = rest.u16()?;
    let mut peers = Vec::new();
    for _ in 0..count {
        let kind = rest.u8()?;
        let router_id = Ipv4Addr::from(rest.array::<4>()?);
        let (address, asn) = (rest.address(kind & 1 != 0)?, rest.asn(kind & 2 != 0)?);
        peers.push(Peer { router_id, address, asn });
    }
    Ok(Body::PeerIndex(PeerIndex { collector, view, peers }))
}

fn rib(rest: &mut Rest<'_>, family: Family, add_path: bool) -> Result<Body, ParseError> {
    let sequence = rest.u32()?;
    let prefix = rest.prefix(family)?;
    let count = rest.u16()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(rest.entry(add_path)?);
    }
    Ok(Body::Rib(Rib { sequence, family, prefix, add_path, entries }))
}

fn session(rest: &mut Rest<'_>, four_octets: bool) -> Result<Session, ParseError> {
    let (peer_asn, local_asn, ifindex) = (rest.asn(four_octets)?, rest.asn(four_octets)?, rest.u16()?);
    let afi = rest.u16()?;
    let v6 = rest.afi(afi)?;
    Ok(Session { peer_asn, local_asn, ifindex, peer: rest.address(v6)?, local: rest.address(v6)? })
}
