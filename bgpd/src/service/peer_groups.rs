//! `show bgp peer-group`: who shares what lines, and how its sessions are.

use std::fmt::Write as _;

use config::model::{Bgp, Name, NeighborId, RemoteAs};
use net_types::Family;
use rpc::Failure;
use serde_json::{Map, Value, json};

use super::{Output, not_found};
use crate::{
    show,
    state::{Running, State},
};

pub(super) async fn show(state: &State, only: Option<Name>, json: bool, out: &Output) -> Result<(), Failure> {
    let running = state.running();
    let bgp = running.config.bgp.as_ref();
    let bgp = bgp.ok_or_else(|| not_found("BGP is not configured (no \"router bgp\")"))?;
    if let Some(name) = &only
        && !bgp.peer_groups.contains_key(name)
    {
        return Err(not_found(format!(
            "peer-group {name} is not configured; \"show bgp peer-group\" lists those that are"
        )));
    }
    let groups = bgp.peer_groups.keys().filter(|name| only.as_ref().is_none_or(|only| only == *name));
    let groups: Vec<Group> = groups.map(|name| Group::of(&running, bgp, name)).collect();
    if json {
        let all: Map<String, Value> = groups.iter().map(|group| (group.name.clone(), group.json())).collect();
        return out.json(&Value::Object(all)).await;
    }
    out.text(groups.iter().map(Group::text).collect::<String>()).await
}

/// One of them.
struct Group {
    name: String,
    /// As FRR spells the kind, and the number where one is said.
    remote_as: Option<(&'static str, u32)>,
    families: Vec<Family>,
    ranges: Vec<net_types::Prefix>,
    /// By name, with the states of their sessions.
    members: Vec<(String, String, bool)>,
}

impl Group {
    fn of(running: &Running, bgp: &Bgp, name: &Name) -> Self {
        let settings = &bgp.peer_groups[name];
        let remote_as = settings.remote_as.map(|remote_as| match remote_as {
            RemoteAs::Internal => ("internal", bgp.asn.get()),
            RemoteAs::External => ("external", 0),
            RemoteAs::Asn(asn) => (if asn == bgp.asn { "internal" } else { "external" }, asn.get()),
        });
        let active = |family: &Family| {
            let said = settings.families.get(family).and_then(|settings| settings.activate);
            said.unwrap_or(*family == Family::Ipv4Unicast && bgp.default_ipv4_unicast)
        };
        let configured = bgp.neighbors.iter().filter(|(_, entry)| entry.peer_group.as_ref() == Some(name));
        let configured = configured.map(|(id, _)| {
            let state = running.named(id).map_or("Idle", |(_, peer)| peer.status().view().state);
            (id.to_string(), state.to_owned(), false)
        });
        let came = running.peers.iter().filter(|(address, _)| {
            let id = NeighborId::Address(**address);
            let dynamic = bgp.dynamic(**address).filter(|_| !bgp.neighbors.contains_key(&id));
            dynamic.is_some_and(|neighbor| neighbor.peer_group.as_ref() == Some(name))
        });
        let came = came.map(|(address, peer)| (address.to_string(), peer.status().view().state.to_owned(), true));
        Self {
            name: name.to_string(),
            remote_as,
            families: Family::ALL.into_iter().filter(active).collect(),
            ranges: bgp.listen_ranges.iter().filter(|(_, of)| *of == name).map(|(range, _)| *range).collect(),
            members: configured.chain(came).collect(),
        }
    }

    fn json(&self) -> Value {
        let mut out = Map::new();
        if let Some((kind, asn)) = self.remote_as {
            out.insert("remoteAs".into(), asn.into());
            out.insert("type".into(), kind.into());
        }
        let families: Vec<&str> = self.families.iter().map(|family| show::family_name(*family)).collect();
        out.insert("addressFamiliesConfigured".into(), families.into());
        let ranges = |v4: bool| -> Vec<String> {
            let of = self.ranges.iter().filter(|range| (range.family() == Family::Ipv4Unicast) == v4);
            of.map(ToString::to_string).collect()
        };
        let mut by_family = Map::new();
        for (key, ranges) in [("IPv4", ranges(true)), ("IPv6", ranges(false))] {
            if !ranges.is_empty() {
                by_family.insert(key.into(), json!({ "count": ranges.len(), "ranges": ranges }));
            }
        }
        if !by_family.is_empty() {
            out.insert("dynamicRanges".into(), by_family.into());
        }
        let members = self.members.iter().map(|(name, status, dynamic)| {
            let mut member = Map::from_iter([("status".to_owned(), status.as_str().into())]);
            if *dynamic {
                member.insert("dynamic".into(), true.into());
            }
            (name.clone(), Value::Object(member))
        });
        out.insert("members".into(), Value::Object(members.collect()));
        out.into()
    }

    fn text(&self) -> String {
        let mut out = match self.remote_as {
            Some(("external", 0)) => format!("BGP peer-group {}, remote AS external\n", self.name),
            Some((_, asn)) => format!("BGP peer-group {}, remote AS {asn}\n", self.name),
            None => format!("BGP peer-group {}\n", self.name),
        };
        if let Some((kind, _)) = self.remote_as {
            let _ = writeln!(out, "  Peer-group type is {kind}");
        }
        let families: Vec<&str> = self.families.iter().map(|family| show::family_name(*family)).collect();
        let _ = writeln!(out, "  Configured address-families: {};", families.join("; "));
        for range in &self.ranges {
            let _ = writeln!(out, "  Listen range: {range}");
        }
        if !self.members.is_empty() {
            out.push_str("  Peer-group members:\n");
        }
        for (name, status, dynamic) in &self.members {
            let _ = writeln!(out, "    {name} {} {status}", if *dynamic { "(dynamic)" } else { "" });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_says_who_is_in_it() {
        let group = Group {
            name: "SPINES".into(),
            remote_as: Some(("external", 0)),
            families: vec![Family::Ipv4Unicast],
            ranges: vec!["192.0.2.0/24".parse().unwrap()],
            members: vec![("eth1".into(), "Idle".into(), false), ("192.0.2.7".into(), "Established".into(), true)],
        };
        let json = group.json();
        assert_eq!((&json["type"], &json["members"]["eth1"]["status"]), (&"external".into(), &"Idle".into()));
        assert_eq!(json["members"]["192.0.2.7"]["dynamic"], true);
        assert_eq!(json["dynamicRanges"]["IPv4"]["ranges"][0], "192.0.2.0/24");
        assert!(group.text().contains("192.0.2.7 (dynamic) Established"), "{}", group.text());
    }
}
