//! Narrowing of traffic selectors (RFC 7296 §2.9).

use std::{borrow::Cow, fmt::Write, net::IpAddr};

use ike_wire::{TrafficSelector, TsRange};

/// Most selectors kept in one direction of one SA.
const MAX_KEPT: usize = 64;

/// What both sides allow: the responder's answer to an offer. Empty when there is nothing in common.
pub(crate) fn narrow(offered: &[TrafficSelector], configured: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut kept: Vec<TrafficSelector> = Vec::new();
    for theirs in offered {
        for common in configured.iter().filter_map(|ours| intersect(theirs, ours)) {
            // The first selector of an offer may describe a single packet within the second (RFC 7296 §2.9).
            if kept.iter().any(|other| covers(other, &common)) {
                continue;
            }
            kept.retain(|other| !covers(&common, other));
            if kept.len() < MAX_KEPT {
                kept.push(common);
            }
        }
    }
    kept
}

/// Whether an answer stays within what was offered, as it must.
pub(crate) fn within(answer: &[TrafficSelector], offered: &[TrafficSelector]) -> bool {
    !answer.is_empty() && answer.iter().all(|ts| offered.iter().any(|offer| covers(offer, ts)))
}

/// Selectors of single addresses with the address that stands here for them: a NAT lies between the two sides (RFC 7296
/// §2.23.1). Others stay; none of them holds what transport mode may carry.
pub(crate) fn translated(selectors: &[TrafficSelector], to: Option<IpAddr>) -> Cow<'_, [TrafficSelector]> {
    let Some(to) = to else { return selectors.into() };
    let translate = |selector: &TrafficSelector| {
        let range = match (&selector.range, to) {
            (TsRange::V4(first, last), IpAddr::V4(to)) if first == last => TsRange::V4(to, to),
            (TsRange::V6(first, last), IpAddr::V6(to)) if first == last => TsRange::V6(to, to),
            (other, _) => other.clone(),
        };
        TrafficSelector { range, ..selector.clone() }
    };
    selectors.iter().map(translate).collect()
}

fn intersect(a: &TrafficSelector, b: &TrafficSelector) -> Option<TrafficSelector> {
    let protocol = match (a.protocol, b.protocol) {
        (0, other) | (other, 0) => other,
        (one, other) if one == other => one,
        _ => return None,
    };
    let (start_port, end_port) = (a.start_port.max(b.start_port), a.end_port.min(b.end_port));
    // OPAQUE (65535 to 0, RFC 7296 §3.13.1) is not used here; it falls out as an empty range.
    if start_port > end_port {
        return None;
    }
    let range = a.range.intersect(&b.range)?;
    Some(TrafficSelector { protocol, start_port, end_port, range })
}

/// Whether everything that `inner` selects is selected by `outer`.
fn covers(outer: &TrafficSelector, inner: &TrafficSelector) -> bool {
    intersect(outer, inner).as_ref() == Some(inner)
}

/// A list for people.
pub(crate) fn list(selectors: &[TrafficSelector]) -> String {
    let mut text = String::new();
    for (at, selector) in selectors.iter().take(8).enumerate() {
        let _ = write!(text, "{}{selector}", if at == 0 { "" } else { ", " }); // a String takes everything
    }
    if selectors.len() > 8 {
        let _ = write!(text, " and {} more", selectors.len() - 8);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn ts(prefix: &str) -> TrafficSelector {
        TrafficSelector::from_prefix(&prefix.parse().unwrap())
    }

    #[test]
    fn an_offer_is_narrowed_to_what_is_configured() {
        assert_eq!(narrow(&[ts("0.0.0.0/0"), ts("::/0")], &[ts("10.1.0.0/16")]), [ts("10.1.0.0/16")]);
        assert_eq!(narrow(&[ts("10.1.2.0/24")], &[ts("0.0.0.0/0")]), [ts("10.1.2.0/24")]);
        assert_eq!(narrow(&[ts("10.1.0.0/16")], &[ts("10.2.0.0/16")]), []);
    }

    #[test]
    fn a_packets_own_selector_vanishes_in_the_wider_one() {
        let packet = TrafficSelector { protocol: 6, start_port: 443, end_port: 443, ..ts("10.1.2.3/32") };
        let any = [ts("0.0.0.0/0")];
        assert_eq!(narrow(&[packet.clone(), ts("10.1.0.0/16")], &any), [ts("10.1.0.0/16")]);
        assert_eq!(narrow(&[ts("10.1.0.0/16"), packet.clone()], &any), [ts("10.1.0.0/16")]);
        assert_eq!(narrow(std::slice::from_ref(&packet), &any), [packet]);
    }

    #[test]
    fn ports_and_protocols_narrow_too() {
        let tcp = |from, to| TrafficSelector { protocol: 6, start_port: from, end_port: to, ..ts("10.0.0.0/8") };
        let udp = TrafficSelector { protocol: 17, ..ts("10.0.0.0/8") };
        assert_eq!(narrow(&[tcp(0, 100)], &[tcp(50, 200)]), [tcp(50, 100)]);
        assert_eq!(narrow(&[tcp(0, 100)], &[udp]), []);
        assert_eq!(narrow(&[tcp(u16::MAX, 0)], &[ts("10.0.0.0/8")]), [], "OPAQUE matches nothing");
    }

    fn any_selector() -> impl Strategy<Value = TrafficSelector> {
        (any::<[u8; 4]>(), 0u8..=32, prop::sample::select(vec![0u8, 6, 17]), any::<u16>(), any::<u16>()).prop_map(
            |(address, bits, protocol, a, b)| {
                let prefix = net_types::Prefix::new(IpAddr::from(address), bits).unwrap();
                let base = TrafficSelector::from_prefix(&prefix);
                TrafficSelector { protocol, start_port: a.min(b), end_port: a.max(b), ..base }
            },
        )
    }

    proptest! {
        #[test]
        fn a_narrowed_offer_stays_within_both(
            offered in prop::collection::vec(any_selector(), 1..6),
            configured in prop::collection::vec(any_selector(), 1..6),
        ) {
            let answer = narrow(&offered, &configured);
            if !answer.is_empty() {
                prop_assert!(within(&answer, &offered));
                prop_assert!(within(&answer, &configured));
            }
        }
    }
}
