//! MP_REACH_NLRI, path attribute type 14: optional, non-transitive (RFC 4760 §3, RFC 2545 §3, RFC 4364 §4.3.2,
//! RFC 4659 §3.2.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::BufMut;
use net_types::{Afi, Family, Safi};

use crate::{Negotiated, NextHop, NlriError, cursor::Cursor, nlri};

/// What the attribute announces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MpReach {
    /// Prefixes of a family that the session carries.
    Known { family: Family, next_hop: NextHop, list: nlri::List },
    /// Anything else.
    Foreign { afi: Afi, safi: Safi },
}

/// Why an MP_REACH_NLRI cannot be read (RFC 7606 §7.11).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MpReachError {
    /// Ends before the prefixes start.
    #[error("{0} octets long, too short for its fixed part (RFC 7606 §7.11)")]
    Truncated(usize),
    /// A next hop of a length that the family does not have, so the prefixes cannot be found.
    #[error("a next hop of {found} octets does not belong to {family} (RFC 7606 §7.11)")]
    NextHopLength {
        /// The family announced.
        family: Family,
        /// Octets of next hop.
        found: u8,
    },
    /// The prefixes.
    #[error(transparent)]
    Nlri(#[from] NlriError),
}

/// Reads the attribute's value, as far as it is about a family that the session carries.
pub(crate) fn parse(body: &[u8], negotiated: &Negotiated) -> Result<MpReach, MpReachError> {
    let short = || MpReachError::Truncated(body.len());
    let mut cursor = Cursor::new(body);
    let afi = Afi::from(cursor.u16().ok_or_else(short)?);
    let safi = Safi::from(cursor.u8().ok_or_else(short)?);
    let Some(family) = Family::from_codes(afi, safi).filter(|f| negotiated.families.contains(*f)) else {
        return Ok(MpReach::Foreign { afi, safi });
    };
    let octets = cursor.u8().ok_or_else(short)?;
    let raw = cursor.take(usize::from(octets)).ok_or_else(short)?;
    let over_ipv6 = family.afi() == Afi::Ipv6 || negotiated.over_ipv6.contains(family);
    let next_hop = next_hop(family, over_ipv6, raw).ok_or(MpReachError::NextHopLength { family, found: octets })?;
    cursor.u8().ok_or_else(short)?; // RFC 4760 §3: reserved, ignored
    let list = nlri::parse(family, negotiated.add_path_in.contains(family), cursor.rest())?;
    Ok(MpReach::Known { family, next_hop, list })
}

fn next_hop(family: Family, over_ipv6: bool, octets: &[u8]) -> Option<NextHop> {
    if family.is_vpn() {
        return vpn_next_hop(family, over_ipv6, octets);
    }
    match octets.len() {
        4 if family == Family::Ipv4Unicast => {
            octets.try_into().ok().map(|octets: [u8; 4]| NextHop::V4(Ipv4Addr::from(octets)))
        }
        // RFC 8950 §3: the length tells an IPv6 next hop of IPv4 routes.
        16 | 32 if over_ipv6 => {
            let (global, rest) = octets.split_first_chunk::<16>()?;
            let link_local = match rest {
                [] => None,
                _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?)),
            };
            // RFC 2545 §3 wants a link-local address second; an unspecified one says that there is none.
            let link_local = link_local.filter(|address| !address.is_unspecified());
            Some(NextHop::V6 { global: Ipv6Addr::from(*global), link_local })
        }
        _ => None,
    }
}

/// Addresses with a route distinguisher each, which is to be zero and says nothing (RFC 4364 §4.3.2).
fn vpn_next_hop(family: Family, over_ipv6: bool, octets: &[u8]) -> Option<NextHop> {
    let mut cursor = Cursor::new(octets);
    let mut address = || cursor.array::<8>().and_then(|_| cursor.array::<16>()).map(Ipv6Addr::from);
    match octets.len() {
        12 if family == Family::Ipv4Vpn => octets.last_chunk::<4>().map(|octets| NextHop::V4(Ipv4Addr::from(*octets))),
        24 | 48 if over_ipv6 => {
            let global = address()?;
            let link_local = address().filter(|address| !address.is_unspecified());
            // RFC 4659 §3.2.1.2: an IPv4 address that is written as an IPv6 one.
            match global.to_ipv4_mapped() {
                Some(address) => Some(NextHop::V4(address)),
                None => Some(NextHop::V6 { global, link_local }),
            }
        }
        _ => None,
    }
}

