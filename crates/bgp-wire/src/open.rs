//! OPEN (RFC 4271 §4.2), its optional parameters (RFC 5492, RFC 9072) and its errors (RFC 4271 §6.2).

use bytes::{BufMut, BytesMut};
use net_types::{Afi, Asn, Family, RouterId, Safi};

use crate::{
    AddPath, Capability, FamilySet, GracefulRestart, LongLivedFamily, OutboundFilters,
    capability::CapabilityError,
    cursor::Cursor,
    notification::{Notification, NotificationCode, OpenCode},
};

const VERSION: u8 = 4;
/// Optional parameter type: capabilities (RFC 5492 §4).
const CAPABILITIES: u8 = 2;
/// Optional parameter type: parameters with two-octet lengths follow (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// One OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The speaker's AS: the four-octet one where its capability says so (RFC 6793 §4.1).
    pub asn: Asn,
    /// The hold time that it proposes; 0, or at least 3.
    pub hold_seconds: u16,
    /// Its BGP identifier.
    pub router_id: RouterId,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// Optional parameters have lengths of two octets even where one would do (RFC 9072 §2).
    pub extended_parameters: bool,
}

/// Why an OPEN is refused (RFC 4271 §6.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not version 4.
    #[error("OPEN with version {0}, expected 4")]
    Version(u8),
    /// AS 0.
    #[error("OPEN from AS 0 (RFC 7607)")]
    AsZero,
    /// Identifier 0.0.0.0.
    #[error("OPEN with BGP identifier 0.0.0.0 (RFC 6286 §2.1)")]
    ZeroIdentifier,
    /// One or two seconds.
    #[error("OPEN with a hold time of {0} s, expected 0 or at least 3 (RFC 4271 §4.2)")]
    HoldTime(u16),
    /// Ends early, or its lengths do not add up.
    #[error("OPEN whose {0} runs past the end of the message")]
    Cut(&'static str),
    /// An optional parameter that is not capabilities.
    #[error("OPEN with optional parameter type {0}, expected 2 (capabilities)")]
    Parameter(u8),
    /// A capability is malformed.
    #[error("OPEN whose {0}")]
    Capability(#[from] CapabilityError),
}

impl OpenError {
    /// The NOTIFICATION that the peer gets.
    pub fn notification(&self) -> Notification {
        let (code, data) = match self {
            // RFC 4271 §6.2: the data is the largest version that we speak.
            Self::Version(_) => (OpenCode::UnsupportedVersion, u16::from(VERSION).to_be_bytes().to_vec()),
            Self::AsZero => (OpenCode::BadPeerAs, Vec::new()),
            Self::ZeroIdentifier => (OpenCode::BadIdentifier, Vec::new()),
            Self::HoldTime(_) => (OpenCode::UnacceptableHoldTime, Vec::new()),
            // RFC 4271 §6.2: recognized and malformed.
            Self::Cut(_) | Self::Capability(_) => (OpenCode::Unspecific, Vec::new()),
            Self::Parameter(_) => (OpenCode::UnsupportedParameter, Vec::new()),
        };
        Notification::new(NotificationCode::Open(code), data)
    }
}

impl Open {
    /// Whether the speaker uses four-octet AS numbers (RFC 6793).
    pub fn has_four_octet_as(&self) -> bool {
        self.capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_)))
    }

    /// Whether the capability is there exactly so.
    pub fn has(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// The families that the speaker carries, of those that we know. Without any multiprotocol capability that is
    /// IPv4 unicast (RFC 4760 §8).
    pub fn families(&self) -> FamilySet {
        let mut announced = self.multiprotocol().peekable();
        if announced.peek().is_none() {
            return FamilySet::from(Family::Ipv4Unicast);
        }
        announced.filter_map(|(afi, safi)| Family::from_codes(afi, safi)).collect()
    }

    /// Every family that the speaker names.
    pub fn multiprotocol(&self) -> impl Iterator<Item = (Afi, Safi)> {
        self.capabilities.iter().filter_map(|capability| match capability {
            Capability::Multiprotocol { afi, safi } => Some((*afi, *safi)),
            _ => None,
        })
    }

    /// The graceful restart capability; of several, the last one counts (RFC 4724 §3).
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart),
            _ => None,
        })
    }

    /// Families whose routes the speaker takes with IPv6 next hops, of those that we know (RFC 8950 §4).
    pub fn over_ipv6(&self) -> FamilySet {
        let listed = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::ExtendedNextHop(list) => Some(list),
            _ => None,
        });
        let over_ipv6 = listed.flatten().filter(|one| one.next_hop == Afi::Ipv6);
        over_ipv6.filter_map(|one| Family::from_codes(one.afi, Safi::from(u8::try_from(one.safi).ok()?))).collect()
    }

    /// Families of which the speaker takes several paths for a prefix, of those that we know (RFC 7911 §4).
    pub fn receives_add_path(&self) -> FamilySet {
        self.add_path().filter_map(|one| one.receives()).collect()
    }

    /// Families of which it sends several.
    pub fn sends_add_path(&self) -> FamilySet {
        self.add_path().filter_map(|one| one.sends()).collect()
    }

    fn add_path(&self) -> impl Iterator<Item = AddPath> {
        let listed = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::AddPath(list) => Some(list),
            _ => None,
        });
        listed.flatten().copied()
    }

    /// Families of which it takes filters by address prefix (RFC 5291 §5).
    pub fn receives_filters(&self) -> FamilySet {
        self.filters().filter_map(OutboundFilters::receives).collect()
    }

    /// Families of which it sends filters by address prefix.
    pub fn sends_filters(&self) -> FamilySet {
        self.filters().filter_map(OutboundFilters::sends).collect()
    }

    fn filters(&self) -> impl Iterator<Item = &OutboundFilters> {
        let listed = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::OutboundFilters(list) => Some(list),
            _ => None,
        });
        listed.flatten()
    }

    /// The roles that the speaker says it has; more than one is a contradiction (RFC 9234 §4.2).
    pub fn roles(&self) -> impl Iterator<Item = u8> {
        self.capabilities.iter().filter_map(|capability| match capability {
            Capability::Role(role) => Some(*role),
            _ => None,
        })
    }

    /// The long-lived graceful restart capability (RFC 9494 §3.1); of several, the last one counts.
    pub fn long_lived(&self) -> Option<&[LongLivedFamily]> {
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::LongLived(list) => Some(list.as_slice()),
            _ => None,
        })
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, OpenError> {
        let mut cursor = Cursor::new(body);
        let cut = || OpenError::Cut("fixed part");
        let version = cursor.u8().ok_or_else(cut)?;
        if version != VERSION {
            return Err(OpenError::Version(version));
        }
        let narrow = cursor.u16().ok_or_else(cut)?;
        let hold_seconds = cursor.u16().ok_or_else(cut)?;
        let identifier = cursor.u32().ok_or_else(cut)?;
        let (capabilities, extended_parameters) = parameters(&mut cursor)?;

        // RFC 6793 §4.1: where the capability is there, its number is the speaker's AS.
        let wide = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        let asn = Asn::try_from(wide.unwrap_or(u32::from(narrow))).map_err(|_| OpenError::AsZero)?;
        let router_id = RouterId::try_from(identifier).map_err(|_| OpenError::ZeroIdentifier)?;
        if matches!(hold_seconds, 1 | 2) {
            return Err(OpenError::HoldTime(hold_seconds));
        }
        Ok(Self { asn, hold_seconds, router_id, capabilities, extended_parameters })
    }

    pub(crate) fn emit(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u16(self.asn.two_octets());
        out.put_u16(self.hold_seconds);
        out.put_u32(self.router_id.get());
        // One parameter for each capability, which old speakers like best.
        let encoded: Vec<Vec<u8>> = self
            .capabilities
            .iter()
            .map(|capability| {
                let mut bytes = Vec::new();
                capability.emit(&mut bytes);
                bytes
            })
            .filter(|bytes| !bytes.is_empty())
            .collect();
        let short: usize = encoded.iter().map(|bytes| bytes.len() + 2).sum();
        match u8::try_from(short) {
            // A capability of 254 octets or more does not fit a short parameter; the sum tells.
            Ok(octets) if octets != EXTENDED && !self.extended_parameters => {
                out.put_u8(octets);
                for bytes in &encoded {
                    out.put_u8(CAPABILITIES);
                    out.put_u8(bytes.len() as u8); // below 255, as the sum is
                    out.put_slice(bytes);
                }
            }
            _ => {
                // RFC 9072 §2. An OPEN is never longer than 4096 octets; what does not fit is left out.
                let room = crate::MAX_MESSAGE_OCTETS - crate::HEADER_OCTETS - 13;
                let mut list = Vec::new();
                for bytes in &encoded {
                    if list.len() + 3 + bytes.len() <= room {
                        list.put_u8(CAPABILITIES);
                        list.put_u16(bytes.len() as u16); // a capability has at most 257 octets
                        list.put_slice(bytes);
                    }
                }
                out.put_u8(EXTENDED);
                out.put_u8(EXTENDED);
                out.put_u16(list.len() as u16); // at most `room`
                out.put_slice(&list);
            }
        }
    }
}

