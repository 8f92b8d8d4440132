//! Capabilities: what a speaker can do, in its OPEN (RFC 5492).

mod add_path;
mod extended_next_hop;
mod fqdn;
mod graceful_restart;
mod long_lived;
mod orf;
mod role;
mod software_version;

use bytes::{BufMut, Bytes};
use net_types::{Afi, Family, Safi};

pub use add_path::AddPath;
pub use extended_next_hop::ExtendedNextHop;
pub use fqdn::Fqdn;
pub use graceful_restart::{GracefulRestart, GracefulRestartFamily};
pub use long_lived::{LongLivedFamily, MAX_LONG_LIVED_SECONDS};
pub use orf::OutboundFilters;
pub use role::Role;

use crate::cursor::Cursor;

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const OUTBOUND_FILTERS: u8 = 3;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const LONG_LIVED: u8 = 71;
const FQDN: u8 = 73;
const SOFTWARE_VERSION: u8 = 75;
/// For experiments (RFC 8810 §3), so its value says whose it is.
const TUNNEL_MARKS: (u8, &[u8]) = (239, b"holdfast");

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// 1: routes of a family (RFC 4760 §8).
    Multiprotocol {
        /// Address family.
        afi: Afi,
        /// Subsequent address family.
        safi: Safi,
    },
    /// 2: ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
    /// 3: filters that one side asks the other to apply (RFC 5291).
    OutboundFilters(Vec<OutboundFilters>),
    /// 5: next hops of another family (RFC 8950).
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// 6: long messages (RFC 8654).
    ExtendedMessage,
    /// 9: what the speaker is to us, by number (RFC 9234): whether it goes with ours is judged when OPENs are compared.
    Role(u8),
    /// 64: forwarding survives a restart of the control plane (RFC 4724).
    GracefulRestart(GracefulRestart),
    /// 65: four-octet AS numbers, and the speaker's own (RFC 6793). Zero is caught when the OPEN is read.
    FourOctetAs(u32),
    /// 69: several paths for a prefix (RFC 7911).
    AddPath(Vec<AddPath>),
    /// 70: demarcation of refreshes (RFC 7313).
    EnhancedRouteRefresh,
    /// 71: stale routes may be used for long (RFC 9494).
    LongLived(Vec<LongLivedFamily>),
    /// 73: the speaker's name (draft-walton-bgp-hostname-capability, as FRR speaks it).
    Fqdn(Fqdn),
    /// 75: the speaker's software (draft-ietf-idr-bgp-software-version, as FRR and ExaBGP speak it).
    SoftwareVersion(String),
    /// 239, of our own: what was lost with a tunnel is told as such ([`ExtCommunity::TUNNEL_LOST`](crate::ExtCommunity::TUNNEL_LOST)),
    /// which anybody else would take for a route.
    TunnelMarks,
    /// Any other, as it came.
    Unknown {
        /// Its code.
        code: u8,
        /// Its value, uninterpreted.
        value: Bytes,
    },
}

/// A capability that is known, and not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("capability {code} is {found} octets long, expected {expected}")]
pub struct CapabilityError {
    /// Its code.
    pub code: u8,
    /// Octets of its value.
    pub found: usize,
    /// What its specification asks for.
    pub expected: &'static str,
}

impl Capability {
    /// The capability to carry routes of `family`.
    pub fn multiprotocol(family: Family) -> Self {
        Self::Multiprotocol { afi: family.afi(), safi: family.safi() }
    }