/// Octets before the prefixes.
pub(crate) fn fixed_octets(family: Family, next_hop: &NextHop) -> usize {
    5 + next_hop.octets(family)
}

/// Writes all but the prefixes.
pub(crate) fn emit_fixed(family: Family, next_hop: &NextHop, out: &mut impl BufMut) {
    out.put_u16(family.afi().code());
    out.put_u8(family.safi().code());
    out.put_u8(next_hop.octets(family) as u8); // 48 at most
    next_hop.emit(family, out);
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Negotiated {
        let families = Family::ALL.into_iter().collect();
        Negotiated { families, ..Negotiated::base(crate::PeerKind::External) }
    }

    fn parse(body: &[u8], negotiated: Negotiated) -> Result<MpReach, MpReachError> {
        super::parse(body, &negotiated)
    }

    fn v6(next_hop_octets: u8) -> Vec<u8> {
        let mut body = vec![0, 2, 1, next_hop_octets];
        body.extend(std::iter::repeat_n(0x20, usize::from(next_hop_octets)));
        body.extend([0, 16, 0x20, 0x01]);
        body
    }

    #[test]
    fn one_or_two_ipv6_next_hops_are_read() {
        let one = parse(&v6(16), all()).unwrap();
        assert!(matches!(one, MpReach::Known { next_hop: NextHop::V6 { link_local: None, .. }, .. }));
        let two = parse(&v6(32), all()).unwrap();
        assert!(matches!(two, MpReach::Known { next_hop: NextHop::V6 { link_local: Some(_), .. }, .. }));
    }

    #[test]
    fn ipv4_routes_have_ipv6_next_hops_where_that_was_agreed() {
        let mut body = v6(32);
        (body[1], body[2]) = (1, 1);
        assert!(matches!(parse(&body, all()), Err(MpReachError::NextHopLength { found: 32, .. })));
        let agreed = Negotiated { over_ipv6: Family::Ipv4Unicast.into(), ..all() };
        let Ok(MpReach::Known { family, next_hop, list }) = parse(&body, agreed) else { panic!("not read") };
        assert_eq!(family, Family::Ipv4Unicast);
        assert!(matches!(next_hop, NextHop::V6 { link_local: Some(_), .. }));
        assert_eq!(list.prefixes, ["32.1.0.0/16".parse().unwrap()]);
    }

    #[test]
    fn next_hops_of_vpns_have_a_distinguisher_in_front() {
        let nlri = [88, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1];
        let of = |afi: u8, next_hop: &[&[u8]]| {
            let octets: Vec<u8> = next_hop.iter().flat_map(|address| [&[0; 8], *address].concat()).collect();
            let body = [&[0, afi, 128, octets.len() as u8], &octets[..], &[0], &nlri].concat();
            match parse(&body, all()) {
                Ok(MpReach::Known { next_hop, .. }) => Ok(next_hop.to_string()),
                other => Err(other),
            }
        };
        let (global, mapped) = ([0x20; 16], Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
        assert_eq!(of(1, &[&[192, 0, 2, 1]]), Ok("192.0.2.1".to_owned()));
        assert_eq!(of(2, &[&global]), Ok("2020:2020:2020:2020:2020:2020:2020:2020".to_owned()));
        assert_eq!(of(2, &[&global, &global]), of(2, &[&global]));
        assert_eq!(of(2, &[&mapped]), Ok("192.0.2.1".to_owned()));
        assert!(of(1, &[&global]).is_err(), "not agreed on (RFC 8950)");
        assert!(of(2, &[&[192, 0, 2, 1]]).is_err());
    }

    #[test]
    fn other_next_hop_lengths_lose_the_prefixes() {
        for octets in [0, 4, 15, 17, 24, 31, 33] {
            assert_eq!(
                parse(&v6(octets), all()),
                Err(MpReachError::NextHopLength { family: Family::Ipv6Unicast, found: octets })
            );
        }
        assert_eq!(parse(&[0, 2, 1], all()), Err(MpReachError::Truncated(3)));
        assert_eq!(parse(&[0, 2, 1, 16, 0], all()), Err(MpReachError::Truncated(5)));
    }

    #[test]
    fn families_that_the_session_does_not_carry_are_named() {
        let ipv4_only = Negotiated::base(crate::PeerKind::External);
        assert!(matches!(parse(&v6(3), ipv4_only), Ok(MpReach::Foreign { .. })));
        assert_eq!(
            parse(&[0, 25, 70, 4, 1, 2, 3, 4, 0], all()),
            Ok(MpReach::Foreign { afi: Afi::Other(25), safi: Safi::Other(70) })
        );
    }
}
