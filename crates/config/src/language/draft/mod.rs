//! A configuration while it is being read: what must be said may not have been said yet.

mod clash;
mod ipsec;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use net_types::{IfName, TunnelName, WanName};
use vrrp::Vrid;

use self::clash::clash;
pub(in crate::language) use self::ipsec::{IdentityDraft, ProposalDraft, TunnelDraft, WanDraft};
use crate::{
    grammar::{Args, Complaint},
    model::{
        AoAlgorithm, BfdPeer, BfdPeerId, BfdProfile, Bgp, ChainKey, Config, KeyChain, Name, NeighborEntry, NeighborId,
        NeighborSettings, Password, RouteMapEntry, Shutdown, VrrpGroup, VrrpTracked,
    },
};

/// All that has been read so far.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Number of the line that is being read.
    pub(crate) line: usize,
    /// What needs no draft.
    pub(crate) config: Config,
    wans: BTreeMap<WanName, Placed<WanDraft>>,
    proposals: BTreeMap<Name, Placed<ProposalDraft>>,
    identities: BTreeMap<Name, Placed<IdentityDraft>>,
    tunnels: BTreeMap<TunnelName, Placed<TunnelDraft>>,
    key_chains: BTreeMap<Name, BTreeMap<u8, Placed<KeyDraft>>>,
    neighbors: BTreeMap<NeighborId, Placed<NeighborEntry>>,
    vrrp: BTreeMap<(IfName, Vrid), Placed<VrrpDraft>>,
}

/// Something, and the line where it began.
#[derive(Debug)]
struct Placed<T> {
    line: usize,
    value: T,
}

/// Something wrong with what began at a line.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) line: usize,
    /// What it is, as its first line begins, and its name.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) message: String,
}

#[derive(Debug, Default)]
pub(in crate::language) struct KeyDraft {
    pub(in crate::language) send_id: Option<u8>,
    pub(in crate::language) receive_id: Option<u8>,
    pub(in crate::language) algorithm: AoAlgorithm,
    pub(in crate::language) secret: Option<Password>,
}

#[derive(Debug, Default)]
pub(in crate::language) struct VrrpDraft {
    pub(in crate::language) group: VrrpGroup,
    /// Number of the line that is being read.
    pub(in crate::language) reading: usize,
    /// Where each of what it tracks is named.
    pub(in crate::language) tracked_at: BTreeMap<VrrpTracked, usize>,
}

impl Draft {
    pub(in crate::language) fn wan(&mut self, name: &WanName) -> &mut WanDraft {
        place(&mut self.wans, self.line, name)
    }

    pub(in crate::language) fn proposal(&mut self, name: &Name) -> &mut ProposalDraft {
        place(&mut self.proposals, self.line, name)
    }

    pub(in crate::language) fn identity(&mut self, name: &Name) -> &mut IdentityDraft {
        place(&mut self.identities, self.line, name)
    }

    pub(in crate::language) fn tunnel(&mut self, name: &TunnelName) -> &mut TunnelDraft {
        place(&mut self.tunnels, self.line, name)
    }

    pub(in crate::language) fn key_chain(&mut self, name: &Name) {
        self.key_chains.entry(name.clone()).or_default();
    }

    pub(in crate::language) fn chain_key(&mut self, chain: &Name, number: u8) -> &mut KeyDraft {
        place(self.key_chains.entry(chain.clone()).or_default(), self.line, &number)
    }

    /// The virtual router of this number; made where `begins` says so.
    pub(in crate::language) fn vrrp_group(
        &mut self,
        interface: &IfName,
        vrid: Vrid,
        begins: bool,
    ) -> Option<&mut VrrpDraft> {
        let key = (interface.clone(), vrid);
        if begins {
            return Some(place(&mut self.vrrp, self.line, &key));
        }
        self.vrrp.get_mut(&key).map(|placed| &mut placed.value)
    }

