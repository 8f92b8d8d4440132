//! WANs, proposals, identities and tunnels while they are being read.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use net_types::{IfName, Prefix, WanName};

use crate::model::{
    ChildLifetime, Childless, Credential, Datapath, Dpd, EspSuite, Identity, IkeId, IkeSuite, Initiate,
    InterfaceAddress, Name, Packets, PeerDemands, Ppk, Probe, Proposal, Remote, RemoteAddress, ReverseRoute,
    Revocation, Tunnel, Wan,
};

#[derive(Debug, Default)]
pub(in crate::language) struct WanDraft {
    pub(in crate::language) interface: Option<IfName>,
    pub(in crate::language) gateway_v4: Option<Ipv4Addr>,
    pub(in crate::language) gateway_v6: Option<Ipv6Addr>,
    pub(in crate::language) mtu_octets: Option<u16>,
    pub(in crate::language) shutdown: bool,
}

#[derive(Debug, Default)]
pub(in crate::language) struct ProposalDraft {
    pub(in crate::language) ike: Vec<IkeSuite>,
    pub(in crate::language) esp: Vec<EspSuite>,
}

#[derive(Debug, Default)]
pub(in crate::language) struct IdentityDraft {
    pub(in crate::language) id: Option<IkeId>,
    pub(in crate::language) certificate: Option<PathBuf>,
    pub(in crate::language) private_key: Option<PathBuf>,
    pub(in crate::language) trust_anchors: Vec<PathBuf>,
    pub(in crate::language) pre_shared_key: Option<PathBuf>,
    pub(in crate::language) revocation: Revocation,
}

#[derive(Debug, Default)]
pub(in crate::language) struct TunnelDraft {
    pub(in crate::language) description: Option<String>,
    pub(in crate::language) remote: Option<Remote>,
    pub(in crate::language) local: Option<IpAddr>,
    pub(in crate::language) wans: Vec<WanName>,
    pub(in crate::language) immobile: bool,
    pub(in crate::language) reauth: Option<Duration>,
    pub(in crate::language) identity: Option<Name>,
    pub(in crate::language) proposal: Option<Name>,
    pub(in crate::language) addresses: Vec<InterfaceAddress>,
    pub(in crate::language) local_selectors: Vec<Prefix>,
    pub(in crate::language) remote_selectors: Vec<Prefix>,
    pub(in crate::language) reverse_route: Option<ReverseRoute>,
    pub(in crate::language) childless: Childless,
    pub(in crate::language) ppk: Option<Ppk>,
    pub(in crate::language) dpd: Dpd,
    pub(in crate::language) probe: Option<Probe>,
    pub(in crate::language) ike_lifetime: Option<Duration>,
    pub(in crate::language) child_lifetime: ChildLifetime,
    pub(in crate::language) initiate: Initiate,
    pub(in crate::language) standby_hold: Option<Duration>,
    pub(in crate::language) mtu_octets: Option<u16>,
    pub(in crate::language) packets: Packets,
    pub(in crate::language) demands: PeerDemands,
    pub(in crate::language) datapath: Option<Datapath>,
    pub(in crate::language) hardware_offload: bool,
    pub(in crate::language) shutdown: bool,
}

fn said<T>(value: Option<T>, statement: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("\"{statement}\" is missing"))
}

impl WanDraft {
    pub(super) fn finish(self, _: &WanName) -> Result<Wan, String> {
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
    pub(super) fn finish(self) -> Result<Proposal, String> {
        let default = Proposal::default();
        // A proposal that says nothing of one half leaves that at its default.
        let ike = if self.ike.is_empty() { default.ike } else { self.ike };
        let esp = if self.esp.is_empty() { default.esp } else { self.esp };
        Ok(Proposal { ike, esp })
    }
}

impl IdentityDraft {
    pub(super) fn finish(self) -> Result<Identity, String> {
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
    pub(super) fn finish(mut self) -> Result<Tunnel, String> {
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