    /// Reads one capability's value.
    ///
    /// # Errors
    /// When the code is known and the length is not what its specification says.
    pub(crate) fn parse(code: u8, value: &[u8]) -> Result<Self, CapabilityError> {
        let length = |expected| CapabilityError { code, found: value.len(), expected };
        let empty = |capability| if value.is_empty() { Ok(capability) } else { Err(length("0")) };
        match code {
            MULTIPROTOCOL => match value {
                // RFC 4760 §8: AFI, a reserved octet, SAFI
                [high, low, _, safi] => {
                    Ok(Self::Multiprotocol { afi: u16::from_be_bytes([*high, *low]).into(), safi: (*safi).into() })
                }
                _ => Err(length("4")),
            },
            ROUTE_REFRESH => empty(Self::RouteRefresh),
            OUTBOUND_FILTERS => OutboundFilters::parse(value)
                .map(Self::OutboundFilters)
                .ok_or_else(|| length("as long as its counts say")),
            EXTENDED_NEXT_HOP => {
                ExtendedNextHop::parse(value).map(Self::ExtendedNextHop).ok_or_else(|| length("a multiple of 6"))
            }
            EXTENDED_MESSAGE => empty(Self::ExtendedMessage),
            ROLE => match value {
                [role] => Ok(Self::Role(*role)),
                _ => Err(length("1")),
            },
            GRACEFUL_RESTART => {
                GracefulRestart::parse(value).map(Self::GracefulRestart).ok_or_else(|| length("2 and a multiple of 4"))
            }
            FOUR_OCTET_AS => value.try_into().map(u32::from_be_bytes).map(Self::FourOctetAs).map_err(|_| length("4")),
            ADD_PATH => AddPath::parse(value).map(Self::AddPath).ok_or_else(|| length("a multiple of 4")),
            ENHANCED_ROUTE_REFRESH => empty(Self::EnhancedRouteRefresh),
            LONG_LIVED => LongLivedFamily::parse(value).map(Self::LongLived).ok_or_else(|| length("a multiple of 7")),
            // Names are for display: one that cannot be read is kept as bytes rather than costing the session.
            FQDN => Ok(Fqdn::parse(value).map_or_else(|| Self::unknown(code, value), Self::Fqdn)),
            SOFTWARE_VERSION => {
                Ok(software_version::parse(value).map_or_else(|| Self::unknown(code, value), Self::SoftwareVersion))
            }
            _ if (code, value) == TUNNEL_MARKS => Ok(Self::TunnelMarks),
            _ => Ok(Self::unknown(code, value)),
        }
    }

    fn unknown(code: u8, value: &[u8]) -> Self {
        Self::Unknown { code, value: value.to_vec().into() }
    }

    /// The number on the wire.
    pub fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol { .. } => MULTIPROTOCOL,
            Self::RouteRefresh => ROUTE_REFRESH,
            Self::OutboundFilters(_) => OUTBOUND_FILTERS,
            Self::ExtendedNextHop(_) => EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => EXTENDED_MESSAGE,
            Self::Role(_) => ROLE,
            Self::LongLived(_) => LONG_LIVED,
            Self::GracefulRestart(_) => GRACEFUL_RESTART,
            Self::FourOctetAs(_) => FOUR_OCTET_AS,
            Self::AddPath(_) => ADD_PATH,
            Self::EnhancedRouteRefresh => ENHANCED_ROUTE_REFRESH,
            Self::Fqdn(_) => FQDN,
            Self::SoftwareVersion(_) => SOFTWARE_VERSION,
            Self::TunnelMarks => TUNNEL_MARKS.0,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Writes code, length and value. Nothing is written where a value made by hand exceeds its length field.
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        match self {
            Self::Multiprotocol { afi, safi } => {
                value.put_u16(afi.code());
                value.put_u8(0);
                value.put_u8(safi.code());
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::OutboundFilters(list) => list.iter().for_each(|one| one.emit(&mut value)),
            Self::ExtendedNextHop(list) => list.iter().for_each(|one| one.emit(&mut value)),
            Self::Role(role) => value.put_u8(*role),
            Self::GracefulRestart(restart) => restart.emit(&mut value),
            Self::AddPath(list) => list.iter().for_each(|one| one.emit(&mut value)),
            Self::LongLived(list) => list.iter().for_each(|one| one.emit(&mut value)),
            Self::FourOctetAs(asn) => value.put_u32(*asn),
            Self::Fqdn(name) => name.emit(&mut value),
            Self::SoftwareVersion(text) => software_version::emit(text, &mut value),
            Self::TunnelMarks => value.put_slice(TUNNEL_MARKS.1),
            Self::Unknown { value: raw, .. } => value.put_slice(raw),
        }
        if let Ok(octets) = u8::try_from(value.len()) {
            out.put_u8(self.code());
            out.put_u8(octets);
            out.put_slice(&value);
        }
    }
}

/// A text behind its length in one octet; octets that are not UTF-8 are replaced.
fn short_text(cursor: &mut Cursor<'_>) -> Option<String> {
    let octets = cursor.u8()?;
    cursor.take(usize::from(octets)).map(|text| String::from_utf8_lossy(text).into_owned())
}