    pub(in crate::language) fn bfd_profile(&mut self, name: &Name) -> &mut BfdProfile {
        self.config.bfd_profiles.entry(name.clone()).or_default()
    }

    pub(in crate::language) fn bfd_peer(&mut self, id: &BfdPeerId) -> &mut BfdPeer {
        self.config.bfd_peers.entry(id.clone()).or_default()
    }

    pub(in crate::language) fn route_map(&mut self, name: &Name, sequence: u16) -> Option<&mut RouteMapEntry> {
        self.config.route_maps.get_mut(name)?.entries.get_mut(&sequence)
    }

    pub(in crate::language) fn bgp(&mut self) -> Result<&mut Bgp, Complaint> {
        self.config.bgp.as_mut().ok_or_else(|| Complaint::new("there is no \"router bgp\" above"))
    }

    /// The group or neighbor that a line is about.
    pub(in crate::language) fn settings(&mut self, args: &Args<'_>) -> Result<&mut NeighborSettings, Complaint> {
        let name = group_name(args)?;
        // Looked up first and borrowed then: the compiler does not see that the two ways exclude each other.
        if self.bgp()?.peer_groups.contains_key(&name) {
            return Ok(self.bgp()?.peer_groups.entry(name).or_default());
        }
        Ok(&mut self.neighbor(args)?.settings)
    }

