//! Traffic selectors as IKE has agreed on them, for those who go by them: the packet path, and routing.

use std::net::IpAddr;

use esp::{Selector, Selectors};
use ike_wire::{TrafficSelector, TsRange};
use net_types::Prefix;
use rpc::TunnelState;

/// As the packet path holds packets against them.
pub(crate) fn of_packets(local: &[TrafficSelector], remote: &[TrafficSelector]) -> Selectors {
    let side = |selectors: &[TrafficSelector]| selectors.iter().filter_map(selector).collect();
    Selectors::new(side(local), side(remote))
}

/// What may be routed into a tunnel that carries these on the peer's side: prefixes, sorted. A selector of one protocol or of
/// some ports is none, since a route takes all packets along. Those that are beyond the bound are left out, which is told.
pub(crate) fn routable(remote: &[TrafficSelector]) -> (Vec<Prefix>, usize) {
    let whole = |ts: &&TrafficSelector| (ts.protocol, ts.start_port, ts.end_port) == (0, 0, u16::MAX);
    let ranges = remote.iter().filter(whole).filter_map(range);
    let mut prefixes: Vec<Prefix> = ranges.flat_map(|(first, last)| Prefix::of_range(first, last)).collect();
    prefixes.sort();
    prefixes.dedup();
    let left_out = prefixes.len().saturating_sub(TunnelState::MOST_SELECTORS);
    prefixes.truncate(TunnelState::MOST_SELECTORS);
    (prefixes, left_out)
}

fn selector(ts: &TrafficSelector) -> Option<Selector> {
    let (first, last) = range(ts)?;
    Some(Selector { first, last, protocol: ts.protocol, first_port: ts.start_port, last_port: ts.end_port })
}

fn range(ts: &TrafficSelector) -> Option<(IpAddr, IpAddr)> {
    match ts.range {
        TsRange::V4(first, last) => Some((first.into(), last.into())),
        TsRange::V6(first, last) => Some((first.into(), last.into())),
        TsRange::Other { .. } => None, // holds nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(first: [u8; 4], last: [u8; 4]) -> TrafficSelector {
        TrafficSelector {
            protocol: 0,
            start_port: 0,
            end_port: u16::MAX,
            range: TsRange::V4(first.into(), last.into()),
        }
    }

    fn texts(remote: &[TrafficSelector]) -> (Vec<String>, usize) {
        let (prefixes, left_out) = routable(remote);
        (prefixes.iter().map(ToString::to_string).collect(), left_out)
    }

    #[test]
    fn prefixes_and_ranges_can_be_routed_and_ports_cannot() {
        let subnet = v4([10, 2, 0, 0], [10, 2, 0, 255]);
        let range = v4([10, 3, 0, 0], [10, 3, 2, 255]);
        let web = TrafficSelector { protocol: 6, start_port: 443, end_port: 443, ..v4([10, 4, 0, 0], [10, 4, 0, 255]) };
        let other = TrafficSelector { range: TsRange::Other { kind: 9, body: vec![] }, ..subnet.clone() };
        let all = [range, subnet.clone(), web, other, subnet];
        assert_eq!(texts(&all), (["10.2.0.0/24", "10.3.0.0/23", "10.3.2.0/24"].map(str::to_owned).into(), 0));
        assert_eq!(texts(&[v4([0; 4], [255; 4])]), (vec!["0.0.0.0/0".to_owned()], 0));
    }

    #[test]
    fn a_peer_that_names_very_many_gets_no_more_than_the_bound() {
        let odd = |n: u8| v4([10, n, 0, 1], [10, n, 255, 254]); // 30 prefixes each
        let (prefixes, left_out) = texts(&[odd(1), odd(2), odd(3)]);
        assert_eq!((prefixes.len(), left_out), (TunnelState::MOST_SELECTORS, 90 - TunnelState::MOST_SELECTORS));
    }
}