/// Optional parameters, in either layout.
fn parameters(cursor: &mut Cursor<'_>) -> Result<(Vec<Capability>, bool), OpenError> {
    let cut = || OpenError::Cut("optional parameters");
    let octets = cursor.u8().ok_or_else(cut)?;
    // RFC 9072 §2: type 255 after a length that is not 0 says that lengths have two octets.
    let extended = octets != 0 && cursor.rest().first() == Some(&EXTENDED);
    let octets = if extended {
        cursor.u8().ok_or_else(cut)?;
        cursor.u16().map(usize::from).ok_or_else(cut)?
    } else {
        usize::from(octets)
    };
    if cursor.remaining() != octets {
        return Err(cut());
    }
    let mut capabilities = Vec::new();
    while let Some(kind) = cursor.u8() {
        let length = if extended { cursor.u16().map(usize::from) } else { cursor.u8().map(usize::from) };
        let value = length.and_then(|length| cursor.take(length)).ok_or_else(cut)?;
        if kind != CAPABILITIES {
            return Err(OpenError::Parameter(kind));
        }
        let mut list = Cursor::new(value);
        while let Some(code) = list.u8() {
            let octets = list.u8().map(usize::from);
            let value = octets.and_then(|octets| list.take(octets)).ok_or(OpenError::Cut("capabilities"))?;
            capabilities.push(Capability::parse(code, value)?);
        }
    }
    Ok((capabilities, extended))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(capabilities: Vec<Capability>) -> Open {
        Open {
            asn: Asn::literal(4_200_000_001),
            hold_seconds: 90,
            router_id: "10.1.0.1".parse().unwrap(),
            capabilities,
            extended_parameters: false,
        }
    }

    fn body(open: &Open) -> BytesMut {
        let mut out = BytesMut::new();
        open.emit(&mut out);
        out
    }

    #[test]
    fn the_four_octet_as_is_the_speakers() {
        let sent = open(vec![Capability::FourOctetAs(4_200_000_001), Capability::RouteRefresh]);
        let bytes = body(&sent);
        assert_eq!(bytes[1..3], [0x5b, 0xa0], "AS_TRANS in the old field");
        assert_eq!(Open::parse(&bytes), Ok(sent));
    }

    #[test]
    fn many_capabilities_take_the_extended_layout() {
        let sent = open(
            std::iter::once(Capability::FourOctetAs(4_200_000_001))
                .chain((100..120).map(|code| Capability::Unknown { code, value: vec![code; 40].into() }))
                .collect(),
        );
        let bytes = body(&sent);
        assert_eq!(bytes[9..11], [255, 255]);
        assert_eq!(Open::parse(&bytes), Ok(Open { extended_parameters: true, ..sent }));
    }

    #[test]
    fn the_extended_layout_can_be_asked_for() {
        let sent = Open { extended_parameters: true, ..open(vec![Capability::FourOctetAs(4_200_000_001)]) };
        let bytes = body(&sent);
        assert_eq!(bytes[9..13], [255, 255, 0, 9]);
        assert_eq!(Open::parse(&bytes), Ok(sent));
    }

    #[test]
    fn each_refusal_has_its_subcode() {
        let good = body(&open(vec![Capability::FourOctetAs(4_200_000_001)]));
        let with = |at: usize, octets: &[u8]| {
            let mut bytes = good.to_vec();
            bytes[at..at + octets.len()].copy_from_slice(octets);
            Open::parse(&bytes).unwrap_err()
        };
        let cases = [
            (with(0, &[3]), OpenError::Version(3), (2, 1)),
            (with(3, &[0, 2]), OpenError::HoldTime(2), (2, 6)),
            (with(5, &[0, 0, 0, 0]), OpenError::ZeroIdentifier, (2, 3)),
            (with(9, &[9]), OpenError::Cut("optional parameters"), (2, 0)),
            (with(10, &[1]), OpenError::Parameter(1), (2, 4)),
            (with(13, &[5]), OpenError::Cut("capabilities"), (2, 0)),
            (with(14, &[0, 0, 0, 0]), OpenError::AsZero, (2, 2)),
        ];
        for (found, expected, codes) in cases {
            assert_eq!(found.notification().code().codes(), codes, "{found}");
            assert_eq!(found, expected);
        }
        assert_eq!(OpenError::Version(3).notification().data(), [0, 4]);
    }

    #[test]
    fn without_multiprotocol_the_family_is_ipv4_unicast() {
        assert_eq!(open(vec![]).families(), FamilySet::from(Family::Ipv4Unicast));
        let six = open(vec![Capability::multiprotocol(Family::Ipv6Unicast)]);
        assert_eq!(six.families(), FamilySet::from(Family::Ipv6Unicast));
    }
}