    /// The neighbor that a line is about: the one with the address, or one that a line above has declared.
    pub(in crate::language) fn neighbor(&mut self, args: &Args<'_>) -> Result<&mut NeighborEntry, Complaint> {
        let text: String = args.get(PEER)?;
        let id = match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() || address.is_multicast() => {
                return Err(args.complain(PEER, format!("{address} cannot be the address of a neighbor")));
            }
            Ok(address) => NeighborId::Address(address),
            Err(_) => {
                let declared =
                    text.parse().ok().map(NeighborId::Interface).filter(|id| self.neighbors.contains_key(id));
                let message = || {
                    format!(
                        "\"{text}\" is no address, and no peer-group or interface that a line above declares: \
                         begin with \"neighbor {text} peer-group\" or \"neighbor {text} interface\""
                    )
                };
                declared.ok_or_else(|| args.complain(PEER, message()))?
            }
        };
        Ok(place(&mut self.neighbors, self.line, &id))
    }

    /// `neighbor PEER interface`
    pub(in crate::language) fn interface_neighbor(&mut self, args: &Args<'_>) -> Result<&mut NeighborEntry, Complaint> {
        let (text, name) = (args.get::<String>(PEER)?, group_name(args)?);
        if text.parse::<IpAddr>().is_ok() {
            return Err(args.complain(PEER, "an address needs no \"interface\" to be a neighbor"));
        }
        if self.bgp()?.peer_groups.contains_key(&name) {
            return Err(args.complain(PEER, format!("\"{name}\" is a peer-group")));
        }
        let id = NeighborId::Interface(args.get(PEER)?);
        Ok(place(&mut self.neighbors, self.line, &id))
    }

    /// `neighbor PEER peer-group`
    pub(in crate::language) fn begin_peer_group(&mut self, args: &Args<'_>) -> Result<(), Complaint> {
        let name = group_name(args)?;
        if name.as_str().parse::<IpAddr>().is_ok() {
            return Err(args.complain(PEER, "a peer-group cannot have an address for a name"));
        }
        let interface = name.as_str().parse().ok().map(NeighborId::Interface);
        if interface.is_some_and(|id| self.neighbors.contains_key(&id)) {
            return Err(args.complain(PEER, format!("\"{name}\" is a neighbor's interface")));
        }
        self.bgp()?.peer_groups.entry(name).or_default();
        Ok(())
    }

    /// `no neighbor PEER peer-group [NAME]`
    pub(in crate::language) fn end_peer_group(&mut self, args: &Args<'_>) -> Result<(), Complaint> {
        let name = group_name(args)?;
        if self.bgp()?.peer_groups.remove(&name).is_some() {
            // As in FRR, its members go with it unless they can stand alone.
            self.neighbors.retain(|_, neighbor| {
                neighbor.value.peer_group.take_if(|group| *group == name).is_none()
                    || neighbor.value.settings.remote_as.is_some()
            });
            self.bgp()?.listen_ranges.retain(|_, group| *group != name);
            return Ok(());
        }
        self.neighbor(args)?.peer_group = None;
        Ok(())
    }

    /// `no neighbor PEER`
    pub(in crate::language) fn forget_neighbor(&mut self, args: &Args<'_>) -> Result<(), Complaint> {
        if self.bgp()?.peer_groups.contains_key(&group_name(args)?) {
            return self.end_peer_group(args);
        }
        let text: String = args.get(PEER)?;
        let id = text.parse::<IpAddr>().map(NeighborId::Address).ok();
        if let Some(id) = id.or_else(|| text.parse().ok().map(NeighborId::Interface)) {
            self.neighbors.remove(&id);
        }
        Ok(())
    }

    /// The configuration, and what is missing or contradicts itself.
    pub(crate) fn finish(self) -> (Config, Vec<Problem>) {
        let Self { mut config, wans, proposals, identities, tunnels, neighbors, key_chains, vrrp, .. } = self;
        let mut problems = Vec::new();
        config.wans = finish(wans, "wan", WanDraft::finish, &mut problems);
        config.proposals = finish(proposals, "ipsec proposal", |draft, _| draft.finish(), &mut problems);
        config.identities = finish(identities, "ipsec identity", |draft, _| draft.finish(), &mut problems);
        let placed: Vec<(TunnelName, usize)> = tunnels.iter().map(|(name, draft)| (name.clone(), draft.line)).collect();
        config.tunnels = finish(tunnels, TUNNEL, |draft, _| draft.finish(), &mut problems);
        for (name, line) in placed {
            if let Some(message) = clash(&config, &name) {
                problems.push(Problem { line, kind: TUNNEL, name: name.to_string(), message });
            }
        }
        for (name, keys) in key_chains {
            let chain = finish_chain(&name, keys, &mut problems);
            config.key_chains.insert(name, chain);
        }
        if let Some(bgp) = &mut config.bgp {
            // Said below the speaker, it changes nothing of that, but what printing has to say.
            bgp.frr_defaults = config.frr_defaults;
            for settings in bgp.peer_groups.values_mut() {
                settings.families.retain(|_, settings| *settings != Default::default());
                settings.shutdown.take_if(|shutdown| !shutdown.is_down());
            }
            let (placed, neighbors) = neighbors
                .into_iter()
                .map(|(id, mut neighbor)| {
                    neighbor.value.settings.families.retain(|_, settings| *settings != Default::default());
                    ((id.clone(), neighbor.line), (id, neighbor.value))
                })
                .unzip::<_, _, Vec<_>, BTreeMap<_, _>>();
            bgp.neighbors = neighbors;
            // What is not held down anyway has nothing to say of it, as in FRR.
            let Bgp { neighbors, peer_groups, .. } = &mut *bgp;
            for neighbor in neighbors.values_mut() {
                let group = neighbor.peer_group.as_ref().and_then(|name| peer_groups.get(name));
                let held = group.is_some_and(|group| group.shutdown.as_ref().is_some_and(Shutdown::is_down));
                neighbor.settings.shutdown.take_if(|shutdown| !shutdown.is_down() && !held);
            }
            for (id, line) in placed {
                if let Some(message) = contradiction(bgp, &id) {
                    problems.push(Problem { line, kind: "neighbor", name: id.to_string(), message });
                }
            }
            // What was said and unsaid again is as if it had never been said.
            bgp.families.retain(|_, settings| *settings != Default::default());
            for vrf in bgp.vrfs.values_mut() {
                vrf.families.retain(|_, settings| *settings != Default::default());
            }
        }
        let groups = vrrp.into_iter().map(|(key, placed)| (key, placed.line, placed.value));
        crate::language::vrrp::finish(&mut config, groups, &mut problems);
        config.static_routes.sort();
        config.static_routes.dedup();
        (config, problems)
    }
}

