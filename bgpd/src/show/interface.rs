//! `show interface`: links and addresses as this daemon knows them, in FRR's words.

use std::fmt::Write as _;

use netwatch::{Address, Link};
use serde_json::{Map, Value};

use super::object;

fn word(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn spelled(address: &Address) -> String {
    format!("{}/{}", address.local, address.bits)
}

/// A link and its addresses.
pub type Interface<'a> = (&'a Link, Vec<&'a Address>);

/// As text.
pub fn text(interfaces: &[Interface<'_>]) -> String {
    let mut out = String::new();
    for (link, addresses) in interfaces {
        let (admin, carrier) = (word(link.admin_up), word(link.carrier));
        let _ = writeln!(out, "Interface {} is {admin}, line protocol is {carrier}", link.name);
        let _ = writeln!(out, "  vrf: default\n  index {} metric 0 mtu {}", link.ifindex, link.mtu_octets);
        for address in addresses {
            let family = if address.local.is_ipv4() { "inet" } else { "inet6" };
            let peer = address.peer.map_or_else(String::new, |peer| format!(" peer {peer}/{}", address.bits));
            let _ = writeln!(out, "  {family} {}{peer}", spelled(address));
        }
    }
    out
}

/// The same as JSON: an object by name.
pub fn json(interfaces: &[Interface<'_>]) -> Value {
    let by_name = interfaces.iter().map(|(link, addresses)| {
        let addresses = addresses
            .iter()
            .map(|address| Value::Object(object([("address", spelled(address).into()), ("secondary", false.into())])));
        let shown = object([
            ("administrativeStatus", word(link.admin_up).into()),
            ("operationalStatus", word(link.carrier).into()),
            ("vrfName", "default".into()),
            ("index", link.ifindex.into()),
            ("mtu", link.mtu_octets.into()),
            ("ipAddresses", addresses.collect::<Vec<_>>().into()),
        ]);
        (link.name.clone(), Value::Object(shown))
    });
    Value::Object(by_name.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_addresses_are_told_as_in_frr() {
        let link = Link {
            ifindex: 7,
            name: "eth0".to_owned(),
            admin_up: true,
            carrier: false,
            mtu_octets: 1500,
            vrf_table: None,
        };
        let address = |local: &str, bits| Address {
            ifindex: 7,
            local: local.parse().unwrap(),
            bits,
            peer: None,
            is_virtual: false,
        };
        let (v4, v6) = (address("192.0.2.1", 24), address("fe80::1", 64));
        let all = [(&link, vec![&v4, &v6])];
        let text = text(&all);
        assert!(text.starts_with("Interface eth0 is up, line protocol is down\n"), "{text}");
        assert!(text.contains("  inet 192.0.2.1/24\n  inet6 fe80::1/64\n"), "{text}");
        let json = json(&all);
        assert_eq!(json["eth0"]["operationalStatus"], "down");
        assert_eq!(json["eth0"]["ipAddresses"][1]["address"], "fe80::1/64");
    }
}
