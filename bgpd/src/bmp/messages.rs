//! From what the table says to a monitor to BMP messages.

use std::{collections::BTreeMap, net::IpAddr, time::SystemTime};

use bgp_core::{
    PeerId,
    rib::{MonitorConfig, MonitorPiece, Watched},
    session::DownReason,
};
use bgp_wire::{Announcements, FamilySet, Negotiated, PeerKind, Withdrawals, emit_end_of_rib};
use bmp::{DownReason as Bye, Information, Message, Peer, PeerType};
use bytes::{Bytes, BytesMut};
use net_types::{Asn, Family, RouterId};

use super::any;
use crate::{peer::PeerStatus, state::Running};

/// The name of the Loc-RIB of the one table there is (RFC 9069 §5.2.1).
const TABLE: &str = "global";

/// What a station knows: whom it was told of.
pub(super) struct Book {
    monitor: MonitorConfig,
    peers: BTreeMap<PeerId, Known>,
    /// Ourselves, once Loc-RIB has been announced.
    own: Option<(Asn, RouterId)>,
}

/// A session as the station was told of it.
struct Known {
    address: IpAddr,
    asn: Asn,
    router_id: RouterId,
    kind: PeerKind,
}

impl Known {
    fn header(&self, kind: PeerType) -> Peer {
        Peer {
            kind,
            address: self.address,
            asn: self.asn,
            router_id: Some(self.router_id),
            two_octet_as: false,
            at: Some(SystemTime::now()),
        }
    }
}

/// AS numbers in four octets whatever the session has, and LOCAL_PREF where it is to be seen.
fn terms(kind: PeerKind) -> Negotiated {
    let families: FamilySet = Family::ALL.into_iter().collect();
    Negotiated { four_octet_as: true, families, over_ipv6: families, extended_message: true, ..Negotiated::base(kind) }
}

impl Book {
    pub(super) fn new(monitor: MonitorConfig) -> Self {
        Self { monitor, peers: BTreeMap::new(), own: None }
    }

    /// The first messages of a connection.
    pub(super) fn begin(&mut self, running: &Running, out: &mut Vec<Message>) {
        let name = running.config.hostname.as_ref().map_or_else(|| "bgpd".to_owned(), ToString::to_string);
        out.push(Message::Initiation(vec![
            Information::Description(format!("Holdfast bgpd {}", env!("CARGO_PKG_VERSION"))),
            Information::Name(name),
        ]));
        if any(self.monitor.loc_rib)
            && let Some(rib) = &running.rib
        {
            self.own = Some((rib.asn, rib.router_id));
            let open = bgp_wire::Open {
                asn: rib.asn,
                hold_seconds: 0,
                router_id: rib.router_id,
                extended_parameters: false,
                // RFC 9069 §5.2: the capabilities say what is monitored.
                capabilities: Family::ALL
                    .into_iter()
                    .filter(|family| self.monitor.loc_rib[*family as usize])
                    .map(bgp_wire::Capability::multiprotocol)
                    .chain([bgp_wire::Capability::FourOctetAs(rib.asn.get())])
                    .collect(),
            };
            let open = open.to_bytes();
            if let Some(peer) = self.loc_rib() {
                out.push(Message::PeerUp {
                    peer,
                    local: (IpAddr::from([0, 0, 0, 0]), 0),
                    remote_port: 0,
                    sent_open: open.clone(),
                    received_open: open,
                    information: vec![Information::Table(TABLE.into())],
                });
            }
        }
    }

    fn loc_rib(&self) -> Option<Peer> {
        let (asn, router_id) = self.own?;
        let address = IpAddr::from([0, 0, 0, 0]);
        let at = Some(SystemTime::now());
        Some(Peer { kind: PeerType::LocRib, address, asn, router_id: Some(router_id), two_octet_as: false, at })
    }

