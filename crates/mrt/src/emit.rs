//! Writing: always with four-octet AS numbers, and messages with microseconds.

use std::{
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, BytesMut};
use net_types::{Asn, Family, Prefix};

use crate::{BGP4MP_ET, Body, Entry, HEADER, Record, Session, TABLE_DUMP, TABLE_DUMP_V2};

fn seconds(at: SystemTime) -> u32 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

fn micros(at: SystemTime) -> u32 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_micros()
}

fn put_address(address: IpAddr, out: &mut BytesMut) {
    match address {
        IpAddr::V4(v4) => out.put_slice(&v4.octets()),
        IpAddr::V6(v6) => out.put_slice(&v6.octets()),
    }
}

fn put_prefix(prefix: &Prefix, out: &mut BytesMut) {
    let octets = usize::from(prefix.bits()).div_ceil(8);
    out.put_u8(prefix.bits());
    match prefix.address() {
        IpAddr::V4(v4) => v4.octets().iter().take(octets).for_each(|octet| out.put_u8(*octet)),
        IpAddr::V6(v6) => v6.octets().iter().take(octets).for_each(|octet| out.put_u8(*octet)),
    }
}

fn asn(asn: Option<Asn>) -> u32 {
    asn.map_or(0, Asn::get)
}

impl Session {
    fn emit(&self, out: &mut BytesMut) {
        out.put_u32(asn(self.peer_asn));
        out.put_u32(asn(self.local_asn));
        out.put_u16(self.ifindex);
        out.put_u16(if self.peer.is_ipv6() { 2 } else { 1 });
        put_address(self.peer, out);
        // Both ends are of one family; one that is not known is written as zero.
        match (self.peer, self.local) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => put_address(self.local, out),
            (IpAddr::V4(_), IpAddr::V6(_)) => out.put_bytes(0, 4),
            (IpAddr::V6(_), IpAddr::V4(_)) => out.put_bytes(0, 16),
        }
    }
}

impl Entry {
    fn emit(&self, out: &mut BytesMut) {
        out.put_u16(self.peer);
        out.put_u32(seconds(self.originated));
        if let Some(id) = self.path_id {
            out.put_u32(id);
        }
        out.put_u16(self.attributes.len() as u16); // as they come out of one message
        out.put_slice(&self.attributes);
    }
}

impl Record {
    /// Appends the record. A TABLE_DUMP keeps its type; one of a type that is not known is left out.
    pub fn emit(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32(seconds(self.at));
        let (kind, subtype) = match &self.body {
            Body::TableDump(dump) => (TABLE_DUMP, if dump.prefix.family() == Family::Ipv6Unicast { 2 } else { 1 }),
            Body::PeerIndex(_) => (TABLE_DUMP_V2, 1),
            Body::Rib(rib) => {
                let family = if rib.family == Family::Ipv6Unicast { 4 } else { 2 };
                (TABLE_DUMP_V2, if rib.add_path { family + 6 } else { family })
            }
            Body::StateChange { .. } => (BGP4MP_ET, 5),
            Body::Message { four_octet_as, add_path, sent, .. } => {
                let base = match (add_path, sent) {
                    (false, false) => 1,
                    (false, true) => 6,
                    (true, false) => 8,
                    (true, true) => 10,
                };
                let wide = if base == 1 { 3 } else { 1 };
                (BGP4MP_ET, if *four_octet_as { base + wide } else { base })
            }
            Body::Other { .. } => return out.truncate(start),
        };
        out.put_u16(kind);
        out.put_u16(subtype);
        out.put_u32(0); // the length, once it is known
        if kind == BGP4MP_ET {
            out.put_u32(micros(self.at));
        }
        match &self.body {
            Body::TableDump(dump) => {
                out.put_u16(dump.view);
                out.put_u16(dump.sequence);
                put_address(dump.prefix.address(), out);
                out.put_u8(dump.prefix.bits());
                out.put_u8(1);
                out.put_u32(seconds(dump.entry.originated));
                put_address(dump.peer_address, out);
                out.put_u16(dump.peer_asn.map_or(0, Asn::two_octets));
                out.put_u16(dump.entry.attributes.len() as u16); // as they come out of one message
                out.put_slice(&dump.entry.attributes);
            }
            Body::PeerIndex(index) => {
                let name = index.view.as_bytes();
                let name = name.get(..usize::from(u16::MAX)).unwrap_or(name);
                out.put_slice(&index.collector.octets());
                out.put_u16(name.len() as u16); // cut to fit
                out.put_slice(name);
                let peers = index.peers.get(..usize::from(u16::MAX)).unwrap_or(&index.peers);
                out.put_u16(peers.len() as u16); // cut to fit
                for peer in peers {
                    out.put_u8(2 | u8::from(peer.address.is_ipv6()));
                    out.put_slice(&peer.router_id.octets());
                    put_address(peer.address, out);
                    out.put_u32(asn(peer.asn));
                }
            }
            Body::Rib(rib) => {
                out.put_u32(rib.sequence);
                put_prefix(&rib.prefix, out);
                let entries = rib.entries.get(..usize::from(u16::MAX)).unwrap_or(&rib.entries);
                out.put_u16(entries.len() as u16); // cut to fit
                entries.iter().for_each(|entry| entry.emit(out));
            }
            Body::StateChange { session, from, to } => {
                session.emit(out);
                out.put_u16(*from);
                out.put_u16(*to);
            }
            Body::Message { session, four_octet_as: true, message, .. } => {
                session.emit(out);
                out.put_slice(message);
            }
            Body::Message { session, message, .. } => {
                let mut wide = BytesMut::new();
                session.emit(&mut wide);
                out.put_u16(session.peer_asn.map_or(0, Asn::two_octets));
                out.put_u16(session.local_asn.map_or(0, Asn::two_octets));
                out.put_slice(wide.get(8..).unwrap_or_default());
                out.put_slice(message);
            }
            Body::Other { .. } => {}
        }
        let length = (out.len() - start - HEADER) as u32; // far below what a length can say
        if let Some(field) = out.get_mut(start + 8..start + HEADER) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }
}