fn place<'a, K: Ord + Clone, D: Default>(map: &'a mut BTreeMap<K, Placed<D>>, line: usize, key: &K) -> &'a mut D {
    &mut map.entry(key.clone()).or_insert_with(|| Placed { line, value: D::default() }).value
}

fn finish<K: Ord + fmt::Display, D, M>(
    drafts: BTreeMap<K, Placed<D>>,
    kind: &'static str,
    finish: impl Fn(D, &K) -> Result<M, String>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<K, M> {
    let finished = drafts.into_iter().filter_map(|(key, draft)| match finish(draft.value, &key) {
        Ok(value) => Some((key, value)),
        Err(why) => {
            problems.push(Problem { line: draft.line, kind, name: key.to_string(), message: why });
            None
        }
    });
    finished.collect()
}

/// A chain's keys; each KeyID names one of them, or segments could not be told apart (RFC 5925 §3.1).
fn finish_chain(name: &Name, keys: BTreeMap<u8, Placed<KeyDraft>>, problems: &mut Vec<Problem>) -> KeyChain {
    let mut chain = KeyChain::default();
    for (number, Placed { line, value: key }) in keys {
        let (send, receive) = (key.send_id.unwrap_or(number), key.receive_id.unwrap_or(number));
        let twice = chain.numbered().find_map(|(other, sends, receives, _)| match () {
            () if sends == send => Some(format!("its send-id {send} is also that of key {other}")),
            () if receives == receive => Some(format!("its recv-id {receive} is also that of key {other}")),
            () => None,
        });
        let message = match (twice, key.secret) {
            (Some(twice), _) => twice,
            (None, None) => "\"key-string\" is missing".to_owned(),
            (None, Some(secret)) => {
                let KeyDraft { send_id, receive_id, algorithm, .. } = key;
                chain.keys.insert(number, ChainKey { send_id, receive_id, algorithm, secret });
                continue;
            }
        };
        problems.push(Problem {
            line,
            kind: "key chain",
            name: name.to_string(),
            message: format!("key {number}: {message}"),
        });
    }
    chain
}

const TUNNEL: &str = "ipsec tunnel";

/// The peer-group that the line would be about, if there is one.
fn group_name(args: &Args<'_>) -> Result<Name, Complaint> {
    args.get(PEER)
}

/// The value that names a neighbor or a peer-group.
const PEER: &str = "PEER";

/// What keeps a neighbor from being one, its group's lines included.
fn contradiction(bgp: &Bgp, id: &NeighborId) -> Option<String> {
    let entry = bgp.neighbors.get(id)?;
    let Some(neighbor) = bgp.resolve(id) else {
        // A group that does not exist is told where it is named.
        let group = entry.peer_group.as_ref();
        let known = group.is_none_or(|group| bgp.peer_groups.contains_key(group));
        return known.then(|| match group {
            Some(group) => format!("\"remote-as ASN\" is missing, here and in peer-group {group}"),
            None => "\"remote-as ASN\" is missing".to_owned(),
        });
    };
    let settings = &neighbor.settings;
    if settings.password.is_some() && settings.ao.is_some() {
        return Some("\"password\" and \"ao\" exclude each other".to_owned());
    }
    if settings.ttl_security_hops.is_some() && settings.ebgp_multihop.is_some() {
        return Some("\"ttl-security\" and \"ebgp-multihop\" exclude each other".to_owned());
    }
    match id {
        NeighborId::Address(IpAddr::V6(address)) if address.is_unicast_link_local() && settings.interface.is_none() => {
            Some("a link-local address needs \"interface IFNAME\"".to_owned())
        }
        _ => None,
    }
}