    /// Appends the messages that a piece comes to.
    pub(super) fn piece(&mut self, piece: MonitorPiece, running: &Running, out: &mut Vec<Message>) {
        match piece {
            MonitorPiece::Up(id) => {
                let Some((_, handle)) = running.peer(id) else { return };
                self.up(id, &handle.status(), out);
            }
            MonitorPiece::Down(id) => {
                let Some(known) = self.peers.remove(&id) else { return };
                let reset = running.peer(id).and_then(|(_, handle)| handle.status().last_reset);
                let reason = reset.map_or(Bye::Deconfigured, |reset| goodbye(&reset.reason));
                for peer in self.views().into_iter().map(|kind| known.header(kind)) {
                    out.push(Message::PeerDown { peer, reason: reason.clone() });
                }
            }
            MonitorPiece::AdjIn { peer, family, pre_policy, post_policy, end_of_rib } => {
                // A session that had ended before its OPENs could be seen: its end is on its way.
                let Some(known) = self.peers.get(&peer) else { return };
                for (changes, post_policy) in [(pre_policy, false), (post_policy, true)] {
                    let Some(changes) = changes else { continue };
                    let kind = if post_policy { PeerKind::Internal } else { known.kind };
                    let header = known.header(PeerType::AdjRibIn { post_policy });
                    routes(header, family, changes, end_of_rib, &terms(kind), out);
                }
            }
            MonitorPiece::AdjOut { peer, family, changes, end_of_rib } => {
                let Some(known) = self.peers.get(&peer) else { return };
                let header = known.header(PeerType::AdjRibOut { post_policy: true });
                routes(header, family, changes, end_of_rib, &terms(known.kind), out);
            }
            MonitorPiece::LocRib { family, changes, end_of_rib } => {
                let Some(header) = self.loc_rib() else { return };
                routes(header, family, changes, end_of_rib, &terms(PeerKind::Internal), out);
            }
        }
    }

    /// The views of a peer that are told, each of which is a peer of its own to the station.
    fn views(&self) -> Vec<PeerType> {
        let MonitorConfig { pre_policy, post_policy, adj_out, .. } = self.monitor;
        let mut views = Vec::new();
        // RFC 7854 §4.2: one Peer Up serves both views of the Adj-RIB-In; it is told as pre-policy.
        if any(pre_policy) || any(post_policy) || !any(adj_out) {
            views.push(PeerType::AdjRibIn { post_policy: false });
        }
        if any(adj_out) {
            views.push(PeerType::AdjRibOut { post_policy: true });
        }
        views
    }

    fn up(&mut self, id: PeerId, status: &PeerStatus, out: &mut Vec<Message>) {
        let (Some(terms), Some((local, remote))) = (&status.terms, status.ends) else { return };
        let known = Known {
            address: status.spec.address,
            asn: terms.peer_open.asn,
            router_id: terms.peer_open.router_id,
            kind: terms.peer_kind(),
        };
        for kind in self.views() {
            let mut peer = known.header(kind);
            peer.at = status.established_at;
            out.push(Message::PeerUp {
                peer,
                local: (local.ip(), local.port()),
                remote_port: remote.port(),
                sent_open: terms.local_open.to_bytes(),
                received_open: terms.peer_open.to_bytes(),
                information: Vec::new(),
            });
        }
        self.peers.insert(id, known);
    }

    /// Headers of everybody that the station knows, with their numbers; ourselves without one.
    pub(super) fn known(&self) -> impl Iterator<Item = (Option<PeerId>, Peer)> + '_ {
        let peer =
            |(id, known): (&PeerId, &Known)| (Some(*id), known.header(PeerType::AdjRibIn { post_policy: false }));
        self.peers.iter().map(peer).chain(self.loc_rib().map(|own| (None, own)))
    }
}

/// RFC 7854 §4.9.
fn goodbye(reason: &DownReason) -> Bye {
    match reason {
        DownReason::Received(notification) => Bye::RemoteNotification(notification.to_bytes()),
        DownReason::TransportLost | DownReason::Reconnected => Bye::RemoteClosed,
        ours => match ours.notification() {
            Some(notification) => Bye::LocalNotification(notification.to_bytes()),
            None => Bye::LocalEvent(0),
        },
    }
}

fn routes(
    peer: Peer,
    family: Family,
    changes: Watched,
    end_of_rib: bool,
    negotiated: &Negotiated,
    out: &mut Vec<Message>,
) {
    let mut updates = BytesMut::new();
    let mut sizes = Vec::new();
    let mut note = |updates: &BytesMut, before: usize| sizes.push(updates.len() - before);
    let mut withdrawn = changes.withdrawn;
    for (attrs, prefixes) in changes.announced {
        let written =
            Announcements::new(&attrs.attributes, family, attrs.next_hop, prefixes.iter().copied(), negotiated);
        match written {
            Ok(mut messages) => loop {
                let before = updates.len();
                if !messages.write_next(&mut updates) {
                    break;
                }
                note(&updates, before);
            },
            // A route that no message can carry is not there for the station, whatever it was before.
            Err(_) => withdrawn.extend(prefixes),
        }
    }
    let mut messages = Withdrawals::new(family, withdrawn, negotiated);
    loop {
        let before = updates.len();
        if !messages.write_next(&mut updates) {
            break;
        }
        note(&updates, before);
    }
    if end_of_rib {
        let before = updates.len();
        updates.extend_from_slice(&emit_end_of_rib(family));
        note(&updates, before);
    }
    let mut updates = updates.freeze();
    let message = |octets: usize| -> Bytes { updates.split_to(octets) };
    out.extend(sizes.into_iter().map(message).map(|update| Message::RouteMonitoring { peer, update }));
}
