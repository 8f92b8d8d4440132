//! `show ip nht`: the next hops that paths have, and how each is reached.

use std::fmt::Write as _;

use bgp_core::rib::{NextHopKey, Resolved};
use netwatch::View;
use serde_json::{Map, Value};

use super::{afi, object};

/// A next hop, how it is reached if it is, and how many sets of attributes name it.
pub type NextHop = (NextHopKey, Option<Resolved>, u32);

fn interface(view: &View, ifindex: u32) -> String {
    view.link(ifindex).map_or_else(|| format!("if{ifindex}"), |link| link.name.clone())
}

/// As text.
pub fn text(next_hops: &[NextHop], view: &View) -> String {
    let mut out = String::new();
    for (key, resolved, uses) in next_hops {
        let scope = if key.scope == 0 { String::new() } else { format!("%{}", interface(view, key.scope)) };
        let _ = writeln!(out, "{}{scope}", key.address);
        match resolved {
            Some(Resolved { ifindex, gateway, metric }) => {
                let name = interface(view, *ifindex);
                let _ = match gateway {
                    Some(gateway) if *gateway != key.address => {
                        writeln!(out, " resolved via {gateway}, {name} (metric {metric})")
                    }
                    _ => writeln!(out, " resolved, directly connected, {name} (metric {metric})"),
                };
            }
            None => out.push_str(" unresolved\n"),
        }
        let _ = writeln!(out, " {uses} sets of attributes use it");
    }
    out
}

/// As JSON, by family and address.
pub fn json(next_hops: &[NextHop], view: &View) -> Value {
    let mut families = Map::new();
    for (key, resolved, uses) in next_hops {
        let family = families.entry(afi(key.address)).or_insert_with(|| Value::Object(Map::new()));
        let mut one = object([("valid", resolved.is_some().into()), ("pathCount", (*uses).into())]);
        if let Some(Resolved { ifindex, gateway, metric }) = resolved {
            let mut hop =
                object([("interfaceIndex", (*ifindex).into()), ("interfaceName", interface(view, *ifindex).into())]);
            if let Some(gateway) = gateway {
                hop.insert("ip".into(), gateway.to_string().into());
                hop.insert("afi".into(), afi(*gateway).into());
            }
            one.insert("igpMetric".into(), (*metric).into());
            one.insert("nexthops".into(), vec![Value::Object(hop)].into());
        }
        if let Value::Object(family) = family {
            family.insert(key.address.to_string(), Value::Object(one));
        }
    }
    Value::Object(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_is_resolved_or_is_not() {
        let key = |text: &str| NextHopKey { address: text.parse().unwrap(), scope: 0 };
        let way = Resolved { ifindex: 7, gateway: Some("192.0.2.1".parse().unwrap()), metric: 1 };
        let all = [(key("10.0.0.1"), Some(way), 3), (key("10.0.0.2"), None, 1)];
        let text = text(&all, &View::default());
        assert!(text.contains("10.0.0.1\n resolved via 192.0.2.1, if7 (metric 1)\n"), "{text}");
        assert!(text.contains("10.0.0.2\n unresolved\n"), "{text}");
        let json = json(&all, &View::default());
        assert_eq!(json["ipv4"]["10.0.0.1"]["nexthops"][0]["ip"], "192.0.2.1");
        assert_eq!(json["ipv4"]["10.0.0.2"]["valid"], false);
    }
}
