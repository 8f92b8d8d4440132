//! A configuration while it is being read: what must be said may not have been said yet.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use net_types::{IfName, Prefix, TunnelName, WanName};
use vrrp::Vrid;

use crate::{
    grammar::{Args, Complaint},
    model::{
        AoAlgorithm, BfdPeer, BfdPeerId, BfdProfile, Bgp, ChainKey, ChildLifetime, Childless, Config, Credential,
        Datapath, Dpd, EspSuite, Identity, IkeId, IkeSuite, Initiate, InterfaceAddress, KeyChain, Name, NeighborEntry,
        NeighborId, NeighborSettings, Packets, Password, PeerDemands, Ppk, Probe, Proposal, Remote, RemoteAddress,
        ReverseRoute, Revocation, RouteMapEntry, Shutdown, Standby, Tunnel, VrrpGroup, VrrpTracked, Wan,
        tunnels_of_one_datapath,
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
pub(super) struct WanDraft {
    pub(super) interface: Option<IfName>,
    pub(super) gateway_v4: Option<Ipv4Addr>,
    pub(super) gateway_v6: Option<Ipv6Addr>,
    pub(super) mtu_octets: Option<u16>,
    pub(super) shutdown: bool,
}

#[derive(Debug, Default)]
pub(super) struct ProposalDraft {
    pub(super) ike: Vec<IkeSuite>,
    pub(super) esp: Vec<EspSuite>,
}

#[derive(Debug, Default)]
pub(super) struct IdentityDraft {
    pub(super) id: Option<IkeId>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) trust_anchors: Vec<PathBuf>,
    pub(super) pre_shared_key: Option<PathBuf>,
    pub(super) revocation: Revocation,
}

#[derive(Debug, Default)]
pub(super) struct TunnelDraft {
    pub(super) description: Option<String>,
    pub(super) remote: Option<Remote>,
    pub(super) local: Option<IpAddr>,
    pub(super) wans: Vec<WanName>,
    pub(super) immobile: bool,
    pub(super) reauth: Option<Duration>,
    pub(super) identity: Option<Name>,
    pub(super) proposal: Option<Name>,
    pub(super) addresses: Vec<InterfaceAddress>,
    pub(super) local_selectors: Vec<Prefix>,
    pub(super) remote_selectors: Vec<Prefix>,
    pub(super) reverse_route: Option<ReverseRoute>,
    pub(super) childless: Childless,
    pub(super) ppk: Option<Ppk>,
    pub(super) dpd: Dpd,
    pub(super) probe: Option<Probe>,
    pub(super) ike_lifetime: Option<Duration>,
    pub(super) child_lifetime: ChildLifetime,
    pub(super) initiate: Initiate,
    pub(super) standby_hold: Option<Duration>,
    pub(super) mtu_octets: Option<u16>,
    pub(super) packets: Packets,
    pub(super) demands: PeerDemands,
    pub(super) datapath: Option<Datapath>,
    pub(super) hardware_offload: bool,
    pub(super) shutdown: bool,
}

#[derive(Debug, Default)]
pub(super) struct KeyDraft {
    pub(super) send_id: Option<u8>,
    pub(super) receive_id: Option<u8>,
    pub(super) algorithm: AoAlgorithm,
    pub(super) secret: Option<Password>,
}

#[derive(Debug, Default)]
pub(super) struct VrrpDraft {
    pub(super) group: VrrpGroup,
    /// Number of the line that is being read.
    pub(super) reading: usize,
    /// Where each of what it tracks is named.
    pub(super) tracked_at: BTreeMap<VrrpTracked, usize>,
}

impl Draft {
    pub(super) fn wan(&mut self, name: &WanName) -> &mut WanDraft {
        place(&mut self.wans, self.line, name)
    }

    pub(super) fn proposal(&mut self, name: &Name) -> &mut ProposalDraft {
        place(&mut self.proposals, self.line, name)
    }

    pub(super) fn identity(&mut self, name: &Name) -> &mut IdentityDraft {
        place(&mut self.identities, self.line, name)
    }

    pub(super) fn tunnel(&mut self, name: &TunnelName) -> &mut TunnelDraft {
        place(&mut self.tunnels, self.line, name)
    }

    pub(super) fn key_chain(&mut self, name: &Name) {
        self.key_chains.entry(name.clone()).or_default();
    }

    pub(super) fn chain_key(&mut self, chain: &Name, number: u8) -> &mut KeyDraft {
        place(self.key_chains.entry(chain.clone()).or_default(), self.line, &number)
    }

    /// The virtual router of this number; made where `begins` says so.
    pub(super) fn vrrp_group(&mut self, interface: &IfName, vrid: Vrid, begins: bool) -> Option<&mut VrrpDraft> {
        let key = (interface.clone(), vrid);
        if begins {
            return Some(place(&mut self.vrrp, self.line, &key));
        }
        self.vrrp.get_mut(&key).map(|placed| &mut placed.value)
    }

    pub(super) fn bfd_profile(&mut self, name: &Name) -> &mut BfdProfile {
        self.config.bfd_profiles.entry(name.clone()).or_default()
    }

    pub(super) fn bfd_peer(&mut self, id: &BfdPeerId) -> &mut BfdPeer {
        self.config.bfd_peers.entry(id.clone()).or_default()
    }

    pub(super) fn route_map(&mut self, name: &Name, sequence: u16) -> Option<&mut RouteMapEntry> {
        self.config.route_maps.get_mut(name)?.entries.get_mut(&sequence)
    }

    pub(super) fn bgp(&mut self) -> Result<&mut Bgp, Complaint> {
        self.config.bgp.as_mut().ok_or_else(|| Complaint::new("there is no \"router bgp\" above"))
    }

    /// The group or neighbor that a line is about.
    pub(super) fn settings(&mut self, args: &Args<'_>) -> Result<&mut NeighborSettings, Complaint> {
        let name = group_name(args)?;
        // Looked up first and borrowed then: the compiler does not see that the two ways exclude each other.
        if self.bgp()?.peer_groups.contains_key(&name) {
            return Ok(self.bgp()?.peer_groups.entry(name).or_default());
        }
        Ok(&mut self.neighbor(args)?.settings)
    }

    /// The neighbor that a line is about: the one with the address, or one that a line above has declared.
    pub(super) fn neighbor(&mut self, args: &Args<'_>) -> Result<&mut NeighborEntry, Complaint> {
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
    pub(super) fn interface_neighbor(&mut self, args: &Args<'_>) -> Result<&mut NeighborEntry, Complaint> {
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
    pub(super) fn begin_peer_group(&mut self, args: &Args<'_>) -> Result<(), Complaint> {
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
    pub(super) fn end_peer_group(&mut self, args: &Args<'_>) -> Result<(), Complaint> {
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
    pub(super) fn forget_neighbor(&mut self, args: &Args<'_>) -> Result<(), Complaint> {
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
        super::vrrp::finish(&mut config, groups, &mut problems);
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

/// What of a tunnel cannot be beside the rest of the configuration.
fn clash(config: &Config, name: &TunnelName) -> Option<String> {
    let interface = IfName::from(name.clone());
    if let Some((wan, _)) = config.wans.iter().find(|(_, wan)| wan.interface == interface) {
        return Some(format!("its interface would be {name}, which is the interface of wan {wan}"));
    }
    let tunnel = config.tunnels.get(name)?;
    let identity = config.identities.get(&tunnel.identity);
    let by_key = identity.is_some_and(|identity| matches!(identity.credential, Credential::PreSharedKey { .. }));
    if by_key && !tunnel.demands.is_empty() {
        let identity = &tunnel.identity;
        return Some(format!(
            "\"remote-ca\" and \"remote-certificate\" demand a certificate, but identity {identity} is by pre-shared key"
        ));
    }
    let found = no_gre(config, name, tunnel).or_else(|| other_datapath(config, name, tunnel));
    if let Some(message) = found.or_else(|| no_standby(config, name, tunnel)) {
        return Some(message);
    }
    let ours = &tunnel.addresses;
    // Each pair is told once, at the later name.
    config.tunnels.range(..name.clone()).find_map(|(other, tunnel)| {
        let both = tunnel.addresses.iter().find(|theirs| ours.iter().any(|ours| ours.address() == theirs.address()))?;
        Some(format!("its address {} is also that of ipsec tunnel {other}", both.address()))
    })
}

/// What keeps a tunnel from standing by for those that it names.
fn no_standby(config: &Config, name: &TunnelName, this: &Tunnel) -> Option<String> {
    let Initiate::Standby(Standby { stands_for, .. }) = &this.initiate else { return None };
    stands_for.iter().find_map(|other| match config.tunnels.get(other) {
        _ if other == name => Some("it cannot stand by for itself".to_owned()),
        None => Some(format!("it stands by for ipsec tunnel {other}, which is not configured")),
        Some(Tunnel { initiate: Initiate::Standby(_), .. }) => Some(format!(
            "it stands by for ipsec tunnel {other}, which stands by itself; name those that both stand for"
        )),
        Some(_) => None,
    })
}

/// What keeps a tunnel from being a GRE interface: it is the kernel's, and two addresses have one.
fn no_gre(config: &Config, name: &TunnelName, this: &Tunnel) -> Option<String> {
    this.packets.gre?;
    if this.datapath.unwrap_or(config.datapath) == Datapath::Userspace {
        let said = if this.datapath.is_some() { "datapath userspace" } else { "ipsec datapath userspace" };
        return Some(format!(
            "\"tunnel mode gre\" is for the kernel's datapath, and \"{said}\" excludes that; say \"datapath kernel\" here, or leave \"tunnel mode gre\" out"
        ));
    }
    let twin = |other: &Tunnel| {
        let shared = other.wans().any(|wan| this.wans().any(|ours| ours == wan));
        other.packets.gre.is_some() && other.remote.address == this.remote.address && shared
    };
    let (other, _) = config.tunnels.range(..name.clone()).find(|(_, other)| twin(other))?;
    Some(format!(
        "ipsec tunnel {other} is a GRE interface to the same address over the same wan; two addresses have one between them"
    ))
}

/// Port 4500 of a link is the kernel's or ipsecd's.
fn other_datapath(config: &Config, name: &TunnelName, this: &Tunnel) -> Option<String> {
    let of = |tunnel: &Tunnel| tunnel.wanted_datapath(config.datapath);
    let contrary = match of(this) {
        Datapath::Auto => return None,
        Datapath::Kernel => Datapath::Userspace,
        Datapath::Userspace => Datapath::Kernel,
    };
    let together = tunnels_of_one_datapath(&config.tunnels, name).into_iter().take_while(|other| *other != name);
    let other =
        together.into_iter().find(|other| config.tunnels.get(*other).is_some_and(|tunnel| of(tunnel) == contrary))?;
    Some(format!(
        "its datapath is {}, that of ipsec tunnel {other} is {}; tunnels that share a wan have one datapath",
        of(this).as_str(),
        contrary.as_str()
    ))
}

fn said<T>(value: Option<T>, statement: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("\"{statement}\" is missing"))
}

impl WanDraft {
    fn finish(self, _: &WanName) -> Result<Wan, String> {
        Ok(Wan {
            interface: said(self.interface, "interface IFNAME")?,
            gateway_v4: self.gateway_v4,
            gateway_v6: self.gateway_v6,
            mtu_octets: self.mtu_octets,
            shutdown: self.shutdown,
        })
    }
}

impl ProposalDraft {
    fn finish(self) -> Result<Proposal, String> {
        let default = Proposal::default();
        // A proposal that says nothing of one half leaves that at its default.
        let ike = if self.ike.is_empty() { default.ike } else { self.ike };
        let esp = if self.esp.is_empty() { default.esp } else { self.esp };
        Ok(Proposal { ike, esp })
    }
}

impl IdentityDraft {
    fn finish(self) -> Result<Identity, String> {
        let id = said(self.id, "id IKE-ID")?;
        let certified = self.certificate.is_some() || self.private_key.is_some() || !self.trust_anchors.is_empty();
        let credential = match self.pre_shared_key {
            Some(_) if certified => return Err("it has both a pre-shared key and certificates; choose one".to_owned()),
            Some(_) if self.revocation != Revocation::default() => {
                return Err(
                    "a pre-shared key cannot be revoked; \"crl\", \"ocsp\" and \"revocation\" are for certificates"
                        .to_owned(),
                );
            }
            Some(file) => Credential::PreSharedKey { file },
            None if !certified => {
                return Err("it has neither \"pre-shared-key file FILE\" nor \"certificate FILE\"".to_owned());
            }
            None if self.trust_anchors.is_empty() => return Err("\"trust-anchor FILE\" is missing".to_owned()),
            None => Credential::Certificate {
                certificate: said(self.certificate, "certificate FILE")?,
                private_key: said(self.private_key, "private-key FILE")?,
                trust_anchors: self.trust_anchors,
                revocation: self.revocation,
            },
        };
        Ok(Identity { id, credential })
    }
}

impl TunnelDraft {
    fn finish(mut self) -> Result<Tunnel, String> {
        let remote = said(self.remote, "remote ADDRESS")?;
        match (&mut self.initiate, self.standby_hold) {
            (Initiate::Standby(standby), Some(hold)) => standby.hold = hold,
            (_, Some(_)) => return Err("\"standby-hold\" is of a tunnel with \"initiate standby-for\"".to_owned()),
            (_, None) => {}
        }
        if remote.address == RemoteAddress::Any {
            if remote.id.is_none() {
                return Err("\"remote any\" needs \"id IKE-ID\", or anybody could be meant".to_owned());
            }
            if self.initiate != Initiate::Never {
                return Err("there is nowhere to call with \"remote any\"; add \"initiate never\"".to_owned());
            }
        }
        let unsaid = self.packets.unsaid_encapsulation();
        self.packets.said_encapsulation.take_if(|said| *said == unsaid);
        if self.packets.gre.is_some() {
            if remote.address == crate::model::RemoteAddress::Any {
                return Err("\"tunnel mode gre\" needs the other end's address: \"remote ADDRESS\"".to_owned());
            }
            if !self.local_selectors.is_empty() || !self.remote_selectors.is_empty() {
                return Err(
                    "\"tunnel mode gre\" carries whatever is routed into it; leave \"local-ts\" and \"remote-ts\" out"
                        .to_owned(),
                );
            }
            if self.reverse_route.is_some() {
                return Err(
                    "\"tunnel mode gre\" negotiates no prefixes that could become routes; leave \"reverse-route\" out"
                        .to_owned(),
                );
            }
        }
        if let Some(Probe { address, .. }) = self.probe {
            let mut ours = self.addresses.iter().map(InterfaceAddress::address);
            if ours.clone().any(|ours| ours == address) {
                return Err(format!("\"probe {address}\" asks the tunnel's own address; name the other end's"));
            }
            if !ours.any(|ours| ours.is_ipv4() == address.is_ipv4()) {
                let line = if address.is_ipv4() { "ip address" } else { "ipv6 address" };
                return Err(format!("\"probe {address}\" needs \"{line}\", which it is asked from"));
            }
        }
        if let (Some(local), RemoteAddress::Address(remote)) = (self.local, remote.address)
            && local.is_ipv4() != remote.is_ipv4()
        {
            return Err(format!("\"local {local}\" and \"remote {remote}\" are of different families"));
        }
        if let Some(reverse) = &self.reverse_route {
            bounds_of_reverse_routes(reverse, &self.remote_selectors)?;
        }
        let mut wans = self.wans.into_iter();
        Ok(Tunnel {
            description: self.description,
            remote,
            local: self.local,
            wan: said(wans.next(), "wan WAN")?,
            backup_wans: wans.collect(),
            mobike: !self.immobile,
            reauth: self.reauth,
            identity: said(self.identity, "identity NAME")?,
            proposal: self.proposal,
            addresses: self.addresses,
            local_selectors: self.local_selectors,
            remote_selectors: self.remote_selectors,
            reverse_route: self.reverse_route,
            childless: self.childless,
            ppk: self.ppk,
            dpd: self.dpd,
            probe: self.probe,
            ike_lifetime: self.ike_lifetime.unwrap_or(Tunnel::IKE_LIFETIME),
            child_lifetime: self.child_lifetime,
            initiate: self.initiate,
            mtu_octets: self.mtu_octets,
            packets: self.packets,
            demands: self.demands,
            datapath: self.datapath,
            hardware_offload: self.hardware_offload,
            shutdown: self.shutdown,
        })
    }
}

/// What the peer may ask for is what may become a route: so it has to be said.
fn bounds_of_reverse_routes(reverse: &ReverseRoute, remote: &[Prefix]) -> Result<(), String> {
    if remote.is_empty() {
        return Err("\"reverse-route\" needs \"remote-ts PREFIX\", which says what may become a route".to_owned());
    }
    if remote.len() > ReverseRoute::MOST {
        let (most, found) = (ReverseRoute::MOST, remote.len());
        return Err(format!("\"reverse-route\" is for {most} prefixes at most, \"remote-ts\" names {found}"));
    }
    if !reverse.default_route && remote.iter().all(|prefix| prefix.bits() == 0) {
        return Err("\"remote-ts\" names nothing but a default route, which becomes a route with \"reverse-route \
                    default-route\" only"
            .to_owned());
    }
    Ok(())
}

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