/// As much of `text` as fits into `max` octets, cut between characters.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=text.len().min(max)).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_capability() -> impl Strategy<Value = Capability> {
        let family = (any::<u16>(), any::<u8>(), any::<bool>()).prop_map(|(afi, safi, forwarding_preserved)| {
            GracefulRestartFamily { afi: afi.into(), safi: safi.into(), forwarding_preserved }
        });
        prop_oneof![
            (any::<u16>(), any::<u8>())
                .prop_map(|(afi, safi)| Capability::Multiprotocol { afi: afi.into(), safi: safi.into() }),
            Just(Capability::RouteRefresh),
            Just(Capability::ExtendedMessage),
            Just(Capability::EnhancedRouteRefresh),
            Just(Capability::TunnelMarks),
            prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..60).prop_map(|list| {
                let one =
                    |(afi, safi, direction): (u16, u8, u8)| AddPath { afi: afi.into(), safi: safi.into(), direction };
                Capability::AddPath(list.into_iter().map(one).collect())
            }),
            prop::collection::vec((any::<u16>(), any::<u8>(), prop::collection::vec(any::<(u8, u8)>(), 0..4)), 0..12)
                .prop_map(|list| {
                    let one = |(afi, safi, types): (u16, u8, Vec<(u8, u8)>)| OutboundFilters {
                        afi: afi.into(),
                        safi: safi.into(),
                        types,
                    };
                    Capability::OutboundFilters(list.into_iter().map(one).collect())
                }),
            any::<u32>().prop_map(Capability::FourOctetAs),
            any::<u8>().prop_map(Capability::Role),
            prop::collection::vec((any::<u16>(), any::<u16>(), any::<u16>()), 0..40).prop_map(|list| {
                let one = |(afi, safi, next_hop): (u16, u16, u16)| ExtendedNextHop {
                    afi: afi.into(),
                    safi,
                    next_hop: next_hop.into(),
                };
                Capability::ExtendedNextHop(list.into_iter().map(one).collect())
            }),
            prop::collection::vec((any::<u16>(), any::<u8>(), any::<bool>(), 0..=MAX_LONG_LIVED_SECONDS), 0..36)
                .prop_map(|list| {
                    let one = |(afi, safi, forwarding_preserved, stale_seconds): (u16, u8, bool, u32)| {
                        LongLivedFamily { afi: afi.into(), safi: safi.into(), forwarding_preserved, stale_seconds }
                    };
                    Capability::LongLived(list.into_iter().map(one).collect())
                }),
            (any::<bool>(), any::<bool>(), 0u16..4096, prop::collection::vec(family, 0..60)).prop_map(
                |(restarting, notification, restart_seconds, families)| {
                    Capability::GracefulRestart(GracefulRestart { restarting, notification, restart_seconds, families })
                }
            ),
            ("[a-z0-9-]{0,64}", "[a-z.]{0,64}").prop_map(|(host, domain)| Capability::Fqdn(Fqdn { host, domain })),
            "[ -~]{0,64}".prop_map(Capability::SoftwareVersion),
            (76u8..=255, prop::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(code, value)| Capability::Unknown { code, value: value.into() }),
        ]
    }

    proptest! {
        #[test]
        fn emitted_capabilities_parse_back(capability in any_capability()) {
            let mut out = Vec::new();
            capability.emit(&mut out);
            let (head, value) = out.split_at(2);
            prop_assert_eq!(usize::from(head[1]), value.len());
            prop_assert_eq!(Capability::parse(head[0], value), Ok(capability));
        }

        #[test]
        fn no_value_panics(code: u8, value in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Capability::parse(code, &value);
        }
    }

    #[test]
    fn a_wrong_length_is_told() {
        for (code, value) in [
            (1, &[0u8, 1, 0][..]),
            (2, &[0]),
            (3, &[0, 1, 0, 1, 1, 64]),
            (5, &[0, 1, 0, 1, 0]),
            (9, &[]),
            (9, &[1, 1]),
            (64, &[0]),
            (64, &[0, 0, 1]),
            (65, &[0, 0, 1]),
            (70, &[1]),
            (71, &[0; 8]),
        ] {
            assert!(Capability::parse(code, value).is_err(), "{code}");
        }
    }
}
